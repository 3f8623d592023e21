"""The value function of PPO and dual PPO, and generalised advantage estimation. DAR needs neither.

The critic is a second network. It starts from pi_0's weights, with a head of zeros. Its value `V_t` is read at the
state that predicts token `t`, so it has seen the prompt and the tokens before `t`. The discount is 1.
"""

import copy

import torch
from torch import Tensor, nn
from transformers import Qwen2ForCausalLM

from dar_ref.theory.advantage import MIN_STD
from dar_ref.toy.policy import Completions, completion_states


class Critic(nn.Module):
    """Values of partial completions, (B, T)."""

    def __init__(self, pi_0: Qwen2ForCausalLM) -> None:
        super().__init__()
        self.trunk = copy.deepcopy(pi_0.model).requires_grad_(True)
        self.head = nn.Linear(pi_0.config.hidden_size, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, completions: Completions) -> Tensor:
        """`V_t` of every token of the completions, (B, T)."""
        return self.head(completion_states(self.trunk, completions)[:, :-1])[..., 0]


@torch.no_grad()
def gae(
    values: Tensor, old: Tensor, ref: Tensor, rewards: Tensor, mask: Tensor, kl_coef: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Advantages and returns of every token.

    `r_t = -kl_coef (log pi_t - log pi_0)_t`, plus the reward at the last token; `delta_t = r_t + V_{t+1} - V_t`;
    `A_t = sum_l lambda^l delta_{t+l}`; the return is `A_t + V_t`. A completion that was cut off counts as ended there,
    like one with EOS. Advantages are then centred and divided by their population standard deviation over all kept
    tokens.

    Args:
        values: (B, T), V of pi_t's critic.
        old: (B, T), log pi_t of the tokens.
        ref: (B, T), log pi_0 of the tokens.
        rewards: (B,).
        mask: (B, T) bool.
        kl_coef: weight of the KL in the reward.
        gae_lambda: in [0, 1].

    Returns:
        Normalised advantages (B, T) and returns (B, T), both 0 at masked tokens.

    Source: Schulman et al., arXiv 1506.02438, Equation 16; the normalisation is common practice for PPO.
    """
    per_token = torch.where(mask, -kl_coef * (old - ref), 0.0)
    last = mask.sum(dim=1) - 1
    per_token[torch.arange(len(last)), last] += rewards
    values = torch.where(mask, values, 0.0)  # after the end there is no more reward
    advantages, ahead, value_ahead = torch.zeros_like(values), torch.zeros_like(rewards), torch.zeros_like(rewards)
    for t in reversed(range(mask.shape[1])):
        ahead = per_token[:, t] + value_ahead - values[:, t] + gae_lambda * ahead
        ahead, value_ahead = torch.where(mask[:, t], ahead, 0.0), values[:, t]
        advantages[:, t] = ahead
    returns = torch.where(mask, advantages + values, 0.0)
    kept = advantages[mask]
    std = kept.std(correction=0)
    advantages = (advantages - kept.mean()) / torch.where(std > MIN_STD, std, 1.0)
    return torch.where(mask, advantages, 0.0), returns
