"""Length-controlled win rate: an estimate of the win rate at equal lengths of both completions.

It is a logistic regression of the outcome on a constant and the length difference, evaluated at difference zero:

    P(win_i) = sigmoid(c + s x_i),   x_i = tanh(d_i / std(d)),   d_i = length_i - reference length_i
    (c, s) minimises  sum_i -[y_i log P_i + (1 - y_i) log(1 - P_i)] + ridge/2 s^2,   result: sigmoid(c)

Deviations from AlpacaEval 2: no term for the prompt's difficulty, which needs their prompt set; no regularisation
against gamed baselines; a fixed ridge on the slope instead of a cross-validated L1 penalty; the population standard
deviation. As in AlpacaEval 2, the difference is scaled and not centred: zero stays zero.

Special cases:
- Separable data (every longer completion wins): the slope would be infinite; with the ridge the optimum exists and is
  unique. If all outcomes are 1 (or 0), the result is the limit, 1 (or 0).
- Equal lengths: the result is the raw win rate, since the constant is not penalised.
- No difference of zero, and all differences of one sign: the result is an extrapolation and is marked as such.
- All differences equal: the data cannot separate length from quality. The ridge assigns all to quality, so the result
  is again the raw win rate.

The correction for a judge's length bias is only as good as the model: one slope for all prompts, and no effect of
length on real quality.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from dar_ref import scalars
from dar_ref.evaluation import checks
from dar_ref.evaluation.checks import Array

MAX_STEPS = 500
TOLERANCE = 1e-12  # of the last step, relative to 1 + the largest logit
SMALLEST_SHARE = 1e-300  # a mean outcome below it counts as 0, since the curvature would underflow


class LengthControlled(NamedTuple):
    """Length-controlled win rate and the fit behind it.

    rate: sigmoid(constant), in [0, 1]; raw: mean of the outcomes; constant: c, log-odds of a win at equal length, +-inf
    if all outcomes are 1 or all are 0; slope: s, log-odds per unit of x, positive if longer completions win more;
    length_std: std(d), in units of the lengths; extrapolated: no difference is zero, and all have one sign.
    """

    rate: float
    raw: float
    constant: float
    slope: float
    length_std: float
    extrapolated: bool


def length_controlled_win_rate(
    outcomes: ArrayLike, lengths: ArrayLike, reference_lengths: ArrayLike, *, ridge: float = 0.01
) -> LengthControlled:
    """Win rate predicted at zero length difference, `sigmoid(c)`.

    Args:
        outcomes: (N,), of the policy against the reference, in [0, 1]: 1 win, 0.5 tie, 0 loss, or a judge's
            probability of a win.
        lengths: (N,), lengths of the policy's completions, >= 0, in tokens or characters.
        reference_lengths: (N,), lengths of the reference's completions, same unit.
        ridge: weight of `slope^2 / 2` against the summed log-loss, > 0. It is a Gaussian prior on the slope with
            standard deviation `1/sqrt(ridge)`; its effect fades with more prompts.

    Returns:
        `LengthControlled(rate, raw, constant, slope, length_std, extrapolated)`.

    Raises:
        TypeError: values that are not real numbers.
        ValueError: different lengths, empty, NaN, an outcome outside [0, 1], a negative length, `ridge <= 0`.
        RuntimeError: no convergence; seen only with `ridge` below 1e-6.

    Source: Dubois et al., arXiv 2404.04475, equation 2 without its terms for the instruction.

    Three of the four longer completions win, and one of the two equally long ones. The ridge keeps the rate above 0.5:

    >>> fit = length_controlled_win_rate([1, 1, 1, 0, 1, 0], [9, 9, 9, 9, 5, 5], [5, 5, 5, 5, 5, 5])
    >>> round(fit.raw, 2), round(fit.rate, 2)
    (0.67, 0.51)
    """
    y, lengths, reference_lengths = checks.vectors(
        outcomes=outcomes, lengths=lengths, reference_lengths=reference_lengths
    )
    checks.between("outcomes", y, 0.0, 1.0, "an outcome lies in [0, 1]; pass the policy's share of the win")
    for name, array in (("lengths", lengths), ("reference_lengths", reference_lengths)):
        checks.between(name, array, 0.0, np.inf, "a length is at least 0; count tokens or characters")
    ridge = scalars.positive("ridge", ridge)
    difference = lengths - reference_lengths
    std = float(difference.std())
    x = np.tanh(difference / std) if std > 0.0 else np.zeros_like(difference)  # equal differences: no length effect
    constant, slope = _fit(y, x, ridge)
    return LengthControlled(
        rate=float(expit(constant)) if x.any() else float(y.mean()),
        raw=float(y.mean()),
        constant=constant,
        slope=slope,
        length_std=std,
        extrapolated=bool((difference > 0.0).all() or (difference < 0.0).all()),
    )


def _fit(y: Array, x: Array, ridge: float) -> tuple[float, float]:
    """Minimise the penalised log-loss by Newton steps of length `t = log(1 + r)/r`, `r` the largest change of a logit.

    This length needs no line search and descends from any start, because |sigmoid''| <= sigmoid' (Sun and Tran-Dinh,
    arXiv 1703.04599, generalised self-concordance of order 2). It tends to 1 at the optimum.
    """
    share = float(y.mean())
    if not SMALLEST_SHARE < share < 1.0:  # all lost or all won: the limit of the fit
        return (math.inf if share > 0.5 else -math.inf), 0.0
    constant, slope = float(logit(share)), 0.0
    for _ in range(MAX_STEPS):
        logits = constant + slope * x
        p, q = expit(logits), expit(-logits)
        residual = y * q - (1.0 - y) * p  # y - p, without cancellation near 0 and 1
        curvature = p * q
        total = curvature.sum()
        centre = (curvature * x).sum() / total
        spread = (curvature * (x - centre) ** 2).sum() + ridge
        step_slope = float(((residual * (x - centre)).sum() - ridge * slope) / spread)
        step_constant = float(residual.sum() / total) - float(centre) * step_slope
        size = float(np.abs(step_constant + step_slope * x).max())
        length = math.log1p(size) / size if size > 0.0 else 1.0
        constant, slope = constant + length * step_constant, slope + length * step_slope
        if size <= TOLERANCE * (1.0 + float(np.abs(logits).max())):
            return constant, slope
    raise RuntimeError(f"no convergence in {MAX_STEPS} Newton steps, last step {size!r}; raise ridge = {ridge!r}")
