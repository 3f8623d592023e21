"""From sampled rewards to the loss of each method: one call to `dar_ref.losses` per method.

An arm is a completion of one token, so a sum over tokens is the token itself (T = 1). `B = N*K` samples, the K of each
context side by side.

    dar, dao   A = (r - mean_K(r)) / std over the batch           `normalize_advantages(group_advantages(...))`
    grpo       A = (r - mean_K(r)) / std of the group, as in its paper; a group of equal rewards gets 0
    rloo       the rewards: baseline and KL to pi_0 are inside its loss

GRPO's paper does not name the kind of standard deviation. Here it is the population's, as everywhere in this package.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from dar_ref.bandit.config import Method, TrainConfig
from dar_ref.losses import dao_loss, dar_loss, group_advantages, grpo_loss, normalize_advantages, rloo_loss


class Samples(NamedTuple):
    """Samples of one iteration, all without gradient. `arms` (N, K); the rest (B,), one entry per sample."""

    arms: Tensor  # drawn from pi_t
    ref_logps: Tensor  # log pi_0 of the arm
    old_logps: Tensor  # log pi_t of the arm
    rewards: Tensor  # proxy reward of the arm
    advantages: Tensor  # see `method_advantages`


def sample(
    config: TrainConfig, log_pi_0: Tensor, log_pi_t: Tensor, reward: Tensor, generator: torch.Generator
) -> Samples:
    """Draw K arms per context from pi_t, with replacement, and look up what they pay.

    Args:
        config: K and the method.
        log_pi_0: (N, A), log-probabilities of the initial policy.
        log_pi_t: (N, A), log-probabilities of the sampler.
        reward: (N, A), proxy reward; only its sampled entries are read.
        generator: the only source of randomness.

    Returns:
        `Samples`.
    """
    arms = torch.multinomial(log_pi_t.exp(), config.num_generations, replacement=True, generator=generator)
    rewards = of_arms(reward, arms)
    advantages = method_advantages(config.method, rewards, config.num_generations)
    return Samples(arms, of_arms(log_pi_0, arms), of_arms(log_pi_t, arms), rewards, advantages)


def of_arms(table: Tensor, arms: Tensor) -> Tensor:
    """Entries of a table (N, A) at the sampled arms (N, K), flattened to (B,)."""
    return table.gather(1, arms).view(-1)


def method_advantages(method: Method, rewards: Tensor, num_generations: int) -> Tensor:
    """Advantages (B,) that the method's paper computes from the rewards (B,) of groups of K = `num_generations`."""
    group = num_generations if method == "grpo" else None
    return normalize_advantages(group_advantages(rewards, num_generations), num_generations=group)


def method_loss(config: TrainConfig, logps: Tensor, rollout: Samples) -> Tensor:
    """The method's loss on one rollout.

    Args:
        config: method and its options.
        logps: (B,), log pi_theta of the sampled arms; the only input that gets a gradient.
        rollout: the samples.

    Source: see the docstrings in `dar_ref.losses`.
    """
    _, ref_logps, old_logps, rewards, advantages = rollout
    if config.method == "dar":
        return dar_loss(
            logps,
            ref_logps,
            old_logps,
            advantages,
            alpha=config.alpha,
            beta=config.beta,
            w_clip=config.w_clip,
        ).loss
    if config.method == "dao":
        return dao_loss(logps, ref_logps, old_logps, advantages, alpha=config.alpha, beta=config.beta)
    if config.method == "rloo":
        return rloo_loss(logps, ref_logps, old_logps, rewards, config.num_generations, beta=config.kl_coef)
    return grpo_loss(
        logps[:, None],  # (B, 1): one token
        ref_logps[:, None],
        old_logps[:, None],
        advantages,
        torch.ones_like(logps[:, None]),
        epsilon=config.epsilon,
        beta=config.kl_coef,
    )
