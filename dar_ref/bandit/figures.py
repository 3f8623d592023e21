"""Figures of the digits comparison, drawn from the result of `compare` or the content of `results.json`.

Thick lines are means over seeds, smoothed by a running mean over `WINDOW` iterations. Thin lines are single seeds. A
method has the same colour and marker everywhere.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dar_ref import scalars
from dar_ref.bandit.problem import Bandit, log_probs
from dar_ref.plots import BLUE, COLORS, GREEN, GREY, MARKERS, VERMILION, style
from dar_ref.theory.checks import Array

WINDOW = 15  # iterations in a running mean: what one batch happened to hold would hide where the run goes


def settings(comparison: dict[str, Any]) -> list[str]:
    """Names of the settings in the order of figures and tables, whatever their order in the file.

    Raises:
        ValueError: a name that has no colour.
    """
    for name in comparison["runs"]:
        scalars.choice("setting", name, COLORS)
    return sorted(comparison["runs"], key=list(COLORS).index)


def curves(comparison: dict[str, Any], name: str, metric: str) -> Array:
    """One metric of one setting, (seeds, iterations + 1): its value at the start where there is one, then per
    iteration."""
    rows = []
    for seed, run in comparison["runs"][name].items():
        start = comparison["start"][seed].get(metric)
        rows.append(([] if start is None else [start]) + run[metric])
    return np.array(rows, dtype=float)


def reward_figure(comparison: dict[str, Any]) -> Figure:
    """Proxy reward, gold reward and KL to pi_0 on held-out images, against iteration."""
    with style():
        figure = Figure(figsize=(11, 3.6))
        axes = figure.subplots(1, 3)
        titles = {
            "proxy": "proxy reward (trained on)",
            "gold": "gold reward (accuracy)",
            "kl_to_pi_0": "KL(pi‖pi_0), nats",
        }
        for ax, (key, title) in zip(axes, titles.items(), strict=True):
            for name in settings(comparison):
                _plot_seeds(ax, curves(comparison, name, key), name)
            ax.set(title=title, xlabel="iteration")
        axes[0].legend()
    return figure


def frontier_figure(comparison: dict[str, Any]) -> Figure:
    """Proxy and gold reward against KL to pi_0: the reward of each method and its price."""
    with style():
        figure = Figure(figsize=(8, 3.6))
        axes = figure.subplots(1, 2, sharex=True, sharey=True)
        for ax, key, title in zip(axes, ("proxy", "gold"), ("proxy reward", "gold reward"), strict=True):
            for name in settings(comparison):
                distance, reward = (_smoothed(curves(comparison, name, k))[1] for k in ("kl_to_pi_0", key))
                last = len(reward) - 1
                ax.plot(
                    distance, reward, color=COLORS[name], marker=MARKERS[name], markevery=[last], label=name.upper()
                )
            ax.set(title=title, xlabel="KL(π‖π₀), nats")
        axes[0].legend()
    return figure


def step_figure(comparison: dict[str, Any], name: str = "dar") -> Figure:
    """Distance to the exact optimum of each iteration, before and after its gradient steps, and the objective J."""
    with style():
        figure = Figure(figsize=(9, 3.6))
        left, right = figure.subplots(1, 2)
        distances = {
            "kl_optimum_to_pi_t": ("KL(pi*‖pi_t), before the step", GREY, "--"),
            "kl_optimum_to_pi": ("KL(pi*‖pi), after it", COLORS["dar"], "-"),
            "kl_target_to_pi": ("KL(pi'‖pi), to the clipped target", VERMILION, ":"),
        }
        objectives = {
            "objective_optimum": ("J(pi*), the most possible", GREEN, "--"),
            "objective": ("J(pi), reached", COLORS["dar"], "-"),
        }
        for ax, lines in ((left, distances), (right, objectives)):
            for key, (label, color, dashes) in lines.items():
                steps, smooth = _smoothed(curves(comparison, name, key))
                ax.plot(steps + 1, smooth, dashes, color=color, label=label)
        left.set(title="distance to the step's own optimum, nats", xlabel="iteration", ylim=(0, None))
        right.set(title="the step's objective J", xlabel="iteration")
        left.legend()
        right.legend()
    return figure


def conflict_figure(comparison: dict[str, Any]) -> Figure:
    """Chernoff information of pi_0 and pi_t against iteration: below this radius the two KL balls are disjoint."""
    with style():
        figure = Figure(figsize=(6.5, 3.6))
        ax = figure.subplots()
        for name in settings(comparison):
            _plot_seeds(ax, curves(comparison, name, "conflict"), name)
        ax.set(title="smallest equal radius at which both KL constraints can hold, nats", xlabel="iteration")
        ax.set_ylim(bottom=0.0)
        ax.legend()
    return figure


def weight_figure(comparison: dict[str, Any], name: str = "dar") -> Figure:
    """Effective sample share of DAR's weights and share of samples above the clip, against iteration."""
    with style():
        figure = Figure(figsize=(8, 3.4))
        axes = figure.subplots(1, 2, sharex=True)
        for ax, key, title in zip(
            axes, ("ess", "clipped"), ("effective sample share", "share at the clip"), strict=True
        ):
            _plot_seeds(ax, curves(comparison, name, key), name)
            ax.set(title=title, xlabel="iteration", ylim=(0, 1))
    return figure


def belief_figure(bandit: Bandit, rows: Sequence[int]) -> Figure:
    """Held-out images with the probabilities of `pi_0` and the proxy for each digit; a dotted line marks the label, and
    the title says whether the proxy's favourite is that label.

    Args:
        bandit: the digits bandit; its features are 8 x 8 images.
        rows: indices of held-out images, one column each.

    Returns:
        A matplotlib figure.
    """
    contexts, chosen = bandit.held_out, list(rows)
    with torch.no_grad():
        pi_0 = log_probs(bandit.pi_0, contexts.features[chosen]).exp().numpy()
    proxy, labels = contexts.proxy[chosen].numpy(), contexts.gold[chosen].argmax(dim=1).tolist()
    arms = np.arange(proxy.shape[1])
    with style():
        figure = Figure(figsize=(1.9 * len(chosen), 3.8))
        images, bars = figure.subplots(2, len(chosen), squeeze=False)
        for column, row in enumerate(chosen):
            images[column].imshow(contexts.features[row].numpy().reshape(8, 8), cmap="gray_r")
            verdict = "right" if proxy[column].argmax() == labels[column] else "wrong"
            images[column].set_title(f"label {labels[column]}\nproxy {verdict}", fontsize="medium")
            images[column].set_axis_off()
            ax = bars[column]
            ax.axvline(labels[column], color=GREY, linestyle=":")
            ax.bar(arms - 0.2, pi_0[column], width=0.4, color=COLORS["pi_0"], label="π₀")
            ax.bar(arms + 0.2, proxy[column], width=0.4, color=COLORS["grpo"], hatch="///", label="proxy")
            ax.set(ylim=(0, 1), xticks=arms[::3], xlabel="digit (arm)")
            ax.tick_params(labelleft=column == 0)
        bars[0].set_ylabel("probability")
        figure.legend(*bars[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def tail(comparison: dict[str, Any], name: str, metric: str, window: int = WINDOW) -> Array:
    """Mean of one metric over the last `window` iterations of each seed, (seeds,): one batch's luck averaged out."""
    return curves(comparison, name, metric)[:, -window:].mean(axis=1)


def sweep_figure(comparisons: dict[str, dict[str, Any]], xlabel: str = "alpha") -> Figure:
    """Proxy, gold and KL to pi_0 at the end of runs, against the number that is the name of their setting.

    Args:
        comparisons: label -> result of `compare` for settings named "0.0", "0.1", ...; at most four.
        xlabel: label of the number.

    Returns:
        A matplotlib figure. Points are seeds (means of their last iterations), lines are means over seeds.
    """
    looks = ((BLUE, "o", "-"), (VERMILION, "s", "--"), (GREEN, "^", ":"), (GREY, "D", "-."))
    titles = {"proxy": "proxy reward", "gold": "gold reward (accuracy)", "kl_to_pi_0": "KL(π‖π₀), nats"}
    with style():
        figure = Figure(figsize=(10.5, 3.6))
        axes = figure.subplots(1, 3)
        for (label, comparison), (color, marker, dashes) in zip(comparisons.items(), looks, strict=False):
            names = sorted(comparison["runs"], key=float)
            numbers = [float(name) for name in names]
            for ax, key in zip(axes, titles, strict=True):
                ends = np.array([tail(comparison, name, key) for name in names])
                ax.plot(numbers, ends, color=color, marker=marker, linestyle="none", markersize=4, alpha=0.6)
                ax.plot(numbers, ends.mean(axis=1), color=color, marker=marker, linestyle=dashes, label=label)
        for ax, title in zip(axes, titles.values(), strict=True):
            ax.set(title=title, xlabel=xlabel)
        axes[2].set_ylim(bottom=0.0)
        axes[0].legend()
    return figure


def _plot_seeds(ax: Axes, values: Array, name: str) -> None:
    ax.plot(np.arange(values.shape[1]), values.T, color=COLORS[name], alpha=0.25, linewidth=0.6)
    steps, smooth = _smoothed(values)
    every = max(1, len(steps) // 8)
    ax.plot(steps, smooth, color=COLORS[name], marker=MARKERS[name], markevery=every, label=name.upper())


def _smoothed(values: Array) -> tuple[Array, Array]:
    """Mean over seeds of (seeds, iterations), then the running mean: iteration numbers and values, the first one
    raw."""
    mean = values.mean(axis=0)
    window = min(WINDOW, len(mean))
    running = np.convolve(mean, np.full(window, 1.0 / window), mode="valid")
    middle = np.arange(len(running)) + (window - 1) / 2.0
    return np.concatenate([[0.0], middle]), np.concatenate([mean[:1], running])
