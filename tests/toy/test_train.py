"""The training loop: it is deterministic, its sampler and its costs are as reported, and every option has an effect."""

import importlib
import json
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from dar_ref.toy.config import OFFLINE, Method, RunConfig
from dar_ref.toy.policy import per_token_logps
from dar_ref.toy.train import State, train
from tests.small_start import SMALL
from tests.toy.reference import transformers_logits

module = importlib.import_module("dar_ref.toy.train")  # the package's `train` is its function
METHODS = get_args(Method)
ONLINE = [method for method in METHODS if method not in OFFLINE]
SHORT = RunConfig(steps=4, batch_prompts=4, learning_rate=1e-3, evaluate_every=100)
LABELS = 24 * 4 * 6  # of the comparisons: prompts, groups, pairs of four


def weights(run):
    return torch.cat([p.detach().flatten() for p in run.policy.parameters()])


def start_weights(start):
    return torch.cat([p.flatten() for p in start.pi_0.parameters()])


@pytest.mark.parametrize("method", METHODS)
def test_the_same_run_twice_is_the_same_bit_for_bit(start, method):
    before = start_weights(start).clone()
    config = replace(SHORT, method=method)
    first, again, other = (train(start, c) for c in (config, config, replace(config, seed=1)))
    assert first[1:] == again[1:]
    assert torch.equal(weights(first), weights(again))
    assert not torch.equal(weights(first), weights(other))
    assert torch.equal(start_weights(start), before)
    assert first.diverged is None


def test_randomness_from_elsewhere_changes_nothing(start):
    torch.manual_seed(1)
    first = train(start, replace(SHORT, method="ppo"))
    torch.manual_seed(2)
    assert torch.equal(weights(train(start, replace(SHORT, method="ppo"))), weights(first))


@pytest.mark.parametrize(
    ("method", "learning_rate"), [("dar", 3e-3), ("grpo", 3e-3), ("online_dpo", 1e-2), ("best_of_n", 3e-3)]
)
def test_training_raises_the_proxy_reward(start, method, learning_rate):
    run = train(start, RunConfig(method=method, steps=50, batch_prompts=24, learning_rate=learning_rate))
    before, after = run.evaluations[0], run.evaluations[-1]
    assert after["proxy"] > before["proxy"] + 0.3 * before["proxy_std"]
    if method != "best_of_n":
        rewards = [rollout["reward"] for rollout in run.rollouts]
        assert np.mean(rewards[-5:]) > np.mean(rewards[:5]) + 0.1
    assert after["kl"] > 0.01


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("method", "dao"),
        ("steps", 6),
        ("batch_prompts", 5),
        ("num_generations", 3),
        ("updates_per_rollout", 2),
        ("epochs_per_rollout", 2),
        ("learning_rate", 2e-3),
        ("optimizer", "sgd"),
        ("reward", "gold"),
        ("alpha", 0.9),
        ("beta", 0.5),
        ("w_clip", 1.5),
        ("self_normalize", True),
        ("seed", 1),
    ],
)
def test_every_option_changes_the_trained_weights(start, option, value):
    short = replace(SHORT, updates_per_rollout=2) if option == "epochs_per_rollout" else SHORT
    config = replace(short, optimizer="sgd") if option == "self_normalize" else short
    assert not torch.equal(weights(train(start, config)), weights(train(start, replace(config, **{option: value}))))


def test_what_is_evaluated_and_when(start):
    config = replace(SHORT, steps=10, evaluate_every=4)
    run = train(start, config)
    assert [row["step"] for row in run.evaluations] == [0, 4, 8, 10]
    assert [row["step"] for row in run.rollouts] == list(range(10))
    stale = train(start, replace(config, steps=12, updates_per_rollout=3))
    assert [row["step"] for row in stale.evaluations] == [0, 6, 9, 12]  # the first rollouts at or past 4, 8, 12
    assert [row["step"] for row in stale.rollouts] == [0, 3, 6, 9]
    on_test = train(start, replace(config, evaluate_on="test"))
    assert torch.equal(weights(on_test), weights(run))
    assert on_test.evaluations != run.evaluations


@pytest.mark.parametrize("method", METHODS)
def test_annotations_and_sampled_tokens_are_counted(start, method):
    run = train(start, replace(SHORT, method=method, evaluate_every=2))
    bought = 0 if method in OFFLINE else 4 * 4  # N K, a step
    assert [row["annotations"] for row in run.evaluations] == [0, LABELS + 2 * bought, LABELS + 4 * bought]
    tokens = 0 if method in OFFLINE else sum(rollout["length"] * 16 for rollout in run.rollouts)
    assert run.evaluations[-1]["sampled_tokens"] == tokens


def test_a_stale_rollout_buys_all_its_minibatches_at_once(start):
    run = train(start, replace(SHORT, updates_per_rollout=2))
    assert len(run.rollouts) == 2
    assert run.evaluations[-1]["annotations"] == LABELS + 4 * 4 * 4


@pytest.mark.parametrize("method", METHODS)
def test_who_samples(start, method, monkeypatch):
    samplers = []
    sample = module.sample
    monkeypatch.setattr(module, "sample", lambda policy, *rest: samplers.append(policy) or sample(policy, *rest))
    run = train(start, replace(SHORT, method=method))
    sampler = start.pi_0 if method == "best_of_n" else run.policy
    assert len(samplers) == (0 if method in OFFLINE else 4)
    assert all(policy is sampler for policy in samplers)


def losses_of(monkeypatch, start, config):
    """For every update: whether `old` still equals the policy's log-probs, the rollout, and its rewards in order."""
    seen = []
    method_loss = module.method_loss

    def spy(config, policy, rollout):
        moved = (per_token_logps(policy, rollout.completions) - rollout.old_per_token_logps).abs().max()
        fresh = moved.item() < 1e-5
        seen.append((fresh, rollout, sorted(rollout.rewards.tolist())))
        return method_loss(config, policy, rollout)

    monkeypatch.setattr(module, "method_loss", spy)
    train(start, config)
    return seen


@pytest.mark.parametrize("method", ["dar", "ppo"])
def test_each_rollout_is_scored_before_its_first_update(start, monkeypatch, method):
    seen = losses_of(monkeypatch, start, replace(SHORT, method=method, updates_per_rollout=3, epochs_per_rollout=3))
    assert [fresh for fresh, _, _ in seen] == [True, False, False] * 4
    for first in range(0, 12, 3):
        assert seen[first][1] is seen[first + 1][1] is seen[first + 2][1]
    moved = [(seen[i][1].old_per_token_logps - seen[i][1].ref_per_token_logps).abs().max().item() for i in (0, 3)]
    assert moved[0] < 1e-5
    assert moved[1] > 1e-3


def test_later_minibatches_are_stale_and_every_pass_sees_every_sample_once(start, monkeypatch):
    seen = losses_of(monkeypatch, start, replace(SHORT, updates_per_rollout=4, epochs_per_rollout=2))
    assert len(seen) == 2 * 2 * 2
    assert [fresh for fresh, _, _ in seen] == [True, False, False, False] * 2
    passes = [sorted(seen[i][2] + seen[i + 1][2]) for i in range(0, 8, 2)]
    assert len(passes[0]) == 2 * 4 * 4
    assert passes[0] == passes[1] != passes[2] == passes[3]


def test_one_step_of_sgd_goes_down_the_gradient_of_weighted_log_likelihood(start, monkeypatch):
    config = replace(SHORT, steps=1, optimizer="sgd", learning_rate=0.01)
    _, rollout, _ = losses_of(monkeypatch, start, config)[0]
    completions = rollout.completions
    policy = State(start, config).policy
    log_p = transformers_logits(policy, completions).log_softmax(-1).gather(-1, completions.ids[..., None])[..., 0]
    sums = (log_p * completions.mask).sum(dim=1)
    rewards = start.proxy(completions).view(-1, 4)
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    weight = (centred / (centred**2).mean().sqrt() / config.beta).exp().clamp(max=config.w_clip).view(-1)
    gradients = torch.autograd.grad(-(weight * sums).mean(), list(policy.parameters()))
    expected = start_weights(start) - 0.01 * torch.cat([g.flatten() for g in gradients])
    torch.testing.assert_close(weights(train(start, config)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["ppo", "dual_ppo"])
def test_the_critic_learns_its_returns(start, method):
    config = replace(SHORT, method=method, batch_prompts=24, updates_per_rollout=60, epochs_per_rollout=60)
    state = State(start, config)
    rollout = state.next_rollout(start, config, None)
    mask = rollout.completions.mask

    def error():
        return (state.critic(rollout.completions) - rollout.returns)[mask].square().mean().item()

    before = error()
    state.update(config, rollout)
    assert error() < 0.8 * before


@pytest.mark.parametrize(
    ("method", "optimizer", "learning_rate"),
    [("dar", "sgd", 1e9), ("dar", "adam", 1e12), ("grpo", "sgd", 1e12), ("ppo", "adam", 1e12), ("dpo", "adam", 1e12)],
)
def test_divergence_is_reported_and_not_raised(start, method, optimizer, learning_rate):
    steps = []
    config = RunConfig(method=method, steps=20, batch_prompts=4, optimizer=optimizer, learning_rate=learning_rate)
    run = train(start, config, on_step=steps.append)
    assert run.diverged is not None
    assert 0 < run.diverged < 20
    assert steps[-1] == run.diverged
    assert [row["step"] for row in run.evaluations] == [0]  # nothing is measured of what is broken
    assert json.loads(json.dumps(run[1:], allow_nan=False)) == list(run[1:])
    assert run[1:] == train(start, config)[1:]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_no_method_stumbles_over_a_learning_rate_far_too_high(start, method, optimizer):
    run = train(start, replace(SHORT, method=method, optimizer=optimizer, learning_rate=1e6))
    assert len(run.evaluations) == (2 if run.diverged is None else 1)
    json.dumps(run[1:], allow_nan=False)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_metrics_that_are_not_finite_end_the_run_and_are_not_kept(start, monkeypatch, value):
    metrics = iter([{"reward": 0.5}, {"reward": 0.5}, {"reward": value}])
    monkeypatch.setattr(module, "rollout_metrics", lambda *_: next(metrics))
    run = train(start, SHORT)
    assert run.diverged == 2
    assert run.rollouts == [{"step": 0, "reward": 0.5}, {"step": 1, "reward": 0.5}]
    assert [row["step"] for row in run.evaluations] == [0]


def test_a_critic_that_breaks_is_divergence_too(start):
    config = replace(SHORT, method="ppo")
    state = State(start, config)
    rollout = state.next_rollout(start, config, None)
    state.update(config, rollout._replace(returns=torch.full_like(rollout.returns, torch.nan)))
    assert (state.diverged, state.step) == (0, 0)


def test_a_batch_beyond_what_there_is_is_refused_before_any_work(start):
    for options, message in (
        (
            {"batch_prompts": 25},
            "batch_prompts = 25 in each of the 1 minibatches of a rollout make 25 prompts, and there",
        ),
        ({"batch_prompts": 9, "updates_per_rollout": 4}, "in each of the 4 minibatches of a rollout make 36 prompts,"),
        (
            {"method": "dpo", "batch_prompts": 24, "num_generations": 50},
            "batch_prompts = 24 times num_generations = 50 take 600 pairs per step, and there are 576; pass",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            train(start, replace(SHORT, **options), on_step=pytest.fail)
    assert SMALL.train_prompts == 24
    assert train(start, replace(SHORT, batch_prompts=24, steps=1)).diverged is None
