"""The noise map of notebook 05: where DAR's update is noisier than DAO's, and where it is less noisy."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import ArrayLike

from dar_ref.plots.style import BLACK, GREY, style


def noise_map(drifts: ArrayLike, sizes: ArrayLike, log_ratio: ArrayLike, plain: ArrayLike | None = None) -> Figure:
    """Draw log10 of DAR's noise over DAO's on a grid of drift and A/beta, with the boundary where both are equal.

    Args:
        drifts: distance of `pi_theta` from `pi_t` in nats, increasing, (D,) with D >= 2.
        sizes: A/beta in nats per standard deviation of A, positive, increasing, (S,) with S >= 2.
        log_ratio: log10 of the ratio, (S, D); negative where DAR is less noisy, which is hatched.
        plain: log10 of a second ratio (S, D), of which only the boundary is drawn, dashed.

    Raises:
        ValueError: `log_ratio` is not (S, D).
    """
    drifts, sizes, log_ratio = (np.asarray(x, dtype=float) for x in (drifts, sizes, log_ratio))
    if log_ratio.shape != (sizes.size, drifts.size):
        raise ValueError(
            f"log_ratio has shape {log_ratio.shape} for {sizes.size} sizes and {drifts.size} drifts; give one row per"
            " size and one column per drift"
        )
    largest = np.abs(log_ratio).max()
    with style():
        figure = Figure(figsize=(6.6, 4.2))
        ax = figure.subplots()
        ax.grid(False)
        shades = ax.pcolormesh(
            drifts, sizes, log_ratio, cmap="PuOr_r", vmin=-largest, vmax=largest, shading="gouraud", rasterized=True
        )
        with mpl.rc_context({"hatch.color": GREY, "hatch.linewidth": 0.5}):
            ax.contourf(drifts, sizes, log_ratio, levels=[-largest - 1.0, 0.0], colors="none", hatches=["//"])
        ax.contour(drifts, sizes, log_ratio, levels=[0.0], colors=[BLACK], linewidths=2.0)
        ax.plot([], [], color=BLACK, linewidth=2.0, label="equal noise")
        if plain is not None:
            ax.contour(drifts, sizes, plain, levels=[0.0], colors=[BLACK], linewidths=1.4, linestyles=["--"])
            ax.plot([], [], color=BLACK, linewidth=1.4, linestyle="--", label="equal, the pull counted as signal")
        ax.set(yscale="log", xlabel="drift of π_θ from πₜ, nats", ylabel="A / beta, nats per std of A")
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
        figure.colorbar(shades, ax=ax, label="log10 (DAR's noise / DAO's)")
        figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=2)
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85}
        for where, text in ((0.04, "DAR noisier"), (0.72, "DAR quieter")):
            ax.text(where, 0.9, text, transform=ax.transAxes, bbox=box)
    return figure
