"""References for tests of the toy engine: transformers' forward pass, and every response of a task written out."""

import copy
import itertools

import numpy as np
import torch

from dar_ref.toy.policy import Completions, encode, new_policy
from dar_ref.toy.tasks import TINY


def lively_policy(task=TINY, seed=0, scale=0.3):
    """A policy whose weights, biases and norms are all far from their initial values, so that every part matters."""
    policy = new_policy(task, 16, 2, 2, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)
    return policy


def whole_ids(completions):
    """Prompt and completion in one row, (B, P+T)."""
    prompts = completions.prompt_ids.repeat_interleave(completions.num_generations, dim=0)
    return torch.cat([prompts, completions.ids], dim=1)


def transformers_logits(policy, completions):
    """Logits of every token of the completions by transformers' forward pass on whole rows, (B, T, V)."""
    return policy(input_ids=whole_ids(completions)).logits[:, completions.prompt_ids.shape[1] - 1 : -1]


def transformers_logps(policy, completions):
    """Log-prob of each completion, (B,) float64, summed over its kept tokens in a loop."""
    log_p = transformers_logits(policy, completions).double().log_softmax(dim=-1)
    return torch.stack(
        [
            sum((log_p[i, t, token] for t, token in enumerate(row) if completions.mask[i, t]), torch.tensor(0.0))
            for i, row in enumerate(completions.ids.tolist())
        ]
    )


def all_responses(task):
    """Every response of a task: (words, finished), the finished ones first, by length."""
    words, longest = task.vocabulary[1:], task.max_new_tokens
    finished = [(list(w), True) for n in range(longest) for w in itertools.product(words, repeat=n)]
    return finished + [(list(w), False) for w in itertools.product(words, repeat=longest)]


def encode_all(task, prompt):
    """Every response to one prompt, as `Completions`."""
    words, finished = zip(*all_responses(task), strict=True)
    return encode(task, [prompt], words, finished)


def mixed_completions(task=TINY, prompts=(("a", "b", "c"), ("d", "d", "a"), ("c", "a", "b")), tail=0):
    """Four completions per prompt: empty, short, long with EOS, cut off. `tail` is the padding after every EOS."""
    longest, words = task.max_new_tokens, task.vocabulary[1:]
    lengths = [(0, True), (1, True), (longest - 1, True), (longest, False)]
    rows, finished = [], []
    for i in range(len(prompts)):
        for length, ended in lengths:
            rows.append([words[(i + 2 * t * t + length) % len(words)] for t in range(length)])
            finished.append(ended)
    prompt_ids, ids, mask, ended = encode(task, prompts, rows, finished)
    return Completions(prompt_ids, torch.where(mask, ids, tail), mask, ended)


def perturbed(model, scale, seed=0):
    """A copy of a model with noise on every weight."""
    other, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)
    return other.requires_grad_(True)


def gae_by_definition(values, old, ref, rewards, lengths, kl_coef, gae_lambda):
    """Normalised advantages and returns, (B, T) float64, by the double sum over lists; nan after the end."""
    advantages, returns = np.full((2, len(rewards), max(lengths)), np.nan)
    for i, length in enumerate(lengths):
        reward = [-kl_coef * (old[i][t] - ref[i][t]) + rewards[i] * (t == length - 1) for t in range(length)]
        value = [*values[i][:length], 0.0]
        delta = [reward[t] + value[t + 1] - value[t] for t in range(length)]
        for t in range(length):
            advantages[i, t] = sum(gae_lambda**k * delta[t + k] for k in range(length - t))
            returns[i, t] = advantages[i, t] + value[t]
    spread = np.nanstd(advantages)
    return (advantages - np.nanmean(advantages)) / (spread if spread > 1e-8 else 1.0), returns
