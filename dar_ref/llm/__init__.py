"""Full-size training: TRL does generation, sharding and checkpoints, this package adds DAR.

`DARConfig` and `DARTrainer` are used like TRL's classes. Read `options` (what a run is), `config` and `trainer` (the
method), `train` (the script). No other layer imports this one. The loss is `dar_ref.losses.dar_loss`.

Each name below is loaded at its first use, so `dar-ref plan` does not wait for TRL.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dar_ref.errors import missing

if TYPE_CHECKING:
    from dar_ref.llm.build import make_arguments, make_trainer
    from dar_ref.llm.checkpoint import content_hash
    from dar_ref.llm.config import DAOConfig, DARConfig, DualPPOConfig, PPOConfig
    from dar_ref.llm.data.load import load_preferences, load_prompts, load_rated
    from dar_ref.llm.methods import DAOTrainer, DualPPOTrainer, PPOTrainer
    from dar_ref.llm.metrics import weight_metrics
    from dar_ref.llm.models.policy import initial_policy, load_policy, policy_tokenizer
    from dar_ref.llm.models.tokenizers import load_tokenizer
    from dar_ref.llm.offline import DAROfflineConfig, DAROfflineTrainer
    from dar_ref.llm.options import RunOptions, find_config, load_options
    from dar_ref.llm.rewards.function import check_reward, make_reward
    from dar_ref.llm.trainer import DARTrainer

_HOMES = {  # module: the names that are re-exported here
    "build": ("make_arguments", "make_trainer"),
    "checkpoint": ("content_hash",),
    "config": ("DAOConfig", "DARConfig", "DualPPOConfig", "PPOConfig"),
    "data.load": ("load_preferences", "load_prompts", "load_rated"),
    "methods": ("DAOTrainer", "DualPPOTrainer", "PPOTrainer"),
    "metrics": ("weight_metrics",),
    "models.policy": ("initial_policy", "load_policy", "policy_tokenizer"),
    "models.tokenizers": ("load_tokenizer",),
    "offline": ("DAROfflineConfig", "DAROfflineTrainer"),
    "options": ("RunOptions", "find_config", "load_options"),
    "rewards.function": ("check_reward", "make_reward"),
    "trainer": ("DARTrainer",),
}

__all__ = [
    "DAOConfig",
    "DAOTrainer",
    "DARConfig",
    "DAROfflineConfig",
    "DAROfflineTrainer",
    "DARTrainer",
    "DualPPOConfig",
    "DualPPOTrainer",
    "PPOConfig",
    "PPOTrainer",
    "RunOptions",
    "check_reward",
    "content_hash",
    "find_config",
    "initial_policy",
    "load_options",
    "load_policy",
    "load_preferences",
    "load_prompts",
    "load_rated",
    "load_tokenizer",
    "make_arguments",
    "make_reward",
    "make_trainer",
    "policy_tokenizer",
    "weight_metrics",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            try:
                return getattr(import_module(f"{__name__}.{module}"), name)
            except ModuleNotFoundError as error:
                raise ImportError(missing(error.name or name), name=error.name) from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
