"""Baselines that learn from preferences or from the best sample: DPO, IPO, SLiC, SFT on best-of-N.

Log-probs are sums per sequence, (B,); `chosen_` and `rejected_` are the two completions of one preference pair. Only
`chosen_logps`, `rejected_logps`, `target_logps` and `logps` get a gradient.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from dar_ref import scalars
from dar_ref.losses import checks
from dar_ref.losses.advantages import finite_rewards


def dpo_loss(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    beta: float = 0.1,
) -> Tensor:
    """DPO: `loss = -mean log sigmoid(beta h)`, `h = log(pi/pi_0)(chosen) - log(pi/pi_0)(rejected)`.

    Online DPO is this loss on pairs that are sampled from pi_t and labelled during training.

    Args:
        chosen_logps: (B,), log pi_theta of the preferred completion.
        rejected_logps: (B,), log pi_theta of the other one.
        ref_chosen_logps: (B,), log pi_0 of the preferred completion.
        ref_rejected_logps: (B,), log pi_0 of the other one.
        beta: strength of the implied KL to pi_0, > 0.

    Returns:
        Scalar, float32 or the widest input type.

    Raises:
        TypeError, ValueError: wrong types, shapes or options.

    Source: Rafailov et al., arXiv 2305.18290, Equation 7.
    """
    margin = _margin(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    return -logsigmoid(scalars.positive("beta", beta, single=True) * margin).mean()


def ipo_loss(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    ref_chosen_logps: Tensor,
    ref_rejected_logps: Tensor,
    *,
    tau: float = 0.1,
) -> Tensor:
    """IPO: `loss = mean (h - 1/(2 tau))^2`, `h` as in DPO. Log-probs are sums, as in the paper; some libraries average.

    Args:
        chosen_logps: (B,), log pi_theta of the preferred completion.
        rejected_logps: (B,), log pi_theta of the other one.
        ref_chosen_logps: (B,), log pi_0 of the preferred completion.
        ref_rejected_logps: (B,), log pi_0 of the other one.
        tau: strength of the KL to pi_0, > 0.

    Returns:
        Scalar, float32 or the widest input type.

    Raises:
        TypeError, ValueError: wrong types, shapes or options.

    Source: Azar et al., arXiv 2310.12036, Equation 17.
    """
    margin = _margin(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps)
    return ((margin - 1.0 / (2.0 * scalars.positive("tau", tau, single=True))) ** 2).mean()


def slic_loss(
    chosen_logps: Tensor,
    rejected_logps: Tensor,
    target_logps: Tensor,
    *,
    delta: float = 1.0,
    regularization: float = 0.1,
) -> Tensor:
    """SLiC-HF: a hinge loss on the pair plus a likelihood term on the SFT target, without a reference model.

    `loss = mean [max(0, delta - log pi(chosen) + log pi(rejected)) - regularization * log pi(target)]`.

    Args:
        chosen_logps: (B,), log pi_theta of the preferred completion.
        rejected_logps: (B,), log pi_theta of the other one.
        target_logps: (B,), log pi_theta of the SFT target of the same prompt.
        delta: margin of the hinge, >= 0, nats.
        regularization: the paper's lambda, >= 0.

    Returns:
        Scalar, float32 or the widest input type.

    Raises:
        TypeError, ValueError: wrong types, shapes or options.

    Source: Zhao et al., arXiv 2305.10425, Equation 1.
    """
    checks.per_sequence(chosen_logps=chosen_logps, rejected_logps=rejected_logps, target_logps=target_logps)
    delta, regularization = (
        scalars.non_negative("delta", delta, single=True),
        scalars.non_negative("regularization", regularization, single=True),
    )
    hinge = (delta - checks.at_least_float32(chosen_logps) + rejected_logps).clamp(min=0.0)
    return (hinge - regularization * checks.at_least_float32(target_logps)).mean()


def best_of_n_loss(logps: Tensor, rewards: Tensor, num_generations: int) -> Tensor:
    """SFT on best-of-N: negative log-likelihood of the best completion of each group, mean over groups.

    `loss = -mean_g log pi_theta(y_g*)`, where `y_g*` is the completion with the highest reward (the first one of a
    tie).

    Args:
        logps: (B,), log pi_theta of each completion, summed over its tokens; the K of each prompt side by side.
        rewards: (B,), finite.
        num_generations: K >= 2.

    Returns:
        Scalar, float32 or the wider input type.

    Raises:
        TypeError, ValueError: wrong types, shapes or options, or a reward that is not finite.

    Source: baseline of arXiv 2504.14177.
    """
    checks.per_sequence(logps=logps, rewards=rewards)
    finite_rewards(rewards)
    num_groups = checks.groups(len(rewards), num_generations)
    best = rewards.view(num_groups, num_generations).argmax(dim=1)  # (N,)
    return -checks.at_least_float32(logps).view(num_groups, num_generations)[torch.arange(num_groups), best].mean()


def _margin(chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor) -> Tensor:
    checks.per_sequence(
        chosen_logps=chosen, rejected_logps=rejected, ref_chosen_logps=ref_chosen, ref_rejected_logps=ref_rejected
    )
    return (checks.at_least_float32(chosen) - ref_chosen) - (checks.at_least_float32(rejected) - ref_rejected)
