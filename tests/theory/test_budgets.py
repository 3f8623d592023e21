"""T12: the path of hard budgets, against roots on its curve, the conditions of each step, and by-hand ends."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from dar_ref.theory import budgeted_path, constrained_optimum, kl, optimum
from tests.strategies import Array, Setting, log_normalized, settings

EVEN = np.log([0.5, 0.5])
FIRST = np.array([1.0, 0.0])
LOG_PI_0 = np.log([0.2, 0.3, 0.4, 0.1])
GAIN = np.array([1.0, -0.5, 0.25, 2.0])
budgets = st.floats(-6.0, 2.0).map(lambda power: 10.0**power)


def on_curve(theta: float) -> Array:
    return log_normalized(LOG_PI_0 + theta * GAIN)


def furthest(theta: float, eps: float) -> float:
    """The theta at which `KL(pi_theta‖now)` is eps, by bisection on the one-dimensional curve."""
    now = on_curve(theta)
    return float(brentq(lambda t: kl(on_curve(t), now) - eps, theta, theta + 50.0, xtol=1e-14))


@pytest.mark.parametrize(("eps_0", "eps_t"), [(0.5, 0.02), (0.5, 0.2), (0.5, 0.7), (1.0, 0.3)])
def test_the_path_is_the_furthest_walk_along_its_curve(eps_0: float, eps_t: float) -> None:
    limit, thetas = furthest(0.0, eps_0), [0.0]
    for _ in range(12):
        thetas.append(min(furthest(thetas[-1], eps_t), limit))
    path = budgeted_path(GAIN, LOG_PI_0, eps_0, eps_t, 12)
    np.testing.assert_allclose(path, [on_curve(theta) for theta in thetas], rtol=1e-9)


@given(settings(), budgets, budgets)
def test_both_budgets_are_kept_and_the_reward_never_falls(bandit: Setting, eps_0: float, eps_t: float) -> None:
    path = budgeted_path(bandit.advantage, bandit.log_pi_0, eps_0, eps_t, 4)
    nats = 1e-12 * (1.0 + np.abs(path[path > -np.inf]).max())
    assert (kl(path, bandit.log_pi_0) <= eps_0 + nats).all()
    assert (kl(path[1:], path[:-1]) <= eps_t + nats).all()
    value = np.exp(path) @ (bandit.advantage - bandit.advantage.max())
    assert (np.diff(value) >= -1e-9 * np.ptp(bandit.advantage)).all()
    assert (path[:, bandit.log_pi_0 == -np.inf] == -np.inf).all()


@given(settings(), budgets, st.floats(1.05, 3.5))
def test_more_than_e0_over_et_steps_are_at_the_best_of_the_ball(bandit: Setting, eps_0: float, steps: float) -> None:
    path = budgeted_path(bandit.advantage, bandit.log_pi_0, eps_0, eps_0 / steps, int(steps) + 1)
    best = constrained_optimum(bandit.advantage, bandit.log_pi_0, bandit.log_pi_0, eps_0, np.inf)
    value = np.exp(path[-1]) @ (bandit.advantage - bandit.advantage.max())
    assert value == pytest.approx(best.value - bandit.advantage.max(), rel=1e-6, abs=1e-9 * np.ptp(bandit.advantage))


def test_every_step_is_the_dar_step_of_its_multipliers_with_alpha_zero_and_then_one() -> None:
    path = budgeted_path(GAIN, LOG_PI_0, 0.5, 0.05, 6)
    alphas = []
    for now, ahead in pairwise(path):
        best = constrained_optimum(GAIN, LOG_PI_0, now, 0.5, 0.05)
        np.testing.assert_allclose(optimum(GAIN, LOG_PI_0, now, best.alpha, best.beta).log_pi, ahead, rtol=1e-12)
        alphas.append(best.alpha)
    assert alphas == [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("eps_t", [1e-2, 1e-4, 1e-6])
def test_a_small_budget_stands_in_the_place_of_the_std(eps_t: float) -> None:
    """beta = sd(A)/sqrt(2 et) up to a term of the order sqrt(et), from the skewness of A."""
    pi = np.exp(LOG_PI_0)
    std = np.sqrt(pi @ (GAIN - pi @ GAIN) ** 2)
    beta = constrained_optimum(GAIN, LOG_PI_0, LOG_PI_0, np.inf, eps_t).beta
    assert beta * np.sqrt(2.0 * eps_t) / std == pytest.approx(1.0, abs=np.sqrt(eps_t))
    path = budgeted_path(GAIN, LOG_PI_0, 0.5, eps_t, 3)
    np.testing.assert_allclose(budgeted_path(1e5 * GAIN, LOG_PI_0, 0.5, eps_t, 3), path, rtol=1e-9)


@pytest.mark.parametrize(("eps_0", "eps_t"), [(0.0, 0.3), (0.3, 0.0), (0.0, 0.0), (0.0, np.inf), (np.inf, 0.0)])
def test_without_a_budget_nothing_moves(eps_0: float, eps_t: float) -> None:
    assert (budgeted_path(GAIN, LOG_PI_0, eps_0, eps_t, 3) == LOG_PI_0).all()


def test_a_budget_below_rounding_stays_where_it_is_and_does_not_fail() -> None:
    path = budgeted_path(GAIN, LOG_PI_0, 0.5, 1e-300, 5)
    np.testing.assert_allclose(path, np.tile(LOG_PI_0, (6, 1)), atol=1e-14)
    at_the_border = budgeted_path(GAIN, LOG_PI_0, 0.5, 0.1, 40)
    assert (np.ptp(at_the_border[10:], axis=0) == 0.0).all()


def test_a_constant_advantage_does_not_move() -> None:
    np.testing.assert_allclose(budgeted_path(np.ones(4), LOG_PI_0, 0.5, 0.1, 3), np.tile(LOG_PI_0, (4, 1)), atol=1e-15)


def test_tied_best_arms_keep_the_proportions_of_pi_0() -> None:
    """Room for the best arms alone: KL = log 2 < 0.7. The path ends in pi_0 on them."""
    log_pi_0 = np.log([0.1, 0.4, 0.25, 0.25])
    path = budgeted_path(np.array([1.0, 1.0, 0.0, -1.0]), log_pi_0, 0.7, 0.2, 8)
    np.testing.assert_allclose(np.exp(path[:, 0] - path[:, 1]), 0.25, rtol=1e-9)
    np.testing.assert_allclose(np.exp(path[-1]), [0.2, 0.8, 0.0, 0.0], atol=1e-12)


def test_an_arm_that_pi_0_lacks_never_appears() -> None:
    path = budgeted_path(np.array([5.0, 1.0, 0.0]), np.array([-np.inf, *EVEN]), np.inf, 0.4, 3)
    assert (path[:, 0] == -np.inf).all()
    assert np.exp(path[-1, 1]) == pytest.approx(1.0)


def test_infinite_budgets_reach_the_best_arm_in_one_step_or_by_small_ones() -> None:
    assert np.exp(budgeted_path(GAIN, LOG_PI_0, np.inf, np.inf, 1)[-1]).tolist() == [0.0, 0.0, 0.0, 1.0]
    path = budgeted_path(GAIN, LOG_PI_0, np.inf, 0.5, 5)  # -log pi_0(best) = 2.3 < 5 * 0.5
    assert np.exp(path[-1]).tolist() == [0.0, 0.0, 0.0, 1.0]
    assert np.exp(path[2, 3]) < 1.0


def test_one_arm_and_no_steps() -> None:
    assert budgeted_path(np.array([3.0]), np.zeros(1), 0.1, 0.1, 2).tolist() == [[0.0], [0.0], [0.0]]
    assert budgeted_path(GAIN, LOG_PI_0, 0.1, 0.1, 0).tolist() == [LOG_PI_0.tolist()]


def test_leading_axes_broadcast_and_each_row_is_its_own_bandit() -> None:
    gains = np.stack([GAIN, -GAIN, 2.0 * GAIN])
    path = budgeted_path(gains[:, None], np.stack([LOG_PI_0, LOG_PI_0[::-1]]), 0.3, 0.1, 2)
    assert path.shape == (3, 3, 2, 4)
    np.testing.assert_array_equal(path[:, 1, 1], budgeted_path(-GAIN, LOG_PI_0[::-1], 0.3, 0.1, 2))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"eps_0": -1.0}, ValueError, "eps_0 = -1.0"),
        ({"eps_t": float("nan")}, ValueError, "eps_t = nan"),
        ({"steps": -1}, ValueError, "steps = -1 is below 0"),
        ({"steps": 2.0}, TypeError, "steps = 2.0 is a float"),
        ({"advantage": np.array([np.nan, 0.0])}, ValueError, "every value must be finite"),
        ({"log_pi_0": np.array([0.5, 0.5])}, ValueError, "holds probabilities"),
        ({"advantage": np.zeros(3)}, ValueError, "different numbers of arms"),
    ],
)
def test_bad_input_is_refused(change: dict[str, object], error: type[Exception], message: str) -> None:
    arguments = {"advantage": FIRST, "log_pi_0": EVEN, "eps_0": 0.1, "eps_t": 0.1, "steps": 1} | change
    with pytest.raises(error, match=message):
        budgeted_path(**arguments)
