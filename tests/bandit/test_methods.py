"""Advantages and losses of the methods, against formulas written out here; and samples come from pi_t."""

import numpy as np
import pytest
import torch

from dar_ref.bandit import TrainConfig
from dar_ref.bandit.methods import Samples, method_advantages, method_loss, of_arms, sample

K = 4
REWARDS = np.array([1.0, 3.0, 0.0, 0.0, 0.1, 0.1, 0.1, 0.1, 5.0, -1.0, 2.0, 2.0])


def random_rollout():
    rng = np.random.default_rng(0)
    logps, ref_logps, old_logps = -rng.exponential(size=(3, 12))
    return logps, ref_logps, old_logps, rng.normal(size=12)


def as_tensors(ref_logps, old_logps, advantages):
    arms = torch.zeros(3, K, dtype=torch.int64)
    return Samples(arms, *(torch.tensor(x) for x in (ref_logps, old_logps, REWARDS, advantages)))


def test_advantages_of_dar_and_dao_are_normalised_over_the_batch():
    groups = REWARDS.reshape(3, K)
    centred = groups - groups.mean(axis=1, keepdims=True)
    expected = centred.ravel() / np.sqrt((centred**2).mean())
    for method in ("dar", "dao"):
        found = method_advantages(method, torch.tensor(REWARDS), K).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-15)


def test_advantages_of_grpo_are_normalised_within_the_group_and_equal_rewards_give_zero():
    found = method_advantages("grpo", torch.tensor(REWARDS), K).numpy().reshape(3, K)
    for row, group in zip(found, REWARDS.reshape(3, K), strict=True):
        spread = np.sqrt(((group - group.mean()) ** 2).mean())
        np.testing.assert_allclose(row, (group - group.mean()) / spread if np.ptp(group) else np.zeros(K), rtol=1e-14)
    assert found[1].tolist() == [0.0] * K


def test_each_method_is_its_own_formula():
    logps, ref_logps, old_logps, advantages = random_rollout()
    ratio = np.exp(logps - old_logps)

    def value(method, **options):
        config = TrainConfig(method=method, num_generations=K, **options)
        return method_loss(config, torch.tensor(logps), as_tensors(ref_logps, old_logps, advantages)).item()

    weight = np.minimum((np.exp(ref_logps) / np.exp(old_logps)) ** 0.3 * np.exp(advantages / 0.5), 1.5)
    assert (weight == 1.5).any()
    assert value("dar", alpha=0.3, beta=0.5, w_clip=1.5) == pytest.approx(-(weight * logps).mean(), rel=1e-13)

    bracket = advantages - 0.5 * (0.3 * (logps - ref_logps) + 0.7 * (logps - old_logps))
    assert value("dao", alpha=0.3, beta=0.5) == pytest.approx(-(ratio * bracket).mean(), rel=1e-13)

    k3 = np.exp(ref_logps - logps) - 1.0 - (ref_logps - logps)
    surrogate = np.minimum(ratio * advantages, np.clip(ratio, 0.9, 1.1) * advantages)
    assert value("grpo", epsilon=0.1, kl_coef=0.7) == pytest.approx(-(surrogate - 0.7 * k3).mean(), rel=1e-13)

    returns = (REWARDS - 0.7 * (old_logps - ref_logps)).reshape(3, K)
    baseline = (returns.sum(axis=1, keepdims=True) - returns) / (K - 1)
    assert value("rloo", kl_coef=0.7) == pytest.approx(-((returns - baseline).ravel() * logps).mean(), rel=1e-13)


def test_arms_are_drawn_from_pi_t_and_looked_up_in_the_right_tables():
    draws = 20_000
    pi_t = np.array([[0.6, 0.3, 0.1, 0.0], [0.25, 0.25, 0.25, 0.25]])
    with np.errstate(divide="ignore"):
        log_pi_t = torch.tensor(np.log(pi_t))
    log_pi_0 = torch.tensor(np.log([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]]))
    reward = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]], dtype=torch.float64)
    config = TrainConfig(num_generations=draws)
    rollout = sample(config, log_pi_0, log_pi_t, reward, torch.Generator().manual_seed(0))
    for row in range(2):
        share = np.bincount(rollout.arms[row], minlength=4) / draws
        assert (np.abs(share - pi_t[row]) <= 5 * np.sqrt(pi_t[row] * (1 - pi_t[row]) / draws)).all()
    pairs = [(row, int(arm)) for row in range(2) for arm in rollout.arms[row]]
    for table, found in ((log_pi_0, rollout.ref_logps), (log_pi_t, rollout.old_logps), (reward, rollout.rewards)):
        assert found.tolist() == [table[pair].item() for pair in pairs]
        assert torch.equal(of_arms(table, rollout.arms), found)
