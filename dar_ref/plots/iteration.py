"""The figure of notebook 06: DAR's iteration with A divided by its std under pi_t."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from dar_ref import theory
from dar_ref.plots.style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION, style
from dar_ref.theory.checks import Array

LOOKS = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (PURPLE, "D"), (VERMILION, "v"), (GREY, "P"))


def normalization_figure(
    advantage: ArrayLike,
    log_pi_0: ArrayLike,
    beta: float,
    alphas: Sequence[float],
    alpha_betas: Sequence[float],
    steps: int = 12,
) -> Figure:
    """Two arms. Left: why A / std may have no fixed point. Right: the iteration with and without the std.

    Left: the curve `h(theta)` and, for each `alpha beta`, the level `1/(alpha beta)`. A crossing is a fixed point.
    Right: log odds of the better arm from step 1 on, with A as given (a colour for each alpha) and A / std (black).

    Args:
        advantage: A (2,), finite, two different values.
        log_pi_0: initial policy (2,), log-probabilities, both arms above 0.
        beta: beta of the runs on the right.
        alphas: alphas of the runs on the right, `> 0`, at most six.
        alpha_betas: levels on the left, `> 0`, at most six.
        steps: number of updates of the runs.

    Raises:
        ValueError: more alphas or levels than there are colours.

    Source: T5, batch normalisation; `dar_ref.theory.normalization`.
    """
    if max(len(alphas), len(alpha_betas)) > len(LOOKS):
        raise ValueError(f"{len(alphas)} alphas and {len(alpha_betas)} levels; pass at most {len(LOOKS)} of each")
    with style():
        figure = Figure(figsize=(10.5, 4.2))
        left, right = figure.subplots(1, 2)
        _levels(left, advantage, log_pi_0, alpha_betas)
        _runs(right, advantage, log_pi_0, beta, alphas, steps)
    return figure


def _levels(ax: Axes, advantage: ArrayLike, log_pi_0: ArrayLike, alpha_betas: Sequence[float]) -> None:
    gap = float(np.ptp(np.asarray(advantage)))
    tilts = np.linspace(0.0, 8.0, 801)
    curve = theory.log_ratio_std(advantage, log_pi_0, tilts / gap)
    ax.plot(tilts[1:], curve[1:], color=BLACK, linewidth=2.0, label="h, all that a policy can offer")
    dashes = ("--", "-.", ":", (0, (5, 1)), (0, (1, 1)), "--")
    for level, (color, _), dash in zip(alpha_betas, LOOKS, dashes, strict=False):
        ax.axhline(1.0 / level, color=color, linestyle=dash)
        where: dict[str, Any] = {"xy": (1.01, 1.0 / level), "xycoords": ax.get_yaxis_transform(), "va": "center"}
        ax.annotate(f"alpha beta\n= {level:.4g}", color=color, fontsize="small", **where)
    ax.set(
        yscale="log",
        ylim=(2e-2, 2e3),
        xlabel="log odds gained over π₀, nats",
        ylabel="std of log(π/π₀) under π, nats",
        title="a fixed point is a crossing of h and 1/(alpha beta)",
    )
    ax.legend(loc="upper left", fontsize="small")


def _runs(
    ax: Axes, advantage: ArrayLike, log_pi_0: ArrayLike, beta: float, alphas: Sequence[float], steps: int
) -> None:
    better = int(np.argmax(np.asarray(advantage)))
    ax.set(yscale="log", ylim=(10.0, 1e12))  # set before plotting: autoscaling overflows at 1e300
    after = range(1, steps + 1)  # at even arms the log odds of step 0 are 0, which a logarithmic axis has not

    def odds(alpha: float, normalize: Literal["standardize"] | None) -> Array:
        path = theory.iterate(advantage, log_pi_0, alpha, beta, steps, normalize=normalize)
        return path[1:, better] - path[1:, 1 - better]

    for alpha, (color, marker) in zip(alphas, LOOKS, strict=False):
        look: dict[str, Any] = {"color": color, "marker": marker, "markersize": 5}
        ax.plot(after, odds(alpha, None), label=f"A fixed, alpha = {alpha:g}", **look)
    for k, alpha in enumerate(alphas):  # often they coincide, so they have one look
        label = "A / std, each alpha" if k == 0 else None
        ax.plot(after, odds(alpha, "standardize"), "--x", color=BLACK, markersize=5, label=label)
    ax.set(
        xlabel="step t", ylabel="log odds of the better arm, nats", title=f"beta = {beta:g}: where the iteration goes"
    )
    ax.legend(fontsize="small", loc="center right")
