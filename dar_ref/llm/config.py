"""Configuration of DAR and of the methods on its trainer: TRL's `GRPOConfig` with the options that DAR adds.

DAR's fields are `alpha`, `beta` and `w_clip`. All others are TRL's and keep TRL's meaning. To set an option of TRL that
DAR's loss does not use is an error, with the reason: an option that is accepted and does nothing is worse.
"""

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from trl import GRPOConfig

from dar_ref import scalars

_RATIO = "there is no clipped policy ratio in this loss"
_OTHER = "it belongs to another loss"
_UNSCORED = "the log-probs are those of plain sampling at `temperature`, and the samples would come from elsewhere"
NO_MEANING = {
    "loss_type": "the trainer has its own loss; choose another method instead",
    "importance_sampling_level": "the weight of a completion is that of the whole sequence",
    "scale_rewards": "A = r - mean_K(r) is divided by std(A) over the global batch",
    "multi_objective_aggregation": "rewards are summed with reward_weights, then A is computed",
    "delta": _RATIO,
    "epsilon": _RATIO,
    "epsilon_high": _RATIO,
    "off_policy_mask_threshold": _OTHER,
    "use_bias_correction_kl": _OTHER,
    "sapo_temperature_neg": _OTHER,
    "sapo_temperature_pos": _OTHER,
    "vespo_k_pos": _OTHER,
    "vespo_lambda_pos": _OTHER,
    "vespo_k_neg": _OTHER,
    "vespo_lambda_neg": _OTHER,
    "top_entropy_quantile": "log-probs are summed over the whole completion; a part of the tokens gives another loss",
    "entropy_coef": "the objective has no entropy term",
    "use_adaptive_entropy": "the objective has no entropy term",
    "router_aux_loss_coef": "the objective has no term that balances experts",
    "sync_ref_model": "pi_0 is the initial policy and never moves",
    "disable_dropout": "with dropout, pi_theta is not the policy that sampled",
    "top_p": _UNSCORED,
    "top_k": _UNSCORED,
    "min_p": _UNSCORED,
    "repetition_penalty": _UNSCORED,
    "generation_kwargs": _UNSCORED,
}


@dataclass
class DARConfig(GRPOConfig):  # type: ignore[misc]
    """Options of `DARTrainer`: DAR's `alpha`, `beta`, `w_clip`; everything else as in TRL's `GRPOConfig`.

    Raises:
        ValueError, TypeError: a value outside its range, or an option of TRL that has no meaning here.

    Source: arXiv 2602.11523; the defaults of the three come from its implementation notes.
    """

    alpha: float = field(default=0.1, metadata={"help": "Weight of pi_0 against pi_t, in [0, 1]."})
    beta: float = field(
        default=0.05, metadata={"help": "Strength of the regulariser, > 0, in normalised advantage per nat."}
    )
    w_clip: float | None = field(default=20.0, metadata={"help": "Upper bound of the weight, > 0; inf for none."})
    scale_rewards: str = field(default="none", metadata={"help": "Scale of TRL's advantages, which are not used."})
    disable_dropout: bool = field(default=True, metadata={"help": "Always on."})
    router_aux_loss_coef: float | None = field(default=0.0, metadata={"help": "Always 0."})

    meaningful: ClassVar[frozenset[str]] = frozenset()  # options in `NO_MEANING` that this method's loss does use

    def __post_init__(self) -> None:
        refuse_what_has_no_meaning(self)
        scalars.fraction("alpha", self.alpha, single=True)
        scalars.positive("beta", self.beta, single=True)
        self.check_w_clip()
        super().__post_init__()
        per_token = not self.vllm_importance_sampling_mode.startswith("sequence_")
        if self.use_vllm and self.vllm_importance_sampling_correction and per_token:
            raise ValueError(
                f"vllm_importance_sampling_mode = {self.vllm_importance_sampling_mode!r} corrects single tokens;"
                " completions are weighted as a whole: set sequence_mask or sequence_truncate"
            )

    def check_w_clip(self) -> None:
        """Raise unless the weights have a bound above 0, which may be infinite."""
        if self.w_clip is None:
            raise TypeError("w_clip = None; pass a number above 0, or .inf for no clip")
        scalars.positive("w_clip", self.w_clip, or_infinite=True, single=True)


@dataclass
class UnweightedConfig(DARConfig):
    """Base for methods on this trainer whose loss has no regression weight."""

    w_clip: float | None = field(default=None, metadata={"help": "Not used: there is no weight to clip."})

    def check_w_clip(self) -> None:
        """Raise ValueError if a bound of the weights is given."""
        if self.w_clip is not None:
            raise ValueError(f"w_clip = {self.w_clip}: this loss has no weight to clip; leave it out")


@dataclass
class DAOConfig(UnweightedConfig):
    """Options of `DAOTrainer`: `alpha` and `beta` of the dual KL."""


@dataclass
class DualPPOConfig(UnweightedConfig):
    """Options of `DualPPOTrainer`: `alpha` and `beta` of the dual KL, `epsilon` of the clipped ratio."""

    meaningful: ClassVar[frozenset[str]] = frozenset({"epsilon"})


@dataclass
class PPOConfig(UnweightedConfig):
    """Options of `PPOTrainer`: `beta` of the KL to pi_0 in the reward, `epsilon` of the clipped ratio."""

    alpha: float = field(default=1.0, metadata={"help": "Always 1: PPO regularises towards pi_0 alone."})

    meaningful: ClassVar[frozenset[str]] = frozenset({"epsilon"})

    def __post_init__(self) -> None:
        if self.alpha != 1.0:
            raise ValueError(
                f"alpha = {self.alpha}: PPO regularises towards pi_0 alone; leave it out, or take dual PPO"
            )
        super().__post_init__()


def refuse_what_has_no_meaning(config: DARConfig) -> None:
    """Raise ValueError for the first option in `NO_MEANING` that differs from its default."""
    defaults: dict[str, Any] = {f.name: f.default for f in fields(config)}
    for name in sorted(set(NO_MEANING) - config.meaningful):
        value = getattr(config, name)
        if value != defaults[name]:
            raise ValueError(
                f"{name} = {value!r} has no meaning for {type(config).__name__}: {NO_MEANING[name]}; leave it out"
            )
