"""Figures of DAR in the conflict: its ball at given budgets, its optimum, its multipliers (T7)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from dar_ref import theory
from dar_ref.plots.conflict import draw_dar, draw_dar_ball, shade_empty
from dar_ref.plots.conflict_path import ConflictPath
from dar_ref.plots.simplex import draw_policy, draw_region, simplex_axes
from dar_ref.plots.style import ARMS, BLACK, GREEN, GREY, PURPLE, SKY, style


def matched_figure(
    log_pi_0: ArrayLike,
    log_pi_t: ArrayLike,
    eps_0: float,
    eps_t: float,
    alpha: float,
    *,
    arms: Sequence[str] = ARMS,
) -> Figure:
    """The ball around `pi_ref` at given budgets: with its true radius, and without `log C` (labelled as wrong)."""
    log_c = float(theory.interpolate(log_pi_0, log_pi_t, alpha).log_c)
    radius = float(theory.matched_radius(log_pi_0, log_pi_t, alpha, eps_0, eps_t))
    with style():
        figure = Figure(figsize=(9.0, 4.0))
        for column, (shown, title) in enumerate(
            ((radius, "true radius"), (radius - log_c, "WRONG: log C left out")), 1
        ):
            ax = simplex_axes(figure, (1, 2, column), arms)
            draw_region(ax, log_pi_0, log_pi_t, eps_0, eps_t)
            draw_dar_ball(ax, log_pi_0, log_pi_t, alpha, shown)
            draw_policy(ax, log_pi_0, "pi_0")
            draw_policy(ax, log_pi_t, "pi_t")
            ax.set_title(f"{title}: {shown:+.3f} nats{'' if shown >= 0.0 else ', no ball'}", pad=18)
        ax.legend(loc="upper left", bbox_to_anchor=(0.8, 1.0), fontsize="small")
    return figure


def dar_figure(
    path: ConflictPath, step: int, settings: Sequence[tuple[float, float]], *, arms: Sequence[str] = ARMS
) -> Figure:
    """Simplexes, two to a row: DAR at one step of the path, one panel per pair (alpha, beta) of `settings`."""
    columns = min(2, len(settings))
    rows = -(-len(settings) // columns)
    with style():
        figure = Figure(figsize=(4.4 * columns, 4.0 * rows))
        for number, (alpha, beta) in enumerate(settings, start=1):
            ax = simplex_axes(figure, (rows, columns, number), arms)
            draw_dar(ax, path, step, alpha, beta)
    return figure


def radius_figure(path: ConflictPath, steps: Sequence[int]) -> Figure:
    """True radius of the ball around `pi_ref` against alpha, for up to four steps; its minimum is the margin."""
    alphas = np.linspace(0.0, 1.0, 201)
    with style():
        figure = Figure(figsize=(6.5, 3.6))
        ax = figure.subplots()
        for step, color, dashes in zip(steps, (BLACK, SKY, GREEN, PURPLE), ("-", "--", "-.", ":"), strict=False):
            bandit = path.log_pi_0, path.log_path[step]
            radii = [theory.matched_radius(*bandit, alpha, path.eps_0, path.eps_t) for alpha in alphas]
            ax.plot(alphas, radii, color=color, linestyle=dashes, label=f"step {step}")
            ax.plot(path.certificate[step], path.margin[step], color=color, marker="o")
        ax.axhline(0.0, color=GREY, linewidth=1.0)
        ax.set(xlabel="alpha, the weight of π₀", ylabel="radius, nats", title="ball around π_ref (dots: the margin)")
        ax.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def multiplier_figure(path: ConflictPath) -> Figure:
    """DAR's alpha and beta at the best policy of the region against the step; the certificate where it is empty."""
    with style():
        figure = Figure(figsize=(9.0, 3.4))
        left, right = figure.subplots(1, 2)
        for ax in (left, right):
            shade_empty(ax, path)
            ax.set_xlabel("step of the path (grey: region empty)")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        left.plot(path.alpha, color=BLACK, marker="o", markersize=4, label="multipliers' alpha")
        left.plot(path.certificate, color=PURPLE, linestyle=":", marker="D", markersize=3, label="certificate's alpha")
        left.set(title="alpha = λ0 / (λ0 + λt)", ylim=(-0.05, 1.05))
        left.legend(fontsize="small")
        right.plot(path.beta, color=BLACK, marker="o", markersize=4)
        right.set(title="beta = λ0 + λt, units of r per nat", ylim=(0.0, None))
    return figure
