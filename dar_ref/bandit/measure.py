"""Exact metrics of training: every expectation over arms is a finite sum, computed by `dar_ref.theory`.

Two sets of contexts, never mixed in one metric. How good the policy has become (`proxy`, `gold`, `kl_to_pi_0`) is a
mean over the held-out contexts. What one step did (the objective it was to raise, how near it came to the optimum) is a
mean over the contexts of that step's batch, the ones its samples came from.
"""

from typing import NamedTuple

import torch

from dar_ref.bandit.config import TrainConfig
from dar_ref.bandit.methods import Samples
from dar_ref.bandit.problem import Bandit, log_probs
from dar_ref.losses import dar_weights
from dar_ref.theory import chernoff, exact_advantage, kl, objective, optimum, regression_target
from dar_ref.theory.checks import Array


class Evaluation(NamedTuple):
    """Exact means over the held-out contexts.

    proxy: E_pi[proxy reward]; gold: E_pi[gold reward]; kl_to_pi_0: KL(pi‖pi_0), nats.
    """

    proxy: float
    gold: float
    kl_to_pi_0: float


class Record(NamedTuple):
    """One training iteration, from pi_t (before) to pi (after its last update).

    `A` is the exact advantage, `pi*` the exact optimum for it at the run's alpha and beta, `pi'` the exact target of
    the clipped regression. grpo and rloo do not optimise J; for them J and the distances only serve for comparison.
    """

    step: int  # 1 is the first iteration
    proxy: float  # held-out mean of E_pi[proxy reward]
    gold: float  # held-out mean of E_pi[gold reward]
    kl_to_pi_0: float  # held-out mean of KL(pi‖pi_0), nats
    kl_to_pi_t: float  # batch mean of KL(pi‖pi_t), nats
    objective: float  # batch mean of J(pi); J(pi_t) = -beta alpha KL(pi_t‖pi_0), since A is centred
    objective_optimum: float  # batch mean of J(pi*), the highest value of J
    kl_optimum_to_pi_t: float  # batch mean of KL(pi*‖pi_t), nats: distance before the step
    kl_optimum_to_pi: float  # batch mean of KL(pi*‖pi), nats: distance after the step
    kl_target_to_pi: float  # batch mean of KL(pi'‖pi), nats: distance to the target of dar's clipped regression
    conflict: float  # batch mean of the Chernoff information of pi_0 and pi_t: below it two equal KL balls are disjoint
    advantage_std: float  # exact standard deviation that A was divided by, units of the proxy reward
    ess: float | None  # effective sample share (sum w)^2 / (B sum w^2), in (0, 1]; None without weights
    clipped: float | None  # share of samples above w_clip; None without weights


class BatchTables(NamedTuple):
    """One batch by enumeration, every field (N, A): log-probs of pi, pi_t and pi_0, and the proxy reward."""

    log_pi: Array
    log_pi_t: Array
    log_pi_0: Array
    reward: Array


@torch.no_grad()
def evaluate(policy: torch.nn.Module, bandit: Bandit) -> Evaluation:
    """Exact rewards and KL(pi‖pi_0) of `policy`, means over the held-out contexts of `bandit`."""
    contexts = bandit.held_out
    log_pi, log_pi_0 = log_probs(policy, contexts.features), log_probs(bandit.pi_0, contexts.features)
    return Evaluation(
        proxy=(log_pi.exp() * contexts.proxy).sum(dim=-1).mean().item(),
        gold=(log_pi.exp() * contexts.gold).sum(dim=-1).mean().item(),
        kl_to_pi_0=float(kl(log_pi.numpy(), log_pi_0.numpy()).mean()),
    )


def record(step: int, evaluation: Evaluation, tables: BatchTables, rollout: Samples, config: TrainConfig) -> Record:
    """All metrics of one iteration.

    Args:
        step: number of the iteration.
        evaluation: of the new policy, on the held-out contexts.
        tables: policies and proxy reward on the contexts of the batch.
        rollout: the samples of the iteration.
        config: alpha, beta, w_clip and the method.

    Returns:
        `Record`.
    """
    log_pi, log_pi_t, log_pi_0, reward = tables
    advantage, std = exact_advantage(reward, log_pi_t)
    setting = (advantage, log_pi_0, log_pi_t, config.alpha, config.beta)
    best = optimum(*setting)
    target = regression_target(*setting, w_clip=config.w_clip)
    ess, clipped = _weight_metrics(rollout, config) if config.method == "dar" else (None, None)
    return Record(
        step=step,
        **evaluation._asdict(),
        kl_to_pi_t=float(kl(log_pi, log_pi_t).mean()),
        objective=float(objective(log_pi, *setting).mean()),
        objective_optimum=float(best.value.mean()),
        kl_optimum_to_pi_t=float(kl(best.log_pi, log_pi_t).mean()),
        kl_optimum_to_pi=float(kl(best.log_pi, log_pi).mean()),
        kl_target_to_pi=float(kl(target, log_pi).mean()),
        conflict=float(chernoff(log_pi_0, log_pi_t).information.mean()),
        advantage_std=std,
        ess=ess,
        clipped=clipped,
    )


def _weight_metrics(rollout: Samples, config: TrainConfig) -> tuple[float, float]:
    """Effective sample share and share clipped of the weights that dar gave to the samples."""
    weights = dar_weights(
        rollout.ref_logps,
        rollout.old_logps,
        rollout.advantages,
        alpha=config.alpha,
        beta=config.beta,
        w_clip=config.w_clip,
    )
    return weights.ess().item(), weights.clipped.double().mean().item()
