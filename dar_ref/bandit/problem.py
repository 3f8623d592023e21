"""A contextual bandit: contexts, two rewards for every arm, and the policy that training starts from.

A method sees the proxy reward, and only of the arms that it sampled. The gold reward is the true goal; training never
reads it. Both are known for every arm, so every expectation over arms is a finite sum. Shapes: `N` contexts, `A` arms,
`F` features per context.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Contexts:
    """N contexts and the rewards of their A arms. Raises TypeError or ValueError if types or shapes are wrong."""

    features: Tensor  # (N, ...), input of the policy: images (N, F), or row numbers (N,) for a tabular policy
    proxy: Tensor  # (N, A), float64, finite: the reward that training optimises
    gold: Tensor  # (N, A), float64, finite: the true goal, only for measuring

    def __post_init__(self) -> None:
        for name, table in (("proxy", self.proxy), ("gold", self.gold)):
            _check_table(name, table)
        if self.proxy.shape != self.gold.shape:
            raise ValueError(
                f"proxy has shape {tuple(self.proxy.shape)}, gold {tuple(self.gold.shape)};"
                " pass a reward of each kind for every context and arm"
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
    """A problem to train on. Raises TypeError or ValueError unless `pi_0` gives float64 logits (N, A)."""

    train: Contexts  # batches are drawn from them
    held_out: Contexts  # proxy, gold and KL to pi_0 are measured on them; may be the same as `train`
    pi_0: nn.Module  # initial policy: features (N, ...) -> logits (N, A), float64; training does not change it

    def __post_init__(self) -> None:
        for name, contexts in (("train", self.train), ("held_out", self.held_out)):
            logits = self.pi_0(contexts.features)
            if logits.dtype != torch.float64:
                raise TypeError(f"pi_0 gives logits of {logits.dtype}; the exact metrics need float64: pi_0.double()")
            if logits.shape != contexts.proxy.shape:
                raise ValueError(
                    f"pi_0 gives logits of shape {tuple(logits.shape)} on the {name} contexts, whose rewards are"
                    f" {tuple(contexts.proxy.shape)}; pass a policy with one logit per context and arm"
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
            " drop the context or give the arm a finite reward"
        )
