"""Read a model as it is in its folder, or refuse it in our words: libraries draw weights that are missing at random."""

from typing import Any

from safetensors import SafetensorError
from transformers import AutoConfig


def read_config(option: str, name: Any, **named: Any) -> Any:
    """The config of a model.

    Args:
        option: that names it, and its value, for messages.
        name: folder or hub name.
        named: as in transformers.

    Raises:
        OSError: there is none.
        ValueError: transformers cannot make one of it; it raises errors of many types.
    """
    try:
        return AutoConfig.from_pretrained(name, **named)
    except OSError:
        raise
    except Exception as error:
        words = " ".join(str(error).split())
        raise ValueError(f"{option}: its config.json cannot be read: {words:.400}") from error


def read_model(option: str, model_class: Any, name: Any, remedy: str, **named: Any) -> Any:
    """The model, of safetensors.

    Args:
        model_class: of transformers.
        remedy: what to do if weights are missing; the other arguments as in `read_config`.

    Raises:
        OSError: there is none, or none in safetensors.
        ValueError: its weights are damaged, missing, or not those of its config.
    """
    try:
        model, loaded = model_class.from_pretrained(
            name, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True, **named
        )
    except SafetensorError as error:
        raise ValueError(f"{option}: its weights cannot be read ({error}); fetch the model again") from error
    if lacking := sorted([*loaded["missing_keys"], *(key for key, *_ in loaded["mismatched_keys"])]):
        more = f" and {len(lacking) - 3} more" if lacking[3:] else ""
        raise ValueError(f"{option} lacks weights, of the right shape, for {', '.join(lacking[:3])}{more}: {remedy}")
    return model
