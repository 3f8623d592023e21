"""Sums over tokens and advantages over groups: masked values have no effect, and zeros are exact."""

import inspect
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dar_ref.losses import group_advantages, normalize_advantages, sequence_logps
from dar_ref.theory.advantage import MIN_STD

F64 = torch.float64


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
@pytest.mark.parametrize("junk", [math.nan, math.inf, -math.inf, 1e30])
def test_what_stands_under_a_zero_leaks_neither_into_value_nor_gradient(junk, dtype):
    logps = torch.tensor([[-1.0, -2.0, junk], [junk, -3.0, junk]], requires_grad=True)
    mask = torch.tensor([[1, 1, 0], [0, 1, 0]], dtype=dtype)
    sums = sequence_logps(logps, mask)
    assert sums.tolist() == [-3.0, -3.0]
    (gradient,) = torch.autograd.grad(sums.sum(), logps)
    assert torch.equal(gradient, mask.float())


def test_padding_adds_nothing_wherever_it_stands():
    logps = torch.randn(4, 6, dtype=F64, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 1, 1, 0, 0]] * 4)
    pad = torch.full((4, 3), math.nan, dtype=F64)
    none = torch.zeros(4, 3, dtype=torch.int64)
    expected = sequence_logps(logps, mask)
    assert expected.tolist() == pytest.approx(logps[:, :4].sum(1).tolist(), rel=1e-15)
    for padded, its_mask in (((pad, logps), (none, mask)), ((logps, pad), (mask, none))):
        sums = sequence_logps(torch.cat(padded, 1), torch.cat(its_mask, 1))
        assert sums.tolist() == pytest.approx(expected.tolist(), rel=1e-15)


def test_sums_run_in_float32_or_better():
    logps = torch.full((1, 1000), -0.01, dtype=torch.bfloat16)
    one = logps[0, 0].double().item()
    total = sequence_logps(logps, torch.ones(1, 1000))
    assert total.dtype == torch.float32
    assert total.item() == pytest.approx(1000 * one, rel=1e-5)
    assert logps.sum().item() != pytest.approx(1000 * one, rel=1e-5)  # the result in bfloat16 alone
    assert sequence_logps(logps.double(), torch.ones(1, 1000)).dtype == F64


def test_a_completion_without_tokens_sums_to_zero():
    assert sequence_logps(torch.tensor([[-1.0, -2.0]]), torch.zeros(1, 2)).tolist() == [0.0]


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=6, max_size=6), st.sampled_from([2, 3, 6]))
def test_group_advantages_are_their_definition(rewards, size):
    advantages = group_advantages(torch.tensor(rewards, dtype=F64), size)
    for i, value in enumerate(advantages.tolist()):
        group = rewards[i - i % size : i - i % size + size]
        assert value == pytest.approx(rewards[i] - math.fsum(group) / size, abs=1e-11)


@given(
    st.floats(allow_nan=False, allow_infinity=False, width=32, min_value=-(2.0**100), max_value=2.0**100),
    st.integers(2, 17),
)
def test_equal_rewards_give_exactly_zero(reward, size):
    for dtype in (torch.float32, F64):
        assert (group_advantages(torch.full((2 * size,), reward, dtype=dtype), size) == 0.0).all()


def test_groups_lie_side_by_side_and_do_not_mix():
    advantages = group_advantages(torch.tensor([0.0, 2.0, 10.0, 30.0]), 2)
    assert advantages.tolist() == [-1.0, 1.0, -10.0, 10.0]


def test_group_mean_contains_its_own_sample():
    """T10: A_i = (K-1)/K (r_i - mean of the others)."""
    rewards = torch.tensor([1.0, 4.0, -2.0, 0.5], dtype=F64)
    others = torch.stack([torch.cat([rewards[:i], rewards[i + 1 :]]).mean() for i in range(4)])
    assert group_advantages(rewards, 4).tolist() == pytest.approx((0.75 * (rewards - others)).tolist(), rel=1e-14)


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=20))
def test_normalized_advantages_have_unit_population_std_or_are_zero(values):
    advantages = torch.tensor(values, dtype=F64)
    mean = math.fsum(values) / len(values)
    std = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))
    normalized = normalize_advantages(advantages)
    if std > 1.1e-8:
        assert normalized.tolist() == pytest.approx([v / std for v in values], rel=1e-9, abs=1e-12)
    elif std < 0.9e-8:
        assert (normalized == 0.0).all()


def test_tiny_residues_become_zeros_never_millions():
    residue = torch.tensor([1e-9, -1e-9, 0.0])
    assert normalize_advantages(residue).tolist() == [0.0, 0.0, 0.0]
    assert normalize_advantages(residue, eps=0.0).abs().max() > 1.0
    assert normalize_advantages(torch.zeros(3), eps=0.0).tolist() == [0.0, 0.0, 0.0]
    assert normalize_advantages(torch.tensor([5.0])).tolist() == [0.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_advantage_that_is_no_number_is_seen_and_not_turned_into_zeros(bad):
    assert normalize_advantages(torch.tensor([bad, 1.0, 2.0])).isnan().any()
    by_group = normalize_advantages(torch.tensor([bad, 1.0, 2.0, 4.0]), num_generations=2)
    assert by_group[:2].isnan().any()
    assert by_group[2:].tolist() == pytest.approx([2.0, 4.0])


def test_std_is_taken_over_the_advantages_not_the_rewards():
    """K = 4, r = 0 0 1 1 5 5 6 6: std(A) = 0.5, std(r) = 2.55 (2.73 with Bessel's correction)."""
    rewards = torch.tensor([0.0, 0.0, 1.0, 1.0, 5.0, 5.0, 6.0, 6.0])
    advantages = group_advantages(rewards, 4)
    assert normalize_advantages(advantages).abs().tolist() == [1.0] * 8
    assert rewards.std().item() == pytest.approx(2.73, abs=0.01)


def test_normalization_is_over_the_whole_batch_not_per_group():
    advantages = group_advantages(torch.tensor([0.0, 2.0, 0.0, 20.0]), 2)
    assert normalize_advantages(advantages).tolist() == pytest.approx([x / math.sqrt(50.5) for x in (-1, 1, -10, 10)])


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=6), st.floats(-1e3, 1e3, width=32))
def test_by_group_each_group_is_a_batch_of_its_own(values, equal):
    group = torch.tensor(values, dtype=F64)
    both = torch.cat([group, torch.full_like(group, equal)])
    by_group = normalize_advantages(both, num_generations=len(values))
    assert by_group[: len(values)].tolist() == pytest.approx(normalize_advantages(group).tolist(), rel=1e-12)
    assert (by_group[len(values) :] == 0.0).all()


def test_equal_rewards_mean_the_same_in_theory_and_losses():
    default = inspect.signature(normalize_advantages).parameters["eps"].default
    assert default == MIN_STD


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_types(dtype):
    wide = F64 if dtype == F64 else torch.float32
    assert group_advantages(torch.tensor([1.0, 2.0], dtype=dtype), 2).dtype == wide
    assert normalize_advantages(torch.tensor([1.0, 2.0], dtype=dtype)).dtype == wide


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_rewards_that_are_not_finite_are_named(bad):
    with pytest.raises(ValueError, match=r"rewards\[2\] = .*must be finite, and sums .*; fix the reward function"):
        group_advantages(torch.tensor([0.0, 1.0, bad, bad]), 2)


def test_bad_groups_and_types():
    rewards = torch.tensor([0.0, 1.0, 2.0])
    with pytest.raises(ValueError, match="does not divide the batch of 3"):
        group_advantages(rewards, 2)
    with pytest.raises(ValueError, match="num_generations = 1: a group needs at least 2"):
        group_advantages(rewards, 1)
    for bad in (2.0, True, "2", None):
        with pytest.raises(TypeError, match=f"^num_generations = {bad!r} is a {type(bad).__name__}; pass an int$"):
            group_advantages(rewards, bad)
    with pytest.raises(TypeError, match="rewards is a list with None at index 1"):
        group_advantages([0.0, None], 2)
    with pytest.raises(TypeError, match=r"rewards is a tensor of torch\.int64"):
        group_advantages(torch.tensor([0, 1]), 2)
    with pytest.raises(ValueError, match=r"rewards has shape \(1, 3\); .* \(B,\), one value per sequence$"):
        group_advantages(rewards[None], 3)
    with pytest.raises(ValueError, match=r"rewards has shape \(0,\)"):
        group_advantages(rewards[:0], 3)
    for eps, error in ((-1e-8, ValueError), (math.nan, ValueError), (math.inf, ValueError), ("0", TypeError)):
        with pytest.raises(error, match="eps = "):
            normalize_advantages(rewards, eps=eps)


def test_bad_masks():
    logps = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"completion_mask has shape \(2, 2\), per_token_logps \(2, 3\)"):
        sequence_logps(logps, torch.ones(2, 2))
    with pytest.raises(TypeError, match="completion_mask is a list"):
        sequence_logps(logps, [[1, 1, 1], [1, 1, 1]])
    with pytest.raises(TypeError, match=r"completion_mask is a tensor of torch\.complex64"):
        sequence_logps(logps, torch.ones(2, 3, dtype=torch.complex64))
    with pytest.raises(
        ValueError, match=r"^per_token_logps has shape \(3,\); pass a non-empty tensor \(B, T\), one value per token$"
    ):
        sequence_logps(torch.zeros(3), torch.ones(3))
