"""Figures of policies: level sets and paths on the simplex, pi* as a function of alpha and beta, the weights.

They share the style of `dar_ref.plots`. A `..._figure` function draws a whole figure of your own bandit; a `draw_`
function adds to existing axes. Every panel names its setting. Lines differ in dashes or marker as well as in colour.
"""

from collections.abc import Callable, Mapping, Sequence, Sized
from statistics import NormalDist

import numpy as np
from matplotlib.figure import Figure
from mpltern.ternary import TernaryAxes
from numpy.typing import ArrayLike

from dar_ref import theory
from dar_ref.plots.simplex import draw_policy, simplex_axes, simplex_grid
from dar_ref.plots.style import ARMS, BLACK, BLUE, COLORS, GREEN, GREY, ORANGE, PURPLE, VERMILION, style
from dar_ref.theory.checks import Array

LOOKS = (  # for lines and bars without a style of their own: colour, dashes, marker, hatch
    (BLUE, "-", "o", ""),
    (VERMILION, "--", "s", "////"),
    (GREEN, "-.", "^", "...."),
    (PURPLE, ":", "D", "xxxx"),
    (BLACK, (0, (5, 1, 1, 1, 1, 1)), "v", "\\\\\\\\"),
)


def check_few(what: str, drawn: Sized) -> None:
    """Raise ValueError if there are more lines or bars than looks."""
    if len(drawn) > len(LOOKS):
        raise ValueError(f"{len(drawn)} {what} are too many to tell apart; pass at most {len(LOOKS)}")


def draw_levels(
    ax: TernaryAxes,
    divergence: Callable[[Array], Array],
    levels: Sequence[float],
    color: str = BLACK,
    dashes: str = "-",
    *,
    numbers: bool = True,
) -> None:
    """Draw the level sets of a function of the policy, each with its value.

    Args:
        ax: from `simplex_axes`.
        divergence: from log-probabilities (M, 3) to values (M,), for example `lambda pi: theory.kl(pi, log_pi_0)`.
        levels: values to draw, increasing.
        color: colour of lines and numbers.
        dashes: matplotlib's line style.
        numbers: write the value on each line, to two decimals.
    """
    grid = simplex_grid(181)
    values = np.minimum(divergence(grid), 1e3)  # matplotlib interpolates between grid points
    lines = ax.tricontour(
        *np.exp(grid).T, values, levels=list(levels), colors=[color], linewidths=1.4, linestyles=[dashes]
    )
    if numbers:
        ax.clabel(lines, fmt="%.2f", fontsize=8)


def paths_figure(
    paths: Mapping[str, ArrayLike], policies: Mapping[str, ArrayLike], arms: Sequence[str] = ARMS
) -> Figure:
    """One simplex per path, side by side.

    Args:
        paths: title -> policies (steps, 3), log-probabilities, in the order of the steps; the last one is a square.
        policies: name in `LABELS` -> policy, marked in every panel.
    """
    with style():
        figure = Figure(figsize=(3.6 * len(paths), 3.6))
        for index, (title, path) in enumerate(paths.items()):
            ax = simplex_axes(figure, (1, len(paths), index + 1), arms)
            pi = np.exp(np.asarray(path, dtype=float))
            dots = {"color": BLACK, "linewidth": 0.6, "marker": ".", "markersize": 4}
            ax.plot(*pi.T, label="the policy, step by step; the last is square", **dots)
            end = {"color": BLACK, "marker": "s", "markersize": 8, "markeredgecolor": "white", "linestyle": "none"}
            ax.plot(*pi[-1:].T, zorder=6, **end)
            for name, log_pi in policies.items():
                draw_policy(ax, log_pi, name)
            ax.set_title(title, pad=20)
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=1 + len(policies))
    return figure


def optimum_figure(
    advantage: ArrayLike,
    log_pi_0: ArrayLike,
    log_pi_t: ArrayLike,
    settings: Sequence[tuple[float, float]],
    arms: Sequence[str] = ARMS,
) -> Figure:
    """`pi_0`, `pi_t`, their interpolation `pi_ref` and the optimum `pi*`: one simplex per (alpha, beta).

    Dotted: all interpolations. Solid: the optimum as beta falls from infinity (`pi_ref`) to its value (`pi*`).

    The pairs (alpha, beta) of `settings` are drawn in rows of up to three.

    Source: T1 and T2.

    >>> two = optimum_figure(np.array([1.0, 0.0, 0.0]), *np.log([[0.2, 0.6, 0.2], [0.5, 0.1, 0.4]]), [(0, 1), (1, 1)])
    >>> [ax.get_title() for ax in two.axes]
    ['alpha 0, beta 1', 'alpha 1, beta 1']
    """
    columns = min(3, len(settings))
    rows = -(-len(settings) // columns)
    with style():
        figure = Figure(figsize=(max(3.4 * columns, 5.0), 3.1 * rows + 0.4))
        weights = np.linspace(0.001, 0.999, 60)
        between = np.stack([theory.interpolate(log_pi_0, log_pi_t, weight).log_pi_ref for weight in weights])
        for index, (alpha, beta) in enumerate(settings):
            ax = simplex_axes(figure, (rows, columns, index + 1), arms)
            best = theory.optimum(advantage, log_pi_0, log_pi_t, alpha, beta).log_pi
            log_pi_ref = theory.interpolate(log_pi_0, log_pi_t, alpha).log_pi_ref
            ax.plot(*np.exp(between).T, color=COLORS["pi_ref"], linestyle=":", linewidth=1.2)
            tilts = np.geomspace(max(1e3, beta), beta, 80)
            tilted = [theory.optimum(advantage, log_pi_0, log_pi_t, alpha, float(tilt)).log_pi for tilt in tilts]
            ax.plot(*np.exp(tilted).T, color=COLORS["pi_star"], linewidth=1.2)
            for name, log_pi in (("pi_ref", log_pi_ref), ("pi_0", log_pi_0), ("pi_t", log_pi_t), ("pi_star", best)):
                draw_policy(ax, log_pi, name)
            ax.set_title(f"alpha {alpha:.3g}, beta {beta:.3g}", pad=20)
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def dials_figure(
    advantage: ArrayLike,
    log_pi_0: ArrayLike,
    log_pi_t: ArrayLike,
    values: Sequence[float],
    *,
    arms: Sequence[str] = ARMS,
) -> Figure:
    """Paths of the optimum `pi*`. Left: beta from large to small at each alpha. Right: alpha from 0 to 1 at each beta.

    All arrays are (3,), policies as log-probs. The left panel shows alpha 0, 1/4, 1/2, 3/4 and 1; `values` are up to
    five betas for the right one, in units of the advantage per nat.

    Source: T2.
    """
    check_few("betas", values)
    betas, alphas = np.geomspace(1e3, 1e-2, 200), np.linspace(0.0, 1.0, 41)
    by_beta = {a: [(a, float(b)) for b in betas] for a in (0.0, 0.25, 0.5, 0.75, 1.0)}
    by_alpha = {b: [(float(a), b) for a in alphas] for b in values}
    with style():
        figure = Figure(figsize=(9.6, 4.6))
        for index, (title, name, curves) in enumerate(
            (("beta from 1000 down to 0.01", "alpha", by_beta), ("alpha from 0 to 1", "beta", by_alpha))
        ):
            ax = simplex_axes(figure, (1, 2, index + 1), arms)
            for (color, dashes, _, _), (dial, settings) in zip(LOOKS, curves.items(), strict=False):
                path = [theory.optimum(advantage, log_pi_0, log_pi_t, *setting).log_pi for setting in settings]
                line = {"color": color, "linestyle": dashes, "linewidth": 1.6}
                ax.plot(*np.exp(path).T, label=f"{name} {dial:.3g}", **line)
            for anchor, log_pi in (("pi_0", log_pi_0), ("pi_t", log_pi_t)):
                draw_policy(ax, log_pi, anchor)
            ax.set_title(title, pad=20)
            ax.legend(loc="upper left", bbox_to_anchor=(-0.16, 1.04), fontsize="small")
    return figure


def bars_figure(policies: Mapping[str, ArrayLike], arms: Sequence[str], xlabel: str = "arm") -> Figure:
    """Several policies as grouped bars, which differ in colour and hatch.

    `policies` maps labels to policies (A,), at most five; `arms` are A names, `xlabel` the title of their axis.
    """
    check_few("policies", policies)
    with style():
        figure = Figure(figsize=(max(5.5, 0.62 * len(arms)), 3.0))
        ax = figure.add_subplot()
        width = 0.8 / len(policies)
        for index, (label, log_pi) in enumerate(policies.items()):
            color, _, _, hatch = LOOKS[index]
            place = np.arange(len(arms)) + (index - (len(policies) - 1) / 2) * width
            ax.bar(place, np.exp(log_pi), width, label=label, color=color, hatch=hatch, edgecolor="white")
        ax.set_xticks(range(len(arms)), arms)
        ax.set(xlabel=xlabel, ylabel="probability")
        ax.grid(False, axis="x")
        figure.legend(loc="outside upper center", ncols=len(policies))
    return figure


def weight_figure(beta: float, w_clip: float, edge: float = 0.01) -> Figure:
    """The weight as a function of a Gaussian advantage, and the shares of samples at the clip and below `edge`.

    Left: `min(exp(A/beta), w_clip)` against A. Right: the density of A, cut into three parts.

    Args:
        beta: strength of the regulariser, > 0, in units of the advantage's standard deviation per nat.
        w_clip: upper bound of the weight, > `edge`.
        edge: a weight below it counts as dead.

    Source: T4, with `w_reg = 1` and `A ~ N(0, 1)`.
    """
    normal, low, high = NormalDist(), beta * np.log(edge), beta * np.log(w_clip)
    a = np.linspace(-3.0, 3.0, 1201)
    parts = (
        (a <= low, f"w < {edge:g}", normal.cdf(low), GREY, "...."),
        ((a >= low) & (a <= high), "between", normal.cdf(high) - normal.cdf(low), ORANGE, ""),
        (a >= high, f"w = {w_clip:g} (clipped)", 1.0 - normal.cdf(high), BLUE, "////"),
    )
    density = np.exp(-0.5 * a**2) / np.sqrt(2.0 * np.pi)
    with style():
        figure = Figure(figsize=(9.6, 3.2))
        left, right = figure.subplots(1, 2)
        left.plot(a, np.minimum(np.exp(np.minimum(a / beta, 700.0)), w_clip), color=BLACK)
        left.set(xlabel="normalised advantage A (standard deviations)", ylabel="weight min(w, w_clip)")
        left.set_title(f"the weight: beta {beta:g}, w_clip {w_clip:g}")
        for inside, label, share, color, hatch in parts:
            look = {"facecolor": color, "hatch": hatch, "edgecolor": "white", "linewidth": 0.0}
            right.fill_between(a[inside], density[inside], label=f"{label}: {share:.1%}", **look)
        right.set(xlabel="normalised advantage A (standard deviations)", ylabel="density of A", ylim=(0.0, None))
        right.set_title("where the samples fall, if A is Gaussian")
        figure.legend(*right.get_legend_handles_labels(), loc="outside lower right", ncols=3)
    return figure
