"""The simplex figures show what the theory says: the hatched share is the region's volume, an empty one has none."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from dar_ref import plots, theory

LOG_PI_0, LOG_PI_T = np.log([0.7, 0.2, 0.1]), np.log([0.1, 0.2, 0.7])
ADVANTAGE = np.array([0.0, 1.0, 0.3])


def texts(figure):
    ax = figure.axes[0]
    return ax.get_title(), [t.get_text() for t in ax.get_legend().get_texts()]


@pytest.mark.parametrize("stability", ["kl", "ppo_box", "forward_kl"])
def test_the_grid_inside_is_the_region_s_share_of_the_area(stability):
    grid = plots.simplex_grid(601)
    eps_0, eps_t = 1.2, 0.6
    inside = (theory.kl(grid, LOG_PI_0) <= eps_0) & (plots.trust_gap(grid, LOG_PI_T, eps_t, stability) <= 0.0)
    volume = theory.region_volume(LOG_PI_0, LOG_PI_T, eps_0, eps_t, stability=stability)
    assert inside.mean() == pytest.approx(volume.fraction, abs=3e-3)


def test_the_grid_holds_policies_evenly_with_the_corners():
    grid = plots.simplex_grid(5)
    pi = np.exp(grid)
    assert pi.shape == (15, 3)
    assert pi.sum(axis=1) == pytest.approx(1.0, abs=1e-15)
    assert {tuple(row) for row in np.eye(3)} <= {tuple(row) for row in pi.round(12)}
    assert len({tuple(row) for row in pi.round(12)}) == 15


def test_unknown_trust_region_and_wrong_number_of_arms_are_refused():
    with pytest.raises(ValueError, match="stability = 'l2' is unknown; choose one of kl, ppo_box, forward_kl"):
        plots.trust_gap(LOG_PI_0, LOG_PI_T, 0.1, "l2")
    with pytest.raises(ValueError, match="names 2 corners"):
        plots.simplex_axes(Figure(), arms=("a", "b"))


@pytest.mark.parametrize("stability", ["kl", "ppo_box", "forward_kl"])
def test_a_non_empty_region_shows_its_best_policy(stability):
    figure = plots.region_figure(LOG_PI_0, LOG_PI_T, ADVANTAGE, 1.0, 0.6, stability=stability, arms=("x", "y", "z"))
    best = theory.best_reward(ADVANTAGE, LOG_PI_0, LOG_PI_T, 1.0, 0.6, stability=stability)
    title, legend = texts(figure)
    assert title == f"best allowed E[A] = {best.value:.3f}"
    assert legend[-1] == "best allowed"
    ax = figure.axes[0]
    assert [axis.get_label_text() for axis in (ax.taxis, ax.laxis, ax.raxis)] == ["x", "y", "z"]
    assert shades(ax) == [plots.COLORS["pi_0"], plots.COLORS["pi_t"], plots.GREY]


def test_an_empty_region_says_so_and_has_no_shade():
    figure = plots.region_figure(LOG_PI_0, LOG_PI_T, ADVANTAGE, 0.3, 0.3)
    title, legend = texts(figure)
    assert title == "no policy satisfies both"
    assert "best allowed" not in legend
    assert shades(figure.axes[0]) == [plots.COLORS["pi_0"], plots.COLORS["pi_t"]]


def shades(ax):
    """Colours of the filled sets, in drawing order."""
    names = {to_rgba(color)[:3]: color for color in (*plots.COLORS.values(), plots.GREY)}
    return [names[tuple(patch.get_facecolor()[:3])] for patch in ax.patches]


def area(corners):
    """Area of a polygon (shoelace)."""
    x, y = np.asarray(corners).T
    return abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2.0


@pytest.mark.parametrize("stability", ["kl", "ppo_box", "forward_kl"])
def test_the_hatched_area_is_the_region_s_volume(stability):
    figure = Figure()
    ax = plots.simplex_axes(figure)
    plots.draw_region(ax, LOG_PI_0, LOG_PI_T, 1.2, 0.6, stability=stability, resolution=721)
    (triangle,) = ax.plot([1, 0, 0], [0, 1, 0], [0, 0, 1])
    whole = area(np.column_stack([triangle.get_xdata(), triangle.get_ydata()]))
    volume = theory.region_volume(LOG_PI_0, LOG_PI_T, 1.2, 0.6, stability=stability)
    assert volume.fraction > 0.01
    assert area(ax.patches[-1].get_xy()) / whole == pytest.approx(volume.fraction, rel=2e-3)


def test_a_path_and_a_policy_are_drawn_where_they_are():
    figure = Figure()
    ax = plots.simplex_axes(figure)
    path = theory.iterate(ADVANTAGE, LOG_PI_0, 0.5, 1.0, 4)
    plots.draw_path(ax, path, label="iterates")
    plots.draw_policy(ax, LOG_PI_T, "pi_t", label="now")
    line, point = ax.lines
    assert line.get_label() == "iterates"
    assert len(line.get_xdata()) == 5
    assert point.get_label() == "now"
    assert point.get_marker() == plots.MARKERS["pi_t"]


def test_the_style_is_put_back_and_files_are_the_same_bytes(tmp_path):
    before = mpl.rcParams["axes.grid"]
    with plots.style():
        assert mpl.rcParams["axes.grid"] is True
        figure = Figure()
        figure.subplots().plot([1, 2])
    assert mpl.rcParams["axes.grid"] == before
    one, two = (plots.save_png(figure, tmp_path / name / "x.png") for name in ("a", "b"))
    assert one.read_bytes() == two.read_bytes()


def test_every_thing_has_its_own_colour_or_marker():
    policies = ("pi_0", "pi_t", "pi_ref", "pi_star", "inside")
    methods = ("dar", "grpo", "dao", "rloo")
    for names in (policies, methods):
        assert len({plots.COLORS[n] for n in names}) == len(names)
        assert len({plots.MARKERS[n] for n in names}) == len(names)
