"""Sampling: K completions a prompt from the policy itself, at temperature 1, no top-k, no top-p.

What is sampled is what is scored: the log-probs that training needs are those of this distribution. A sampled token is
never edited.
"""

import torch
from torch import Tensor
from transformers import Qwen2ForCausalLM

from dar_ref.toy.policy import EOS_ID, Completions, block, pack, repeat


@torch.no_grad()
def sample(
    policy: Qwen2ForCausalLM,
    prompt_ids: Tensor,
    num_generations: int,
    max_new_tokens: int,
    generator: torch.Generator,
) -> Completions:
    """Draw K completions of each prompt; sampling stops when all of them have ended.

    Args:
        policy: pi_t.
        prompt_ids: (N, P).
        num_generations: K >= 1.
        max_new_tokens: where a completion is cut off, EOS included.
        generator: the only source of randomness.

    Returns:
        `Completions` with T = the longest completion drawn.

    Raises:
        FloatingPointError: the policy's probabilities are not finite.
    """
    layers = pack(policy.model)
    states, cache = block(policy.model, layers, prompt_ids, [])
    states, cache = repeat(states[:, -1:], cache, num_generations)
    running = torch.ones(len(states), dtype=torch.bool)
    tokens, kept = [], []
    while True:
        probabilities = policy.lm_head(states[:, 0]).softmax(dim=-1)
        if not probabilities.isfinite().all():
            raise FloatingPointError("the policy's probabilities are not finite; train it with a lower learning rate")
        token = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
        tokens.append(torch.where(running, token, EOS_ID))
        kept.append(running)
        running = running & (token != EOS_ID)
        if len(tokens) == max_new_tokens or not running.any():
            break
        states, cache = block(policy.model, layers, tokens[-1][:, None], cache)
    return Completions(prompt_ids, torch.stack(tokens, dim=1), torch.stack(kept, dim=1), ~running)
