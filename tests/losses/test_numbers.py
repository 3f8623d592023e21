"""Values and gradients of the losses at extreme log-probs, by a sample of the cases of `numbers` (`make numbers`: all),
and options and rewards at the ends of the floating types."""

import math
from fractions import Fraction

import pytest
import torch

from dar_ref.losses import best_of_n_loss, dar_loss, dar_weights, group_advantages, grpo_loss, normalize_advantages
from tests.losses import numbers


@pytest.fixture(scope="module")
def measured():
    return numbers.measure(every=41, tokens=1000)


def test_errors_stay_within_the_bounds_and_nothing_is_nan(measured):
    assert {row["type"] for row in measured} == {"bfloat16", "float16", "float32", "float64"}
    for row in measured:
        assert not row["problems"], row
        assert row["value"] <= numbers.VALUE, row
        assert row["gradient"] <= numbers.GRADIENT, row


def test_a_wrong_formula_breaks_the_bounds(monkeypatch):
    wrong = numbers.Loss(numbers.dar, lambda *x: dar_loss(*x, alpha=0.11, beta=0.05, w_clip=20.0).loss)
    monkeypatch.setitem(numbers.LOSSES, "dar", wrong)
    rows = [[-2.0, -2.5, -1.75, 0.0], [-1.0, -3.0, -1.5, 0.0]]
    assert numbers.compared("dar", rows, torch.float64).value > 1e6


def test_gradients_of_several_terms_are_added_before_they_are_rounded():
    logps = torch.full((1, 1), -1.0, dtype=torch.bfloat16, requires_grad=True)
    zero, kept = torch.full((1, 1), -1.0, dtype=torch.bfloat16), torch.ones(1, 1)
    far = zero + 2.0
    (gradient,) = torch.autograd.grad(grpo_loss(logps, far, zero, torch.ones(1) * 0.256, kept, beta=0.04), logps)
    exact = -0.256 - 0.04 * math.expm1(2.0)  # two terms of one size: rounded one by one, they miss the last bit
    assert gradient.item() == torch.tensor(exact).bfloat16().item()


TOO_SMALL = (1e-320, 5e-324, 1e-39, -1e-320, 1e-46)


@pytest.mark.parametrize("option", ["alpha", "beta", "w_clip"])
@pytest.mark.parametrize("value", [*TOO_SMALL, 1e39, 10**400, -(10**400), 1j, "0.1", math.nan, Fraction(1, 10**60)])
def test_options_that_float32_does_not_hold_are_refused(option, value):
    with pytest.raises((TypeError, ValueError), match=f"^{option} = .*pass "):
        dar_loss(*[torch.zeros(2)] * 4, **{option: value})


def test_a_zero_has_no_sign():
    parts = torch.zeros(2), torch.full((2,), -math.inf), torch.zeros(2), torch.zeros(2)
    assert dar_loss(*parts, alpha=-0.0).loss == dar_loss(*parts, alpha=0.0).loss == 0.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("reward", [3e38, 1e39, math.inf, -math.inf, math.nan])
def test_rewards_are_refused_or_right(dtype, reward):
    rewards = torch.tensor([reward, 0.0, 1.0, -reward], dtype=torch.float64).to(dtype)
    if dtype == torch.float64 and math.isfinite(reward):
        assert group_advantages(rewards, 2).tolist() == [reward / 2, -reward / 2, (1 + reward) / 2, -(1 + reward) / 2]
        return
    for use in (lambda: group_advantages(rewards, 2), lambda: best_of_n_loss(torch.zeros(4), rewards, 2)):
        with pytest.raises(ValueError, match=r"rewards\[0\] = .*must be finite, and sums of them too"):
            use()


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e18, 1e30, 3e38])
@pytest.mark.parametrize("groups", [None, 2])
def test_advantages_of_any_size_are_normalised(size, groups):
    advantages = torch.tensor([size, -size, size / 2, -size / 2])
    expected = [1.0, -1.0, 1.0, -1.0] if groups else [x / math.sqrt(5 / 8) for x in (1.0, -1.0, 0.5, -0.5)]
    assert normalize_advantages(advantages, num_generations=groups, eps=0.0).tolist() == pytest.approx(expected)


def test_the_smallest_weights_of_float32_are_zero_and_no_nan():
    zero = torch.zeros(2)
    weights = dar_weights(zero, zero, torch.tensor([0.0, -1.0]), beta=2.0**-126)
    assert weights.weight.tolist() == [1.0, 0.0]
