"""The DAR loss: weighted supervised fine-tuning on samples of the current policy.

    w_i  = min((pi_0/pi_t)^alpha exp(A_i/beta), w_clip),     loss = -mean_i w_i log pi_theta(y_i)

Without the clip, its minimiser over all policies is the optimum of the dual-KL objective (Theorem 4.2; T3 in
`dar_ref.theory.regression`). The clip moves the minimiser (T4). The weight is a constant: no gradient flows through it.
There is no policy ratio and no critic.

Log-probs are sums over the completion (`sequence_logps`). Deviation from the paper's text: the weight is computed and
clipped in log space, `exp(min(log w, log w_clip))`, so it cannot overflow before it is clipped.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from dar_ref import scalars
from dar_ref.losses import checks
from dar_ref.losses.logps import counted, sequence_mean


class DARWeights(NamedTuple):
    """Weights of a batch. Every field is (B,) and has no gradient.

    weight: `min(w, w_clip)`; log_reg: `alpha (logp_0 - logp_t)`; log_adv: `A / beta`; clipped: bool, `w > w_clip`.
    """

    weight: Tensor
    log_reg: Tensor
    log_adv: Tensor
    clipped: Tensor

    def ess(self) -> Tensor:
        """Effective sample share `(sum w)^2 / (B sum w^2)`, a scalar in [0, 1], float64.

        The share of the samples that the regression rests on: 1 if all are equal, 1/B if only one is not 0, and 0 if
        all are 0. NaN if a weight is infinite or NaN.
        """
        weight = self.weight.double()
        unit = torch.ldexp(weight, -torch.frexp(weight.max()).exponent)  # the largest is near 1: no square overflows
        return unit.sum() ** 2 / (len(unit) * (unit**2).sum() + (unit.max() == 0.0))


class DARLoss(NamedTuple):
    """`loss`: scalar, mean over sequences; `weights`: the weight of each sequence."""

    loss: Tensor
    weights: DARWeights


def dar_weights(
    ref_logps: Tensor,
    old_logps: Tensor,
    advantages: Tensor,
    *,
    alpha: float = 0.1,
    beta: float = 0.05,
    w_clip: float = 20.0,
) -> DARWeights:
    """Regression weights `w_i = min((pi_0/pi_t)^alpha exp(A_i/beta), w_clip)`.

    Args:
        ref_logps: (B,), log pi_0 of each completion, summed over its tokens.
        old_logps: (B,), log pi_t of each completion: the distribution that was sampled, temperature included.
        advantages: (B,), finite.
        alpha: weight of pi_0 against pi_t, in [0, 1].
        beta: strength of the regulariser, > 0, in units of the advantage per nat.
        w_clip: upper bound of the weight, > 0; `math.inf` for none.

    Returns:
        `DARWeights(weight, log_reg, log_adv, clipped)`, all (B,), float32 or the widest input type.

    Raises:
        TypeError, ValueError: wrong types, shapes or options.

    Source: arXiv 2602.11523, the practical loss; defaults from its implementation notes.

    >>> import torch
    >>> zero = torch.zeros(2)
    >>> dar_weights(zero, zero, torch.tensor([0.0, 1.0])).weight.tolist()
    [1.0, 20.0]
    """
    checks.per_sequence(ref_logps=ref_logps, old_logps=old_logps, advantages=advantages)
    alpha, beta = scalars.fraction("alpha", alpha, single=True), scalars.positive("beta", beta, single=True)
    log_clip = math.log(scalars.positive("w_clip", w_clip, or_infinite=True, single=True))
    with torch.no_grad():  # stop-gradient: the weight is a constant of the regression
        log_ratio = checks.at_least_float32(ref_logps) - old_logps  # (B,)
        # At alpha 0 pi_0 has no say, even where it is 0: 0 * -inf would be NaN.
        log_reg = torch.zeros_like(log_ratio) if alpha == 0.0 else alpha * log_ratio
        log_adv = checks.at_least_float32(advantages) / beta
        log_weight = log_reg + log_adv  # (B,)
        return DARWeights(log_weight.clamp(max=log_clip).exp(), log_reg, log_adv, log_weight > log_clip)


def dar_loss(
    logps: Tensor,
    ref_logps: Tensor,
    old_logps: Tensor,
    advantages: Tensor,
    *,
    alpha: float = 0.1,
    beta: float = 0.05,
    w_clip: float = 20.0,
    sample_weight: Tensor | None = None,
) -> DARLoss:
    """The DAR loss `-mean_i w_i log pi_theta(y_i)`, mean over sequences, log-probs summed over tokens.

    Args:
        logps: (B,), log pi_theta of each completion, summed over its tokens; the only input that gets a gradient.
        ref_logps: (B,), log pi_0 of each completion.
        old_logps: (B,), log pi_t of each completion: the distribution that was sampled, temperature included.
        advantages: (B,), finite.
        alpha: weight of pi_0 against pi_t, in [0, 1].
        beta: strength of the regulariser, > 0, in units of the advantage per nat.
        w_clip: upper bound of the weight, > 0; `math.inf` for none.
        sample_weight: (B,), >= 0, what each sequence counts for in the mean, `sum_i s_i x_i / sum_i s_i`; None: all
            alike. 0 leaves a sequence out, whatever its log-probs are; if all are 0 the loss is 0.

    Returns:
        `DARLoss(loss, weights)`: a scalar, float32 or the widest input type, and the `DARWeights` of the batch.

    Raises:
        TypeError, ValueError: wrong types, shapes or options.

    Source: arXiv 2602.11523, the practical loss; T3 and T4 say what it minimises.

    >>> import torch
    >>> logps = torch.tensor([-1.0, -2.0], requires_grad=True)
    >>> result = dar_loss(logps, logps, logps, torch.zeros(2))  # on-policy, no advantage: plain SFT
    >>> result.loss.item(), torch.autograd.grad(result.loss, logps)[0].tolist()
    (1.5, [-0.5, -0.5])
    """
    checks.per_sequence(logps=logps, ref_logps=ref_logps)
    weights = dar_weights(ref_logps, old_logps, advantages, alpha=alpha, beta=beta, w_clip=w_clip)
    logps, weight = counted(sample_weight, checks.at_least_float32(logps), weights.weight)
    return DARLoss(-sequence_mean(weight * logps, sample_weight), weights)
