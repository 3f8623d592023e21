"""T5 and T11 as statements to verify: the iteration, its end, its clip, and the coverage of the moving reference.

Both sides of each identity are computed from definitions in ball arithmetic. The steps of the path are maximisers of
the objective, the end is `pi_inf ∝ pi_0 exp(A/(alpha beta))`, clipped steps are minimisers of the clipped regression.
"Up to the normaliser" means that differences from the first arm are compared.
"""

from itertools import pairwise

import numpy as np
from flint import arb

from dar_ref import theory
from dar_ref.theory.checks import Array
from dar_ref.theory.dual_kl import log_normalize
from dar_ref.verify.arb import policies
from dar_ref.verify.arb.policies import Exact, Policy
from dar_ref.verify.random_bandits import Case, draw_case
from dar_ref.verify.statement import (
    JUDGE_BITS,
    Error,
    Statement,
    distance,
    log_scale,
    policy_distance,
    policy_residuals,
    shortfall,
)

STEPS = 3
MOST_TILT = 30.0  # nats by which A may tilt pi_0 where it is divided by its std: 1/std is then within exp(15 + spread)


def draw_iteration(rng: np.random.Generator) -> Case:
    """Draw a bandit as for T1 to T4. In half of the cases where float64 allows it, the clip is below Z and moves the
    end. `log_pi` is then used to construct the witness."""
    case = draw_case(rng)
    room = 10.0 ** rng.uniform(-3.0, 2.0)
    if case.alpha > 0.0 and rng.random() < 0.5:
        log_z = case.alpha * log_normalize(case.log_pi_0 + case.advantage / (case.alpha * case.beta))[1]
        if abs(log_z - room) < 600.0:
            return case._replace(w_clip=float(np.exp(log_z - room)))
    return case


def draw_coverage(rng: np.random.Generator) -> Case:
    """Draw a bandit with alpha > 0 (otherwise there is no end) that starts at `pi_0`."""
    case = draw_case(rng)
    return case._replace(log_pi_t=case.log_pi_0, alpha=case.alpha or 10.0 ** rng.uniform(-12.0, 0.0))


def exact_path(x: Exact, steps: int) -> list[Policy]:
    """`pi_t` and the `steps` maximisers that follow, each of the objective at the one before."""
    path = [x.log_pi_t]
    for _ in range(steps):
        path.append(policies.optimum(x.advantage, x.log_pi_0, path[-1], x.alpha, x.beta)[0])
    return path


def fixed_point(x: Exact) -> tuple[Policy, arb]:
    """`pi_inf ∝ pi_0 exp(A/(alpha beta))`, and `log Z = alpha log sum pi_0 exp(A/(alpha beta))`; alpha > 0."""
    scale = x.alpha * x.beta
    logits = [None if p is None else p + a / scale for p, a in zip(x.log_pi_0, x.advantage, strict=True)]
    log_pi_inf, log_total = policies.normalize(logits)
    return log_pi_inf, x.alpha * log_total


def capped_policy(log_pi: Policy, log_pi_inf: Policy, log_excess: arb) -> Policy:
    """A mixture of `pi_inf` and `pi` below the cap `R pi_inf`, where `log R = log_excess > 0`.

    `(1-s) pi_inf + s pi <= R pi_inf` for every `s <= min(1, (R-1) min pi_inf/pi)`; the mixture uses half of this bound.
    With `R = (Z/w_clip)^(1/alpha)` the cap is `w_clip^(-1/alpha) pi_0 exp(A/(alpha beta))`.
    """
    inside, _ = policies.normalize([None if e is None else p for p, e in zip(log_pi, log_pi_inf, strict=True)])
    log_s = log_excess + (1 - (-log_excess).exp()).log()  # log(R-1); R itself may be exp(1e24)
    log_s += _smallest([e - p for p, e in zip(inside, log_pi_inf, strict=True) if p is not None])
    share = log_s.min(arb(0)).exp() / 2
    return [
        None if e is None else e + (1 - share + (0 if p is None else share * (p - e).exp())).log()
        for p, e in zip(inside, log_pi_inf, strict=True)
    ]


def _smallest(balls: list[arb]) -> arb:
    smallest = balls[0]
    for ball in balls:
        smallest = smallest.min(ball)
    return smallest


def clipped_step(x: Exact, log_pi: Policy) -> Policy:
    """The minimiser of the clipped regression on samples of `log_pi`."""
    log_v = policies.log_weights(x.advantage, x.log_pi_0, log_pi, x.alpha, x.beta, x.w_clip)
    return policies.regression_target(log_pi, log_v)[0]


def errors_t5(case: Case) -> list[Error]:
    """Scale of one step: `max|A|/beta + max|log p|` over the path; after t steps, `min(t, 1/alpha)` times that.

    Each step keeps `1-alpha` of the error before it. The scale of `pi_inf` is `max|A|/(alpha beta) + max|log p|`, that
    of its weights and of `log Z` alpha times this. One step from it, clipped or not, has `1-alpha` of this scale plus
    the scale of a step.
    """
    bandit = (case.advantage, case.log_pi_0, case.alpha, case.beta)
    path = theory.iterate(*bandit, STEPS, case.log_pi_t)
    log_z = theory.log_fixed_weight(*bandit)
    tilt = float(np.abs(case.advantage).max()) / case.beta
    scale = tilt + log_scale(case.log_pi_0, path)
    with policies.precision(JUDGE_BITS):
        x = Exact.of(case)
        errors = [
            Error(policy_distance(ours, true), scale * (min(t, 1.0 / case.alpha) if case.alpha else t))
            for t, (ours, true) in enumerate(zip(path, exact_path(x, STEPS), strict=True))
            if t > 0
        ]
        if case.alpha == 0.0:
            best = max(a for a, p in zip(case.advantage, case.log_pi_0, strict=True) if p > -np.inf)
            return [*errors, Error(distance(log_z, arb(float(best)) / x.beta), tilt)]
        return errors + _errors_of_the_end(case, x, log_z, tilt)


def _errors_of_the_end(case: Case, x: Exact, log_z: Array, tilt: float) -> list[Error]:
    bandit = (case.advantage, case.log_pi_0, case.alpha, case.beta)
    end = theory.fixed_point(*bandit)
    weights = theory.regression_weights(case.advantage, case.log_pi_0, end, case.alpha, case.beta).log_weight
    exact_end, exact_z = fixed_point(x)
    step = tilt + log_scale(case.log_pi_0, end)
    at_end = tilt / case.alpha + log_scale(case.log_pi_0, end)
    stays = (1.0 - case.alpha) * at_end + step
    errors = [
        Error(policy_distance(end, exact_end), at_end),
        Error(distance(log_z, exact_z), case.alpha * at_end),
        Error(float(np.max([distance(w, exact_z) for w in weights[end > -np.inf]])), case.alpha * at_end),
        Error(policy_distance(theory.iterate(*bandit, 1, end)[1], exact_end), stays),
    ]
    log_clip = abs(np.log(case.w_clip))
    log_excess = (exact_z - x.w_clip.log()) / x.alpha
    if log_excess > 0:
        capped = capped_policy(x.log_pi, exact_end, log_excess)
        start = np.array([-np.inf if p is None else float(p) for p in capped])
        moved = theory.iterate(*bandit, 1, start, w_clip=case.w_clip)[1]
        errors.append(Error(policy_distance(moved, capped), tilt + log_scale(case.log_pi_0, start) + log_clip))
    else:
        moved = theory.iterate(*bandit, 1, end, w_clip=case.w_clip)[1]
        errors.append(Error(policy_distance(moved, exact_end), stays + log_clip))
    return errors


def residuals_t5(case: Case) -> list[arb]:
    """`(log pi_{t+1} - log pi_inf) - (1-alpha) (log pi_t - log pi_inf)` for all pairs of arms, with `pi_inf`
    conditioned on the arms that are left. At alpha = 1: the step to `pi_inf`. At alpha = 0: the path. Then the end.

    The end: one step from the conditioned `pi_inf` returns it; every weight is Z; `log Z = E[A]/beta - alpha
    KL(pi_inf‖pi_0)` with the mean under `pi_inf`. The clip: one clipped step returns `pi_inf`, or, where `Z > w_clip`,
    another policy below the cap. Then what a clipped step keeps of the range, and A divided by its std under pi_t.
    """
    x = Exact.of(case)
    path = exact_path(x, STEPS)
    if x.alpha == 0:
        return _residuals_without_anchor(x, path)
    end, log_z = fixed_point(x)
    reached = [None if p is None and x.alpha < 1 else e for p, e in zip(x.log_pi_t, end, strict=True)]
    conditioned, _ = policies.normalize(reached)
    balls: list[arb] = []
    for now, following in pairwise(path):
        balls += _contraction(now, following, conditioned, 1 - x.alpha)
    stays, _ = policies.optimum(x.advantage, x.log_pi_0, conditioned, x.alpha, x.beta)
    balls += policy_residuals(stays, conditioned)
    log_w = policies.log_weights(x.advantage, x.log_pi_0, end, x.alpha, x.beta, None)
    balls += [w - log_z for w in log_w if w is not None]
    balls.append(log_z - (_mean(end, x.advantage) / x.beta - x.alpha * policies.kl(end, x.log_pi_0)))
    log_excess = (log_z - x.w_clip.log()) / x.alpha
    fixed = capped_policy(x.log_pi, end, log_excess) if log_excess > 0 else end
    balls += policy_residuals(clipped_step(x, fixed), fixed) + _residuals_of_range(x, end)
    return balls + _residuals_of_standardised(x)


def _residuals_of_range(x: Exact, end: Policy) -> list[arb]:
    """A clipped step from `pi_t` keeps between `1-alpha` and all of the range of `log pi_t - log pi_inf`: with A as it
    is, and centred under `pi_t` with a clip of at least 1, where the smallest weight is at most 1."""
    mean = _mean(x.log_pi_t, x.advantage)
    centred = x._replace(advantage=[a - mean for a in x.advantage], w_clip=x.w_clip.max(arb(1)))
    balls: list[arb] = []
    for case in (x, centred):
        before, after = _range(x.log_pi_t, end), _range(clipped_step(case, x.log_pi_t), end)
        balls += [shortfall(before, after), shortfall(after, (1 - x.alpha) * before)]
    log_w = policies.log_weights(centred.advantage, x.log_pi_0, x.log_pi_t, x.alpha, x.beta, None)
    drawn = [w for w, q in zip(log_w, x.log_pi_t, strict=True) if q is not None]
    alive = [w for w in drawn if w is not None]
    return balls if len(alive) < len(drawn) else [*balls, shortfall(arb(0), _smallest(alive))]


def _residuals_of_standardised(x: Exact) -> list[arb]:
    """With `a = (A - E_pi[A])/std_pi(A)` every fixed point is on the curve `pi ∝ pi_0 exp(theta A)`. There a step adds
    `(1/beta - alpha sd) a` to log pi, up to the normaliser, where `sd` is the std of `log(pi/pi_0)` under pi: nothing,
    if and only if `sd = 1/(alpha beta)`. At the beta for which this holds, a step with a clip of at least 1 leads back.
    Both stds are those of their definition: a, and `alpha beta (log(pi/pi_0) - KL)`, have a mean square of 1.
    """
    alive = [a for p, a in zip(x.log_pi_0, x.advantage, strict=True) if p is not None]
    width = -_smallest([-a for a in alive]) - _smallest(alive)
    if width == 0:
        return []  # A / std is 0 / 0
    theta = 1 / x.beta.max(width / MOST_TILT)
    on_curve, _ = policies.normalize(
        [None if p is None else p + theta * a for p, a in zip(x.log_pi_0, x.advantage, strict=True)]
    )
    ratio = [None if p is None else n - p for n, p in zip(on_curve, x.log_pi_0, strict=True)]
    std_of_ratio, std_of_advantage = _std(on_curve, ratio), _std(on_curve, x.advantage)
    unit = [a / std_of_advantage for a in x.advantage]
    mean = _mean(on_curve, unit)
    at = x._replace(advantage=[u - mean for u in unit], w_clip=x.w_clip.max(arb(1)))
    following, _ = policies.optimum(at.advantage, x.log_pi_0, on_curve, x.alpha, x.beta)
    gain = 1 / x.beta - x.alpha * std_of_ratio
    moved = [None if p is None else p + gain * u for p, u in zip(on_curve, unit, strict=True)]
    resting = at._replace(beta=1 / (x.alpha * std_of_ratio))
    centred = [None if r is None else x.alpha * resting.beta * (r - policies.kl(on_curve, x.log_pi_0)) for r in ratio]
    units = [_mean(on_curve, [None if v is None else v * v for v in values]) for values in (at.advantage, centred)]
    balls = contrasts(following, moved) + [square - 1 for square in units]
    return balls + policy_residuals(clipped_step(resting, on_curve), on_curve)


def _mean(log_pi: Policy, values: Policy) -> arb:
    """E_pi of the values; where pi has no mass they do not matter."""
    return sum((p.exp() * v for p, v in zip(log_pi, values, strict=True) if p is not None and v is not None), arb(0))


def _std(log_pi: Policy, values: Policy) -> arb:
    """Std under pi as `sqrt(sum over pairs p q (u - v)^2)`: next to a corner a mean would cancel."""
    pairs = [(p, v) for p, v in zip(log_pi, values, strict=True) if p is not None and v is not None]
    terms = ((p + q).exp() * (u - v) * (u - v) for number, (p, u) in enumerate(pairs) for q, v in pairs[:number])
    return sum(terms, arb(0)).sqrt()


def _range(log_p: Policy, log_q: Policy) -> arb:
    """Largest minus smallest `log p - log q` over the arms of both."""
    gaps = [p - q for p, q in zip(log_p, log_q, strict=True) if p is not None and q is not None]
    return -_smallest([-gap for gap in gaps]) - _smallest(gaps)


def _contraction(now: Policy, following: Policy, end: Policy, kept: arb) -> list[arb]:
    """`(following - end) - kept (now - end)`; at `kept = 0` without `now`."""
    if kept == 0:
        return policy_residuals(following, end)
    logits = [None if n is None or e is None else e + kept * (n - e) for n, e in zip(now, end, strict=True)]
    return contrasts(following, logits)


def _residuals_without_anchor(x: Exact, path: list[Policy]) -> list[arb]:
    """alpha = 0: `log pi_t = log pi_start + t A/beta` up to the normaliser; the mass of the best arms never falls."""
    balls: list[arb] = []
    for t, log_pi in enumerate(path):
        tilted = [None if p is None else p + t * a / x.beta for p, a in zip(path[0], x.advantage, strict=True)]
        balls += contrasts(log_pi, tilted)
    alive = [a for p, a in zip(path[0], x.advantage, strict=True) if p is not None]
    best = [p is not None and all(a >= other for other in alive) for p, a in zip(path[0], x.advantage, strict=True)]
    mass = [
        sum((p.exp() for p, top in zip(log_pi, best, strict=True) if p is not None and top), arb(0)) for log_pi in path
    ]
    return balls + [shortfall(later, earlier) for earlier, later in pairwise(mass)]


def contrasts(left: Policy, right: Policy) -> list[arb]:
    """`left - right` of each arm minus that of the first arm; infinite for an arm that only one policy has."""
    gaps = policy_residuals(left, right)
    return [gap - gaps[0] if gap.is_finite() else gap for gap in gaps]  # inf - inf would be undecided


def errors_t11(case: Case) -> list[Error]:
    """Scale of `log pi_ref,t` and `log pi_inf`: `s = max|A|/(alpha beta) + max|log p|`.

    An error s in these logs moves the KL by s, and through the weights of `pi_inf` by s times the mean deviation
    `E|log(pi_inf/pi_ref,t) - KL|`. So the scale of the KL is `s (1 + E|...|)`.
    """
    bandit = (case.advantage, case.log_pi_0, case.alpha, case.beta)
    path = theory.iterate(*bandit, STEPS)
    log_ref = theory.interpolate(case.log_pi_0, path, case.alpha).log_pi_ref
    covered = theory.coverage(*bandit, STEPS)
    scale = float(np.abs(case.advantage).max()) / case.beta / case.alpha + log_scale(case.log_pi_0, path, log_ref)
    with policies.precision(JUDGE_BITS):
        x = Exact.of(case)
        end, _ = fixed_point(x)
        errors = []
        for now, ours, value in zip(exact_path(x, STEPS), log_ref, covered, strict=True):
            true, _ = policies.normalize(policies.mixture(x.log_pi_0, now, x.alpha))
            kl = policies.kl(end, true)
            deviation = sum(
                (e.exp() * abs(e - r - kl) for e, r in zip(end, true, strict=True) if e is not None), arb(0)
            )
            errors += [
                Error(policy_distance(ours, true), scale),
                Error(distance(value, kl), scale * (1.0 + float(deviation))),
            ]
        return errors


def residuals_t11(case: Case) -> list[arb]:
    """`log pi_ref,t - log pi_inf - (alpha + (1-alpha)^(t+1)) (log pi_0 - log pi_inf)` for all pairs of arms, and
    `KL(pi_inf‖pi_ref,t)` does not rise with t."""
    x = Exact.of(case)
    end, _ = fixed_point(x)
    balls: list[arb] = []
    covered = []
    for t, now in enumerate(exact_path(x, STEPS)):
        log_ref, _ = policies.normalize(policies.mixture(x.log_pi_0, now, x.alpha))
        factor = x.alpha + (1 - x.alpha) ** (t + 1)
        balls += contrasts(
            log_ref, [None if e is None else e + factor * (p - e) for p, e in zip(x.log_pi_0, end, strict=True)]
        )
        covered.append(policies.kl(end, log_ref))
    return balls + [shortfall(earlier, later) for earlier, later in pairwise(covered)]


STATEMENTS = (
    Statement("T5", "each step contracts by 1 - alpha", draw_iteration, errors_t5, residuals_t5),
    Statement("T11", "the moving reference covers more", draw_coverage, errors_t11, residuals_t11),
)
