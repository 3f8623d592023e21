"""The figures of policies show what the theory computes: points, paths and shares are read back from the drawing."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from dar_ref import plots, theory

PI_0, PI_T = np.log([0.02, 0.38, 0.60]), np.log([0.4, 0.5, 0.1])
A = np.array([1.5, 1.0, 0.0])


def line_of(ax, label):
    (line,) = [line for line in ax.lines if line.get_label() == label]
    return line


def place(ax, log_pi):
    """Where the plain call would put a policy, in the axes' own coordinates."""
    (line,) = ax.plot(*np.exp(np.asarray(log_pi))[:, None])
    xy = np.column_stack(line.get_data())
    line.remove()
    return xy


def test_optimum_figure_marks_the_four_policies_of_each_setting():
    settings = [(0.1, 0.3), (0.7, 2.0)]
    figure = plots.optimum_figure(A, PI_0, PI_T, settings)
    assert [ax.get_title() for ax in figure.axes] == ["alpha 0.1, beta 0.3", "alpha 0.7, beta 2"]
    for ax, (alpha, beta) in zip(figure.axes, settings, strict=True):
        best = theory.optimum(A, PI_0, PI_T, alpha, beta).log_pi
        between = theory.interpolate(PI_0, PI_T, alpha).log_pi_ref
        for name, log_pi in (("pi_0", PI_0), ("pi_t", PI_T), ("pi_ref", between), ("pi_star", best)):
            line = line_of(ax, plots.LABELS[name])
            np.testing.assert_allclose(np.column_stack(line.get_data()), place(ax, log_pi), atol=1e-12)
            assert line.get_marker() == plots.MARKERS[name]


def test_optimum_figure_at_a_beta_above_the_start_of_its_path():
    assert plots.optimum_figure(A, PI_0, PI_T, [(0.5, 1e6)]).axes


def test_dials_figure_runs_from_the_interpolation_to_the_best_arm_and_between_the_anchors():
    left, right = plots.dials_figure(A, PI_0, PI_T, [0.5, 5.0]).axes
    for alpha in (0.0, 0.25, 0.5, 0.75, 1.0):
        path = np.column_stack(line_of(left, f"alpha {alpha:.3g}").get_data())
        start = theory.interpolate(PI_0, PI_T, alpha).log_pi_ref
        np.testing.assert_allclose(path[:1], place(left, start), atol=2e-3)
        np.testing.assert_allclose(path[-1:], place(left, np.log([1.0, 1e-12, 1e-12])), atol=1e-9)
    for beta in (0.5, 5.0):
        path = np.column_stack(line_of(right, f"beta {beta:.3g}").get_data())
        for end, alpha in ((0, 0.0), (-1, 1.0)):
            best = theory.optimum(A, PI_0, PI_T, alpha, beta).log_pi
            np.testing.assert_allclose(path[end], place(right, best)[0], atol=1e-12)


def test_paths_figure_has_a_panel_for_each_path_and_squares_the_last_step():
    path = theory.iterate(A, PI_0, alpha=0.2, beta=2.0, steps=5)
    figure = plots.paths_figure({"one": path, "two": path[:3]}, {"pi_0": PI_0})
    assert [ax.get_title() for ax in figure.axes] == ["one", "two"]
    for ax, steps in zip(figure.axes, (path, path[:3]), strict=True):
        dots, last = ax.lines[:2]
        assert len(dots.get_xdata()) == len(steps)
        np.testing.assert_allclose(np.column_stack(last.get_data()), place(ax, steps[-1]), atol=1e-12)


def test_draw_levels_draws_the_level_asked_for():
    with plots.style():
        ax = plots.simplex_axes(Figure())
        plots.draw_levels(ax, lambda pi: np.exp(pi)[:, 0], [0.25, 0.5], numbers=False)
    (contour,) = ax.collections
    corner, base = place(ax, np.log([1.0, 1e-300, 1e-300]))[0], place(ax, np.log([1e-300, 0.5, 0.5]))[0]
    for path, level in zip(contour.get_paths(), (0.25, 0.5), strict=True):
        height = (path.vertices - base) @ (corner - base) / ((corner - base) @ (corner - base))
        np.testing.assert_allclose(height, level, atol=1e-9)


def test_bars_figure_shows_every_probability():
    figure = plots.bars_figure({"a": PI_0, "b": PI_T}, ("x", "y", "z"), "answer")
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    np.testing.assert_allclose(heights, np.exp([*PI_0, *PI_T]))
    assert figure.axes[0].get_xlabel() == "answer"


def test_weight_figure_names_the_shares_of_the_normal_distribution():
    figure = plots.weight_figure(beta=0.05, w_clip=20.0)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["w < 0.01: 40.9%", "between: 15.1%", "w = 20 (clipped): 44.0%"]  # scipy.stats.norm, by hand
    assert max(figure.axes[0].lines[0].get_ydata()) == 20.0


def test_more_than_can_be_told_apart_is_refused():
    with pytest.raises(ValueError, match="6 betas are too many"):
        plots.dials_figure(A, PI_0, PI_T, [1.0] * 6)
    with pytest.raises(ValueError, match="6 policies are too many"):
        plots.bars_figure({str(k): PI_0 for k in range(6)}, ("x", "y", "z"))
