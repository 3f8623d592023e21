"""A contextual bandit that enumerates: contexts, two rewards for every arm, and the policy that training starts from.

The proxy reward is what a method sees, and only at the arms it sampled. The gold reward is what was meant; training
never reads it. Both are known for every arm, so every expectation over arms is a finite sum. Shapes: `N` contexts, `A`
arms, `F` features of one context.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Contexts:
    """N contexts and what each of their A arms pays. Raises TypeError or ValueError where the three do not fit."""

    features: Tensor  # (N, ...), what the policy reads: images (N, F), or row numbers (N,) of a tabular policy
    proxy: Tensor  # (N, A), float64, finite: the reward that is optimised
    gold: Tensor  # (N, A), float64, finite: the reward that is meant, for measuring only

    def __post_init__(self) -> None:
        for name, table in (("proxy", self.proxy), ("gold", self.gold)):
            _check_table(name, table)
        if self.proxy.shape != self.gold.shape:
            raise ValueError(
                f"proxy has shape {tuple(self.proxy.shape)}, gold {tuple(self.gold.shape)};"
                " give both a reward for every context and arm"
            )
        if not isinstance(self.features, Tensor) or self.features.ndim == 0 or len(self.features) != len(self.proxy):
            found = tuple(self.features.shape) if isinstance(self.features, Tensor) else type(self.features).__name__
            raise ValueError(f"features is {found}, the rewards have {len(self.proxy)} rows; pass one row per context")

    def __len__(self) -> int:
        return len(self.proxy)

    def draw(self, count: int, generator: torch.Generator) -> "Contexts":
        """Return `count` different contexts, drawn uniformly; `count = N` gives all, in random order."""
        chosen = torch.randperm(len(self), generator=generator)[:count]
        return Contexts(self.features[chosen], self.proxy[chosen], self.gold[chosen])


@dataclass(frozen=True, eq=False)
class Bandit:
    """A problem to train on. Raises TypeError or ValueError where `pi_0` gives no float64 logits (N, A)."""

    train: Contexts  # contexts that batches are drawn from
    held_out: Contexts  # contexts on which proxy, gold and KL to pi_0 are measured; the same ones if there is no split
    pi_0: nn.Module  # initial policy: features (N, ...) -> logits (N, A), float64; no method changes it

    def __post_init__(self) -> None:
        for name, contexts in (("train", self.train), ("held_out", self.held_out)):
            logits = self.pi_0(contexts.features)
            if logits.dtype != torch.float64:
                raise TypeError(f"pi_0 gives logits of {logits.dtype}; the exact metrics need float64: pi_0.double()")
            if logits.shape != contexts.proxy.shape:
                raise ValueError(
                    f"pi_0 gives logits of shape {tuple(logits.shape)} on the {name} contexts, whose rewards are"
                    f" {tuple(contexts.proxy.shape)}; give one logit per context and arm"
                )


def log_probs(policy: nn.Module, features: Tensor) -> Tensor:
    """Log-probabilities of all arms, features (N, ...) -> (N, A), with gradient."""
    return torch.log_softmax(policy(features), dim=-1)


def _check_table(name: str, table: Tensor) -> None:
    if not isinstance(table, Tensor) or table.dtype != torch.float64:
        found = f"a tensor of {table.dtype}" if isinstance(table, Tensor) else f"a {type(table).__name__}"
        raise TypeError(f"{name} is {found}; pass a float64 tensor (N, A)")
    if table.ndim != 2 or table.numel() == 0:
        raise ValueError(f"{name} has shape {tuple(table.shape)}; pass a non-empty table (N, A)")
    finite = torch.isfinite(table)
    if not finite.all():
        row, arm = (int(i) for i in (~finite).nonzero()[0])
        raise ValueError(
            f"{name}[{row}, {arm}] = {table[row, arm].item()}: every reward must be finite;"
            " drop the context or give the arm a number"
        )
