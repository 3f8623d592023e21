"""Figures of the experiments, drawn from their content alone. A method has one colour and one marker."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dar_ref.evaluation import TABLE_1, student
from dar_ref.plots.style import BLACK, BLUE, COLORS, GREEN, GREY, MARKERS, PURPLE, SKY, VERMILION, style

Content = Mapping[str, Any]

LOOKS: dict[str, tuple[str, str]] = {
    **{name: (COLORS[name], MARKERS[name]) for name in ("dar", "grpo", "dao", "rloo")},
    "online_dpo": (VERMILION, "v"),
    "dpo": (SKY, "P"),
    "dual_ppo": (BLACK, "X"),
    "ppo": (GREY, "p"),
    "dar on gold": (GREEN, "s"),
    "dar alpha 1 beta 0.2": (SKY, "^"),
    "dar zero-sum": (VERMILION, "s"),
    "mean of the group": (BLUE, "o"),
    "mean of the batch": (VERMILION, "s"),
    "dar alpha 0.1": (BLUE, "o"),
    "dar alpha 1": (SKY, "^"),
    "beta 0.05": (BLUE, "o"),
    "beta 0.5": (VERMILION, "s"),
}
TITLES = {
    "gold": "gold reward",
    "gold_harmless": "gold, harmless (trained)",
    "gold_helpful": "gold, helpful (kept)",
    "proxy": "proxy reward",
    "win_rate": "win rate against π₀",
    "kl": "KL(π‖π₀), nats",
    "missing_eos": "share without EOS",
    "length": "length, tokens",
    "ess": "effective sample share",
    "clipped": "share at the clip",
}
SHARES = {"win_rate": (0.0, 1.0), "missing_eos": (-0.02, 1.0), "ess": (0.0, 1.0), "clipped": (0.0, 1.0)}


def win_rate_figure(content: Content) -> Figure:
    """Win rate of every method on every task with its interval; open diamonds are the paper's Table 1."""
    with style():
        figure, axes = _panels(len(tasks(content)), 3.4, 4.2, sharey=True)
        for ax, task in zip(axes, tasks(content), strict=True):
            settings = of_task(content, task)
            for place, setting in enumerate(settings):
                won = [run["final"]["win_rate"] for run in ended(setting)]
                color = BLUE if setting["label"] == "dar" else GREY
                ax.plot(won, [place] * len(won), "|", color=color, alpha=0.6)
                if len(won) > 1:  # the others diverged
                    middle = student(won)
                    ax.plot([middle.low, middle.high], [place, place], color=color)
                    ax.plot(middle.estimate, place, "o", color=color, label=_once(ax, "ours"))
                paper = TABLE_1.values.get(setting["label"], {}).get(task)
                if paper is not None:
                    looks: dict[str, Any] = {"color": VERMILION, "fillstyle": "none", "clip_on": False}
                    ax.plot(paper / 100, place, "D", label=_once(ax, "paper"), **looks)
            ax.axvline(0.5, color=BLACK, linewidth=0.8, linestyle=":")
            ax.set(title=task, xlim=(0, 1), xlabel="win rate against π₀")
            ax.set_yticks(range(len(settings)), [setting["label"] for setting in settings])
        axes[0].invert_yaxis()
        axes[0].legend(loc="lower left", fontsize="small")
    return figure


def reward_against_kl_figure(
    content: Content,
    methods: Sequence[str] = ("dar", "grpo", "online_dpo", "dao"),
    keys: Sequence[str] = ("proxy", "gold"),
) -> Figure:
    """Rewards against KL to pi_0 along the runs: where the proxy goes on and gold turns, the proxy is hacked."""
    count = len(tasks(content))
    with style():
        figure = Figure(figsize=(3.4 * count, 2.8 * len(keys) + (len(keys) == 1)))
        axes = figure.subplots(len(keys), count, squeeze=False, sharex="col")
        for column, task in enumerate(tasks(content)):
            for row, key in enumerate(keys):
                for setting in of_task(content, task):
                    if setting["label"] in methods:
                        _draw_runs(axes[row, column], setting, "kl", key, seeds=len(methods) <= 4)
                axes[row, column].set(ylabel=TITLES[key] if column == 0 else None)
            axes[0, column].set(title=task)
            axes[-1, column].set(xlabel="KL(π‖π₀), nats")
        _legend_below(figure, axes[0, 0], ncols=2 * count)
    return figure


def against_x(
    content: Content, keys: Sequence[str], xlabel: str, task: str | None = None, *, to_scale: bool = False
) -> Figure:
    """Final metrics against the setting's number, one line per group, points for seeds; of one task or of all. The
    numbers are evenly spaced, or `to_scale`."""
    settings = content["settings"] if task is None else of_task(content, task)
    with style():
        figure, axes = _panels(len(keys), 3.1, 3.3)
        for ax, key in zip(axes, keys, strict=True):
            for group in dict.fromkeys(setting["group"] for setting in settings):
                rows = [setting for setting in settings if setting["group"] == group]
                _line(ax, rows, key, group, [setting["x"] for setting in settings], to_scale=to_scale)
            ax.set(title=TITLES[key], xlabel=xlabel, ylim=SHARES.get(key))
        axes[0].legend(fontsize="small")
    return figure


def hacking_figure(content: Content) -> Figure:
    """Proxy, gold, KL, length and missing EOS along the runs; thin lines are seeds, thick lines their mean."""
    keys = ("proxy", "gold", "kl", "length", "missing_eos")
    with style():
        figure, axes = _panels(len(keys), 2.9, 3.4)
        for ax, key in zip(axes, keys, strict=True):
            for setting in content["settings"]:
                _draw_runs(ax, setting, "step", key)
            ax.set(title=TITLES[key], xlabel="step")
        axes[0].legend(fontsize="small")
    return figure


def frontier_figure(content: Content, task: str) -> Figure:
    """Reward against KL to pi_0 at the end of the runs, one point per seed; on `tiny` with the exact frontier."""
    settings = of_task(content, task)
    with style():
        figure, axes = _panels(2, 4.2, 3.8)
        for ax, key in zip(axes, ("proxy", "gold"), strict=True):
            for setting in settings:
                color, marker = LOOKS[setting["group"]]
                kl, reward = ([run["final"][name] for run in ended(setting)] for name in ("kl", key))
                label = _once(ax, setting["group"])
                ax.plot(kl, reward, marker, color=color, markersize=4, alpha=0.35)
                ax.plot(np.mean(kl), np.mean(reward), marker, color=color, markersize=7, label=label)
            if task == "tiny":  # mean over seeds at equal multipliers
                best = [run["exact"]["frontier"][key] for run in settings[0]["runs"]]
                kl, reward = (np.mean([one[name] for one in best], axis=0) for name in ("kl", "reward"))
                shown = kl <= 1.3 * max(run["final"]["kl"] for setting in settings for run in setting["runs"])
                ax.plot(kl[shown], reward[shown], color=BLACK, linewidth=1.2, label="exact frontier (T7)")
            ax.set(title=f"{task}: {TITLES[key]}", xlabel="KL(π‖π₀), nats")
        axes[0].legend(fontsize="small")
    return figure


def annotation_figure(content: Content) -> Figure:
    """Win rate against annotations used, mean over seeds. Every method pays for the labels of the reward model."""
    with style():
        figure, axes = _panels(len(tasks(content)), 3.4, 3.4, sharey=True)
        for ax, task in zip(axes, tasks(content), strict=True):
            for setting in of_task(content, task):
                _draw_runs(ax, setting, "annotations", "win_rate")
            ax.axhline(0.5, color=GREY, linewidth=0.8, linestyle=":")
            ax.set(title=task, xlabel="annotations", ylim=(0, 1))
        axes[0].set_ylabel("win rate against π₀")
        axes[0].legend(fontsize="small")
    return figure


def stability_figure(content: Content) -> Figure:
    """Gold reward against learning rate, one panel per staleness; every point is a run."""
    stale = sorted({setting["config"]["updates_per_rollout"] for setting in content["settings"]})
    with style():
        figure, axes = _panels(len(stale), 3.4, 3.4, sharey=True)
        for ax, updates in zip(axes, stale, strict=True):
            rows = [setting for setting in content["settings"] if setting["config"]["updates_per_rollout"] == updates]
            for group in dict.fromkeys(setting["group"] for setting in rows):
                _line(ax, [setting for setting in rows if setting["group"] == group], "gold", group)
            first = [run["evaluations"][0]["gold"] for run in rows[0]["runs"]]
            ax.axhline(float(np.mean(first)), color=GREY, linewidth=0.8, linestyle=":")
            ax.set(title=f"{updates} update{'s' * (updates > 1)} a rollout", xlabel="learning rate")
        axes[0].set_ylabel("gold reward (dotted: π₀)")
        axes[0].legend(fontsize="small")
    return figure


def budget_figure(content: Content) -> Figure:
    """KL to pi_0 along the runs: with budgets (eps_0 is the dotted line of their colour; dashed with the larger eps_t),
    and with pairs of alpha and beta in grey."""
    first = of_task(content, tasks(content)[0])
    budgets, steps_of = (sorted({s["config"][key] for s in first if s["config"][key]}) for key in ("eps_0", "eps_t"))
    color = dict(zip([*budgets, None], (BLUE, GREEN, PURPLE, GREY), strict=False))
    pairs = [setting["label"] for setting in first if setting["config"]["eps_0"] is None]
    marker = dict(zip(pairs, "osv", strict=False))
    with style():
        figure, axes = _panels(len(tasks(content)), 4.6, 4.4)
        for ax, task in zip(axes, tasks(content), strict=True):
            for setting in of_task(content, task):
                steps, kl = (
                    np.mean([[e[name] for e in run["evaluations"]] for run in ended(setting)], axis=0)
                    for name in ("step", "kl")
                )
                ax.plot(
                    steps,
                    np.maximum(kl, 1e-3),
                    color=color[setting["config"]["eps_0"]],
                    linestyle="--" if setting["config"]["eps_t"] in steps_of[1:] else "-",
                    marker=marker.get(setting["label"]),
                    markersize=4,
                    label=setting["label"],
                )
            for budget in budgets:
                ax.axhline(budget, color=color[budget], linestyle=":", linewidth=0.8)
            ax.set(title=task, xlabel="step", ylabel="KL(π‖π₀), nats", yscale="log")
        _legend_below(figure, axes[0], ncols=3)
    return figure


def tasks(content: Content) -> list[str]:
    """The tasks of an experiment, in order."""
    return list(dict.fromkeys(setting["task"] for setting in content["settings"]))


def of_task(content: Content, task: str) -> list[Content]:
    """The settings on one task, in order."""
    return [setting for setting in content["settings"] if setting["task"] == task]


def ended(setting: Content) -> list[Content]:
    """The runs that came to their end; those that diverged have no metrics."""
    return [run for run in setting["runs"] if run["diverged"] is None]


def _panels(count: int, width: float, height: float, *, sharey: bool = False) -> tuple[Figure, Sequence[Axes]]:
    """A figure of one row; `width` is that of a panel, in inches."""
    figure = Figure(figsize=(width * count, height))
    return figure, figure.subplots(1, count, sharey=sharey, squeeze=False)[0]


def _legend_below(figure: Figure, ax: Axes, ncols: int) -> None:
    """The legend of one panel below the figure."""
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=ncols, fontsize="small")


def _draw_runs(ax: Axes, setting: Content, x: str, y: str, *, seeds: bool = True) -> None:
    """Metric `y` against metric `x` along the runs: thin lines are seeds, the thick one their mean."""
    color, marker = LOOKS[setting["label"]]
    runs = ended(setting)
    places, heights = (np.array([[e[name] for e in run["evaluations"]] for run in runs]) for name in (x, y))
    if seeds:
        ax.plot(places.T, heights.T, color=color, alpha=0.25, linewidth=0.7)
    ax.plot(places.mean(axis=0), heights.mean(axis=0), color=color, marker=marker, label=setting["label"])


def _line(
    ax: Axes,
    rows: Sequence[Content],
    key: str,
    group: str,
    numbers: Sequence[Any] | None = None,
    *,
    to_scale: bool = False,
) -> None:
    """A line along the settings' numbers: on a logarithmic axis, or evenly spaced in the order of `numbers`, or
    `to_scale`."""
    color, marker = LOOKS[group]
    part = "weights" if key in ("ess", "clipped") else "final"
    rows = [setting for setting in rows if ended(setting)]
    values = [[run[part][key] for run in ended(setting)] for setting in rows]
    if numbers is not None:
        ticks = sorted({float(x) for x in numbers})
        at = {x: x if to_scale else float(place) for place, x in enumerate(ticks)}
        places = np.array([at[float(setting["x"])] for setting in rows])
        ax.set_xticks(list(at.values()), [f"{x:g}" for x in ticks])
    else:
        places = np.array([setting["x"] for setting in rows], dtype=float)
        ax.set_xscale("log")
        ax.set_xticks(places, [f"{x:g}" for x in places])
        ax.minorticks_off()
    for place, seeds in zip(places, values, strict=True):
        ax.plot([place] * len(seeds), seeds, marker, color=color, markersize=3, alpha=0.4)
    ax.plot(places, [np.mean(seeds) for seeds in values], color=color, marker=marker, label=group)


def _once(ax: Axes, label: str) -> str | None:
    return None if label in ax.get_legend_handles_labels()[1] else label


FIGURES: dict[str, dict[str, Callable[[Content], Figure]]] = {
    "hacking": {"hacking": hacking_figure},
    "compare": {"win_rate": win_rate_figure, "reward_against_kl": reward_against_kl_figure},
    "standard": {"reward_against_kl": lambda content: reward_against_kl_figure(content, ("dar", "grpo", "rloo"))},
    "ablate-alpha": {"alpha": lambda c: against_x(c, ("proxy", "gold", "kl", "missing_eos", "ess"), "alpha")},
    "anchor": {"anchor": lambda c: against_x(c, ("win_rate", "gold", "kl", "ess"), "alpha (beta = 0.2 / alpha)")},
    "frontier": {
        "tldr": lambda content: frontier_figure(content, "tldr"),
        "tiny": lambda content: frontier_figure(content, "tiny"),
    },
    "efficiency": {"annotations": annotation_figure},
    "stability": {"stability": stability_figure},
    "clip": {"clip": lambda content: against_x(content, ("proxy", "gold", "kl", "ess", "clipped"), "w_clip")},
    **{
        name: {
            "win_rate": win_rate_figure,
            "gold_against_kl": lambda content: reward_against_kl_figure(content, tuple(LOOKS), ("gold",)),
        }
        for name in ("direct", "direct-gold")
    },
    "quality": {
        "quality": lambda c: against_x(c, ("win_rate", "gold", "kl"), "correlation of reward and gold", to_scale=True)
    },
    "budgets": {"kl": budget_figure},
    "null-space": {
        "gold": lambda c: against_x(c, ("gold_harmless", "gold_helpful", "kl"), "share of the energy that is kept")
    },
    "samples": {
        task: functools.partial(against_x, keys=("win_rate", "gold", "kl"), xlabel="K", task=task)
        for task in ("tldr", "helpful")
    },
}
