"""From per-token log-probs to one log-prob per sequence, and from sequences to the mean of a batch.

DAR weights whole completions, so their log-probs are summed over the tokens, never averaged, in float32 or better.
Shapes: `B = N*K` completions, `T` tokens; mask 1 = keep.
"""

import torch
from torch import Tensor

from dar_ref.losses import checks


def sequence_logps(per_token_logps: Tensor, completion_mask: Tensor) -> Tensor:
    """Sum of the kept tokens' log-probs: `logp_i = sum_t mask_it logp_it`.

    Args:
        per_token_logps: (B, T), any floating type.
        completion_mask: (B, T), bool or 0/1, 1 = keep. Make it from lengths, not from `!= pad_id`: pad may equal EOS.

    Returns:
        (B,), float32 or the wider input type. Masked entries, NaN and inf included, change neither the value nor the
        gradient.

    Raises:
        TypeError, ValueError: wrong types or shapes.

    Source: arXiv 2602.11523, the practical loss: log-probs are summed over the completion.

    >>> import torch
    >>> sequence_logps(torch.tensor([[-1.0, -2.0, float("nan")]]), torch.tensor([[1, 1, 0]])).tolist()
    [-3.0]
    """
    checks.per_token(completion_mask, per_token_logps=per_token_logps)
    return masked_sum(checks.at_least_float32(per_token_logps), completion_mask)


def masked_sum(per_token: Tensor, completion_mask: Tensor) -> Tensor:
    """Sum over the kept tokens, (B, T) -> (B,). Masked values are replaced, not multiplied by 0: 0 * NaN is NaN."""
    return torch.where(completion_mask.bool(), per_token, 0.0).sum(dim=-1)


def counted(sample_weight: Tensor | None, *per_sequence: Tensor) -> tuple[Tensor, ...]:
    """The tensors (B,) with 0 in place of every sequence of weight 0: replaced, so that NaN reaches no gradient either.

    Raises:
        TypeError, ValueError: `sample_weight` is not a floating-point tensor (B,).
    """
    if sample_weight is None:
        return per_sequence
    checks.per_sequence(logps=per_sequence[0], sample_weight=sample_weight)
    return tuple(torch.where(sample_weight != 0.0, x, 0.0) for x in per_sequence)


def sequence_mean(per_sequence: Tensor, sample_weight: Tensor | None) -> Tensor:
    """Mean over sequences, (B,) to a scalar: `sum_i s_i x_i / sum_i s_i`; plain without weights, 0 if all are 0."""
    if sample_weight is None:
        return per_sequence.mean()
    sample_weight = checks.at_least_float32(sample_weight)
    total = sample_weight.sum()
    return (sample_weight * per_sequence).sum() / torch.where(total == 0.0, 1.0, total)
