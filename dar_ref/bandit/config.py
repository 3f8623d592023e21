"""Every option of a training run. Defaults are the paper's values where the paper gives one."""

from dataclasses import dataclass
from typing import Literal, get_args

from dar_ref import scalars
from dar_ref.optimizers import Optimizer

Method = Literal["dar", "grpo", "dao", "rloo"]


@dataclass(frozen=True)
class TrainConfig:
    """Options of one run. Wrong ones raise TypeError or ValueError before any work starts."""

    method: Method = "dar"  # which loss of dar_ref.losses
    steps: int = 100  # iterations: each samples once and then updates
    batch_prompts: int = 32  # N, contexts (the bandit's prompts) per iteration
    num_generations: int = 4  # K >= 2, arms sampled per context: N*K = 128 samples per iteration
    updates_per_rollout: int = 4  # gradient steps on the same samples; above 1, the samples become stale
    learning_rate: float = 3e-3  # constant, no warm-up
    optimizer: Optimizer = "adam"  # other settings are torch's defaults; no gradient clipping
    alpha: float = 0.1  # dar, dao: weight of pi_0 against pi_t, in [0, 1]
    beta: float = 0.05  # dar, dao: strength of the regulariser, in units of the normalised advantage per nat
    w_clip: float = 20.0  # dar: upper bound of the weight; inf for none
    epsilon: float = 0.2  # grpo: half-width of the ratio's clip
    kl_coef: float = 0.04  # grpo: weight of KL(pi‖pi_0) in the loss; rloo: the same in the reward
    seed: int = 0  # for the sampled contexts and arms

    def __post_init__(self) -> None:
        scalars.choice("method", self.method, get_args(Method))
        scalars.choice("optimizer", self.optimizer, get_args(Optimizer))
        for name in ("steps", "batch_prompts", "updates_per_rollout"):
            scalars.integer(name, getattr(self, name), 1)
        scalars.seed("seed", self.seed)
        scalars.integer("num_generations", self.num_generations, 2)  # a single sample is its own group mean (T10)
        scalars.fraction("alpha", self.alpha, single=True)
        for name in ("learning_rate", "beta"):
            scalars.positive(name, getattr(self, name), single=True)
        scalars.positive("w_clip", self.w_clip, or_infinite=True, single=True)
        for name in ("epsilon", "kl_coef"):
            scalars.non_negative(name, getattr(self, name), single=True)
