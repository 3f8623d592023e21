"""DAR applied again and again: iterates, fixed point and coverage (T5, T11).

    pi_{t+1} = pi*(pi_t) ∝ pi_0^alpha pi_t^(1-alpha) exp(A/beta),      pi_inf ∝ pi_0 exp(A/(alpha beta))

With A fixed, `log pi_{t+1} - log pi_inf = (1-alpha) (log pi_t - log pi_inf)` up to the normaliser. So alpha = 1 reaches
`pi_inf` in one step. At alpha = 0 the iteration never stops: mass moves to arg max A within supp pi_t. For alpha < 1 a
lost arm never returns, and the limit is `pi_inf` conditioned on the support of the start.

With the clip, `pi_{t+1} ∝ pi_t min(w, w_clip)`, where `w = Z (pi_inf/pi_t)^alpha` and
`Z = (sum pi_0 exp(A/(alpha beta)))^alpha`:
- `Z <= w_clip`: `pi_inf` is a fixed point, and every start with its support converges to it. While an arm is clipped,
  the range (max - min) of `log pi_t - log pi_inf` falls by at least `log(w_clip/Z)` per step. Afterwards it shrinks by
  the factor `1-alpha` per step.
- `Z > w_clip`: every policy `<= w_clip^(-1/alpha) pi_0 exp(A/(alpha beta))` has all its weights at the clip. So it is a
  fixed point. Every path from a start with the support of `pi_0` converges to one of these, and the start decides to
  which.
- A centred under pi_t: `E_{pi_t}[log w] = -alpha KL(pi_t‖pi_0) <= 0` at every step. So `log Z` is
  `-alpha KL(pi_inf‖pi_0)`, and the arm with the largest `pi_t/pi_inf` has a weight of at most 1. While an arm is
  clipped, the range falls by at least `log w_clip` per step, and at a clip of 1 it still falls: a clip >= 1 changes the
  path and not the limit.

Deviation: the paper also divides A by its std over the batch. That changes A, and with it the limit, at every step: see
`dar_ref.theory.normalization`.

Rounding errors, with `eps = 2^-52`: one step adds `8 eps (max|A|/beta + max|log p|)` to log-probabilities, and the next
step keeps `1-alpha` of that. So after t steps the error is within `8 eps min(t, 1/alpha) (max|A|/beta + max|log p|)`,
with `max|log p|` over the path. Rows stay normalised to a few ulp. Tested against 60 digits, with finite entries only.
"""

from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from dar_ref import scalars
from dar_ref.theory import checks
from dar_ref.theory.checks import LARGEST_TILT, Array
from dar_ref.theory.divergence import expected_log_ratio, log_sum_exp
from dar_ref.theory.dual_kl import interpolate, log_normalize, optimum
from dar_ref.theory.regression import regression_target

Normalize = Literal["center", "standardize", "standardize_batch"]


def iterate(
    advantage: ArrayLike,
    log_pi_0: ArrayLike,
    alpha: float,
    beta: float,
    steps: int,
    log_pi_t: ArrayLike | None = None,
    *,
    w_clip: float | None = None,
    normalize: Normalize | None = None,
) -> Array:
    """The path `pi_{t+1} = pi*(pi_t) ∝ pi_0^alpha pi_t^(1-alpha) exp(A/beta)` of exact DAR updates.

    Args:
        advantage: A (..., A), finite.
        log_pi_0: initial policy (..., A), log-probabilities.
        alpha: weight of `pi_0`, in [0, 1].
        beta: strength of the regulariser, `> 0`, in units of the advantage per nat.
        steps: number of updates, `>= 0`.
        log_pi_t: start (..., A), log-probabilities; None starts at `pi_0`.
        w_clip: upper bound of the regression weight, `> 0`; None or inf for no bound. With a number each step is
            `regression_target`, so a lost arm stays lost at alpha = 1 too.
        normalize: A at each step. None: as given. `"center"`: minus its mean under pi_t, row by row; without a clip
            this changes nothing. `"standardize"`: centred, then divided by its std under pi_t, row by row.
            `"standardize_batch"`: centred row by row, then divided by one std over all leading axes (uniform over rows:
            a batch of prompts, as in the practical loss). Where the std is 0, A is 0. A/(beta std) is cut at 1e300.

    Returns:
        log pi_0 ... log pi_steps of the path, (steps+1, ..., A); the first row is the start.

    Raises:
        TypeError, ValueError: bad input, anchors without a common arm at 0 < alpha < 1, or `A/beta` beyond float64.

    Source: T5; the practical loss for `w_clip` and `normalize`.

    >>> import numpy as np
    >>> path = iterate(np.log([2.0, 1.0]), np.log([0.5, 0.5]), alpha=0.5, beta=1.0, steps=3)
    >>> np.exp(path[:, 0] - path[:, 1]).round(6).tolist()  # odds: exponents 0, 1, 3/2, 7/4 of 2, towards 2
    [1.0, 2.0, 2.828427, 3.363586]
    """
    start = log_pi_0 if log_pi_t is None else log_pi_t
    advantage, log_pi_0, start = checks.arrays(advantage=advantage, log_pi_0=log_pi_0, log_pi_t=start)
    alpha, beta, steps = checks.alpha(alpha), checks.positive("beta", beta), scalars.integer("steps", steps, 0)
    if w_clip is not None:
        w_clip = scalars.positive("w_clip", w_clip, or_infinite=True)
    if normalize is not None:
        scalars.choice("normalize", normalize, get_args(Normalize))
        checks.span(advantage=advantage)
    path = np.empty((steps + 1, *np.broadcast_shapes(advantage.shape, log_pi_0.shape, start.shape)))
    path[0] = start
    for now, following in pairwise(path):
        renewed = advantage if normalize is None else _renewed(advantage, now, beta, normalize)
        if w_clip is None:
            following[...] = optimum(renewed, log_pi_0, now, alpha, beta).log_pi
        else:
            following[...] = regression_target(renewed, log_pi_0, now, alpha, beta, w_clip)
    return path


def fixed_point(advantage: ArrayLike, log_pi_0: ArrayLike, alpha: float, beta: float) -> Array:
    """The fixed point `pi_inf ∝ pi_0 exp(A/(alpha beta))` of the updates with A fixed.

    It maximises `E_pi[A] - alpha beta KL(pi‖pi_0)`: the stability term slows the path and does not change the limit.
    At alpha = 0 the call is refused unless A is constant on supp pi_0: there is no fixed point of full support. For
    constant A every policy is fixed, and `pi_0` is returned.

    Args:
        advantage: A (..., A), finite.
        log_pi_0: initial policy (..., A), log-probabilities.
        alpha: weight of `pi_0`, in [0, 1].
        beta: strength of the regulariser, `> 0`, in units of the advantage per nat.

    Returns:
        log pi_inf (..., A), within `8 eps (max|A|/(alpha beta) + max|log p|)`.

    Raises:
        TypeError, ValueError: bad input, alpha = 0 with A not constant, or `A/(alpha beta)` beyond float64.

    Source: T5.

    >>> import numpy as np
    >>> np.exp(fixed_point(np.array([0.5, 0.0]), np.log([0.5, 0.5]), alpha=0.5, beta=1.0)).round(6).tolist()
    [0.731059, 0.268941]
    """
    advantage, log_pi_0 = checks.arrays(advantage=advantage, log_pi_0=log_pi_0)
    alpha, beta = checks.alpha(alpha), checks.positive("beta", beta)
    if alpha == 0.0:
        return _fixed_without_anchor(advantage, log_pi_0)
    return log_normalize(log_pi_0 + _over_alpha_beta(advantage, alpha, beta))[0]


def log_fixed_weight(advantage: ArrayLike, log_pi_0: ArrayLike, alpha: float, beta: float) -> Array:
    """`log Z = alpha log sum pi_0 exp(A/(alpha beta))`: the log weight that every arm has at `pi_inf`.

    A clip below Z changes the end, a clip above Z only the path. At alpha = 0 it is `max A / beta` over supp pi_0.

    Args:
        advantage: A (..., A), finite.
        log_pi_0: initial policy (..., A), log-probabilities.
        alpha: weight of `pi_0`, in [0, 1].
        beta: strength of the regulariser, `> 0`, in units of the advantage per nat.

    Returns:
        log Z (...); compare it with `log w_clip`.

    Raises:
        TypeError, ValueError: bad input, or `A/(alpha beta)` beyond float64.

    Source: T5, the clip.

    >>> import numpy as np
    >>> log_z = log_fixed_weight(np.log([4.0, 2.0]), np.log([0.5, 0.5]), alpha=1.0, beta=1.0)
    >>> round(float(np.exp(log_z)), 12)
    3.0
    """
    advantage, log_pi_0 = checks.arrays(advantage=advantage, log_pi_0=log_pi_0)
    alpha, beta = checks.alpha(alpha), checks.positive("beta", beta)
    if alpha == 0.0:
        return np.where(log_pi_0 > -np.inf, checks.over_beta(advantage, beta), -np.inf).max(axis=-1)
    return alpha * log_normalize(log_pi_0 + _over_alpha_beta(advantage, alpha, beta))[1]


def coverage(
    advantage: ArrayLike,
    log_pi_0: ArrayLike,
    alpha: float,
    beta: float,
    steps: int,
    log_pi_t: ArrayLike | None = None,
) -> Array:
    """Distance from the limit to the moving reference: `KL(pi_inf‖pi_ref,t)`, `pi_ref,t ∝ pi_0^alpha pi_t^(1-alpha)`.

        log pi_ref,t - log pi_inf = (alpha + (1-alpha)^(t+1)) (log pi_0 - log pi_inf)   from pi_0, up to the normaliser

    So from `pi_0` the KL falls at every step, to its value at the factor alpha and not to 0; at alpha 1, and for a
    constant A, it stays. From another start it may rise.

    Args:
        advantage: A (..., A), finite.
        log_pi_0: initial policy (..., A), log-probabilities.
        alpha: weight of `pi_0`, in [0, 1].
        beta: strength of the regulariser, `> 0`, in units of the advantage per nat.
        steps: number of updates, `>= 0`.
        log_pi_t: start (..., A), log-probabilities; None starts at `pi_0`.

    Returns:
        KL (steps+1, ...), in nats; `+inf` where the reference has lost an arm of `pi_inf`.

    Raises:
        TypeError, ValueError: as `iterate` and `fixed_point`.

    Source: T11; the paper's "dynamic reference" with better support coverage.

    >>> import numpy as np
    >>> kl = coverage(np.array([1.0, 0.0]), np.log([0.5, 0.5]), alpha=0.5, beta=1.0, steps=3)
    >>> kl.round(4).tolist()
    [0.3278, 0.1683, 0.1109, 0.0874]
    """
    log_pi_inf = fixed_point(advantage, log_pi_0, alpha, beta)
    path = iterate(advantage, log_pi_0, alpha, beta, steps, log_pi_t)
    return expected_log_ratio(log_pi_inf, interpolate(log_pi_0, path, alpha).log_pi_ref)


def centred(advantage: Array, log_pi: Array) -> Array:
    """`A - E_pi[A]` (..., A). The likeliest arm is subtracted first, which avoids cancellation near a corner."""
    values, log_pi = np.broadcast_arrays(advantage, log_pi)
    offset = values - np.take_along_axis(values, log_pi.argmax(axis=-1, keepdims=True), axis=-1)
    return offset - (np.exp(log_pi) * offset).sum(axis=-1, keepdims=True)


def log_variance(deviation: Array, log_pi: Array) -> Array:
    """log E_pi[deviation^2] (...); `-inf` where the deviation is zero on supp pi. The variance may be e^-1000."""
    with np.errstate(divide="ignore"):
        return log_sum_exp(log_pi + 2.0 * np.log(np.abs(deviation)))


def _renewed(advantage: Array, log_pi: Array, beta: float, normalize: Normalize) -> Array:
    """The advantage (..., A) that the step from `log_pi` uses."""
    deviation = centred(advantage, log_pi)
    if normalize == "center":
        return deviation
    log_var = log_variance(deviation, log_pi)
    if normalize == "standardize_batch":
        log_var = log_sum_exp(log_var.ravel()) - np.log(log_var.size)
    log_std = 0.5 * log_var[..., None]
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):  # 0 / 0 is replaced and inf is cut below
        scaled = deviation / np.exp(log_std)
    # On a run to a corner A / std leaves float64 within a few steps; cut, no arm is lost and sums stay finite.
    largest = LARGEST_TILT * min(beta, 1.0)
    return np.clip(np.where((deviation == 0.0) | (log_std == -np.inf), 0.0, scaled), -largest, largest)


def _fixed_without_anchor(advantage: Array, log_pi_0: Array) -> Array:
    """Return `pi_0` if A is constant on its support; otherwise ValueError (alpha = 0, no fixed point)."""
    allowed = log_pi_0 > -np.inf
    highest = np.where(allowed, advantage, -np.inf).max(axis=-1)
    lowest = np.where(allowed, advantage, np.inf).min(axis=-1)
    if (highest > lowest).any():
        raise ValueError(
            "alpha = 0.0 has no fixed point of full support unless the advantage is constant on supp pi_0: without the"
            " pull towards pi_0 all mass runs to arg max A; pass alpha > 0, or follow the run with iterate"
        )
    return np.broadcast_arrays(log_pi_0, advantage)[0].copy()


def _over_alpha_beta(advantage: Array, alpha: float, beta: float) -> Array:
    with np.errstate(over="ignore"):
        quotient = advantage / beta / alpha
    if not checks.within_float64(quotient):
        raise ValueError(
            f"advantage / (alpha beta) overflows float64: max |advantage| = {np.abs(advantage).max()!r},"
            f" alpha = {alpha!r}, beta = {beta!r}; raise alpha or beta, or scale the advantage down"
        )
    return quotient
