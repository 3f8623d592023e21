"""Figures of the conflict: boundaries enclose the areas of the quadrature, what is drawn is what theory says."""

import io
import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from dar_ref import plots, theory
from dar_ref.plots import trust_gap
from dar_ref.plots.conflict_path import measure_path
from dar_ref.plots.simplex_boundary import boundary

LOG_PI_0, LOG_PI_T = np.log([[0.6, 0.3, 0.1], [0.1, 0.5, 0.4]])


def area(ring):
    """Share of the triangle inside a polygon of policies, by the shoelace formula in the first two probabilities."""
    x, y = ring[:, 0], ring[:, 1]
    return abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))


@pytest.mark.parametrize(("stability", "eps_t"), [("kl", 0.3), ("kl", 0.001), ("forward_kl", 0.2), ("ppo_box", 0.2)])
def test_boundary_encloses_the_area_of_the_set(stability, eps_t):
    ring = boundary(lambda log_pi: trust_gap(log_pi, LOG_PI_T, eps_t, stability), LOG_PI_T, 2001)
    volume = theory.region_volume(LOG_PI_0, LOG_PI_T, np.inf, eps_t, stability=stability)
    assert area(ring) == pytest.approx(volume.fraction, rel=1e-3)


@pytest.mark.parametrize("excess", [1e-1, 1e-3, 1e-6])
def test_boundary_of_a_region_that_is_nearly_a_point(excess):
    """The lens between two balls that hardly meet is far smaller than any pixel, and still has its area."""
    touch = theory.chernoff(LOG_PI_0, LOG_PI_T)
    eps = float(touch.information) + excess
    middle = theory.interpolate(LOG_PI_0, LOG_PI_T, float(touch.alpha)).log_pi_ref
    ring = boundary(
        lambda log_pi: np.maximum(theory.kl(log_pi, LOG_PI_0), theory.kl(log_pi, LOG_PI_T)) - eps, middle, 2001
    )
    assert area(ring) == pytest.approx(theory.region_volume(LOG_PI_0, LOG_PI_T, eps, eps).fraction, rel=1e-3)


def test_boundary_of_everything_is_the_triangle():
    ring = boundary(lambda log_pi: np.full(len(log_pi), -1.0), LOG_PI_0, 2001)
    assert area(ring) == pytest.approx(1.0, rel=5e-3)  # the corners lie between the points
    assert np.abs(ring.min(axis=-1)).max() < 1e-12


REWARD = np.array([0.0, 0.4, 1.0])


@pytest.fixture(scope="module")
def measured():
    """A path of exact DAR updates that leaves the ball of pi_0: its region is empty at the end."""
    path = theory.iterate(REWARD, LOG_PI_0, alpha=0.1, beta=1.0, steps=4)
    return measure_path(LOG_PI_0, path, REWARD, 0.1, 0.05)


def lines(ax):
    return {line.get_label(): np.asarray(line.get_data()) for line in ax.get_lines()}


def test_the_path_is_the_theory_at_every_step(measured):
    assert measured.empty.tolist() == [False, False, False, True, True]
    for step, log_pi_t in enumerate(measured.log_path):
        margin = theory.feasible(LOG_PI_0, log_pi_t, 0.1, 0.05).margin
        assert measured.margin[step] == pytest.approx(float(margin), abs=1e-12)
        assert (
            measured.area["ppo_box"][step] == theory.region_volume(LOG_PI_0, log_pi_t, 0.1, 0.2, stability="ppo_box")[0]
        )
        assert measured.area["forward_kl"][step] == (
            theory.region_volume(LOG_PI_0, log_pi_t, 0.1, 0.05, stability="forward_kl").fraction
        )
        assert (measured.area["kl"][step] == 0.0) == measured.empty[step] == np.isnan(measured.alpha[step])
        if not measured.empty[step]:
            same = theory.optimum(REWARD, LOG_PI_0, log_pi_t, measured.alpha[step], measured.beta[step]).log_pi
            assert np.allclose(measured.best["kl"][step], same, atol=1e-9)


@pytest.mark.parametrize(
    ("log_pi_0", "path"),
    [(np.log([0.5, 0.5]), np.log([[0.5, 0.5]])), (LOG_PI_0, LOG_PI_T), (LOG_PI_0, [[-np.inf, *np.log([0.5, 0.5])]])],
)
def test_a_path_that_is_not_on_the_triangle_is_refused(log_pi_0, path):
    with pytest.raises(ValueError, match="arms"):
        measure_path(log_pi_0, path, REWARD, 0.1, 0.1)


def test_the_region_and_dars_answer_are_drawn_at_the_same_four_steps(measured):
    steps = ["step 0", "step 1", "step 2", "step 4"]
    region, answer = plots.conflict_figure(measured), plots.dar_path_figure(measured, 0.4, 2.0)
    assert [ax.get_title().split("\n")[0] for ax in region.axes] == steps
    assert region.axes[3].get_title().endswith("no policy satisfies both")
    best = np.exp(theory.optimum(REWARD, LOG_PI_0, measured.log_path, 0.4, 2.0).log_pi) @ REWARD
    for ax, step in zip(answer.axes, (0, 1, 2, 4), strict=True):
        assert ax.get_title().startswith(f"step {step}: DAR")
        assert f"E[r] = {best[step]:.3f}" in ax.get_title()
    chosen = plots.conflict_figure(measured, shown=(3,)).axes
    assert [ax.get_title().split("\n")[0] for ax in chosen] == ["step 3"]


def test_the_course_draws_what_the_theory_says(measured):
    _, margin, reward, spent = plots.path_figure(measured, 0.4, 2.0).axes
    assert np.array_equal(lines(margin)["smallest over alpha: margin"][1], measured.margin)
    best = theory.optimum(REWARD, LOG_PI_0, measured.log_path, 0.4, 2.0).log_pi
    assert np.allclose(lines(reward)["π* (DAR)"][1], np.exp(best) @ REWARD)
    assert np.isnan(lines(reward)["best inside, KL(π‖πₜ)"][1]).tolist() == measured.empty.tolist()
    assert np.allclose(lines(spent)["KL(π*‖πₜ)"][1], theory.kl(best, measured.log_path))
    assert len(spent.patches) == measured.empty.sum()  # one shaded stripe a step without a region


def test_paths_move_step_by_step_and_rest_at_the_end():
    path = theory.iterate(REWARD, LOG_PI_0, 0.5, 1.0, 3)
    with Image.open(io.BytesIO(plots.paths_gif({"one": path, "two": path[::-1]}, {"pi_0": LOG_PI_0}))) as gif:
        assert (gif.format, gif.n_frames) == ("GIF", len(path))
        frames = [np.asarray(gif.convert("L")) for _ in map(gif.seek, range(gif.n_frames))]
    assert all((before != after).any() for before, after in itertools.pairwise(frames))


def test_animation_has_a_frame_for_every_step_and_rests_at_the_end(measured):
    with Image.open(io.BytesIO(plots.conflict_gif(measured, 0.4, 2.0, fps=5))) as gif:
        seconds = []
        for frame in range(gif.n_frames):
            gif.seek(frame)
            seconds.append(gif.info["duration"] / 1000.0)
        assert (gif.format, len(seconds)) == ("GIF", len(measured.log_path))
    assert seconds == pytest.approx([0.2] * 4 + [0.8])


def test_row_of_frames(measured):
    figure = plots.frames_figure(measured, (0, 3))
    assert [ax.get_title().split("\n")[0] for ax in figure.axes] == ["step 0", "step 3"]


def test_ball_without_log_c_is_labelled_wrong():
    figure = plots.matched_figure(LOG_PI_0, LOG_PI_T, 0.05, 0.05, 0.5)
    log_c = theory.interpolate(LOG_PI_0, LOG_PI_T, 0.5).log_c
    assert [ax.get_title() for ax in figure.axes] == [
        f"true radius: {0.05 + log_c:+.3f} nats, no ball",
        "WRONG: log C left out: +0.050 nats",
    ]
    drawn = ["ball around π_ref" in lines(ax) for ax in figure.axes]
    assert drawn == [False, True]


def test_dots_of_the_radius_figure_are_the_minima_of_its_lines(measured):
    figure = plots.radius_figure(measured, (0, 1, 3))
    drawn = figure.axes[0].get_lines()
    for line, dot in zip(drawn[0:6:2], drawn[1:6:2], strict=True):
        assert line.get_ydata().min() == pytest.approx(float(dot.get_ydata()[0]), abs=1e-4)


def test_multipliers_and_dar_panels(measured):
    left, right = plots.multiplier_figure(measured).axes
    assert np.array_equal(lines(left)["multipliers' alpha"][1], measured.alpha, equal_nan=True)
    assert np.array_equal(right.get_lines()[0].get_ydata(), measured.beta, equal_nan=True)
    figure = plots.dar_figure(measured, 1, [(0.2, 1.0), (0.9, 3.0)])
    for ax, setting in zip(figure.axes, [(0.2, 1.0), (0.9, 3.0)], strict=True):
        best = theory.optimum(REWARD, LOG_PI_0, measured.log_path[1], *setting).log_pi
        assert f"E[r] = {np.exp(best) @ REWARD:.3f}" in ax.get_title()


@pytest.mark.parametrize("stability", ["kl", "ppo_box", "forward_kl"])
def test_region_is_hatched_where_there_is_one_and_has_its_area(stability):
    needed = theory.closest(LOG_PI_0, LOG_PI_T, 0.1, stability=stability).divergence
    for eps_0, nonempty in ((needed - 1e-6, False), (needed + 0.05, True)):
        ax = plots.simplex_axes(Figure())
        plots.draw_region(ax, LOG_PI_0, LOG_PI_T, eps_0, 0.1, stability=stability, resolution=1001)
        hatched = [patch for patch in ax.patches if patch.get_hatch()]
        assert len(hatched) == nonempty
    whole = ax.fill([1, 0, 0], [0, 1, 0], [0, 0, 1])[0]
    fraction = area(hatched[0].get_xy()) / area(whole.get_xy())
    assert fraction == pytest.approx(
        theory.region_volume(LOG_PI_0, LOG_PI_T, eps_0, 0.1, stability=stability)[0], rel=1e-3
    )
