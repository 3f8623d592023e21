"""Configuration of DAR and of the methods on its trainer: TRL's `GRPOConfig` with the options that DAR adds.

DAR's fields are `alpha`, `beta` and `w_clip`, and four that make an update fast: `fused_loss`, `skip_tolerance`,
`sort_by_length` and `sampler_logps`, see `dar_ref.llm.lean`. All others are TRL's and keep TRL's meaning. To set an
option of TRL that DAR's loss does not use is an error, with the reason: an option that is accepted and does nothing is
worse. A value that changes nothing in TRL either is no error, see `NEUTRAL`.

One default is not TRL's: `max_grad_norm` is 0, no clipping. The norm of DAR's gradient is far above TRL's 1, which
would clip every step and hide the scale of the weights; `w_clip` bounds them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

from trl import GRPOConfig

from dar_ref import scalars

_RATIO = "there is no clipped policy ratio in this loss"
_OTHER = "it belongs to another loss"
_FIXED = "pi_0 is the initial policy and never moves"
_NO_ENTROPY = "the objective has no entropy term"
_UNSCORED = "the log-probs are those of plain sampling at `temperature`, and the samples would come from elsewhere"
NO_MEANING = {
    "loss_type": "the trainer has its own loss; choose another method instead",
    "importance_sampling_level": "each token has a ratio of its own",
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
    "entropy_coef": _NO_ENTROPY,
    "use_adaptive_entropy": _NO_ENTROPY,
    "router_aux_loss_coef": "the objective has no term that balances experts",
    "entropy_target": _NO_ENTROPY,
    "entropy_coef_min": _NO_ENTROPY,
    "entropy_coef_max": _NO_ENTROPY,
    "entropy_coef_delta": _NO_ENTROPY,
    "sync_ref_model": _FIXED,
    "ref_model_mixup_alpha": _FIXED,
    "ref_model_sync_steps": _FIXED,
    "data_seed": "the order of the prompts follows seed",
    "label_smoothing_factor": "nothing is learned from labels",
    "neftune_noise_alpha": "with noise on the embeddings, pi_theta is not the policy that sampled",
    "disable_dropout": "with dropout, pi_theta is not the policy that sampled",
    "top_p": _UNSCORED,
    "top_k": _UNSCORED,
    "min_p": _UNSCORED,
    "repetition_penalty": _UNSCORED,
    "vllm_structured_outputs_regex": _UNSCORED,
}
NEUTRAL: dict[str, tuple[Any, ...]] = {  # other ways to write the default
    "loss_type": ("grpo",),  # our loss is a mean over completions as well
    "scale_rewards": (False,),
    "router_aux_loss_coef": (None,),
    "top_k": (None, -1),
    "min_p": (0.0,),
    "generation_kwargs": ({}, "{}"),
}
RESHAPING = """do_sample temperature num_beams num_return_sequences n best_of top_p top_k top_h min_p typical_p
    epsilon_cutoff eta_cutoff repetition_penalty encoder_repetition_penalty presence_penalty frequency_penalty
    no_repeat_ngram_size encoder_no_repeat_ngram_size min_length min_new_tokens min_tokens eos_token_id ignore_eos
    bad_words bad_words_ids allowed_token_ids suppress_tokens begin_suppress_tokens forced_bos_token_id
    forced_eos_token_id sequence_bias logit_bias logits_processors exponential_decay_length_penalty guidance_scale
    watermarking_config penalty_alpha dola_layers constraints force_words_ids structured_outputs guided_decoding
"""  # keys of generation_kwargs, of transformers and vLLM, that change what is drawn
HARMLESS = {  # their values that do not; the other keys are off at None, False and 0
    **dict.fromkeys(("num_beams", "num_return_sequences", "n", "top_p", "repetition_penalty"), 1),
    **dict.fromkeys(("top_k", "min_p"), 0),
    "do_sample": True,
}
SET_BY_TRL = ("do_sample", "temperature", "top_p", "top_k", "repetition_penalty", "eos_token_id")
STOPS = ("stop_strings", "stop", "stop_token_ids")  # keys of generation_kwargs that end a completion early


@dataclass
class DualKLConfig(GRPOConfig):  # type: ignore[misc]
    """What DAR and the methods on its trainer have in common: `alpha` and `beta`, and what they refuse."""

    alpha: float = field(default=0.1, metadata={"help": "Weight of pi_0 against pi_t, in [0, 1]."})
    beta: float = field(
        default=0.05, metadata={"help": "Strength of the regulariser, > 0, in normalised advantage per nat."}
    )
    max_grad_norm: float = field(default=0.0, metadata={"help": "Largest norm of the gradient; 0 clips nothing."})
    scale_rewards: str = field(default="none", metadata={"help": "Scale of TRL's advantages, which are not used."})
    disable_dropout: bool = field(default=True, metadata={"help": "Always on."})
    router_aux_loss_coef: float | None = field(default=0.0, metadata={"help": "Always 0."})

    meaningful: ClassVar[frozenset[str]] = frozenset()  # options in `NO_MEANING` that this method's loss does use

    def __post_init__(self) -> None:
        refuse_what_has_no_meaning(self)
        scalars.fraction("alpha", self.alpha, single=True)
        scalars.positive("beta", self.beta, single=True)
        super().__post_init__()
        refuse_what_reshapes(self)
        per_token = not self.vllm_importance_sampling_mode.startswith("sequence_")
        if self.use_vllm and self.vllm_importance_sampling_correction and per_token:
            raise ValueError(
                f"vllm_importance_sampling_mode = {self.vllm_importance_sampling_mode!r} corrects single tokens;"
                " completions are weighted as a whole: set sequence_mask or sequence_truncate"
            )


@dataclass
class DARConfig(DualKLConfig):
    """Options of `DARTrainer`: DAR's `alpha`, `beta`, `w_clip`, and those of a fast update; everything else as in TRL's
    `GRPOConfig`.

    Raises:
        ValueError, TypeError: a value outside its range, or an option of TRL that has no meaning here.

    Source: arXiv 2602.11523; the defaults of the three come from its implementation notes.
    """

    w_clip: float = field(default=20.0, metadata={"help": "Upper bound of the weight, > 0; inf for none."})
    skip_tolerance: float = field(
        default=1e-3,
        metadata={"help": "Share of the sum of weights that an update may leave out, in [0, 1); 0 leaves out nothing."},
    )
    fused_loss: bool = field(
        default=True, metadata={"help": "Loss and gradients of the head in one, without logits, where the model fits."}
    )
    sort_by_length: bool = field(
        default=True, metadata={"help": "Micro-batches of similar length, each cut to its own longest row."}
    )
    sampler_logps: bool = field(
        default=True, metadata={"help": "Take log-probs of pi_t from the sampler (transformers), where it has them."}
    )

    def __post_init__(self) -> None:
        if self.w_clip is None:
            raise TypeError("w_clip = None; pass a number above 0, or .inf for no clip")
        scalars.positive("w_clip", self.w_clip, or_infinite=True, single=True)
        if scalars.fraction("skip_tolerance", self.skip_tolerance, single=True) == 1.0:
            raise ValueError("skip_tolerance = 1 would leave out every completion; pass less, 0.001 for example")
        super().__post_init__()


@dataclass
class DAOConfig(DualKLConfig):
    """Options of `DAOTrainer`: `alpha` and `beta` of the dual KL."""


@dataclass
class DualPPOConfig(DualKLConfig):
    """Options of `DualPPOTrainer`: `alpha` and `beta` of the dual KL, `epsilon` of the clipped ratio."""

    meaningful: ClassVar[frozenset[str]] = frozenset({"epsilon"})


@dataclass
class PPOConfig(DualKLConfig):
    """Options of `PPOTrainer`: `beta` of the KL to pi_0 in the reward, `epsilon` of the clipped ratio."""

    alpha: float = field(default=1.0, metadata={"help": "Always 1: PPO regularises towards pi_0 alone."})

    meaningful: ClassVar[frozenset[str]] = frozenset({"epsilon"})

    def __post_init__(self) -> None:
        if self.alpha != 1.0:
            raise ValueError(
                f"alpha = {self.alpha}: PPO regularises towards pi_0 alone; leave it out, or take dual PPO"
            )
        super().__post_init__()


def refuse_what_has_no_meaning(config: DualKLConfig) -> None:
    """Raise ValueError for the first option in `NO_MEANING` that is not at its default; NEUTRAL ones become it."""
    defaults: dict[str, Any] = {f.name: f.default for f in fields(config)}
    for name, values in NEUTRAL.items():
        if getattr(config, name) in values:
            setattr(config, name, defaults[name])
    if config.importance_sampling_level == "sequence" and not config.meaningful:
        config.importance_sampling_level = defaults["importance_sampling_level"]  # DAR and DAO weigh whole completions
    for name in sorted(set(NO_MEANING) - config.meaningful):
        value = getattr(config, name)
        if value != defaults[name]:
            raise ValueError(
                f"{name} = {value!r} has no meaning for {type(config).__name__}: {NO_MEANING[name]}; leave it out"
            )


def refuse_what_reshapes(config: DualKLConfig) -> None:
    """Raise ValueError for a key of `generation_kwargs` by which other completions are drawn than those scored."""
    given: dict[str, Any] = config.generation_kwargs or {}
    if not isinstance(given, dict):  # TRL reads text that begins with { as JSON
        raise ValueError(f"generation_kwargs = {given!r} is not a mapping; pass key: value pairs, or leave it out")
    for name in reshaping(given, config.temperature):
        raise ValueError(f"generation_kwargs[{name!r}] = {given[name]!r}: {_UNSCORED}; leave it out")
    stops = [name for name in STOPS if given.get(name)]
    if stops and config.mask_truncated_completions:
        raise ValueError(
            f"generation_kwargs[{stops[0]!r}] and mask_truncated_completions = True: TRL takes a completion that does"
            " not end in EOS for cut off, so none of those that stopped would count; leave one of the two out"
        )


def reshaping(given: Mapping[str, Any], temperature: float) -> list[str]:
    """The names of `given`, options of transformers' or vLLM's sampling, by which other completions are drawn."""
    harmless = {"temperature": temperature, **HARMLESS}
    names = sorted(set(RESHAPING.split()) & set(given))
    return [name for name in names if (given[name] != harmless[name] if name in harmless else given[name])]


def refuse_the_model_s(folder: Path) -> None:
    """Raise ValueError if a model's generation_config.json changes what is drawn. TRL sets the options that it knows,
    and transformers takes the others from there."""
    file = folder / "generation_config.json"
    given = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for name in reshaping({name: value for name, value in given.items() if name not in SET_BY_TRL}, 1.0):
        raise ValueError(
            f"{file} sets {name} = {given[name]!r}: {_UNSCORED}; take it out of a copy of the folder, and put it back"
            " into that of the trained policy"
        )
