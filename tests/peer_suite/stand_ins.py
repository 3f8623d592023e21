"""Stand-ins for the models and data that TRL's tests fetch from a hub: the same names, made here, tiny and random.

transformers and datasets take a name for a folder where there is one, so a test that runs in `make_all(folder)` needs
no hub. A model for which there is no stand-in is looked for on the hub, and its test fails under TRL's trainer as well.
"""

from pathlib import Path
from typing import Any

import torch
import transformers
from datasets import Dataset, Features, Image, Value
from PIL import Image as Picture
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForSequenceClassification

from tests.llm.models.small_lm import bytes_tokenizer

OWNER = "trl-internal-testing"
SPECIAL = ("<|endoftext|>", "<|im_end|>", "<|im_start|>", "<image>", "<start_of_image>", "<end_of_image>")
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for c in m.content %}{% if c.type == 'image' %}IMAGE{% else %}{{ c.text }}{% endif %}{% endfor %}"
    "{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SMALL |= {"num_key_value_heads": 2, "max_position_embeddings": 4096}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
CAUSAL = {
    "tiny-Qwen2ForCausalLM-2.5": ("Qwen2Config", {}),
    "tiny-Qwen3ForCausalLM": ("Qwen3Config", {"head_dim": 4}),
    "tiny-LlamaForCausalLM-3.2": ("LlamaConfig", {}),
    "tiny-MistralForCausalLM-0.2": ("MistralConfig", {}),
    "tiny-Gemma2ForCausalLM": ("Gemma2Config", {"head_dim": 4, "query_pre_attn_scalar": 4}),
    "tiny-Cohere2ForCausalLM": ("Cohere2Config", {"head_dim": 4}),
    "tiny-Qwen3MoeForCausalLM": ("Qwen3MoeConfig", {"head_dim": 4, "decoder_sparse_step": 1, **EXPERTS}),
    "tiny-GptOssForCausalLM": ("GptOssConfig", {"head_dim": 4, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "tiny-Glm4MoeForCausalLM": (
        "Glm4MoeConfig",
        {"head_dim": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_group": 1},
    ),
}
REWARD = {
    "tiny-Qwen2ForSequenceClassification-2.5": "Qwen2Config",
    "tiny-LlamaForSequenceClassification-3.2": "LlamaConfig",
    "tiny-Qwen3ForSequenceClassification": "Qwen3Config",
}
LINES = [f"What comes after {'one more than ' * (i % 4)}{i}?" for i in range(5)]


def make_all(folder: Path) -> None:
    """Write every stand-in below `folder`."""
    torch.manual_seed(0)
    for name, (kind, options) in CAUSAL.items():
        _save(
            folder / OWNER / name,
            AutoModelForCausalLM,
            _config(kind, **SMALL, **options),
            bytes_tokenizer(SPECIAL, CHAT),
        )
    for name, kind in REWARD.items():
        config = _config(kind, **SMALL, num_labels=1)
        _save(folder / OWNER / name, AutoModelForSequenceClassification, config, bytes_tokenizer(SPECIAL, CHAT))
    _llava_next(folder / OWNER / "tiny-LlavaNextForConditionalGeneration")
    _gemma3(folder / OWNER / "tiny-Gemma3ForConditionalGeneration")
    _data(folder / OWNER)


def _config(kind: str, **options: Any) -> Any:
    tokenizer = bytes_tokenizer(SPECIAL)
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    return getattr(transformers, kind)(vocab_size=len(tokenizer), **ids, **options)


def _save(folder: Path, auto: Any, config: Any, processor: Any) -> None:
    model = auto.from_config(config, dtype=torch.float32)
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.eos_token_id = bytes_tokenizer(SPECIAL).eos_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def _vision() -> dict[str, Any]:
    return {**{k: SMALL[k] for k in ("hidden_size", "intermediate_size")}, "num_hidden_layers": 2, "image_size": 16}


def _llava_next(folder: Path) -> None:
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    tokenizer = bytes_tokenizer(SPECIAL, CHAT.replace("IMAGE", "<image>"))
    size = {"height": 16, "width": 16}
    images = LlavaNextImageProcessorPil(size={"shortest_edge": 16}, crop_size=size, image_grid_pinpoints=[[16, 16]])
    config = transformers.LlavaNextConfig(
        text_config=_config("LlamaConfig", **SMALL),
        vision_config={**_vision(), "model_type": "clip_vision_model", "num_attention_heads": 4, "patch_size": 8},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=[[16, 16]],
    )
    processor = transformers.LlavaNextProcessor(
        images,
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    )
    _save(folder, AutoModelForImageTextToText, config, processor)


def _gemma3(folder: Path) -> None:
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=bytes_tokenizer(SPECIAL)._tokenizer,
        pad_token=SPECIAL[0],
        eos_token=SPECIAL[1],
        extra_special_tokens={"image_token": SPECIAL[3], "boi_token": SPECIAL[4], "eoi_token": SPECIAL[5]},
        chat_template=CHAT.replace("IMAGE", SPECIAL[4]),
    )
    config = transformers.Gemma3Config(
        text_config=_config("Gemma3TextConfig", **SMALL, head_dim=4, query_pre_attn_scalar=4),
        vision_config={**_vision(), "num_attention_heads": 4, "patch_size": 4, "vision_use_head": False},
        mm_tokens_per_image=4,
        boi_token_index=tokenizer.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<end_of_image>"),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    images = Gemma3ImageProcessorPil(size={"height": 16, "width": 16}, image_seq_length=4)
    processor = transformers.Gemma3Processor(
        images, tokenizer, chat_template=tokenizer.chat_template, image_seq_length=4
    )
    _save(folder, AutoModelForImageTextToText, config, processor)


def _data(folder: Path) -> None:
    chats = [[{"role": "user", "content": line}] for line in LINES]
    plain = {"prompt": LINES}
    _configs(folder / "zen", {"standard_prompt_only": plain, "conversational_prompt_only": {"prompt": chats}})
    pictures = [Picture.new("RGB", (16, 16), (9 * i, 255 - 9 * i, 99)) for i in range(len(LINES))]
    one = Features({"prompt": [{"role": Value("string"), "content": Value("string")}], "image": Image()})
    _configs(folder / "zen-image", {"conversational_prompt_only": {"prompt": chats, "image": pictures}}, one)
    many = Features({"prompt": one["prompt"], "images": [Image()]})
    both = [[picture, pictures[0]] for picture in pictures]
    _configs(folder / "zen-multi-image", {"conversational_prompt_only": {"prompt": chats, "images": both}}, many)


def _configs(folder: Path, configs: dict[str, dict[str, list[Any]]], features: Features | None = None) -> None:
    """A dataset with the splits train, all rows, and test, two of them."""
    lines = []
    for name, columns in configs.items():
        (folder / name).mkdir(parents=True)
        lines.append(f"- config_name: {name}\n  data_files:")
        for split, rows in (("train", slice(None)), ("test", slice(2))):
            part = Dataset.from_dict({column: values[rows] for column, values in columns.items()}, features=features)
            part.to_parquet(folder / name / f"{split}.parquet")
            lines.append(f"  - split: {split}\n    path: {name}/{split}.parquet")
    (folder / "README.md").write_text("---\nconfigs:\n" + "\n".join(lines) + "\n---\n", encoding="utf-8")
