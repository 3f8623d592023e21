"""A Qwen2 with two layers and random weights, and a tokenizer of single bytes."""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config

SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "max_position_embeddings": 512}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1}


def bytes_tokenizer(special=("<pad>", "<eos>"), template=None):
    """Every byte is a token; the first two special ones pad and end."""
    alphabet = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=special[0], eos_token=special[1], additional_special_tokens=[*special[2:]]
    )
    made.chat_template = template
    return made


def save_small_lm(folder, config=None, **tokenizer_options):
    """Write a model of `config`, a Qwen2 by default, and its tokenizer; returns the tokenizer."""
    tokenizer = bytes_tokenizer(**tokenizer_options)
    config = config or Qwen2Config(vocab_size=len(tokenizer), **SIZES, **HEADS)
    config.pad_token_id, config.eos_token_id, config.bos_token_id = tokenizer.pad_token_id, tokenizer.eos_token_id, None
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer
