"""The exact advantage against its definition in rational numbers, and against the mean of what samples give."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dar_ref.theory import exact_advantage
from dar_ref.theory.advantage import MIN_STD
from dar_ref.theory.batches import batches, sampled_advantages


@given(st.data())
def test_it_is_reward_less_its_mean_over_one_standard_deviation(data):
    prompts, arms = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))
    reward = [data.draw(st.lists(st.integers(-9, 9), min_size=arms, max_size=arms)) for _ in range(prompts)]
    parts = [data.draw(st.lists(st.integers(0, 9), min_size=arms, max_size=arms).filter(any)) for _ in range(prompts)]
    pi = [[Fraction(part, sum(row)) for part in row] for row in parts]
    centred = [
        [r - sum(p * q for p, q in zip(pi_x, row, strict=True)) for r in row]
        for pi_x, row in zip(pi, reward, strict=True)
    ]
    pairs = [(p, c) for pi_x, row in zip(pi, centred, strict=True) for p, c in zip(pi_x, row, strict=True)]
    variance = float(sum(p * c * c for p, c in pairs) / prompts)
    with np.errstate(divide="ignore"):
        advantage, std = exact_advantage(np.array(reward, dtype=float), np.log(np.array(pi, dtype=float)))
    assert std == pytest.approx(variance**0.5, rel=1e-12, abs=1e-13)
    expected = np.array(centred, dtype=float) / variance**0.5 if variance else np.zeros((prompts, arms))
    np.testing.assert_allclose(advantage, expected, rtol=1e-9, atol=1e-12)


def test_equal_rewards_have_advantage_zero():
    advantage, std = exact_advantage(np.full((2, 3), 0.1), np.log(np.full((2, 3), 1 / 3)))
    assert not advantage.any()
    assert std < MIN_STD


@pytest.mark.parametrize("size", [10.0, 253409435.583, 1e12])
def test_equal_rewards_are_equal_at_any_size_and_for_any_policy(size):
    """A mean under probabilities that sum to one up to rounding is off by rounding, and that is no spread."""
    for log_pi_t in (np.log([0.13533443904129455, 0.8646655609587056]), np.log([0.5, 0.5 + 4e-9])):
        advantage, std = exact_advantage(np.full((1, 2), size), log_pi_t[None])
        assert (advantage.tolist(), std) == ([[0.0, 0.0]], 0.0)


@pytest.mark.parametrize("num_generations", [2, 3])
def test_unnormalised_it_is_the_mean_over_all_groups_up_to_the_own_sample(num_generations):
    """E[A_i | y_i] of the group mean is (K-1)/K of it (T10): over all groups that the sampler can give, exactly."""
    pi_t, reward = np.array([0.5, 0.3, 0.2]), np.array([1.0, 0.0, 4.0])
    total = np.zeros(3)
    for log_probability, counts in batches(np.log(pi_t)[None], num_generations):
        sampled = sampled_advantages(reward[None], counts, num_generations, "group", "none")
        total += (np.exp(log_probability)[:, None] * (counts * sampled)[:, 0]).sum(axis=0)
    advantage, std = exact_advantage(reward, np.log(pi_t))
    share = (num_generations - 1) / num_generations
    np.testing.assert_allclose(total / (num_generations * pi_t), share * std * advantage, rtol=1e-12)


@pytest.mark.parametrize(
    ("reward", "log_pi_t", "message"),
    [([np.nan, 0.0], np.log([0.5, 0.5]), "reward"), ([1.0, 0.0], [0.5, 0.5], "log_pi_t holds probabilities")],
)
def test_bad_input_is_refused(reward, log_pi_t, message):
    with pytest.raises(ValueError, match=message):
        exact_advantage(np.array(reward), np.array(log_pi_t))


def test_large_rewards_do_not_overflow_and_a_span_beyond_float64_is_refused():
    advantage, std = exact_advantage(np.array([1e200, 0.0]), np.log([0.5, 0.5]))
    assert advantage.tolist() == [1.0, -1.0]
    assert std == 5e199
    with pytest.raises(ValueError, match=r"reward spans -1e\+308 to 1e\+308: the difference overflows float64"):
        exact_advantage(np.array([-1e308, 1e308]), np.log([0.5, 0.5]))
