"""Policies over three arms on the simplex: points, paths, sets, and both constraints in one call (`region_figure`).

Here and in the other figures, policies are log-probabilities over three arms (3,), `advantage` is (3,) and finite,
radii `eps_0` and `eps_t` are nats, and `arms` names the corners top, left and right. Bad input raises TypeError or
ValueError, as in `dar_ref.theory`. Figures are matplotlib's: a notebook shows one, `save_png` writes it.
"""

from collections.abc import Sequence
from typing import cast, get_args

import numpy as np
from matplotlib.figure import Figure
from mpltern.ternary import TernaryAxes
from numpy.typing import ArrayLike

from dar_ref import scalars, theory
from dar_ref.plots.simplex_boundary import Gap, boundary
from dar_ref.plots.style import ARMS, BLACK, COLORS, GREY, LABELS, MARKERS, style
from dar_ref.theory.checks import Array
from dar_ref.theory.trust_regions import Stability


def simplex_axes(figure: Figure, position: tuple[int, int, int] = (1, 1, 1), arms: Sequence[str] = ARMS) -> TernaryAxes:
    """Add ternary axes for policies over three arms; a corner is the policy that always plays the arm named there.

    `position` is (rows, columns, index) as in matplotlib. On mpltern's axes, plain matplotlib calls take the three
    probabilities in the order of the arms.

    Raises:
        ValueError: not three arms.
    """
    if len(arms) != 3:
        raise ValueError(f"arms = {list(arms)!r} names {len(arms)} corners, a triangle has 3; pass three names")
    ax = cast("TernaryAxes", figure.add_subplot(*position, projection="ternary"))
    ax.grid(False)
    for axis, name in zip((ax.taxis, ax.laxis, ax.raxis), arms, strict=True):
        axis.set_ticks([])
        axis.set_label_position("corner")
        axis.set_label_rotation_mode("horizontal")
        axis.set_label_text(name)
    return ax


def draw_region(
    ax: TernaryAxes,
    log_pi_0: ArrayLike,
    log_pi_t: ArrayLike,
    eps_0: float,
    eps_t: float,
    *,
    stability: Stability = "kl",
    resolution: int = 181,
) -> None:
    """Draw `KL(pi‖pi_0) <= eps_0`, the trust region around `pi_t`, and their intersection, filled and hatched.

    `stability` is "kl", "ppo_box" (`eps_t` is then a relative change) or "forward_kl", as in `theory.region_volume`;
    `resolution` is the number of points on each boundary.
    """

    def anchored(log_pi: Array) -> Array:
        return np.asarray(theory.kl(log_pi, log_pi_0) - eps_0)

    def trusted(log_pi: Array) -> Array:
        return trust_gap(log_pi, log_pi_t, eps_t, stability)

    draw_set(ax, anchored, log_pi_0, COLORS["pi_0"], resolution=resolution)
    draw_set(ax, trusted, log_pi_t, COLORS["pi_t"], linestyle="--", resolution=resolution)
    shared = theory.closest(log_pi_0, log_pi_t, eps_t, stability=stability)
    if shared.divergence <= eps_0:
        ring = boundary(lambda log_pi: np.maximum(anchored(log_pi), trusted(log_pi)), shared.log_pi, resolution)
        ax.fill(*ring.T, facecolor=GREY, alpha=0.35, hatch="////", edgecolor=BLACK, linewidth=0.0)


def draw_set(
    ax: TernaryAxes,
    gap: Gap,
    log_inside: ArrayLike,
    color: str,
    *,
    linestyle: str | tuple[float, tuple[float, ...]] = "-",
    fill: float = 0.13,
    resolution: int = 181,
    label: str | None = None,
) -> None:
    """Draw a convex set of policies, `gap <= 0`: its boundary and, unless `fill` is 0, its interior in a light colour.

    Args:
        ax: from `simplex_axes`.
        gap: see `boundary`.
        log_inside: a policy of the set, (3,).
        color: of boundary and interior.
        linestyle: of the boundary, so that sets differ in more than colour.
        fill: opacity of the interior.
        resolution: number of points on the boundary.
        label: legend entry.
    """
    ring = boundary(gap, log_inside, resolution)
    if fill:
        ax.fill(*ring.T, facecolor=color, alpha=fill, linewidth=0.0)
    closed = np.vstack([ring, ring[:1]])
    ax.plot(*closed.T, color=color, linewidth=1.6, linestyle=linestyle, label=label)


def draw_policy(ax: TernaryAxes, log_pi: ArrayLike, name: str, label: str | None = None) -> None:
    """Mark one policy (3,); `name` is a key of `LABELS` and sets colour, marker and, unless given, the label."""
    point = np.exp(np.asarray(log_pi, dtype=float))
    size = 14 if MARKERS[name] == "*" else 8  # a star looks smaller than other markers
    look = {"color": COLORS[name], "marker": MARKERS[name], "markersize": size, "markeredgecolor": "white"}
    look |= {"zorder": 5, "clip_on": False}  # markers on an edge of the triangle are drawn whole
    ax.plot(*(point[k : k + 1] for k in range(3)), linestyle="none", label=label or LABELS[name], **look)


def draw_path(ax: TernaryAxes, log_policies: ArrayLike, color: str = BLACK, label: str | None = None) -> None:
    """Draw a path through policies (steps, 3), for example `theory.iterate(...)`."""
    ax.plot(*np.exp(np.asarray(log_policies, dtype=float)).T, color=color, linewidth=1.0, marker=".", label=label)


def region_figure(
    log_pi_0: ArrayLike,
    log_pi_t: ArrayLike,
    advantage: ArrayLike,
    eps_0: float,
    eps_t: float,
    *,
    stability: Stability = "kl",
    arms: Sequence[str] = ARMS,
) -> Figure:
    """Both constraints on the simplex, the interpolated policies between the anchors, and the best allowed policy.

    `stability` is as in `draw_region`.

    Source: the paper's conflict; T6, T7, T9.

    >>> figure = region_figure(*np.log([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]]), np.array([0.0, 1.0, 0.0]), 0.4, 0.4)
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['π₀', 'πₜ', 'π₀^a πₜ^(1-a)', 'best allowed']
    """
    with style():
        figure = Figure(figsize=(5.2, 4.8))
        ax = simplex_axes(figure, arms=arms)
        draw_region(ax, log_pi_0, log_pi_t, eps_0, eps_t, stability=stability)
        draw_policy(ax, log_pi_0, "pi_0")
        draw_policy(ax, log_pi_t, "pi_t")
        weights = np.linspace(0.001, 0.999, 60)
        between = [theory.interpolate(log_pi_0, log_pi_t, weight).log_pi_ref for weight in weights]
        ax.plot(*np.exp(between).T, color=COLORS["pi_ref"], linestyle=":", linewidth=1.4, label="π₀^a πₜ^(1-a)")
        best = theory.best_reward(advantage, log_pi_0, log_pi_t, eps_0, eps_t, stability=stability)
        empty = bool(np.isnan(best.value))
        if not empty:
            draw_policy(ax, best.log_pi, "inside")
        ax.set_title("no policy satisfies both" if empty else f"best allowed E[A] = {best.value:.3f}", pad=18)
        ax.legend(loc="upper left", bbox_to_anchor=(-0.12, 1.02), fontsize="small")
    return figure


def simplex_grid(resolution: int) -> Array:
    """Log-probabilities (M, 3) of an even grid over the triangle, `resolution` points per side, edges included."""
    first, second = np.meshgrid(np.arange(resolution), np.arange(resolution), indexing="ij")
    inside = first + second < resolution
    counts = np.stack([first[inside], second[inside], resolution - 1 - first[inside] - second[inside]], axis=-1)
    with np.errstate(divide="ignore"):  # the edges have probability zero
        return np.log(counts / (resolution - 1.0))


def trust_gap(log_pi: ArrayLike, log_pi_t: ArrayLike, eps_t: float, stability: Stability) -> Array:
    """Distance (...) of policies (..., A) outside the trust region around `pi_t`: negative inside, 0 at its edge."""
    scalars.choice("stability", stability, get_args(Stability))
    if stability == "kl":
        return np.asarray(theory.kl(log_pi, log_pi_t) - eps_t)
    if stability == "forward_kl":
        return np.asarray(theory.kl(log_pi_t, log_pi) - eps_t)
    pi, pi_t = np.exp(np.asarray(log_pi)), np.exp(np.asarray(log_pi_t))
    return np.asarray((np.abs(pi - pi_t) - eps_t * pi_t).max(axis=-1))
