"""The fused loss against plain log-softmax in float64: values, gradients, memory."""

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dar_ref.losses.linear import linear_cross_entropy

F64 = torch.float64


def inputs(b=3, t=5, h=4, v=11, *, seed=0, scale=1.0, dtype=F64, bias=True, trained=True):
    """Hidden states (B, T, H), head (V, H), ids, mask, weights (B,) and bias (V,) or None."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, dtype=F64, generator=random).to(dtype)

    hidden = (normal(b, t, h) * scale).requires_grad_()
    head = normal(v, h).requires_grad_(trained)
    targets = torch.randint(v, (b, t), generator=random)
    mask = torch.rand(b, t, generator=random) < 0.7
    mask[0, 0] = True
    weights = torch.rand(b, dtype=F64, generator=random) * 20
    return hidden, head, targets, mask, weights, normal(v).requires_grad_(trained) if bias else None


def plain(hidden, head, targets, mask, weights, bias=None, temperature=1.0, softcap=None, **_):
    """The definition, from the whole logits: loss, log-probs, entropy."""
    logits = hidden @ head.t() + (0.0 if bias is None else bias)
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    log_p = torch.log_softmax(logits / temperature, dim=-1)
    logps = torch.where(mask, log_p.gather(-1, targets[..., None])[..., 0], 0.0)
    entropy = torch.where(mask, -(log_p.exp() * log_p).sum(-1), 0.0)
    return -(weights[:, None] * logps).sum(), logps, entropy


def fused(hidden, head, targets, mask, weights, bias=None, **options):
    return linear_cross_entropy(hidden, head, targets, mask, weights, bias=bias, **options)


def gradients(loss, made):
    return torch.autograd.grad(loss, [x for x in (made[0], made[1], made[5]) if x is not None and x.requires_grad])


def assert_equal(made, **options):
    expected, found = plain(*made, **options), fused(*made, **options)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    for one, other in zip(gradients(found[0], made), gradients(expected[0], made), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10 * max(1.0, other.abs().max().item()))


SHAPES = st.fixed_dictionaries(
    {
        "b": st.integers(1, 4),
        "t": st.integers(1, 6),
        "h": st.integers(1, 5),
        "v": st.integers(1, 9),
        "seed": st.integers(0, 10**6),
        "scale": st.sampled_from([0.0, 1.0, 1e3]),
        "bias": st.booleans(),
        "trained": st.booleans(),
    }
)


@given(
    SHAPES, st.integers(1, 30), st.sampled_from([1.0, 0.3, 2.0]), st.sampled_from([None, 5.0]), st.sampled_from([0, 1])
)
def test_against_log_softmax_of_whole_logits(shape, chunk_size, temperature, softcap, zero):
    made = inputs(**shape)
    made[4][0] *= 1 - zero  # a weight that is 0 has log-probs and no gradient
    assert_equal(made, temperature=temperature, softcap=softcap, chunk_size=chunk_size)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("softcap", [None, 3.0])
def test_gradcheck(bias, softcap):
    hidden, head, *rest, bias = inputs(bias=bias)

    def loss(*trained):
        return fused(*trained[:2], *rest, *trained[2:], temperature=0.7, softcap=softcap, chunk_size=4).loss

    assert torch.autograd.gradcheck(loss, [x for x in (hidden, head, bias) if x is not None])


@pytest.mark.parametrize("factor", [1.0, -0.5, 0.0])
def test_the_gradient_is_that_of_a_multiple_of_the_loss(factor):
    made = inputs()
    found = gradients(factor * fused(*made).loss, made)
    for one, other in zip(found, gradients(plain(*made)[0], made), strict=True):
        torch.testing.assert_close(one, factor * other, rtol=1e-10, atol=1e-10)


def test_a_batch_without_tokens_has_loss_and_gradients_zero():
    made = inputs()
    made[3][:] = False
    found = fused(*made)
    assert found.loss.item() == 0.0
    assert not torch.cat(found[1:]).any()
    assert not any(gradient.any() for gradient in gradients(found.loss, made))


def test_what_stands_under_the_mask_reaches_nothing():
    made = inputs()
    clean = fused(*made)
    made[0].data[~made[3]] = math.nan
    made[2][~made[3]] = -100
    found = fused(*made)
    assert all(torch.equal(one, other) for one, other in zip(found, clean, strict=True))
    assert not gradients(found.loss, made)[0][~made[3]].any()


def test_a_token_that_the_bias_forbids_adds_nothing():
    hidden, head, targets, mask, weights, bias = inputs(b=2, t=3, h=4, v=5, seed=1, scale=1.0, bias=True, trained=False)
    targets = targets.clamp(max=3)
    bias = bias.index_fill(0, torch.tensor(4), -math.inf)
    loss, logps, entropy = fused(hidden, head, targets, mask, weights, bias)
    without = plain(hidden, head[:4], targets, mask, weights, bias[:4])
    for found, expected in zip((loss, logps, entropy), without, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_tied_head_and_embedding_share_the_gradient():
    hidden, head, *rest, _ = inputs(bias=False)
    ids = torch.randint(len(head), hidden.shape[:2], generator=torch.Generator().manual_seed(1))
    found, expected = (torch.autograd.grad(f(head[ids], head, *rest)[0], head)[0] for f in (fused, plain))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_a_frozen_head_gets_no_gradient_and_without_weights_there_is_none():
    hidden, head, *rest, _ = inputs(bias=False, trained=False)
    fused(hidden, head, *rest).loss.backward()
    assert head.grad is None
    assert hidden.grad.any()
    scored = fused(hidden, head, *rest[:2], None)
    assert scored.loss.item() == 0.0
    assert scored.entropy is None
    torch.testing.assert_close(scored.per_token_logps, plain(hidden, head, *rest)[1])


def test_nothing_is_changed_in_place():
    made = inputs()
    before = [x.detach().clone() for x in made]
    gradients(fused(*made, softcap=3.0, temperature=0.5).loss, made)
    assert all(torch.equal(x, y) for x, y in zip(made, before, strict=True))


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_extreme_logits_in_float32(size):
    """A softmax that is 1 at one token up to rounding; the sum of exp(logits) would be infinite."""
    hidden = torch.tensor([[[size], [-size]]], requires_grad=True)
    head = torch.tensor([[1.0], [-1.0]], requires_grad=True)
    found = fused(hidden, head, torch.tensor([[0, 0]]), torch.ones(1, 2), torch.ones(1))
    assert found.per_token_logps.tolist() == [[0.0, pytest.approx(-2 * size)]]
    assert found.entropy.tolist() == [[0.0, 0.0]]
    of_hidden, of_head = torch.autograd.grad(found.loss, [hidden, head])
    assert of_hidden.tolist() == [[[0.0], [-2.0]]]  # -(1_y - p) W: p is (0, 1) at the second token
    assert of_head.tolist() == [[pytest.approx(size)], [pytest.approx(-size)]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_narrow_types_are_off_by_their_rounding_and_summed_in_float32(dtype):
    """Logits of size about sqrt(H) are rounded to `dtype`; 500 chunks of gradients of one sign must not drift."""
    b, t = 4, 125
    made = list(inputs(b, t, 8, 50, dtype=dtype, bias=False))
    made[2][:] = 7  # always the same token: its row of the gradient is a sum of one sign
    wide = [x.detach().double().requires_grad_() if x is not None and x.is_floating_point() else x for x in made]
    found, expected = fused(*made, chunk_size=1), plain(*wide)
    eps = torch.finfo(dtype).eps
    size = 8 * made[0].detach().abs().max().item()  # a bound of the logits' size, up to the head's
    assert (found.per_token_logps - expected[1]).abs().max() <= size * eps
    assert found.loss.dtype == found.per_token_logps.dtype == torch.float32
    for one, other in zip(gradients(found.loss, made), gradients(expected[0], wide), strict=True):
        assert one.dtype == dtype
        assert (one.double() - other).norm() <= 4 * eps * other.norm()


def test_under_autocast_products_are_narrow_and_sums_are_not():
    made = inputs(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = fused(*made)
    expected = plain(*[x if i == 3 or i == 2 else x.double() for i, x in enumerate(made)])
    error = (found.per_token_logps - expected[1]).abs().max()
    assert found.loss.dtype == torch.float32
    assert 1e-5 < error < 0.1
    assert [x.dtype for x in gradients(found.loss, made)] == [torch.float32] * 3


PEAK = """
import sys, torch
from pathlib import Path
from tests.losses.test_linear import fused, inputs, plain

def peak():
    return int(next(x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x).split()[1])

made = inputs(4, 128, 64, 20_000, dtype=torch.float32, bias=False)
before = peak()
loss = {"fused": fused, "plain": plain}[sys.argv[1]](*made)[0]
loss.backward()
print(peak() - before)
"""


def test_the_logits_are_never_whole():
    """512 tokens of 20,000 logits are 41 MB; the definition holds several of them."""
    peaks = {}
    for name in ("fused", "plain"):
        done = subprocess.run([sys.executable, "-c", PEAK, name], capture_output=True, text=True, check=True)
        peaks[name] = int(done.stdout)
    assert peaks["fused"] < peaks["plain"] / 2


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({0: torch.zeros(2, 3)}, ValueError, "hidden has shape"),
        ({0: torch.zeros(3, 5, 4).long()}, TypeError, "hidden is a tensor of torch.int64"),
        ({1: torch.zeros(11, 3)}, ValueError, "head has shape"),
        ({2: torch.zeros(3, 5)}, TypeError, "pass token ids"),
        ({3: torch.zeros(3, 4)}, ValueError, "completion_mask has shape"),
        ({4: torch.zeros(2)}, ValueError, "weights has shape"),
        ({4: [1.0, 2.0, 3.0]}, TypeError, "weights is a list"),
        ({5: torch.zeros(10)}, ValueError, "bias has shape"),
    ],
)
def test_what_does_not_fit_is_refused(change, error, message):
    made = list(inputs())
    for index, value in change.items():
        made[index] = value
    with pytest.raises(error, match=message):
        fused(*made)


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"softcap": -1.0}, {"chunk_size": 0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        fused(*inputs(), **options)


def test_a_mask_that_is_no_tensor_is_refused_by_name():
    with pytest.raises(TypeError, match="completion_mask is a list; pass a"):
        linear_cross_entropy(torch.zeros(1, 2, 3), torch.zeros(4, 3), torch.zeros(1, 2, dtype=torch.long), [[1, 1]])
