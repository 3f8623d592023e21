"""By enumeration: the loop's regression ends at the exact target, its samples estimate the exact gradient, and its
records equal metrics that are computed here from their definitions."""

import math

import numpy as np
import pytest
import torch

from dar_ref.bandit import TabularPolicy, TrainConfig, log_probs, random_tabular_bandit, train
from dar_ref.bandit.methods import Samples, method_advantages, method_loss, of_arms, sample
from dar_ref.bandit.train import update
from dar_ref.losses import dar_weights
from dar_ref.theory import exact_advantage, kl, regression_target

N, A = 6, 4


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def kl_by_hand(p, q):
    return (p * np.log(p / q)).sum(axis=-1)


def advantage_by_hand(reward, pi_t):
    centred = np.array([row - pi @ row for row, pi in zip(reward, pi_t, strict=True)])
    return centred / math.sqrt(sum(pi @ row**2 for row, pi in zip(centred, pi_t, strict=True)) / len(reward))


@pytest.mark.parametrize("w_clip", [math.inf, 1.5])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_updates_on_all_arms_of_a_uniform_sampler_end_at_the_regression_target(alpha, w_clip):
    bandit = random_tabular_bandit(N, A, seed=0)
    contexts = bandit.train
    arms = torch.arange(A).expand(N, A)  # every arm once: under a uniform pi_t the sample is the enumeration
    log_pi_t = torch.full((N, A), -math.log(A), dtype=torch.float64)
    log_pi_0 = log_probs(bandit.pi_0, contexts.features).detach()
    rewards = of_arms(contexts.proxy, arms)
    advantages = method_advantages("dar", rewards, A)
    np.testing.assert_allclose(
        advantages.view(N, A), exact_advantage(contexts.proxy.numpy(), log_pi_t.numpy()).advantage, rtol=1e-12
    )
    rollout = Samples(arms, of_arms(log_pi_0, arms), of_arms(log_pi_t, arms), rewards, advantages)
    config = TrainConfig(num_generations=A, updates_per_rollout=1500, alpha=alpha, beta=1.0, w_clip=w_clip)
    policy = TabularPolicy(torch.zeros(N, A, dtype=torch.float64))
    update(policy, torch.optim.SGD(policy.parameters(), lr=10.0), contexts, rollout, config)

    weight = (np.exp(log_pi_0.numpy()) * A) ** alpha * np.exp(advantages.numpy().reshape(N, A))
    target = np.log(np.minimum(weight, w_clip) / np.minimum(weight, w_clip).sum(axis=1, keepdims=True))
    log_pi = log_probs(policy, contexts.features).detach().numpy()
    assert kl_by_hand(np.exp(target), np.exp(log_pi)).max() < 1e-8
    clip = None if w_clip == math.inf else w_clip
    exact = regression_target(
        advantages.view(N, A).numpy(), log_pi_0.numpy(), log_pi_t.numpy(), alpha, 1.0, w_clip=clip
    )
    assert kl(exact, log_pi).max() < 1e-8


@pytest.mark.parametrize("w_clip", [math.inf, 1.5])
def test_the_enumerated_loss_of_any_sampler_is_minimised_by_the_regression_target(w_clip):
    bandit = random_tabular_bandit(N, A, seed=1)
    rows = bandit.train.features
    log_pi_0 = log_probs(bandit.pi_0, rows).detach()
    log_pi_t = torch.log_softmax(torch.randn(N, A, dtype=torch.float64, generator=torch.Generator().manual_seed(2)), 1)
    advantage = exact_advantage(bandit.train.proxy.numpy(), log_pi_t.numpy()).advantage
    weight = dar_weights(
        log_pi_0.view(-1),
        log_pi_t.view(-1),
        torch.tensor(advantage).view(-1),
        alpha=0.3,
        beta=0.5,
        w_clip=w_clip,
    ).weight.view(N, A)
    policy = TabularPolicy(torch.zeros(N, A, dtype=torch.float64))
    optimizer = torch.optim.LBFGS(
        policy.parameters(), max_iter=500, tolerance_grad=1e-12, tolerance_change=0.0, line_search_fn="strong_wolfe"
    )

    def enumerated_loss():
        optimizer.zero_grad()
        loss = -(log_pi_t.exp() * weight * log_probs(policy, rows)).sum()
        loss.backward()
        return loss

    optimizer.step(enumerated_loss)
    target = regression_target(advantage, log_pi_0.numpy(), log_pi_t.numpy(), 0.3, 0.5, w_clip=w_clip)
    assert kl(target, log_probs(policy, rows).detach().numpy()).max() < 1e-8


def test_the_sampled_gradient_has_the_enumerated_one_as_its_mean():
    bandit = random_tabular_bandit(N, A, seed=3)
    rows, reward = bandit.train.features, bandit.train.proxy
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, N, A, dtype=torch.float64, generator=generator)
    log_pi_0, log_pi_t = log_probs(bandit.pi_0, rows).detach(), torch.log_softmax(logits[0], dim=1)
    policy = TabularPolicy(logits[1])
    exact = exact_advantage(reward.numpy(), log_pi_t.numpy()).advantage
    config = TrainConfig(num_generations=8, alpha=0.4, beta=0.5, w_clip=3.0)
    draws = []
    for _ in range(3000):
        rollout = sample(config, log_pi_0, log_pi_t, reward, generator)
        rollout = rollout._replace(advantages=of_arms(torch.tensor(exact), rollout.arms))
        loss = method_loss(config, of_arms(log_probs(policy, rows), rollout.arms), rollout)
        draws.append(torch.autograd.grad(loss, policy.logits)[0])
    sampled = torch.stack(draws).numpy()

    pi_0, pi_t, pi = (np.exp(x.detach().numpy()) for x in (log_pi_0, log_pi_t, log_probs(policy, rows)))
    weight = np.minimum((pi_0 / pi_t) ** 0.4 * np.exp(exact / 0.5), 3.0)
    mass = pi_t * weight
    expected = -(mass - mass.sum(axis=1, keepdims=True) * pi) / N  # gradient of -sum pi_t v log softmax(logits)
    standard_error = sampled.std(axis=0, ddof=1) / math.sqrt(len(sampled))
    assert (np.abs(sampled.mean(axis=0) - expected) < 5 * standard_error).all()
    assert (standard_error < 0.05 * np.abs(expected).max()).all()  # the interval is narrow enough to mean something


def test_exact_advantage_is_the_mean_of_the_sampled_one_up_to_its_own_sample():
    K, copies = 2, 40_000
    pi_t, reward = np.array([0.5, 0.3, 0.2]), np.array([1.0, 0.0, 4.0])
    exact = exact_advantage(reward[None], np.log(pi_t)[None])
    np.testing.assert_allclose(exact.advantage, advantage_by_hand(reward[None], pi_t[None]), rtol=1e-14)
    assert exact.std == pytest.approx(math.sqrt(pi_t @ (reward - pi_t @ reward) ** 2), rel=1e-14)
    log_pi_t = torch.tensor(np.log(pi_t)).expand(copies, 3)
    rollout = sample(
        TrainConfig(num_generations=K),
        log_pi_t,
        log_pi_t,
        torch.tensor(reward).expand(copies, 3),
        torch.Generator().manual_seed(0),
    )
    arms, advantages = rollout.arms.view(-1).numpy(), rollout.advantages.numpy()
    for arm in range(3):
        sampled = advantages[arms == arm]
        interval = 5 * sampled.std() / math.sqrt(len(sampled))
        assert abs(sampled.mean() - math.sqrt((K - 1) / K) * exact.advantage[0, arm]) < interval
        assert abs(sampled.mean() - exact.advantage[0, arm]) > interval  # the difference is real


@pytest.mark.parametrize("method", ["dar", "dao", "grpo"])
def test_records_equal_their_definitions(method):
    bandit = random_tabular_bandit(N, A, seed=4)
    options = {"method": method, "batch_prompts": N, "learning_rate": 0.1, "alpha": 0.3, "beta": 0.5, "w_clip": 2.0}
    before = train(bandit, TrainConfig(steps=1, **options))
    after = train(bandit, TrainConfig(steps=2, **options))
    assert after.records[0] == before.records[0]
    record, rows = after.records[1], bandit.train.features
    pi_0, pi_t, pi = (
        np.exp(log_softmax(policy(rows).detach().numpy())) for policy in (bandit.pi_0, before.policy, after.policy)
    )
    reward = bandit.train.proxy.numpy()
    advantage = advantage_by_hand(reward, pi_t)
    unnormalised = pi_0**0.3 * pi_t**0.7 * np.exp(advantage / 0.5)
    best = unnormalised / unnormalised.sum(axis=1, keepdims=True)
    clipped = pi_t * np.minimum((pi_0 / pi_t) ** 0.3 * np.exp(advantage / 0.5), 2.0)
    target = clipped / clipped.sum(axis=1, keepdims=True)

    def j(policy):
        penalty = 0.3 * kl_by_hand(policy, pi_0) + 0.7 * kl_by_hand(policy, pi_t)
        return ((policy * advantage).sum(axis=1) - 0.5 * penalty).mean()

    expected = {
        "step": 2,
        "proxy": (pi * reward).sum(axis=1).mean(),
        "gold": (pi * bandit.train.gold.numpy()).sum(axis=1).mean(),
        "kl_to_pi_0": kl_by_hand(pi, pi_0).mean(),
        "kl_to_pi_t": kl_by_hand(pi, pi_t).mean(),
        "objective": j(pi),
        "objective_optimum": j(best),
        "kl_optimum_to_pi_t": kl_by_hand(best, pi_t).mean(),
        "kl_optimum_to_pi": kl_by_hand(best, pi).mean(),
        "kl_target_to_pi": kl_by_hand(target, pi).mean(),
        "advantage_std": math.sqrt((pi_t * (reward - (pi_t * reward).sum(axis=1, keepdims=True)) ** 2).sum() / N),
    }
    for name, value in expected.items():
        assert getattr(record, name) == pytest.approx(value, rel=1e-10), name
    grid = np.linspace(0.0, 1.0, 1001)[:, None, None]
    lowest_c = (pi_0**grid * pi_t ** (1.0 - grid)).sum(axis=-1).min(axis=0)
    assert record.conflict == pytest.approx(-np.log(lowest_c).mean(), rel=1e-5)
    assert record.objective_optimum - record.objective == pytest.approx(0.5 * kl_by_hand(pi, best).mean(), rel=1e-9)
    assert (record.ess is None) == (record.clipped is None) == (method != "dar")
    start = (pi_0 * reward).sum(axis=1).mean()
    assert after.start.proxy == before.start.proxy == pytest.approx(start, rel=1e-12)
    assert after.start.kl_to_pi_0 == 0.0


def test_weight_figures_equal_their_definitions():
    bandit = random_tabular_bandit(N, A, seed=5)
    config = TrainConfig(steps=1, batch_prompts=N, num_generations=3, beta=0.5, w_clip=2.0, seed=8)
    generator = torch.Generator().manual_seed(8)
    order = torch.randperm(N, generator=generator)
    pi_0 = torch.softmax(bandit.pi_0(order).detach(), dim=1)
    arms = torch.multinomial(pi_0, 3, replacement=True, generator=generator).numpy()
    rewards = np.take_along_axis(bandit.train.proxy.numpy()[order], arms, axis=1)
    centred = rewards - rewards.mean(axis=1, keepdims=True)
    weight = np.minimum(np.exp(centred / centred.std() / 0.5), 2.0).ravel()
    record = train(bandit, config).records[0]
    assert record.ess == pytest.approx(weight.sum() ** 2 / (len(weight) * (weight**2).sum()), rel=1e-10)
    assert record.clipped == (weight == 2.0).mean()
    assert 0.0 < record.clipped < 1.0
