"""What the loss needs of a batch: log-probs of the three policies, who counts, and advantages.

Shapes: `B` completions of `T` tokens on this process, `G` completions of all processes; mask 1 = keep.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from dar_ref.llm.models.start import why_not_pi_0
from dar_ref.losses import dar_weights, group_advantages, normalize_advantages, sequence_logps

FIRST_STEP_DRIFT = {torch.float64: 1e-8, torch.float32: 1e-3}  # nats, of any token
COARSE_DRIFT = 0.1  # nats, of the mean token, where products are narrower: a single token may round by more than that


class Scored(NamedTuple):
    """One micro-batch under the three policies; only `per_token_logps` has a gradient, or where it has none, `loss`.

    per_token_logps, ref_per_token_logps, old_per_token_logps: (B, T); mask: (B, T) bool, the tokens that count; keep:
    (B,) bool, the completions that count; advantages: (B,); importance: (B,), pi_t / pi_sampler; kept_share: scalar,
    share of the batch that counts; kept_tokens: scalar, mean number of tokens that count per micro-batch; loss: scalar,
    of the fused head.
    """

    per_token_logps: Tensor
    ref_per_token_logps: Tensor
    old_per_token_logps: Tensor
    mask: Tensor
    keep: Tensor
    advantages: Tensor
    importance: Tensor
    kept_share: Tensor
    kept_tokens: Tensor
    loss: Tensor | None = None

    def sums(self) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probs of whole completions, (B,) each: pi_theta, pi_0, pi_t."""
        logps, ref_logps, old_logps = (sequence_logps(x, self.mask) for x in self[:3])
        return logps, ref_logps, old_logps

    def counts(self) -> Tensor:
        """Weight of each completion in a mean over the kept ones, (B,); 0 for those that are left out."""
        return self.keep * self.importance / self.kept_share

    def coefficients(self, alpha: float, beta: float, w_clip: float) -> Tensor:
        """What DAR's loss, summed over the completions, multiplies each -logp with, (B,): weight times count."""
        _, ref, old = self.sums()
        weight = dar_weights(ref, old, self.advantages, alpha=alpha, beta=beta, w_clip=w_clip).weight
        counts = self.counts()
        return torch.where(counts != 0, counts * weight, 0.0)


def of_batch(batch: dict[str, Any], logps: Tensor) -> Scored:
    """A micro-batch of the trainer with log-probs (B, T) of pi_theta."""
    old = batch.get("old_per_token_logps")
    importance = batch.get("importance_sampling_ratio")
    return Scored(
        per_token_logps=logps,
        ref_per_token_logps=batch["ref_per_token_logps"],
        old_per_token_logps=logps.detach() if old is None else old,  # where it is not there, pi_theta is pi_t
        mask=token_mask(batch),
        keep=batch["keep"],
        advantages=batch["advantages"],
        importance=torch.ones_like(batch["advantages"]) if importance is None else importance.view(-1),
        kept_share=batch["kept_share"],
        kept_tokens=batch["kept_tokens"],
    )


def token_mask(batch: dict[str, Any]) -> Tensor:
    """Tokens that count, (B, T) bool: sampled by the policy, not written by a tool or an environment."""
    mask = batch["completion_mask"].bool()
    return mask & batch["tool_mask"].bool() if "tool_mask" in batch else mask


def global_advantages(rewards: Tensor, left: Tensor, num_generations: int) -> tuple[Tensor, Tensor, Tensor]:
    """Advantages of the batch of all processes.

    Args:
        rewards: (G,), NaN where there is none; the K completions of a prompt are adjacent.
        left: (G,) bool, False for truncated completions that are masked.
        num_generations: K.

    Returns:
        Advantages (G,), 0 where a completion does not count; (G,) bool, which count; std(A) before normalisation.
    """
    keep = left & ~torch.isnan(rewards)
    groups = keep.view(-1, num_generations)  # (N, K)
    keep = (groups & (groups.sum(dim=1, keepdim=True) > 1)).view(-1)
    if not keep.any():
        return torch.zeros_like(rewards), keep, torch.zeros((), device=rewards.device)
    known = torch.where(keep, rewards, torch.nan).view(-1, num_generations)  # (N, K)
    lowest = known.nan_to_num(nan=torch.inf).amin(dim=1, keepdim=True)  # (N, 1); inf for a group that does not count
    means = lowest + (known - lowest).nanmean(dim=1, keepdim=True)  # of equal rewards exactly the reward
    means = means.nan_to_num(nan=0.0, posinf=0.0).expand_as(known).reshape(-1)
    advantages = group_advantages(torch.where(keep, rewards, means), num_generations)  # filled in, the mean stays
    counted = advantages[keep]
    advantages = torch.zeros_like(advantages).masked_scatter(keep, normalize_advantages(counted))
    return advantages, keep, counted.std(correction=0)


def check_start(model: Any, scored: Scored, mixed_precision: str = "no") -> None:
    """Raise RuntimeError unless pi_theta is pi_0 up to rounding before the first step, and the sampler as well:
    otherwise every KL would be to another policy. Micro-batches of pi_0 and of the update differ in shape, and so in
    rounding. mixed_precision: accelerate's name of the type of products, "no" for that of the weights."""
    counts = scored.mask & scored.keep[:, None]  # rows that do not count may not be scored under pi_0
    logps = scored.per_token_logps.detach()
    others = (scored.ref_per_token_logps, scored.old_per_token_logps)
    drifts = torch.stack([torch.where(counts, logps - other, 0.0).abs() for other in others])  # (2, B, T)
    limit, drift, by = FIRST_STEP_DRIFT.get(model.dtype), drifts.max(), "up to "
    if limit is None or mixed_precision != "no":
        limit, drift, by = COARSE_DRIFT, (drifts.sum(dim=(1, 2)) / counts.sum().clamp(min=1)).max(), ""
    if not drift <= limit:
        raise RuntimeError(
            f"before the first step the policy and pi_0 differ by {by}{drift.item():.3g} nats per token"
            f" (at most {limit:g} is rounding): {why_not_pi_0(model)}"
        )
