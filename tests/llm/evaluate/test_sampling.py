"""Sampling with a row's own noise: the policy's distribution exactly, whatever the batch."""

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import AutoModelForCausalLM

from dar_ref.llm.evaluate.sampling import row_seed, sample, until_eos
from dar_ref.toy.exact.enumerate import log_probs, responses
from dar_ref.toy.policy import encode, encode_prompts
from tests.llm.evaluate.setting import TINY

EOS = [0]


@pytest.fixture
def policy(exported):
    return AutoModelForCausalLM.from_pretrained(exported / "policy").eval()


def draw(policy, prompts, seeds, temperature=1.0, longest=TINY.max_new_tokens):
    options = {"pad": 0, "eos": EOS, "max_new_tokens": longest, "temperature": temperature}
    return sample(policy, prompts, seeds, **options)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_frequencies_are_the_probabilities_of_every_response(policy, start, temperature):
    """All responses to one prompt are enumerated; 4,000 draws are held against them by a chi-square test."""
    prompt, draws = start.prompts.test[0], 4_000
    ids = encode_prompts(TINY, [prompt])
    sharp = AutoModelForCausalLM.from_config(policy.config).eval()
    sharp.load_state_dict(policy.state_dict())
    if temperature != 1.0:
        sharp.lm_head.weight = torch.nn.Parameter(policy.lm_head.weight / temperature)
    probability = np.exp(log_probs(sharp.requires_grad_(False), ids)[0])
    rows, ended = responses(TINY)
    names = [
        tuple(encode(TINY, [prompt], [words], [end]).ids[0].tolist()) for words, end in zip(rows, ended, strict=True)
    ]
    lengths = [len(words) + end for words, end in zip(rows, ended, strict=True)]
    place = {name[:length]: i for i, (name, length) in enumerate(zip(names, lengths, strict=True))}
    counts = np.zeros(len(place))
    for begin in range(0, draws, 500):
        seeds = [row_seed(0, "p", "x", k) for k in range(begin, begin + 500)]
        for answer in draw(policy, ids.tolist() * 500, seeds, temperature):
            counts[place[tuple(answer)]] += 1
    often = probability * draws >= 5.0
    observed = np.append(counts[often], counts[~often].sum())
    expected = np.append(probability[often], probability[~often].sum()) * draws
    assert often.sum() > 20
    assert stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-3


def test_an_answer_does_not_depend_on_its_batch(policy, start):
    prompts = [row[i % 3 :] for i, row in enumerate(encode_prompts(TINY, start.prompts.train).tolist())]
    seeds = [row_seed(0, "p", str(i), 0) for i in range(len(prompts))]
    together = draw(policy, prompts, seeds)
    alone = [draw(policy, [prompt], [seed])[0] for prompt, seed in zip(prompts, seeds, strict=True)]
    assert together == alone
    assert draw(policy, prompts[::-1], seeds[::-1]) == together[::-1]


def test_seed_policy_prompt_and_number_all_change_the_answer():
    seeds = {
        row_seed(*case)
        for case in [(0, "p", "a", 0), (1, "p", "a", 0), (0, "q", "a", 0), (0, "p", "b", 0), (0, "p", "a", 1)]
    }
    assert len(seeds) == 5


def test_temperature_zero_takes_the_likeliest_token(policy, start):
    prompts = encode_prompts(TINY, start.prompts.test).tolist()
    for prompt, answer in zip(prompts, draw(policy, prompts, [0] * len(prompts), temperature=0.0), strict=True):
        ids = list(prompt)
        for token in answer:
            assert policy(torch.tensor([ids])).logits[0, -1].argmax().item() == token
            ids.append(token)


def test_a_models_own_top_k_is_not_used(policy, start):
    prompts = encode_prompts(TINY, start.prompts.train).tolist()
    seeds = list(range(len(prompts)))
    expected = draw(policy, prompts, seeds)
    policy.generation_config.update(do_sample=True, top_k=1, top_p=0.1, temperature=0.1, max_new_tokens=1)
    assert draw(policy, prompts, seeds) == expected
    assert len({len(answer) for answer in expected}) > 1


def test_an_answer_ends_with_its_first_eos():
    assert until_eos([3, 0, 5, 0], EOS) == [3, 0]
    assert until_eos([3, 4], EOS) == [3, 4]
