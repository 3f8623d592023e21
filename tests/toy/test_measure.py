"""Metrics against enumeration and against loops over samples; pi_0 against itself is a tie."""

import math

import numpy as np
import pytest
import torch

from dar_ref.toy.config import RunConfig
from dar_ref.toy.measure import EVALUATION_SEED, Evaluator, per_completion_kl, rollout_metrics
from dar_ref.toy.methods import Rollout
from dar_ref.toy.policy import decode, encode_prompts
from dar_ref.toy.sampling import sample
from dar_ref.toy.tasks import TINY
from tests.toy.reference import encode_all, lively_policy, mixed_completions, perturbed, transformers_logps

PROMPT = ["a", "b", "d"]


@pytest.mark.parametrize("scale", [0.02, 0.2])
def test_its_mean_over_all_responses_is_the_kl(scale):
    policy = lively_policy(scale=0.15)
    other, everything = perturbed(policy, scale), encode_all(TINY, PROMPT)
    log_p, log_q = (transformers_logps(m, everything).detach() for m in (policy, other))
    assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-5)
    exact = (log_p.exp() * (log_p - log_q)).sum().item()
    assert exact > 1e-3
    found = per_completion_kl(policy, other, everything).double()
    assert (log_p.exp() * found).sum().item() == pytest.approx(exact, rel=1e-4)
    assert found.min() >= 0.0  # for every completion, unlike k1
    k1 = log_p - log_q
    spread = [(log_p.exp() * (x - exact) ** 2).sum() for x in (found, k1)]
    assert spread[0] < spread[1]  # less noisy than k1


def test_its_mean_over_samples_is_unbiased():
    policy = lively_policy(scale=0.15)
    other, everything = perturbed(policy, 0.2), encode_all(TINY, PROMPT)
    log_p, log_q = (transformers_logps(m, everything).detach() for m in (policy, other))
    exact = (log_p.exp() * (log_p - log_q)).sum().item()
    drawn = sample(policy, encode_prompts(TINY, [PROMPT]), 4000, 5, torch.Generator().manual_seed(0)).completions
    found = per_completion_kl(policy, other, drawn).double()
    assert abs(found.mean().item() - exact) < 4 * found.std().item() / math.sqrt(4000)
    assert per_completion_kl(policy, policy, drawn).tolist() == [0.0] * 4000


def test_metrics_of_a_rollout_by_hand():
    completions = mixed_completions()
    generator = torch.Generator().manual_seed(0)
    old, ref = (-torch.rand(12, 5, generator=generator) for _ in range(2))
    rewards, advantages = (torch.randn(12, generator=generator) for _ in range(2))
    rollout = Rollout(completions, rewards, old, ref, advantages, None)
    config = RunConfig(alpha=0.3, beta=0.5, w_clip=2.0)
    found = rollout_metrics(config, rollout)
    lengths = [1, 2, 5, 5] * 3
    old_sums, ref_sums = ([x[i, :n].double().sum().item() for i, n in enumerate(lengths)] for x in (old, ref))
    raw = [math.exp(0.3 * (q - p) + a / 0.5) for p, q, a in zip(old_sums, ref_sums, advantages.tolist(), strict=True)]
    weights = [min(w, 2.0) for w in raw]
    expected = {
        "reward": np.mean(rewards.tolist()),
        "length": np.mean(lengths),
        "missing_eos": 0.25,
        "kl": np.mean(np.subtract(old_sums, ref_sums)),
        "ess": sum(weights) ** 2 / (12 * sum(w * w for w in weights)),
        "clipped": np.mean([w > 2.0 for w in raw]),
        "weight": np.mean(weights),
    }
    assert 0.0 < expected["clipped"] < 1.0
    assert found == pytest.approx(expected, rel=1e-5)
    others = rollout_metrics(RunConfig(method="grpo"), rollout)
    assert others == {name: found[name] for name in ("reward", "length", "missing_eos", "kl")}


@pytest.mark.parametrize("equal", [True, False])
def test_the_effective_share_is_one_for_equal_weights_and_one_sample_at_worst(equal):
    completions, zero = mixed_completions(), torch.zeros(12, 5)
    advantages = torch.zeros(12) if equal else torch.tensor([1.0] + [-1.0] * 11)
    config = RunConfig(alpha=0.0, beta=0.02, w_clip=math.inf)
    metrics = rollout_metrics(config, Rollout(completions, torch.zeros(12), zero, zero, advantages, None))
    assert metrics["ess"] == pytest.approx(1.0 if equal else 1 / 12, rel=1e-6)
    assert metrics["clipped"] == 0.0


def test_pi_0_against_itself_is_a_draw(start):
    metrics = Evaluator(start, start.prompts.test).evaluate(start.pi_0, 0)
    assert metrics["win_rate"] == 0.5
    assert metrics["lc_win_rate"] == pytest.approx(0.5, abs=1e-9)
    assert metrics["kl"] == 0.0
    assert metrics["kl_standard_error"] == 0.0


def test_metrics_of_a_policy_by_hand(start):
    policy, prompts = perturbed(start.pi_0, 0.2), start.prompts.test
    evaluator = Evaluator(start, prompts)
    metrics = evaluator.evaluate(policy, 77)

    def drawn(model):
        generator = torch.Generator().manual_seed(EVALUATION_SEED)
        return sample(model, encode_prompts(TINY, prompts), 1, 5, generator).completions

    def gold(completions):
        rows = zip(prompts, decode(TINY, completions), completions.finished.tolist(), strict=True)
        return [TINY.gold(*row) for row in rows]

    completions = drawn(policy)
    ours, theirs = gold(completions), gold(drawn(start.pi_0))
    outcomes = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in zip(ours, theirs, strict=True)]
    proxy, kl = start.proxy(completions).tolist(), per_completion_kl(policy, start.pi_0, completions).tolist()
    expected = {
        "completions": 12,
        "annotations": 77,
        "length": np.mean(
            [len(w) + f for w, f in zip(decode(TINY, completions), completions.finished.tolist(), strict=True)]
        ),
        "missing_eos": 1.0 - np.mean(completions.finished.tolist()),
        "proxy": np.mean(proxy),
        "gold": np.mean(ours),
        "kl": np.mean(kl),
        "kl_standard_error": np.std(kl, ddof=1) / math.sqrt(12),
        "win_rate": np.mean(outcomes),
    }
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    assert 0.0 < expected["win_rate"] < 1.0
    assert evaluator.evaluate(policy, 77) == metrics  # the same stream of random numbers every time
    assert set(metrics) == {*expected, "repetition", "proxy_std", "gold_std", "lc_win_rate"}
