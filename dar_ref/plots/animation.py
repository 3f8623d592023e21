"""Animations: a GIF of any figure (`animated`), and paths of policies that move side by side (`paths_gif`)."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.animation import PillowWriter
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from dar_ref.plots.simplex import draw_path, draw_policy, simplex_axes
from dar_ref.plots.style import ARMS, style


def animated(draw: Callable[[Figure, int], None], frames: int, size: tuple[float, float], fps: int) -> bytes:
    """A GIF whose frame k is what `draw(figure, k)` puts on an empty figure; the last frame stays four times as long.

    Args:
        draw: draws one frame.
        frames: how many, >= 1.
        size: of the figure, in inches.
        fps: frames per second.

    Returns:
        The bytes of the GIF. `Path.write_bytes` saves it; in a page it is an image with a data address.
    """
    fixed = {"figure.constrained_layout.use": False}  # otherwise the panels move from frame to frame
    with style(), mpl.rc_context(fixed), tempfile.TemporaryDirectory() as folder:
        gif = Path(folder) / "animation.gif"
        figure, writer = Figure(figsize=size), PillowWriter(fps=fps)
        with writer.saving(figure, str(gif), dpi=80):
            for frame in range(frames):
                figure.clear()
                draw(figure, frame)
                for _ in range(4 if frame == frames - 1 else 1):
                    writer.grab_frame()
        return gif.read_bytes()


def paths_gif(
    paths: Mapping[str, ArrayLike], policies: Mapping[str, ArrayLike], arms: Sequence[str] = ARMS, *, fps: int = 3
) -> bytes:
    """Paths of policies on one simplex each, moving step by step. Returns a GIF, see `animated`.

    Args:
        paths: title -> policies (steps, 3), log-probabilities; all of the same length.
        policies: name in `LABELS` -> policy, marked in every panel.
        arms: names of the corners.
        fps: steps per second.
    """
    walks = {title: np.asarray(path, dtype=float) for title, path in paths.items()}

    def draw(figure: Figure, step: int) -> None:
        figure.subplots_adjust(left=0.12, right=0.88, bottom=0.12, top=0.74, wspace=0.7)
        for number, (title, path) in enumerate(walks.items(), start=1):
            ax = simplex_axes(figure, (1, len(walks), number), arms)
            draw_path(ax, path[: step + 1])
            for name, log_pi in policies.items():
                draw_policy(ax, log_pi, name)
            draw_policy(ax, path[step], "pi_t")
            ax.set_title(f"{title}\nstep {step}", pad=8)

    return animated(draw, len(next(iter(walks.values()))), (3.9 * len(walks), 3.8), fps)
