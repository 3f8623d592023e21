"""Every method gives the loss of sums and advantages computed here. Its own options change it, other options do not."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from dar_ref import losses
from dar_ref.toy.config import CRITIC, OFFLINE, Method, RunConfig
from dar_ref.toy.critic import Critic
from dar_ref.toy.methods import make_rollout, method_loss
from dar_ref.toy.policy import Completions, encode_prompts, per_token_logps
from dar_ref.toy.sampling import sample
from tests.toy.reference import gae_by_definition, perturbed, transformers_logits

METHODS = get_args(Method)
N, K = 6, 4
OPTIONS = {
    "alpha": 0.3,
    "beta": 0.4,
    "w_clip": 1.5,
    "epsilon": 0.1,
    "kl_coef": 0.7,
    "dpo_beta": 0.3,
    "gae_lambda": 0.6,
}
EFFECT = {  # from the options above; `self_normalize` is refused for all but dar
    "dar": {"alpha", "beta", "w_clip"},
    "dao": {"alpha", "beta"},
    "grpo": {"epsilon", "kl_coef"},
    "rloo": {"kl_coef"},
    "ppo": {"epsilon", "kl_coef", "gae_lambda"},
    "dual_ppo": {"alpha", "beta", "epsilon", "gae_lambda"},
    "online_dpo": {"dpo_beta"},
    "dpo": {"dpo_beta"},
    "ipo": {"dpo_beta"},
    "slic": set(),
    "best_of_n": set(),
}


class Setting:
    """Three different policies pi_0, pi_t and pi_theta, samples of pi_t, and their rewards with some ties."""

    def __init__(self, start):
        self.start, self.pi_t = start, perturbed(start.pi_0, 0.05, seed=1)
        self.pi_theta, self.critic = perturbed(self.pi_t, 0.05, seed=2), perturbed(Critic(start.pi_0), 0.1, seed=3)
        generator = torch.Generator().manual_seed(0)
        prompt_ids = encode_prompts(start.task, start.prompts.train[:N])
        self.completions, self.old = sample(self.pi_t, prompt_ids, K, 5, generator)
        self.rewards = torch.randn(N * K, generator=generator)
        self.rewards[8:12] = 0.1
        self.rewards[:2] = 0.5

    def pieces(self, config):
        """Completions, rewards and log-probs of the sampler, as the training loop passes them."""
        if config.method not in OFFLINE:
            return self.completions, self.rewards, self.old
        pairs = self.start.comparisons.pairs(torch.arange(N * K // 2))
        return pairs, torch.tensor([1.0, 0.0]).repeat(N * K // 2), None

    def rollout(self, config):
        critic = self.critic if config.method in CRITIC else None
        return make_rollout(config, self.start, critic, *self.pieces(config))

    def loss(self, config):
        return method_loss(config, self.pi_theta, self.rollout(config))

    def gradient(self, config):
        return torch.cat(
            [g.flatten() for g in torch.autograd.grad(self.loss(config), list(self.pi_theta.parameters()))]
        )


@pytest.fixture(scope="module")
def setting(start):
    return Setting(start)


def config_of(method, **options):
    return RunConfig(method=method, batch_prompts=N, num_generations=K, **options)


def by_hand(setting, config):
    """The loss in float64 on log-probs by transformers, advantages and pairs written out."""
    completions, rewards, _ = setting.pieces(config)
    mask = completions.mask
    per_token = [
        transformers_logits(policy, completions).double().log_softmax(-1).gather(-1, completions.ids[..., None])[..., 0]
        for policy in (setting.pi_theta, setting.start.pi_0, setting.pi_t)
    ]
    logps, ref, old = (torch.stack([row[keep].sum() for row, keep in zip(x, mask, strict=True)]) for x in per_token)
    rewards = rewards.double()
    groups = rewards.numpy().reshape(-1, completions.num_generations)
    centred = groups - groups.mean(axis=1, keepdims=True)
    batch = torch.tensor((centred / np.sqrt((centred**2).mean())).ravel())
    spread = groups.std(axis=1, keepdims=True)
    group = torch.tensor((centred / np.where(spread > 1e-8, spread, np.inf)).ravel())
    dual = {"alpha": config.alpha, "beta": config.beta}
    clip = {"epsilon": config.epsilon}
    if config.method in CRITIC:
        kl_coef = config.kl_coef if config.method == "ppo" else 0.0
        tables = (x.tolist() for x in (setting.critic(completions), per_token[2], per_token[1], rewards))
        values, _ = gae_by_definition(*tables, mask.sum(dim=1).tolist(), kl_coef, config.gae_lambda)
        values = torch.tensor(values)
    best = rewards.view(-1, 2)[:, 0] >= rewards.view(-1, 2)[:, 1]
    first, second = logps.view(-1, 2).unbind(1)
    ref_first, ref_second = ref.view(-1, 2).unbind(1)
    chosen, rejected = torch.where(best, first, second), torch.where(best, second, first)
    pairs = chosen, rejected, torch.where(best, ref_first, ref_second), torch.where(best, ref_second, ref_first)
    match config.method:
        case "dar":
            loss, weights = losses.dar_loss(logps, ref, old, batch, w_clip=config.w_clip, **dual)
            return loss / weights.weight.mean() if config.self_normalize else loss
        case "dao":
            return losses.dao_loss(logps, ref, old, batch, **dual)
        case "grpo":
            return losses.grpo_loss(*per_token, group, mask, beta=config.kl_coef, **clip)
        case "rloo":
            return losses.rloo_loss(logps, ref, old, rewards, K, beta=config.kl_coef)
        case "ppo":
            return losses.ppo_loss(per_token[0], per_token[2], values, mask, **clip)
        case "dual_ppo":
            return losses.dual_ppo_loss(*per_token, values, mask, **clip, **dual)
        case "online_dpo" | "dpo":
            return losses.dpo_loss(*pairs, beta=config.dpo_beta)
        case "ipo":
            return losses.ipo_loss(*pairs, tau=config.dpo_beta)
        case "slic":
            return losses.slic_loss(chosen, rejected, chosen)
        case "best_of_n":
            return losses.best_of_n_loss(logps, rewards, K)


@pytest.mark.parametrize("options", [{}, OPTIONS], ids=["default", "other"])
@pytest.mark.parametrize("method", [*METHODS, "dar self-normalised"])
def test_each_method_is_its_loss_on_sums_computed_by_another_road(setting, method, options):
    method, *own = method.split()
    config = config_of(method, **options, self_normalize=bool(own))
    expected = by_hand(setting, config)
    assert setting.loss(config).item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-5)
    gradients = torch.autograd.grad(expected, list(setting.pi_theta.parameters()))
    expected = torch.cat([g.flatten() for g in gradients])
    assert expected.norm() > 0.01
    assert (setting.gradient(config) - expected).norm() < 1e-3 * expected.norm()


@pytest.mark.parametrize("method", METHODS)
def test_the_options_of_a_method_change_its_gradient_and_no_others_do(setting, method):
    config = config_of(method)
    before = setting.gradient(config)
    changed = {
        name for name, x in OPTIONS.items() if not torch.equal(setting.gradient(replace(config, **{name: x})), before)
    }
    assert changed == EFFECT[method]


def test_self_normalised_weights_have_mean_one(setting):
    config = config_of("dar")
    rollout = setting.rollout(config)
    sums = (
        losses.sequence_logps(x, rollout.completions.mask)
        for x in (rollout.ref_per_token_logps, rollout.old_per_token_logps)
    )
    mean = losses.dar_weights(*sums, rollout.advantages).weight.mean()
    assert mean > 1.5
    normalised = setting.gradient(replace(config, self_normalize=True))
    torch.testing.assert_close(normalised * mean, setting.gradient(config), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_at_the_start_the_ratio_is_one_and_the_kl_zero(setting, start, method):
    config, critic = config_of(method), setting.critic if method in CRITIC else None
    policy = perturbed(start.pi_0, 0.0)
    completions, rewards, old = setting.pieces(config)
    if old is not None:
        generator = torch.Generator().manual_seed(0)
        completions, old = sample(policy, completions.prompt_ids, K, 5, generator)
    rollout = make_rollout(config, start, critic, completions, rewards, old)
    logps = per_token_logps(policy, rollout.completions)
    assert logps.requires_grad
    torch.testing.assert_close(logps, rollout.old_per_token_logps, rtol=0.0, atol=2e-6)  # as drawn, token by token
    assert torch.equal(logps, rollout.ref_per_token_logps)
    assert not any(x is not None and x.requires_grad for x in rollout[1:])


@pytest.mark.parametrize("method", METHODS)
def test_only_the_policy_gets_a_gradient(setting, method):
    setting.loss(config_of(method)).backward()
    assert all(p.grad is not None for p in setting.pi_theta.parameters())
    for model in (setting.start.pi_0, setting.start.reward_model, setting.pi_t, setting.critic):
        assert all(p.grad is None for p in model.parameters())
    setting.pi_theta.zero_grad()


@pytest.mark.parametrize("method", ["dar", "dao", "grpo", "rloo", "online_dpo", "best_of_n", "ppo"])
def test_minibatches_are_parts_of_the_whole(setting, method):
    config = config_of(method)
    rollout, whole = setting.rollout(config), setting.loss(config)
    parts = [rollout.minibatch(rows) for rows in torch.tensor([4, 1, 0, 5, 3, 2]).chunk(3)]
    order = [K * row + k for row in (4, 1, 0, 5, 3, 2) for k in range(K)]
    for name in ("rewards", "old_per_token_logps", "ref_per_token_logps", "advantages", "returns"):
        if getattr(rollout, name) is not None:
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(rollout, name)[order])
    assert (rollout.returns is None) == (parts[0].returns is None) == (method not in CRITIC)
    for name in Completions._fields[1:]:
        joined = torch.cat([getattr(part.completions, name) for part in parts])
        assert torch.equal(joined, getattr(rollout.completions, name)[order])
    sizes = [part.completions.mask.sum().item() if method == "ppo" else 1 for part in parts]
    mean = sum(s * method_loss(config, setting.pi_theta, p).item() for s, p in zip(sizes, parts, strict=True)) / sum(
        sizes
    )
    assert mean == pytest.approx(whole.item(), rel=1e-5, abs=1e-6)
