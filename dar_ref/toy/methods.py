"""From a rollout to the loss of each method. Read this file to see how the methods differ; all else is shared.

    dar         weighted SFT, A = (r - mean_K(r)) / std over the rollout
    dao         the same A, dual KL by policy gradient instead of regression
    grpo        A = (r - mean_K(r)) / std of the group, clipped ratio, KL to pi_0 in the loss
    rloo        leave-one-out baseline, KL to pi_0 in the reward, no ratio
    ppo         value function and GAE, clipped ratio, KL to pi_0 in the reward of each token
    dual_ppo    value function and GAE, clipped ratio, dual KL in the loss
    online_dpo  pairs of fresh completions; the reward says which one is preferred
    dpo, ipo, slic  preference pairs sampled from pi_0 and labelled by the annotators; training samples nothing
    best_of_n   SFT on the best of K samples of pi_0

The losses are in `dar_ref.losses`. A rollout is scored once, before its first update; its `old_logps` stay fixed.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from transformers import Qwen2ForCausalLM

from dar_ref.losses import (
    best_of_n_loss,
    dao_loss,
    dar_loss,
    dpo_loss,
    dual_ppo_loss,
    group_advantages,
    grpo_loss,
    ipo_loss,
    normalize_advantages,
    ppo_loss,
    rloo_loss,
    sequence_logps,
    slic_loss,
)
from dar_ref.toy.config import OFFLINE, RunConfig
from dar_ref.toy.critic import Critic, gae
from dar_ref.toy.policy import Completions, per_token_logps
from dar_ref.toy.start import Start


class Rollout(NamedTuple):
    """A batch of samples for one or more updates, without gradient; B = N * K completions of T tokens.

    rewards: (B,); old_per_token_logps: (B, T), log-probs under the policy that sampled; ref_per_token_logps: (B, T),
    under pi_0; advantages: (B,), or (B, T) with a critic; returns: (B, T), targets of the critic, None without one.
    """

    completions: Completions
    rewards: Tensor
    old_per_token_logps: Tensor
    ref_per_token_logps: Tensor
    advantages: Tensor
    returns: Tensor | None

    def minibatch(self, rows: Tensor) -> "Rollout":
        """The part of the rollout that belongs to the prompts `rows`, (M,) indices."""
        samples = self.completions.samples(rows)  # (len(rows) * K,)
        returns = None if self.returns is None else self.returns[samples]
        old, ref = self.old_per_token_logps[samples], self.ref_per_token_logps[samples]
        completions, rewards = self.completions.of_prompts(rows), self.rewards[samples]
        return Rollout(completions, rewards, old, ref, self.advantages[samples], returns)


@torch.no_grad()
def make_rollout(
    config: RunConfig,
    start: Start,
    critic: Critic | None,
    completions: Completions,
    rewards: Tensor,
    old: Tensor | None = None,
) -> Rollout:
    """Score completions under pi_0, and compute the method's advantages.

    Args:
        config: the method and its options.
        start: has pi_0.
        critic: for ppo and dual_ppo; None for the other methods.
        completions: samples of pi_t. For best_of_n and for preference pairs, samples of pi_0.
        rewards: (B,), finite.
        old: (B, T), log pi_t of the tokens, stored when they were sampled; None if pi_0 sampled them.

    Returns:
        `Rollout`.
    """
    ref = per_token_logps(start.pi_0, completions)  # (B, T)
    old = ref if old is None else old
    returns = None
    if critic is not None:
        kl_coef = config.kl_coef if config.method == "ppo" else 0.0  # dual_ppo has its KLs in the loss
        advantages, returns = gae(critic(completions), old, ref, rewards, completions.mask, kl_coef, config.gae_lambda)
    elif config.method == "grpo":
        advantages = group_advantages(rewards, config.num_generations)
        advantages = normalize_advantages(advantages, num_generations=config.num_generations)
    elif config.method in OFFLINE:
        advantages = torch.zeros_like(rewards)
    elif config.baseline == "batch":
        advantages = normalize_advantages(group_advantages(rewards, len(rewards)))  # the batch is one group
    else:
        advantages = normalize_advantages(group_advantages(rewards, config.num_generations))
    return Rollout(completions, rewards, old, ref, advantages, returns)


def method_loss(config: RunConfig, policy: Qwen2ForCausalLM, rollout: Rollout) -> Tensor:
    """The method's loss on one minibatch, a scalar; only `policy` gets a gradient.

    Source: see the docstrings in `dar_ref.losses`.
    """
    completions, rewards, old, ref, advantages, _ = rollout
    mask = completions.mask
    per_token = per_token_logps(policy, completions)  # (B, T)
    match config.method:  # losses on single tokens
        case "grpo":
            return grpo_loss(per_token, ref, old, advantages, mask, epsilon=config.epsilon, beta=config.kl_coef)
        case "ppo":
            return ppo_loss(per_token, old, advantages, mask, epsilon=config.epsilon)
        case "dual_ppo":
            alpha, beta = config.alpha, config.beta
            return dual_ppo_loss(per_token, ref, old, advantages, mask, epsilon=config.epsilon, alpha=alpha, beta=beta)
    logps, ref_logps, old_logps = (sequence_logps(x, mask) for x in (per_token, ref, old))  # (B,)
    match config.method:  # losses on whole completions
        case "dar":
            alpha, beta, w_clip = config.alpha, config.beta, config.w_clip
            loss, weights = dar_loss(logps, ref_logps, old_logps, advantages, alpha=alpha, beta=beta, w_clip=w_clip)
            if config.weights == "zero_sum":
                return -((weights.weight / weights.weight.mean() - 1.0) * logps).mean()
            return loss / weights.weight.mean() if config.self_normalize else loss
        case "dao":
            return dao_loss(logps, ref_logps, old_logps, advantages, alpha=config.alpha, beta=config.beta)
        case "rloo":
            return rloo_loss(logps, ref_logps, old_logps, rewards, config.num_generations, beta=config.kl_coef)
        case "best_of_n":
            return best_of_n_loss(logps, rewards, config.num_generations)
    return _pair_loss(config, logps, ref_logps, rewards)


def _pair_loss(config: RunConfig, logps: Tensor, ref_logps: Tensor, rewards: Tensor) -> Tensor:
    """Losses on pairs: completions 0 and 1, 2 and 3, ... of a prompt. The higher reward is chosen; in a tie, the first
    completion."""
    pairs, ref_pairs = logps.view(-1, 2), ref_logps.view(-1, 2)  # (B/2, 2)
    chosen = rewards.view(-1, 2).argmax(dim=1, keepdim=True)  # (B/2, 1)
    best, worst = pairs.gather(1, chosen)[:, 0], pairs.gather(1, 1 - chosen)[:, 0]
    ref_best, ref_worst = ref_pairs.gather(1, chosen)[:, 0], ref_pairs.gather(1, 1 - chosen)[:, 0]
    if config.method == "ipo":
        return ipo_loss(best, worst, ref_best, ref_worst, tau=config.dpo_beta)
    if config.method == "slic":
        return slic_loss(best, worst, best)  # SFT target: the preferred completion, as in SLiC-HF's direct form
    return dpo_loss(best, worst, ref_best, ref_worst, beta=config.dpo_beta)
