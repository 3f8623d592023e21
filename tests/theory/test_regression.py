"""T3 and T4: the minimiser of the weighted regression, with and without the clip."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dar_ref.theory import kl, optimum, regression_loss, regression_target, regression_weights
from tests.strategies import Setting, log_normalized, settings
from tests.theory import reference

EPS = np.finfo(np.float64).eps
INF = np.inf
LEFT, HALVES = np.array([0.0, -INF]), np.log([0.5, 0.5])
clips = st.none() | st.floats(-3.0, 4.0).map(lambda power: 10.0**power)


def tilted_scale(s: Setting, w_clip=None):
    finite = max(np.abs(p[p > -INF]).max() for p in (s.log_pi, s.log_pi_0, s.log_pi_t))
    return np.abs(s.advantage).max() / s.beta + finite + (0.0 if w_clip is None else abs(np.log(w_clip)))


@given(settings(), clips)
def test_target_and_mass_are_their_definitions(s, w_clip):
    exact = reference.weights(*s[1:], w_clip)
    bound = 8 * EPS * tilted_scale(s, w_clip)
    assert reference.distance(regression_target(*s[1:], w_clip), reference.log_normalized(exact)) <= bound
    log_mass = regression_weights(*s[1:], w_clip).log_mass
    assert reference.distance(log_mass, reference.mpmath.log(reference.mpmath.fsum(exact))) <= bound


@given(settings(), clips)
def test_loss_is_its_definition(s, w_clip):
    exact = reference.weights(*s[1:], w_clip)
    mass = reference.mpmath.fsum(exact)
    assume(abs(reference.mpmath.log(mass)) < 700)
    log_pi = reference.log_normalized(reference.probabilities(s.log_pi))
    loss = reference.mpmath.fsum(-w * p for w, p in zip(exact, log_pi, strict=True) if w > 0)
    actual = regression_loss(s.log_pi, *s[1:], w_clip)
    if loss == reference.mpmath.inf:
        assert actual == INF
    else:
        finite = np.abs(s.log_pi[s.log_pi > -INF]).max()
        assert abs(reference.mpf(float(actual)) - loss) / mass <= 8 * EPS * tilted_scale(s, w_clip) * finite


@given(settings(), clips)
def test_gap_of_the_loss_is_mass_times_kl_for_every_policy(s, w_clip):
    """L(pi) - L(pi') = (sum pi_t v) KL(pi'‖pi): T3 without, T4 with the clip."""
    scaled = s._replace(beta=max(s.beta, np.abs(s.advantage).max() / 100.0))  # weights within float64
    target = regression_target(*scaled[1:], w_clip)
    log_mass = regression_weights(*scaled[1:], w_clip).log_mass
    assume(log_mass < 600.0)
    mass = np.exp(log_mass)
    at_pi, at_target = (regression_loss(p, *scaled[1:], w_clip) for p in (scaled.log_pi, target))
    gap = mass * kl(target, scaled.log_pi)
    if gap == INF:
        assert at_pi == INF
    else:
        scale = tilted_scale(scaled, w_clip)
        assert abs(at_pi - at_target - gap) <= 16 * EPS * mass * scale * max(1.0, scale)


@given(settings())
def test_t3_minimiser_is_the_optimum_where_the_sampler_reaches_it(s):
    best = optimum(*s[1:]).log_pi
    reached = s.log_pi_t > -INF
    kept = reached & (best > -INF)
    target = regression_target(*s[1:])
    assert ((target > -INF) == kept).all()
    expected = log_normalized(best[kept])
    assert np.abs(target[kept] - expected).max() <= 16 * EPS * tilted_scale(s)


def test_t3_alpha_one_with_a_wider_pi_0_restricts_the_optimum():
    wide, narrow = np.log([0.2, 0.3, 0.5]), np.log([0.5, 0.5, 1e-300])
    narrow[2] = -INF
    advantage = np.array([0.3, -0.2, 1.0])
    target = regression_target(advantage, wide, narrow, 1.0, 0.5)
    weights = np.array([0.2, 0.3]) * np.exp(advantage[:2] / 0.5)
    assert np.exp(target) == pytest.approx([*(weights / weights.sum()), 0.0], rel=1e-14)
    assert optimum(advantage, wide, narrow, 1.0, 0.5).log_pi[2] > -1.0  # pi* itself prefers the arm never sampled


@given(settings())
def test_t4_clip_far_above_the_weights_changes_nothing_and_far_below_imitates_the_sampler(s):
    log_weight = regression_weights(*s[1:]).log_weight
    carried = log_weight[log_weight > -INF]
    assume(np.abs(carried).max() < 600.0)
    above, below = float(np.exp(carried.max() + 1.0)), float(np.exp(carried.min() - 1.0))
    assert (regression_target(*s[1:], above) == regression_target(*s[1:], None)).all()
    assert (regression_target(*s[1:], INF) == regression_target(*s[1:], None)).all()
    sampler = np.where(log_weight > -INF, s.log_pi_t, -INF)
    sampler = sampler - np.log(np.exp(sampler).sum())
    target = regression_target(*s[1:], below)
    assert np.exp(target) == pytest.approx(np.exp(sampler), abs=1e-12)
    assert regression_weights(*s[1:], below).log_weight.max() == np.log(below)


def test_weights_by_hand():
    log_pi_0, log_pi_t = np.log([0.9, 0.1]), np.log([0.3, 0.7])
    weights = regression_weights(np.array([1.0, -1.0]), log_pi_0, log_pi_t, 0.5, 2.0, w_clip=2.0)
    first, second = np.sqrt(3.0) * np.exp(0.5), np.sqrt(1 / 7) * np.exp(-0.5)
    assert first > 2.0
    assert np.exp(weights.log_weight) == pytest.approx([2.0, second], rel=1e-15)
    assert np.exp(weights.log_mass) == pytest.approx(0.3 * 2.0 + 0.7 * second, rel=1e-14)


def test_support_rules():
    zero = np.zeros(2)
    assert regression_weights(zero, LEFT, HALVES, 0.0, 1.0).log_weight.tolist() == [0.0, 0.0]  # 0^0 = 1
    assert regression_weights(zero, LEFT, HALVES, 0.5, 1.0).log_weight.tolist() == [0.5 * np.log(2.0), -INF]
    assert regression_weights(zero, HALVES, LEFT, 0.5, 1.0).log_weight[1] == -INF  # never sampled
    assert regression_loss(LEFT, zero, HALVES, HALVES, 0.5, 1.0) == INF
    assert regression_loss(LEFT, zero, HALVES, LEFT, 0.5, 1.0) == 0.0
    with pytest.raises(ValueError, match="no arm in common"):
        regression_target(zero, LEFT, np.array([-INF, 0.0]), 0.5, 1.0)


def test_loss_beyond_float64_is_inf_without_a_warning():
    assert regression_loss(HALVES, np.array([1e6, 0.0]), HALVES, HALVES, 0.1, 1.0) == INF
    near_the_top = np.full(4, 709.5)  # every term is finite, but their sum is not
    assert regression_loss(np.log([0.25] * 4), near_the_top, np.log([0.25] * 4), np.log([0.25] * 4), 0.0, 1.0) == INF
    assert np.isfinite(regression_weights(np.array([1e6, 0.0]), HALVES, HALVES, 0.1, 1.0).log_mass)


def test_leading_axes_broadcast():
    rng = np.random.default_rng(0)
    log_pi, log_pi_0, log_pi_t = (log_normalized(rng.normal(size=s)) for s in ((4, 1, 1, 3), (2, 1, 3), (5, 3)))
    arguments = (rng.normal(size=3), log_pi_0, log_pi_t, 0.4, 0.7, 1.5)
    loss = regression_loss(log_pi, *arguments)
    assert loss.shape == (4, 2, 5)
    assert regression_target(*arguments).shape == regression_weights(*arguments).log_weight.shape == (2, 5, 3)
    one = (arguments[0], log_pi_0[1, 0], log_pi_t[4], *arguments[3:])
    assert loss[3, 1, 4] == pytest.approx(regression_loss(log_pi[3, 0, 0], *one), rel=1e-15)
    assert regression_weights(*arguments).log_mass[1, 4] == pytest.approx(regression_weights(*one).log_mass, rel=1e-15)
