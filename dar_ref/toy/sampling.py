"""Sampling: K completions per prompt from the policy itself, at temperature 1, no top-k, no top-p.

Training scores the same distribution that was sampled. A sampled token is never edited.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from transformers import Qwen2ForCausalLM

from dar_ref.toy.policy import EOS_ID, Completions, block, pack, repeat


class Sampled(NamedTuple):
    """`completions`; `per_token_logps`: log-probs of their tokens under the sampler, (B, T), 0 at masked tokens."""

    completions: Completions
    per_token_logps: Tensor


@torch.no_grad()
def sample(
    policy: Qwen2ForCausalLM,
    prompt_ids: Tensor,
    num_generations: int,
    max_new_tokens: int,
    generator: torch.Generator,
) -> Sampled:
    """Sample K completions of each prompt. Completions that have ended are left out of the next step.

    Args:
        policy: pi_t.
        prompt_ids: (N, P).
        num_generations: K >= 1.
        max_new_tokens: greatest length of a completion, EOS included.
        generator: the only source of randomness.

    Returns:
        `Sampled(completions, per_token_logps)`; T is the length of the longest completion.

    Raises:
        FloatingPointError: the policy's probabilities are not finite.
    """
    layers = pack(policy.model)
    states, cache = block(policy.model, layers, prompt_ids, [])  # (N, P, H)
    states, cache = repeat(states[:, -1:], cache, num_generations)  # (B, 1, H)
    batch = len(states)
    ids = torch.full((batch, max_new_tokens), EOS_ID)
    logps, mask = torch.zeros(batch, max_new_tokens), torch.zeros(batch, max_new_tokens, dtype=torch.bool)
    running = torch.arange(batch)  # (R,), indices of the completions that have not ended
    for t in range(max_new_tokens):
        log_probs = policy.lm_head(states[:, 0]).log_softmax(dim=-1)  # (R, V)
        if not log_probs.isfinite().all():
            raise FloatingPointError("the policy's probabilities are not finite; train it with a lower learning rate")
        token = torch.multinomial(log_probs.exp(), 1, generator=generator)  # (R, 1)
        ids[running, t], mask[running, t] = token[:, 0], True
        logps[running, t] = log_probs.gather(1, token)[:, 0]
        going = (token[:, 0] != EOS_ID).nonzero()[:, 0]
        if len(going) < len(running):
            running = running[going]
            cache = [(key[going], value[going]) for key, value in cache]
        if len(running) == 0 or t + 1 == max_new_tokens:
            break
        states, cache = block(policy.model, layers, token[going], cache)
    finished = torch.ones(batch, dtype=torch.bool)
    finished[running] = False
    longest = int(mask.sum(dim=1).max())
    return Sampled(Completions(prompt_ids, ids[:, :longest], mask[:, :longest], finished), logps[:, :longest])
