"""Other trust regions in place of `KL(pi‖pi_t) <= et` (T9): PPO's box and the forward ball.

    stability = "kl"          KL(pi‖pi_t) <= et                    the paper's second constraint
    stability = "ppo_box"     |pi/pi_t - 1| <= et for every arm    the region that PPO's clip stands for; no new arms
    stability = "forward_kl"  KL(pi_t‖pi) <= et                    the stability term as in prior work

Each region is convex and is intersected with `KL(pi‖pi_0) <= e0`. PPO's policy may leave its box: the clip only stops
the gradient outside. `closest` gives the smallest e0 of a non-empty intersection, `best_reward` the best E_pi[A] in it.

All three use one projection: the policy of the trust region that minimises KL(pi‖base). With base = pi_0 it decides
emptiness. With `base ∝ pi_0 exp(tau A)` it is the best policy at the multiplier 1/tau of the first constraint.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import wrightomega

from dar_ref import scalars
from dar_ref.theory import checks
from dar_ref.theory.checks import EPS, Array
from dar_ref.theory.constrained import constrained_optimum
from dar_ref.theory.divergence import expected_log_ratio, log_sum_exp
from dar_ref.theory.dual_kl import log_mixture, log_normalize
from dar_ref.theory.region import feasible
from dar_ref.theory.roots import crossing

Stability = Literal["kl", "ppo_box", "forward_kl"]

INFINITE_TILT = 1e18
"""Tilt of A (scaled to a range of 1) that counts as infinite: it loses less than 1e-15 of the range."""


class Closest(NamedTuple):
    """`log_pi` (A,): the policy of the trust region closest to `pi_0` (nan if none); `divergence`: KL(pi‖pi_0)."""

    log_pi: Array
    divergence: float


class BestReward(NamedTuple):
    """`log_pi` (A,): a best policy; `value`: its E_pi[A]. Both are nan if the region is empty."""

    log_pi: Array
    value: float


def closest(log_pi_0: ArrayLike, log_pi_t: ArrayLike, eps_t: float, *, stability: Stability) -> Closest:
    """The policy of the trust region around `pi_t` that minimises KL(pi‖pi_0).

    `divergence` is the smallest radius `eps_0` at which some policy satisfies both constraints.

    Args:
        log_pi_0: initial policy (A,), log-probabilities.
        log_pi_t: current policy (A,), log-probabilities.
        eps_t: size of the trust region, in [0, inf]; nats, for the box a relative change of the probability.
        stability: "kl", "ppo_box" or "forward_kl", see the module.

    Returns:
        `Closest(log_pi, divergence)`; nan and inf where every policy of the trust region has infinite KL to `pi_0`.

    Raises:
        TypeError, ValueError: bad input, leading axes, or another `stability`.

    Source: T9.

    >>> import numpy as np
    >>> log_pi_0, log_pi_t = np.log([0.7, 0.2, 0.1]), np.log([0.1, 0.2, 0.7])
    >>> np.exp(closest(log_pi_0, log_pi_t, 0.2, stability="ppo_box").log_pi).round(12).tolist()
    [0.12, 0.24, 0.64]
    """
    log_pi_0, log_pi_t = checks.single(log_pi_0=log_pi_0, log_pi_t=log_pi_t)
    scalars.choice("stability", stability, get_args(Stability))
    log_pi = _project(log_pi_0, log_pi_t, checks.non_negative("eps_t", eps_t), stability)
    if log_pi is None:
        return Closest(np.full(log_pi_0.shape, np.nan), np.inf)
    return Closest(log_pi, float(expected_log_ratio(log_pi, log_pi_0)))


def best_reward(
    advantage: ArrayLike,
    log_pi_0: ArrayLike,
    log_pi_t: ArrayLike,
    eps_0: float,
    eps_t: float,
    *,
    stability: Stability,
) -> BestReward:
    """The largest E_pi[A] under `KL(pi‖pi_0) <= eps_0` and the trust region around `pi_t`.

    Unlike `constrained_optimum` it returns nan for an empty region, so a sweep over shrinking regions can be drawn.

    Args:
        advantage: A (A,), finite.
        log_pi_0: initial policy (A,), log-probabilities.
        log_pi_t: current policy (A,), log-probabilities.
        eps_0: radius of the ball around `pi_0`, in nats, in [0, inf].
        eps_t: size of the trust region, in [0, inf]; nats, for the box a relative change of the probability.
        stability: "kl", "ppo_box" or "forward_kl", see the module.

    Returns:
        `BestReward(log_pi, value)`. Of several best: the limit of the tilted ones, for "kl" `constrained_optimum`'s.

    Raises:
        TypeError, ValueError: bad input, leading axes, or another `stability`.

    Source: T9.

    >>> import numpy as np
    >>> log_pi_0, log_pi_t = np.log([0.7, 0.2, 0.1]), np.log([0.1, 0.2, 0.7])
    >>> best = best_reward(np.array([1.0, 0.0, 0.0]), log_pi_0, log_pi_t, 2.0, 0.2, stability="ppo_box")
    >>> round(best.value, 12)
    0.12
    """
    advantage, log_pi_0, log_pi_t = checks.single(advantage=advantage, log_pi_0=log_pi_0, log_pi_t=log_pi_t)
    eps_0, eps_t = checks.non_negative("eps_0", eps_0), checks.non_negative("eps_t", eps_t)
    scalars.choice("stability", stability, get_args(Stability))
    empty = BestReward(np.full(advantage.shape, np.nan), np.nan)
    if stability == "kl" or eps_t == np.inf:
        if not feasible(log_pi_0, log_pi_t, eps_0, eps_t).nonempty:
            return empty
        inside = constrained_optimum(advantage, log_pi_0, log_pi_t, eps_0, eps_t)
        return BestReward(inside.log_pi, inside.value)
    if eps_0 == np.inf:  # pi_0 plays no role, so any base of full support works
        log_pi_0 = np.full(advantage.shape, -np.log(advantage.size))
    top = _marginal(advantage, log_pi_0, log_pi_t, eps_t) if stability == "ppo_box" else advantage.max()
    half_gap = 0.5 * advantage - 0.5 * top
    gain = half_gap / max(np.abs(half_gap).max(), np.finfo(float).tiny)

    def tilted(log_tau: float) -> tuple[Array | None, float]:
        log_pi = _project(log_pi_0 + np.exp(log_tau) * gain, log_pi_t, eps_t, stability)
        return log_pi, np.inf if log_pi is None else float(expected_log_ratio(log_pi, log_pi_0)) - eps_0

    log_pi, excess = tilted(-np.inf)
    if log_pi is None or excess > 16 * EPS * (1.0 + eps_0):
        return empty
    log_best = _most_tilted(tilted)
    log_pi = log_pi if log_best is None else log_best
    return BestReward(log_pi, float(np.exp(log_pi) @ advantage))


def _most_tilted(tilted: Callable[[float], tuple[Array | None, float]]) -> Array | None:
    """The policy at the largest tilt that leaves no excess. `tilted` maps log tau to a policy and its excess."""
    last = float(np.log(INFINITE_TILT))
    log_best, excess = tilted(last)
    if excess > 0.0:
        log_best, _ = tilted(crossing(lambda log_tau: tilted(log_tau)[1], -last, 0.0, last))
    return log_best


def _project(log_base: Array, log_q: Array, eps: float, stability: Stability) -> Array | None:
    """The policy of the trust region around q with the smallest KL(pi‖base); None if KL is infinite for all of them.

    `log_base` need not be normalised.
    """
    allowed = log_base > -np.inf
    if eps == 0.0 and stability != "kl":
        return None if (~allowed & (log_q > -np.inf)).any() else log_q.copy()
    log_pi = np.full(log_base.shape, -np.inf)
    if eps == np.inf:
        solved: Array | None = log_normalize(log_base[allowed])[0]
    elif stability == "kl":
        allowed &= log_q > -np.inf
        solved = _project_ball(log_base[allowed], log_q[allowed], eps)
    elif stability == "ppo_box":
        lost = bool((log_q[~allowed] > -np.inf).any())
        solved = None if lost and eps < 1.0 else _project_box(log_base[allowed], log_q[allowed], eps)
    else:
        lost = bool((log_q[~allowed] > -np.inf).any())
        solved = None if lost else _project_forward(log_base[allowed], log_q[allowed], eps)
    if solved is None:
        return None
    log_pi[allowed] = solved
    return log_pi


def _project_ball(log_base: Array, log_q: Array, eps: float) -> Array | None:
    """Into KL(pi‖q) <= eps: the policy `base^s q^(1-s)` on the sphere, or base itself."""

    def policy(share: float) -> Array:
        return log_normalize(log_mixture(log_base, log_q, share))[0]

    def excess(share: float) -> float:
        return float(expected_log_ratio(policy(share), log_q)) - eps

    if not log_q.size or excess(0.0) > 16 * EPS * (1.0 + eps):
        return None
    if excess(1.0) <= 0.0:
        return policy(1.0)
    return policy(crossing(excess, 0.0, 0.5, 1.0))


def _project_box(log_base: Array, log_q: Array, eps: float) -> Array | None:
    """Into |pi/q - 1| <= eps: `clip(scale base, low, high)`, with the scale that makes it sum to 1.

    The sum is piecewise linear in the scale with known corners, so no iteration is needed.
    """
    with np.errstate(divide="ignore"):  # the lower bound is 0 for eps >= 1
        log_low, log_high = log_q + np.log(max(1.0 - eps, 0.0)), log_q + np.log1p(eps)
    if np.exp(log_high).sum() < 1.0 - 16 * EPS:
        return None
    corners = np.concatenate([log_low - log_base, log_high - log_base])
    corners = np.sort(corners[corners > -np.inf])

    def total(log_scale: Array) -> Array:
        return np.exp(np.clip(log_base + log_scale[:, None], log_low, log_high)).sum(axis=-1)

    at = int(np.searchsorted(total(corners), 1.0))
    scales = [corners[max(at - 1, 0)], corners[min(at, len(corners) - 1)]]
    middle = log_base + (0.5 * (scales[0] + scales[1]) if at else scales[1] - 1.0)
    free = (middle > log_low) & (middle < log_high)
    left = 1.0 - np.exp(np.where(middle <= log_low, log_low, log_high)[~free]).sum()
    if free.any() and left > 0.0:
        scales.append(np.log(left) - float(log_sum_exp(log_base[free])))
    log_scale = scales[int(np.abs(total(np.array(scales)) - 1.0).argmin())]  # rounding may leave every arm at a bound
    return log_normalize(np.clip(log_base + log_scale, log_low, log_high))[0]


def _project_forward(log_base: Array, log_q: Array, eps: float) -> Array:
    """Into KL(q‖pi) <= eps. Stationarity is `pi (log(pi/base) + nu) = c q`, solved arm by arm with Wright's omega.

    `c` is the multiplier of the constraint, `nu` that of the normalisation. KL(q‖pi) falls as c grows.
    """
    log_base, _ = log_normalize(log_base)

    nu = 0.0

    def policy(log_c: float) -> Array:
        nonlocal nu  # the last value is a good start for the next
        for _ in range(100):  # the log of the sum is convex and falls in nu: Newton from the left never overshoots
            omega = wrightomega(log_c + log_q - log_base + nu)
            with np.errstate(divide="ignore", invalid="ignore"):
                log_pi = np.where(omega > 1.0, log_c + log_q - np.log(omega), log_base + omega - nu)
            normal, log_total = log_normalize(log_pi)
            step = float(log_total) / float(np.exp(normal) @ (1.0 / (1.0 + omega)))
            nu += step
            if abs(step) <= 4e-16 * (1.0 + abs(nu)):
                break
        return normal

    def excess(log_c: float) -> float:
        return np.log(max(float(expected_log_ratio(log_q, policy(log_c))), 1e-300)) - np.log(eps)

    if expected_log_ratio(log_q, log_base) <= eps:
        return log_base
    finite = log_base[log_q > -np.inf]
    return policy(crossing(excess, -1000.0, float(np.log1p(np.ptp(finite))), 100.0))


def _marginal(advantage: Array, log_p: Array, log_q: Array, eps: float) -> float:
    """The advantage of the arm at which a greedy filling of the box ends: better arms are full, worse arms empty.

    Tilts are relative to this advantage, since arms strictly inside the box have it. Huge tilts then lose no digits.
    """
    low, high = max(1.0 - eps, 0.0) * np.exp(log_q), (1.0 + eps) * np.exp(log_q)
    order = np.argsort(-advantage, kind="stable")
    room = np.where(log_p > -np.inf, high - low, 0.0)[order].cumsum()
    return float(advantage[order[min(int(np.searchsorted(room, 1.0 - low.sum())), len(order) - 1)]])
