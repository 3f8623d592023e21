"""False statements about iterating DAR, each with a small counterexample."""

import numpy as np
import pytest

from dar_ref.theory import kl
from dar_ref.theory.iteration import coverage, fixed_point, iterate, log_fixed_weight
from dar_ref.theory.normalization import log_ratio_std, normalized_fixed_points, normalized_threshold

HALVES = np.log([0.5, 0.5])
BETTER_FIRST = np.array([1.0, 0.0])
RARE = np.log([0.01, 0.99])  # the better arm has probability 0.01


def test_false_batch_normalisation_keeps_the_fixed_point():
    """Two arms, uniform pi_0, alpha beta = 1: with A fixed the odds end at e, with A / std they grow without bound."""
    assert np.exp(fixed_point(BETTER_FIRST, HALVES, 1.0, 1.0)) == pytest.approx([np.e / (1 + np.e), 1 / (1 + np.e)])
    assert normalized_fixed_points(BETTER_FIRST, HALVES, 1.0, 1.0).log_pi.size == 0
    assert iterate(BETTER_FIRST, HALVES, 1.0, 1.0, 20, normalize="standardize")[-1, 1] < -1e100


def test_false_alpha_holds_a_normalised_run_back():
    """At the paper's beta 0.05 no alpha in [0, 1] is enough: alpha beta is at most 0.05, but must be 1.5088..."""
    assert normalized_threshold(np.log(0.5)) > 1.5 > 1.0 * 0.05
    for alpha in (0.0, 0.1, 0.5, 1.0):
        assert iterate(BETTER_FIRST, HALVES, alpha, 0.05, 4, w_clip=20.0, normalize="standardize")[-1, 1] < -1e100


def test_false_what_two_even_arms_need_holds_for_long_completions():
    """Even arms need alpha beta 1.509. A better arm with log pi_0 = -400, like one long completion, needs 0.005: the
    paper's setting has fixed points there. At each of them log(pi/pi_0) has the std 1/(alpha beta) = 200 nats."""
    thresholds = normalized_threshold(np.array([np.log(0.5), -50.0, -400.0]))
    assert thresholds == pytest.approx([1.5089, 0.040, 0.005], abs=1e-3)
    log_pi_0 = np.array([-400.0, np.log1p(-np.exp(-400.0))])
    assert thresholds[2] < 0.1 * 0.05
    points = normalized_fixed_points(BETTER_FIRST, log_pi_0, 0.1, 0.05).log_pi
    assert len(points) == 2
    for log_pi in points:
        ratio, pi = log_pi - log_pi_0, np.exp(log_pi)
        assert np.sqrt(pi[0] * pi[1]) * abs(ratio[0] - ratio[1]) == pytest.approx(200.0, rel=1e-9)


def test_false_a_large_alpha_beta_makes_the_corner_repel():
    """alpha beta = 100: fixed points exist, but a start at 1 - 1e-7 ends in the corner, which always attracts."""
    assert normalized_fixed_points(BETTER_FIRST, HALVES, 1.0, 100.0).attracting.tolist() == [True, False]
    start = np.log([1 - 1e-7, 1e-7])
    assert iterate(BETTER_FIRST, HALVES, 1.0, 100.0, 5, start, normalize="standardize")[-1, 1] < -1e100
    assert np.ptp(iterate(BETTER_FIRST, HALVES, 1.0, 100.0, 5, start)[-1]) == pytest.approx(0.01)  # A fixed: no trace


def test_false_a_small_advantage_stays_a_small_change():
    """A gap of 0.001, alpha beta 0.005: with A fixed the odds end at e^0.2 = 1.22; with A / std, in a corner."""
    gap = np.array([0.001, 0.0])
    end = fixed_point(gap, HALVES, 0.1, 0.05)
    assert np.exp(end[0] - end[1]) == pytest.approx(np.exp(0.2))
    assert iterate(gap, HALVES, 0.1, 0.05, 4, w_clip=20.0, normalize="standardize")[-1, 1] < -1e100


def test_false_an_attracting_fixed_point_is_reached_from_pi_0():
    """pi_0 = (0.01, 0.99): the rare arm starts with a normalised A of 9.9, and the first step passes both points."""
    points = normalized_fixed_points(BETTER_FIRST, RARE, 0.5, 1.0)
    assert points.attracting.tolist() == [True, False]
    path = iterate(BETTER_FIRST, RARE, 0.5, 1.0, 5, normalize="standardize")
    assert path[1, 0] > points.log_pi[1, 0]
    assert path[-1, 1] < -1e100


def test_false_the_point_nearest_to_pi_0_always_attracts():
    """An even rarer arm, alpha 1: the step overshoots (slope below -1). The clip limits the step, but not the slope."""
    points = normalized_fixed_points(BETTER_FIRST, np.log([1e-4, 1 - 1e-4]), 1.0, 0.25)
    assert points.slope[0] < -1.0
    assert not points.attracting.any()


def test_false_a_clip_above_one_changes_the_path_and_not_the_end_of_a_normalised_run():
    """It is true for centred A. With A / std there are two ends, and the clip decides which one pi_0 reaches."""
    inner = normalized_fixed_points(BETTER_FIRST, RARE, 0.5, 1.0).log_pi[0]
    clipped = iterate(BETTER_FIRST, RARE, 0.5, 1.0, 100, w_clip=20.0, normalize="standardize")
    assert clipped[-1] == pytest.approx(inner, rel=1e-12)
    assert iterate(BETTER_FIRST, RARE, 0.5, 1.0, 100, normalize="standardize")[-1, 1] < -1e100


def test_false_a_clip_never_changes_the_end():
    """A = (log 4, 0) fixed, not centred, pi_0 uniform, alpha beta 1: Z = 5/2. With a clip at 1 pi_0 does not move."""
    advantage = np.array([np.log(4.0), 0.0])
    assert np.exp(log_fixed_weight(advantage, HALVES, 1.0, 1.0)) == pytest.approx(2.5)
    assert iterate(advantage, HALVES, 1.0, 1.0, 9, w_clip=1.0)[-1] == pytest.approx(HALVES, rel=1e-15)
    assert np.exp(iterate(advantage, HALVES, 1.0, 1.0, 9, w_clip=3.0)[-1]) == pytest.approx([0.8, 0.2])


def test_false_adding_a_constant_to_the_advantage_changes_nothing_under_a_clip():
    """A shift of A scales every weight, which matters to the clip: A - log 4 makes Z = 5/8 < 1, so pi_0 can move."""
    advantage = np.array([0.0, -np.log(4.0)])
    assert np.exp(iterate(advantage, HALVES, 1.0, 1.0, 9, w_clip=1.0)[-1]) == pytest.approx([0.8, 0.2])


def test_false_lost_support_returns():
    """Uniform pi_0, pi_t without the better arm: it stays lost at alpha < 1; at alpha 1 one step brings it back."""
    start = np.array([-np.inf, 0.0])
    assert iterate(BETTER_FIRST, HALVES, 0.999, 1.0, 50, start)[-1, 0] == -np.inf
    assert iterate(BETTER_FIRST, HALVES, 1.0, 1.0, 1, start)[-1] == pytest.approx(
        fixed_point(BETTER_FIRST, HALVES, 1, 1)
    )
    # fitted on samples of pi_t it stays lost there too
    assert iterate(BETTER_FIRST, HALVES, 1.0, 1.0, 1, start, w_clip=1e300)[-1, 0] == -np.inf


def test_false_coverage_improves_from_every_start():
    """Start where pi_ref,0 = pi_inf exactly: KL(pi_inf‖pi_ref,t) is 0 there and then rises."""
    end = fixed_point(BETTER_FIRST, HALVES, 0.5, 1.0)
    beyond = 2.0 * end - HALVES  # pi_0^(1/2) beyond^(1/2) ∝ pi_inf
    start = beyond - np.log(np.exp(beyond).sum())
    kls = coverage(BETTER_FIRST, HALVES, 0.5, 1.0, 3, start)
    assert kls[0] == pytest.approx(0.0, abs=1e-15)
    assert (np.diff(kls) > 0.01).all()


def test_false_the_reference_ends_at_the_fixed_point():
    """alpha 1/2: pi_t converges to pi_inf, but the reference stays halfway between pi_inf and pi_0."""
    end = fixed_point(BETTER_FIRST, HALVES, 0.5, 1.0)
    assert iterate(BETTER_FIRST, HALVES, 0.5, 1.0, 60)[-1] == pytest.approx(end)
    assert coverage(BETTER_FIRST, HALVES, 0.5, 1.0, 60)[-1] == pytest.approx(
        kl(end, np.log([np.e / (1 + np.e), 1 / (1 + np.e)]))
    )


def test_false_more_prompts_with_one_std_rescue_the_fixed_point():
    """Two prompts with gaps 10 times apart: the threshold rises from 1.51 to above 2, and never falls below 1.51."""
    theta = np.linspace(0.0, 15.0, 3001)
    thresholds = [1.0 / log_ratio_std(gaps * BETTER_FIRST, HALVES, theta).max() for gaps in ([[1.0]], [[1.0], [10.0]])]
    assert thresholds[0] == pytest.approx(1.5089, abs=1e-4)
    assert thresholds[1] > 2.0
