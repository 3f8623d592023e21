"""Which sequences an update can do without: the smallest weights, up to a share of the sum of all.

    left out: a set S of the smallest weights with sum_S w <= tolerance * sum w

What that certifies. The gradient of DAR's loss is -(1/B) sum_i w_i g_i, g_i = grad log pi_theta(y_i). Without S it is
*the exact gradient of a batch whose weights differ by at most `tolerance` of their sum*: |w' - w|_1 <= tolerance |w|_1.
In the gradient itself the error is at most

    (1/B) |sum_S w_i g_i| <= tolerance * mean(w) * max_S |g_i|,

relative to mean(w) times the largest |g_i| left out. It is **not** a bound relative to the norm of the gradient: the
terms of a gradient may cancel (on samples of pi_theta their mean is 0 where weights are equal), and a row that is left
out may have the largest |g_i| of all. For the logits, before any network, |g_i| is known: at most sqrt(2 T_i) for T_i
tokens, since one token's is (1_y - p) / temperature, whose norm is below sqrt(2) / temperature.

A bound of the weight without pi_0: log pi_0(y) <= 0, so w <= min(exp(A / beta - alpha log pi_t(y)), w_clip), which is
`dar_weights` at `ref_logps` 0. The sum of such bounds may take the place of the weights of the rows in S.
"""

import torch
from torch import Tensor

from dar_ref import scalars
from dar_ref.losses import checks


def negligible(weights: Tensor, tolerance: float, *, total: float | None = None) -> Tensor:
    """The largest set of the smallest weights whose sum is at most `tolerance` times the sum of all.

    Args:
        weights: (B,), `>= 0`, or upper bounds of weights; inf and NaN are never left out.
        tolerance: in [0, 1]; 0 leaves out none, also none of weight 0.
        total: what `tolerance` is a share of; None for the sum of `weights`. Of an infinite one nothing is left out.

    Returns:
        (B,) bool, True for what may be left out. Among equal weights the first ones.

    Raises:
        TypeError, ValueError: wrong types, shapes or options.

    >>> import torch
    >>> negligible(torch.tensor([1e-4, 5.0, 0.0, 5.0, 4e-3]), tolerance=1e-3).tolist()
    [True, False, True, False, True]
    """
    checks.per_sequence(weights=weights)
    tolerance = scalars.fraction("tolerance", tolerance, single=True)
    if tolerance == 0.0:
        return torch.zeros_like(weights, dtype=torch.bool)
    wide = weights.detach().double().nan_to_num(nan=torch.inf, posinf=torch.inf)
    ordered, order = wide.sort(stable=True)
    limit = tolerance * (ordered.sum() if total is None else torch.as_tensor(total, dtype=torch.float64))
    out = (ordered.cumsum(dim=0) <= limit) & limit.isfinite()
    return torch.zeros_like(out).scatter(0, order, out)
