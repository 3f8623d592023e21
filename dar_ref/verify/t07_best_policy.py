"""T7 as a statement to verify: the best policy where the two balls meet. Scales as in `t06_region`."""

from typing import NamedTuple

import numpy as np
from flint import arb

from dar_ref import theory
from dar_ref.theory.checks import Array
from dar_ref.verify.arb import policies, region
from dar_ref.verify.arb.policies import Exact, Policy
from dar_ref.verify.arb.region import Anchors
from dar_ref.verify.random_bandits import Case, draw_case
from dar_ref.verify.statement import JUDGE_BITS, Error, Statement, distance, policy_distance, shortfall
from dar_ref.verify.t06_region import NOTHING, TOUCHING, errors_of_alpha, floats


def draw_best(rng: np.random.Generator) -> Case:
    """Draw a bandit as for T1 to T4. Its optimum determines the radii; `w_clip` is the slack of a slack ball."""
    case = draw_case(rng)
    return case._replace(w_clip=10.0 ** rng.uniform(-6.0, 3.0))


class Best(NamedTuple):
    """`pi*` on S, both anchors on S with the radii that it just reaches, and the competitor given S."""

    anchors: Anchors
    advantage: list[arb]
    log_best: Policy
    log_pi: Policy
    shared: list[int]


def _best(case: Case) -> Best:
    """T7 backwards: `pi*` at (alpha, beta) determines the radii; at the end points of alpha one ball is slack."""
    x = Exact.of(case)
    shared = region.common(x.log_pi_0, x.log_pi_t)
    p, q, log_pi = ([log_p[arm] for arm in shared] for log_p in (x.log_pi_0, x.log_pi_t, x.log_pi))
    advantage = [x.advantage[arm] for arm in shared]
    log_best, _ = policies.optimum(advantage, p, q, x.alpha, x.beta)
    eps_0 = policies.kl(log_best, p) + (x.w_clip if case.alpha == 0.0 else 0)
    eps_t = policies.kl(log_best, q) + (x.w_clip if case.alpha == 1.0 else 0)
    inside = q if all(p is None for p in log_pi) else log_pi
    return Best(Anchors(p, q, eps_0, eps_t), advantage, log_best, policies.normalize(inside)[0], shared)


def errors_t7(case: Case) -> list[Error]:
    """The radii are those of `pi*`, rounded up. `W = 1 + |log pi_0| + |log pi_t| + |A - max A|/beta`:

    - log-probabilities against `pi_0^alpha pi_t^(1-alpha) exp(A/beta)` at the returned alpha and beta: `max W`
    - excess of `KL(pi‖pi_0)` over e0: `e0 + E_pi[(1 + |log(pi/pi_0) - KL|) W]`, of `KL(pi‖pi_t)` likewise. Both are
      added, since their difference decides which ball binds, and amplified (`_amplified`)
    - duality gap: beta times the scales of both excesses, weighted with alpha and 1-alpha
    - value against `E_pi[A]`: `E_pi[|A| (1 + |log pi|)]`; value against that of `pi*`: this scale plus that of the gap,
      both at `pi*`, plus beta times the scales of the excesses before amplification, since an excess buys value

    If beta is 0 (or below 1e-50 of A's range) the best arms lie in the region; if it is inf the balls touch: the radius
    of the ball around `pi_ref` is 0, with the scale of T6's margin. In both cases the scales of the excesses are not
    amplified, but taken three times.
    """
    with policies.precision(JUDGE_BITS):
        true = _best(case)
        eps_0, eps_t = (rounded_up(eps) for eps in true.anchors[2:])
        ours = theory.constrained_optimum(case.advantage, case.log_pi_0, case.log_pi_t, eps_0, eps_t)
        x = true.anchors._replace(eps_0=arb(eps_0), eps_t=arb(eps_t))
        log_pi = _returned(ours.log_pi[true.shared])
        value, size = expected_advantage(log_pi, true.advantage)
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
        log_ref, radius = region.ball(x, alpha)
        scale, _, _ = errors_of_alpha(x, ours.alpha)
        return [Error(policy_distance(kept, log_ref), largest), Error(max(float(radius), 0.0), TOUCHING * scale)]
    form, value = policies.optimum(true.advantage, x.log_p, x.log_q, alpha, arb(ours.beta))
    dual = arb(ours.beta) * (alpha * x.eps_0 + (1 - alpha) * x.eps_t) + value
    log_pi = _returned(kept)
    best, size = expected_advantage(true.log_best, true.advantage)
    size += _gap_scale(x, true, true.log_best, case.alpha, case.beta) + case.beta * excess_scale
    return [
        Error(policy_distance(kept, form), largest),
        Error(
            distance(dual, expected_advantage(log_pi, true.advantage)[0]),
            _gap_scale(x, true, log_pi, ours.alpha, ours.beta),
        ),
        Error(distance(ours.value, best), size),
    ]


def _gap_scale(x: Anchors, true: Best, log_pi: Policy, alpha: float, beta: float) -> float:
    (_, scale_0), (_, scale_t) = _excesses(x, true.advantage, log_pi, beta)
    return beta * (alpha * scale_0 + (1.0 - alpha) * scale_t)


def _returned(log_pi: Array) -> Policy:
    """A returned policy without arms whose log-probability is near the end of float64 (tilts go up to 1e308)."""
    return policies.exact_policy(np.where(log_pi > -1.0 / NOTHING, log_pi, -np.inf))


def rounded_up(eps: arb) -> float:
    return float(np.nextafter(float(eps.upper()), np.inf))


def expected_advantage(log_pi: Policy, advantage: list[arb]) -> tuple[arb, float]:
    """E_pi[A] and its scale `E_pi[|A| (1 + |log pi|)]`."""
    pairs = [(p.exp(), a, p) for p, a in zip(log_pi, advantage, strict=True) if p is not None]
    total = sum((p * a for p, a, _ in pairs), arb(0))
    return total, float(sum((p * abs(a) * (1 + abs(log_p)) for p, a, log_p in pairs), arb(0)))


def _terms(x: Anchors, advantage: list[arb], beta: float) -> Array:
    """`W = 1 + |log pi_0| + |log pi_t| + |A - max A|/beta`; no last term for beta 0 and inf."""
    gain = floats(advantage)
    tilt = (gain.max() - gain) / beta if beta > 0.0 else 0.0
    return np.asarray(1.0 + np.abs(floats(x.log_p)) + np.abs(floats(x.log_q)) + tilt)


def _excesses(x: Anchors, advantage: list[arb], log_pi: Policy, beta: float) -> list[tuple[float, float]]:
    """`KL - radius` and its scale, for both balls."""
    terms = _terms(x, advantage, beta)
    return [excess(log_pi, anchor, eps, terms) for anchor, eps in ((x.log_p, x.eps_0), (x.log_q, x.eps_t))]


def excess(log_p: Policy, log_q: Policy, eps: arb, terms: Array) -> tuple[float, float]:
    """`KL(p‖q) - eps` and its scale `eps + E_p[(1 + |log(p/q) - KL|) terms]`."""
    divergence = policies.kl(log_p, log_q)
    kept = [arm for arm, p in enumerate(log_p) if p is not None]
    logs, anchor = (floats([log[arm] for arm in kept]) for log in (log_p, log_q))
    moved = np.exp(logs) @ ((1.0 + np.abs(logs - anchor - float(divergence))) * terms[kept])
    return float(divergence - eps), float(eps) + float(moved)


def _amplified(x: Anchors, advantage: list[arb], log_pi: Policy, beta: float) -> float:
    """`sd(log pi_0/pi_t) beta/sd(A)` under pi: the change of the difference of both excesses per unit of the radius.

    The best policy of a small ball of radius rho is `sd(A)/beta = sqrt(2 rho)` away from its centre. A change of rho,
    divided by `sqrt(2 rho)`, moves this policy, along the surface of the ball too.
    """
    weight, gain, ratio = np.exp(floats(log_pi)), floats(advantage), floats(x.log_p) - floats(x.log_q)
    spread, move = (float(np.sqrt(weight @ (v - weight @ v) ** 2)) for v in (ratio, gain / beta))
    return spread / max(move, NOTHING)


def residuals_t7(case: Case) -> list[arb]:
    """`E_{pi*}[A] - E_pi[A] = beta (KL(pi‖pi*) + alpha (e0 - KL_0) + (1-alpha) (et - KL_t))` for every policy on S, so
    no policy of the region has a larger `E[A]`. The dual `beta (alpha e0 + (1-alpha) et + log sum ...)` has this value
    at (alpha, beta) and no lower value elsewhere. `pi*` is on the surface of the ball around `pi_ref` (T1).
    """
    true, alpha, beta = _best(case), arb(case.alpha), arb(case.beta)
    x = true.anchors
    value, other = (
        expected_advantage(true.log_best, true.advantage)[0],
        expected_advantage(true.log_pi, true.advantage)[0],
    )
    spare_0, spare_t = x.eps_0 - policies.kl(true.log_pi, x.log_p), x.eps_t - policies.kl(true.log_pi, x.log_q)
    lost = beta * (policies.kl(true.log_pi, true.log_best) + alpha * spare_0 + (1 - alpha) * spare_t)
    log_ref, radius = region.ball(x, alpha)
    balls = [value - other - lost, _dual(true, alpha, beta) - value, policies.kl(true.log_best, log_ref) - radius]
    if spare_0 >= 0 and spare_t >= 0:
        balls.append(shortfall(value, other))
    return balls + [shortfall(_dual(true, a, b), value) for a, b in ((arb(1) / 3, beta), ((1 + alpha) / 2, 2 * beta))]


def _dual(true: Best, alpha: arb, beta: arb) -> arb:
    x = true.anchors
    _, value = policies.optimum(true.advantage, x.log_p, x.log_q, alpha, beta)
    return beta * (alpha * x.eps_0 + (1 - alpha) * x.eps_t) + value


STATEMENTS = (Statement("T7", "best inside both balls is DAR's", draw_best, errors_t7, residuals_t7, every=2),)
