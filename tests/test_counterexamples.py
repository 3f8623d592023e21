"""False statements about DAR, each with a small counterexample."""

import numpy as np
import pytest

from dar_ref.theory import (
    constrained_optimum,
    dual_kl,
    interpolate,
    kl,
    objective,
    optimum,
    regression_loss,
    regression_target,
    regression_weights,
    renyi,
)

PI_0, PI_T = np.log([0.8, 0.2]), np.log([0.2, 0.8])
HALVES = np.log([0.5, 0.5])


def test_false_t1_without_log_c():
    """Summaries drop -log C. Halfway between two mirrored policies the KL to pi_ref is 0, but the dual KL is not."""
    log_pi_ref, log_c = interpolate(PI_0, PI_T, 0.5)
    assert kl(HALVES, log_pi_ref) == pytest.approx(0.0, abs=1e-15)
    assert dual_kl(HALVES, PI_0, PI_T, 0.5) == pytest.approx(np.log(5 / 4), rel=1e-14)  # = -log C, C = 4/5
    assert -log_c == pytest.approx(np.log(5 / 4), rel=1e-14)


def test_false_interpolation_in_probability_space():
    """T1 needs the geometric mean. The arithmetic mean has another KL, and the difference depends on pi."""
    pi_0, pi_t, alpha = np.log([0.9, 0.1]), np.log([0.5, 0.5]), 0.5
    arithmetic = np.log(alpha * np.exp(pi_0) + (1 - alpha) * np.exp(pi_t))
    offsets = [dual_kl(pi, pi_0, pi_t, alpha) - kl(pi, arithmetic) for pi in (HALVES, np.log([0.9, 0.1]))]
    assert abs(offsets[0] - offsets[1]) > 0.1


def test_false_the_clip_leaves_the_optimum_where_it_was():
    """Two arms, pi_0 = pi_t uniform, A = (1, -1), beta 1: a clip at 1 divides the odds of the better arm by e."""
    advantage = np.array([1.0, -1.0])
    free = np.exp(regression_target(advantage, HALVES, HALVES, 0.1, 1.0))
    clipped = np.exp(regression_target(advantage, HALVES, HALVES, 0.1, 1.0, w_clip=1.0))
    assert free[0] == pytest.approx(np.exp(1) / (np.exp(1) + np.exp(-1)), rel=1e-14)
    assert clipped[0] == pytest.approx(1 / (1 + np.exp(-1)), rel=1e-14)


def test_false_the_gap_identity_with_the_kl_turned_round():
    """J(pi*) - J(pi) is beta KL(pi‖pi*), not beta KL(pi*‖pi)."""
    bandit = (np.array([1.0, 0.0]), HALVES, HALVES, 0.5, 1.0)
    best = optimum(*bandit).log_pi
    pi = np.log([0.9, 0.1])
    gap = objective(best, *bandit) - objective(pi, *bandit)
    assert gap == pytest.approx(kl(pi, best), rel=1e-13)
    assert abs(gap - kl(best, pi)) > 0.02


def test_false_the_regression_gap_with_the_kl_turned_round():
    """The regression is a forward KL: L(pi) - L(pi*) is mass * KL(pi*‖pi), while J has the reverse one."""
    bandit = (np.array([1.0, 0.0]), HALVES, HALVES, 0.5, 1.0)
    target, pi = regression_target(*bandit), np.log([0.9, 0.1])
    mass = np.exp(regression_weights(*bandit).log_mass)
    gap = regression_loss(pi, *bandit) - regression_loss(target, *bandit)
    assert gap == pytest.approx(mass * kl(target, pi), rel=1e-13)
    assert abs(gap - mass * kl(pi, target)) > 0.02


def test_false_regression_and_objective_agree_in_a_restricted_class():
    """Same optimum when every policy is allowed; of two candidates the two losses pick different ones."""
    bandit = (np.log([0.9, 0.1, 1e-6]), np.log([1 / 3] * 3), np.log([1 / 3] * 3), 0.5, 1.0)
    covers, seeks = np.log([0.6, 0.3, 0.1]), np.log([0.999, 0.001 - 1e-9, 1e-9])
    assert objective(seeks, *bandit) > objective(covers, *bandit)  # the reverse KL favours mode seeking
    assert regression_loss(seeks, *bandit) > regression_loss(covers, *bandit)  # the forward KL punishes missing mass


def test_false_the_minimiser_is_the_optimum_whatever_the_sampler_covers():
    """At alpha = 1 a wider pi_0 has mass on arms that pi_t never samples. No regression on samples can learn it."""
    sampler = np.array([0.0, -np.inf])
    best = optimum(np.zeros(2), HALVES, sampler, 1.0, 1.0).log_pi
    target = regression_target(np.zeros(2), HALVES, sampler, 1.0, 1.0)
    assert best.tolist() == HALVES.tolist()
    assert target.tolist() == [0.0, -np.inf]


def test_false_the_dual_kl_is_symmetric_in_its_anchors():
    """alpha is the weight of pi_0. If it is swapped with 1-alpha, the value changes, but for alpha 1/2 or equal KLs."""
    assert dual_kl(PI_0, PI_0, PI_T, 0.25) == pytest.approx(3.0 * dual_kl(PI_0, PI_0, PI_T, 0.75), rel=1e-13)


def test_false_alpha_log_c_is_the_renyi_divergence_itself():
    """-log C is (1-alpha) D_alpha, not D_alpha."""
    log_c = interpolate(PI_0, PI_T, 0.5).log_c
    assert -log_c == pytest.approx(0.5 * renyi(PI_0, PI_T, 0.5), rel=1e-14)


def test_false_scaling_all_weights_leaves_a_clipped_target_alone():
    """A constant added to A scales every weight. Without the clip this changes nothing; with it the target moves."""
    advantage, shift = np.array([1.0, -1.0]), 2.0
    free = [regression_target(advantage + c, HALVES, HALVES, 0.1, 1.0) for c in (0.0, shift)]
    clipped = [regression_target(advantage + c, HALVES, HALVES, 0.1, 1.0, w_clip=1.5) for c in (0.0, shift)]
    assert free[0] == pytest.approx(free[1], abs=1e-14)
    assert np.abs(clipped[0] - clipped[1]).max() > 0.3


def test_false_an_active_constraint_makes_a_dar_policy():
    """Uniform anchors, A = (1, 0), e0 = log 2, the largest KL there is: the best arm alone is inside, and its KL is e0.

    The constraint is active, but a larger e0 gains nothing: the multiplier is 0, and no DAR policy lacks an arm of S.
    """
    advantage, eps_0 = np.array([1.0, 0.0]), float(kl(np.array([0.0, -np.inf]), HALVES))
    best = constrained_optimum(advantage, HALVES, HALVES, eps_0, np.inf)
    assert np.exp(best.log_pi) == pytest.approx([1.0, 0.0], abs=1e-15)
    assert best.beta == 0.0
    assert np.isnan(best.alpha)
    assert kl(best.log_pi, HALVES) == pytest.approx(eps_0)
    assert constrained_optimum(advantage, HALVES, HALVES, 2.0 * eps_0, np.inf).value == best.value == 1.0
