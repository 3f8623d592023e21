"""The baselines against the definitions of their papers, written out here as plain loops over numbers."""

import itertools
import math

import numpy as np
import pytest
import torch

from dar_ref import theory
from dar_ref.losses import (
    best_of_n_loss,
    dao_loss,
    dpo_loss,
    dual_ppo_loss,
    grpo_loss,
    ipo_loss,
    ppo_loss,
    rloo_loss,
    slic_loss,
)
from tests.strategies import log_normalized

F64 = torch.float64
NAN = math.nan


def draw(*shape, seed, scale=1.0):
    return scale * torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def token_batch():
    """per-token log-probs of pi_theta, pi_0, pi_t (4, 5), advantages (4,), a mask with holes; NaN under its zeros."""
    logps, ref, old = (draw(4, 5, seed=s, scale=0.3) - 1.0 for s in (1, 2, 3))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 1, 1, 1, 0], [1, 0, 0, 0, 0]])
    for t in (logps, ref, old):
        t[mask == 0] = NAN
    return logps.requires_grad_(), ref, old, draw(4, seed=4), mask


def kept(mask):
    return [[t for t in range(mask.shape[1]) if mask[i, t]] for i in range(mask.shape[0])]


def surrogate(rho, advantage, eps):
    return min(rho * advantage, min(max(rho, 1 - eps), 1 + eps) * advantage)


def kl_value(name, d):
    """d = log q - log pi."""
    return {"k1": -d, "k2": d * d / 2, "k3": math.exp(d) - 1 - d}[name]


@pytest.mark.parametrize("name", ["k1", "k2", "k3"])
@pytest.mark.parametrize(("epsilon", "beta"), [(0.2, 0.04), (0.05, 1.0), (0.0, 0.0)])
def test_grpo(name, epsilon, beta):
    logps, ref, old, adv, mask = token_batch()
    total = 0.0
    for i, tokens in enumerate(kept(mask)):
        terms = [
            surrogate(math.exp((logps[i, t] - old[i, t]).item()), adv[i].item(), epsilon)
            - beta * kl_value(name, (ref[i, t] - logps[i, t]).item())
            for t in tokens
        ]
        total += sum(terms) / len(terms)
    loss = grpo_loss(logps, ref, old, adv, mask, epsilon=epsilon, beta=beta, kl_estimator=name)
    assert loss.item() == pytest.approx(-total / 4, rel=1e-13)
    assert torch.isfinite(torch.autograd.grad(loss, logps)[0]).all()


@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("epsilon", [0.2, 0.05])
def test_ppo(per_token, epsilon):
    logps, _, old, adv, mask = token_batch()
    adv_tokens = draw(4, 5, seed=9) if per_token else adv[:, None].expand(4, 5)
    terms = [
        surrogate(math.exp((logps[i, t] - old[i, t]).item()), adv_tokens[i, t].item(), epsilon)
        for i, tokens in enumerate(kept(mask))
        for t in tokens
    ]
    loss = ppo_loss(logps, old, adv_tokens if per_token else adv, mask, epsilon=epsilon)
    assert loss.item() == pytest.approx(-sum(terms) / len(terms), rel=1e-13)


def test_ppo_advantages_under_the_mask_do_not_leak():
    logps, _, old, _, mask = token_batch()
    adv = draw(4, 5, seed=9)
    adv[mask == 0] = NAN
    assert torch.isfinite(ppo_loss(logps, old, adv, mask))


@pytest.mark.parametrize("name", ["k1", "k2", "k3"])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_dual_ppo(name, alpha):
    logps, ref, old, adv, mask = token_batch()
    epsilon, beta = 0.1, 0.5
    terms = []
    for i, tokens in enumerate(kept(mask)):
        for t in tokens:
            to_0, to_t = ((q[i, t] - logps[i, t]).item() for q in (ref, old))
            penalty = alpha * kl_value(name, to_0) + (1 - alpha) * kl_value(name, to_t)
            terms.append(surrogate(math.exp(-to_t), adv[i].item(), epsilon) - beta * penalty)
    kw = {"epsilon": epsilon, "alpha": alpha, "beta": beta, "kl_estimator": name}
    loss = dual_ppo_loss(logps, ref, old, adv, mask, **kw)
    assert loss.item() == pytest.approx(-sum(terms) / len(terms), rel=1e-13)


def test_dual_ppo_without_penalty_is_ppo_and_grpo_on_full_masks_too():
    logps, ref, old = (draw(3, 4, seed=s) for s in (1, 2, 3))
    adv, mask = draw(3, seed=4), torch.ones(3, 4)
    ppo = ppo_loss(logps, old, adv, mask).item()
    assert dual_ppo_loss(logps, ref, old, adv, mask, beta=0.0).item() == ppo
    assert grpo_loss(logps, ref, old, adv, mask, beta=0.0).item() == pytest.approx(ppo, rel=1e-14)


def test_dual_ppo_defaults():
    logps, ref, old, adv, mask = token_batch()
    kw = {"epsilon": 0.2, "alpha": 0.1, "beta": 0.05, "kl_estimator": "k3"}
    assert dual_ppo_loss(logps, ref, old, adv, mask).item() == dual_ppo_loss(logps, ref, old, adv, mask, **kw).item()
    kw = {"epsilon": 0.2, "beta": 0.04, "kl_estimator": "k3"}
    assert grpo_loss(logps, ref, old, adv, mask).item() == grpo_loss(logps, ref, old, adv, mask, **kw).item()
    assert ppo_loss(logps, old, adv, mask).item() == ppo_loss(logps, old, adv, mask, epsilon=0.2).item()


def test_clip_removes_the_gradient_beyond_it():
    old, mask = torch.zeros(2, 1, dtype=F64), torch.ones(2, 1)
    logps = torch.tensor([[0.5], [0.1]], dtype=F64, requires_grad=True)  # ratios 1.65 and 1.11
    (gradient,) = torch.autograd.grad(ppo_loss(logps, old, torch.ones(2, dtype=F64), mask, epsilon=0.2), logps)
    assert gradient[0].item() == 0.0
    assert gradient[1].item() == pytest.approx(-math.exp(0.1) / 2, rel=1e-14)


EXTREME = (-3e4, -1e3, -100.0, -88.8, -1.0, 0.0, 1.0, 88.8, 100.0, 1e3, 3e4)  # log pi_theta - log pi_t
TOKEN_LOSSES = {
    "ppo": lambda logps, _ref, old, adv, mask: ppo_loss(logps, old, adv, mask),
    "ppo, epsilon 1": lambda logps, _ref, old, adv, mask: ppo_loss(logps, old, adv, mask, epsilon=1.0),
    "grpo": grpo_loss,
    "grpo, no KL": lambda *batch: grpo_loss(*batch, beta=0.0),
    "dual ppo": dual_ppo_loss,
    "dual ppo, pi_t alone": lambda *batch: dual_ppo_loss(*batch, alpha=0.0),
    "dual ppo, no KL": lambda *batch: dual_ppo_loss(*batch, beta=0.0),
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", TOKEN_LOSSES)
def test_a_finite_loss_has_a_finite_gradient(name, dtype):
    finite = 0
    for log_ratio, to_pi_0, advantage in itertools.product(EXTREME, EXTREME, (1.0, -1.0, 0.0)):
        logps, kept_token = torch.tensor([[0.0, -1.0]], dtype=dtype, requires_grad=True), torch.ones(1, 2)
        ref, old = (torch.tensor([[-x, -1.0]], dtype=dtype) for x in (to_pi_0, log_ratio))
        loss = TOKEN_LOSSES[name](logps, ref, old, torch.tensor([advantage], dtype=dtype), kept_token)
        assert not torch.isnan(loss), (log_ratio, to_pi_0, advantage)
        if torch.isfinite(loss):
            finite += 1
            (gradient,) = torch.autograd.grad(loss, logps)
            assert torch.isfinite(gradient).all(), (log_ratio, to_pi_0, advantage)
            clipped = (advantage > 0 and log_ratio > 0.7) or (advantage < 0 and log_ratio < -0.3)
            if name in ("ppo", "grpo, no KL") and (clipped or advantage == 0):
                assert gradient[0, 0] == 0.0
    assert finite > 100


def test_a_completion_without_tokens_counts_zero():
    logps, ref, old = (draw(2, 3, seed=s).requires_grad_() for s in (1, 2, 3))
    mask = torch.tensor([[1, 1, 1], [0, 0, 0]])
    one = grpo_loss(logps[:1], ref[:1], old[:1], torch.ones(1, dtype=F64), mask[:1])
    assert grpo_loss(logps, ref, old, torch.ones(2, dtype=F64), mask).item() == pytest.approx(one.item() / 2, rel=1e-14)
    assert ppo_loss(logps, old, torch.ones(2, dtype=F64), torch.zeros(2, 3)).item() == 0.0


def test_one_kept_token_is_its_own_mean():
    one = torch.tensor([[-0.3]], dtype=F64)
    loss = ppo_loss(one, one - 0.1, torch.tensor([2.0], dtype=F64), torch.ones(1, 1))
    assert loss.item() == pytest.approx(-2.0 * math.exp(0.1), rel=1e-14)


def test_unknown_estimators_name_the_choices():
    x, adv = torch.zeros(1, 1), torch.zeros(1)
    with pytest.raises(ValueError, match=r"kl_estimator = 'k4' is unknown; choose one of k1, k2, k3$"):
        grpo_loss(x, x, x, adv, x, kl_estimator="k4")


def test_dao_by_hand():
    logps, ref, old, adv = (draw(6, seed=s) for s in range(4))
    alpha, beta = 0.3, 0.7
    terms = [
        math.exp(p - q) * (a - beta * (alpha * (p - r) + (1 - alpha) * (p - q)))
        for p, r, q, a in zip(*(t.tolist() for t in (logps, ref, old, adv)), strict=True)
    ]
    assert dao_loss(logps, ref, old, adv, alpha=alpha, beta=beta).item() == pytest.approx(-sum(terms) / 6, rel=1e-13)
    assert dao_loss(logps, ref, old, adv).item() == dao_loss(logps, ref, old, adv, alpha=0.1, beta=0.05).item()


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_dao_expected_gradient_is_the_gradient_of_minus_j(alpha):
    """By enumeration over pi_t, with the gradient of J from central differences of the theory's own objective."""
    rng = np.random.default_rng(0)
    logits, beta = rng.normal(size=4), 0.6
    log_pi_0, log_pi_t, advantage = (
        log_normalized(rng.normal(size=4)),
        log_normalized(rng.normal(size=4)),
        rng.normal(size=4),
    )
    theta = torch.tensor(logits, requires_grad=True)
    logps = theta.log_softmax(0)
    loss = sum(
        math.exp(log_pi_t[y])
        * dao_loss(
            logps[y : y + 1], *(torch.tensor([x[y]]) for x in (log_pi_0, log_pi_t, advantage)), alpha=alpha, beta=beta
        )
        for y in range(4)
    )
    (gradient,) = torch.autograd.grad(loss, theta)

    def j(shift):
        return theory.objective(log_normalized(logits + shift), advantage, log_pi_0, log_pi_t, alpha, beta)

    numeric = [(j(1e-5 * e) - j(-1e-5 * e)) / 2e-5 for e in np.eye(4)]
    assert gradient.numpy() == pytest.approx(-np.array(numeric), abs=1e-9)
    assert loss.item() == pytest.approx(-float(j(np.zeros(4))), rel=1e-12)


def test_dao_at_alpha_zero_ignores_a_pi_0_that_excludes_the_completion():
    one = torch.tensor([-1.0])
    assert dao_loss(one, torch.tensor([-math.inf]), one, one, alpha=0.0).item() == 1.0


@pytest.mark.parametrize(("size", "beta"), [(2, 0.0), (3, 0.05), (6, 2.0)])
def test_rloo(size, beta):
    logps, ref, old, rewards = (draw(6, seed=s) for s in range(4))
    returns = [(r - beta * (q - p)).item() for r, q, p in zip(rewards, old, ref, strict=True)]
    total = 0.0
    for i in range(6):
        group = range(i - i % size, i - i % size + size)
        baseline = sum(returns[j] for j in group if j != i) / (size - 1)
        total += (returns[i] - baseline) * logps[i].item()
    assert rloo_loss(logps, ref, old, rewards, size, beta=beta).item() == pytest.approx(-total / 6, rel=1e-12)
    assert rloo_loss(logps, ref, old, rewards, 2).item() == rloo_loss(logps, ref, old, rewards, 2, beta=0.05).item()


def test_rloo_is_unbiased_on_policy():
    """The expected gradient over all pairs of samples is that of -(E[r] - beta KL(pi‖pi_0)), for any baseline."""
    rng = np.random.default_rng(1)
    logits, reward, log_pi_0, beta = rng.normal(size=3), rng.normal(size=3), log_normalized(rng.normal(size=3)), 0.3
    theta = torch.tensor(logits, requires_grad=True)
    log_pi = log_normalized(logits)
    total = torch.zeros((), dtype=F64)
    for pair in itertools.product(range(3), repeat=2):
        pick = torch.tensor(pair)
        ref, old, rewards = (torch.tensor(x)[pick] for x in (log_pi_0, log_pi, reward))
        total = total + math.exp(sum(log_pi[i] for i in pair)) * rloo_loss(
            theta.log_softmax(0)[pick], ref, old, rewards, 2, beta=beta
        )
    (gradient,) = torch.autograd.grad(total, theta)
    exact = torch.tensor(logits, requires_grad=True)
    logp = exact.log_softmax(0)
    value = (logp.exp() * (torch.tensor(reward) - beta * (logp - torch.tensor(log_pi_0)))).sum()
    (expected,) = torch.autograd.grad(-value, exact)
    assert gradient.numpy() == pytest.approx(expected.numpy(), abs=1e-14)


def test_dpo_ipo_slic():
    chosen, rejected, ref_chosen, ref_rejected = pair = [draw(5, seed=s) for s in range(4)]
    margins = [(c - rc - (r - rr)).item() for c, r, rc, rr in zip(*pair, strict=True)]
    dpo = sum(math.log1p(math.exp(-0.3 * h)) for h in margins) / 5
    assert dpo_loss(*pair, beta=0.3).item() == pytest.approx(dpo, rel=1e-13)
    assert dpo_loss(*pair).item() == dpo_loss(*pair, beta=0.1).item()
    ipo = sum((h - 1 / (2 * 0.3)) ** 2 for h in margins) / 5
    assert ipo_loss(*pair, tau=0.3).item() == pytest.approx(ipo, rel=1e-13)
    assert ipo_loss(*pair).item() == ipo_loss(*pair, tau=0.1).item()
    target = draw(5, seed=7)
    slic = sum(
        max(0.0, 0.7 - c + r) - 0.2 * t
        for c, r, t in zip(chosen.tolist(), rejected.tolist(), target.tolist(), strict=True)
    )
    assert slic_loss(chosen, rejected, target, delta=0.7, regularization=0.2).item() == pytest.approx(
        slic / 5, rel=1e-12
    )
    defaults = slic_loss(chosen, rejected, target, delta=1.0, regularization=0.1).item()
    assert slic_loss(chosen, rejected, target).item() == defaults
    assert ref_chosen.equal(pair[2])
    assert ref_rejected.equal(pair[3])


def test_preference_losses_push_the_rejected_answer_down_as_far_as_the_chosen_one_up():
    *pair, target = (draw(5, seed=s) for s in (0, 1, 2, 3, 7))
    chosen, rejected, target = (x.clone().requires_grad_() for x in (pair[0], pair[1], target))
    margin = (chosen - pair[2] - (rejected - pair[3])).detach()
    expected = {dpo_loss: -0.3 * torch.sigmoid(-0.3 * margin) / 5, ipo_loss: 2 * (margin - 1 / (2 * 0.3)) / 5}
    for (loss, of_chosen), name in zip(expected.items(), ("beta", "tau"), strict=True):
        found = torch.autograd.grad(loss(chosen, rejected, *pair[2:], **{name: 0.3}), (chosen, rejected))
        for gradient, sign in zip(found, (1, -1), strict=True):
            torch.testing.assert_close(gradient, sign * of_chosen, rtol=1e-12, atol=1e-14)
    active = (0.7 - chosen + rejected > 0).detach().double() / 5
    slic = slic_loss(chosen, rejected, target, delta=0.7, regularization=0.2)
    found = torch.autograd.grad(slic, (chosen, rejected, target))
    for gradient, wanted in zip(found, (-active, active, torch.full((5,), -0.2 / 5, dtype=F64)), strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-12, atol=1e-14)


def test_dpo_with_equal_policies_is_log_two_and_survives_huge_margins():
    x = draw(3, seed=0)
    assert dpo_loss(x, x, x, x).item() == pytest.approx(math.log(2.0), rel=1e-15)
    far = torch.tensor([-1e6], dtype=F64)
    assert dpo_loss(far, -far, far * 0, far * 0).item() == pytest.approx(2e5, rel=1e-12)


def test_best_of_n_takes_the_first_best_of_each_group():
    logps = torch.tensor([-1.0, -2.0, -3.0, -4.0], requires_grad=True)
    loss = best_of_n_loss(logps, torch.tensor([0.0, 1.0, 5.0, 5.0]), 2)
    assert loss.item() == (2.0 + 3.0) / 2
    assert torch.autograd.grad(loss, logps)[0].tolist() == [0.0, -0.5, -0.5, 0.0]


SEQUENCE = {
    "dao": lambda *x: dao_loss(*x),
    "rloo": lambda *x: rloo_loss(*x, 2),
    "dpo": lambda *x: dpo_loss(*x),
    "ipo": lambda *x: ipo_loss(*x),
    "slic": lambda a, b, c, _: slic_loss(a, b, c),
    "best_of_n": lambda a, b, *_: best_of_n_loss(a, b, 2),
}
TOKEN = {
    "grpo": lambda a, b, c, d, m: grpo_loss(a, b, c, d, m),
    "ppo": lambda a, b, _, d, m: ppo_loss(a, b, d, m),
    "dual_ppo": lambda a, b, c, d, m: dual_ppo_loss(a, b, c, d, m),
}


@pytest.mark.parametrize("name", SEQUENCE)
def test_sequence_losses_check_types_and_shapes_leave_inputs_alone_and_widen(name):
    loss = SEQUENCE[name]
    good = [draw(4, seed=s) for s in range(4)]
    before = [t.clone() for t in good]
    assert loss(*good).dtype == F64
    assert all(torch.equal(a, b) for a, b in zip(good, before, strict=True))
    assert loss(*(t.bfloat16() for t in good)).dtype == torch.float32
    exact = loss(*(t.bfloat16().double() for t in good)).item()
    assert loss(*(t.bfloat16() for t in good)).item() == pytest.approx(exact, rel=1e-5)
    for position in range(2 if name == "best_of_n" else 3 if name == "slic" else 4):
        for bad, error in (
            (good[0][:2], ValueError),
            (good[0][None], ValueError),
            (good[0].long(), TypeError),
            ([0.0], TypeError),
        ):
            arguments = list(good)
            arguments[position] = bad
            with pytest.raises(error, match=r"_?(logps|advantages|rewards)"):
                loss(*arguments)


@pytest.mark.parametrize("name", TOKEN)
def test_token_losses_check_types_and_shapes_leave_inputs_alone_and_widen(name):
    loss = TOKEN[name]
    good = [draw(4, 5, seed=s) for s in range(3)] + [draw(4, seed=3), torch.ones(4, 5)]
    before = [t.clone() for t in good]
    assert loss(*good).dtype == F64
    assert all(torch.equal(a, b) for a, b in zip(good, before, strict=True))
    narrow = [t.bfloat16() for t in good]
    assert loss(*narrow).dtype == torch.float32
    assert loss(*narrow).item() == pytest.approx(loss(*(t.double() for t in narrow)).item(), rel=1e-5)
    for position in range(5):
        if name == "ppo" and position == 2:
            continue
        for bad, error in ((good[0][:2], ValueError), (good[0][0], ValueError), ([0.0], TypeError)):
            arguments = list(good)
            arguments[position] = bad
            with pytest.raises(error, match=r"logps|advantages|mask"):
                loss(*arguments)


BAD_OPTIONS = {
    "dao alpha": lambda s, _: dao_loss(*s, alpha=1.5),
    "dao beta": lambda s, _: dao_loss(*s, beta=0.0),
    "grpo epsilon": lambda _, t: grpo_loss(*t, epsilon=-0.1),
    "grpo beta": lambda _, t: grpo_loss(*t, beta=-1.0),
    "grpo kl_estimator": lambda _, t: grpo_loss(*t, kl_estimator="k4"),
    "rloo beta": lambda s, _: rloo_loss(*s, 2, beta=-1.0),
    "rloo num_generations": lambda s, _: rloo_loss(*s, 3),
    "ppo epsilon": lambda _, t: ppo_loss(*t[:2], *t[3:], epsilon=math.nan),
    "dual_ppo alpha": lambda _, t: dual_ppo_loss(*t, alpha=-0.5),
    "dual_ppo beta": lambda _, t: dual_ppo_loss(*t, beta=-0.5),
    "dual_ppo kl_estimator": lambda _, t: dual_ppo_loss(*t, kl_estimator="mean"),
    "dpo beta": lambda s, _: dpo_loss(*s, beta=0.0),
    "ipo tau": lambda s, _: ipo_loss(*s, tau=0.0),
    "slic delta": lambda s, _: slic_loss(*s[:3], delta=-1.0),
    "slic regularization": lambda s, _: slic_loss(*s[:3], regularization=-1.0),
    "best_of_n num_generations": lambda s, _: best_of_n_loss(*s[:2], 1),
}


@pytest.mark.parametrize("what", BAD_OPTIONS)
def test_bad_options_are_named(what):
    sequence = [draw(4, seed=s) for s in range(4)]
    token = [draw(4, 5, seed=s) for s in range(3)] + [draw(4, seed=3), torch.ones(4, 5)]
    with pytest.raises(ValueError, match=f"{what.split()[1]} = "):
        BAD_OPTIONS[what](sequence, token)


@pytest.mark.parametrize(
    "loss", [lambda r: rloo_loss(r * 0, r * 0, r * 0, r, 2), lambda r: best_of_n_loss(r * 0, r, 2)]
)
def test_rewards_must_be_finite(loss):
    with pytest.raises(ValueError, match=r"rewards\[1\] = nan"):
        loss(torch.tensor([0.0, NAN]))


def test_rloo_without_kl_does_not_look_at_pi_0():
    logps, rewards = torch.tensor([-1.0, -1.0]), torch.tensor([1.0, 0.0])
    lost, other = torch.tensor([-math.inf, -1.0]), torch.tensor([-3.0, -1.0])
    assert rloo_loss(logps, lost, logps, rewards, 2, beta=0.0) == rloo_loss(logps, other, logps, rewards, 2, beta=0.0)


def test_the_message_names_what_the_mask_does_not_fit():
    with pytest.raises(ValueError, match=r"completion_mask has shape \(2, 3\), advantages \(2, 4\)"):
        ppo_loss(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 4), torch.ones(2, 3))
