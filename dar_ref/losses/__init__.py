"""The DAR loss and its baselines in torch. All are pure functions: tensors in, scalars or named tuples out. Inputs are
never changed.

Names are TRL's: `logps`, `ref_logps`, `old_logps` are log-probs of pi_theta, pi_0, pi_t summed per sequence, (B,);
`per_token_logps` per token, (B, T); `completion_mask` 1 = keep; `num_generations` = K. Inputs may have any floating
type, also mixed; the functions compute in float32 or better.
"""

from dar_ref.losses.advantages import group_advantages, normalize_advantages
from dar_ref.losses.dar import DARLoss, DARWeights, dar_loss, dar_weights
from dar_ref.losses.linear import LinearCrossEntropy, linear_cross_entropy
from dar_ref.losses.logps import sequence_logps
from dar_ref.losses.policy_gradient import dao_loss, dual_ppo_loss, grpo_loss, ppo_loss, rloo_loss
from dar_ref.losses.preference import best_of_n_loss, dpo_loss, ipo_loss, slic_loss
from dar_ref.losses.skipping import negligible

__all__ = [
    "DARLoss",
    "DARWeights",
    "LinearCrossEntropy",
    "best_of_n_loss",
    "dao_loss",
    "dar_loss",
    "dar_weights",
    "dpo_loss",
    "dual_ppo_loss",
    "group_advantages",
    "grpo_loss",
    "ipo_loss",
    "linear_cross_entropy",
    "negligible",
    "normalize_advantages",
    "ppo_loss",
    "rloo_loss",
    "sequence_logps",
    "slic_loss",
]
