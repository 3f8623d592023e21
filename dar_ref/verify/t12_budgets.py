"""T12 as a statement to verify: hard budgets, step after step.

The judge knows no multipliers. From `pi_0` the exact path lies on the curve `pi_0 exp(theta A)`, so a step is one
number: the largest theta within both budgets, a root of one function of one variable. The float64 path comes from the
dual in two variables, so the two have nothing in common.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from flint import arb, arb_series

from dar_ref import theory
from dar_ref.theory.checks import EPS, Array
from dar_ref.theory.dual_kl import log_normalize
from dar_ref.verify.arb import policies
from dar_ref.verify.arb.policies import INF, Policy
from dar_ref.verify.arb.region import enclosed_root
from dar_ref.verify.random_bandits import draw_case
from dar_ref.verify.statement import JUDGE_BITS, Error, Statement, distance, policy_residuals, shortfall
from dar_ref.verify.t06_region import NOTHING, floats
from dar_ref.verify.t07_best_policy import excess, expected_advantage

STEPS = 3
LEAST = 1e-12
"""Smallest positive budget that is drawn: below, rounding decides which of two small balls a policy leaves first."""


class Budgets(NamedTuple):
    """A competitor, a bandit (A,) and the budgets, in nats."""

    log_pi: Array
    advantage: Array
    log_pi_0: Array
    eps_0: float
    eps_t: float


class Curve(NamedTuple):
    """The arms of `pi_0`: A, `A - max A`, `log pi_0`, the competitor, and both budgets."""

    advantage: list[arb]
    gain: list[arb]
    log_pi_0: Policy
    log_pi: Policy
    eps_0: arb
    eps_t: arb


def draw_budgets(rng: np.random.Generator) -> Budgets:
    """Draw a bandit as for T1 to T4. `e0` is any number of nats, or the budget of a drawn end; `et` is any
    number too, or such that the path ends within the steps. In one case in five one of them is 0 or infinite."""
    case = draw_case(rng)
    eps_0 = 10.0 ** rng.uniform(-6.0, 3.0)
    if rng.random() < 0.5:
        end = log_normalize(case.log_pi_0 + case.advantage / case.beta)[0]
        eps_0 = max(rng.uniform(0.5, 1.0) * float(theory.kl(end, case.log_pi_0)), LEAST)
    ends = rng.random() < 0.5
    eps_t = eps_0 / rng.uniform(0.3, STEPS) if ends else 10.0 ** rng.uniform(-6.0, 3.0)
    kind = rng.random()  # both infinite are no budgets: then the best of all arms is allowed, also one that pi_0 lacks
    if kind < 0.1:
        eps_0 = float(rng.choice([0.0, np.inf]))
    elif kind < 0.2:
        eps_t = float(rng.choice([0.0, np.inf]))
    return Budgets(case.log_pi, case.advantage, case.log_pi_0, eps_0, eps_t)


def _curve(case: Budgets) -> Curve:
    alive = np.flatnonzero(case.log_pi_0 > -np.inf)
    whole = policies.exact_policy(case.log_pi)
    log_pi = [whole[arm] for arm in alive]
    log_pi_0 = policies.exact_policy(case.log_pi_0[alive])
    advantage = [arb(float(a)) for a in case.advantage[alive]]
    top = arb(float(case.advantage[alive].max()))
    inside = log_pi_0 if all(p is None for p in log_pi) else policies.normalize(log_pi)[0]
    return Curve(advantage, [a - top for a in advantage], log_pi_0, inside, arb(case.eps_0), arb(case.eps_t))


def on_curve(x: Curve, theta: arb) -> Policy:
    """`pi_0 exp(theta A)`, normalised; at infinity `pi_0` on the best arms."""
    logits = zip(x.log_pi_0, x.gain, strict=True)
    if theta == INF:
        return policies.normalize([p if g == 0 else None for p, g in logits])[0]
    return policies.normalize([None if p is None else p + theta * g for p, g in logits])[0]


def furthest(x: Curve, theta: arb, eps: arb) -> arb:
    """The largest theta on the curve within `eps` of the policy at `theta`; infinite if the best arms alone are.

    `KL(pi_{theta + tau}‖pi_theta)` rises with tau, with the slope `tau Var[A]`, and is at most `tau^2 range(A)^2 / 8`.
    The search is for log tau.
    """
    if theta == INF or all(g == 0 for g in x.gain):
        return INF
    if eps == 0:
        return theta
    now = on_curve(x, theta)
    _, log_best = policies.normalize([n if g == 0 else None for n, g in zip(now, x.gain, strict=True)])
    if eps >= -log_best:
        return INF

    def spent(log_tau: arb) -> tuple[arb, arb]:
        tau = log_tau.exp()
        ahead = on_curve(x, theta + tau)
        mean, _ = expected_advantage(ahead, x.gain)
        spread, _ = expected_advantage(ahead, [(g - mean) * (g - mean) for g in x.gain])
        return policies.kl(ahead, now) - eps, tau * tau * spread

    width = -min(x.gain, key=float)
    low = ((8 * eps).sqrt() / width).log().mid() - 1
    reach = 1
    while not spent(low + reach)[0] > 0:
        reach *= 2
    return theta + enclosed_root(spent, low, low + reach).exp()


def exact_path(x: Curve) -> list[arb]:
    """theta of each policy of the path."""
    limit, path = furthest(x, arb(0), x.eps_0), [arb(0)]
    for _ in range(STEPS):
        ahead = furthest(x, path[-1], x.eps_t)
        path.append(ahead if ahead < limit else limit)
    return path


def errors_t12(case: Budgets) -> list[Error]:
    """Row by row, each judged with the row before it. `W = 1 + |log pi_0| + |log pi_t| + theta |A - max A|`:

    - excess of a KL over its budget, and what is left of both where a better arm could use it: `e + E[(1 + |log ratio -
      KL|) W]`, the sum for both budgets, amplified: to first order the step moves along the curve by `sd(log
      pi_{t+1}/anchor)`, and an error of that is one of `sd(log pi_0/pi_t)` in the other KL. What is left by a step
      that does not move, up to rounding, has the scale before it is amplified
    - distance from the curve, `log pi_{t+1}/pi_0 - theta A`, theta from the best and the worst arm: `2 t max W`
    - loss of E[A]: `E[|A| (1 + |log pi|)]` of both rows
    - after more than `e0/et` steps, E[A] against that of the end: its scale, and `1/theta` times that of the excess
    """
    path = theory.budgeted_path(case.advantage, case.log_pi_0, case.eps_0, case.eps_t, STEPS)
    alive = case.log_pi_0 > -np.inf
    with policies.precision(JUDGE_BITS):
        x = _curve(case)
        rows = [policies.exact_policy(row[alive]) for row in path]
        errors = [Error(float((path[:, ~alive] > -np.inf).any()), 0.0)]
        for t, (now, ahead) in enumerate(pairwise(rows), 1):
            errors += _errors_of_step(x, now, ahead, t)
        return errors + _errors_of_end(x, rows[-1])


def _errors_of_step(x: Curve, now: Policy, ahead: Policy, t: int) -> list[Error]:
    kept = [arm for arm, p in enumerate(ahead) if p is not None]
    log_0, log_t, log_pi = (floats([log[arm] for arm in kept]) for log in (x.log_pi_0, now, ahead))
    gain = floats(x.gain)
    theta, off = _line(log_pi - log_0, gain[kept])
    terms = np.ones(len(ahead))
    terms[kept] += np.abs(log_0) + np.abs(log_t) + theta * np.abs(gain[kept])
    (over_0, scale_0), (over_t, scale_t) = (
        (-np.inf, 0.0) if eps == INF else excess(ahead, anchor, eps, terms)
        for anchor, eps in ((x.log_pi_0, x.eps_0), (now, x.eps_t))
    )
    move = _std(log_pi, log_pi - (log_0 if over_0 > over_t else log_t))
    plain = scale_0 + scale_t
    scale = plain * (1.0 + _std(log_pi, log_0 - log_t) / max(move, NOTHING))
    before, size_before = expected_advantage(now, x.advantage)
    after, size_after = expected_advantage(ahead, x.advantage)
    spare = 0.0 if (gain[kept] == 0.0).all() else max(-max(over_0, over_t), 0.0)
    return [
        Error(max(over_0, over_t, 0.0), scale),
        Error(spare, scale if move > EPS * float(terms.max()) else plain),
        Error(off, 2.0 * t * float(terms[kept].max())),
        Error(max(float(before - after), 0.0), size_before + size_after),
    ]


def _errors_of_end(x: Curve, last: Policy) -> list[Error]:
    limit = furthest(x, arb(0), x.eps_0)
    end = on_curve(x, limit)
    if not x.eps_t * STEPS > policies.kl(end, x.log_pi_0):
        return []
    value, _ = expected_advantage(last, x.advantage)
    best, size = expected_advantage(end, x.advantage)
    if limit < INF and limit > 0:
        terms = 1.0 + np.abs(floats(x.log_pi_0)) + float(limit) * np.abs(floats(x.gain))
        size += float(excess(end, x.log_pi_0, x.eps_0, terms)[1] / limit)
    return [Error(distance(value, best), size)]


def _std(log_pi: Array, values: Array) -> float:
    pi = np.exp(log_pi)
    return float(np.sqrt(pi @ (values - pi @ values) ** 2))


def _line(ratio: Array, gain: Array) -> tuple[float, float]:
    """Slope of the line in `gain` through the best and the worst arm, and the largest distance of `ratio` from it."""
    worst, best = gain.argmin(), gain.argmax()
    width = gain[best] - gain[worst]
    slope = (ratio[best] - ratio[worst]) / width if width > 0.0 else 0.0
    return float(slope), float(np.abs(ratio - ratio[best] - slope * (gain - gain[best])).max())


def residuals_t12(case: Budgets) -> list[arb]:
    """On the exact path: every step keeps both budgets; it is the DAR step at alpha 0 and `beta = 1/(theta_{t+1} -
    theta_t)`, or at alpha 1 and `beta = 1/theta_{t+1}`; with these multipliers it is the best in both balls, since
    `E_next[A] - E_pi[A] = beta (KL(pi‖next) + alpha (e0 - KL_0) + (1-alpha) (et - KL_t))`; E[A] does not fall; before
    the end each step brings the end nearer by et; and more than `e0/et` steps reach it.

    Last, `KL(pi_t exp(h A)‖pi_t) = h^2 Var(A)/2` to second order: of a small budget `beta = sd(A)/sqrt(2 et)`.
    """
    x = _curve(case)
    thetas = exact_path(x)
    limit = furthest(x, arb(0), x.eps_0)
    end = on_curve(x, limit)
    balls = _residuals_of_series(x)
    for before, after in pairwise(thetas):
        now, ahead = on_curve(x, before), on_curve(x, after)
        balls += [shortfall(x.eps_0, policies.kl(ahead, x.log_pi_0)), shortfall(x.eps_t, policies.kl(ahead, now))]
        value = expected_advantage(ahead, x.advantage)[0]
        balls.append(shortfall(value, expected_advantage(now, x.advantage)[0]))
        if after < INF and after > before:
            balls += _residuals_of_multipliers(x, before, after, value)
        if after < limit:
            balls.append(shortfall(policies.kl(end, now) - x.eps_t, policies.kl(end, ahead)))
    if x.eps_t * STEPS > policies.kl(end, x.log_pi_0):
        balls += policy_residuals(on_curve(x, thetas[-1]), end)
    return balls


def _residuals_of_multipliers(x: Curve, before: arb, after: arb, value: arb) -> list[arb]:
    now, ahead = on_curve(x, before), on_curve(x, after)
    meets_0 = policies.kl(ahead, now) < x.eps_t
    alpha, beta = (arb(1), 1 / after) if meets_0 else (arb(0), 1 / (after - before))
    form, _ = policies.optimum(x.advantage, x.log_pi_0, now, alpha, beta)
    anchor, eps = (x.log_pi_0, x.eps_0) if meets_0 else (now, x.eps_t)
    lost = beta * (policies.kl(x.log_pi, ahead) + eps - policies.kl(x.log_pi, anchor))
    return [*policy_residuals(form, ahead), value - expected_advantage(x.log_pi, x.advantage)[0] - lost]


def _residuals_of_series(x: Curve) -> list[arb]:
    """A is taken in units of its range, so that the residuals are in nats."""
    width = -min(x.gain, key=float)
    if width == 0:
        return [arb(0)]
    unit = [g / width for g in x.gain]
    tilted = [p + arb_series([0, u], prec=3) for p, u in zip(x.log_pi_0, unit, strict=True)]
    log_total = sum((t.exp() for t in tilted), arb(0)).log()
    spent = sum(((t - log_total).exp() * (t - log_total - p) for t, p in zip(tilted, x.log_pi_0, strict=True)), arb(0))
    mean, _ = expected_advantage(x.log_pi_0, unit)
    variance, _ = expected_advantage(x.log_pi_0, [(u - mean) * (u - mean) for u in unit])
    return [spent[0], spent[1], 2 * spent[2] - variance]


STATEMENTS = (Statement("T12", "hard budgets: where they end", draw_budgets, errors_t12, residuals_t12, every=10),)
