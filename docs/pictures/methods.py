"""One picture for each method: how hard its loss pushes a sample up or down, by autograd through `dar_ref.losses`.

The push of a sample is the derivative of minus the loss by its log-probability, for a batch of one sample or one pair.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from dar_ref import losses, plots

RATIOS = np.linspace(0.5, 2.0, 301)  # pi_theta / pi_t
MARGINS = np.linspace(-15.0, 15.0, 301)  # nats
MASK, ZERO = torch.ones(1, 1), torch.zeros(1, 1)


def push(loss: Callable[[Tensor], Tensor], places: Any) -> list[float]:
    """Minus the derivative of `loss` at each place."""
    pushes = []
    for place in places:
        at = torch.tensor([float(place)], dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(loss(at), at, allow_unused=True)
        pushes.append(-float(slope))
    return pushes


def dar() -> Figure:
    """The push is the weight: it depends on the advantage and not on the policy that is trained."""
    advantages = np.linspace(-2.0, 2.0, 201)
    zero = torch.zeros(1)

    def weight(value: float, beta: float) -> float:
        return float(losses.dar_weights(zero, zero, torch.tensor([value]), beta=beta).weight)

    curves = {f"beta {beta:g}": [weight(a, beta) for a in advantages] for beta in (0.05, 0.5, 1.0)}
    return plots.line_figure(advantages, curves, "A, in standard deviations", "weight of the sample, at most 20")


def _by_ratio(loss: Callable[[Tensor, Tensor], Tensor]) -> Figure:
    curves = {
        f"A = {sign:+d}": push(lambda logp, sign=sign: loss(logp, torch.tensor([float(sign)])), np.log(RATIOS))
        for sign in (1, -1)
    }
    return plots.line_figure(RATIOS, curves, "π_θ / πₜ", "push on the sample", marks={"πₜ": 1.0})


def dao() -> Figure:
    """Times the ratio, without bound."""
    return _by_ratio(lambda logp, a: losses.dao_loss(logp, torch.zeros(1), torch.zeros(1), a, alpha=0.1, beta=0.05))


def grpo() -> Figure:
    """Times the ratio, until the clip; the KL pulls back beyond."""
    return _by_ratio(lambda logp, a: losses.grpo_loss(logp[:, None], ZERO, ZERO, a, MASK, beta=0.04))


def ppo() -> Figure:
    """Times the ratio, until the clip."""
    return _by_ratio(lambda logp, a: losses.ppo_loss(logp[:, None], ZERO, a, MASK))


def dual_ppo() -> Figure:
    """PPO's push and the pull of both anchors."""
    return _by_ratio(lambda logp, a: losses.dual_ppo_loss(logp[:, None], ZERO, ZERO, a, MASK, beta=0.5))


def rloo() -> Figure:
    """The leave-one-out advantage, and no ratio."""
    rewards = np.linspace(-2.0, 2.0, 9)
    zero = torch.zeros(4)

    def of(reward: float, beta: float) -> float:
        logps = torch.zeros(4, dtype=torch.float64, requires_grad=True)
        scores, ref_logps = torch.tensor([reward, -1.0, 0.0, 1.0]), torch.tensor([-2.0, 0.0, 0.0, 0.0])
        loss = losses.rloo_loss(logps, ref_logps, zero, scores, 4, beta=beta)
        return -4.0 * float(torch.autograd.grad(loss, logps)[0][0])

    labels = {0.0: "beta 0", 0.5: "beta 0.5, and π₀ gives it e² times less"}
    curves = {label: [of(reward, beta) for reward in rewards] for beta, label in labels.items()}
    return plots.line_figure(rewards, curves, "reward of the sample (the others: −1, 0, 1)", "push on the sample")


def _by_margin(loss: Callable[[Tensor, float], Tensor], settings: dict[str, float], xlabel: str) -> Figure:
    curves = {
        label: push(lambda margin, value=value: loss(margin, value), MARGINS) for label, value in settings.items()
    }
    return plots.line_figure(MARGINS, curves, xlabel, "push on the chosen answer")


def dpo() -> Figure:
    """Fades as the pair is won."""
    zero, settings = torch.zeros(1), {f"beta {beta:g}": beta for beta in (0.1, 0.5)}
    return _by_margin(
        lambda margin, beta: losses.dpo_loss(margin, zero, zero, zero, beta=beta), settings, "margin over π₀, nats"
    )


def ipo() -> Figure:
    """Pulls the margin to 1 / (2 tau), from both sides."""
    zero, settings = torch.zeros(1), {f"tau {tau:g}": tau for tau in (0.05, 0.1)}
    return _by_margin(
        lambda margin, tau: losses.ipo_loss(margin, zero, zero, zero, tau=tau), settings, "margin over π₀, nats"
    )


def slic() -> Figure:
    """On until the margin is delta, then off."""
    zero, settings = torch.zeros(1), {f"delta {delta:g}": delta for delta in (1.0, 5.0)}
    return _by_margin(
        lambda margin, delta: losses.slic_loss(margin, zero, zero, delta=delta, regularization=0.0),
        settings,
        "log π(chosen) − log π(rejected), nats",
    )


def best_of_n() -> Figure:
    """Of N answers the best counts, the others do not."""
    rewards = torch.tensor([0.2, 0.9, 0.4, 0.8])
    logps = torch.zeros(4, requires_grad=True)
    pushes = -torch.autograd.grad(losses.best_of_n_loss(logps, rewards, 4), logps)[0]
    weights = losses.dar_weights(torch.zeros(4), torch.zeros(4), rewards - rewards.mean(), alpha=0.1, beta=0.3).weight
    shares = {"best of 4": torch.log(pushes / pushes.sum()), "DAR, beta 0.3": torch.log(weights / weights.sum())}
    arms = [f"r = {reward:g}" for reward in rewards.tolist()]
    figure = plots.bars_figure({label: share.numpy() for label, share in shares.items()}, arms, "answer")
    figure.axes[0].set_ylabel("share of the push")
    return figure
