"""The training loop of both bandits: sample from pi_t, score, fit, measure. Read this file first.

All methods share this loop and its budget. They differ in `methods.method_advantages` and `methods.method_loss`.
Where it differs from the paper's training of a language model:

1. A context is a prompt and an arm a completion of one token, so there are no masks, no lengths and no EOS.
2. pi_t is a table of log-probs taken before the updates, not a copy of the network: nothing else of it is ever needed.
3. Constant learning rate, no warm-up, no gradient clipping (its norm would hide the scale of the weights).
4. Ten arms enumerate, so each iteration is followed by its exact metrics (`measure.Record`). They cost no samples and
   nothing of them flows back into training.

All randomness comes from one generator, seeded by `config.seed`. Results are the same bit for bit for a fixed number of
torch threads; the caller sets that number.
"""

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from dar_ref.bandit.config import TrainConfig
from dar_ref.bandit.measure import BatchTables, Evaluation, Record, evaluate, record
from dar_ref.bandit.methods import Samples, method_loss, of_arms, sample
from dar_ref.bandit.problem import Bandit, Contexts, log_probs
from dar_ref.optimizers import make_optimizer


class TrainResult(NamedTuple):
    """`policy`: the trained copy of pi_0; `start`: evaluation of pi_0; `records`: one per iteration."""

    policy: nn.Module
    start: Evaluation
    records: list[Record]


def train(bandit: Bandit, config: TrainConfig, on_step: Callable[[Record], None] | None = None) -> TrainResult:
    """Train a copy of the bandit's `pi_0`; `pi_0` itself stays as it is.

    Args:
        bandit: contexts, rewards, initial policy.
        config: method and options.
        on_step: called with the record of each iteration, for progress bars.

    Returns:
        `TrainResult(policy, start, records)`.

    Raises:
        ValueError: the batch is larger than the training set.
        FloatingPointError: the policy became inf or NaN; raised at once, with the iteration.
    """
    if config.batch_prompts > len(bandit.train):
        raise ValueError(
            f"batch_prompts = {config.batch_prompts}, but there are {len(bandit.train)} training contexts, and a"
            f" batch holds each at most once; pass batch_prompts <= {len(bandit.train)}"
        )
    generator = torch.Generator().manual_seed(config.seed)
    policy = copy.deepcopy(bandit.pi_0).requires_grad_(True)
    optimizer = make_optimizer(config.optimizer, policy.parameters(), config.learning_rate)
    records: list[Record] = []
    for step in range(1, config.steps + 1):
        batch = bandit.train.draw(config.batch_prompts, generator)
        with torch.no_grad():
            log_pi_0, log_pi_t = log_probs(bandit.pi_0, batch.features), log_probs(policy, batch.features)
        rollout = sample(config, log_pi_0, log_pi_t, batch.proxy, generator)
        update(policy, optimizer, batch, rollout, config)
        with torch.no_grad():
            log_pi = log_probs(policy, batch.features)
        if not torch.isfinite(log_pi).all():
            raise FloatingPointError(
                f"iteration {step} of {config.method} gave a policy that is not finite: a weight or a step was"
                f" too large; lower learning_rate = {config.learning_rate}, raise beta = {config.beta} or set w_clip"
            )
        tables = BatchTables(log_pi.numpy(), log_pi_t.numpy(), log_pi_0.numpy(), batch.proxy.numpy())
        records.append(record(step, evaluate(policy, bandit), tables, rollout, config))
        if on_step is not None:
            on_step(records[-1])
    return TrainResult(policy, evaluate(bandit.pi_0, bandit), records)


def update(
    policy: nn.Module, optimizer: torch.optim.Optimizer, batch: Contexts, rollout: Samples, config: TrainConfig
) -> None:
    """Take `updates_per_rollout` gradient steps on the method's loss, all on the same samples."""
    for _ in range(config.updates_per_rollout):
        logps = of_arms(log_probs(policy, batch.features), rollout.arms)  # (B,)
        optimizer.zero_grad()
        torch.autograd.backward(method_loss(config, logps, rollout))
        optimizer.step()
