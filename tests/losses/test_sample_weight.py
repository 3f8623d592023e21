"""What a sequence counts for: 0 leaves it out, 2 is the sequence twice, equal weights are none; and the ESS."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dar_ref.losses import DARWeights, dao_loss, dar_loss, dar_weights

F64 = torch.float64
LOSSES = {
    "dar": lambda *x, **kw: dar_loss(*x, alpha=0.3, beta=0.7, w_clip=3.0, **kw).loss,
    "dao": lambda *x, **kw: dao_loss(*x, alpha=0.3, beta=0.7, **kw),
}
of_every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


@st.composite
def batches(draw):
    """logps, ref_logps, old_logps and advantages, each (B,)."""
    size = draw(st.integers(1, 6))
    columns = [draw(st.lists(st.floats(-4.0, 4.0), min_size=size, max_size=size)) for _ in range(4)]
    return [torch.tensor(column, dtype=F64) for column in columns]


def value_and_gradient(loss, batch, **options):
    logps = batch[0].clone().requires_grad_(True)
    value = loss(logps, *batch[1:], **options)
    return value.item(), torch.autograd.grad(value, logps)[0]


def assert_equal(one, other):
    assert one[0] == pytest.approx(other[0], rel=1e-12, abs=1e-12)
    torch.testing.assert_close(one[1], other[1], rtol=1e-12, atol=1e-12)


@of_every_loss
@given(batches(), st.floats(1e-3, 1e3))
def test_equal_weights_are_no_weights(loss, batch, size):
    weights = torch.full_like(batch[0], size)
    assert_equal(value_and_gradient(loss, batch, sample_weight=weights), value_and_gradient(loss, batch))


@of_every_loss
@given(batches(), st.data())
def test_whole_weights_are_repetitions(loss, batch, data):
    size = len(batch[0])
    times = torch.tensor(data.draw(st.lists(st.integers(0, 3), min_size=size, max_size=size).filter(any)))
    rows = torch.arange(size).repeat_interleave(times)
    value, gradient = value_and_gradient(loss, [column[rows] for column in batch])
    summed = torch.zeros(size, dtype=F64).index_add(0, rows, gradient)
    assert_equal(value_and_gradient(loss, batch, sample_weight=times.double()), (value, summed))


@of_every_loss
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("column", range(4))
def test_what_stands_in_a_row_of_weight_zero_reaches_neither_value_nor_gradient(loss, column, bad):
    batch = [torch.randn(4, dtype=F64, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    clean = value_and_gradient(loss, [x[1:] for x in batch])
    batch[column][0] = bad
    weights = torch.tensor([0.0, 1.0, 1.0, 1.0], dtype=F64)
    value, gradient = value_and_gradient(loss, batch, sample_weight=weights)
    assert gradient[0] == 0.0
    assert_equal((value, gradient[1:]), clean)


@of_every_loss
def test_a_batch_that_is_left_out_has_loss_and_gradient_zero(loss):
    batch = [torch.tensor([-1.0, -2.0]) for _ in range(4)]
    value, gradient = value_and_gradient(loss, batch, sample_weight=torch.zeros(2))
    assert (value, gradient.tolist()) == (0.0, [0.0, 0.0])


@of_every_loss
@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (torch.ones(3), ValueError),
        (torch.ones(2, 1), ValueError),
        (torch.ones(2).long(), TypeError),
        ([1.0], TypeError),
    ],
)
def test_other_weights_are_refused_by_name(loss, bad, error):
    batch = [torch.tensor([-1.0, -2.0]) for _ in range(4)]
    with pytest.raises(error, match=r"^sample_weight "):
        loss(*batch, sample_weight=bad)


@of_every_loss
def test_narrow_weights_are_summed_in_float32(loss):
    batch = [torch.randn(1000, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    weights = torch.ones(1000, dtype=torch.bfloat16)
    assert loss(*batch, sample_weight=weights).item() == pytest.approx(loss(*batch).item(), rel=1e-5)


@given(st.lists(st.floats(-8.0, 3.0), min_size=1, max_size=20))
def test_ess_is_its_definition_whatever_the_scale(log_weights):
    weights = [math.exp(x) for x in log_weights]
    expected = math.fsum(weights) ** 2 / (len(weights) * math.fsum(w * w for w in weights))
    zero = torch.zeros(len(weights), dtype=F64)
    found = dar_weights(zero, zero, torch.tensor(log_weights, dtype=F64), beta=1.0, w_clip=math.inf)
    assert found.ess().item() == pytest.approx(expected, rel=1e-12)
    assert found._replace(weight=7.0 * found.weight).ess().item() == pytest.approx(expected, rel=1e-12)
    assert found.ess().item() <= 1.0 + 1e-12


def test_ess_of_one_weight_that_counts_is_its_share_in_float64():
    nothing = torch.zeros(4)
    weights = DARWeights(torch.tensor([0.0, 3.0, 0.0, 0.0]), nothing, nothing, nothing.bool())
    assert weights.ess().item() == 0.25
    assert weights.ess().dtype == F64
