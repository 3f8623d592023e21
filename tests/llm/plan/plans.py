"""A config.json without weights, and options of a run on it, for the tests of `dar-ref plan`."""

from transformers import Qwen2Config

from dar_ref.llm.options import make_options


def save_config(folder):
    """A config.json and nothing else."""
    Qwen2Config(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=50_000,
        max_position_embeddings=1024,
    ).save_pretrained(folder)
    return folder


def options(folder, **sections):
    """A run on that model by TRL's defaults but for `sections`."""
    content = {"model": {"name": str(folder)}, "data": {"prompts": "-", "preferences": "-"}}
    content |= {"reward": {"kind": "function", "name": "none:none"}}
    for section, values in sections.items():
        content[section] = content.get(section, {}) | values if isinstance(values, dict) else values
    return make_options(content)
