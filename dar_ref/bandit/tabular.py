"""The tabular bandit: any table of rewards, and a policy with one free logit per context and arm.

The policy class contains every policy with full support. So the minimiser of the regression is exactly
`regression_target` (T3, T4), and no effect is due to a network. Training and held-out contexts are the same rows.
"""

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from dar_ref import scalars
from dar_ref.bandit.problem import Bandit, Contexts
from dar_ref.theory import checks as theory_checks


class TabularPolicy(nn.Module):
    """One logit per context and arm: `pi(.|x) = softmax(logits[x])`. `logits` (N, A), float64, is copied."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits.detach().clone())

    def forward(self, rows: Tensor) -> Tensor:
        """Row numbers (N,) -> logits (N, A)."""
        return self.logits[rows]


def tabular_bandit(proxy: ArrayLike, gold: ArrayLike | None = None, log_pi_0: ArrayLike | None = None) -> Bandit:
    """A bandit from tables.

    Args:
        proxy: (N, A), finite: the reward that training optimises.
        gold: (N, A), finite: the true goal; by default the same as the proxy.
        log_pi_0: (N, A), log-probabilities of the initial policy, all above -inf; uniform by default.

    Returns:
        `Bandit` whose training and held-out contexts are the N rows.

    Raises:
        TypeError, ValueError: the rewards are not (N, A) arrays of finite floats with one shape; `log_pi_0` is not a
            policy, or an arm has probability 0, which a softmax cannot express.

    >>> tabular_bandit([[0.0, 1.0]]).pi_0(torch.tensor([0])).tolist()
    [[0.0, 0.0]]
    """
    (proxy_table,) = theory_checks.arrays(proxy=proxy)
    (gold_table,) = theory_checks.arrays(gold=proxy if gold is None else gold)
    rewards = torch.tensor(proxy_table)
    contexts = Contexts(torch.arange(len(rewards)), rewards, torch.tensor(gold_table))
    if log_pi_0 is None:
        return Bandit(contexts, contexts, TabularPolicy(torch.zeros_like(rewards)))
    (initial,) = theory_checks.arrays(log_pi_0=log_pi_0)
    logits = torch.tensor(initial)
    if logits.shape != rewards.shape or not torch.isfinite(logits).all():
        raise ValueError(
            f"log_pi_0 of shape {tuple(logits.shape)} and smallest entry {logits.min().item()} does not fit a"
            f" tabular policy; give every arm of the table {tuple(rewards.shape)} a probability above 0"
        )
    return Bandit(contexts, contexts, TabularPolicy(logits))


def random_tabular_bandit(num_contexts: int, num_arms: int, seed: int, proxy_noise: float = 1.0) -> Bandit:
    """A random bandit: `gold ~ N(0, 1)`, `proxy = gold + proxy_noise * N(0, 1)`, logits of pi_0 `~ N(0, 1)`, all
    independent.

    Args:
        num_contexts: N >= 1.
        num_arms: A >= 1.
        seed: sets all random numbers.
        proxy_noise: standard deviation of the proxy's error, >= 0, in units of the gold reward's.

    Returns:
        `Bandit` whose training and held-out contexts are the N rows.

    Raises:
        TypeError, ValueError: a wrong option.
    """
    size = (scalars.integer("num_contexts", num_contexts, 1), scalars.integer("num_arms", num_arms, 1))
    proxy_noise = scalars.non_negative("proxy_noise", proxy_noise)
    generator = torch.Generator().manual_seed(scalars.seed("seed", seed))
    gold, noise, logits = torch.randn((3, *size), dtype=torch.float64, generator=generator)
    contexts = Contexts(torch.arange(num_contexts), gold + proxy_noise * noise, gold)
    return Bandit(contexts, contexts, TabularPolicy(logits))
