"""T6 as a statement to verify: when the two balls meet.

The float64 results are tested by their optimality conditions: slopes, excesses and duality gaps are computed in ball
arithmetic from the returned numbers. All scales follow one rule. A logit has an error of one ulp of each of its terms,
in total `W` for each arm. So the mean under `pi` of a quantity with deviations `dev` has an error of `E_pi[dev W]`.
"""

from typing import NamedTuple

import numpy as np
from flint import arb

from dar_ref import theory
from dar_ref.theory.checks import Array
from dar_ref.theory.dual_kl import log_normalize
from dar_ref.verify.arb import policies, region
from dar_ref.verify.arb.policies import Policy
from dar_ref.verify.arb.region import Anchors, Meeting
from dar_ref.verify.random_bandits import random_alpha, random_policy
from dar_ref.verify.statement import JUDGE_BITS, LIMIT, Error, Statement, distance, residual, shortfall

TOUCHING = 3.0
"""Additional units of LIMIT where balls count as touching: `TOUCH_ULP` = 16 ulp are two units."""
NOTHING = 1e-50
"""Scale of exact float64 results: above the radii of the balls at JUDGE_BITS, below any rounding error."""


class Balls(NamedTuple):
    """A competitor, both anchors (A,) and the radii of the balls around the anchors."""

    log_pi: Array
    log_pi_0: Array
    log_pi_t: Array
    eps_0: float
    eps_t: float


def draw_balls(rng: np.random.Generator) -> Balls:
    """Draw anchors, one pair in twenty without a common arm, and radii: any, equal, or such that a drawn alpha decides.

    In the last two cases the balls overlap, or miss each other, by 0 or by 1e-17 to 100 nats.
    """
    arms = int(rng.integers(1, 9))
    kept = int(rng.integers(arms))
    apart = rng.random() < 0.05 and arms > 1
    log_pi, log_pi_0, log_pi_t = (random_policy(rng, arms, kept) for _ in range(3))
    if apart:
        split = rng.permutation(arms) < rng.integers(1, arms)
        log_pi_0, log_pi_t = (log_normalize(np.where(side, 0.0, -np.inf))[0] for side in (split, ~split))
    radii = [0.0 if rng.random() < 0.1 else 10.0 ** rng.uniform(-6.0, 3.0) for _ in range(2)]
    kind, margin = rng.integers(3), float(rng.choice([0.0, -1.0, 1.0, 1.0])) * 10.0 ** rng.uniform(-17.0, 2.0)
    if kind == 1 and not apart:
        radii = [max(float(theory.chernoff(log_pi_0, log_pi_t).information) + margin, 0.0)] * 2
    if kind == 2 and not apart:
        shared = (log_pi_0 > -np.inf) & (log_pi_t > -np.inf)
        p, q, alpha = log_pi_0[shared], log_pi_t[shared], random_alpha(rng)
        ref = np.exp(log_normalize(alpha * p + (1.0 - alpha) * q)[0])
        log_ref = np.log(ref, where=ref > 0.0, out=np.zeros_like(ref))
        radii = [max(float(ref @ (log_ref - anchor)) + margin, 0.0) for anchor in (p, q)]
    return Balls(log_pi, log_pi_0, log_pi_t, *radii)


def _anchors(case: Balls) -> tuple[Anchors, Policy]:
    """The anchors on their common support S, and the competitor given S (`pi_t` given S if it has no mass there)."""
    log_pi, log_p, log_q = (policies.exact_policy(log_p) for log_p in case[:3])
    shared = region.common(log_p, log_q)
    inside = [log_pi[arm] for arm in shared]
    if all(p is None for p in inside):
        inside = [log_q[arm] for arm in shared]
    x = Anchors([log_p[arm] for arm in shared], [log_q[arm] for arm in shared], arb(case.eps_0), arb(case.eps_t))
    return x, policies.normalize(inside)[0] if inside else []


def errors_t6(case: Balls) -> list[Error]:
    """Scale of the margin: `alpha e0 + (1-alpha) et + E_ref[W]` with `W = 1 + |log pi_0| + |log pi_t|`; three times
    that where the margin is returned as 0. The Chernoff information has the same scale.

    If the minimum is at an end point that keeps at least half of its anchor's mass, `log C` is accurate to its own
    digits: `|log C|` replaces `E_ref[W]`. alpha is tested by the slope `e0 - et + E_ref[ratio]`, `ratio = log
    pi_0/pi_t`, which must vanish or point outwards. Its scale is `|e0 - et| + E_ref[(1 + |ratio - mean|) W]` plus, for
    an ulp of alpha, `Var_ref[ratio]`.
    """
    ours = theory.feasible(case.log_pi_0, case.log_pi_t, case.eps_0, case.eps_t)
    equal = theory.chernoff(case.log_pi_0, case.log_pi_t) if case.eps_0 == case.eps_t else None
    bits, x, true = _meeting(case)
    with policies.precision(bits):
        if true is None:
            right = not ours.nonempty and ours.alpha == 0.5 and ours.margin == -np.inf
            return [Error(float(not right or (equal is not None and equal.information < np.inf)), 0.0)]
        scale, digits, slope = errors_of_alpha(x, float(ours.alpha))
        if true.alpha == float(ours.alpha):
            scale = digits
        scale *= TOUCHING if ours.margin == 0.0 else 1.0
        clear = abs(float(true.margin)) > LIMIT * scale
        errors = [
            slope,
            Error(distance(ours.margin, true.margin), scale),
            Error(float(clear and bool(ours.nonempty) != bool(true.margin > 0)), 0.0),
        ]
        if equal is not None:
            scale, _, slope = errors_of_alpha(x, float(equal.alpha))
            errors += [slope, Error(distance(equal.information, x.eps_0 - true.margin), scale)]
        return errors


def _meeting(case: Balls) -> tuple[int, Anchors, Meeting | None]:
    """Where the balls meet, to 50 digits, and the bits that this needs (the curve may be as flat as exp(-1000))."""
    bits = JUDGE_BITS
    while True:
        with policies.precision(bits):
            x, _ = _anchors(case)
            found = region.meeting(x) if x.log_p else None
        if found is None or found.margin.rad() < NOTHING:
            return bits, x, found
        bits *= 2


def errors_of_alpha(x: Anchors, alpha: float) -> tuple[float, float, Error]:
    """Scale of the margin at alpha, scale of a minimum at an end point, and the slope with its scale."""
    at = arb(alpha)
    first, second = region.slope(x, at)
    log_ref, log_c = policies.normalize(policies.mixture(x.log_p, x.log_q, at))
    ref, p, q = np.exp(floats(log_ref)), floats(x.log_p), floats(x.log_q)
    terms, ratio = 1.0 + np.abs(p) + np.abs(q), p - q
    budget = float(at * x.eps_0 + (1 - at) * x.eps_t)
    scale, kept = budget + float(ref @ terms), -float(log_c)
    digits = max(budget + abs(kept), NOTHING) if alpha in (0.0, 1.0) and kept < np.log(2.0) else scale
    moved = float(ref @ ((1.0 + np.abs(ratio - ref @ ratio)) * terms)) + float(second)
    outward = {0.0: (-first).max(arb(0)), 1.0: first.max(arb(0))}.get(alpha, abs(first))
    return scale, digits, Error(float(outward), abs(float(x.eps_0 - x.eps_t)) + moved)


def floats(log_p: Policy) -> Array:
    return np.array([-np.inf if p is None else float(p) for p in log_p])


def residuals_t6(case: Balls) -> list[arb]:
    """At the lowest alpha the interpolated policy has `KL_0 - e0 = KL_t - et = -margin` (at an end point the other one
    is not larger), so it is inside if the margin is not negative. Every policy on S has `alpha (KL_0 - e0) + (1-alpha)
    (KL_t - et) = KL(pi‖pi_ref) - margin`, so one of its excesses is at least `-margin`. No alpha has a lower margin.
    """
    x, log_pi = _anchors(case)
    if not x.log_p:
        log_pi, *anchors = (policies.exact_policy(log_p) for log_p in case[:3])
        over_0, over_t = (policies.kl(log_pi, anchor) for anchor in anchors)
        return [residual(over_0.max(over_t), policies.INF)]
    alpha, margin, log_ref = region.meeting(x)
    over_0, over_t = policies.kl(log_ref, x.log_p) - x.eps_0, policies.kl(log_ref, x.log_q) - x.eps_t
    balls = [shortfall(-margin, over_0) if alpha == 0 else over_0 + margin]
    balls.append(shortfall(-margin, over_t) if alpha == 1 else over_t + margin)
    over_0, over_t = policies.kl(log_pi, x.log_p) - x.eps_0, policies.kl(log_pi, x.log_q) - x.eps_t
    balls.append(alpha * over_0 + (1 - alpha) * over_t - (policies.kl(log_pi, log_ref) - margin))
    balls.append(shortfall(over_0.max(over_t), -margin))
    return balls + [shortfall(region.ball(x, other)[1], margin) for other in (arb(1) / 3, (1 + alpha) / 2)]


STATEMENTS = (Statement("T6", "balls meet iff min radius >= 0", draw_balls, errors_t6, residuals_t6),)
