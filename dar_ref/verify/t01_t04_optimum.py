"""T1 to T4 as statements to verify: on a random bandit, the float64 errors and the certified residuals of each.

The residuals of T3 and T4 are divided by `sum pi_t v`, which may be as large as exp(1e12).
"""

import numpy as np
from flint import arb

from dar_ref import theory
from dar_ref.verify.arb import policies
from dar_ref.verify.arb.policies import Exact
from dar_ref.verify.random_bandits import Case, draw_case
from dar_ref.verify.statement import (
    JUDGE_BITS,
    Error,
    Statement,
    distance,
    log_scale,
    policy_distance,
    policy_residuals,
    residual,
)


def errors_t1(case: Case) -> list[Error]:
    """Scale `max|log p|` over the finite entries of the policies involved."""
    log_pi_ref, log_c = theory.interpolate(case.log_pi_0, case.log_pi_t, case.alpha)
    left = theory.dual_kl(case.log_pi, case.log_pi_0, case.log_pi_t, case.alpha)
    right = theory.kl(case.log_pi, log_pi_ref) - log_c
    with policies.precision(JUDGE_BITS):
        x = Exact.of(case)
        exact_ref, exact_c = policies.normalize(policies.mixture(x.log_pi_0, x.log_pi_t, x.alpha))
        true = policies.dual_kl(x.log_pi, x.log_pi_0, x.log_pi_t, x.alpha)
        scale = log_scale(case.log_pi, case.log_pi_0, case.log_pi_t)
        return [
            Error(distance(left, right), scale),
            Error(distance(left, true), scale),
            Error(distance(log_c, exact_c), scale),
            Error(policy_distance(log_pi_ref, exact_ref), scale),
        ]


def errors_t2(case: Case) -> list[Error]:
    """Scale `max|A|/beta + max|log p|` for log-probabilities, beta times that for values."""
    bandit = (case.advantage, case.log_pi_0, case.log_pi_t, case.alpha, case.beta)
    best = theory.optimum(*bandit)
    j_pi, j_best = theory.objective(case.log_pi, *bandit), theory.objective(best.log_pi, *bandit)
    gap = case.beta * theory.kl(case.log_pi, best.log_pi)
    with policies.precision(JUDGE_BITS):
        x = Exact.of(case)
        exact_best, exact_value = policies.optimum(*x[1:6])
        exact_j = policies.objective(*x[:6])
        scale = _tilted_scale(case)
        return [
            Error(policy_distance(best.log_pi, exact_best), scale),
            Error(distance(best.value, exact_value), case.beta * scale),
            Error(distance(j_best, exact_value), case.beta * scale),
            Error(distance(j_pi, exact_j), case.beta * scale),
            Error(distance(j_best - j_pi, gap), case.beta * scale),
        ]


def errors_t3(case: Case) -> list[Error]:
    """Scale as in T2 for the target and for log mass; `max|log pi|` times that for the loss per unit of mass."""
    return _regression_errors(case, None)


def errors_t4(case: Case) -> list[Error]:
    """As in T3, with `|log w_clip|` added to the scale."""
    return _regression_errors(case, case.w_clip)


def _regression_errors(case: Case, w_clip: float | None) -> list[Error]:
    arguments = (case.advantage, case.log_pi_0, case.log_pi_t, case.alpha, case.beta, w_clip)
    target = theory.regression_target(*arguments)
    log_mass = theory.regression_weights(*arguments).log_mass
    loss = theory.regression_loss(case.log_pi, *arguments)
    with policies.precision(JUDGE_BITS):
        x = Exact.of(case)
        clip = None if w_clip is None else x.w_clip
        log_v = policies.log_weights(x.advantage, x.log_pi_0, x.log_pi_t, x.alpha, x.beta, clip)
        exact_target, exact_mass = policies.regression_target(x.log_pi_t, log_v)
        scale = _tilted_scale(case) + (0.0 if w_clip is None else abs(np.log(w_clip)))
        errors = [
            Error(policy_distance(target, exact_target), scale),
            Error(distance(log_mass, exact_mass), scale),
        ]
        if abs(log_mass) < 700.0:  # otherwise the loss overflows or underflows
            exact_loss = policies.regression_loss(x.log_pi, x.log_pi_t, log_v, exact_mass)
            per_mass = arb(float(loss)) / exact_mass.exp()
            errors.append(Error(distance(per_mass, exact_loss), scale * log_scale(case.log_pi)))
        return errors


def _tilted_scale(case: Case) -> float:
    return float(np.abs(case.advantage).max() / case.beta) + log_scale(case.log_pi, case.log_pi_0, case.log_pi_t)


def residuals_t1(case: Case) -> list[arb]:
    """Proposition 4.1: `dual_kl(pi) - (KL(pi‖pi_ref) - log C)`."""
    x = Exact.of(case)
    log_pi_ref, log_c = policies.normalize(policies.mixture(x.log_pi_0, x.log_pi_t, x.alpha))
    return [
        residual(policies.dual_kl(x.log_pi, x.log_pi_0, x.log_pi_t, x.alpha), policies.kl(x.log_pi, log_pi_ref) - log_c)
    ]


def residuals_t2(case: Case) -> list[arb]:
    """Theorem 4.2: `J(pi*) - beta log sum ...`, and the gap `J(pi*) - J(pi) - beta KL(pi‖pi*)`."""
    x = Exact.of(case)
    bandit = (x.advantage, x.log_pi_0, x.log_pi_t, x.alpha, x.beta)
    best, value = policies.optimum(*bandit)
    j_best = policies.objective(best, *bandit)
    return [
        j_best - value,
        residual(j_best - policies.objective(x.log_pi, *bandit), x.beta * policies.kl(x.log_pi, best)),
    ]


def residuals_t3(case: Case) -> list[arb]:
    """Regression: `(L(pi) - L(pi*)) / sum pi_t w - KL(pi*‖pi)`; its minimiser against `pi*` of T2, arm by arm."""
    x = Exact.of(case)
    gap, target = _regression_gap(x, None)
    return [gap, *policy_residuals(target, policies.normalize(_best_sampled(x))[0])]


def residuals_t4(case: Case) -> list[arb]:
    """The clip: `(L(pi) - L(pi')) / sum pi_t v - KL(pi'‖pi)`; `pi'` against `pi* min(1, w_clip/w)`, arm by arm."""
    x = Exact.of(case)
    gap, target = _regression_gap(x, x.w_clip)
    log_w = policies.log_weights(x.advantage, x.log_pi_0, x.log_pi_t, x.alpha, x.beta, None)
    moved = [
        None if b is None or w is None else b + (x.w_clip.log() - w).min(arb(0))
        for b, w in zip(_best_sampled(x), log_w, strict=True)
    ]
    return [gap, *policy_residuals(target, policies.normalize(moved)[0])]


def _best_sampled(x: Exact) -> policies.Policy:
    """`pi*` of Theorem 4.2 on supp pi_t, not normalised: an arm that is never sampled is never fitted."""
    best, _ = policies.optimum(x.advantage, x.log_pi_0, x.log_pi_t, x.alpha, x.beta)
    return [None if q is None else b for b, q in zip(best, x.log_pi_t, strict=True)]


def _regression_gap(x: Exact, w_clip: arb | None) -> tuple[arb, policies.Policy]:
    log_v = policies.log_weights(x.advantage, x.log_pi_0, x.log_pi_t, x.alpha, x.beta, w_clip)
    target, log_mass = policies.regression_target(x.log_pi_t, log_v)
    at_pi = policies.regression_loss(x.log_pi, x.log_pi_t, log_v, log_mass)
    at_target = policies.regression_loss(target, x.log_pi_t, log_v, log_mass)
    return residual(at_pi - at_target, policies.kl(target, x.log_pi)), target


STATEMENTS = (
    Statement("T1", "dual KL = KL(pi‖pi_ref) - log C", draw_case, errors_t1, residuals_t1),
    Statement("T2", "J(pi*) - J(pi) = beta KL(pi‖pi*)", draw_case, errors_t2, residuals_t2),
    Statement("T3", "pi* minimises the regression", draw_case, errors_t3, residuals_t3),
    Statement("T4", "the clip moves the target", draw_case, errors_t4, residuals_t4),
)
