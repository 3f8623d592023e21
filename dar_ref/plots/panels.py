"""Several metrics of one run over the same steps, a small panel each."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from dar_ref.plots.policies import LOOKS
from dar_ref.plots.style import GREY, style

WIDTH, HEIGHT = 2.9, 2.5  # inches of a panel
COLUMNS = 3


def panels_figure(
    x: ArrayLike,
    panels: Mapping[str, ArrayLike],
    xlabel: str,
    title: str,
    *,
    levels: Mapping[str, float] | None = None,
) -> Figure:
    """Draw each metric in a panel of its own.

    Args:
        x: (M,).
        panels: title of a panel -> values, (M,).
        xlabel: of all panels.
        title: of the figure.
        levels: title of a panel -> height of a thin dashed line in it.

    >>> figure = panels_figure([0, 1], {"reward": [0.0, 1.0], "KL": [0.0, 3.0]}, "step", "a run", levels={"KL": 5.0})
    >>> [ax.get_title() for ax in figure.axes]
    ['reward', 'KL']
    """
    rows = -(-len(panels) // COLUMNS)
    color, dashes, _, _ = LOOKS[0]
    with style():
        figure = Figure(figsize=(WIDTH * min(COLUMNS, len(panels)), HEIGHT * rows + 0.4))
        figure.suptitle(title, fontsize="medium")
        for i, (name, values) in enumerate(panels.items()):
            ax = figure.add_subplot(rows, min(COLUMNS, len(panels)), i + 1)
            ax.plot(np.asarray(x, dtype=float), np.asarray(values, dtype=float), color=color, linestyle=dashes)
            ax.set(title=name, xlabel=xlabel if i // COLUMNS == rows - 1 else "")
            if name in (levels or {}):
                ax.axhline((levels or {})[name], color=GREY, linewidth=1.0, linestyle="--")
    return figure
