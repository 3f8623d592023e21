"""KL, Rényi, Chernoff against 60-digit definitions, and the relations between them."""

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dar_ref.theory import chernoff, divergence, interpolate, kl, renyi
from tests.strategies import interior_alphas, log_normalized, policy_pairs
from tests.theory import reference

EPS = np.finfo(np.float64).eps
INF = np.inf
ONE_TWO = np.log([1 / 3, 2 / 3])
HALVES = np.log([0.5, 0.5])
LEFT, RIGHT = np.array([0.0, -INF]), np.array([-INF, 0.0])


def scale(*policies):
    return max(np.abs(p[p > -INF]).max() for p in policies)


@given(policy_pairs())
def test_kl_is_its_definition_to_a_few_ulp(pair):
    log_p, log_q = pair
    value = kl(log_p, log_q)
    assert value >= 0.0
    assert reference.distance(value, reference.kl(log_p, log_q)) <= 8 * EPS * scale(log_p, log_q)


def test_kl_direction():
    assert kl(HALVES, ONE_TWO) == pytest.approx(0.5 * np.log(1.5) + 0.5 * np.log(0.75), rel=1e-14)
    assert kl(ONE_TWO, HALVES) == pytest.approx(np.log(2 / 3) / 3 + 2 * np.log(4 / 3) / 3, rel=1e-14)


def test_kl_support_rules():
    assert kl(LEFT, HALVES) == np.log(2.0)
    assert kl(HALVES, LEFT) == INF
    assert kl(LEFT, RIGHT) == INF
    assert kl(LEFT, LEFT) == 0.0
    # exp(-800) underflows to 0 in float64, yet the arm has mass: KL is infinite, not nan
    assert kl(np.array([0.0, -800.0]), LEFT) == INF
    assert kl(np.array([0.0, -800.0]), HALVES) == pytest.approx(np.log(2.0), rel=1e-15)


def test_kl_of_a_policy_with_itself_is_exactly_zero_and_never_negative():
    rng = np.random.default_rng(0)
    log_p = log_normalized(rng.normal(size=(1000, 7)))
    assert (kl(log_p, log_p) == 0.0).all()
    nearby = log_normalized(log_p + 1e-9 * rng.normal(size=log_p.shape))
    assert (kl(log_p, nearby) >= 0.0).all()


def test_leading_axes_broadcast_and_one_arm():
    rng = np.random.default_rng(1)
    log_p, log_q = log_normalized(rng.normal(size=(3, 1, 4))), log_normalized(rng.normal(size=(5, 4)))
    values = kl(log_p, log_q)
    assert values.shape == (3, 5)
    for i in range(3):
        for j in range(5):
            assert values[i, j] == kl(log_p[i, 0], log_q[j])
            assert renyi(log_p, log_q, 0.3)[i, j] == renyi(log_p[i, 0], log_q[j], 0.3)
            assert chernoff(log_p, log_q).information[i, j] == pytest.approx(
                chernoff(log_p[i, 0], log_q[j])[0], rel=1e-14
            )
    assert kl(np.zeros(1), np.zeros(1)) == renyi(np.zeros(1), np.zeros(1), 0.5) == 0.0
    assert chernoff(np.zeros(1), np.zeros(1)) == (0.0, 0.5)


@given(policy_pairs(), st.sampled_from([0.0, 0.5, 2.0, 5.0]) | st.floats(0.0, 10.0))
def test_renyi_is_its_definition(pair, order):
    log_p, log_q = pair
    value = renyi(log_p, log_q, order)
    if order > 1.0 and ((log_p > -INF) & (log_q == -INF)).any():
        expected = reference.mpf(INF)
    elif order == 1.0:
        expected = reference.kl(log_p, log_q)
    else:
        expected = reference.mpmath.log(reference.power_sum(log_p, log_q, order)) / (reference.mpf(order) - 1)
    bound = 16 * EPS * (1.0 + order) * scale(log_p, log_q) * max(1.0, 1.0 / abs(order - 1.0) if order != 1.0 else 1.0)
    assert value >= 0.0
    assert reference.distance(value, expected) <= bound


@given(policy_pairs(zeros=False), st.floats(-12.0, -3.0), st.sampled_from([-1.0, 1.0]))
def test_renyi_loses_no_digits_near_order_one(pair, power, sign):
    log_p, log_q = pair
    order = 1.0 + sign * 10.0**power
    exact = reference.mpmath.log(reference.power_sum(log_p, log_q, order)) / (reference.mpf(order) - 1)
    size = scale(log_p, log_q)
    assert reference.distance(renyi(log_p, log_q, order), exact) <= 32 * EPS * size * max(1.0, size)


def test_renyi_special_orders():
    assert renyi(LEFT, HALVES, 0.0) == pytest.approx(np.log(2.0))  # -log q(p > 0)
    assert renyi(HALVES, ONE_TWO, 0.0) == pytest.approx(0.0, abs=2 * EPS)
    assert renyi(HALVES, ONE_TWO, 1.0) == kl(HALVES, ONE_TWO)
    assert renyi(HALVES, ONE_TWO, INF) == pytest.approx(np.log(1.5), rel=1e-15)  # log max p/q
    assert renyi(ONE_TWO, HALVES, INF) == pytest.approx(np.log(4 / 3), rel=1e-15)
    assert renyi(HALVES, LEFT, INF) == INF
    assert renyi(LEFT, HALVES, INF) == pytest.approx(np.log(2.0))
    assert renyi(HALVES, LEFT, 0.5) == pytest.approx(np.log(2.0))
    assert renyi(HALVES, LEFT, 2.0) == INF
    assert renyi(LEFT, RIGHT, 0.5) == INF


@given(policy_pairs(), interior_alphas)
def test_minus_log_c_is_a_renyi_divergence(pair, alpha):
    log_pi_0, log_pi_t = pair
    log_c = interpolate(log_pi_0, log_pi_t, alpha).log_c
    assert log_c <= 0.0
    expected = (1.0 - alpha) * renyi(log_pi_0, log_pi_t, alpha)
    assert -log_c == pytest.approx(expected, abs=32 * EPS * scale(log_pi_0, log_pi_t))


@given(policy_pairs())
def test_chernoff_is_the_largest_minus_log_c(pair):
    log_p, log_q = pair
    information, alpha = chernoff(log_p, log_q)
    exact = lambda a: -float(reference.mpmath.log(reference.power_sum(log_p, log_q, float(a))))  # noqa: E731
    bound = 32 * EPS * scale(log_p, log_q)
    assert 0.0 <= alpha <= 1.0
    assert information == pytest.approx(max(exact(alpha), 0.0), abs=bound)
    for other in np.linspace(0.0, 1.0, 11):
        assert exact(other) <= information + bound
    for nearby in (alpha - 1e-3, alpha + 1e-3):
        if 0.0 <= nearby <= 1.0:
            assert exact(nearby) <= information + bound


def test_chernoff_touches_both_balls_at_the_interpolated_policy():
    log_p, log_q = np.log([0.7, 0.2, 0.1]), np.log([0.05, 0.35, 0.6])
    information, alpha = chernoff(log_p, log_q)
    touching = interpolate(log_p, log_q, float(alpha)).log_pi_ref
    assert kl(touching, log_p) == pytest.approx(information, rel=1e-13)
    assert kl(touching, log_q) == pytest.approx(information, rel=1e-13)
    swapped = chernoff(log_q, log_p)
    assert swapped.information == pytest.approx(information, rel=1e-14)
    assert swapped.alpha == pytest.approx(1.0 - alpha, rel=1e-13)


def test_chernoff_in_closed_form():
    # two arms swapped: symmetric, so alpha = 1/2 and information = -log(2 sqrt(p (1-p)))
    information, alpha = chernoff(np.log([0.9, 0.1]), np.log([0.1, 0.9]))
    assert alpha == 0.5
    assert information == pytest.approx(-np.log(2.0 * np.sqrt(0.09)), rel=1e-15)
    assert chernoff(np.log([0.7, 0.2, 0.1]), np.log([0.1, 0.2, 0.7])).information == pytest.approx(
        -np.log(2 * np.sqrt(0.07) + 0.2), rel=1e-14
    )


def test_chernoff_limits():
    assert chernoff(HALVES, HALVES) == (0.0, 0.5)
    assert chernoff(LEFT, RIGHT) == (INF, 0.5)
    # LEFT is HALVES on the common support: -log C(alpha) = (1-alpha) log 2 is largest at the limit alpha -> 0
    assert chernoff(LEFT, HALVES) == (pytest.approx(np.log(2.0), rel=1e-15), 0.0)
    assert chernoff(HALVES, LEFT) == (pytest.approx(np.log(2.0), rel=1e-15), 1.0)


def test_chernoff_of_policies_hundreds_of_nats_apart():
    log_p, log_q = log_normalized(np.array([0.0, -900.0, -5.0])), log_normalized(np.array([-700.0, 0.0, -6.0]))
    information, alpha = chernoff(log_p, log_q)
    grid = [-float(reference.mpmath.log(reference.power_sum(log_p, log_q, a))) for a in np.linspace(0, 1, 2001)]
    assert information >= max(grid) - 1e-12
    assert information == pytest.approx(max(grid), abs=1e-4)
    assert alpha == pytest.approx(np.linspace(0, 1, 2001)[int(np.argmax(grid))], abs=1e-3)


def test_the_search_for_alpha_is_a_newton_iteration(monkeypatch):
    """With a broken slope or curvature the search still converges, by slow bisection. So count the steps."""
    steps = []
    real = np.errstate
    monkeypatch.setattr(np, "errstate", lambda **kw: steps.append(kw) or real(**kw))  # entered once per step
    rng = np.random.default_rng(0)
    log_p, log_q = (log_normalized(2.0 * rng.normal(size=(200, 6))) for _ in range(2))
    chernoff(log_p, log_q)
    divided = [kw for kw in steps if {"divide", "invalid"} <= set(kw)]
    assert 3 <= len(divided) <= 8  # for the slowest of 200 rows; bisection takes 50


def test_rows_of_a_batch_are_what_each_is_alone():
    """A batch with rows of other spreads, without common arms, decided at an end point, and far below the others."""
    rng = np.random.default_rng(1)
    spread = np.array([1e-3, 1.0, 30.0, 1000.0])[:, None]
    log_p, log_q = (log_normalized(spread * rng.normal(size=(4, 5))) for _ in range(2))
    apart = log_normalized(np.array([[0.0, -1.0, -INF, -INF, -INF], [-INF, -INF, 0.0, -2.0, 1.0]]))
    log_p, log_q = np.vstack([log_p, apart[:1]]), np.vstack([log_q, apart[1:]])
    slopes = np.array([0.0, 0.3, -2.0, 50.0])[:, None]
    lowest, alpha = divergence.lowest_log_c(log_p, log_q, slopes)
    assert lowest.shape == alpha.shape == (4, 5)
    inside = (alpha > 0.0) & (alpha < 1.0)
    assert 4 + 3 <= inside.sum() <= 4 + 12  # four without a common arm have 1/2
    for i, j in np.ndindex(4, 5):
        alone = divergence.lowest_log_c(log_p[j], log_q[j], slopes[i, 0])
        assert [lowest[i, j], alpha[i, j]] == pytest.approx([float(x) for x in alone], rel=1e-13, abs=1e-13)


def test_a_slope_per_row_broadcasts():
    log_p, log_q = np.log([0.7, 0.2, 0.1]), np.log([0.1, 0.2, 0.7])
    slopes = np.array([-10.0, 0.0, 0.1, 10.0])
    lowest, alpha = divergence.lowest_log_c(log_p, log_q, slopes)
    grid = np.linspace(0.0, 1.0, 4001)
    values = (
        grid[:, None] * slopes + np.log(np.exp(np.outer(grid, log_p) + np.outer(1 - grid, log_q)).sum(axis=1))[:, None]
    )
    assert lowest == pytest.approx(values.min(axis=0), abs=1e-7)
    assert alpha == pytest.approx(grid[values.argmin(axis=0)], abs=1e-3)
    assert alpha[0] == 1.0
    assert alpha[-1] == 0.0


def test_renyi_of_infinite_order_is_taken_row_by_row():
    rows = np.stack([HALVES, ONE_TWO])
    assert renyi(rows, HALVES, INF) == pytest.approx([0.0, np.log(4 / 3)], abs=1e-15)


@pytest.mark.parametrize("below", [1e-6, 1e-9, 1e-12, 1e-14])
def test_renyi_just_below_order_one_keeps_its_digits_beside_an_arm_that_q_lacks(below):
    log_p = np.array([np.log(0.5), np.log(0.5), np.log(1e-20)])
    log_q = np.array([np.log(0.3), np.log(0.7), -INF])
    order = 1.0 - below
    exact = mpmath.log(reference.power_sum(log_p, log_q, order)) / (mpmath.mpf(order) - 1)
    assert renyi(log_p, log_q, order) == pytest.approx(float(exact), rel=1e-14)


@pytest.mark.parametrize("order", [1e15, 1e17, 1e300, 1e308])
def test_renyi_of_a_huge_order_is_that_of_infinity(order):
    log_p, log_q = np.log([0.7, 0.2, 0.1]), np.log([0.1, 0.2, 0.7])
    assert renyi(log_p, log_q, order) == pytest.approx(np.log(7.0), rel=1e-14)
    assert renyi(log_p, np.array([-INF, np.log(0.5), np.log(0.5)]), order) == INF
