"""The keys of a configuration, and which of them was probably meant. The names of TRL are read from its source, so that
a misspelt key is refused before torch is imported."""

from dar_ref import scalars
from dar_ref.field_names import field_names

CONFIGURATIONS = {  # method: module and name of its configuration
    "dar": ("dar_ref.llm.config", "DARConfig"),
    "dao": ("dar_ref.llm.config", "DAOConfig"),
    "ppo_critic_free": ("dar_ref.llm.config", "PPOConfig"),
    "dual_ppo_critic_free": ("dar_ref.llm.config", "DualPPOConfig"),
    "grpo": ("trl", "GRPOConfig"),
    "rloo": ("trl", "RLOOConfig"),
    "online_dpo": ("trl.experimental.online_dpo", "OnlineDPOConfig"),
    "dpo": ("trl", "DPOConfig"),
    "dar_offline": ("dar_ref.llm.offline", "DAROfflineConfig"),
}
SECTIONS = {"model": "ModelOptions", "lora": "LoraOptions", "data": "DataOptions", "reward": "RewardOptions"}
FREE = ("training", "generation", "methods")
OF_THE_LOSS = {"alpha", "beta", "w_clip", "epsilon", "epsilon_high", "loss_type", "kl_coef"}
"""Options that `methods.<method>` sets; what else TRL adds to transformers' is for `generation`."""


def all_keys(method: str) -> list[str]:
    """Every key of a configuration with this method, the method's own first."""
    training = field_names("transformers", "TrainingArguments")
    added = [name for name in field_names(*CONFIGURATIONS[method]) if name not in training]
    sampled = set(field_names("trl", "GRPOConfig"))
    return [
        *(f"methods.{method}.{name}" for name in added if name in OF_THE_LOSS or name not in sampled),
        *(f"generation.{name}" for name in added if name in sampled - OF_THE_LOSS),
        *(f"training.{name}" for name in training),
        *(f"{section}.{name}" for section in SECTIONS for name in section_keys(section)),
        "method",
    ]


def section_keys(section: str) -> tuple[str, ...]:
    """The keys of one of `SECTIONS`."""
    return field_names("dar_ref.llm.options", SECTIONS[section])


def meant(key: str, method: str) -> list[str]:
    """The keys that `key` may stand for: those of this name in other sections, else what is spelt alike in its own
    section, else anywhere."""
    if method not in CONFIGURATIONS:
        return []
    try:
        keys = all_keys(method)
    except ModuleNotFoundError:  # what needs the package says so
        return []
    section, _, name = key.rpartition(".")
    same = [k for k in keys if k.rpartition(".")[2] == name]
    by_name = {k.rpartition(".")[2]: k for k in reversed(keys)}
    inside = [k.rpartition(".")[2] for k in keys if section and k.rpartition(".")[0] == section]
    return (
        same
        or [f"{section}.{n}" for n in scalars.close(name, inside)]
        or [by_name.get(n, n) for n in scalars.close(name, [*SECTIONS, *FREE, *by_name])]
    )


def hint(key: str, method: str) -> str:
    """The end of a message about an unknown key."""
    return scalars.did_you_mean(meant(key, method)[:3])
