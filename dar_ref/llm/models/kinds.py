"""Which model folders can be trained or scored with; nothing heavy is imported, so `dar-ref plan` asks here too."""

import json
from pathlib import Path
from typing import Any

FROM_GGUF = "`python -m dar_ref.llm.models.gguf FILE FOLDER` writes a folder that can be trained: pass that"


def check_weights(option: str, name: str | Path) -> None:
    """Raise ValueError if a folder holds an adapter, GGUF, a quantised model or no JSON; hub names are not looked at.

    Args:
        option: that names the folder, for the message.
        name: the folder.
    """
    folder = Path(name)
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        base = _json(folder / "adapter_config.json").get("base_model_name_or_path")
        raise ValueError(
            f"{option} = {str(name)!r} is an adapter of {base!r} and no model; merge it into its base first: load it by"
            " peft's AutoPeftModel..., call merge_and_unload(), and pass the folder you save that to"
        )
    if not (folder / "config.json").is_file() and any(folder.glob("*.gguf")):
        raise ValueError(f"{option} = {str(name)!r} holds a GGUF file and no config.json; {FROM_GGUF}")
    if (folder / "generation_config.json").is_file():
        _json(folder / "generation_config.json")  # transformers passes over one that is broken, and so over its EOS
    if (folder / "config.json").is_file():
        check_quantization(f"{option} = {str(name)!r}", _json(folder / "config.json").get("quantization_config"))


def check_quantization(what: str, quantization: Any) -> None:
    """Raise ValueError if a model's config has a quantization_config."""
    if quantization:
        method = quantization.get("quant_method", "") if isinstance(quantization, dict) else quantization
        raise ValueError(
            f"{what} is quantised ({method}): its weights can neither be trained nor counted here; pass the model that"
            " it was made from, or dequantise it first"
        )


def check_positions(prompt_tokens: int, new_tokens: int, positions: int | None, model: str) -> None:
    """Raise ValueError if a prompt and what is sampled behind it take more positions than a model has.

    Args:
        prompt_tokens: of the longest prompt.
        new_tokens: the most that are sampled behind it.
        positions: of the model; None for one without a bound.
        model: its name, for the message.
    """
    if positions is not None and prompt_tokens + new_tokens > positions:
        raise ValueError(
            f"a prompt of {prompt_tokens} tokens and {new_tokens} new ones take {prompt_tokens + new_tokens} positions,"
            f" and {model} has {positions}; lower data.max_prompt_tokens or generation.max_completion_length"
        )


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is no JSON ({error}); fetch the model again") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds a {type(content).__name__} and no mapping; fetch the model again")
    return content
