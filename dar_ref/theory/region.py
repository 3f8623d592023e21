"""The two KL balls of the paper's conflict, exactly: when they meet (T6), and the best policy where they do (T7).

    region(e0, et) = {KL(pi‖pi_0) <= e0} ∩ {KL(pi‖pi_t) <= et},     C(alpha) = sum_S pi_0^alpha pi_t^(1-alpha)

T6: it is non-empty iff `alpha e0 + (1-alpha) et + log C(alpha) >= 0` for every alpha in [0, 1]; the alpha with the
lowest value is the certificate. `S` is the common support and the end points are limits: `C(1) = pi_0(S)`, not 1.
T7: where a constraint binds, the maximiser of E_pi[A] is a DAR policy `pi ∝ pi_0^alpha pi_t^(1-alpha) exp(A/beta)` on
`S`, `alpha = l0/(l0+lt)` and `beta = l0+lt` from the multipliers: (alpha, beta) sweep the hard-constrained frontier.

The paper draws the region; the two statements are ours. `constrained.py` says how T7 is computed.

An infinite radius drops its constraint, support included. A margin within `TOUCH_ULP` ulp of its terms is rounding and
counts as touching: then the region has a diameter of about 1e-7, and which policy in it is best has no digits left.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dar_ref.theory import checks
from dar_ref.theory.checks import Array
from dar_ref.theory.constrained import Balls, log_overlap, weighted
from dar_ref.theory.divergence import lowest_log_c
from dar_ref.theory.dual_kl import interpolate, log_mixture, log_normalize

TOUCH_ULP = 16
"""A margin within `TOUCH_ULP * 2^-52 * (size of its terms)` of 0 is returned as 0: the balls touch."""


class Feasibility(NamedTuple):
    """`nonempty`, `alpha` (the certificate, in [0, 1]) and `margin` (nats), each (...); nonempty iff margin >= 0."""

    nonempty: NDArray[np.bool_]
    alpha: Array
    margin: Array


class ConstrainedOptimum(NamedTuple):
    """`log_pi` (A,): the best policy of the region; `alpha`, `beta`: its DAR parameters; `value`: E_pi[A]."""

    log_pi: Array
    alpha: float
    beta: float
    value: float


def feasible(log_pi_0: ArrayLike, log_pi_t: ArrayLike, eps_0: float, eps_t: float) -> Feasibility:
    """Whether some policy has `KL(pi‖pi_0) <= eps_0` and `KL(pi‖pi_t) <= eps_t`, with the alpha that decides it.

        margin = min over alpha in [0, 1] of alpha eps_0 + (1-alpha) eps_t + log sum_S pi_0^alpha pi_t^(1-alpha)

    A negative margin proves emptiness: by T1 every policy has `alpha KL_0 + (1-alpha) KL_t >= -log C`. A positive one
    is what both radii can lose before the balls part; the last point they share is the interpolated policy at `alpha`.

    Args:
        log_pi_0: initial policy (..., A), log-probabilities.
        log_pi_t: current policy (..., A), log-probabilities.
        eps_0: radius of the ball around `pi_0`, in nats, in [0, inf].
        eps_t: radius of the ball around `pi_t`, in nats, in [0, inf].

    Returns:
        `Feasibility(nonempty, alpha, margin)`, each (...). Margins within `TOUCH_ULP` ulp of zero are 0. Where every
        alpha attains the margin (identical policies at equal radii) alpha is 1/2. No common support: False, 1/2, -inf.
        An infinite radius leaves the other ball, which holds its own centre: the margin is its radius, alpha its end
        point (1 for the ball of `pi_0`, 0 for that of `pi_t`); both infinite: 1/2 and inf.

    Raises:
        TypeError, ValueError: input that is no policy, or a radius that is negative or NaN.

    Source: T6; the feasible region of the paper's conflict.

    >>> import numpy as np
    >>> log_pi_0, log_pi_t = np.log([0.7, 0.2, 0.1]), np.log([0.1, 0.2, 0.7])
    >>> nonempty, alpha, margin = feasible(log_pi_0, log_pi_t, 0.3, 0.3)
    >>> bool(nonempty), round(float(alpha), 9), round(float(margin), 9)
    (False, 0.5, -0.015875447)
    """
    log_pi_0, log_pi_t = checks.arrays(log_pi_0=log_pi_0, log_pi_t=log_pi_t)
    eps_0, eps_t = checks.non_negative("eps_0", eps_0), checks.non_negative("eps_t", eps_t)
    if np.isinf(eps_0) or np.isinf(eps_t):
        shape = np.broadcast_shapes(log_pi_0.shape, log_pi_t.shape)[:-1]
        end = 0.5 if eps_0 == eps_t else float(np.isinf(eps_t))
        return Feasibility(np.ones(shape, bool), np.full(shape, end), np.full(shape, min(eps_0, eps_t)))
    alpha, margin = _margin(log_pi_0, log_pi_t, (log_pi_0 > -np.inf) & (log_pi_t > -np.inf), eps_0, eps_t)
    return Feasibility(margin >= 0.0, alpha, margin)


def matched_radius(log_pi_0: ArrayLike, log_pi_t: ArrayLike, alpha: float, eps_0: float, eps_t: float) -> Array:
    """Radius `alpha eps_0 + (1-alpha) eps_t + log C` of the ball around `pi_ref` that belongs to DAR at these budgets.

    By T1, `KL(pi‖pi_ref) <= radius` iff `alpha KL(pi‖pi_0) + (1-alpha) KL(pi‖pi_t) <= alpha eps_0 + (1-alpha) eps_t`.
    So the ball contains the feasible region. It can be empty as well: a negative radius proves the region empty.

    Args:
        log_pi_0: initial policy (..., A), log-probabilities.
        log_pi_t: current policy (..., A), log-probabilities.
        alpha: weight of `pi_0`, in [0, 1].
        eps_0: radius of the ball around `pi_0`, in nats, in [0, inf].
        eps_t: radius of the ball around `pi_t`, in nats, in [0, inf].

    Returns:
        Radius (...), in nats; negative where the ball is empty. `C = 1` at alpha 0 and 1, as in `interpolate`.

    Raises:
        TypeError, ValueError: bad input, or 0 < alpha < 1 and anchors without a common arm (there is no `pi_ref`).

    Source: T7.

    >>> import numpy as np
    >>> log_pi_0, log_pi_t = np.log([0.8, 0.2]), np.log([0.2, 0.8])
    >>> bool(np.isclose(matched_radius(log_pi_0, log_pi_t, 0.5, 0.3, 0.5), 0.4 + np.log(0.8)))
    True
    """
    eps_0, eps_t = checks.non_negative("eps_0", eps_0), checks.non_negative("eps_t", eps_t)
    _, log_c = interpolate(log_pi_0, log_pi_t, alpha)
    return np.asarray(log_c + weighted(alpha, eps_0, eps_t))


def constrained_optimum(
    advantage: ArrayLike, log_pi_0: ArrayLike, log_pi_t: ArrayLike, eps_0: float, eps_t: float
) -> ConstrainedOptimum:
    """The maximiser of E_pi[A] under `KL(pi‖pi_0) <= eps_0` and `KL(pi‖pi_t) <= eps_t`, as a DAR policy.

        dual: minimise beta (alpha eps_0 + (1-alpha) eps_t + log sum_S pi_0^alpha pi_t^(1-alpha) exp(A/beta))
        over alpha in [0, 1] and beta >= 0

    One bandit at a time: the cases below are decided for each alone, so leading axes are refused.

    Args:
        advantage: A (A,), finite.
        log_pi_0: initial policy (A,), log-probabilities.
        log_pi_t: current policy (A,), log-probabilities.
        eps_0: radius of the ball around `pi_0`, in nats, in [0, inf].
        eps_t: radius of the ball around `pi_t`, in nats, in [0, inf].

    Returns:
        `ConstrainedOptimum(log_pi, alpha, beta, value)`. Both constraints bind: 0 < alpha < 1; only that of `pi_0`:
        alpha 1; only that of `pi_t`: alpha 0. The balls touch (margin 0): beta inf, alpha the certificate, `pi_ref` on
        `S`. A maximiser of A over `S` lies inside (constant A included): beta 0, alpha nan, and of these maximisers the
        one whose smaller slack is largest, which is `pi_ref` on the best arms at their own certificate. Both radii
        infinite: beta 0, alpha nan, uniform over the best of all arms.

    Raises:
        TypeError, ValueError: bad input, leading axes, or an empty region (the message carries the certificate).

    Source: T7.

    >>> import numpy as np
    >>> log_pi_0, log_pi_t = np.log([0.7, 0.2, 0.1]), np.log([0.1, 0.2, 0.7])
    >>> best = constrained_optimum(np.array([0.0, 1.0, 0.0]), log_pi_0, log_pi_t, 0.4, 0.4)
    >>> round(best.alpha, 9), round(best.value, 6), round(float(np.exp(best.log_pi[0])), 6)
    (0.5, 0.467136, 0.266432)
    """
    advantage, log_pi_0, log_pi_t = single(advantage=advantage, log_pi_0=log_pi_0, log_pi_t=log_pi_t)
    eps_0, eps_t = checks.non_negative("eps_0", eps_0), checks.non_negative("eps_t", eps_t)
    if eps_0 == eps_t == np.inf:
        best = advantage == advantage.max()
        return _outcome(advantage, best, np.zeros(best.sum()), np.nan, 0.0)
    alone = None if np.isfinite(eps_0 + eps_t) else float(np.isinf(eps_t))
    if alone is not None:  # one ball is left: give it twice, and hold alpha at its end
        log_pi_0 = log_pi_t = log_pi_0 if alone else log_pi_t
        eps_0 = eps_t = min(eps_0, eps_t)
    kept = (log_pi_0 > -np.inf) & (log_pi_t > -np.inf)
    alpha, margin = (float(x) for x in _margin(log_pi_0, log_pi_t, kept, eps_0, eps_t))
    if margin < 0.0:
        _refuse_empty(alpha, margin)
    if margin == 0.0:
        alpha = alpha if alone is None else alone
        return _outcome(advantage, kept, log_mixture(log_pi_0[kept], log_pi_t[kept], alpha), alpha, np.inf)
    best = kept & (advantage == advantage[kept].max())
    inner_alpha, inner_margin = (float(x) for x in _margin(log_pi_0, log_pi_t, best, eps_0, eps_t))
    if inner_margin >= 0.0:
        return _outcome(advantage, best, log_mixture(log_pi_0[best], log_pi_t[best], inner_alpha), np.nan, 0.0)
    half_gap = 0.5 * advantage[kept] - 0.5 * advantage[kept].max()  # halves: the difference itself may overflow
    half_range = -float(half_gap.min())
    balls = Balls(log_pi_0, log_pi_t, kept, half_gap / half_range, eps_0, eps_t, margin)
    alpha, tau = balls.solve(alpha, inner_alpha) if alone is None else (alone, balls.tilt(alone, 0.0))
    logits = log_mixture(log_pi_0[kept], log_pi_t[kept], alpha) + tau * balls.gain
    return _outcome(advantage, kept, logits, alpha, half_range / (0.5 * tau))


def single(**named: ArrayLike) -> list[Array]:
    """Return the named inputs as `checks.arrays` does, and refuse leading axes: one bandit, arrays of shape (A,)."""
    checked = checks.arrays(**named)
    for name, array in zip(named, checked, strict=True):
        if array.ndim > 1:
            raise ValueError(f"{name} has shape {array.shape}: one bandit (A,) at a time; loop over the leading axes")
    return checked


def _margin(log_p: Array, log_q: Array, kept: NDArray[np.bool_], eps_0: float, eps_t: float) -> tuple[Array, Array]:
    """Certificate alpha and margin (...) for policies that live on the arms `kept` (..., A); finite radii."""
    on_p, on_q = np.where(kept, log_p, -np.inf), np.where(kept, log_q, -np.inf)
    _, alpha = lowest_log_c(on_p, on_q, np.asarray(eps_0 - eps_t))
    log_c, size = log_overlap(log_p, log_q, kept, alpha)
    budget = alpha * eps_0 + (1.0 - alpha) * eps_t
    margin = budget + log_c
    touching = np.abs(margin) <= TOUCH_ULP * np.finfo(float).eps * (budget + size)
    return alpha, np.where(touching, 0.0, margin)


def _outcome(advantage: Array, kept: NDArray[np.bool_], logits: Array, alpha: float, beta: float) -> ConstrainedOptimum:
    log_pi = np.full(advantage.shape, -np.inf)
    log_pi[kept] = log_normalize(logits)[0]
    return ConstrainedOptimum(log_pi, alpha, beta, float(np.exp(log_pi) @ advantage))


def _refuse_empty(alpha: float, margin: float) -> None:
    if margin == -np.inf:
        raise ValueError(
            f"the region is empty: log_pi_0 and log_pi_t have no arm in common (certificate: alpha = {alpha!r},"
            f" margin = {margin!r}); give both policies some common support or make one radius infinite"
        )
    raise ValueError(
        f"the region is empty: certificate alpha = {alpha!r}, where alpha eps_0 + (1-alpha) eps_t + log C, its margin ="
        f" {margin!r}, is below 0; raise both radii by {-margin!r}, where the balls touch, or more"
    )
