"""Batch-normalised advantages (T5): fixed points, threshold, runs to a corner; by definition and in 50 digits."""

from functools import partial

import hypothesis.strategies as st
import mpmath
import numpy as np
import pytest
from hypothesis import assume, given

from dar_ref.theory.iteration import iterate
from dar_ref.theory.normalization import log_ratio_std, normalized_fixed_points, normalized_threshold
from tests.strategies import Array, log_normalized, policies

uniform = np.log([0.5, 0.5])
two = np.array([1.0, -1.0])


def exact_spread(p: mpmath.mpf, q: mpmath.mpf) -> mpmath.mpf:
    """std of log(pi/pi_0) under pi = (p, 1-p), pi_0 = (q, 1-q), by its definition."""
    ratios, weights = (mpmath.log(p / q), mpmath.log((1 - p) / (1 - q))), (p, 1 - p)
    mean = sum(w * r for w, r in zip(weights, ratios, strict=True))
    return mpmath.sqrt(sum(w * (r - mean) ** 2 for w, r in zip(weights, ratios, strict=True)))


def exact_threshold(log_q: float) -> mpmath.mpf:
    """1 / max over p > q of that std, by ternary search in the log odds of p: no derivative, no hyperbolic function."""
    q = mpmath.exp(mpmath.mpf(log_q))
    low, high = mpmath.log(q / (1 - q)), mpmath.mpf(max(0.0, float(mpmath.log(q / (1 - q))))) + 20

    def spread(odds: mpmath.mpf) -> mpmath.mpf:
        return exact_spread(1 / (1 + mpmath.exp(-odds)), q)

    for _ in range(150):
        third = (high - low) / 3
        if spread(low + third) < spread(high - third):
            low += third
        else:
            high -= third
    return 1 / spread(low)


def exact_update(odds: mpmath.mpf, start_odds: mpmath.mpf, alpha: float, beta: float) -> mpmath.mpf:
    """One normalised update of the log odds, from the weights of the two arms."""
    p = 1 / (1 + mpmath.exp(-odds))
    mean, std = p - (1 - p), mpmath.sqrt(1 - (2 * p - 1) ** 2)
    gain = ((1 - mean) / std - (-1 - mean) / std) / mpmath.mpf(beta)
    return mpmath.mpf(alpha) * start_odds + (1 - mpmath.mpf(alpha)) * odds + gain


# --- the threshold ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log_q", [*np.log([0.5, 0.25, 0.01, 1e-6, 0.9, 0.999]), -1e-9, -50.0, -400.0, -700.0])
def test_threshold_against_fifty_digits(log_q: float) -> None:
    with mpmath.workdps(50):
        assert abs(mpmath.mpf(float(normalized_threshold(np.array(log_q)))) / exact_threshold(log_q) - 1) < 1e-12


def test_threshold_of_uniform_pi_0_is_the_inverse_of_the_laplace_limit() -> None:
    """The radius of convergence of Kepler's series, `x exp(sqrt(1+x^2)) = 1 + sqrt(1+x^2)`: another equation."""
    with mpmath.workdps(50):
        laplace = mpmath.findroot(lambda x: x * mpmath.exp(mpmath.hypot(1, x)) - 1 - mpmath.hypot(1, x), 0.66)
        assert abs(mpmath.mpf(float(normalized_threshold(np.log(0.5)))) - 1 / laplace) < 1e-15
    assert round(float(normalized_threshold(np.log(0.5))), 3) == 1.509


def test_threshold_keeps_shapes_rises_with_the_prior_and_has_the_stated_limits() -> None:
    log_q = -np.geomspace(1e-12, 1e6, 400).reshape(2, 200)
    threshold = normalized_threshold(log_q)
    assert threshold.shape == (2, 200)
    assert (np.diff(threshold.ravel()) < 0.0).all()
    assert abs(float(normalized_threshold(np.array(-1e6))) * 1e6 / 2 - 1) < 1e-10
    assert abs(float(normalized_threshold(np.array(-1e-12))) * 2e-6 / np.e - 1) < 1e-10
    assert np.isfinite(normalized_threshold(np.array([-1e300, -5e-324]))).all()


def test_the_paper_setting_needs_an_arm_of_probability_e_to_the_minus_400() -> None:
    """alpha beta = 0.1 * 0.05: possible at log q = -400 and not at -399.99; for no reward on an ordinary pi_0."""
    assert normalized_threshold(np.array(-400.0)) < 0.1 * 0.05 < normalized_threshold(np.array(-399.99))


# --- two arms: all fixed points ---------------------------------------------------------------------------------------


@st.composite
def two_arm_settings(draw: st.DrawFn) -> tuple[float, float, float]:
    """(log q, alpha, beta): the prior of the better arm from e^-300 to 1 - e^-30, the parameters over many orders."""
    odds = draw(st.floats(-30.0, 30.0) | st.floats(-300.0, 0.0))
    return -float(np.logaddexp(0.0, -odds)), draw(st.floats(0.0, 1.0)), 10.0 ** draw(st.floats(-3.0, 4.0))


def log_prior_pair(log_q: float) -> Array:
    return np.array([log_q, np.log(-np.expm1(log_q))])


@given(two_arm_settings())
def test_fixed_points_are_fixed_complete_and_their_slopes_right(setting: tuple[float, float, float]) -> None:
    log_q, alpha, beta = setting
    log_pi_0 = log_prior_pair(log_q)
    points = normalized_fixed_points(two, log_pi_0, alpha, beta)
    threshold = float(normalized_threshold(np.array(log_q)))
    assume(abs(alpha * beta / threshold - 1.0) > 1e-6)
    assert len(points.log_pi) == (2 if alpha * beta > threshold else 0)
    np.testing.assert_array_equal(points.attracting, np.abs(points.slope) < 1.0)
    with mpmath.workdps(400):
        start = mpmath.mpf(log_pi_0[0]) - mpmath.mpf(log_pi_0[1])
        for log_pi, slope in zip(points.log_pi, points.slope, strict=True):
            odds, h = mpmath.mpf(log_pi[0]) - mpmath.mpf(log_pi[1]), mpmath.mpf(10) ** -60
            # a slope close to 1 amplifies the rounding of the odds
            moved = exact_update(odds, start, alpha, beta) - odds
            assert abs(moved) <= 1e-13 * (1 + abs(odds)) * (1 + abs(1 - slope)) * (1 + abs(odds - start)) + 1e-13 * abs(
                odds
            )
            numeric = (exact_update(odds + h, start, alpha, beta) - exact_update(odds - h, start, alpha, beta)) / (
                2 * h
            )
            assert abs(numeric - mpmath.mpf(slope)) <= 1e-10 * (1 + abs(numeric)) * (1 + abs(odds))
    if len(points.slope):
        assert points.slope[0] < 1.0 < points.slope[1]  # the nearer attracts unless it overshoots, the other repels
        assert points.log_pi[0, 0] < points.log_pi[1, 0]


def test_exactly_at_the_threshold_the_two_points_are_one() -> None:
    threshold = float(normalized_threshold(np.log(0.5)))
    points = normalized_fixed_points(two, uniform, 1.0, threshold)
    assert points.log_pi.shape == (1, 2)
    # x tanh x = 1 at x = 1.19967864025773..., a constant of its own (the fixed point of coth)
    np.testing.assert_allclose(points.log_pi[0, 0] - points.log_pi[0, 1], 2 * 1.1996786402577338, rtol=1e-15)
    assert abs(points.slope[0] - 1.0) < 1e-15


def test_order_and_scale_of_the_advantages_do_not_matter() -> None:
    log_pi_0 = np.log([0.2, 0.8])
    points = normalized_fixed_points(np.array([1e-9, 0.0]), log_pi_0, 0.5, 6.0)
    swapped = normalized_fixed_points(np.array([-1e9, 1e9]), log_pi_0[::-1], 0.5, 6.0)
    np.testing.assert_array_equal(points.log_pi, swapped.log_pi[:, ::-1])
    assert points.attracting.tolist() == [True, False]


def test_alpha_zero_has_no_fixed_point() -> None:
    assert normalized_fixed_points(two, uniform, 0.0, 1e6).log_pi.shape == (0, 2)


def test_from_uniform_pi_0_the_iteration_reaches_the_attracting_point_and_the_corner_beyond_the_other() -> None:
    points = normalized_fixed_points(two, uniform, 0.5, 4.0)
    near = iterate(two, uniform, 0.5, 4.0, 200, normalize="standardize")
    np.testing.assert_allclose(near[-1], points.log_pi[0], rtol=1e-12)
    step = np.array([1e-6, -1e-6])
    for sign, end in ((1.0, 1.0), (-1.0, float(np.exp(points.log_pi[0, 0])))):
        start = log_normalized(points.log_pi[1] + sign * step)
        path = iterate(two, uniform, 0.5, 4.0, 400, start, normalize="standardize")
        np.testing.assert_allclose(np.exp(path[-1, 0]), end, rtol=1e-12)


# --- the run to the corner --------------------------------------------------------------------------------------------


@given(
    two_arm_settings(),
    st.floats(0.0, 0.999),
    st.floats(-30.0, 30.0),
    st.none() | st.floats(1.0, 1e3),
)
def test_below_the_threshold_the_better_arm_gains_at_every_step_with_and_without_a_clip(
    setting: tuple[float, float, float], share: float, odds: float, w_clip: float | None
) -> None:
    """For any alpha, start and clip (>= 1): with alpha beta below the threshold every run goes to the corner."""
    log_q, alpha, _ = setting
    beta = max(share, 1e-6) * float(normalized_threshold(np.array(log_q))) / max(alpha, 1e-6)
    start = -np.logaddexp(0.0, [-odds, odds])
    path = iterate(two, log_prior_pair(log_q), alpha, beta, 12, start, w_clip=w_clip, normalize="standardize")
    half = path[:, 0] - path[:, 1]
    grown = half[1:] - half[:-1] >= -1e-13 * (1.0 + np.abs(half[:-1]) + abs(log_q))
    assert (grown | (half[1:] > 1e200)).all()  # beyond this A/std is cut, see iterate


@pytest.mark.parametrize("w_clip", [None, 20.0])
def test_at_the_paper_setting_two_arms_run_to_the_corner_in_a_few_steps(w_clip: float | None) -> None:
    """The worse arm after one exact step from (1/2, 1/2): e^-40 without the clip, e^-(20 + log 20) with it."""
    path = iterate(two, uniform, 0.1, 0.05, 4, w_clip=w_clip, normalize="standardize")
    first = 40.0 if w_clip is None else 20.0 + np.log(20.0)
    np.testing.assert_allclose(path[1, 0] - path[1, 1], first, rtol=1e-14)
    assert path[2, 1] < -1e6
    assert path[4, 1] < -1e299


def sweep(rng: np.random.Generator, prompts: int, arms: int, problems: int) -> float:
    """Smallest final probability of arg max A over random batches at the paper's setting, with its clip."""
    worst = 1.0
    for _ in range(problems):
        gaps = np.exp(rng.choice([0.0, 3.0]) * rng.normal(size=(prompts, 1)))
        advantage = gaps * rng.normal(size=(prompts, arms))
        log_pi_0, start = log_normalized(rng.choice([0.0, 1.0, 4.0]) * rng.normal(size=(2, prompts, arms)))
        path = iterate(advantage, log_pi_0, 0.1, 0.05, 60, start, w_clip=20.0, normalize="standardize_batch")
        best = np.take_along_axis(path[-1], advantage.argmax(axis=-1)[:, None], axis=-1)
        worst = min(worst, float(np.exp(best).min()))
    return worst


@pytest.mark.parametrize(("prompts", "arms"), [(1, 2), (1, 8), (2, 4), (16, 4)])
def test_at_the_paper_setting_batches_run_to_the_corner(prompts: int, arms: int) -> None:
    assert sweep(np.random.default_rng(4), prompts, arms, 15) > 1.0 - 1e-12


@pytest.mark.slow
@pytest.mark.parametrize(("prompts", "arms"), [(1, 2), (1, 4), (1, 16), (2, 2), (8, 4), (64, 8)])
def test_at_the_paper_setting_many_batches_run_to_the_corner(prompts: int, arms: int) -> None:
    assert sweep(np.random.default_rng(5), prompts, arms, 500) > 1.0 - 1e-12


def test_a_prompt_whose_rewards_are_equal_is_left_alone_by_the_shared_std() -> None:
    advantage = np.array([[1.0, 0.0], [3.0, 3.0]])
    start = np.log([[0.5, 0.5], [0.9, 0.1]])
    path = iterate(advantage, np.broadcast_to(uniform, (2, 2)), 0.1, 0.05, 30, start, normalize="standardize_batch")
    assert path[-1, 0, 0] > -1e-12
    odds = np.log(9.0) * 0.9**30  # no advantage: back to pi_0 by 1 - alpha per step
    np.testing.assert_allclose(path[-1, 1, 0] - path[-1, 1, 1], odds, rtol=1e-12)


# --- the curve h: any number of arms, many prompts --------------------------------------------------------------------


@given(st.data(), st.floats(0.0, 20.0))
def test_curve_is_the_std_of_the_log_ratio(data: st.DataObject, theta: float) -> None:
    arms = data.draw(st.integers(1, 6))
    log_pi_0 = np.stack([data.draw(policies(arms, 0)) for _ in range(2)])
    advantage = np.array([[data.draw(st.floats(-3.0, 3.0)) for _ in range(arms)] for _ in range(2)])
    squares = []
    with mpmath.workdps(400):
        for row, values in zip(log_pi_0, advantage, strict=True):
            alive = [i for i in range(arms) if row[i] > -np.inf]
            ratio = {i: mpmath.mpf(theta) * (mpmath.mpf(values[i]) - mpmath.mpf(values[alive[0]])) for i in alive}
            mass = {i: mpmath.exp(mpmath.mpf(row[i]) + ratio[i]) for i in alive}
            total = sum(mass.values())
            mean = sum(mass[i] * ratio[i] for i in alive) / total
            squares.append(sum(mass[i] * (ratio[i] - mean) ** 2 for i in alive) / total)
        expected = [mpmath.sqrt(square) for square in squares] + [mpmath.sqrt(sum(squares) / 2)]
        ours = [log_ratio_std(a, p, np.array([theta]))[0] for a, p in zip(advantage, log_pi_0, strict=True)]
        ours.append(log_ratio_std(advantage, log_pi_0, np.array([theta]))[0])
        for one, other in zip(ours, expected, strict=True):
            assert abs(mpmath.mpf(float(one)) - other) <= 1e-11 * abs(other) + mpmath.mpf(1e-300)


def test_crossings_of_the_curve_are_the_fixed_points() -> None:
    """At a crossing theta, `pi_theta` is fixed under the normalised update: three arms, two prompts with one std."""
    rng = np.random.default_rng(6)
    theta = np.linspace(0.0, 12.0, 4001)
    for shape in ((3,), (2, 3)):
        advantage, log_pi_0 = rng.normal(size=shape), log_normalized(rng.normal(size=shape))
        curve = log_ratio_std(advantage, log_pi_0, theta)
        for at in (int(curve.argmax()) // 2, int(curve.argmax()) + 200):
            policy = log_normalized(log_pi_0 + theta[at] * advantage)
            beta = 1.0 / (0.25 * curve[at])
            path = iterate(advantage, log_pi_0, 0.25, beta, 1, policy, normalize="standardize_batch")
            np.testing.assert_allclose(path[1], policy, atol=1e-12)


@pytest.mark.parametrize("shape", [(3,), (8,), (2, 3)])
@pytest.mark.parametrize("w_clip", [None, 1.0, 20.0])
def test_at_a_fixed_point_the_std_of_the_log_ratio_is_one_over_alpha_beta(
    shape: tuple[int, ...], w_clip: float | None
) -> None:
    """Where a run comes to rest between the corners; with prompts that share a std, the root of the mean square."""
    rng, alpha, beta = np.random.default_rng(3), 0.5, 8.0
    advantage, log_pi_0 = rng.normal(size=shape), log_normalized(rng.normal(size=shape))
    path = iterate(advantage, log_pi_0, alpha, beta, 500, w_clip=w_clip, normalize="standardize_batch")
    end = path[-1]
    np.testing.assert_allclose(path[-2], end, atol=1e-12)
    assert np.exp(end).max() < 0.99
    ratio, pi = end - log_pi_0, np.exp(end)
    variance = (pi * (ratio - (pi * ratio).sum(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
    assert np.sqrt(variance.mean()) == pytest.approx(1.0 / (alpha * beta), rel=1e-11)


@given(st.data())
def test_no_policy_on_any_arms_exceeds_the_bound_of_the_rarest_arm(data: st.DataObject) -> None:
    """Var_pi[log(pi/pi_0)] <= 1/threshold(min pi_0)^2, for every pi: so the threshold bounds every reward."""
    arms = data.draw(st.integers(2, 8))
    log_pi_0 = data.draw(policies(arms, zeros=False))
    assume(log_pi_0.min() < -1e-9)
    log_pi = data.draw(policies(arms))
    mass, alive = np.exp(log_pi), log_pi > -np.inf
    ratio = np.where(alive, log_pi, 0.0) - np.where(alive, log_pi_0, 0.0)
    variance = (mass * (ratio - (mass * ratio).sum()) ** 2).sum()
    assert variance <= normalized_threshold(log_pi_0.min()) ** -2 * (1.0 + 1e-9)


@pytest.mark.parametrize("arms", [2, 3, 10, 1000])
def test_the_bound_is_attained_by_rewarding_the_rarest_arm_alone(arms: int) -> None:
    log_pi_0 = log_normalized(np.linspace(0.0, 1.0, arms))
    advantage = (np.arange(arms) == 0).astype(float)
    peak = log_ratio_std(advantage, log_pi_0, np.linspace(0.0, 20.0, 4001)).max()
    bound = float(normalized_threshold(log_pi_0[0]))
    assert bound <= 1.0 / peak <= bound * (1.0 + 1e-5)


def test_many_prompts_average_their_squares_and_cannot_beat_the_best_one() -> None:
    rng = np.random.default_rng(7)
    theta = np.geomspace(1e-2, 1e2, 500)
    log_pi_0, advantage = (
        log_normalized(rng.normal(size=(6, 4))),
        np.exp(rng.normal(size=(6, 1))) * rng.normal(size=(6, 4)),
    )
    each = np.array([log_ratio_std(a, p, theta) for a, p in zip(advantage, log_pi_0, strict=True)])
    together = log_ratio_std(advantage, log_pi_0, theta)
    np.testing.assert_allclose(together, np.sqrt((each**2).mean(axis=0)), rtol=1e-12)
    assert 1.0 / together.max() > (1.0 / each.max(axis=1)).min()


@pytest.mark.parametrize("tokens", [1, 4, 9])
def test_independent_tokens_divide_the_threshold_by_their_root(tokens: int) -> None:
    """n fair bits, reward = their sum: 2^n answers, threshold 1.5088.../sqrt(n). 0.005 would take 91,069 tokens."""
    bits = (np.arange(2**tokens)[:, None] >> np.arange(tokens)) & 1
    log_pi_0 = np.full(2**tokens, -tokens * np.log(2.0))
    curve = log_ratio_std(bits.sum(axis=1).astype(float), log_pi_0, np.linspace(0.0, 5.0, 5001))
    single = float(normalized_threshold(np.log(0.5)))
    np.testing.assert_allclose(1.0 / curve.max(), single / np.sqrt(tokens), rtol=1e-6)
    assert np.ceil((single / 0.005) ** 2) == 91069


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (partial(normalized_threshold, 0), TypeError, "log_prior has dtype int64"),
        (partial(normalized_threshold, np.array([-1.0, 0.0])), ValueError, "log q with 0 < q < 1"),
        (partial(normalized_threshold, np.nan), ValueError, "log q with 0 < q < 1"),
        (partial(normalized_fixed_points, np.ones(3), np.log([0.2, 0.3, 0.5]), 0.5, 1.0), ValueError, "two arms"),
        (partial(normalized_fixed_points, np.ones(2), uniform, 0.5, 1.0), ValueError, "both advantages are 1.0"),
        (partial(normalized_fixed_points, two, np.array([0.0, -np.inf]), 0.5, 1.0), ValueError, "probability 0"),
        (partial(normalized_fixed_points, two, uniform, -0.5, 1.0), ValueError, "alpha = -0.5"),
        (partial(log_ratio_std, two, uniform, np.array([1])), TypeError, "theta has dtype int64"),
        (partial(log_ratio_std, two, uniform, np.array([-1.0])), ValueError, "finite tilts >= 0"),
        (partial(log_ratio_std, two, uniform, np.array(1.0)), ValueError, "on one axis"),
        (partial(log_ratio_std, 1e10 * two, uniform, np.array([1e300])), ValueError, r"theta \* advantage overflows"),
        (partial(log_ratio_std, 1.5e308 * two, uniform, np.array([0.0])), ValueError, "cannot be centred"),
    ],
)
def test_refusals_name_the_value(call: partial[Array], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()


@pytest.mark.parametrize("alpha", [0.1, 0.2084962406015038, 0.5, 0.9, 1.0])
def test_the_point_at_the_threshold_has_slope_one_and_does_not_attract(alpha):
    log_pi_0 = np.log([0.5, 0.5])
    threshold = float(normalized_threshold(np.log(0.5)))
    for beta in np.nextafter(threshold / alpha, [0.0, threshold / alpha, np.inf]):
        found = normalized_fixed_points(np.array([1.0, 0.0]), log_pi_0, alpha, beta)
        if alpha * beta == threshold:
            assert found.slope.tolist() == [1.0]
            assert not found.attracting.any()
