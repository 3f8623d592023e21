"""The conflict along a path of policies: the region of both constraints, and DAR at the same budgets.

    course = follow(log_pi_0, log_path, reward, eps_0, eps_t)    # numbers, for your own path
    conflict_figure(course, alpha, beta)                         # the main figure of the tutorial
    conflict_gif(course, alpha, beta)                            # the same as an animation, bytes of a GIF

Both sides are drawn at the same budgets, and the ball around `pi_ref` has its true radius
`alpha eps_0 + (1-alpha) eps_t + log C` (T7). More figures of DAR are in `plots.dar_ball`.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.animation import PillowWriter
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from mpltern.ternary import TernaryAxes
from numpy.typing import ArrayLike

from dar_ref import theory
from dar_ref.plots.conflict_path import Course
from dar_ref.plots.simplex import draw_path, draw_policy, draw_region, draw_set, simplex_axes, trust_gap
from dar_ref.plots.style import ARMS, BLACK, COLORS, GREEN, GREY, MARKERS, ORANGE, PURPLE, SKY, VERMILION, style
from dar_ref.theory.checks import Array
from dar_ref.theory.trust_regions import Stability

LOOK: dict[Stability, tuple[str, str, str, str]] = {
    "kl": (VERMILION, "--", "s", "KL(pi‖pi_t)"),
    "ppo_box": (ORANGE, ":", "^", "PPO's box"),
    "forward_kl": (SKY, "-.", "v", "KL(pi_t‖pi)"),
}
"""Colour, line, marker and label of each trust region around `pi_t`."""


def conflict_figure(
    course: Course,
    alpha: float,
    beta: float,
    *,
    shown: Sequence[int] | None = None,
    arms: Sequence[str] = ARMS,
) -> Figure:
    """The conflict and DAR at the same budgets: the simplex at four steps, and four quantities against the step.

    Args:
        course: from `plots.follow`.
        alpha: DAR's weight of `pi_0`, in [0, 1].
        beta: DAR's strength of the regulariser, > 0.
        shown: four steps to draw; by default evenly spaced.
        arms: names of the corners top, left and right.

    Returns:
        A figure of three rows. Top: both KL balls, their intersection (hatched) and its best policy; PPO's box and the
        forward ball as outlines. Middle: the ball around `pi_ref` for these budgets, and the maximiser of DAR's
        penalised objective. Bottom, against the step: area, margin, best reward, and the KLs of DAR's optimum.

    Raises:
        TypeError, ValueError: a number of steps that is not four, or a bad alpha or beta.
    """
    steps = list(np.linspace(0, len(course.log_path) - 1, 4).astype(int)) if shown is None else list(shown)
    if len(steps) != 4:
        raise ValueError(f"shown = {steps!r} names {len(steps)} steps; the figure has four columns, pass four")
    with style():
        figure = Figure(figsize=(13.0, 10.2))
        FigureCanvasAgg(figure)
        for column, step in enumerate(steps, start=1):
            top = simplex_axes(figure, (3, 4, column), arms)
            draw_conflict(top, course, step)
            middle = simplex_axes(figure, (3, 4, 4 + column), arms)
            draw_dar(middle, course, step, alpha, beta)
        handles = {label: line for ax in (top, middle, figure.axes[0], figure.axes[1]) for line, label in _legend(ax)}
        handles = _region_handles(course) | handles
        figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=6, fontsize="small")
        lower = [figure.add_subplot(3, 4, 8 + column) for column in range(1, 5)]
        for ax in lower:
            shade_empty(ax, course)
            ax.set_xlabel("step of the path (grey: empty)")
        _draw_area(lower[0], course)
        _draw_margin(lower[1], course, alpha)
        _draw_reward(lower[2], course, alpha, beta)
        _draw_spent(lower[3], course, alpha, beta)
    return figure


def frames_figure(course: Course, shown: Sequence[int], *, arms: Sequence[str] = ARMS) -> Figure:
    """A row of simplexes: both constraints and their intersection, at the steps `shown` of the path."""
    with style():
        figure = Figure(figsize=(3.0 * len(shown), 3.1))
        FigureCanvasAgg(figure)
        for column, step in enumerate(shown, start=1):
            draw_conflict(simplex_axes(figure, (1, len(shown), column), arms), course, step, others=False)
    return figure


def conflict_gif(course: Course, alpha: float, beta: float, *, arms: Sequence[str] = ARMS, fps: int = 3) -> bytes:
    """Animate the path: both constraints, DAR at the same budgets, and the area left; `fps` steps per second.

    Returns:
        The bytes of a GIF. `IPython.display.Image(data=...)` shows it, `Path.write_bytes` saves it.
    """
    fixed = {"figure.constrained_layout.use": False}  # otherwise the panels move from frame to frame
    with style(), mpl.rc_context(fixed), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "conflict.gif"
        figure = Figure(figsize=(10.4, 3.4))
        FigureCanvasAgg(figure)
        writer = PillowWriter(fps=fps)
        with writer.saving(figure, str(path), dpi=80):
            for step in range(len(course.log_path)):
                figure.clear()
                figure.subplots_adjust(left=0.06, right=0.985, bottom=0.17, top=0.8, wspace=0.45)
                draw_conflict(simplex_axes(figure, (1, 3, 1), arms), course, step, others=False)
                draw_dar(simplex_axes(figure, (1, 3, 2), arms), course, step, alpha, beta)
                ax = figure.add_subplot(1, 3, 3)
                shade_empty(ax, course)
                ax.plot(course.area["kl"], color=VERMILION, linestyle="--")
                ax.plot([step], course.area["kl"][[step]], color=BLACK, marker="o")
                ax.set(
                    xlabel="step of the path (grey: empty)",
                    title="area both balls share\n(share of the simplex)",
                    ylim=(0.0, None),
                )
                for _ in range(4 if step == len(course.log_path) - 1 else 1):  # pause at the end
                    writer.grab_frame()
        return path.read_bytes()


def draw_conflict(ax: TernaryAxes, course: Course, step: int, *, others: bool = True) -> None:
    """Draw both KL balls at one step, their intersection, its best policy and the path so far.

    `others` adds the outlines of PPO's box and of the forward ball.
    """
    log_pi_t = course.log_path[step]
    draw_region(ax, course.log_pi_0, log_pi_t, course.eps_0, course.eps_t)
    if others:
        _draw_others(ax, course, step)
    draw_path(ax, course.log_path[: step + 1], GREY, "path so far")
    draw_policy(ax, course.log_pi_0, "pi_0")
    draw_policy(ax, log_pi_t, "pi_t")
    state = "no policy satisfies both"
    if not course.empty[step]:
        best = course.best["kl"][step]
        draw_policy(ax, best, "inside")
        state = f"best allowed E[r] = {np.exp(best) @ course.reward:.3f}"
    ax.set_title(f"step {step}\n{state}", pad=4, fontsize="small")


def draw_dar(ax: TernaryAxes, course: Course, step: int, alpha: float, beta: float) -> None:
    """Draw DAR at one step and the same budgets: the ball around `pi_ref` with its true radius, and `pi*`."""
    log_pi_0, log_pi_t = course.log_pi_0, course.log_path[step]
    radius = float(theory.matched_radius(log_pi_0, log_pi_t, alpha, course.eps_0, course.eps_t))
    draw_region(ax, log_pi_0, log_pi_t, course.eps_0, course.eps_t)
    draw_dar_ball(ax, log_pi_0, log_pi_t, alpha, radius)
    draw_policy(ax, log_pi_0, "pi_0")
    draw_policy(ax, log_pi_t, "pi_t")
    best = theory.optimum(course.reward, log_pi_0, log_pi_t, alpha, beta).log_pi
    draw_policy(ax, best, "pi_star")
    spent = f"{theory.kl(best, log_pi_0):.2f} and {theory.kl(best, log_pi_t):.2f}"
    ax.set_title(
        f"DAR, alpha {alpha:.2f}, beta {beta:.2f}: radius {radius:+.3f}{'' if radius >= 0.0 else ' (no ball)'}\n"
        f"pi*: E[r] = {np.exp(best) @ course.reward:.3f}, KLs {spent}",
        pad=4,
        fontsize="small",
    )


def draw_dar_ball(ax: TernaryAxes, log_pi_0: ArrayLike, log_pi_t: ArrayLike, alpha: float, radius: float) -> None:
    """Draw `pi_ref` and, unless the radius is negative, the ball around it."""
    log_pi_ref = theory.interpolate(log_pi_0, log_pi_t, alpha).log_pi_ref
    if radius > 0.0:
        draw_set(
            ax,
            lambda log_pi: np.asarray(theory.kl(log_pi, log_pi_ref) - radius),
            log_pi_ref,
            PURPLE,
            linestyle=(0, (5, 1, 1, 1)),
            label="ball around pi_ref",
        )
    draw_policy(ax, log_pi_ref, "pi_ref")


def _draw_others(ax: TernaryAxes, course: Course, step: int) -> None:
    log_pi_t = course.log_path[step]
    for stability in ("ppo_box", "forward_kl"):
        color, dashes, _, label = LOOK[stability]

        def gap(log_pi: Array, stability: Stability = stability) -> Array:
            return trust_gap(log_pi, log_pi_t, course.size(stability), stability)

        draw_set(ax, gap, log_pi_t, color, linestyle=dashes, fill=0.0, label=f"{label} <= {course.size(stability):g}")


def _draw_area(ax: Axes, course: Course) -> None:
    for stability, (color, dashes, marker, label) in LOOK.items():
        area = np.where(course.area[stability] > 0.0, course.area[stability], np.nan)
        ax.plot(area, color=color, linestyle=dashes, marker=marker, markersize=4, label=label)
    ax.set(title="area shared with the ball of pi_0\n(share of the simplex, log scale)", yscale="log")
    _legend_below(ax)


def _draw_margin(ax: Axes, course: Course, alpha: float) -> None:
    radius = theory.matched_radius(course.log_pi_0, course.log_path, alpha, course.eps_0, course.eps_t)
    ax.plot(
        course.margin, color=VERMILION, linestyle="--", marker="s", markersize=4, label="smallest over alpha: margin"
    )
    ax.plot(radius, color=PURPLE, marker="D", markersize=4, label=f"at alpha = {alpha:.2f}")
    ax.axhline(0.0, color=BLACK, linewidth=1.0)
    equal = course.eps_0 == course.eps_t
    ax.set(
        title="radius of the ball around pi_ref, nats" + ("\n(margin = eps - Chernoff information)" if equal else "")
    )
    _legend_below(ax)


def _draw_reward(ax: Axes, course: Course, alpha: float, beta: float) -> None:
    for stability, (color, dashes, marker, label) in LOOK.items():
        value = np.exp(course.best[stability]) @ course.reward
        ax.plot(value, color=color, linestyle=dashes, marker=marker, markersize=4, label=f"best inside, {label}")
    ax.plot(np.exp(_dar(course, alpha, beta)) @ course.reward, color=GREEN, marker="*", label="pi* (DAR)")
    ax.plot(np.exp(course.log_path) @ course.reward, color=GREY, linewidth=1.0, label="pi_t itself")
    ax.set(title="expected reward E[r]")
    _legend_below(ax)


def _draw_spent(ax: Axes, course: Course, alpha: float, beta: float) -> None:
    best = _dar(course, alpha, beta)
    for name, anchor, budget, dashes in (
        ("pi_0", course.log_pi_0, course.eps_0, "-"),
        ("pi_t", course.log_path, course.eps_t, "--"),
    ):
        color, marker = COLORS[name], MARKERS[name]
        ax.plot(theory.kl(best, anchor), dashes, color=color, marker=marker, markersize=4, label=f"KL(pi*‖{name})")
        ax.axhline(budget, color=color, linestyle=dashes, linewidth=0.8)
    ax.set(title="what DAR's pi* spends, nats\n(thin lines: the budgets)", ylim=(0.0, None))
    _legend_below(ax)


def _dar(course: Course, alpha: float, beta: float) -> Array:
    return theory.optimum(course.reward, course.log_pi_0, course.log_path, alpha, beta).log_pi


def _legend_below(ax: Axes) -> None:
    ax.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.18))


def shade_empty(ax: Axes, course: Course) -> None:
    """Shade the steps at which no policy satisfies both KL constraints."""
    for step in np.flatnonzero(course.empty):
        ax.axvspan(step - 0.5, step + 0.5, color=GREY, alpha=0.15, linewidth=0.0)
    ax.set_xlim(-0.5, len(course.empty) - 0.5)


def _region_handles(course: Course) -> dict[str, Any]:
    """Legend entries for what `draw_region` draws."""
    return {
        f"KL(pi‖pi_0) <= {course.eps_0:g}": Line2D([], [], color=COLORS["pi_0"]),
        f"KL(pi‖pi_t) <= {course.eps_t:g}": Line2D([], [], color=COLORS["pi_t"], linestyle="--"),
        "both": Patch(facecolor=GREY, alpha=0.35, hatch="////", edgecolor=BLACK),
    }


def _legend(ax: TernaryAxes) -> list[tuple[Any, str]]:
    return list(zip(*ax.get_legend_handles_labels(), strict=True))
