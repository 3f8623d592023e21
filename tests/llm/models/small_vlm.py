"""A Qwen2-VL with two layers and random weights, and its processor: words, four by four patches an image, mrope."""

import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLTextConfig
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.processing_qwen2_vl import Qwen2VLProcessor

SPECIAL = ["<pad>", "<eos>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
WORDS = ["what", "colour", "is", "this", "a", "red", "green", "blue", "dark", "light", "one", "or", "two"]
TEMPLATE = (
    "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'image' %}<|vision_start|><|image_pad|>"
    "<|vision_end|>{% else %}{{ c['text'] }}{% endif %}{% endfor %} {% endfor %}"
)
SIDE = 4  # pixels of a patch; an image of 16 by 16 pixels has 16 patches, four of which become a token


class ImagesOnly(Qwen2VLProcessor):
    """Without the processor of videos, which needs torchvision."""

    def check_argument_for_proper_class(self, argument_name, argument):
        return None if argument is None else super().check_argument_for_proper_class(argument_name, argument)


def save_small_vlm(folder):
    """Write model and processor to `folder` as a checkpoint has them."""
    vocabulary = {word: i for i, word in enumerate(SPECIAL + WORDS)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="a"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", additional_special_tokens=SPECIAL[2:]
    )
    images = Qwen2VLImageProcessorPil(patch_size=SIDE, merge_size=2, min_pixels=256, max_pixels=256)
    processor = ImagesOnly(images, tokenizer, None, chat_template=TEMPLATE)
    ids = {"image_token_id": 4, "video_token_id": 5, "vision_start_token_id": 2, "vision_end_token_id": 3}
    text = Qwen2VLTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=128,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [1, 1, 2]},
        pad_token_id=0,
        eos_token_id=1,
    )
    vision = {"depth": 1, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "patch_size": SIDE}
    ids = {"image_token_id": 4, "video_token_id": 5, "vision_start_token_id": 2, "vision_end_token_id": 3}
    config = Qwen2VLConfig(text_config=text.to_dict(), vision_config=vision, tie_word_embeddings=True, **ids)
    torch.manual_seed(0)
    model = Qwen2VLForConditionalGeneration(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # so that an image matters
    model.generation_config.eos_token_id = 1
    model.save_pretrained(folder)
    return processor


def prompts_with_images(colours=("red", "green", "blue", "white")):
    """Rows of a dataset: questions of several lengths, each with an image of one colour."""
    rows = []
    for i, colour in enumerate(colours):
        text = " ".join(WORDS[: 3 + i])
        rows.append({"prompt": [{"role": "user", "content": text}], "image": Image.new("RGB", (16, 16), colour)})
    return rows
