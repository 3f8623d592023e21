"""Advantages without a critic: reward minus the group's mean, then divided by the standard deviation over the batch.

    A_i = r_i - mean_K(r),   then   A_i / std(A)   over the whole (global) batch.

The paper names Monte Carlo advantages with intra-batch normalisation; the group mean as baseline is its predecessor's
(arXiv 2504.14177). The mean contains its own sample (T10): A_i = (K-1)/K (r_i - mean of the others).
"""

import torch
from torch import Tensor

from dar_ref import scalars
from dar_ref.losses import checks


def group_advantages(rewards: Tensor, num_generations: int) -> Tensor:
    """Reward minus the mean of its group, `A_i = r_i - mean_K(r)`.

    Args:
        rewards: (B,), B = N*K, the K completions of each prompt side by side. Finite.
        num_generations: K >= 2.

    Returns:
        (B,), float32 or the wider input type. A group of equal rewards gets exactly 0, whatever the value.

    Raises:
        TypeError: rewards that are not a floating-point tensor (a list with None, integers).
        ValueError: NaN or infinite rewards, K < 2, or K that does not divide B.

    Source: arXiv 2504.14177 (group mean as baseline); T10 for K = 1.

    >>> import torch
    >>> group_advantages(torch.tensor([1.0, 3.0, 0.1, 0.1]), num_generations=2).tolist()
    [-1.0, 1.0, 0.0, 0.0]
    """
    checks.per_sequence(rewards=rewards)
    finite_rewards(rewards)
    grouped = checks.at_least_float32(rewards).view(checks.groups(len(rewards), num_generations), num_generations)
    # The mean of K equal floats can differ from them by an ulp. The mean of K zeros is exactly 0.
    above_first = grouped - grouped[:, :1]  # (N, K)
    return (above_first - above_first.mean(dim=1, keepdim=True)).view(-1)  # (B,)


def normalize_advantages(advantages: Tensor, *, num_generations: int | None = None, eps: float = 1e-8) -> Tensor:
    """Advantages divided by their population standard deviation, `A_i / std(A)`: DAR's over the batch, GRPO's by group.

    The batch is everything passed in: gather over ranks and accumulation steps first. The mean is not taken off again:
    it is 0 after `group_advantages`. This divides by std(A), not by std(r): how much prompts differ in difficulty does
    not enter.

    Args:
        advantages: (B,), finite.
        num_generations: K >= 2 to divide each group of K by its own standard deviation; None divides all by that of the
            whole batch.
        eps: standard deviation at and below which all advantages count as equal, `>= 0`, in units of the reward.

    Returns:
        (B,), float32 or the wider input type; zeros where the standard deviation is at most `eps`, never inf.

    Raises:
        TypeError, ValueError: wrong types or shapes, or a wrong `eps`.

    Source: the paper's implementation notes, "intra-batch normalisation"; by group: GRPO, arXiv 2402.03300, whose paper
    does not say which standard deviation.

    >>> import torch
    >>> normalize_advantages(torch.tensor([-2.0, 2.0])).tolist(), normalize_advantages(torch.zeros(2)).tolist()
    ([-1.0, 1.0], [0.0, 0.0])
    """
    checks.per_sequence(advantages=advantages)
    eps = scalars.non_negative("eps", eps, single=True)
    advantages = checks.at_least_float32(advantages)
    if num_generations is not None:
        grouped = advantages.view(checks.groups(len(advantages), num_generations), num_generations)
        return _by_std(grouped, eps).view(-1)
    return _by_std(advantages, eps)


def _by_std(advantages: Tensor, eps: float) -> Tensor:
    """Each row of (..., A) divided by its standard deviation, 0 where that is at most `eps`."""
    # Divided by a power of two first, which rounds nothing: the square of a large advantage would be infinite.
    exponent = torch.frexp(advantages.abs().amax(dim=-1, keepdim=True)).exponent
    scaled = torch.ldexp(advantages, -exponent)
    std = scaled.std(dim=-1, correction=0, keepdim=True)
    equal = torch.ldexp(std, exponent) <= eps  # False for NaN, which stays
    return torch.where(equal, 0.0, scaled / torch.where(equal, 1.0, std))


def finite_rewards(rewards: Tensor) -> None:
    """Raise ValueError for the first reward (B,) that is NaN or infinite, or so large that a sum of them would be: one
    of them would spoil the whole batch."""
    wide = checks.at_least_float32(rewards)
    good = wide.abs() <= torch.finfo(wide.dtype).max / (4 * len(rewards))  # False for NaN
    if not good.all():
        index = int((~good).nonzero()[0])
        raise ValueError(
            f"rewards[{index}] = {rewards[index].item()}: every reward must be finite, and sums of them too;"
            " fix the reward function or drop that completion's group"
        )
