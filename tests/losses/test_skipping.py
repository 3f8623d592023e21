"""What is left out is small: the stated bounds, on random and adversarial batches."""

import math
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dar_ref.losses import dar_weights, linear_cross_entropy, negligible
from tests.losses.test_linear import gradients, inputs, plain

F64 = torch.float64
TOLERANCES = [1e-6, 1e-3, 0.1, 1.0]


def weights_of(kind, rows, random):
    """Weights of an adversarial batch: spread as at the paper's setting, all tiny, one huge, all equal, some 0."""
    advantages = torch.randn(rows, dtype=F64, generator=random)
    ref, old = (-200 * torch.rand(rows, dtype=F64, generator=random) for _ in range(2))
    spread = dar_weights(ref, old, advantages).weight
    return {
        "paper": spread,
        "tiny": spread * 1e-30,
        "one huge": torch.cat([spread[1:] * 1e-12, torch.full((1,), 1e6, dtype=F64)]),
        "equal": torch.full_like(spread, 0.3),
        "zeros": torch.where(advantages > 0, spread, 0.0),
    }[kind]


BATCHES = [
    (kind, rows, seed)
    for kind in ("paper", "tiny", "one huge", "equal", "zeros")
    for rows in (1, 2, 8, 64)
    for seed in range(50)
]  # 1000


def row_gradients(hidden, head, targets, mask, *_):
    """grad log pi(y_i) of every row by hidden states and head, (B, T, H) and (B, V, H), in closed form."""
    error = torch.nn.functional.one_hot(targets, len(head)) - torch.softmax(hidden @ head.t(), dim=-1)
    error = error * mask[..., None]
    return error @ head, error.transpose(1, 2) @ hidden


@pytest.mark.parametrize("tolerance", TOLERANCES[:3])
def test_gradients_of_1000_batches_are_within_the_stated_bounds(tolerance):
    """Against the definition in float64, with and without what is left out."""
    left_out = 0
    for kind, rows, seed in BATCHES:
        made = list(inputs(rows, 3, 4, 7, seed=seed, bias=False))
        made[4] = weights_of(kind, rows, torch.Generator().manual_seed(seed))
        out = negligible(made[4], tolerance)
        left_out += int(out.sum())
        whole = gradients(plain(*made)[0], made)
        kept = gradients(linear_cross_entropy(*made[:4], torch.where(out, 0.0, made[4])).loss, made)
        for one, other, each in zip(kept, whole, row_gradients(*made), strict=True):
            size = each[out].flatten(1).norm(dim=1).max().item() if out.any() else 0.0
            error = (one - other).norm().item()
            assert error <= tolerance * made[4].sum().item() * size + 1e-10 * other.norm().item()
    assert left_out > 100


@pytest.mark.parametrize("tolerance", TOLERANCES)
def test_of_logits_the_error_is_bounded_by_lengths_alone(tolerance):
    for kind, rows, seed in BATCHES[::7]:
        random = torch.Generator().manual_seed(seed)
        weights = weights_of(kind, rows, random)
        logits = (10 * torch.randn(rows, 5, 9, dtype=F64, generator=random)).requires_grad_()
        ids = torch.randint(9, (rows, 5), generator=random)
        per_token = torch.log_softmax(logits, -1).gather(-1, ids[..., None])[..., 0]
        (gradient,) = torch.autograd.grad((weights[:, None] * per_token).sum(), logits)
        error = gradient[negligible(weights, tolerance)].norm().item()
        assert error <= tolerance * weights.sum().item() * math.sqrt(2 * 5) * (1 + 1e-12)


def test_the_error_may_be_all_of_the_gradient():
    """Why no bound is relative to the gradient's norm: two rows cancel, and the third is left out."""
    gradients_of_rows = torch.tensor([1.0, -1.0, 1.0], dtype=F64)
    weights = torch.tensor([1.0, 1.0, 1e-3], dtype=F64)
    out = negligible(weights, 1e-3)
    assert out.tolist() == [False, False, True]
    assert (weights * gradients_of_rows)[~out].sum() == 0.0 != (weights * gradients_of_rows).sum()


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=7), st.sampled_from([1, 2, 64]))
def test_as_many_as_possible_are_left_out(values, parts):
    """No larger set has a sum within the limit: every set is tried, in whole numbers."""
    out = negligible(torch.tensor(values, dtype=F64), 1 / parts)
    assert sum(v for v, left in zip(values, out.tolist(), strict=True) if left) * parts <= sum(values)
    sets = [some for n in range(len(values) + 1) for some in combinations(values, n)]
    assert int(out.sum()) == max(len(some) for some in sets if sum(some) * parts <= sum(values))


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20))
def test_tolerance_0_leaves_out_none(values):
    assert not negligible(torch.tensor(values), 0.0).any()


@given(st.integers(1, 64), st.integers(0, 10**6))
def test_without_pi_0_the_weight_is_bounded(rows, seed):
    random = torch.Generator().manual_seed(seed)
    advantages = torch.randn(rows, dtype=F64, generator=random)
    ref, old = (-200 * torch.rand(rows, dtype=F64, generator=random) for _ in range(2))
    for alpha in (0.0, 0.1, 1.0):
        options = {"alpha": alpha, "beta": 0.05, "w_clip": 20.0}
        weight = dar_weights(ref, old, advantages, **options).weight
        assert (weight <= dar_weights(torch.zeros_like(ref), old, advantages, **options).weight).all()


def test_what_is_not_a_number_is_never_left_out():
    out = negligible(torch.tensor([math.nan, 0.0, math.inf]), 1.0, total=1.0)
    assert out.tolist() == [False, True, False]


@pytest.mark.parametrize("tolerance", [-0.1, 1.1, math.nan])
def test_a_tolerance_out_of_range_is_refused(tolerance):
    with pytest.raises(ValueError, match="tolerance"):
        negligible(torch.ones(2), tolerance)


@pytest.mark.parametrize("tolerance", TOLERANCES)
@pytest.mark.parametrize("weights", [[math.inf, 1.0, 2.0], [math.inf, math.inf, 1.0], [math.inf, 1.0]])
def test_beside_an_infinite_weight_nothing_can_be_left_out(weights, tolerance):
    assert not negligible(torch.tensor(weights), tolerance).any()
    assert not negligible(torch.tensor([1.0, 2.0]), tolerance, total=math.inf).any()
