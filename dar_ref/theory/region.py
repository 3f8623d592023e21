"""When the two KL balls of the paper's conflict meet, exactly (T6).

    region(e0, et) = {KL(pi‖pi_0) <= e0} ∩ {KL(pi‖pi_t) <= et},     C(alpha) = sum_S pi_0^alpha pi_t^(1-alpha)

The region is non-empty iff `alpha e0 + (1-alpha) et + log C(alpha) >= 0` for every alpha in [0, 1]. The alpha with the
lowest value is the certificate. `S` is the common support, and the end points are limits: `C(1) = pi_0(S)`, not 1. The
paper draws the region; the statement is ours. `constrained` finds the best policy in it (T7).

An infinite radius drops its constraint, and the support condition with it. A margin within `TOUCH_ULP` ulp of its terms
counts as touching. The region then has a diameter of about 1e-7, and float64 cannot tell its policies apart.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dar_ref.theory import checks
from dar_ref.theory.checks import EPS, Array
from dar_ref.theory.divergence import log_sum_exp
from dar_ref.theory.dual_kl import interpolate
from dar_ref.theory.lowest import lowest_log_c

TOUCH_ULP = 16
"""A margin within `TOUCH_ULP * 2^-52 * (size of its terms)` of 0 is returned as 0: the balls touch."""


class Feasibility(NamedTuple):
    """`nonempty`, `alpha` (the certificate, in [0, 1]) and `margin` (nats), each (...); nonempty iff margin >= 0."""

    nonempty: NDArray[np.bool_]
    alpha: Array
    margin: Array


def feasible(log_pi_0: ArrayLike, log_pi_t: ArrayLike, eps_0: float, eps_t: float) -> Feasibility:
    """Decide whether some policy has `KL(pi‖pi_0) <= eps_0` and `KL(pi‖pi_t) <= eps_t`.

        margin = min over alpha in [0, 1] of alpha eps_0 + (1-alpha) eps_t + log sum_S pi_0^alpha pi_t^(1-alpha)

    A negative margin proves that the region is empty: by T1 every policy has `alpha KL_0 + (1-alpha) KL_t >= -log C`.
    A positive margin is the amount that both radii can lose before the balls separate. The last policy that they share
    is the interpolated policy at `alpha`.

    Args:
        log_pi_0: initial policy (..., A), log-probabilities.
        log_pi_t: current policy (..., A), log-probabilities.
        eps_0: radius of the ball around `pi_0`, in nats, in [0, inf].
        eps_t: radius of the ball around `pi_t`, in nats, in [0, inf].

    Returns:
        `Feasibility(nonempty, alpha, margin)`, each (...). Margins within `TOUCH_ULP` ulp of zero are 0. Special cases:
        identical policies at equal radii: alpha is 1/2 (every alpha attains the margin);
        no common support: False, 1/2, -inf;
        one infinite radius: the margin is the finite radius, alpha is 1 if that is `eps_0` and 0 if it is `eps_t`;
        both radii infinite: True, 1/2, inf.

    Raises:
        TypeError, ValueError: input that is not a policy, or a radius that is negative or NaN.

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
        end = 0.5 if eps_0 == eps_t else float(np.isinf(eps_t))  # all weight on the ball of finite radius
        return Feasibility(np.ones(shape, bool)[()], np.full(shape, end)[()], np.full(shape, min(eps_0, eps_t))[()])
    alpha, margin = lowest_margin(log_pi_0, log_pi_t, (log_pi_0 > -np.inf) & (log_pi_t > -np.inf), eps_0, eps_t)
    return Feasibility(margin >= 0.0, alpha[()], margin[()])  # of one bandit numbers, as other functions take them


def matched_radius(log_pi_0: ArrayLike, log_pi_t: ArrayLike, alpha: float, eps_0: float, eps_t: float) -> Array:
    """Radius `alpha eps_0 + (1-alpha) eps_t + log C` of DAR's ball around `pi_ref` for the budgets `eps_0`, `eps_t`.

    By T1, `KL(pi‖pi_ref) <= radius` iff `alpha KL(pi‖pi_0) + (1-alpha) KL(pi‖pi_t) <= alpha eps_0 + (1-alpha) eps_t`.
    So the ball contains the feasible region. A negative radius means an empty ball, and proves the region empty.

    Args:
        log_pi_0: initial policy (..., A), log-probabilities.
        log_pi_t: current policy (..., A), log-probabilities.
        alpha: weight of `pi_0`, in [0, 1].
        eps_0: radius of the ball around `pi_0`, in nats, in [0, inf].
        eps_t: radius of the ball around `pi_t`, in nats, in [0, inf].

    Returns:
        Radius (...), in nats. `C = 1` at alpha 0 and 1, as in `interpolate`.

    Raises:
        TypeError, ValueError: bad input, or anchors without a common arm at 0 < alpha < 1 (`pi_ref` does not exist).

    Source: T7.

    >>> import numpy as np
    >>> log_pi_0, log_pi_t = np.log([0.8, 0.2]), np.log([0.2, 0.8])
    >>> bool(np.isclose(matched_radius(log_pi_0, log_pi_t, 0.5, 0.3, 0.5), 0.4 + np.log(0.8)))
    True
    """
    eps_0, eps_t = checks.non_negative("eps_0", eps_0), checks.non_negative("eps_t", eps_t)
    _, log_c = interpolate(log_pi_0, log_pi_t, alpha)
    radius: Array = log_c + weighted(alpha, eps_0, eps_t)
    return radius


def lowest_margin(
    log_p: Array, log_q: Array, kept: NDArray[np.bool_], eps_0: float, eps_t: float
) -> tuple[Array, Array]:
    """Certificate alpha and margin, each (...), for policies on the arms `kept` (..., A) and finite radii."""
    on_p, on_q = (log_p, log_q) if kept.all() else (np.where(kept, x, -np.inf) for x in (log_p, log_q))  # (..., A)
    lowest, alpha = lowest_log_c(on_p, on_q, np.asarray(eps_0 - eps_t))  # (...)
    margin, budget = np.asarray(lowest + eps_t), np.asarray(alpha * eps_0 + (1.0 - alpha) * eps_t)
    # These digits are all there are, except where the balls may touch, at end points, and for equal policies (1/2).
    # The size in `log_overlap` is at most 1 + (entropy of the interpolated policy - log C) / min(alpha, 1-alpha).
    inner = np.minimum(alpha, 1.0 - alpha)
    with np.errstate(divide="ignore", invalid="ignore"):
        size = budget + 1.0 + (np.log(log_p.shape[-1]) + budget - margin) / inner
    hard = (inner == 0.0) | (alpha == 0.5) | (np.abs(margin) <= 2.0 * TOUCH_ULP * EPS * size)
    if hard.any():
        p, q, arms = (np.broadcast_to(x, (*hard.shape, x.shape[-1]))[hard] for x in (log_p, log_q, kept))
        log_c, size = log_overlap(p, q, arms, alpha[hard])
        exact = budget[hard] + log_c
        margin[hard] = np.where(np.abs(exact) <= TOUCH_ULP * EPS * (budget[hard] + size), 0.0, exact)
    return alpha, margin


def weighted(alpha: float, eps_0: float, eps_t: float) -> float:
    """`alpha eps_0 + (1-alpha) eps_t` with `0 * inf = 0`."""
    return (alpha * eps_0 if alpha > 0.0 else 0.0) + ((1.0 - alpha) * eps_t if alpha < 1.0 else 0.0)


def log_overlap(log_p: Array, log_q: Array, kept: NDArray[np.bool_], alpha: Array) -> tuple[Array, Array]:
    """log of the sum of `p^alpha q^(1-alpha)` over the arms `kept`, and the scale of its rounding error, each (...).

    At the end points, and for equal policies, the sum is one policy's mass on `kept`. It is computed as 1 minus the
    rest. So it is exactly 1 for a policy that loses no arm, and small radii around one anchor keep all their digits.
    """
    with np.errstate(invalid="ignore"):  # 0 * -inf outside `kept`
        logits = np.where(kept, alpha[..., None] * log_p + (1.0 - alpha)[..., None] * log_q, -np.inf)  # (..., A)
    equal = (np.where(kept, log_p, 0.0) == np.where(kept, log_q, 0.0)).all(axis=-1)
    log_c = log_sum_exp(logits)  # (..., A) -> (...)
    some = np.isfinite(log_c)  # rows with a common arm
    ref = np.exp(logits - np.where(some, log_c, 0.0)[..., None])  # (..., A)
    size = 1.0 + (ref * np.where(kept, np.abs(log_p) + np.abs(log_q), 0.0)).sum(axis=-1)
    for log_anchor, at_end in ((log_q, (alpha == 0.0) | equal), (log_p, alpha == 1.0)):
        lost = np.where(kept, 0.0, np.exp(log_anchor)).sum(axis=-1)
        exact = at_end & (lost <= 0.5)  # 1 - lost is accurate only for a small loss
        log_mass = np.log1p(-np.where(exact, lost, 0.0))
        log_c, size = np.where(exact, log_mass, log_c), np.where(exact, -log_mass, size)
    return np.where(some, log_c, -np.inf), np.where(some, size, 1.0)
