"""The rewards and weights that experiments add, against what they are by definition."""

import pytest
import torch

from dar_ref.losses import dar_weights, sequence_logps
from dar_ref.toy.config import RunConfig
from dar_ref.toy.methods import make_rollout, method_loss
from dar_ref.toy.policy import decode, encode_prompts, per_token_logps
from dar_ref.toy.rewards import rewards_of
from dar_ref.toy.sampling import sample
from tests.toy.reference import mixed_completions, perturbed


@pytest.mark.parametrize("quality", [0.0, 0.3, 0.6, 0.9, 1.0])
def test_a_proxy_of_a_quality_has_that_correlation_with_gold_within_prompts(start, quality):
    ids = encode_prompts(start.task, start.prompts.validation)
    drawn = sample(start.pi_0, ids, 400, 5, torch.Generator().manual_seed(0)).completions
    rewards = rewards_of(start, drawn, "proxy", quality).double(), start.gold(drawn).double()
    first, second = ((x.view(-1, 400) - x.view(-1, 400).mean(dim=1, keepdim=True)).view(-1) for x in rewards)
    found = torch.corrcoef(torch.stack([first, second]))[0, 1].item()
    # its spreads and correlation come from few held-out samples; these are many others
    assert found == pytest.approx(quality, abs=1e-6 if quality == 1.0 else 0.25)


def test_the_annotator_is_the_task_s_own(start):
    completions = mixed_completions()
    rows = zip(decode(start.task, completions), completions.finished.tolist(), strict=True)
    prompts = [prompt for prompt in start.prompts_of(completions) for _ in range(completions.num_generations)]
    expected = [start.task.annotator(p, words, end) for p, (words, end) in zip(prompts, rows, strict=True)]
    assert rewards_of(start, completions, "annotator").tolist() == pytest.approx(expected)


def rollout_of(start, config):
    completions = mixed_completions()
    rewards = torch.arange(len(completions.ids), dtype=torch.float32)
    old = per_token_logps(perturbed(start.pi_0, 0.05), completions).detach()
    return make_rollout(config, start, None, completions, rewards, old), rewards


def test_zero_sum_weights_are_those_of_dar_over_their_mean_less_one(start):
    config = RunConfig(weights="zero_sum", alpha=0.3, beta=2.0)
    rollout, _ = rollout_of(start, config)
    mask = rollout.completions.mask
    ref, old = (sequence_logps(x, mask) for x in (rollout.ref_per_token_logps, rollout.old_per_token_logps))
    weight = dar_weights(ref, old, rollout.advantages, alpha=0.3, beta=2.0, w_clip=20.0).weight
    logps = sequence_logps(per_token_logps(start.pi_0, rollout.completions), mask)
    expected = -sum((w / weight.mean() - 1.0) * x for w, x in zip(weight, logps, strict=True)) / len(logps)
    assert method_loss(config, start.pi_0, rollout).item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_batch_as_baseline_allows_one_completion_per_prompt(start):
    rollout, rewards = rollout_of(start, RunConfig(baseline="batch", num_generations=1))
    expected = (rewards - rewards.mean()) / rewards.std(correction=0)
    torch.testing.assert_close(rollout.advantages, expected)
    with pytest.raises(ValueError, match="num_generations = 1 is below 2"):
        RunConfig(num_generations=1)
