"""T5 and T11: the iterates, their end, the clip and the coverage, against recursions in 60 digits."""

from functools import partial
from itertools import pairwise

import hypothesis.strategies as st
import mpmath
import numpy as np
import pytest
from hypothesis import given

from dar_ref.theory import interpolate, kl, optimum, regression_target, regression_weights
from dar_ref.theory.iteration import coverage, fixed_point, iterate, log_fixed_weight
from tests.strategies import Array, Setting, advantages, alphas, betas, log_normalized, policies, settings

EPS = 2.0**-52
TINY = 1e-300  # below it float64 loses relative precision
uniform = np.log([0.5, 0.5])


def exact(array: Array) -> list[mpmath.mpf]:
    return [mpmath.mpf(float(x)) for x in array]


def exact_log_normalized(logits: list[mpmath.mpf]) -> list[mpmath.mpf]:
    top = max(logits)
    total = top + mpmath.log(sum(mpmath.exp(x - top) for x in logits))
    return [x - total for x in logits]


def weighted(weight: mpmath.mpf, value: mpmath.mpf) -> mpmath.mpf:
    return weight * value if weight else mpmath.mpf(0)  # 0 * -inf = 0


def exact_path(s: Setting, steps: int) -> list[list[mpmath.mpf]]:
    """The definition, step by step: `log pi_{t+1} = alpha log pi_0 + (1-alpha) log pi_t + A/beta - log sum exp`."""
    alpha, beta = mpmath.mpf(s.alpha), mpmath.mpf(s.beta)
    path = [exact(s.log_pi_t)]
    for _ in range(steps):
        now = zip(exact(s.log_pi_0), path[-1], exact(s.advantage), strict=True)
        path.append(exact_log_normalized([weighted(alpha, p) + weighted(1 - alpha, q) + a / beta for p, q, a in now]))
    return path


def exact_end(s: Setting) -> list[mpmath.mpf]:
    scale = mpmath.mpf(s.alpha) * mpmath.mpf(s.beta)
    return exact_log_normalized([p + a / scale for p, a in zip(exact(s.log_pi_0), exact(s.advantage), strict=True)])


def largest(array: Array) -> float:
    return float(np.abs(array[np.isfinite(array)]).max())


def worst_error(ours: Array, expected: list[mpmath.mpf]) -> float:
    """Largest difference over finite entries; zeros must agree exactly."""
    assert [x == -np.inf for x in ours] == [x == -mpmath.inf for x in expected]
    return max(float(abs(mpmath.mpf(float(x)) - y)) for x, y in zip(ours, expected, strict=True) if x > -np.inf)


@given(settings(), st.integers(0, 9))
def test_iterates_follow_the_definition_within_the_stated_error(s: Setting, steps: int) -> None:
    ours = iterate(s.advantage, s.log_pi_0, s.alpha, s.beta, steps, s.log_pi_t)
    with mpmath.workdps(60):
        for t, expected in enumerate(exact_path(s, steps)):
            scale = np.abs(s.advantage).max() / s.beta + max(largest(ours), largest(s.log_pi_0))
            remembered = min(t, 1.0 / s.alpha) if s.alpha else t
            assert worst_error(ours[t], expected) <= 8 * EPS * remembered * scale


@given(settings(), st.integers(0, 9))
def test_rows_stay_normalised_to_a_few_ulp(s: Setting, steps: int) -> None:
    path = iterate(s.advantage, s.log_pi_0, s.alpha, s.beta, steps, s.log_pi_t)
    assert (np.abs(np.exp(path[1:]).sum(axis=-1) - 1.0) <= 8 * EPS).all()


@pytest.mark.parametrize("alpha", [0.0, 1e-4, 0.1])
def test_error_of_a_thousand_steps_stays_within_the_stated_bound(alpha: float) -> None:
    rng = np.random.default_rng(0)
    log_pi_0, start = log_normalized(3.0 * rng.normal(size=(2, 5)))
    s = Setting(start, rng.normal(size=5), log_pi_0, start, alpha, 0.05)
    ours = iterate(s.advantage, s.log_pi_0, alpha, s.beta, 1000, start)
    with mpmath.workdps(60):
        expected = exact_path(s, 1000)[-1]
    scale = np.abs(s.advantage).max() / s.beta + largest(ours)
    assert worst_error(ours[-1], expected) <= 8 * EPS * min(1000.0, 1.0 / alpha if alpha else np.inf) * scale


def test_each_step_is_the_optimum_and_the_first_row_the_start() -> None:
    rng = np.random.default_rng(1)
    log_pi_0, start = log_normalized(rng.normal(size=(2, 3, 4)))
    advantage = rng.normal(size=4)  # broadcast over the rows
    path = iterate(advantage, log_pi_0, 0.3, 0.7, 5, start)
    assert path.shape == (6, 3, 4)
    assert (path[0] == start).all()
    for now, following in pairwise(path):
        assert (following == optimum(advantage, log_pi_0, now, 0.3, 0.7).log_pi).all()
    assert (iterate(advantage, log_pi_0, 0.3, 0.7, 5)[0] == log_pi_0).all()


@given(settings(zeros=False), st.integers(1, 9))
def test_distance_to_the_fixed_point_contracts_by_exactly_one_minus_alpha(s: Setting, steps: int) -> None:
    if s.alpha < 1e-3:
        s = s._replace(alpha=0.37)  # otherwise A/(alpha beta) is much larger than the distance
    path = iterate(s.advantage, s.log_pi_0, s.alpha, s.beta, steps, s.log_pi_t)
    with mpmath.workdps(60):
        end = exact_end(s)
        kept = (1 - mpmath.mpf(s.alpha)) ** steps
        logits = [e + kept * (p - e) for p, e in zip(exact(s.log_pi_t), end, strict=True)]
        scale = np.abs(s.advantage).max() / s.beta + max(largest(path), largest(s.log_pi_0))
        assert worst_error(path[-1], exact_log_normalized(logits)) <= 8 * EPS * scale * min(steps, 1 / s.alpha)


@given(settings())
def test_fixed_point_is_the_stated_policy_and_does_not_move(s: Setting) -> None:
    s = s._replace(alpha=max(s.alpha, 1e-6))
    end = fixed_point(s.advantage, s.log_pi_0, s.alpha, s.beta)
    scale = np.abs(s.advantage).max() / (s.alpha * s.beta) + largest(s.log_pi_0) + largest(end)
    with mpmath.workdps(60):
        assert worst_error(end, exact_end(s)) <= 8 * EPS * scale
    next_one = iterate(s.advantage, s.log_pi_0, s.alpha, s.beta, 1, end)[1]
    alive = end > -np.inf
    assert (np.abs(next_one[alive] - end[alive]) <= 16 * EPS * scale).all()


@given(settings())
def test_alpha_one_lands_in_one_step_and_stays(s: Setting) -> None:
    path = iterate(s.advantage, s.log_pi_0, 1.0, s.beta, 3, s.log_pi_t)
    end = fixed_point(s.advantage, s.log_pi_0, 1.0, s.beta)
    assert (path[1] == end).all()
    assert (path[2] == end).all()


@given(settings(), st.integers(1, 5))
def test_alpha_zero_multiplies_the_start_and_never_stops(s: Setting, steps: int) -> None:
    path = iterate(s.advantage, s.log_pi_0, 0.0, s.beta, steps, s.log_pi_t)
    expected = log_normalized(s.log_pi_t + steps * (s.advantage / s.beta))
    alive = s.log_pi_t > -np.inf
    scale = steps * np.abs(s.advantage).max() / s.beta + largest(s.log_pi_t)
    assert (np.abs(path[-1][alive] - expected[alive]) <= 8 * EPS * steps * scale).all()
    best = (s.advantage == s.advantage[alive].max()) & alive
    mass = np.exp(path[:, best]).sum(axis=-1)
    assert (np.diff(mass) >= -8 * EPS * (1 + scale)).all()


def test_alpha_zero_runs_to_the_best_arms_that_the_start_has() -> None:
    start = np.array([-np.inf, *np.log([0.1, 0.3, 0.6])])
    advantage = np.array([5.0, 2.0, 2.0, 1.0])  # the best arm is lost, two tie behind it
    path = iterate(advantage, start, 0.0, 0.5, 60, start)
    assert np.exp(path[-1]).round(12).tolist() == [0.0, 0.25, 0.75, 0.0]


@given(settings(), st.integers(1, 5), st.sampled_from([None, 0.5, 20.0]))
def test_lost_support_never_returns_below_alpha_one(s: Setting, steps: int, w_clip: float | None) -> None:
    alpha = min(s.alpha, 1.0 - 2.0**-53)
    path = iterate(s.advantage, s.log_pi_0, alpha, s.beta, steps, s.log_pi_t, w_clip=w_clip)
    lost = (s.log_pi_t == -np.inf) | ((s.log_pi_0 == -np.inf) & (alpha > 0.0))
    assert (path[1:, lost] == -np.inf).all()
    assert (path[1:, ~lost] > -np.inf).all()


def test_after_a_loss_the_end_is_the_fixed_point_given_the_support_of_the_start() -> None:
    log_pi_0, advantage = np.log([0.2, 0.3, 0.5]), np.array([1.0, 0.0, 0.5])
    start = np.array([-np.inf, np.log(0.5), np.log(0.5)])
    path = iterate(advantage, log_pi_0, 0.5, 1.0, 60, start)
    expected = np.array([0.0, 0.3, 0.5 * np.e])  # pi_0 exp(A / 0.5) on the last two arms
    np.testing.assert_allclose(np.exp(path[-1]), expected / expected.sum(), rtol=1e-14)


@given(settings())
def test_every_weight_at_the_fixed_point_equals_z(s: Setting) -> None:
    alpha = max(s.alpha, 1e-6)
    end = fixed_point(s.advantage, s.log_pi_0, alpha, s.beta)
    log_z = log_fixed_weight(s.advantage, s.log_pi_0, alpha, s.beta)
    weight = regression_weights(s.advantage, s.log_pi_0, end, alpha, s.beta).log_weight
    scale = np.abs(s.advantage).max() / s.beta + alpha * (largest(end) + largest(s.log_pi_0))
    assert (np.abs(weight[end > -np.inf] - log_z) <= 32 * EPS * scale + TINY).all()
    with mpmath.workdps(60):
        pairs = zip(exact(s.log_pi_0), exact(s.advantage), strict=True)
        scaled = [p + a / (mpmath.mpf(alpha) * mpmath.mpf(s.beta)) for p, a in pairs]
        top = max(scaled)
        expected = mpmath.mpf(alpha) * (top + mpmath.log(sum(mpmath.exp(x - top) for x in scaled)))
        assert abs(mpmath.mpf(float(log_z)) - expected) <= 8 * EPS * scale + TINY


def test_z_at_alpha_zero_is_the_limit() -> None:
    advantage, log_pi_0 = np.array([3.0, 1.0, 2.0]), np.array([-np.inf, np.log(0.5), np.log(0.5)])
    assert log_fixed_weight(advantage, log_pi_0, 0.0, 0.5) == 4.0
    np.testing.assert_allclose(log_fixed_weight(advantage, log_pi_0, 1e-9, 0.5), 4.0, atol=1e-8)


@given(settings(zeros=False), st.floats(0.1, 5.0))
def test_clip_above_z_only_changes_the_path(s: Setting, room: float) -> None:
    """The range of log pi_t - log pi_inf falls by `log(w_clip/Z)` per clipped step, then by the factor 1-alpha."""
    alpha, beta = max(s.alpha, 0.05), max(s.beta, 1.0)
    advantage = np.clip(s.advantage, -3.0, 3.0)
    log_z = float(log_fixed_weight(advantage, s.log_pi_0, alpha, beta))
    path = iterate(advantage, s.log_pi_0, alpha, beta, 40, s.log_pi_t, w_clip=float(np.exp(log_z + room)))
    gap = path - fixed_point(advantage, s.log_pi_0, alpha, beta)
    spread = np.ptp(gap, axis=-1)
    clipped = log_z - alpha * gap.min(axis=-1) > log_z + room
    bound = np.where(clipped, spread - room, (1.0 - alpha) * spread)[:-1]
    assert (spread[1:] <= bound + 1e-11).all()


@given(settings(zeros=False), st.floats(0.1, 5.0), st.data())
def test_clip_below_z_leaves_every_policy_under_the_cap_fixed(s: Setting, excess: float, data: st.DataObject) -> None:
    alpha, beta = max(s.alpha, 0.01), max(s.beta, 1.0)
    advantage = np.clip(s.advantage, -3.0, 3.0)
    log_z = float(log_fixed_weight(advantage, s.log_pi_0, alpha, beta))
    share = np.array([data.draw(st.floats(0.0, 0.99)) for _ in advantage])
    # pi_inf exp(-d) normalised lies under Z^(1/alpha) w_clip^(-1/alpha) pi_inf as long as d <= log(Z/w_clip)/alpha
    policy = log_normalized(fixed_point(advantage, s.log_pi_0, alpha, beta) - share * excess / alpha)
    path = iterate(advantage, s.log_pi_0, alpha, beta, 2, policy, w_clip=float(np.exp(log_z - excess)))
    assert (np.abs(path[-1] - policy) <= 32 * EPS * (1.0 + largest(policy))).all()


@given(settings(zeros=False), st.floats(1.1, 50.0))
def test_with_centred_advantages_a_clip_above_one_keeps_the_end(s: Setting, w_clip: float) -> None:
    """The range falls by at least `log w_clip` per clipped step, so there are at most range/log(w_clip) such steps."""
    alpha, beta = max(s.alpha, 0.05), max(s.beta, 1.0)
    advantage = np.clip(s.advantage, -3.0, 3.0)
    path = iterate(advantage, s.log_pi_0, alpha, beta, 40, s.log_pi_t, w_clip=w_clip, normalize="center")
    spread = np.ptp(path - fixed_point(advantage, s.log_pi_0, alpha, beta), axis=-1)
    mean = (np.exp(path) * advantage).sum(axis=-1, keepdims=True)
    log_weight = alpha * (s.log_pi_0 - path) + (advantage - mean) / beta
    clipped = (log_weight > np.log(w_clip)).any(axis=-1)
    bound = np.where(clipped, spread - np.log(w_clip), (1.0 - alpha) * spread)[:-1]
    assert (spread[1:] <= bound + 1e-11).all()


@pytest.mark.parametrize("alpha", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("advantage", [[1.0, 0.2, -0.5], [0.0, 0.0, 0.0]])
def test_with_centred_advantages_a_clip_of_one_keeps_the_end(alpha: float, advantage: list[float]) -> None:
    """Here only the strict fall of the range brings the path to its end; with A constant every step clips an arm."""
    log_pi_0, start, beta = np.log([0.2, 0.3, 0.5]), np.log([1e-6, 0.9, 0.1 - 1e-6]), 2.0
    arguments = (np.array(advantage), log_pi_0, alpha, beta)
    path = iterate(*arguments, 5000, start, w_clip=1.0, normalize="center")
    spread = np.ptp(path - fixed_point(*arguments), axis=-1)
    far = spread[:-1] > 1e-9
    assert (spread[1:][far] < spread[:-1][far]).all()
    assert far[0]
    assert spread[-1] < 1e-12
    weight = alpha * (log_pi_0 - start) + (np.array(advantage) - np.exp(start) @ advantage) / beta
    assert weight.min() < 0.0 < weight.max()  # some weight is cut


@pytest.mark.parametrize("seed", range(8))
def test_clip_below_z_every_path_ends_under_the_cap_and_the_start_decides(seed: int) -> None:
    """Two starts above the cap somewhere: each path comes to rest, at most at the cap on every arm, the two apart."""
    rng = np.random.default_rng(seed)
    alpha, beta, excess = rng.uniform(0.1, 1.0), rng.uniform(0.5, 2.0), rng.uniform(0.5, 3.0)
    advantage, log_pi_0 = rng.standard_normal(4), log_normalized(rng.standard_normal(4))
    log_z = float(log_fixed_weight(advantage, log_pi_0, alpha, beta))
    log_cap = fixed_point(advantage, log_pi_0, alpha, beta) + excess / alpha
    ends = []
    for rare in (0, 1):
        start = log_normalized(np.where(np.arange(4) == rare, log_cap - 40.0, rng.standard_normal(4)))
        path = iterate(advantage, log_pi_0, alpha, beta, 1000, start, w_clip=float(np.exp(log_z - excess)))
        assert ((path - log_cap).min(axis=-1) < 0.0).all()
        assert (path[-1] <= log_cap + 1e-9).all()
        assert path[-1] == pytest.approx(path[-2], abs=1e-9)
        ends.append(path[-1])
    assert np.abs(ends[0] - ends[1]).max() > 1.0


@given(settings())
def test_centred_log_z_is_minus_alpha_times_kl(s: Setting) -> None:
    alpha, beta = max(s.alpha, 0.01), max(s.beta, 1e-2)
    advantage = np.clip(s.advantage, -10.0, 10.0)
    end = fixed_point(advantage, s.log_pi_0, alpha, beta)
    centred = advantage - (np.exp(end) * advantage).sum()
    log_z = log_fixed_weight(centred, s.log_pi_0, alpha, beta)
    scale = alpha * (largest(end) + largest(s.log_pi_0)) + 10.0 / beta
    assert abs(log_z + alpha * kl(end, s.log_pi_0)) <= 64 * EPS * scale


# --- the options ------------------------------------------------------------------------------------------------------


def test_clipped_steps_are_the_regression_target() -> None:
    log_pi_0, advantage = np.log([0.2, 0.3, 0.5]), np.array([1.0, 0.0, 0.5])
    path = iterate(advantage, log_pi_0, 0.2, 0.1, 3, w_clip=2.0)
    for now, following in pairwise(path):
        assert (following == regression_target(advantage, log_pi_0, now, 0.2, 0.1, 2.0)).all()
    assert np.abs(path - iterate(advantage, log_pi_0, 0.2, 0.1, 3)).max() > 1.0


def renewed(advantage: Array, log_pi: Array, normalize: str) -> Array:
    """The normalised advantages by their definition, in probabilities (inaccurate in the tails)."""
    pi = np.exp(log_pi)
    deviation = advantage - (pi * advantage).sum(axis=-1, keepdims=True)
    variance = (pi * deviation**2).sum(axis=-1, keepdims=True)
    divisor = {"center": 1.0, "standardize": variance**0.5, "standardize_batch": variance.mean() ** 0.5}
    return deviation / divisor[normalize]


@pytest.mark.parametrize("normalize", ["center", "standardize", "standardize_batch"])
@pytest.mark.parametrize("w_clip", [None, 1.5])
def test_normalised_steps_follow_their_definition(normalize: str, w_clip: float | None) -> None:
    rng = np.random.default_rng(2)
    log_pi_0 = log_normalized(rng.normal(size=(3, 4)))
    advantage = rng.normal(size=(3, 4)) * np.array([[1.0], [5.0], [0.1]])
    path = iterate(advantage, log_pi_0, 0.4, 6.0, 6, w_clip=w_clip, normalize=normalize)
    for now, following in pairwise(path):
        log_weight = 0.4 * (log_pi_0 - now) + renewed(advantage, now, normalize) / 6.0
        expected = log_normalized(now + np.minimum(log_weight, np.inf if w_clip is None else np.log(w_clip)))
        np.testing.assert_allclose(following, expected, atol=1e-13)


def test_every_normalisation_changes_the_clipped_path() -> None:
    log_pi_0 = np.log([[0.5, 0.5], [0.2, 0.8]])
    advantage = np.array([[1.0, 0.0], [3.0, 0.0]])
    ends = [
        iterate(advantage, log_pi_0, 0.5, 1.0, 2, w_clip=1.2, normalize=normalize)[-1]
        for normalize in (None, "center", "standardize", "standardize_batch")
    ]
    for i, one in enumerate(ends):
        for other in ends[:i]:
            assert np.abs(one - other).max() > 0.01


def test_centring_without_a_clip_changes_nothing() -> None:
    log_pi_0, advantage = np.log([0.2, 0.3, 0.5]), np.array([1.0, 0.0, 0.5])
    plain, centred = (iterate(advantage, log_pi_0, 0.3, 0.2, 9, normalize=name) for name in (None, "center"))
    np.testing.assert_allclose(centred, plain, atol=1e-12)


def test_one_prompt_is_its_own_batch() -> None:
    log_pi_0, advantage = np.log([0.2, 0.3, 0.5]), np.array([1.0, 0.0, 0.5])
    own, shared = (iterate(advantage, log_pi_0, 0.5, 8.0, 9, normalize=n) for n in ("standardize", "standardize_batch"))
    assert (own == shared).all()


@given(st.data(), alphas, betas, st.sampled_from(["standardize", "standardize_batch"]), st.booleans())
def test_normalised_paths_stay_policies_wherever_they_run(
    data: st.DataObject, alpha: float, beta: float, normalize: str, clip: bool
) -> None:
    arms = data.draw(st.integers(1, 6))
    log_pi_0, start = data.draw(policies(arms, 0)), data.draw(policies(arms, 0))
    advantage = data.draw(advantages(arms))
    path = iterate(advantage, log_pi_0, alpha, beta, 12, start, w_clip=20.0 if clip else None, normalize=normalize)
    assert not np.isnan(path).any()
    assert (np.abs(np.exp(path[1:]).sum(axis=-1) - 1.0) <= 8 * EPS).all()


@pytest.mark.parametrize("normalize", ["standardize", "standardize_batch"])
def test_constant_advantages_are_zero_after_normalisation(normalize: str) -> None:
    """One arm, or one value on the support of pi_t: the std is 0, so A is 0 and the policy moves towards pi_0."""
    log_pi_0, start = np.log([0.5, 0.25, 0.25]), np.array([*np.log([0.25, 0.75]), -np.inf])
    advantage = np.array([7.0, 7.0, 9.0])
    path = iterate(advantage, log_pi_0, 0.5, 0.01, 1, start, normalize=normalize)
    expected = np.sqrt([0.5 * 0.25, 0.25 * 0.75, 0.0])
    np.testing.assert_allclose(np.exp(path[1]), expected / expected.sum(), rtol=1e-14)
    assert (iterate(np.array([3.0]), np.zeros(1), 0.5, 1.0, 2, normalize=normalize) == 0.0).all()


def test_standardised_step_from_far_out_in_the_tail() -> None:
    """pi(worse) = e^-600: 1 - pi rounds to 1, but the step must add `2 cosh(x)/beta`, 2x = 600."""
    start = np.array([0.0, -600.0])
    path = iterate(np.array([1.0, 0.0]), uniform, 0.5, 1e100, 1, start, normalize="standardize")
    expected = 0.5 * 600.0 + 2.0 * np.cosh(300.0) / 1e100
    np.testing.assert_allclose(path[1, 0] - path[1, 1], expected, rtol=1e-12)


def test_standardised_step_when_several_best_arms_share_the_mass() -> None:
    """Their probabilities sum to 1 only up to rounding, which must not count as spread: the true std is e^-300."""
    start = log_normalized(np.array([-600.0] + 7 * [0.0]))
    advantage = np.array([0.1] + 7 * [0.7])
    path = iterate(advantage, np.full(8, -np.log(8.0)), 0.5, 1e100, 1, start, normalize="standardize")
    expected = 0.5 * 600.0 + np.exp(300.0) * np.sqrt(7.0) / 1e100  # pi(0) = e^-600 / 7
    np.testing.assert_allclose(path[1, 1:] - path[1, 0], expected, rtol=1e-12)


def test_a_run_to_the_corner_keeps_every_arm_as_a_finite_log_probability() -> None:
    path = iterate(np.array([1.0, 0.0]), uniform, 0.1, 0.05, 50, normalize="standardize")
    assert np.isfinite(path).all()
    assert path[-1, 1] < -1e300
    back = iterate(np.array([0.0, 1.0]), uniform, 0.1, 0.05, 1, path[-1], normalize="standardize")
    assert np.isfinite(back).all()  # from the wrong corner the step is cut at 1e300 nats, too


# --- coverage ---------------------------------------------------------------------------------------------------------


@given(settings(zeros=False), st.integers(0, 6))
def test_coverage_is_the_stated_function_of_the_step(s: Setting, steps: int) -> None:
    s = s._replace(alpha=max(s.alpha, 1e-3), log_pi_t=s.log_pi_0)
    ours = coverage(s.advantage, s.log_pi_0, s.alpha, s.beta, steps)
    scale = np.abs(s.advantage).max() / (s.alpha * s.beta) + largest(s.log_pi_0)
    with mpmath.workdps(60):
        end, start, alpha = exact_end(s), exact(s.log_pi_0), mpmath.mpf(s.alpha)
        for t, value in enumerate(ours):
            factor = alpha + (1 - alpha) ** (t + 1)
            ref = exact_log_normalized([e + factor * (p - e) for p, e in zip(start, end, strict=True)])
            expected = sum(mpmath.exp(e) * (e - r) for e, r in zip(end, ref, strict=True))
            assert abs(mpmath.mpf(float(value)) - expected) <= 64 * EPS * scale
    assert (np.diff(ours) <= 64 * EPS * scale).all()


def test_coverage_falls_strictly_to_its_value_at_the_factor_alpha() -> None:
    log_pi_0, advantage = np.log([0.7, 0.2, 0.1]), np.array([0.0, 0.5, 1.0])
    kls = coverage(advantage, log_pi_0, 0.25, 1.0, 120)
    assert (np.diff(kls[:60]) < 0.0).all()
    end = log_normalized(log_pi_0 + advantage / 0.25)
    last = log_normalized(0.75 * end + 0.25 * log_pi_0)
    np.testing.assert_allclose(kls[-1], (np.exp(end) * (end - last)).sum(), rtol=1e-13)


def test_coverage_at_alpha_one_never_moves_and_lost_arms_are_never_covered() -> None:
    log_pi_0, advantage = np.log([0.7, 0.3]), np.array([0.0, 1.0])
    kls = coverage(advantage, log_pi_0, 1.0, 1.0, 3)
    assert (kls == kl(fixed_point(advantage, log_pi_0, 1.0, 1.0), log_pi_0)).all()
    assert (coverage(advantage, log_pi_0, 0.5, 1.0, 3, np.array([0.0, -np.inf])) == np.inf).all()


def test_coverage_with_rows_and_another_start() -> None:
    rng = np.random.default_rng(3)
    log_pi_0, start = log_normalized(rng.normal(size=(2, 5, 3)))
    advantage = rng.normal(size=(5, 3))
    kls = coverage(advantage, log_pi_0, 0.3, 0.8, 4, start)
    path = iterate(advantage, log_pi_0, 0.3, 0.8, 4, start)
    end = log_normalized(log_pi_0 + advantage / 0.24)
    assert kls.shape == (5, 5)
    for t in range(5):
        ref = interpolate(log_pi_0, path[t], 0.3).log_pi_ref
        np.testing.assert_allclose(kls[t], (np.exp(end) * (end - ref)).sum(axis=-1), atol=1e-13)


# --- refusals ---------------------------------------------------------------------------------------------------------

two = np.array([1.0, 0.0])


def test_alpha_zero_without_differences_keeps_pi_0_fixed() -> None:
    log_pi_0 = np.array([np.log(0.25), np.log(0.75), -np.inf])
    advantage = np.array([2.0, 2.0, 5.0])  # constant where pi_0 has mass
    end = fixed_point(advantage, log_pi_0, 0.0, 1.0)
    assert (end == log_pi_0).all()
    np.testing.assert_allclose(iterate(advantage, log_pi_0, 0.0, 1.0, 3)[-1], log_pi_0, rtol=1e-14)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (partial(iterate, two, uniform, 0.5, 1.0, -1), ValueError, "steps = -1 is below 0"),
        (partial(iterate, two, uniform, 0.5, 1.0, 2.0), TypeError, "steps = 2.0 is a float"),
        (partial(iterate, two, uniform, 0.5, 1.0, True), TypeError, "steps = True is a bool"),
        (partial(iterate, two, uniform, 1.5, 1.0, 0), ValueError, "alpha = 1.5"),
        (partial(iterate, two, uniform, 0.5, 0.0, 0), ValueError, "beta = 0.0"),
        (partial(iterate, two, uniform, 0.5, 1.0, 0, w_clip=-1.0), ValueError, "w_clip = -1.0"),
        (partial(iterate, two, uniform, 0.5, 1.0, 0, normalize="std"), ValueError, "normalize = 'std' is unknown"),
        (
            partial(iterate, np.array([1.5e308, -1.5e308]), uniform, 0.5, 1.0, 1, normalize="center"),
            ValueError,
            "overflows float64 and cannot be centred",
        ),
        (
            partial(iterate, two, np.array([0.0, -np.inf]), 0.5, 1.0, 1, np.array([-np.inf, 0.0])),
            ValueError,
            "no arm in common",
        ),
        (partial(fixed_point, two, uniform, 0.0, 1.0), ValueError, "alpha = 0.0 has no fixed point"),
        (partial(coverage, two, uniform, 0.0, 1.0, 1), ValueError, "alpha = 0.0 has no fixed point"),
        (partial(fixed_point, two, uniform, 1e-200, 1e-200), ValueError, r"advantage / \(alpha beta\) overflows"),
        (partial(log_fixed_weight, two, uniform, 1e-200, 1e-200), ValueError, r"advantage / \(alpha beta\) overflows"),
        (partial(log_fixed_weight, two, uniform, 0.0, 1e-320), ValueError, "advantage / beta overflows"),
    ],
)
def test_refusals_name_the_value(call: partial[Array], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        call()


def test_inputs_are_left_as_they_were() -> None:
    advantage, log_pi_0, start = np.array([1.0, 0.0]), np.log([0.3, 0.7]), np.log([0.6, 0.4])
    copies = [array.copy() for array in (advantage, log_pi_0, start)]
    iterate(advantage, log_pi_0, 0.0, 1.0, 3, start, w_clip=2.0, normalize="standardize")
    fixed_point(advantage, log_pi_0, 0.5, 1.0)
    end = fixed_point(np.zeros(2), log_pi_0, 0.0, 1.0)
    end += 1.0
    for array, copy in zip((advantage, log_pi_0, start), copies, strict=True):
        assert (array == copy).all()


def test_an_infinite_clip_is_no_clip():
    """The regression moves mass only on supp pi_t, which is all arms here, so its target is the optimum."""
    bandit = (np.array([0.0, 1.0]), np.log([0.5, 0.5]), 0.1, 1.0, 3)
    np.testing.assert_allclose(iterate(*bandit, w_clip=np.inf), iterate(*bandit), rtol=1e-14)
