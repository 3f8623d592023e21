"""Confidence intervals for the variation over seeds and prompts.

`bootstrap` resamples what varies: whole units (seeds, or prompts), or seeds and prompts. `student` and
`paired_difference` are for a handful of seeds, where the bootstrap is too narrow. `wilson` is for shares of independent
prompts; it holds also where all were won.

Coverage of a nominal 95 % interval for the mean of n Gaussian values (4,000 data sets; `student` is exact):

    n             3      5      10     20     50
    bootstrap     0.74   0.83   0.89   0.93   0.93

Shares and means are in the unit of the input; nothing is turned into percent here.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit

from dar_ref import scalars
from dar_ref.evaluation import checks
from dar_ref.evaluation.checks import Array

Resample = Literal["units", "crossed"]
BLOCK = 64  # resamples at once
ROUNDING = 1e-12  # relative to the estimate and to samples below 1: resamples that differ by less are the same


class Interval(NamedTuple):
    """`estimate` and the ends `low` <= `high`, all in one unit; `level`: nominal coverage, in (0, 1)."""

    estimate: float
    low: float
    high: float
    level: float


class NotAnInterval(NamedTuple):
    """`estimate`, without an interval, and the `reason`: data of one unit, or of equal values, do not show how they
    vary. That is no interval of width 0."""

    estimate: float
    reason: str
    level: float


def mean(values: ArrayLike) -> float:
    """The mean of all values, as a float: the default statistic of `bootstrap`."""
    return float(np.asarray(values, dtype=np.float64).mean())


def bootstrap(
    *samples: ArrayLike,
    statistic: Callable[..., float] = mean,
    resample: Resample = "units",
    level: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> Interval | NotAnInterval:
    """Percentile bootstrap interval: quantiles of the statistic over resampled data.

    The ends are the `(1 -+ level)/2` quantiles of `statistic(samples[drawn])`, where `drawn` is, by `resample`:

    - "units": the first axis, with replacement; the data of a unit stay together. For seeds (S,), prompts (P,), or
      seeds with their prompts (S, P).
    - "crossed": seeds, and one draw of prompts for all of them. For prompts shared by all seeds: there "units" leaves
      out that the same prompts were hard for every seed, and is too narrow.

    Args:
        samples: one array or several paired ones, finite, (S, ...) or (S, P, ...); all are drawn by the same indices.
        statistic: called with the arrays, returns a finite number: `mean`, or a function of paired arrays.
        resample: "units" or "crossed".
        level: nominal coverage, in (0, 1).
        resamples: number of resamples, >= 1; with 2,000 the simulation error of a 2.5 % tail is 0.35 % (one sigma).
        seed: at least 0; the same seed draws the same units for every method, which keeps methods comparable.

    Returns:
        `Interval(estimate, low, high, level)`; the estimate is the statistic of the original samples. `NotAnInterval`
        with one unit, or where the statistic is the same in every resample.

    Raises:
        TypeError, ValueError: bad input, shapes that differ in a resampled axis, an unknown `resample`, or a statistic
            that is not finite.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13; over seeds: arXiv 2108.13264.

    >>> low, high = bootstrap([1.0, 2.0, 3.0, 4.0])[1:3]
    >>> 1.0 <= low < 2.5 < high <= 4.0
    True
    >>> bootstrap([1.0, 1.0]).reason
    'the statistic is the same in each of 2000 resamples of 2 units'
    """
    if not samples:
        raise ValueError("no samples given: nothing to resample; pass at least one array")
    arrays = [checks.aligned(**{f"samples[{i}]": sample})[0] for i, sample in enumerate(samples)]
    shape = _resampled_shape(arrays, resample)
    level = checks.level(level)
    resamples, seed = scalars.integer("resamples", resamples, 1), scalars.integer("seed", seed, 0)
    rng = np.random.default_rng(seed)
    estimate = float(statistic(*arrays))
    drawn = _resampled(statistic, arrays, shape, resample, resamples, rng)
    if not (math.isfinite(estimate) and np.isfinite(drawn).all()):
        raise ValueError(
            f"statistic gave {estimate!r} on the samples, or a value that is not finite on a resample (which may repeat"
            " one unit only); pass a statistic that is finite on every resample"
        )
    unit = min(1.0, max(float(np.abs(array).max()) for array in arrays))
    if (reason := _no_spread(estimate, drawn, shape, unit)) is not None:
        return NotAnInterval(estimate, reason, level)
    low, high = np.quantile(drawn, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(estimate, float(low), float(high), level)


def _no_spread(estimate: float, drawn: Array, shape: tuple[int, ...], unit: float) -> str | None:
    """Why resamples (R,) of units of that shape say nothing of the spread; None if they do. Rounding is relative to
    the estimate and to `unit`, since an estimate near 0 may be a difference of larger numbers."""
    if math.prod(shape) == 1:
        return "one unit: nothing varies"
    if np.ptp(drawn) <= ROUNDING * (unit + abs(estimate)):
        return f"the statistic is the same in each of {len(drawn)} resamples of {' x '.join(map(str, shape))} units"
    return None


def student(values: ArrayLike, *, level: float = 0.95) -> Interval:
    """Mean with Student's t interval, `mean +- t_{n-1} std / sqrt(n)`, for few seeds.

    Exact for Gaussian values at every n; wider than the bootstrap at small n. Equal values give width zero at any n.

    Args:
        values: (n,), n >= 2, finite, one per seed.
        level: nominal coverage, in (0, 1).

    Returns:
        `Interval(estimate, low, high, level)`.

    Raises:
        TypeError, ValueError: bad input, see `checks.vectors`, or fewer than two values.

    Source: Student (1908).

    >>> [round(x, 3) for x in student([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484, 0.95]
    """
    (array,) = checks.vectors(values=values)
    level = checks.level(level)
    n = array.size
    if n < 2:
        raise ValueError("values has one entry: a spread needs at least two; run more seeds")
    above_first = array - array[0]  # makes the spread of equal values exactly 0
    half = float(stdtrit(n - 1, (1.0 + level) / 2.0) * above_first.std(ddof=1) / math.sqrt(n))
    estimate = float(array[0] + above_first.mean())
    return Interval(estimate, estimate - half, estimate + half, level)


def paired_difference(values: ArrayLike, baseline: ArrayLike, *, level: float = 0.95) -> Interval:
    """Mean difference of two methods over the seeds they share, with Student's t interval of the differences.

    The common effect of a seed on both methods cancels.

    Args:
        values: (S,) or (S, P), finite; prompts are averaged within a seed first.
        baseline: values of the other method, with the same seeds in the same order, same shape.
        level: nominal coverage, in (0, 1).

    Returns:
        `Interval(estimate, low, high, level)` of `values - baseline`.

    Raises:
        TypeError, ValueError: bad input, see `checks.aligned`, or fewer than two seeds.

    >>> paired_difference([3.0, 4.0, 6.0], [1.0, 2.0, 4.0])
    Interval(estimate=2.0, low=2.0, high=2.0, level=0.95)
    """
    ours, theirs = checks.aligned(values=values, baseline=baseline)
    return student((ours - theirs).reshape(len(ours), -1).mean(axis=1), level=level)


def wilson(successes: float, trials: int, *, level: float = 0.95) -> Interval:
    """Wilson's score interval of a share: all p with `|p_hat - p| <= z sqrt(p (1-p) / n)`.

    Args:
        successes: in [0, trials]. A win rate's `wins + ties/2` is allowed; the interval is then slightly too wide,
            since ties vary less than wins.
        trials: n >= 1, independent.
        level: nominal coverage, in (0, 1).

    Returns:
        `Interval(successes/trials, low, high, level)` within [0, 1]; `low` is 0 without successes, `high` is 1 without
        failures.

    Raises:
        TypeError, ValueError: bad input, or more successes than trials.

    Source: Wilson (1927), Journal of the American Statistical Association 22.

    >>> [round(x, 4) for x in wilson(0, 10)]
    [0.0, 0.0, 0.2775, 0.95]
    """
    successes, trials = scalars.non_negative("successes", successes), scalars.integer("trials", trials, 1)
    if successes > trials:
        raise ValueError(f"successes = {successes!r} exceeds trials = {trials}; pass at most one success per trial")
    z = float(ndtri((1.0 + checks.level(level)) / 2.0))
    low, failures_low = (_wilson_low(count / trials, trials, z) for count in (successes, trials - successes))
    return Interval(successes / trials, low, 1.0 - failures_low, level)


def _wilson_low(share: float, n: int, z: float) -> float:
    """Lower end, as the product of both roots divided by the upper root: exactly 0 at share 0, no cancellation."""
    return share**2 / (share + z * z / (2 * n) + z * math.sqrt(share * (1.0 - share) / n + (z / (2 * n)) ** 2))


def _resampled_shape(arrays: list[Array], resample: Resample) -> tuple[int, ...]:
    """Lengths of the axes that are drawn; ValueError where the samples differ in one or lack it."""
    scalars.choice("resample", resample, get_args(Resample))
    axes = 1 if resample == "units" else 2
    shapes = [array.shape for array in arrays]
    if any(len(shape) < axes or shape[:axes] != shapes[0][:axes] for shape in shapes):
        raise ValueError(
            f"samples have shapes {shapes}: resample = {resample!r} draws from the first {axes} of their axes;"
            " pass paired arrays with seeds first, then prompts"
        )
    return shapes[0][:axes]


def _resampled(
    statistic: Callable[..., float],
    arrays: Sequence[Array],
    shape: tuple[int, ...],
    resample: Resample,
    resamples: int,
    rng: np.random.Generator,
) -> Array:
    """The statistic of each resample; the mean of one vector for many at once, from the same draws."""
    drawn = np.empty(resamples)
    if statistic is mean and resample == "units" and len(arrays) == 1 and arrays[0].ndim == 1:
        for i in range(0, resamples, BLOCK):
            block = drawn[i : i + BLOCK]
            block[:] = arrays[0][rng.integers(shape[0], size=(block.size, *shape))].mean(axis=1)
        return drawn
    for i in range(resamples):
        index = _draw(rng, shape, resample)
        drawn[i] = statistic(*(array[index] for array in arrays))
    return drawn


def _draw(rng: np.random.Generator, shape: tuple[int, ...], resample: Resample) -> tuple[NDArray[np.intp], ...]:
    units = rng.integers(shape[0], size=shape[0])
    if resample == "units":
        return (units,)
    return units[:, None], rng.integers(shape[1], size=shape[1])[None, :]
