"""The conflict along a path of policies: the region of both constraints, and DAR at the same budgets.

    path = measure_path(log_pi_0, log_path, reward, eps_0, eps_t)   # numbers, for your own path
    conflict_figure(path)                                           # the region, at four steps
    dar_path_figure(path, alpha, beta)                              # DAR at the same budgets and steps
    path_figure(path, alpha, beta)                                  # area, margin, reward and KLs, step by step
    conflict_gif(path, alpha, beta)                                 # region, DAR and area, moving: bytes of a GIF

Both sides are drawn at the same budgets, and the ball around `pi_ref` has its true radius
`alpha eps_0 + (1-alpha) eps_t + log C` (T7). More figures of DAR are in `plots.dar_ball`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from mpltern.ternary import TernaryAxes
from numpy.typing import ArrayLike

from dar_ref import theory
from dar_ref.plots.animation import animated
from dar_ref.plots.conflict_path import ConflictPath
from dar_ref.plots.simplex import draw_path, draw_policy, draw_region, draw_set, simplex_axes, trust_gap
from dar_ref.plots.style import ARMS, BLACK, COLORS, GREEN, GREY, LABELS, MARKERS, ORANGE, PURPLE, SKY, VERMILION, style
from dar_ref.theory.checks import Array
from dar_ref.theory.trust_regions import Stability

LOOK: dict[Stability, tuple[str, str, str, str]] = {
    "kl": (VERMILION, "--", "s", "KL(π‖πₜ)"),
    "ppo_box": (ORANGE, ":", "^", "PPO's box"),
    "forward_kl": (SKY, "-.", "v", "KL(πₜ‖π)"),
}
"""Colour, line, marker and label of each trust region around `pi_t`."""


def conflict_figure(path: ConflictPath, *, shown: Sequence[int] | None = None, arms: Sequence[str] = ARMS) -> Figure:
    """Both KL balls, their intersection (hatched) and its best policy; PPO's box and the forward ball as outlines.

    Args:
        path: from `plots.measure_path`.
        shown: steps to draw; by default four, evenly spaced.
        arms: names of the corners.
    """

    def draw(ax: TernaryAxes, step: int) -> None:
        draw_conflict(ax, path, step)

    return _row_of_simplexes(path, shown, arms, draw)


def dar_path_figure(
    path: ConflictPath, alpha: float, beta: float, *, shown: Sequence[int] | None = None, arms: Sequence[str] = ARMS
) -> Figure:
    """DAR at the budgets of the path: the ball around `pi_ref`, and the maximiser of the penalised objective.

    Args:
        path: from `plots.measure_path`.
        alpha: DAR's weight of `pi_0`, in [0, 1].
        beta: DAR's strength of the regulariser, > 0.
        shown: steps to draw; by default four, evenly spaced.
        arms: names of the corners.
    """

    def draw(ax: TernaryAxes, step: int) -> None:
        draw_dar(ax, path, step, alpha, beta)
        ax.set_title(f"step {step}: {ax.get_title()}", pad=4, fontsize="small")

    return _row_of_simplexes(path, shown, arms, draw)


def path_figure(path: ConflictPath, alpha: float, beta: float) -> Figure:
    """Four quantities against the step: area, margin, best reward, and the KLs of DAR's optimum at (alpha, beta)."""
    with style():
        figure = Figure(figsize=(9.6, 8.4))
        panels = list(figure.subplots(2, 2).flat)
        for ax in panels:
            shade_empty(ax, path)
            ax.set_xlabel("step of the path (grey: empty)")
        _draw_area(panels[0], path)
        _draw_margin(panels[1], path, alpha)
        _draw_reward(panels[2], path, alpha, beta)
        _draw_spent(panels[3], path, alpha, beta)
    return figure


def _row_of_simplexes(
    path: ConflictPath, shown: Sequence[int] | None, arms: Sequence[str], draw: Callable[[TernaryAxes, int], None]
) -> Figure:
    """Two simplexes to a row, one per step, with the legend above."""
    steps = list(np.linspace(0, len(path.log_path) - 1, 4).astype(int)) if shown is None else list(shown)
    rows = -(-len(steps) // 2)
    with style():
        figure = Figure(figsize=(8.4, 3.5 * rows + 0.8))
        handles = _region_handles(path)
        for number, step in enumerate(steps, start=1):
            ax = simplex_axes(figure, (rows, 2, number), arms)
            draw(ax, step)
            lines, labels = ax.get_legend_handles_labels()
            handles |= dict(zip(labels, lines, strict=True))
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=4, fontsize="small")
    return figure


def frames_figure(path: ConflictPath, shown: Sequence[int], *, arms: Sequence[str] = ARMS) -> Figure:
    """Three simplexes to a row: both constraints and their intersection, at the steps `shown` of the path."""
    rows = -(-len(shown) // 3)
    with style():
        figure = Figure(figsize=(9.0, 3.1 * rows))
        for number, step in enumerate(shown, start=1):
            draw_conflict(simplex_axes(figure, (rows, 3, number), arms), path, step, others=False)
    return figure


def conflict_gif(path: ConflictPath, alpha: float, beta: float, *, arms: Sequence[str] = ARMS, fps: int = 3) -> bytes:
    """Animate the path: both constraints, DAR at the same budgets, and the area left. Returns a GIF, see `animated`."""

    def draw(figure: Figure, step: int) -> None:
        figure.subplots_adjust(left=0.06, right=0.985, bottom=0.17, top=0.8, wspace=0.45)
        draw_conflict(simplex_axes(figure, (1, 3, 1), arms), path, step, others=False)
        draw_dar(simplex_axes(figure, (1, 3, 2), arms), path, step, alpha, beta)
        ax = figure.add_subplot(1, 3, 3)
        shade_empty(ax, path)
        ax.plot(path.area["kl"], color=VERMILION, linestyle="--")
        ax.plot([step], path.area["kl"][[step]], color=BLACK, marker="o")
        ax.set(
            xlabel="step of the path (grey: empty)",
            title="area both balls share\n(share of the simplex)",
            ylim=(0.0, None),
        )

    return animated(draw, len(path.log_path), (10.4, 3.4), fps)


def draw_conflict(ax: TernaryAxes, path: ConflictPath, step: int, *, others: bool = True) -> None:
    """Draw both KL balls at one step, their intersection, its best policy and the path so far.

    `others` adds the outlines of PPO's box and of the forward ball.
    """
    log_pi_t = path.log_path[step]
    draw_region(ax, path.log_pi_0, log_pi_t, path.eps_0, path.eps_t)
    if others:
        _draw_others(ax, path, step)
    draw_path(ax, path.log_path[: step + 1], GREY, "path so far")
    draw_policy(ax, path.log_pi_0, "pi_0")
    draw_policy(ax, log_pi_t, "pi_t")
    state = "no policy satisfies both"
    if not path.empty[step]:
        best = path.best["kl"][step]
        draw_policy(ax, best, "inside")
        state = f"best allowed E[r] = {np.exp(best) @ path.reward:.3f}"
    ax.set_title(f"step {step}\n{state}", pad=4, fontsize="small")


def draw_dar(ax: TernaryAxes, path: ConflictPath, step: int, alpha: float, beta: float) -> None:
    """Draw DAR at one step and the same budgets: the ball around `pi_ref` with its true radius, and `pi*`."""
    log_pi_0, log_pi_t = path.log_pi_0, path.log_path[step]
    radius = float(theory.matched_radius(log_pi_0, log_pi_t, alpha, path.eps_0, path.eps_t))
    draw_region(ax, log_pi_0, log_pi_t, path.eps_0, path.eps_t)
    draw_dar_ball(ax, log_pi_0, log_pi_t, alpha, radius)
    draw_policy(ax, log_pi_0, "pi_0")
    draw_policy(ax, log_pi_t, "pi_t")
    best = theory.optimum(path.reward, log_pi_0, log_pi_t, alpha, beta).log_pi
    draw_policy(ax, best, "pi_star")
    spent = f"{theory.kl(best, log_pi_0):.2f} and {theory.kl(best, log_pi_t):.2f}"
    ax.set_title(
        f"DAR, alpha {alpha:.2f}, beta {beta:.2f}: radius {radius:+.3f}{'' if radius >= 0.0 else ' (no ball)'}\n"
        f"π*: E[r] = {np.exp(best) @ path.reward:.3f}, KLs {spent}",
        pad=4,
        fontsize="small",
    )


def draw_dar_ball(ax: TernaryAxes, log_pi_0: ArrayLike, log_pi_t: ArrayLike, alpha: float, radius: float) -> None:
    """Draw `pi_ref` and, unless the radius (nats) is negative, the ball around it. Policies are log-probs, (3,)."""
    log_pi_ref = theory.interpolate(log_pi_0, log_pi_t, alpha).log_pi_ref
    if radius > 0.0:
        draw_set(
            ax,
            lambda log_pi: np.asarray(theory.kl(log_pi, log_pi_ref) - radius),
            log_pi_ref,
            PURPLE,
            linestyle=(0, (5, 1, 1, 1)),
            label="ball around π_ref",
        )
    draw_policy(ax, log_pi_ref, "pi_ref")


def _draw_others(ax: TernaryAxes, path: ConflictPath, step: int) -> None:
    log_pi_t = path.log_path[step]
    for stability in ("ppo_box", "forward_kl"):
        color, dashes, _, label = LOOK[stability]

        def gap(log_pi: Array, stability: Stability = stability) -> Array:
            return trust_gap(log_pi, log_pi_t, path.size(stability), stability)

        draw_set(ax, gap, log_pi_t, color, linestyle=dashes, fill=0.0, label=f"{label} <= {path.size(stability):g}")


def _draw_area(ax: Axes, path: ConflictPath) -> None:
    for stability, (color, dashes, marker, label) in LOOK.items():
        ax.plot(path.area[stability], color=color, linestyle=dashes, marker=marker, markersize=4, label=label)
    ax.set(title="area shared with the ball of π₀\n(share of the simplex)", ylim=(0.0, None))
    _legend_below(ax)


def _draw_margin(ax: Axes, path: ConflictPath, alpha: float) -> None:
    radius = theory.matched_radius(path.log_pi_0, path.log_path, alpha, path.eps_0, path.eps_t)
    ax.plot(path.margin, color=VERMILION, linestyle="--", marker="s", markersize=4, label="smallest over alpha: margin")
    ax.plot(radius, color=PURPLE, marker="D", markersize=4, label=f"at alpha = {alpha:.2f}")
    ax.axhline(0.0, color=BLACK, linewidth=1.0)
    equal = path.eps_0 == path.eps_t
    ax.set(title="radius of the ball around π_ref, nats" + ("\n(margin = eps - Chernoff information)" if equal else ""))
    _legend_below(ax)


def _draw_reward(ax: Axes, path: ConflictPath, alpha: float, beta: float) -> None:
    for stability, (color, dashes, marker, label) in LOOK.items():
        value = np.exp(path.best[stability]) @ path.reward
        ax.plot(value, color=color, linestyle=dashes, marker=marker, markersize=4, label=f"best inside, {label}")
    ax.plot(np.exp(_dar(path, alpha, beta)) @ path.reward, color=GREEN, marker="*", label="π* (DAR)")
    ax.plot(np.exp(path.log_path) @ path.reward, color=GREY, linewidth=1.0, label="πₜ itself")
    ax.set(title="expected reward E[r]")
    _legend_below(ax)


def _draw_spent(ax: Axes, path: ConflictPath, alpha: float, beta: float) -> None:
    best = _dar(path, alpha, beta)
    for name, anchor, budget, dashes in (
        ("pi_0", path.log_pi_0, path.eps_0, "-"),
        ("pi_t", path.log_path, path.eps_t, "--"),
    ):
        color, marker = COLORS[name], MARKERS[name]
        ax.plot(
            theory.kl(best, anchor), dashes, color=color, marker=marker, markersize=4, label=f"KL(π*‖{LABELS[name]})"
        )
        ax.axhline(budget, color=color, linestyle=dashes, linewidth=0.8)
    ax.set(title="what DAR's π* spends, nats\n(thin lines: the budgets)", ylim=(0.0, None))
    _legend_below(ax)


def _dar(path: ConflictPath, alpha: float, beta: float) -> Array:
    return theory.optimum(path.reward, path.log_pi_0, path.log_path, alpha, beta).log_pi


def _legend_below(ax: Axes) -> None:
    ax.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.18))


def shade_empty(ax: Axes, path: ConflictPath) -> None:
    """Shade the steps at which no policy satisfies both KL constraints."""
    for step in np.flatnonzero(path.empty):
        ax.axvspan(step - 0.5, step + 0.5, color=GREY, alpha=0.15, linewidth=0.0)
    ax.set_xlim(-0.5, len(path.empty) - 0.5)


def _region_handles(path: ConflictPath) -> dict[str, Any]:
    """Legend entries for what `draw_region` draws."""
    return {
        f"KL(π‖π₀) <= {path.eps_0:g}": Line2D([], [], color=COLORS["pi_0"]),
        f"KL(π‖πₜ) <= {path.eps_t:g}": Line2D([], [], color=COLORS["pi_t"], linestyle="--"),
        "both": Patch(facecolor=GREY, alpha=0.35, hatch="////", edgecolor=BLACK),
    }
