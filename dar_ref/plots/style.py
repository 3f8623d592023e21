"""The common style of every figure: colours, markers, sizes, files.

The colours are Okabe and Ito's, which are distinct for the common colour-vision deficiencies. Each object has the same
colour in all figures, and objects never differ in colour alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE, SKY, BLACK, GREY = "#CC79A7", "#56B4E9", "#000000", "#6B6B6B"

LOOK_OF = {  # of a policy or a method: colour, marker
    "pi_0": (BLUE, "o"),
    "pi_t": (VERMILION, "s"),
    "pi_ref": (PURPLE, "D"),
    "pi_star": (GREEN, "*"),
    "inside": (BLACK, "X"),
    "dar": (BLUE, "o"),
    "grpo": (ORANGE, "s"),
    "dao": (PURPLE, "^"),
    "rloo": (GREEN, "D"),
}
COLORS = {name: color for name, (color, _) in LOOK_OF.items()}
MARKERS = {name: marker for name, (_, marker) in LOOK_OF.items()}
LABELS = {"pi_0": "π₀", "pi_t": "πₜ", "pi_ref": "π_ref", "pi_star": "π* (DAR)", "inside": "best allowed"}
ARMS = ("arm 1", "arm 2", "arm 3")

RC: dict[str, Any] = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "figure.constrained_layout.use": True,
    "figure.dpi": 110,
    "font.size": 10.0,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "savefig.dpi": 150,
    "svg.hashsalt": "dar_ref",
}


@contextmanager
def style() -> Iterator[None]:
    """Use the package's matplotlib settings inside the block and restore the user's settings after it."""
    with mpl.rc_context(RC):
        yield


def save_png(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG, without metadata that differs between runs; return the path.

    Raises:
        OSError: the folder is not writable.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=RC["savefig.dpi"], metadata={"Software": None})
    return path
