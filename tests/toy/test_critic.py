"""Advantages of the critic against the double sum that defines them, in float64; which tokens a value depends on."""

import numpy as np
import pytest
import torch

from dar_ref.toy.critic import Critic, gae
from tests.toy.reference import gae_by_definition, mixed_completions, perturbed, whole_ids

LENGTHS = [1, 5, 3, 4]
MASK = torch.arange(5) < torch.tensor(LENGTHS)[:, None]


def numbers(*shape, seed):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def batch():
    """Values and two log-probs (4, 5), rewards (4,); NaN after each end."""
    values, old, ref = (torch.where(MASK, numbers(4, 5, seed=seed), torch.nan) for seed in range(3))
    return values, old, ref, numbers(4, seed=3)


@pytest.mark.parametrize("kl_coef", [0.0, 0.04, 2.0])
@pytest.mark.parametrize("gae_lambda", [0.0, 0.5, 0.95, 1.0])
def test_advantages_and_returns_are_the_double_sum(kl_coef, gae_lambda):
    values, old, ref, rewards = batch()
    advantages, returns = gae(values, old, ref, rewards, MASK, kl_coef, gae_lambda)
    lists = (x.tolist() for x in (values, old, ref, rewards))
    expected = gae_by_definition(*lists, LENGTHS, kl_coef, gae_lambda)
    for found, by_hand in zip((advantages, returns), expected, strict=True):
        np.testing.assert_allclose(found, np.nan_to_num(by_hand), rtol=1e-11, atol=1e-13)
        assert found[~MASK].tolist() == [0.0] * 7


def test_lambda_one_returns_what_is_to_come_and_lambda_zero_the_next_value():
    values, old, ref, rewards = batch()
    _, to_the_end = gae(values, old, ref, rewards, MASK, 0.3, 1.0)
    _, one_step = gae(values, old, ref, rewards, MASK, 0.3, 0.0)
    for i, length in enumerate(LENGTHS):
        reward = (-0.3 * (old - ref))[i, :length].clone()
        reward[-1] += rewards[i]
        coming = reward.flip(0).cumsum(0).flip(0)
        torch.testing.assert_close(to_the_end[i, :length], coming, rtol=1e-12, atol=1e-12)
        ahead = torch.cat([values[i, 1:length], torch.zeros(1, dtype=torch.float64)])
        torch.testing.assert_close(one_step[i, :length], reward + ahead, rtol=1e-12, atol=1e-12)


def test_advantages_are_centred_and_have_spread_one_over_the_kept_tokens():
    advantages, _ = gae(*batch(), MASK, 0.04, 0.95)
    kept = advantages[MASK].numpy()
    assert kept.mean() == pytest.approx(0.0, abs=1e-13)
    assert kept.std() == pytest.approx(1.0, rel=1e-12)


def test_equal_advantages_are_zero_and_never_divided_by_nothing():
    zero, reward = torch.zeros(2, 1), torch.full((2,), 0.1)
    advantages, returns = gae(zero, zero, zero, reward, torch.ones(2, 1, dtype=torch.bool), 0.04, 0.95)
    assert advantages.tolist() == [[0.0], [0.0]]
    assert torch.equal(returns[:, 0], reward)


def test_inputs_are_left_alone():
    inputs = batch()
    before = [x.clone() for x in inputs]
    gae(*inputs, MASK, 0.04, 0.95)
    for x, y in zip(inputs, before, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=0, equal_nan=True)


def test_a_critic_starts_at_zero_and_reads_values_where_tokens_are_predicted(start):
    completions = mixed_completions()
    assert Critic(start.pi_0)(completions).tolist() == [[0.0] * 5] * 12
    critic = perturbed(Critic(start.pi_0), 0.2)
    states = critic.trunk(input_ids=whole_ids(completions)).last_hidden_state[:, start.task.prompt_length - 1 : -1]
    expected = states @ critic.head.weight[0] + critic.head.bias
    kept = completions.mask
    torch.testing.assert_close(critic(completions)[kept], expected[kept], rtol=1e-5, atol=1e-5)
    changed = completions.ids.clone()
    changed[:, 2] = (changed[:, 2] + 1) % 5  # V_2 has not seen token 2
    found, before = critic(completions._replace(ids=changed)), critic(completions)
    torch.testing.assert_close(found[:, :3], before[:, :3], rtol=1e-6, atol=1e-6)
    later = completions.mask[:, 3]  # V_3 has
    assert (found[later, 3] != before[later, 3]).all()
    assert later.any()


def test_pi_0_is_not_trained_with_the_critic(start):
    critic = Critic(start.pi_0)
    assert all(p.requires_grad for p in critic.parameters())
    assert not any(p.requires_grad for p in start.pi_0.parameters())
    with torch.no_grad():
        critic.trunk.norm.weight += 1.0
    assert not torch.equal(critic.trunk.norm.weight, start.pi_0.model.norm.weight)
