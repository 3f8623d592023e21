"""Length-controlled win rate: what the win rate would be if both completions had the same length.

A logistic regression of the outcome on a constant and the length difference, read off at difference zero:

    P(win_i) = sigmoid(c + s x_i),   x_i = tanh(d_i / std(d)),   d_i = length_i - reference length_i
    (c, s) minimises  sum_i -[y_i log P_i + (1 - y_i) log(1 - P_i)] + ridge/2 s^2,   result: sigmoid(c)

Deviations from AlpacaEval 2: no term for the prompt's difficulty, which needs their prompt set, and no pull towards
gamed baselines; a fixed ridge on the slope instead of a cross-validated L1 penalty; the population standard deviation.
The difference is scaled and not centred, as there: zero stays zero.

What can go wrong, and what happens then. Separable data (every longer completion wins): without a ridge the slope is
infinite; with it the optimum exists and is unique, and for equal labels (all won) the answer is the limit, 1. Equal
lengths: the answer is the raw win rate, exactly, since the constant is not penalised. No prompt with a difference of
zero or of both signs: the answer is an extrapolation and marked as such; when all differences are equal, nothing tells
length from quality and the ridge gives all to quality (raw win rate again).

It corrects for a judge's taste for length only as far as the model holds: one slope for all prompts, no effect of
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
SMALLEST_SHARE = 1e-300  # a mean outcome below it counts as 0: the curvature would leave float64


class LengthControlled(NamedTuple):
    """Length-controlled win rate and the fit behind it.

    rate: sigmoid(constant), in [0, 1]; raw: mean of the outcomes; constant: c, log-odds of a win at equal length, +-inf
    where all outcomes are 1 or 0; slope: s, log-odds per unit of x, above 0 where length wins; length_std: std(d), in
    units of the lengths; extrapolated: no prompt at a difference of zero and none on one of its sides.
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
        lengths: (N,), of the policy's completions, >= 0, in tokens or characters.
        reference_lengths: (N,), of the reference's completions, same unit.
        ridge: weight of `slope^2 / 2` against the summed log-loss, > 0; a Gaussian prior on the slope of standard
            deviation `1/sqrt(ridge)`. It fades as prompts are added.

    Returns:
        `LengthControlled(rate, raw, constant, slope, length_std, extrapolated)`.

    Raises:
        TypeError: values that are not real numbers.
        ValueError: different lengths, empty, NaN, an outcome outside [0, 1], a negative length, `ridge <= 0`.
        RuntimeError: the iteration did not settle; seen only with `ridge` below 1e-6.

    Source: Dubois et al., arXiv 2404.04475, equation 2 without its terms for the instruction.

    Three of the four longer completions win and one of the two equally long; the ridge keeps a little of the rest:

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
    x = np.tanh(difference / std) if std > 0.0 else np.zeros_like(difference)  # equal ones say nothing about length
    constant, slope = _fit(y, x, ridge)
    return LengthControlled(
        rate=float(expit(constant)),
        raw=float(y.mean()),
        constant=constant,
        slope=slope,
        length_std=std,
        extrapolated=bool((difference > 0.0).all() or (difference < 0.0).all()),
    )


def _fit(y: Array, x: Array, ridge: float) -> tuple[float, float]:
    """Minimise the penalised log-loss by Newton steps of length `t = log(1 + r)/r`, `r` the largest change of a logit.

    That length needs no line search and descends from any start, because |sigmoid''| <= sigmoid' (Sun and Tran-Dinh,
    arXiv 1703.04599, generalised self-concordance of order 2); it tends to 1 at the optimum.
    """
    share = float(y.mean())
    if not SMALLEST_SHARE < share < 1.0:  # all lost or all won: the limit
        return (math.inf if share > 0.5 else -math.inf), 0.0
    constant, slope = float(logit(share)), 0.0
    for _ in range(MAX_STEPS):
        logits = constant + slope * x
        p, q = expit(logits), expit(-logits)
        residual = y * q - (1.0 - y) * p  # y - p, without its cancellation near 0 and 1
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
