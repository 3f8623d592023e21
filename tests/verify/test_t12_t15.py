"""T12 to T15 in `verify`: they pass, and each fails if one formula is broken, in float64 and in the proofs."""

import numpy as np
import pytest

from dar_ref import theory
from dar_ref.verify import run, t12_budgets, t13_t15_samples, t14_zero_sum
from dar_ref.verify.arb import policies
from dar_ref.verify.certify import certify
from dar_ref.verify.statement import LIMIT
from dar_ref.verify.t12_budgets import Budgets, draw_budgets
from dar_ref.verify.t13_t15_samples import draw_fit
from tests.verify.test_t05_t08_t10_t11 import BATCH, ORDINARY, argument, flipped, option, scaled, swapped

OURS = {s.id: s for module in (t12_budgets, t13_t15_samples, t14_zero_sum) for s in module.STATEMENTS}
WITNESS = {
    "T12": Budgets(ORDINARY.log_pi, ORDINARY.advantage, ORDINARY.log_pi_0, 0.3, 0.12),
    "T13": ORDINARY,
    "T14": BATCH,
    "T15": ORDINARY,
}


def test_every_statement_stands_in_verify():
    assert list(run.STATEMENTS) == [f"T{number}" for number in range(1, 16)]
    assert all(run.STATEMENTS[key] == statement for key, statement in OURS.items())


def outcome(key, cases=40):
    """The row of one statement, tried on every case."""
    monkey = pytest.MonkeyPatch()
    monkey.setattr(run, "STATEMENTS", {key: run.STATEMENTS[key]._replace(every=1)})
    (row,) = run.verify(seed=3, cases=cases, digits=20)
    monkey.undo()
    return row


@pytest.mark.parametrize("key", OURS)
def test_random_cases_pass(key):
    row = outcome(key, cases=150)
    assert row.passed, row.failure
    assert 0.0 < row.worst <= LIMIT


def restarted(_):
    """The false neighbour: each step counts its budget of `pi_0` from the policy before."""

    def path(advantage, log_pi_0, eps_0, eps_t, steps):
        rows = [log_pi_0]
        for _ in range(steps):
            rows.append(theory.constrained_optimum(advantage, rows[-1], rows[-1], eps_0, eps_t).log_pi)
        return np.array(rows)

    return path


BREAKS = {
    "T12 budgets that restart": ("T12", "budgeted_path", restarted),
    "T12 sign of A": ("T12", "budgeted_path", argument(0, flipped)),
    "T12 twice the budget of a step": ("T12", "budgeted_path", argument(3, lambda eps: 2.0 * eps)),
    "T12 half the budget of a step": ("T12", "budgeted_path", argument(3, lambda eps: 0.5 * eps)),
    "T12 twice the budget of the path": ("T12", "budgeted_path", argument(2, lambda eps: 2.0 * eps)),
    "T12 a step missing": ("T12", "budgeted_path", lambda real: lambda *a: real(*a)[[0, 0, 1, 2]]),
    "T12 a path that stalls": ("T12", "budgeted_path", lambda real: lambda *a: real(*a)[[0, 1, 1, 1]]),
    "T12 backwards": ("T12", "budgeted_path", lambda real: lambda *a: real(*a)[::-1]),
    "T12 off the curve": ("T12", "budgeted_path", lambda real: lambda *a: real(a[0] + 1e-9 * a[0] ** 2, *a[1:])),
    "T13 twice alpha": ("T13", "weight_ess", argument(2, lambda alpha: min(2.0 * alpha, 1.0))),
    "T13 anchors swapped": ("T13", "weight_ess", lambda real: lambda p, q, alpha: real(q, p, alpha)),
    "T13 not squared": ("T13", "weight_ess", lambda real: lambda *a: np.sqrt(real(*a))),
    "T13 off by 1e-11": ("T13", "weight_ess", lambda real: lambda *a: real(*a) * (1.0 - 1e-11)),
    "T14 weights of DAR": ("T14", "estimator_moments", option(weights="dar")),
    "T14 mean off by 1e-12": ("T14", "estimator_moments", scaled(mean=1.0 + 1e-12)),
    "T14 covariance off by 1e-12": ("T14", "estimator_moments", scaled(covariance=1.0 + 1e-12)),
    "T14 alpha swapped": (
        "T14",
        "estimator_moments",
        lambda real: lambda *a, **k: real(*a, **{**k, "alpha": swapped(k["alpha"])}),
    ),
    "T14 clip dropped": ("T14", "estimator_moments", option(w_clip=None)),
    "T15 sign of A": ("T15", "fit_error", argument(0, flipped)),
    "T15 clip dropped": ("T15", "fit_error", lambda real: lambda *a: real(*a[:5])),
    "T15 n instead of 2n": ("T15", "fit_error", lambda real: lambda *a: 0.5 * real(*a)),
    "T15 unsquared weights": ("T15", "fit_error", lambda _: lambda *a: float((a[2] > -np.inf).sum() - 1)),
    "T15 off by 1e-11": ("T15", "fit_error", lambda real: lambda *a: real(*a) * (1.0 + 1e-11)),
}


@pytest.mark.parametrize("what", BREAKS)
def test_a_broken_float64_formula_fails_its_row(what, monkeypatch):
    key, name, breaks = BREAKS[what]
    monkeypatch.setattr(theory, name, breaks(getattr(theory, name)))
    row = outcome(key)
    assert not row.passed
    assert "float64 error" in row.failure


def without_square(_):
    """`E[v ([y = a] - pi')^2]` instead of `E[v^2 ...]`: each term divided by its weight."""

    def broken(q, pulls, target):
        total = 0
        for y, (p, row) in enumerate(zip(q, pulls, strict=True)):
            weight = row[y] / (1 - target[y])
            total += p * sum(u * u / t for u, t in zip(row, target, strict=True)) / weight
        return total

    return broken


PROOFS = {
    "T12 steps of twice the budget": ("T12", t12_budgets, "furthest", argument(2, lambda eps: 2 * eps)),
    "T12 steps of half the budget": ("T12", t12_budgets, "furthest", argument(2, lambda eps: eps / 2)),
    "T12 sign of A in the DAR step": (
        "T12",
        policies,
        "optimum",
        lambda real: lambda a, *rest: real([-x for x in a], *rest),
    ),
    "T12 backwards": ("T12", t12_budgets, "exact_path", lambda real: lambda x: real(x)[::-1]),
    "T12 never arrives": ("T12", t12_budgets, "exact_path", lambda real: lambda x: real(x)[:1] * 4),
    "T12 E[A] of twice A": (
        "T12",
        t12_budgets,
        "expected_advantage",
        lambda real: lambda p, a: (2 * real(p, a)[0], 0.0),
    ),
    "T13 alpha of the weights swapped": ("T13", policies, "log_weights", argument(3, swapped)),
    "T13 C at another order": ("T13", t13_t15_samples, "log_power_sum", argument(2, lambda order: order * 0.9)),
    "T13 the second token a copy": (
        "T13",
        t13_t15_samples,
        "_tokens",
        lambda _: lambda log_p, _tokens: log_p,
    ),
    "T14 another mean weight": (
        "T14",
        policies,
        "regression_target",
        lambda real: lambda *a: (real(*a)[0], real(*a)[1] + 1),
    ),
    "T14 another update": ("T14", t14_zero_sum, "expected_update", argument(0, lambda p: [x - 1 for x in p])),
    "T15 unsquared weights": ("T15", t13_t15_samples, "_mean_square", without_square),
    "T15 closed form without 1 - pi": (
        "T15",
        t13_t15_samples,
        "_closed_form",
        lambda _: lambda _q, ratio, _target: sum(ratio),
    ),
    "T15 n samples as one": ("T15", t13_t15_samples, "_two_samples", lambda real: lambda *a: real(*a) / 2),
}


@pytest.mark.parametrize("what", PROOFS)
def test_a_broken_formula_is_disproved(what, monkeypatch):
    key, module, name, breaks = PROOFS[what]
    monkeypatch.setattr(module, name, breaks(getattr(module, name)))
    certificate = certify(OURS[key].residuals, WITNESS[key], 50)
    assert not certificate.passed
    assert certificate.radius > 1e-4  # disproved by a large residual, and not only undecided


def test_the_fit_of_a_single_arm_is_exact():
    case = ORDINARY._replace(log_pi_0=np.array([0.0, -np.inf, -np.inf]))
    assert certify(OURS["T15"].residuals, case, 50) == (True, 0.0)


def test_the_exact_path_ends_in_the_best_arms_where_they_are_within_both_budgets():
    case = WITNESS["T12"]._replace(eps_0=3.0, eps_t=0.4)
    thetas = t12_budgets.exact_path(t12_budgets._curve(case))
    assert [theta.is_finite() for theta in thetas] == [True, True, False, False]
    assert certify(OURS["T12"].residuals, case, 50).passed


def test_draws_cover_the_domain():
    rngs = [np.random.default_rng([2, i]) for i in range(300)]
    drawn = [draw_budgets(rng) for rng in rngs]
    for name in ("eps_0", "eps_t"):
        assert {0.0, np.inf} < {getattr(case, name) for case in drawn}
    assert not any(case.eps_0 == case.eps_t == np.inf for case in drawn)
    assert any((case.log_pi_0 == -np.inf).any() for case in drawn)
    assert 0.2 < np.mean([case.eps_t * t12_budgets.STEPS > case.eps_0 for case in drawn]) < 0.9
    fits = [draw_fit(rng) for rng in rngs]
    assert {len(case.advantage) for case in fits} == {1, 2, 3, 4, 5}
    assert {0.0, 1.0} < {case.alpha for case in fits}
    binds = [theory.regression_weights(*case[1:6]).log_weight.max() > np.log(case.w_clip) for case in fits]
    assert 0.2 < np.mean(binds) < 0.95
