"""T14: zero-sum weights in `estimator_moments`, against ordered enumeration and the exact difference of variances."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dar_ref.theory import Moments, estimator_moments, regression_target, regression_weights
from tests.strategies import Array, log_normalized

EVEN = np.log([0.5, 0.5])


def enumerated(
    reward: Array, log_pi_theta: Array, log_pi_0: Array, log_pi_t: Array, completions: int, alpha: float, beta: float
) -> Moments:
    """Moments of `(w/E[w] - 1) (e_y - pi_theta)` over every ordered batch of (N, A) inputs, A with the group mean."""
    prompts, arms = reward.shape
    rows = np.arange(prompts)[:, None]
    drawn = [np.reshape(flat, (prompts, completions)) for flat in product(range(arms), repeat=prompts * completions)]
    probability = np.array([np.exp(log_pi_t[rows, y].sum()) for y in drawn])
    weights = []
    for y in drawn:
        r = reward[rows, y]
        weights.append(np.exp(alpha * (log_pi_0 - log_pi_t)[rows, y] + (r - r.mean(1, keepdims=True)) / beta))
    mean_weight = probability @ np.mean(weights, axis=(1, 2))
    updates = np.zeros((len(drawn), prompts, arms))
    for update, y, w in zip(updates, drawn, weights, strict=True):
        for n, k in product(range(prompts), range(completions)):
            update[n] += (w[n, k] / mean_weight - 1.0) * (np.eye(arms)[y[n, k]] - np.exp(log_pi_theta[n]))
    updates = updates.reshape(len(drawn), -1) / (prompts * completions)
    mean = probability @ updates
    return Moments(mean, (updates - mean).T @ ((updates - mean) * probability[:, None]))


@pytest.mark.parametrize(("prompts", "completions", "arms"), [(1, 3, 3), (2, 2, 2)])
def test_moments_are_those_of_every_ordered_batch(prompts: int, completions: int, arms: int) -> None:
    rng = np.random.default_rng(5)
    reward = rng.normal(size=(prompts, arms))
    policies = [log_normalized(rng.normal(size=(prompts, arms))) for _ in range(3)]
    found = estimator_moments("dar", reward, *policies, completions, alpha=0.3, beta=0.7, weights="zero_sum")
    expected = enumerated(reward, *policies, completions, 0.3, 0.7)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found.covariance, expected.covariance, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("normalize", ["none", "group", "batch"])
def test_at_the_sampler_the_mean_is_that_of_dar_in_units_of_the_mean_weight(normalize: str) -> None:
    rng = np.random.default_rng(6)
    reward = rng.normal(size=(2, 3))
    log_pi_0, log_pi_t = (log_normalized(rng.normal(size=(2, 3))) for _ in range(2))
    options = {"alpha": 0.4, "beta": 0.9, "normalize": normalize, "w_clip": 2.0}
    means = [
        estimator_moments("dar", reward, log_pi_t, log_pi_0, log_pi_t, 2, weights=weights, **options).mean
        for weights in ("dar", "zero_sum")
    ]
    ratio = means[0] / means[1]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-11)


@given(st.integers(2, 5), st.floats(0.0, 1.0), st.floats(0.2, 5.0), st.none() | st.floats(0.1, 3.0), st.integers(0, 99))
def test_variances_differ_by_exactly_what_is_stated(
    arms: int, alpha: float, beta: float, w_clip: float | None, seed: int
) -> None:
    """One sample of one prompt: trace of DAR's covariance over E[w]^2, less that of zero-sum, is 1 - 4 t.q + 3 q.q."""
    rng = np.random.default_rng(seed)
    bandit = (rng.normal(size=arms), *(log_normalized(rng.normal(size=arms)) for _ in range(2)))
    options = {"alpha": alpha, "beta": beta, "w_clip": w_clip, "baseline": "none"}
    dar, zero = (
        estimator_moments("dar", bandit[0], bandit[2], *bandit[1:], 1, weights=weights, **options)
        for weights in ("dar", "zero_sum")
    )
    mass = np.exp(regression_weights(*bandit, alpha, beta, w_clip).log_mass)
    t, q = np.exp(regression_target(*bandit, alpha, beta, w_clip)), np.exp(bandit[2])
    np.testing.assert_allclose(zero.mean, dar.mean / mass, atol=1e-13)
    saved = np.trace(dar.covariance) / mass**2 - np.trace(zero.covariance)
    largest = 1.0 + np.trace(zero.covariance)
    assert saved == pytest.approx(1.0 - 4.0 * t @ q + 3.0 * q @ q, abs=1e-12 * largest)


def test_without_signal_nothing_is_left_and_dar_keeps_the_noise_of_fine_tuning() -> None:
    none = (np.zeros(2), EVEN, EVEN, EVEN, 4)
    zero, dar = (estimator_moments("dar", *none, weights=weights) for weights in ("zero_sum", "dar"))
    np.testing.assert_allclose(zero.mean, 0.0, atol=1e-15)
    np.testing.assert_allclose(zero.covariance, 0.0, atol=1e-30)
    assert np.trace(dar.covariance) == pytest.approx(0.5 / 4)  # (1 - sum q^2) / K


def test_weights_far_beyond_float64_are_no_problem_in_units_of_their_mean() -> None:
    """A/beta = 1000 on both arms: w overflows, w/E[w] is 1."""
    moments = estimator_moments("dar", np.full(2, 50.0), EVEN, EVEN, EVEN, 1, baseline="none", weights="zero_sum")
    np.testing.assert_allclose(moments.mean, 0.0, atol=1e-12)


@pytest.mark.parametrize("method", ["dao", "grpo", "rloo"])
def test_other_methods_refuse_them(method: str) -> None:
    with pytest.raises(ValueError, match=rf"weights = 'zero_sum' is not an option of method '{method}'"):
        estimator_moments(method, np.zeros(2), EVEN, EVEN, EVEN, 2, weights="zero_sum")


def test_unknown_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="weights = 'centred' is unknown; choose one of dar, zero_sum"):
        estimator_moments("dar", np.zeros(2), EVEN, EVEN, EVEN, 2, weights="centred")
