"""Whether a model in memory can start a run: pi_0 must be there twice, as the policy and as what it is held to.

Without adapters, TRL reads pi_0 a second time from where the model was loaded. With adapters, pi_0 is the model with
the adapters switched off, so they must begin at zero.
"""

from typing import Any

BEGINS_AT_ZERO = (True, "gaussian", "eva")  # values of init_lora_weights with B = 0 and the base untouched


def check_path(model: Any, peft_config: Any) -> str:
    """The last part of a model's name; ValueError if pi_0 could not be read again."""
    path = model if isinstance(model, str) else getattr(model.config, "_name_or_path", "")
    if not path and peft_config is None and not hasattr(model, "peft_config"):
        raise ValueError(
            f"the {type(model).__name__} was made in memory (its config._name_or_path is empty), and pi_0 is read from"
            " where the model was loaded; save it by save_pretrained and pass the folder, or train adapters by"
            " peft_config"
        )
    return str(path).rstrip("/").split("/")[-1]


def why_not_pi_0(model: Any) -> str:
    """Why a policy may differ from pi_0 before its first step, and what to do."""
    for config in getattr(model, "peft_config", {}).values():
        kind, begin = (
            str(getattr(config.peft_type, "value", config.peft_type)),
            getattr(config, "init_lora_weights", None),
        )
        if kind != "LORA" or begin not in BEGINS_AT_ZERO:
            how = f" with init_lora_weights = {begin!r}" if kind == "LORA" else ""
            return (
                f"adapters of type {kind}{how} do not begin at pi_0, which is the model without them; take LoRA with"
                " init_lora_weights = True"
            )
    return (
        f"dropout is on, or the model in memory is not the one in {model.config._name_or_path!r}, from which pi_0 is"
        " read; save the model and load it from there"
    )
