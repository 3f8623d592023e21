"""What a run logs besides TRL's own metrics: the spread of the regression weights, the distance to pi_0, and where the
time goes.

    weight/mean, weight/max     of min(w, w_clip)
    weight/ess                  (sum w)^2 / (B sum w^2), in (0, 1]: share of the batch that carries the update
    weight/clipped              share with w > w_clip
    weight/log_reg_*, log_adv_* mean and standard deviation of alpha (logp_0 - logp_t) and of A / beta
    kl/pi_0_k1                  mean of logp_t - logp_0 over completions: unbiased for KL(pi_t‖pi_0), in nats
    kl/pi_0_k3                  mean over tokens of exp(d) - d - 1, d = logp_0 - logp_t: never negative, nats per token
    kl/pi_t_k1                  mean of logp_t - logp_theta over completions: how far the updates have left pi_t
    entropy                     mean over tokens of the entropy of pi_theta, nats
    advantage/std               of the advantages before they are divided by it
    completions/excluded        share left out (`DARTrainer`)
    completions/clipped_ratio   TRL's: share without EOS
    skipped/update              share of the completions that were left out of the update (`dar_ref.llm.lean`)
    skipped/reference           share that pi_0 was not computed for either
    skipped/bound               sum of their weights, or bounds of them, over the sum of all: at most `skip_tolerance`
    seconds/generate, score, update; tokens_per_second   of all processes, prompts included

Where completions are left out of the update, `entropy` and `kl/pi_t_k1` are of those in it; `kl/pi_0_*` and
`weight/log_reg_*` of those that pi_0 was computed for. The other metrics are of all; an unknown weight counts as its
bound.

Shapes: `B` completions of an optimizer step, `T` tokens.
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dar_ref.losses import DARWeights, sequence_logps


class MicroBatch(NamedTuple):
    """What the metrics need of one micro-batch, without gradient; everything (B,).

    kl_0, kl_t: k1 estimates; k3: sum over tokens; tokens: number that counts; entropy: sum over tokens; keep: bool;
    scored: bool, pi_0 was computed; updated: bool, pi_theta was; weights: None for methods without them.
    """

    kl_0: Tensor
    kl_t: Tensor
    k3: Tensor
    tokens: Tensor
    entropy: Tensor
    keep: Tensor
    scored: Tensor
    updated: Tensor
    weights: DARWeights | None

    def rows(self, index: Tensor) -> "MicroBatch":
        """These completions (n,)."""
        weights = None if self.weights is None else DARWeights(*(x[index] for x in self.weights))
        return MicroBatch(*(x[index] for x in self[:-1]), weights)  # type: ignore[arg-type,call-arg]


@torch.no_grad()
def micro_batch(
    logps: Tensor,
    ref: Tensor,
    old: Tensor,
    mask: Tensor,
    keep: Tensor,
    entropies: Tensor,
    weights: DARWeights | None,
    *,
    scored: Tensor | None = None,
    updated: Tensor | None = None,
) -> MicroBatch:
    """Sum per-token values (B, T) over the tokens that count. Without `scored` and `updated` (B,), all rows are."""
    every = torch.ones_like(keep)
    log_ratio = torch.where(mask, ref - old, 0.0)
    return MicroBatch(
        kl_0=sequence_logps(old - ref, mask),
        kl_t=sequence_logps(old - logps, mask),
        k3=sequence_logps(torch.expm1(log_ratio) - log_ratio, mask),
        tokens=mask.sum(dim=1),
        entropy=sequence_logps(entropies, mask),
        keep=keep,
        scored=every if scored is None else scored,
        updated=every if updated is None else updated,
        weights=weights,
    )


@torch.no_grad()
def step_metrics(window: Sequence[MicroBatch], gather: Callable[[Tensor], Tensor]) -> dict[str, float]:
    """Metrics of one optimizer step over all its micro-batches and processes; empty if no completion counts."""
    columns = zip(*(w[:-1] for w in window), strict=True)
    kl_0, kl_t, k3, tokens, entropy, *flags = (gather(torch.cat(column).float()) for column in columns)
    keep, scored, updated = (flag.bool() for flag in flags)
    if not tokens[keep].sum() > 0:
        return {}
    scored, updated = keep & scored, keep & updated
    found = {
        "kl/pi_0_k1": kl_0[scored].mean(),
        "kl/pi_t_k1": kl_t[updated].mean(),
        "kl/pi_0_k3": k3[scored].sum() / tokens[scored].sum(),
        "entropy": entropy[updated].sum() / tokens[updated].sum(),
    }
    if all(w.weights is not None for w in window):
        parts = zip(*(w.weights for w in window if w.weights is not None), strict=True)
        weights = DARWeights(*(gather(torch.cat(part).float())[keep] for part in parts))
        found |= weight_metrics(weights, scored[keep])
    return {name: float(value) for name, value in found.items()}


def weight_metrics(weights: DARWeights, scored: Tensor | None = None) -> dict[str, Tensor]:
    """How the weights (B,) of one update are spread; see the module's first lines. `scored`: (B,) bool."""
    weight, log_reg, log_adv, clipped = weights
    log_reg = log_reg if scored is None else log_reg[scored]
    return {
        "weight/mean": weight.mean(),
        "weight/max": weight.max(),
        "weight/ess": weights.ess(),
        "weight/clipped": clipped.float().mean(),
        "weight/log_reg_mean": log_reg.mean(),
        "weight/log_reg_std": log_reg.std(correction=0),
        "weight/log_adv_mean": log_adv.mean(),
        "weight/log_adv_std": log_adv.std(correction=0),
    }


class Clock:
    """Seconds of each phase since the last reading; what is neither generation nor scoring is the update."""

    def __init__(self) -> None:
        self._restart()

    def _restart(self) -> None:
        self.began = time.perf_counter()
        self.generate = self.score = 0.0
        self.tokens = 0

    def generated(self, seconds: float, tokens: int) -> None:
        """Add one generation: its seconds and its tokens, prompts included."""
        self.generate += seconds
        self.tokens += tokens

    def scored(self, seconds: float) -> None:
        """Count one batch, its generation included."""
        self.score += seconds

    def read(self, tokens: int) -> dict[str, float]:
        """Metrics since the last reading; `tokens` of all processes."""
        total, score = time.perf_counter() - self.began, max(self.score - self.generate, 0.0)
        found = {
            "seconds/generate": self.generate,
            "seconds/score": score,
            "seconds/update": total - self.generate - score,
            "tokens_per_second": tokens / total,
        }
        self._restart()
        return found
