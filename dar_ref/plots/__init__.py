"""Figures of the package: a common style (`style`), policies on the simplex, and the figures of the tutorial.

`region_figure` draws the region of your own `pi_0`, `pi_t` and `A`. `conflict_figure(measure_path(...))` draws it
along your own path. Every function returns a matplotlib figure or draws on the axes that it gets.
"""

from dar_ref.plots.animation import paths_gif
from dar_ref.plots.conflict import conflict_figure, conflict_gif, dar_path_figure, frames_figure, path_figure
from dar_ref.plots.conflict_path import ConflictPath, measure_path
from dar_ref.plots.dar_ball import dar_figure, matched_figure, multiplier_figure, radius_figure
from dar_ref.plots.iteration import normalization_figure
from dar_ref.plots.lines import line_figure
from dar_ref.plots.panels import panels_figure
from dar_ref.plots.policies import (
    LOOKS,
    bars_figure,
    dials_figure,
    draw_levels,
    optimum_figure,
    paths_figure,
    weight_figure,
)
from dar_ref.plots.sampling import noise_map
from dar_ref.plots.simplex import (
    draw_path,
    draw_policy,
    draw_region,
    draw_set,
    region_figure,
    simplex_axes,
    simplex_grid,
    trust_gap,
)
from dar_ref.plots.style import (
    ARMS,
    BLACK,
    BLUE,
    COLORS,
    GREEN,
    GREY,
    LABELS,
    MARKERS,
    ORANGE,
    PURPLE,
    RC,
    SKY,
    VERMILION,
    save_png,
    style,
)

__all__ = [
    "ARMS",
    "BLACK",
    "BLUE",
    "COLORS",
    "GREEN",
    "GREY",
    "LABELS",
    "LOOKS",
    "MARKERS",
    "ORANGE",
    "PURPLE",
    "RC",
    "SKY",
    "VERMILION",
    "ConflictPath",
    "bars_figure",
    "conflict_figure",
    "conflict_gif",
    "dar_figure",
    "dar_path_figure",
    "dials_figure",
    "draw_levels",
    "draw_path",
    "draw_policy",
    "draw_region",
    "draw_set",
    "frames_figure",
    "line_figure",
    "matched_figure",
    "measure_path",
    "multiplier_figure",
    "noise_map",
    "normalization_figure",
    "optimum_figure",
    "panels_figure",
    "path_figure",
    "paths_figure",
    "paths_gif",
    "radius_figure",
    "region_figure",
    "save_png",
    "simplex_axes",
    "simplex_grid",
    "style",
    "trust_gap",
    "weight_figure",
]
