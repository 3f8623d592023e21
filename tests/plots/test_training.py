"""The figures of the notebooks on sampling, iterating and digits: what is drawn is what the theory says."""

import numpy as np
import pytest

from dar_ref import theory
from dar_ref.bandit import TrainConfig, compare, digits_bandit
from dar_ref.bandit.figures import belief_figure, curves, sweep_figure, tail
from dar_ref.plots import COLORS, MARKERS
from dar_ref.plots.iteration import normalization_figure
from dar_ref.plots.lines import line_figure
from dar_ref.plots.sampling import noise_map

EVEN = np.log([0.5, 0.5])


def test_noise_map_draws_the_boundary_between_the_signs():
    drifts, sizes = np.linspace(0.0, 4.0, 9), np.geomspace(0.1, 3.0, 7)
    ratio = np.broadcast_to(1.5 - drifts, (7, 9))  # zero at drift 1.5
    figure = noise_map(drifts, sizes, ratio, plain=ratio + 0.5)
    corners = [path.vertices[:, 0] for c in figure.axes[0].collections[-2:] for path in c.get_paths() if len(path)]
    assert {round(float(x), 6) for xs in corners for x in xs} == {1.5, 2.0}
    assert [text.get_text() for text in figure.axes[0].texts] == ["DAR noisier", "DAR quieter"]


def test_noise_map_refuses_another_shape():
    with pytest.raises(ValueError, match=r"log_ratio has shape \(3, 2\) for 2 sizes and 3 drifts"):
        noise_map(np.arange(3.0), np.array([1.0, 2.0]), np.zeros((3, 2)))


def test_normalization_figure_shows_h_its_levels_and_both_runs():
    left, right = normalization_figure(np.array([2.0, 0.0]), EVEN, 0.05, (0.1, 1.0), (2.0, 0.005), steps=5).axes
    curve, *levels = left.get_lines()
    assert curve.get_ydata().max() == pytest.approx(1 / 1.508879561538, rel=1e-5)
    assert [line.get_ydata()[0] for line in levels] == [0.5, 200.0]
    fixed, _, divided, _ = (line.get_ydata() for line in right.get_lines())
    assert fixed[-1] == pytest.approx(40.0 / 0.1 * (1 - 0.9**5))  # A/beta = 40 nats of odds, geometric sum
    path = theory.iterate(np.array([2.0, 0.0]), EVEN, 0.1, 0.05, 5, normalize="standardize")
    np.testing.assert_array_equal(divided, path[1:, 0] - path[1:, 1])


def test_normalization_figure_has_looks_for_six():
    with pytest.raises(ValueError, match="7 alphas and 1 levels; pass at most 6"):
        normalization_figure(np.array([1.0, 0.0]), EVEN, 0.05, [0.1] * 7, [1.0])


def test_digits_figures_show_beliefs_and_the_ends_of_a_sweep():
    bandit = digits_bandit(0)
    figure = belief_figure(bandit, [3, 5])
    _, bars = np.array(figure.axes).reshape(2, 2)
    heights = [patch.get_height() for patch in bars[1].patches]
    assert heights[10:] == pytest.approx(bandit.held_out.proxy[5].tolist())
    assert sum(heights[:10]) == pytest.approx(1.0)
    config = {"steps": 4, "batch_prompts": 8}
    sweep = compare(digits_bandit, {"1.0": TrainConfig(**config, alpha=1.0), "0.0": TrainConfig(**config)}, [0, 1])
    ends = tail(sweep, "1.0", "gold", window=2)
    np.testing.assert_allclose(ends, curves(sweep, "1.0", "gold")[:, 3:].mean(axis=1))
    drawn = sweep_figure({"beta 0.05": sweep}).axes[1].get_lines()[-1]
    assert drawn.get_xdata().tolist() == [0.0, 1.0]
    assert drawn.get_ydata()[1] == pytest.approx(tail(sweep, "1.0", "gold").mean())


def test_line_figure_keeps_the_look_of_methods_and_tells_the_rest_apart():
    curves = {"DAO": [1.0, 2.0, 3.0], "one": [3.0, 2.0], "two": [1.0, 1.0, 1.0]}
    ax = line_figure([0, 1, 2], curves, "step", "nats", yscale="log", ylim=(0.5, None), marks={"here": 1.5}).axes[0]
    lines = ax.get_lines()
    assert (lines[0].get_color(), lines[0].get_marker()) == (COLORS["dao"], MARKERS["dao"])
    assert lines[1].get_xdata().tolist() == [0.0, 1.0]
    assert len({(line.get_linestyle(), line.get_marker()) for line in lines[:3]}) == 3
    assert ax.get_ylim()[0] == 0.5
    assert lines[3].get_xdata() == [1.5, 1.5]
    with pytest.raises(ValueError, match="6 curves are too many"):
        line_figure([0], {str(k): [1.0] for k in range(6)}, "x", "y")
