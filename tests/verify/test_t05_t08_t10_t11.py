"""T5, T8, T10 and T11 in `verify`: they pass, and each fails if one formula is broken, in float64 and in the proofs."""

import numpy as np
import pytest
from flint import arb

from dar_ref import cli, theory
from dar_ref.verify import run, t05_t11_iteration, t08_t10_estimators
from dar_ref.verify.arb import policies, updates
from dar_ref.verify.arb.updates import EstimatorCase
from dar_ref.verify.certify import certify
from dar_ref.verify.random_bandits import Case
from dar_ref.verify.statement import LIMIT, policy_residuals, relative, shortfall
from dar_ref.verify.t05_t11_iteration import contrasts, draw_coverage, draw_iteration
from dar_ref.verify.t08_t10_estimators import GroupCase, draw_batch, draw_group

INF = np.inf
OURS = {s.id: s for s in (*t05_t11_iteration.STATEMENTS, *t08_t10_estimators.STATEMENTS)}
ORDINARY = Case(
    log_pi=np.log([0.2, 0.3, 0.5]),
    advantage=np.array([1.0, -0.5, 0.25]),
    log_pi_0=np.log([0.6, 0.3, 0.1]),
    log_pi_t=np.log([0.1, 0.3, 0.6]),
    alpha=0.25,
    beta=0.5,
    w_clip=1.5,  # Z = 2.89...: the clip is below it
)
BATCH = EstimatorCase(
    reward=np.array([[1.0, -0.5, 0.25], [0.5, 2.0, -1.0]]),
    log_pi_theta=np.log([[0.2, 0.3, 0.5], [0.4, 0.4, 0.2]]),
    log_pi_0=np.log([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]]),
    log_pi_t=np.log([[0.1, 0.3, 0.6], [0.3, 0.3, 0.4]]),
    num_generations=2,
    alpha=0.25,
    beta=0.5,
    w_clip=1.5,
    epsilon=0.2,
    baseline="group",
    normalize="none",
)
WITNESS = {"T5": ORDINARY, "T11": ORDINARY._replace(log_pi_t=ORDINARY.log_pi_0), "T8": BATCH}
WITNESS["T10"] = GroupCase(ORDINARY, 3)


def test_every_statement_stands_in_verify_in_order():
    numbers = [int(key.removeprefix("T")) for key in run.STATEMENTS]
    assert numbers == sorted(numbers)
    assert all(run.STATEMENTS[key] == statement for key, statement in OURS.items())


def argument(position, change):
    """Break a function by changing one of its positional arguments."""

    def breaks(real):
        def broken(*args, **kwargs):
            return real(*args[:position], change(args[position]), *args[position + 1 :], **kwargs)

        return broken

    return breaks


def option(**changes):
    """Break a function by changing keyword arguments that it is given."""

    def breaks(real):
        def broken(*args, **kwargs):
            return real(*args, **{key: changes.get(key, value) for key, value in kwargs.items()})

        return broken

    return breaks


def flipped(x):
    return -x


def swapped(alpha):
    return 1.0 - alpha


def only(method, breaks):
    """Break one method of `estimator_moments` only."""

    def of(real):
        broken = breaks(real)
        return lambda *args, **kwargs: (broken if args[0] == method else real)(*args, **kwargs)

    return of


def scaled(**factors):
    """Break a result by multiplying its fields by factors."""

    def breaks(real):
        def broken(*args, **kwargs):
            result = real(*args, **kwargs)
            return result._replace(**{name: factor * getattr(result, name) for name, factor in factors.items()})

        return broken

    return breaks


def unclipped(real):
    return lambda *args, **_: real(*args)


def in_last_arm(log_pi, value):
    log_pi[..., -1] = value
    return log_pi


def ends_in_infinity(path):
    path[-1] = INF
    return path


ALMOST = 1.0 + 1e-13  # a relative error too small to see

BREAKS = {
    "T5 alpha swapped": ("T5", "iterate", argument(2, swapped)),
    "T5 sign of A": ("T5", "iterate", argument(0, flipped)),
    "T5 a step missing": (
        "T5",
        "iterate",
        lambda real: lambda *a, **k: real(*a, **k)[[0, *range(len(real(*a, **k)) - 1)]],
    ),
    "T5 clip dropped": ("T5", "iterate", unclipped),
    "T5 an infinite path": ("T5", "iterate", lambda real: lambda *a, **k: ends_in_infinity(real(*a, **k))),
    "T5 NaN in the last arm": ("T5", "iterate", lambda real: lambda *a, **k: in_last_arm(real(*a, **k), np.nan)),
    "T5 end at beta": ("T5", "fixed_point", lambda real: lambda a, p, alpha, beta: real(a * alpha, p, alpha, beta)),
    "T5 Z without alpha": ("T5", "log_fixed_weight", lambda real: lambda a, p, al, b: real(a, p, al, b) / (al or 0.5)),
    "T5 sign of A in the weight": ("T5", "regression_weights", argument(0, flipped)),
    "T8 mean off by 1e-13": ("T8", "estimator_moments", scaled(mean=ALMOST)),
    "T8 covariance off by 1e-13": ("T8", "estimator_moments", scaled(covariance=ALMOST)),
    "T8 covariance of K-1": ("T8", "estimator_moments", scaled(covariance=1.5)),
    "T8 dar sign of the reward": ("T8", "estimator_moments", only("dar", argument(1, flipped))),
    "T8 dao anchors swapped": (
        "T8",
        "estimator_moments",
        only(
            "dao", lambda real: lambda m, r, p, o, q, *rest, **k: real(m, r, p, np.where(q > -INF, q, o), o, *rest, **k)
        ),
    ),
    "T8 grpo clip dropped": ("T8", "estimator_moments", only("grpo", option(epsilon=INF))),
    "T8 dar clip dropped": ("T8", "estimator_moments", only("dar", option(w_clip=None))),
    "T8 baseline": ("T8", "estimator_moments", option(baseline="none")),
    "T8 std dropped": ("T8", "estimator_moments", option(normalize="none")),
    "T10 own sample": ("T10", "sampled_target", option(baseline="leave_one_out")),
    "T10 sign of the reward": ("T10", "sampled_target", argument(0, flipped)),
    "T10 K + 1": ("T10", "sampled_target", argument(5, lambda count: count + 1)),
    "T10 clip dropped": ("T10", "sampled_target", argument(6, lambda _: None)),
    "T10 NaN in the last arm": (
        "T10",
        "sampled_target",
        lambda real: lambda *a, **k: in_last_arm(real(*a, **k), np.nan),
    ),
    "T10 std dropped": ("T10", "sampled_target", option(normalize="none")),
    "T11 alpha swapped": ("T11", "interpolate", argument(2, swapped)),
    "T11 sign of A": ("T11", "coverage", argument(0, flipped)),
    "T11 a step ahead": ("T11", "coverage", lambda real: lambda *a: real(*a[:4], a[4] + 1)[1:]),
    "T11 KL off by 1e-13": ("T11", "coverage", lambda real: lambda *a: real(*a) + 1e-13),
    "T11 path": ("T11", "iterate", argument(3, lambda beta: 2.0 * beta)),
}


@pytest.mark.parametrize("what", BREAKS)
def test_a_broken_float64_formula_fails_its_row(what, monkeypatch, capsys):
    key, name, breaks = BREAKS[what]
    monkeypatch.setattr(run, "STATEMENTS", {key: OURS[key]._replace(every=1)})
    monkeypatch.setattr(theory, name, breaks(getattr(theory, name)))
    assert cli.main(["verify", "--cases", "25", "--digits", "20"]) == 1
    assert f"{key} FAIL: case " in capsys.readouterr().out


def zero_out(position):
    return argument(position, lambda policy: policies.exact_policy(np.zeros(len(policy))))


CERTIFICATES = {
    "T5 alpha swapped in the step": ("T5", policies, "mixture", argument(2, swapped)),
    "T5 sign of A in the step": ("T5", policies, "optimum", argument(0, lambda adv: [-a for a in adv])),
    "T5 end at beta": (
        "T5",
        t05_t11_iteration,
        "fixed_point",
        lambda real: lambda x: real(x._replace(alpha=arb(1))),
    ),
    "T5 sign of A in the weight": ("T5", policies, "log_weights", argument(0, lambda adv: [-a for a in adv])),
    "T5 weight without the anchor": ("T5", policies, "log_weights", argument(4, lambda beta: 2 * beta)),
    "T5 KL turned round": ("T5", policies, "kl", lambda real: lambda p, q: real(q, p)),
    "T5 above the cap": ("T5", t05_t11_iteration, "capped_policy", argument(2, lambda excess: 3 * excess)),
    "T5 target without the sampler": ("T5", policies, "regression_target", zero_out(0)),
    "T5 std of another policy": ("T5", t05_t11_iteration, "_std", zero_out(0)),
    "T5 fixed point at another std": (
        "T5",
        t05_t11_iteration,
        "_std",
        lambda real: lambda log_pi, values: real(log_pi, values) * (1.0 if values[0] == 1 else 1.01),  # A starts with 1
    ),
    "T5 range of another end": (
        "T5",
        t05_t11_iteration,
        "_residuals_of_range",
        lambda real: lambda x, end: real(x, [-e for e in end]),
    ),
    "T8 sign of A in J": ("T8", policies, "objective", argument(1, lambda adv: [-a for a in adv])),
    "T8 alpha swapped in J": ("T8", policies, "objective", argument(4, swapped)),
    "T8 loss without the sampler": ("T8", policies, "regression_loss", zero_out(1)),
    "T8 target without the sampler": ("T8", policies, "regression_target", zero_out(0)),
    "T8 DAO without beta": (
        "T8",
        t08_t10_estimators,
        "dao_coefficients",
        lambda real: lambda x: real(x._replace(beta=arb(0))),
    ),
    "T8 update on another sampler": ("T8", t08_t10_estimators, "expected_update", zero_out(1)),
    "T8 first order at another beta": (
        "T8",
        t08_t10_estimators,
        "_near",
        lambda real: lambda x: real(x)._replace(beta=x.beta * 2),
    ),
    "T10 mean without the own sample": (
        "T10",
        t08_t10_estimators,
        "sampled_advantages",
        argument(1, lambda _: "none"),
    ),
    "T10 others called group": (
        "T10",
        t08_t10_estimators,
        "sampled_target",
        argument(2, lambda baseline: {"group": "leave_one_out", "leave_one_out": "group"}[baseline]),
    ),
    "T10 beta itself": ("T10", policies, "optimum", argument(4, lambda beta: beta * 1.001)),
    "T10 clipped": ("T10", policies, "log_weights", argument(5, lambda _: arb(1))),
    "T11 alpha swapped": ("T11", policies, "mixture", argument(2, swapped)),
    "T11 end at beta": (
        "T11",
        t05_t11_iteration,
        "fixed_point",
        lambda real: lambda x: real(x._replace(alpha=arb(1))),
    ),
    "T11 backwards": ("T11", t05_t11_iteration, "exact_path", lambda real: lambda *args: real(*args)[::-1]),
    "T11 KL turned round in sign": ("T11", policies, "kl", lambda real: lambda p, q: -real(p, q)),
}


LOST = np.array([-INF, np.log(0.5), np.log(0.5)])
UNCOVERED = BATCH._replace(alpha=1.0, log_pi_t=np.array([LOST, BATCH.log_pi_t[1]]))  # pi_t lacks an arm


def test_at_alpha_one_the_update_of_an_arm_never_drawn_is_missing(monkeypatch):
    """T8.2 without its rider is disproved; with the missing terms it is proved."""
    assert certify(OURS["T8"].residuals, UNCOVERED, 100).passed
    real, sampler = t08_t10_estimators.expected_update, [None, *policies.exact_policy(LOST)[1:]]

    def of_drawn_arms_only(log_pi, log_pi_t, coefficients):
        never = [p is not None and q is None for p, q in zip(log_pi_t, sampler, strict=True)]
        return real(log_pi, log_pi_t, [None if gone else c for c, gone in zip(coefficients, never, strict=True)])

    monkeypatch.setattr(t08_t10_estimators, "expected_update", of_drawn_arms_only)
    only_first = UNCOVERED._replace(
        **{name: getattr(UNCOVERED, name)[:1] for name in ("reward", "log_pi_theta", "log_pi_0", "log_pi_t")}
    )
    monkeypatch.setattr(t08_t10_estimators, "_dar_residuals", lambda *_: [])
    monkeypatch.setattr(t08_t10_estimators, "_dao_residuals", lambda *_: [])
    certificate = certify(OURS["T8"].residuals, only_first, 50)
    assert not certificate.passed
    assert certificate.radius > 1e-2


def test_at_alpha_one_the_target_of_samples_is_the_optimum_given_what_is_drawn(monkeypatch):
    """T10 without its rider is disproved: supp pi_0 is wider than supp pi_t."""
    case = GroupCase(ORDINARY._replace(alpha=1.0, log_pi_t=LOST), 3)
    assert certify(OURS["T10"].residuals, case, 100).passed
    everywhere = lambda x, beta: policies.optimum(x.advantage, x.log_pi_0, x.log_pi_t, x.alpha, beta)[0]  # noqa: E731
    monkeypatch.setattr(t08_t10_estimators, "_sampled_optimum", everywhere)
    assert certify(OURS["T10"].residuals, case, 50) == (False, INF)


def test_a_second_moment_above_the_clips_bound_is_disproved(monkeypatch):
    """T8.4, with the weights not clipped: `w_clip` 1e-3 is far below them."""
    case = BATCH._replace(w_clip=1e-3)
    assert certify(OURS["T8"].residuals, case, 100).passed
    real = policies.log_weights
    monkeypatch.setattr(policies, "log_weights", lambda *args: real(*args[:5], None))
    monkeypatch.setattr(t08_t10_estimators, "_dao_residuals", lambda *_: [])
    certificate = certify(OURS["T8"].residuals, case, 50)
    assert not certificate.passed
    assert certificate.radius > 1e4


@pytest.mark.parametrize("what", CERTIFICATES)
def test_a_broken_formula_is_disproved(what, monkeypatch):
    key, module, name, breaks = CERTIFICATES[what]
    monkeypatch.setattr(module, name, breaks(getattr(module, name)))
    case = WITNESS[key]
    if what == "T10 others called group":
        case = case._replace(num_generations=2)
        monkeypatch.setattr(updates, "_less_baseline", lambda group, _: group)  # K = 1 has no others
    certificate = certify(OURS[key].residuals, case, 50)
    assert not certificate.passed
    assert certificate.radius > 1e-4  # disproved by a large residual, and not only undecided


@pytest.mark.parametrize("alpha", [0.0, 1e-9, 1.0])
def test_end_points_of_alpha_are_proved_and_can_be_disproved(alpha, monkeypatch):
    case = ORDINARY._replace(alpha=alpha, log_pi_t=np.array([-INF, np.log(0.5), np.log(0.5)]))
    assert certify(OURS["T5"].residuals, case, 100).passed
    assert max(relative(error) for error in OURS["T5"].errors(case)) <= LIMIT
    real = policies.optimum
    monkeypatch.setattr(policies, "optimum", lambda adv, p, q, a, b: real([x * x for x in adv], p, q, a, b))
    assert not certify(OURS["T5"].residuals, case, 100).passed


def test_mass_that_leaves_the_best_arm_is_disproved(monkeypatch):
    """alpha = 0: if path and tilt both have the wrong sign, only the inequality detects it."""
    case = ORDINARY._replace(alpha=0.0)
    real = t05_t11_iteration.exact_path
    monkeypatch.setattr(t05_t11_iteration, "exact_path", lambda *args: real(*args)[::-1])
    monkeypatch.setattr(t05_t11_iteration, "contrasts", lambda *_: [])
    assert not certify(OURS["T5"].residuals, case, 100).passed


def test_inequalities_pass_where_true_or_equal_and_fail_where_false():
    assert shortfall(arb(2), arb(1)) == 0
    assert shortfall(arb(1), arb(1)) == 0
    assert shortfall(arb(1), arb(2)) == -1
    assert shortfall(arb(1, 1e-30), arb(1)).contains(0)


def test_different_supports_are_disproved():
    one, other = [arb(0), None, arb(-1)], [arb(0), arb(-2), arb(-1)]
    assert [ball.is_finite() for ball in policy_residuals(one, other)] == [True, False, True]
    assert not certify(lambda _: contrasts(one, other), None, 10).passed
    assert not certify(lambda _: contrasts([None, arb(0)], [arb(0), arb(0)]), None, 10).passed


def test_draws_cover_the_domain():
    rngs = [np.random.default_rng([1, i]) for i in range(300)]
    cases = [draw_iteration(rng) for rng in rngs]
    assert {0.0, 1.0} < {case.alpha for case in cases}
    with np.errstate(over="ignore"):
        capped = [
            case.alpha > 0 and theory.log_fixed_weight(*case[1:3], *case[4:6]) > np.log(case.w_clip) for case in cases
        ]
    assert 0.2 < np.mean(capped) < 0.8
    started = [draw_coverage(rng) for rng in rngs]
    assert all((case.log_pi_t == case.log_pi_0).all() and 0.0 < case.alpha <= 1.0 for case in started)
    assert 1.0 in {case.alpha for case in started}
    batches = [draw_batch(rng) for rng in rngs]
    assert {batch.reward.shape for batch in batches} == {(n, a) for n in (1, 2) for a in (1, 2, 3)}
    assert {(batch.baseline, batch.normalize) for batch in batches} == set(t08_t10_estimators.ADVANTAGES)
    assert any(batch.w_clip is None for batch in batches)
    assert any((batch.log_pi_0 == -INF).any() for batch in batches)
    assert any((batch.log_pi_t == -INF).any() for batch in batches)
    assert {group.num_generations for group in map(draw_group, rngs)} == {2, 3, 4}


def test_std_of_equal_rewards_gives_zero_and_of_one_group_is_its_own():
    equal, apart = [arb(3)] * 2, [arb(0), arb(4)]
    assert updates.sampled_advantages([equal], "group", "group") == [[0, 0]]
    assert updates.sampled_advantages([equal, apart], "group", "group") == [[0, 0], [-1, 1]]
    (zeros, spread) = updates.sampled_advantages([equal, apart], "leave_one_out", "batch")
    assert zeros == [0, 0]
    assert [float(a) for a in spread] == pytest.approx([-np.sqrt(2.0), np.sqrt(2.0)])
