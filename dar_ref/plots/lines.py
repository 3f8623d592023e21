"""Curves over one axis in the style of `dar_ref.plots`, for the simple figures of the notebooks."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from dar_ref.plots.policies import LOOKS, check_few
from dar_ref.plots.style import COLORS, GREY, MARKERS, style


def line_figure(
    x: ArrayLike,
    curves: Mapping[str, ArrayLike],
    xlabel: str,
    ylabel: str,
    *,
    xscale: str = "linear",
    yscale: str = "linear",
    xlim: tuple[float | None, float | None] | None = None,
    ylim: tuple[float | None, float | None] | None = None,
    marks: Mapping[str, float] | None = None,
) -> Figure:
    """Draw curves over a common axis; they differ in colour, dashes and marker.

    Labels name the units, scales are "linear" or "log", limits of None are matplotlib's.

    Args:
        x: (M,).
        curves: label -> values, (M,) or shorter; at most five. A method's name ("DAR", "dao") gets the method's colour
            and marker.
        marks: label -> x of a thin vertical line.

    >>> figure = line_figure([0, 1, 2], {"DAR": [1.0, 2.0, 4.0]}, "step", "reward", marks={"half way": 1.0})
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['DAR']
    """
    check_few("curves", curves)
    places = np.asarray(x, dtype=float)
    with style():
        figure = Figure(figsize=(6.4, 3.6))
        ax = figure.subplots()
        ax.set(xscale=xscale, yscale=yscale, xlabel=xlabel, ylabel=ylabel)
        for (label, values), (color, dashes, marker, _) in zip(curves.items(), LOOKS, strict=False):
            heights = np.asarray(values, dtype=float)
            ax.plot(
                places[: heights.size],
                heights,
                color=COLORS.get(label.lower(), color),
                linestyle=dashes,
                marker=MARKERS.get(label.lower(), marker),
                markersize=5,
                markevery=max(1, heights.size // 16),
                label=label,
            )
        ax.set(xlim=xlim, ylim=ylim)
        for label, place in (marks or {}).items():
            ax.axvline(place, color=GREY, linewidth=1.0)
            ax.annotate(label, (place, 0.03), (4, 0), ax.get_xaxis_transform(), "offset points", color=GREY)
        ax.legend(fontsize="small")
    return figure
