"""The paper's other methods on DAR's trainer: DAO, and PPO and dual PPO without a critic. They differ from DAR only in
`policy_loss`, and PPO also in the reward. Sampling, advantages, masks and the completions left out are the same.

    dao                   dual KL by policy gradient instead of regression
    dual_ppo_critic_free  clipped ratio per token, dual KL as a penalty in the loss (k3)
    ppo_critic_free       clipped ratio per token, KL to pi_0 inside the reward (k1)

"Critic-free": PPO as published learns a value function and has an advantage for every token. Here every token gets the
advantage of its completion, (r - mean_K(r)) / std(A). All names say "critic-free"; `dar_ref.toy` has both methods with
a critic.
"""

from typing import Any

import torch
from torch import Tensor

from dar_ref.llm.batch import Scored, token_mask
from dar_ref.llm.config import DAOConfig, DualKLConfig, DualPPOConfig, PPOConfig
from dar_ref.llm.saving import PPO_PAPER
from dar_ref.llm.trainer import DARTrainer
from dar_ref.losses import DARWeights, dao_loss, dual_ppo_loss, ppo_loss, sequence_logps

CRITIC_FREE = "Without the value function of PPO as published: each token has the advantage of its completion."


class DAOTrainer(DARTrainer):
    """DAO, `dar_ref.losses.dao_loss`. Source: arXiv 2602.11523, the ablation without regression."""

    _name = "DAO"
    _tag_names = ("trl", "dao")
    _note = "The paper's ablation: the same objective, by policy gradient and not by regression."
    config_class: type[DualKLConfig] = DAOConfig

    def policy_loss(self, scored: Scored) -> tuple[Tensor, DARWeights | None]:
        """Mean over kept completions."""
        counts = scored.counts()
        options = {"alpha": self.args.alpha, "beta": self.args.beta}
        loss = dao_loss(*scored.sums(), scored.advantages, **options, sample_weight=counts)
        return loss * counts.mean(), None


class PPOTrainer(DARTrainer):
    """PPO without a critic, `dar_ref.losses.ppo_loss`. Source: Schulman et al., arXiv 1707.06347, Equation 7."""

    _name = "critic-free PPO"
    _tag_names = ("trl", "ppo-critic-free")
    _paper = PPO_PAPER
    _note = CRITIC_FREE
    config_class: type[DualKLConfig] = PPOConfig

    def policy_loss(self, scored: Scored) -> tuple[Tensor, DARWeights | None]:
        """Mean over the tokens of kept completions."""
        mask = scored.mask & scored.keep[:, None]
        advantages = scored.advantages * scored.importance
        loss = ppo_loss(scored.per_token_logps, scored.old_per_token_logps, advantages, mask, epsilon=self.args.epsilon)
        return of_all_tokens(loss, mask, scored), None

    def shaped_rewards(self, rewards: Tensor, batch: dict[str, Any]) -> Tensor:
        """`r - beta (logp_t - logp_0)`, with log-probs summed over the completion, (G,)."""
        if "old_per_token_logps" not in batch:
            with torch.no_grad():
                size = self.args.per_device_train_batch_size
                batch["old_per_token_logps"] = self._completion_logps(self.model, batch, batch_size=size)[0]
        drift = batch["old_per_token_logps"] - batch["ref_per_token_logps"]
        drift = self.accelerator.gather(sequence_logps(drift, token_mask(batch)))
        return rewards - self.args.beta * drift


class DualPPOTrainer(DARTrainer):
    """Dual PPO without a critic, `dar_ref.losses.dual_ppo_loss`. Source: arXiv 2602.11523, the ablation."""

    _name = "critic-free dual PPO"
    _tag_names = ("trl", "dual-ppo-critic-free")
    _note = f"The paper's ablation. {CRITIC_FREE}"
    config_class: type[DualKLConfig] = DualPPOConfig

    def policy_loss(self, scored: Scored) -> tuple[Tensor, DARWeights | None]:
        """Mean over the tokens of kept completions."""
        mask = scored.mask & scored.keep[:, None]
        loss = dual_ppo_loss(
            scored.per_token_logps,
            scored.ref_per_token_logps,
            scored.old_per_token_logps,
            scored.advantages * scored.importance,
            mask,
            epsilon=self.args.epsilon,
            alpha=self.args.alpha,
            beta=self.args.beta,
        )
        return of_all_tokens(loss, mask, scored), None


def of_all_tokens(loss: Tensor, mask: Tensor, scored: Scored) -> Tensor:
    """From a mean over the tokens of this micro-batch to its part of the mean over all micro-batches' tokens.

    Args:
        loss: a scalar.
        mask: (B, T) bool, the tokens it is a mean of.
        scored: the micro-batch.
    """
    return loss * mask.sum() / scored.kept_tokens.clamp(min=1.0)
