"""T6 and T7 as statements to verify: when the two balls meet, and the best policy where they do.

The float64 answers are judged by what makes them answers: slopes, excesses and duality gaps are computed in ball
arithmetic from the numbers that came back. The scales follow one rule: a logit carries an ulp of each of its terms,
which add up to `W` for each arm, and so a mean under `pi` of something that deviates by `dev` moves by `E_pi[dev W]`.
"""

from typing import NamedTuple

import numpy as np
from flint import arb

from dar_ref import theory
from dar_ref.theory import exact, exact_region
from dar_ref.theory.cases import Case, draw_alpha, draw_case, draw_policy
from dar_ref.theory.checks import Array
from dar_ref.theory.dual_kl import log_normalize
from dar_ref.theory.exact import Exact, Policy
from dar_ref.theory.exact_region import Anchors, Meeting
from dar_ref.theory.judging import JUDGE_BITS, LIMIT, Error, Statement, distance, policy_distance, residual, shortfall

TOUCHING = 3.0
"""Units of LIMIT that may be lost where balls count as touching: `TOUCH_ULP` = 16 ulp are two of them."""
NOTHING = 1e-50
"""Scale of what float64 gives exactly: above the radii of the balls at JUDGE_BITS, below any rounding error."""


class Balls(NamedTuple):
    """A competitor, both anchors (A,) and the radii of the balls around the anchors."""

    log_pi: Array
    log_pi_0: Array
    log_pi_t: Array
    eps_0: float
    eps_t: float


# -- T6 ----------------------------------------------------------------------------------------------------------------


def draw_balls(rng: np.random.Generator) -> Balls:
    """Draw anchors, one in twenty without a common arm, and radii: any, equal, or where a drawn alpha decides.

    Balls that are equal or decided by alpha overlap, or miss each other, by 1e-17 to 100 nats, or by nothing.
    """
    arms = int(rng.integers(1, 9))
    kept = int(rng.integers(arms))
    apart = rng.random() < 0.05 and arms > 1
    log_pi, log_pi_0, log_pi_t = (draw_policy(rng, arms, kept) for _ in range(3))
    if apart:
        split = rng.permutation(arms) < rng.integers(1, arms)
        log_pi_0, log_pi_t = (log_normalize(np.where(side, 0.0, -np.inf))[0] for side in (split, ~split))
    radii = [0.0 if rng.random() < 0.1 else 10.0 ** rng.uniform(-6.0, 3.0) for _ in range(2)]
    kind, margin = rng.integers(3), float(rng.choice([0.0, -1.0, 1.0, 1.0])) * 10.0 ** rng.uniform(-17.0, 2.0)
    if kind == 1 and not apart:
        radii = [max(float(theory.chernoff(log_pi_0, log_pi_t).information) + margin, 0.0)] * 2
    if kind == 2 and not apart:
        shared = (log_pi_0 > -np.inf) & (log_pi_t > -np.inf)
        p, q, alpha = log_pi_0[shared], log_pi_t[shared], draw_alpha(rng)
        ref = np.exp(log_normalize(alpha * p + (1.0 - alpha) * q)[0])
        log_ref = np.log(ref, where=ref > 0.0, out=np.zeros_like(ref))
        radii = [max(float(ref @ (log_ref - anchor)) + margin, 0.0) for anchor in (p, q)]
    return Balls(log_pi, log_pi_0, log_pi_t, *radii)


def _anchors(case: Balls) -> tuple[Anchors, Policy]:
    """The anchors on their common support S, and the competitor given S (if it has no mass there, `pi_t` given S)."""
    log_pi, log_p, log_q = (exact.exact_policy(log_p) for log_p in case[:3])
    shared = exact_region.common(log_p, log_q)
    inside = [log_pi[arm] for arm in shared]
    if all(p is None for p in inside):
        inside = [log_q[arm] for arm in shared]
    x = Anchors([log_p[arm] for arm in shared], [log_q[arm] for arm in shared], arb(case.eps_0), arb(case.eps_t))
    return x, exact.normalize(inside)[0] if inside else []


def errors_t6(case: Balls) -> list[Error]:
    """Margin: `alpha e0 + (1-alpha) et + E_ref[W]` with `W = 1 + |log pi_0| + |log pi_t|`; three times that where it
    comes back as 0. The Chernoff information: likewise.

    If the minimum is at an end point that keeps half of its anchor or more, the margin has log C by its own digits:
    `|log C|` in the place of `E_ref[W]`. alpha: the slope there, `e0 - et + E_ref[ratio]` with `ratio = log pi_0/pi_t`,
    which is to vanish or point outwards, within `|e0 - et| + E_ref[(1 + |ratio - mean|) W]` and, for an ulp of alpha,
    `Var_ref[ratio]`.
    """
    ours = theory.feasible(case.log_pi_0, case.log_pi_t, case.eps_0, case.eps_t)
    equal = theory.chernoff(case.log_pi_0, case.log_pi_t) if case.eps_0 == case.eps_t else None
    bits, x, true = _meeting(case)
    with exact.precision(bits):
        if true is None:
            right = not ours.nonempty and ours.alpha == 0.5 and ours.margin == -np.inf
            return [Error(float(not right or (equal is not None and equal.information < np.inf)), 0.0)]
        scale, digits, slope = _errors_of_alpha(x, float(ours.alpha))
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
            scale, _, slope = _errors_of_alpha(x, float(equal.alpha))
            errors += [slope, Error(distance(equal.information, x.eps_0 - true.margin), scale)]
        return errors


def _meeting(case: Balls) -> tuple[int, Anchors, Meeting | None]:
    """Where the balls meet, to 50 digits, and the bits that this took: a curve may be flat as far as exp(-1000)."""
    bits = JUDGE_BITS
    while True:
        with exact.precision(bits):
            x, _ = _anchors(case)
            found = exact_region.meeting(x) if x.log_p else None
        if found is None or found.margin.rad() < NOTHING:
            return bits, x, found
        bits *= 2


def _errors_of_alpha(x: Anchors, alpha: float) -> tuple[float, float, Error]:
    """Scale of the margin at alpha, that of a minimum at an end point, and the slope with its own."""
    at = arb(alpha)
    first, second = exact_region.slope(x, at)
    log_ref, log_c = exact.normalize(exact.mixture(x.log_p, x.log_q, at))
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
    is no larger), so it is inside if the margin is not negative. Every policy on S has `alpha (KL_0 - e0) + (1-alpha)
    (KL_t - et) = KL(pi‖pi_ref) - margin`, so one of its excesses is at least `-margin`. No alpha has a lower margin.
    """
    x, log_pi = _anchors(case)
    if not x.log_p:
        log_pi, *anchors = (exact.exact_policy(log_p) for log_p in case[:3])
        over_0, over_t = (exact.kl(log_pi, anchor) for anchor in anchors)
        return [residual(over_0.max(over_t), exact.INFINITY)]
    alpha, margin, log_ref = exact_region.meeting(x)
    over_0, over_t = exact.kl(log_ref, x.log_p) - x.eps_0, exact.kl(log_ref, x.log_q) - x.eps_t
    balls = [shortfall(-margin, over_0) if alpha == 0 else over_0 + margin]
    balls.append(shortfall(-margin, over_t) if alpha == 1 else over_t + margin)
    over_0, over_t = exact.kl(log_pi, x.log_p) - x.eps_0, exact.kl(log_pi, x.log_q) - x.eps_t
    balls.append(alpha * over_0 + (1 - alpha) * over_t - (exact.kl(log_pi, log_ref) - margin))
    balls.append(shortfall(over_0.max(over_t), -margin))
    return balls + [shortfall(exact_region.ball(x, other)[1], margin) for other in (arb(1) / 3, (1 + alpha) / 2)]


# -- T7 ----------------------------------------------------------------------------------------------------------------


def draw_best(rng: np.random.Generator) -> Case:
    """Draw a bandit as T1 to T4 do, whose optimum makes the radii; `w_clip` is the room of a ball with no say."""
    case = draw_case(rng)
    return case._replace(w_clip=10.0 ** rng.uniform(-6.0, 3.0))


class Best(NamedTuple):
    """`pi*` on S, both anchors there with the radii that it just reaches, and the competitor given S."""

    anchors: Anchors
    advantage: list[arb]
    log_best: Policy
    log_pi: Policy
    shared: list[int]


def _best(case: Case) -> Best:
    """T7 backwards: `pi*` at (alpha, beta) decides the radii; at the end points of alpha one ball has room left."""
    x = Exact.of(case)
    shared = exact_region.common(x.log_pi_0, x.log_pi_t)
    p, q, log_pi = ([log_p[arm] for arm in shared] for log_p in (x.log_pi_0, x.log_pi_t, x.log_pi))
    advantage = [x.advantage[arm] for arm in shared]
    log_best, _ = exact.optimum(advantage, p, q, x.alpha, x.beta)
    eps_0 = exact.kl(log_best, p) + (x.w_clip if case.alpha == 0.0 else 0)
    eps_t = exact.kl(log_best, q) + (x.w_clip if case.alpha == 1.0 else 0)
    inside = q if all(p is None for p in log_pi) else log_pi
    return Best(Anchors(p, q, eps_0, eps_t), advantage, log_best, exact.normalize(inside)[0], shared)


def errors_t7(case: Case) -> list[Error]:
    """The radii are those of `pi*`, rounded up. `W = 1 + |log pi_0| + |log pi_t| + |A - max A|/beta`:

    - log-probabilities against `pi_0^alpha pi_t^(1-alpha) exp(A/beta)` at the alpha and beta that came back: `max W`
    - excess of `KL(pi‖pi_0)` over e0: `e0 + E_pi[(1 + |log(pi/pi_0) - KL|) W]`, of `KL(pi‖pi_t)` likewise: both added,
      since their difference decides which ball binds, and amplified
    - duality gap: beta times both excesses' scales, weighted with alpha and 1-alpha
    - value against `E_pi[A]`: `E_pi[|A| (1 + |log pi|)]`; against that of `pi*`: this and the gap's, both at `pi*`, and
      beta times what the excesses have before they are amplified: above the gap, the value is bought by them

    Where beta is 0 the best arms themselves fit in (as good as 0: 1e-50 of A's range), where it is inf the balls touch:
    the scales of the excesses are not amplified, but taken three times.
    """
    with exact.precision(JUDGE_BITS):
        true = _best(case)
        eps_0, eps_t = (rounded_up(eps) for eps in true.anchors[2:])
        ours = theory.constrained_optimum(case.advantage, case.log_pi_0, case.log_pi_t, eps_0, eps_t)
        x = true.anchors._replace(eps_0=arb(eps_0), eps_t=arb(eps_t))
        log_pi = _returned(ours.log_pi[true.shared])
        value, size = mean(log_pi, true.advantage)
        beta = 0.0 if ours.beta <= NOTHING * float(np.ptp(case.advantage)) else ours.beta
        loose = 1.0 + _amplified(x, true.advantage, log_pi, beta) if 0.0 < beta < np.inf else TOUCHING
        overs, scales = zip(*_excesses(x, true.advantage, log_pi, beta), strict=True)
        excesses = [Error(max(over, 0.0), loose * sum(scales)) for over in overs]
        outside = np.isfinite(np.delete(ours.log_pi, true.shared)).any()
        errors = [Error(float(outside), 0.0), Error(distance(ours.value, value), size), *excesses]
        if beta == 0.0:
            top = case.advantage[true.shared].max()
            beaten = [a < top for a, p in zip(true.advantage, log_pi, strict=True) if p is not None]
            return [*errors, Error(float(any(beaten)), 0.0)]
        return errors + _errors_of_dual(case, true, x, ours, sum(scales))


def _errors_of_dual(
    case: Case, true: Best, x: Anchors, ours: theory.ConstrainedOptimum, excess_scale: float
) -> list[Error]:
    alpha, kept = arb(ours.alpha), ours.log_pi[true.shared]
    largest = float(_terms(x, true.advantage, ours.beta).max())
    if ours.beta == np.inf:
        return [Error(policy_distance(kept, exact_region.ball(x, alpha)[0]), largest)]
    form, value = exact.optimum(true.advantage, x.log_p, x.log_q, alpha, arb(ours.beta))
    dual = arb(ours.beta) * (alpha * x.eps_0 + (1 - alpha) * x.eps_t) + value
    log_pi = _returned(kept)
    best, size = mean(true.log_best, true.advantage)
    size += _gap_scale(x, true, true.log_best, case.alpha, case.beta) + case.beta * excess_scale
    return [
        Error(policy_distance(kept, form), largest),
        Error(distance(dual, mean(log_pi, true.advantage)[0]), _gap_scale(x, true, log_pi, ours.alpha, ours.beta)),
        Error(distance(ours.value, best), size),
    ]


def _gap_scale(x: Anchors, true: Best, log_pi: Policy, alpha: float, beta: float) -> float:
    (_, scale_0), (_, scale_t) = _excesses(x, true.advantage, log_pi, beta)
    return beta * (alpha * scale_0 + (1.0 - alpha) * scale_t)


def _returned(log_pi: Array) -> Policy:
    """A policy as it came back, without arms whose log-probability is near the end of float64: tilts go up to 1e308."""
    return exact.exact_policy(np.where(log_pi > -1.0 / NOTHING, log_pi, -np.inf))


def rounded_up(eps: arb) -> float:
    return float(np.nextafter(float(eps.upper()), np.inf))


def mean(log_pi: Policy, advantage: list[arb]) -> tuple[arb, float]:
    """E_pi[A] and its scale `E_pi[|A| (1 + |log pi|)]`."""
    pairs = [(p.exp(), a, p) for p, a in zip(log_pi, advantage, strict=True) if p is not None]
    total = sum((p * a for p, a, _ in pairs), arb(0))
    return total, float(sum((p * abs(a) * (1 + abs(log_p)) for p, a, log_p in pairs), arb(0)))


def _terms(x: Anchors, advantage: list[arb], beta: float) -> Array:
    """`W = 1 + |log pi_0| + |log pi_t| + |A - max A|/beta`; without the last term for beta 0 and inf."""
    gain = floats(advantage)
    tilt = (gain.max() - gain) / beta if beta > 0.0 else 0.0
    return np.asarray(1.0 + np.abs(floats(x.log_p)) + np.abs(floats(x.log_q)) + tilt)


def _excesses(x: Anchors, advantage: list[arb], log_pi: Policy, beta: float) -> list[tuple[float, float]]:
    """`KL - radius` and its scale, for both balls."""
    terms = _terms(x, advantage, beta)
    return [excess(log_pi, anchor, eps, terms) for anchor, eps in ((x.log_p, x.eps_0), (x.log_q, x.eps_t))]


def excess(log_p: Policy, log_q: Policy, eps: arb, terms: Array) -> tuple[float, float]:
    """`KL(p‖q) - eps` and its scale `eps + E_p[(1 + |log(p/q) - KL|) terms]`."""
    divergence = exact.kl(log_p, log_q)
    kept = [arm for arm, p in enumerate(log_p) if p is not None]
    logs, anchor = (floats([log[arm] for arm in kept]) for log in (log_p, log_q))
    moved = np.exp(logs) @ ((1.0 + np.abs(logs - anchor - float(divergence))) * terms[kept])
    return float(divergence - eps), float(eps) + float(moved)


def _amplified(x: Anchors, advantage: list[arb], log_pi: Policy, beta: float) -> float:
    """`sd(log pi_0/pi_t) beta/sd(A)` under pi: what both excesses gain against each other per unit of radius lost.

    A ball of radius rho has a best policy at `sd(A)/beta = sqrt(2 rho)` from its centre, if rho is small: there a
    change of rho moves it by that over `sqrt(2 rho)`, along the surface of the ball too.
    """
    weight, gain, ratio = np.exp(floats(log_pi)), floats(advantage), floats(x.log_p) - floats(x.log_q)
    spread, move = (float(np.sqrt(weight @ (v - weight @ v) ** 2)) for v in (ratio, gain / beta))
    return spread / max(move, NOTHING)


def residuals_t7(case: Case) -> list[arb]:
    """`E_{pi*}[A] - E_pi[A] = beta (KL(pi‖pi*) + alpha (e0 - KL_0) + (1-alpha) (et - KL_t))` for every policy on S, so
    none inside has more; the dual `beta (alpha e0 + (1-alpha) et + log sum ...)` has this value at (alpha, beta), and
    no lower one elsewhere; `pi*` is at the surface of the ball around `pi_ref` that T1 makes of both.
    """
    true, alpha, beta = _best(case), arb(case.alpha), arb(case.beta)
    x = true.anchors
    value, other = mean(true.log_best, true.advantage)[0], mean(true.log_pi, true.advantage)[0]
    spare_0, spare_t = x.eps_0 - exact.kl(true.log_pi, x.log_p), x.eps_t - exact.kl(true.log_pi, x.log_q)
    lost = beta * (exact.kl(true.log_pi, true.log_best) + alpha * spare_0 + (1 - alpha) * spare_t)
    log_ref, radius = exact_region.ball(x, alpha)
    balls = [value - other - lost, _dual(true, alpha, beta) - value, exact.kl(true.log_best, log_ref) - radius]
    if spare_0 >= 0 and spare_t >= 0:
        balls.append(shortfall(value, other))
    return balls + [shortfall(_dual(true, a, b), value) for a, b in ((arb(1) / 3, beta), ((1 + alpha) / 2, 2 * beta))]


def _dual(true: Best, alpha: arb, beta: arb) -> arb:
    x = true.anchors
    _, value = exact.optimum(true.advantage, x.log_p, x.log_q, alpha, beta)
    return beta * (alpha * x.eps_0 + (1 - alpha) * x.eps_t) + value


STATEMENTS = (
    Statement("T6", "balls meet iff min radius >= 0", draw_balls, errors_t6, residuals_t6),
    Statement("T7", "best inside both balls is DAR's", draw_best, errors_t7, residuals_t7, every=2),
)
