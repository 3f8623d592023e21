"""The training loop: it is deterministic, samples from pi_t, does not change pi_0, and every option has an effect."""

import copy
import importlib
import math
from dataclasses import replace

import pytest
import torch

from dar_ref.bandit import Bandit, TabularPolicy, TrainConfig, log_probs, random_tabular_bandit, train

module = importlib.import_module("dar_ref.bandit.train")  # the package's `train` is its function
SMALL = TrainConfig(steps=3, batch_prompts=4, num_generations=3, learning_rate=0.1)


@pytest.fixture
def bandit():
    return random_tabular_bandit(6, 4, seed=0)


def final_logits(bandit, config):
    return train(bandit, config).policy.logits.detach()


@pytest.mark.parametrize("method", ["dar", "grpo", "dao", "rloo"])
def test_same_seed_same_records_other_seed_other_records(bandit, method):
    config = replace(SMALL, method=method)
    assert train(bandit, config).records == train(bandit, config).records
    assert train(bandit, config).records != train(bandit, replace(config, seed=1)).records


def test_pi_0_is_untouched_and_a_frozen_one_trains(bandit):
    before = copy.deepcopy(bandit.pi_0.state_dict())
    trained = final_logits(bandit, SMALL)
    assert torch.equal(bandit.pi_0.state_dict()["logits"], before["logits"])
    assert bandit.pi_0.logits.grad is None
    assert not torch.equal(trained, before["logits"])
    frozen = Bandit(bandit.train, bandit.held_out, copy.deepcopy(bandit.pi_0).requires_grad_(False))
    assert torch.equal(final_logits(frozen, SMALL), trained)


def rollouts_of(monkeypatch, bandit, config):
    """Every (batch, rollout, pi_t on the batch) of a run, taken just before the updates."""
    seen = []

    def spy(policy, optimizer, batch, rollout, config):
        seen.append((batch, rollout, log_probs(policy, batch.features).detach().clone()))
        return update(policy, optimizer, batch, rollout, config)

    update = module.update
    monkeypatch.setattr(module, "update", spy)
    train(bandit, config)
    return seen


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_first_weights_are_those_of_the_advantage_alone(monkeypatch, bandit, alpha):
    _, rollout, log_pi_t = rollouts_of(monkeypatch, bandit, replace(SMALL, steps=1, alpha=alpha))[0]
    assert torch.equal(rollout.ref_logps, rollout.old_logps)
    assert torch.equal(rollout.old_logps, log_pi_t.gather(1, rollout.arms).view(-1))
    with_alpha = final_logits(bandit, replace(SMALL, steps=1, alpha=alpha))
    assert torch.equal(with_alpha, final_logits(bandit, replace(SMALL, steps=1, alpha=0.5)))


def test_every_iteration_scores_with_the_policy_that_sampled_and_with_pi_0(monkeypatch, bandit):
    seen = rollouts_of(monkeypatch, bandit, SMALL)
    assert len(seen) == 3
    for batch, rollout, log_pi_t in seen:
        log_pi_0 = log_probs(bandit.pi_0, batch.features)
        assert torch.equal(rollout.old_logps, log_pi_t.gather(1, rollout.arms).view(-1))
        assert torch.equal(rollout.ref_logps, log_pi_0.gather(1, rollout.arms).view(-1))
        assert torch.equal(rollout.rewards, batch.proxy.gather(1, rollout.arms).view(-1))
    assert not torch.equal(seen[-1][1].ref_logps, seen[-1][1].old_logps)


def test_training_reads_the_proxy_and_never_the_gold(bandit):
    contexts = replace(bandit.train, gold=-bandit.train.gold)
    upside_down = Bandit(contexts, contexts, bandit.pi_0)
    assert torch.equal(final_logits(upside_down, SMALL), final_logits(bandit, SMALL))
    assert train(upside_down, SMALL).records[-1].gold == -train(bandit, SMALL).records[-1].gold


@pytest.mark.parametrize(
    ("method", "option", "value"),
    [
        ("dar", "steps", 4),
        ("dar", "batch_prompts", 5),
        ("dar", "num_generations", 4),
        ("dar", "updates_per_rollout", 2),
        ("dar", "learning_rate", 0.2),
        ("dar", "optimizer", "sgd"),
        ("dar", "alpha", 0.9),
        ("dar", "beta", 0.5),
        ("dar", "w_clip", 2.0),
        ("dar", "method", "dao"),
        ("dar", "method", "grpo"),
        ("dar", "method", "rloo"),
        ("dao", "alpha", 0.9),
        ("dao", "beta", 0.5),
        ("grpo", "epsilon", 0.01),
        ("grpo", "kl_coef", 0.5),
        ("rloo", "kl_coef", 0.5),
    ],
)
def test_every_option_changes_the_result(bandit, method, option, value):
    config = replace(SMALL, method=method)
    assert not torch.equal(final_logits(bandit, config), final_logits(bandit, replace(config, **{option: value})))


@pytest.mark.parametrize(
    ("method", "option", "value"),
    [
        ("dar", "epsilon", 0.01),
        ("dar", "kl_coef", 0.5),
        ("dao", "w_clip", 2.0),
        ("grpo", "alpha", 0.9),
        ("grpo", "beta", 0.5),
        ("rloo", "epsilon", 0.01),
    ],
)
def test_options_of_other_methods_leave_training_alone(bandit, method, option, value):
    config = replace(SMALL, method=method)
    assert torch.equal(final_logits(bandit, config), final_logits(bandit, replace(config, **{option: value})))


def test_sgd_is_one_plain_step_down_the_gradient(monkeypatch, bandit):
    config = replace(SMALL, steps=1, updates_per_rollout=1, optimizer="sgd", learning_rate=0.25)
    batch, rollout, _ = rollouts_of(monkeypatch, bandit, config)[0]
    start = bandit.pi_0.logits.detach()
    pi = torch.softmax(start, dim=1)
    weight = (rollout.advantages / config.beta).exp().clamp(max=config.w_clip).view(4, 3)
    expected = start.clone()
    for row, arms, weights in zip(batch.features, rollout.arms, weight, strict=True):
        for arm, one in zip(arms, weights, strict=True):
            expected[row, arm] += 0.25 * one / 12
            expected[row] -= 0.25 * one / 12 * pi[row]
    torch.testing.assert_close(final_logits(bandit, config), expected, rtol=1e-12, atol=1e-14)


def test_progress_sees_every_record_as_it_appears(bandit):
    seen = []
    run = train(bandit, SMALL, on_step=seen.append)
    assert seen == run.records
    assert [record.step for record in seen] == [1, 2, 3]


def test_held_out_figures_are_of_the_held_out_contexts(bandit):
    other = random_tabular_bandit(6, 4, seed=9)
    split = Bandit(bandit.train, other.train, bandit.pi_0)
    run = train(split, SMALL)
    pi = torch.softmax(run.policy.logits.detach(), dim=1)
    assert run.records[-1].proxy == pytest.approx((pi * other.train.proxy).sum(dim=1).mean().item(), rel=1e-12)
    assert run.records[-1].gold == pytest.approx((pi * other.train.gold).sum(dim=1).mean().item(), rel=1e-12)


@pytest.mark.parametrize(
    ("option", "value", "error", "message"),
    [
        ("method", "ppo", ValueError, "method = 'ppo' is unknown; choose one of dar, grpo, dao, rloo"),
        ("optimizer", "adamw", ValueError, "optimizer = 'adamw' is unknown; choose one of adam, sgd"),
        ("steps", 0, ValueError, "steps = 0 is below 1"),
        ("batch_prompts", 4.0, TypeError, "batch_prompts = 4.0 is a float"),
        ("updates_per_rollout", True, TypeError, "updates_per_rollout = True is a bool"),
        ("num_generations", 1, ValueError, "num_generations = 1 is below 2"),
        ("seed", -1, ValueError, "seed = -1 is below 0"),
        ("learning_rate", 0.0, ValueError, "learning_rate = 0.0"),
        ("learning_rate", "fast", TypeError, "learning_rate = 'fast' is a str"),
        ("alpha", 1.5, ValueError, "alpha = 1.5 is outside"),
        ("beta", -0.05, ValueError, "beta = -0.05"),
        ("w_clip", 0.0, ValueError, "w_clip = 0.0"),
        ("epsilon", math.nan, ValueError, "epsilon = nan"),
        ("kl_coef", math.inf, ValueError, "kl_coef = inf"),
    ],
)
def test_config_refuses_bad_options(option, value, error, message):
    with pytest.raises(error, match=message):
        TrainConfig(**{option: value})


def test_config_refuses_an_unknown_option():
    with pytest.raises(TypeError, match="learning_rte"):
        TrainConfig(learning_rte=0.1)


def test_a_batch_beyond_the_training_set_is_refused_before_any_work(bandit):
    with pytest.raises(ValueError, match="batch_prompts = 7, but there are 6 training contexts"):
        train(bandit, replace(SMALL, batch_prompts=7), on_step=pytest.fail)


def test_training_that_overflows_says_where_and_what_to_do(bandit):
    config = replace(SMALL, beta=1e-5, w_clip=math.inf)
    with pytest.raises(FloatingPointError, match=r"iteration 1 of dar .* lower learning_rate = 0\.1, raise beta"):
        train(bandit, config)


def test_equal_rewards_give_weight_one_which_is_fine_tuning_on_own_samples(bandit):
    one_arm = random_tabular_bandit(6, 1, seed=0)
    run = train(one_arm, SMALL)
    assert torch.equal(run.policy.logits, one_arm.pi_0.logits)
    flat = replace(bandit.train, proxy=torch.full_like(bandit.train.proxy, 0.1))
    record = train(Bandit(flat, flat, TabularPolicy(bandit.pi_0.logits)), replace(SMALL, steps=1)).records[0]
    assert record.ess == 1.0
    assert record.clipped == 0.0
    assert record.objective_optimum == pytest.approx(0.0, abs=1e-15)
    assert record.kl_to_pi_t > 0.0  # the policy moves without any advantage: the weights are never negative
