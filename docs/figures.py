"""The pictures of the site: `.venv/bin/python docs/figures.py` writes docs/images/*.png in a few seconds."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from dar_ref import plots, theory

IMAGES = Path(__file__).parent / "images"

# The example of the home page: arm 3 has the highest reward and is rare at first.
LOG_PI_0 = np.log([0.15, 0.75, 0.10])
REWARD = np.array([0.5, 0.0, 1.0])
TILTS = (1.2, 2.7, 4.2)  # pi_t ∝ pi_0 exp(tilt * reward): three policies, each trained longer on the reward
EPS = 0.2
ALPHA, BETA = 0.5, 1.0


def main_picture(rows: int, columns: int) -> Figure:
    """Three stages of a run, where the shared region is wide, tiny, and empty, with DAR's optimum in each."""
    with plots.style():
        figure = Figure(figsize=(2.9 * columns, 2.75 * rows + 0.3))
        for panel, tilt in enumerate(TILTS):
            log_pi_t = theory.optimum(REWARD, LOG_PI_0, LOG_PI_0, 1.0, 1.0 / tilt).log_pi
            ax = plots.simplex_axes(figure, (rows, columns, panel + 1))
            plots.draw_region(ax, LOG_PI_0, log_pi_t, EPS, EPS)
            best = theory.optimum(REWARD, LOG_PI_0, log_pi_t, ALPHA, BETA).log_pi
            for policy, name in ((LOG_PI_0, "pi_0"), (log_pi_t, "pi_t"), (best, "pi_star")):
                plots.draw_policy(ax, policy, name)
            needed = float(theory.chernoff(LOG_PI_0, log_pi_t).information)
            verdict = "both: the hatched region" if needed <= EPS else "nothing satisfies both"
            ax.set_title(f"radius {EPS}, needed {needed:.2f}\n{verdict}", pad=20)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def main() -> None:
    """Write every picture."""
    pictures = {"conflict": main_picture(1, len(TILTS)), "conflict_narrow": main_picture(len(TILTS), 1)}
    for name, figure in pictures.items():
        print(plots.save_png(figure, IMAGES / f"{name}.png"))


if __name__ == "__main__":
    main()
