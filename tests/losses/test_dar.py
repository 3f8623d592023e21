"""The DAR loss equals the exact finite sums of T3 and T4: value, gradient, and the gap to its minimiser.

`dar_ref.losses` and `dar_ref.theory` do not import each other; here they are compared by enumeration.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dar_ref import theory
from dar_ref.losses import dar_loss, dar_weights
from tests.strategies import log_normalized

F64 = torch.float64
options = st.fixed_dictionaries(
    {
        "alpha": st.sampled_from([0.0, 0.1, 0.5, 1.0]) | st.floats(2.0**-126, 1.0),  # smaller ones are refused
        "beta": st.floats(0.05, 20.0),
        "w_clip": st.sampled_from([1e-2, 1.0, 20.0, math.inf]) | st.floats(0.1, 10.0),
    }
)


@st.composite
def bandits(draw):
    """logits of pi_theta, log pi_0, log pi_t, advantage, each (A,); pi_0 and pi_t may lack the last arm."""
    arms = draw(st.integers(1, 6))
    vectors = [np.array(draw(st.lists(st.floats(-3.0, 3.0), min_size=arms, max_size=arms))) for _ in range(4)]
    logits, logits_0, logits_t, advantage = vectors
    for anchor in (logits_0, logits_t):
        if arms > 1 and draw(st.booleans()):
            anchor[-1] = -np.inf
    return logits, log_normalized(logits_0), log_normalized(logits_t), advantage


def expected_loss(logps, log_pi_0, log_pi_t, advantage, **kw):
    """E over one sample y ~ pi_t of `dar_loss` on the batch (y,), by enumeration."""
    total = torch.zeros((), dtype=F64)
    for arm in range(len(log_pi_t)):
        if log_pi_t[arm] > -np.inf:
            one = [torch.tensor([float(x[arm])], dtype=F64) for x in (log_pi_0, log_pi_t, advantage)]
            total = total + math.exp(log_pi_t[arm]) * dar_loss(logps[arm : arm + 1], *one, **kw).loss
    return total


@given(bandits(), options)
def test_expected_value_and_gradient_are_the_exact_finite_sums(bandit, kw):
    logits, log_pi_0, log_pi_t, advantage = bandit
    theta = torch.tensor(logits, requires_grad=True)
    loss = expected_loss(theta.log_softmax(0), log_pi_0, log_pi_t, advantage, **kw)
    arguments = (advantage, log_pi_0, log_pi_t, kw["alpha"], kw["beta"], kw["w_clip"])
    log_pi = log_normalized(logits)
    exact = theory.regression_loss(log_pi, *arguments)
    assert loss.item() == pytest.approx(float(exact), rel=1e-12, abs=1e-300)
    # d/dtheta_k of -sum pi_t v log softmax(theta) = (sum pi_t v) pi_k - pi_t,k v_k
    weighted = np.exp(log_pi_t + theory.regression_weights(*arguments).log_weight)
    gradient = weighted.sum() * np.exp(log_pi) - weighted
    (actual,) = torch.autograd.grad(loss, theta)
    assert actual.numpy() == pytest.approx(gradient, rel=1e-11, abs=1e-13 * weighted.sum())


@given(bandits(), options)
def test_gap_to_the_target_is_mass_times_kl_for_every_policy(bandit, kw):
    """T3 (w_clip = inf) and T4, without an optimiser and its tolerance."""
    logits, log_pi_0, log_pi_t, advantage = bandit
    arguments = (advantage, log_pi_0, log_pi_t, kw["alpha"], kw["beta"], kw["w_clip"])
    log_pi, target = log_normalized(logits), theory.regression_target(*arguments)
    at_pi, at_target = (expected_loss(torch.tensor(p), log_pi_0, log_pi_t, advantage, **kw) for p in (log_pi, target))
    carried = target > -np.inf  # elsewhere the weight is 0 and the log-prob -inf; the exact sum leaves such arms out
    if carried.all():
        mass = math.exp(theory.regression_weights(*arguments).log_mass)
        gap = mass * float(theory.kl(target, log_pi))
        assert float(at_pi - at_target) == pytest.approx(gap, rel=1e-9, abs=1e-12 * mass * 20.0)


def test_all_batches_of_three_enumerated():
    """The mean over all batches (y1, y2, y3) ~ pi_t^3 is the exact loss: the sequences do not affect each other."""
    rng = np.random.default_rng(0)
    log_pi, log_pi_0, log_pi_t = (log_normalized(rng.normal(size=3)) for _ in range(3))
    advantage = rng.normal(size=3)
    total = 0.0
    for batch in itertools.product(range(3), repeat=3):
        pick = torch.tensor(batch)
        tensors = [torch.tensor(x)[pick] for x in (log_pi, log_pi_0, log_pi_t, advantage)]
        total += (
            math.exp(sum(log_pi_t[i] for i in batch)) * dar_loss(*tensors, alpha=0.3, beta=0.5, w_clip=2.0).loss.item()
        )
    exact = theory.regression_loss(log_pi, advantage, log_pi_0, log_pi_t, 0.3, 0.5, 2.0)
    assert total == pytest.approx(float(exact), rel=1e-13)


@given(bandits(), options)
def test_weights_are_the_theory_s(bandit, kw):
    _, log_pi_0, log_pi_t, advantage = bandit
    sampled = log_pi_t > -np.inf
    tensors = [torch.tensor(x[sampled]) for x in (log_pi_0, log_pi_t, advantage)]
    weights = dar_weights(*tensors, **kw)
    arguments = (advantage, log_pi_0, log_pi_t, kw["alpha"], kw["beta"])
    if kw["alpha"] > 0.0 and not (sampled & (log_pi_0 > -np.inf)).any():
        return  # theory refuses anchors without a common arm; in the loss every weight is 0
    expected = np.exp(theory.regression_weights(*arguments, kw["w_clip"]).log_weight[sampled])
    assert weights.weight.numpy() == pytest.approx(expected, rel=1e-12)
    free = theory.regression_weights(*arguments).log_weight[sampled]
    clearly = np.abs(free - math.log(kw["w_clip"])) > 1e-9
    assert (weights.clipped.numpy() == (free > math.log(kw["w_clip"])))[clearly].all()
    with np.errstate(invalid="ignore"):
        assert (weights.log_reg + weights.log_adv).numpy() == pytest.approx(free, abs=1e-12)


def test_fields_by_hand():
    ref, old, adv = (torch.tensor(x) for x in ([-4.0, -1.0], [-2.0, -3.0], [0.1, 0.2]))
    weights = dar_weights(ref, old, adv, alpha=0.5, beta=0.1, w_clip=5.0)
    assert weights.log_reg.tolist() == [-1.0, 1.0]
    assert weights.log_adv.tolist() == pytest.approx([1.0, 2.0])
    assert weights.weight.tolist() == pytest.approx([1.0, 5.0])
    assert weights.clipped.tolist() == [False, True]


def test_the_defaults_are_the_papers():
    ref, old, adv = (torch.tensor([x], dtype=F64) for x in (-3.0, -5.0, 0.1))
    assert dar_weights(ref, old, adv).weight.item() == pytest.approx(math.exp(0.1 * 2.0 + 0.1 / 0.05), rel=1e-14)
    assert dar_weights(ref, old, adv + 1.0).weight.item() == pytest.approx(20.0, rel=1e-15)
    assert dar_loss(old, ref, old, adv).loss.item() == pytest.approx(5.0 * math.exp(2.2), rel=1e-14)
    assert dar_loss(old, ref, old, adv + 1.0).loss.item() == pytest.approx(100.0, rel=1e-14)


@pytest.mark.parametrize(("option", "values"), [("alpha", (0.1, 0.9)), ("beta", (0.5, 1.0)), ("w_clip", (1.0, 2.0))])
def test_every_option_changes_the_loss(option, values):
    tensors = [torch.tensor(x, dtype=F64) for x in ([-1.0, -2.0], [-3.0, -1.0], [-1.0, -4.0], [1.0, -1.0])]
    kw = {"alpha": 0.3, "beta": 0.7, "w_clip": 1.5}
    one, two = (dar_loss(*tensors, **{**kw, option: value}).loss.item() for value in values)
    assert abs(one - two) > 1e-3


def test_no_gradient_runs_through_the_weight():
    tensors = [torch.tensor([-1.0, -2.0], requires_grad=True) for _ in range(4)]
    loss, weights = dar_loss(*tensors)
    assert not weights.weight.requires_grad
    assert not weights.log_reg.requires_grad
    gradients = torch.autograd.grad(loss, tensors, allow_unused=True)
    assert gradients[0].tolist() == (-weights.weight / 2).tolist()
    assert gradients[1:] == (None, None, None)


def test_on_policy_without_advantage_it_is_plain_sft():
    logps = torch.tensor([-1.0, -5.0, -0.5])
    for alpha in (0.0, 0.1, 1.0):
        assert dar_loss(logps, logps, logps, torch.zeros(3), alpha=alpha).loss == -logps.mean()


def test_huge_advantages_neither_overflow_nor_produce_nan():
    logps = torch.tensor([-3.0, -3.0, -3.0])
    adv = torch.tensor([1e30, -1e30, 0.0])
    loss, weights = dar_loss(logps, logps, logps, adv, beta=1e-6)
    assert weights.weight.tolist() == pytest.approx([20.0, 0.0, 1.0])
    assert loss.item() == pytest.approx(21.0)


def test_a_completion_that_pi_0_excludes_has_weight_zero_and_counts_fully_at_alpha_zero():
    ref, old, adv = torch.tensor([-math.inf]), torch.tensor([-1.0]), torch.tensor([0.0])
    assert dar_weights(ref, old, adv, alpha=0.1).weight.tolist() == [0.0]
    assert dar_weights(ref, old, adv, alpha=0.0).weight.tolist() == [1.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_floating_type_comes_in_and_float32_or_better_goes_on(dtype):
    logps, ref, old, adv = (torch.tensor([x], dtype=dtype) for x in (-100.0, -101.0, -100.5, 0.25))
    loss, weights = dar_loss(logps, ref, old, adv, beta=0.5)
    assert loss.dtype == weights.weight.dtype == (F64 if dtype == F64 else torch.float32)
    assert loss.item() == pytest.approx(100.0 * math.exp(0.1 * -0.5 + 0.5), rel=1e-6)


def test_types_may_be_mixed():
    logps, ref = torch.tensor([-1.0], dtype=torch.bfloat16), torch.tensor([-2.0], dtype=F64)
    old, adv = torch.tensor([-1.5], dtype=torch.float16), torch.tensor([0.5])
    loss = dar_loss(logps, ref, old, adv, beta=1.0).loss
    assert loss.dtype == F64
    assert loss.item() == pytest.approx(math.exp(-0.05 + 0.5), rel=1e-6)
    assert dar_loss(logps, old, ref, adv, beta=1.0).loss.item() == pytest.approx(math.exp(0.05 + 0.5), rel=1e-6)


def test_inputs_are_left_bit_identical():
    tensors = [torch.randn(64, dtype=F64, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    before = [t.clone() for t in tensors]
    dar_loss(*tensors)
    assert all(torch.equal(a, b) for a, b in zip(tensors, before, strict=True))


def test_a_permutation_permutes_and_a_batch_is_the_mean_of_its_halves():
    tensors = [torch.randn(8, dtype=F64, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    order = torch.tensor([3, 1, 0, 7, 5, 2, 6, 4])
    whole, shuffled = dar_loss(*tensors), dar_loss(*(t[order] for t in tensors))
    assert torch.equal(shuffled.weights.weight, whole.weights.weight[order])
    assert shuffled.loss.item() == pytest.approx(whole.loss.item(), rel=1e-14)
    halves = [dar_loss(*(t[s] for t in tensors)).loss.item() for s in (slice(0, 4), slice(4, 8))]
    assert whole.loss.item() == pytest.approx(sum(halves) / 2, rel=1e-14)


@pytest.mark.parametrize("log_scale", [-700.0, -300.0, 0.0, 300.0, 700.0])
def test_the_effective_sample_share_has_no_unit(log_scale):
    """Squares of the weights would leave float64; the share is that of the weights 1, 2 and 3."""
    zero = torch.zeros(3, dtype=torch.float64)
    weights = dar_weights(
        zero, zero, torch.log(torch.tensor([1.0, 2.0, 3.0]).double()) + log_scale, beta=1.0, w_clip=math.inf
    )
    assert weights.ess().item() == pytest.approx(36.0 / (3.0 * 14.0), rel=1e-12)


def test_no_sample_counts_where_all_weights_are_zero():
    zero = torch.zeros(3)
    assert dar_weights(zero, zero, torch.full((3,), -6.0)).ess().item() == 0.0  # exp(-120) is 0 in float32
