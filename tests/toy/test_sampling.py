"""Sampling agrees with scoring, by enumeration and by a second sampler; ends and masks; no sampled token is edited."""

import numpy as np
import pytest
import torch
from scipy import stats

from dar_ref.toy.policy import EOS_ID, decode, encode_prompts
from dar_ref.toy.sampling import sample
from dar_ref.toy.tasks import EOS, TINY
from tests.toy.reference import all_responses, encode_all, lively_policy, transformers_logps

MINI = TINY._replace(name="mini", vocabulary=(EOS, "a", "b"), prompt_length=2, max_new_tokens=3)


def drawn(policy, prompts, num_generations, task=TINY, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return sample(policy, encode_prompts(task, prompts), num_generations, task.max_new_tokens, generator).completions


@pytest.mark.parametrize("seed", range(2))
def test_every_response_is_as_frequent_as_its_probability(seed):
    policy, prompt, count = lively_policy(MINI, seed, scale=0.15), ["a", "b"], 30_000
    responses = [(tuple(words), finished) for words, finished in all_responses(MINI)]
    probabilities = transformers_logps(policy, encode_all(MINI, prompt)).exp().detach().numpy()
    assert probabilities.sum() == pytest.approx(1.0, abs=1e-5)
    assert len(responses) == 15
    assert probabilities.min() * count > 5  # the chi-square test needs that
    completions = drawn(policy, [prompt], count, MINI, seed)
    found = zip(map(tuple, decode(MINI, completions)), completions.finished.tolist(), strict=True)
    numbers = np.bincount([responses.index(one) for one in found], minlength=15)
    assert stats.chisquare(numbers, probabilities / probabilities.sum() * count).pvalue > 1e-3
    hotter = probabilities**0.9  # the test would detect another temperature
    assert stats.chisquare(numbers, hotter / hotter.sum() * count).pvalue < 1e-3


def test_a_sampler_that_reads_everything_anew_with_transformers_draws_the_same_tokens():
    policy = lively_policy(scale=0.15)
    prompts = [["a", "b", "c"], ["d", "a", "a"], ["b", "b", "b"], ["c", "d", "a"]]
    completions = drawn(policy, prompts, 8)
    generator = torch.Generator().manual_seed(0)
    rows, ended = encode_prompts(TINY, prompts).repeat_interleave(8, dim=0), torch.zeros(32, dtype=torch.bool)
    for t in range(completions.ids.shape[1]):
        with torch.no_grad():
            probabilities = policy(input_ids=rows).logits[:, -1].softmax(dim=-1)
        token = torch.full((32,), EOS_ID)  # only unfinished completions are continued
        token[~ended] = torch.multinomial(probabilities[~ended], 1, generator=generator)[:, 0]
        assert torch.equal(completions.mask[:, t], ~ended)
        assert torch.equal(completions.ids[:, t][~ended], token[~ended])  # no sampled token was edited
        rows, ended = torch.cat([rows, completions.ids[:, t : t + 1]], dim=1), ended | (token == EOS_ID)
    assert torch.equal(completions.finished, ended)
    assert len(set(completions.mask.sum(dim=1).tolist())) > 2


def test_the_mask_ends_with_the_first_end_and_only_the_cut_off_are_unfinished():
    completions = drawn(lively_policy(scale=0.15), [["a", "b", "c"], ["d", "a", "a"]], 200)
    longest = TINY.max_new_tokens
    lengths = set()
    for ids, mask, finished in zip(*(x.tolist() for x in completions[1:]), strict=True):
        length = ids.index(EOS_ID) + 1 if EOS_ID in ids else longest
        assert mask == [t < length for t in range(longest)]
        assert finished == (EOS_ID in ids)
        assert all(token == EOS_ID for token in ids[length:])
        lengths.add((length, finished))
    assert lengths == {(n, True) for n in range(1, longest + 1)} | {(longest, False)}


def test_sampling_stops_with_the_longest_completion():
    policy = lively_policy()
    with torch.no_grad():
        policy.lm_head.weight.zero_()
        policy.model.norm.weight.fill_(1.0)
    policy.lm_head.register_forward_hook(lambda _m, _i, logits: logits + 50.0 * (torch.arange(5) == EOS_ID))
    completions = drawn(policy, [["a", "b", "c"]], 6)
    assert completions.ids.tolist() == [[EOS_ID]] * 6
    assert completions.mask.all()
    assert completions.finished.all()


def test_the_generator_is_the_only_source_of_randomness():
    policy, prompts = lively_policy(), [["a", "b", "c"]]
    before = torch.get_rng_state()
    first, again, other = (drawn(policy, prompts, 20, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.ids, again.ids)
    assert first.ids.tolist() != other.ids.tolist()
    assert torch.equal(torch.get_rng_state(), before)
    assert not first.ids.requires_grad


def test_a_policy_whose_probabilities_are_no_numbers_is_not_sampled_from():
    policy = lively_policy()
    with torch.no_grad():
        policy.model.norm.weight[0] = torch.nan
    with pytest.raises(FloatingPointError, match="probabilities are not finite; train it with a lower learning rate"):
        drawn(policy, [["a", "b", "c"]], 2)
