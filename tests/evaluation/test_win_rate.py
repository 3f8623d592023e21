"""Win rates: against counting by hand, and the relations that hold for every win rate."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dar_ref.evaluation import both_orders, score_outcomes, win_matrix, win_rate

HALF = 0.5
whole_scores = st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=1, max_size=30)
outcome_lists = st.lists(st.sampled_from([0.0, HALF, 1.0]), min_size=1, max_size=30)


def counted(pairs, tolerance):
    """Wins plus half the ties over prompts, in exact fractions."""
    points = [Fraction(1, 2) if abs(a - b) <= tolerance else Fraction(int(a > b)) for a, b in pairs]
    return sum(points) / len(points)


@given(whole_scores, st.integers(0, 5))
def test_win_rate_is_the_count(pairs, tolerance):
    ours, theirs = zip(*pairs, strict=True)
    result = win_rate(score_outcomes(ours, theirs, tie_tolerance=tolerance))
    assert result.rate == float(counted(pairs, tolerance))
    assert result.wins == sum(a - b > tolerance for a, b in pairs)
    assert result.losses == sum(b - a > tolerance for a, b in pairs)
    assert result.wins + result.ties + result.losses == len(pairs)


@given(whole_scores, st.integers(0, 5), st.randoms(use_true_random=False))
def test_swap_permutation_shift_and_scale(pairs, tolerance, random):
    ours, theirs = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    outcomes = score_outcomes(ours, theirs, tie_tolerance=tolerance)
    np.testing.assert_array_equal(score_outcomes(theirs, ours, tie_tolerance=tolerance), 1.0 - outcomes)
    order = random.sample(range(len(ours)), len(ours))
    assert win_rate(score_outcomes(ours[order], theirs[order], tie_tolerance=tolerance)) == win_rate(outcomes)
    shifted = score_outcomes(ours + 1024.25, theirs + 1024.25, tie_tolerance=tolerance)
    np.testing.assert_array_equal(shifted, outcomes)
    np.testing.assert_array_equal(score_outcomes(0.25 * ours, 0.25 * theirs, tie_tolerance=0.25 * tolerance), outcomes)


def test_the_tolerance_is_inclusive_and_switches_the_result():
    assert score_outcomes([1.25, 1.25], [1.0, 1.5], tie_tolerance=0.25).tolist() == [HALF, HALF]
    assert score_outcomes([1.25, 1.25], [1.0, 1.5], tie_tolerance=0.125).tolist() == [1.0, 0.0]
    assert score_outcomes([2.0], [2.0]).tolist() == [HALF]


def test_shapes_are_kept_and_huge_scores_do_not_overflow():
    scores = np.arange(6.0).reshape(2, 3)
    assert score_outcomes(scores, scores[::-1]).tolist() == [[0.0] * 3, [1.0] * 3]
    assert score_outcomes([1.7e308, -1.7e308], [-1.7e308, 1.7e308]).tolist() == [1.0, 0.0]
    assert win_rate(score_outcomes(scores, scores[::-1])).rate == HALF


def test_both_orders_over_all_nine_pairs_of_verdicts():
    first, second = zip(*itertools.product((0.0, HALF, 1.0), repeat=2), strict=True)
    result = both_orders(first, second)
    assert result.outcomes.tolist() == [0.0, HALF, HALF, HALF, HALF, HALF, HALF, HALF, 1.0]
    assert result.agreement == 3 / 9
    assert result.first_share == HALF


def test_a_judge_that_takes_whatever_comes_first_says_nothing_about_the_policy():
    result = both_orders(np.ones(8), np.zeros(8))
    assert win_rate(result.outcomes) == (HALF, 0, 8, 0)
    assert (result.agreement, result.first_share) == (0.0, 1.0)
    assert both_orders(np.zeros(8), np.ones(8)).first_share == 0.0


@given(outcome_lists, st.data())
def test_both_orders_swapped_policies(first, data):
    second = data.draw(st.lists(st.sampled_from([0.0, HALF, 1.0]), min_size=len(first), max_size=len(first)))
    ours = both_orders(first, second)
    theirs = both_orders(1.0 - np.array(second), 1.0 - np.array(first))  # the other is first where ours is second
    np.testing.assert_array_equal(theirs.outcomes, 1.0 - ours.outcomes)
    assert theirs.agreement == ours.agreement
    assert theirs.first_share == pytest.approx(ours.first_share, abs=1e-15)


@given(st.integers(1, 4), st.integers(1, 12), st.integers(0, 2**32 - 1), st.integers(0, 2))
def test_win_matrix_holds_every_pair(methods, prompts, seed, tolerance):
    scores = np.random.default_rng(seed).integers(0, 5, size=(methods, prompts))
    names = [f"method {i}" for i in range(methods)]
    matrix = win_matrix(dict(zip(names, scores, strict=True)), tie_tolerance=tolerance)
    assert matrix.methods == tuple(names)
    expected = [[float(counted(list(zip(a, b, strict=True)), tolerance)) for b in scores] for a in scores]
    assert matrix.rates.tolist() == expected
    np.testing.assert_allclose(matrix.rates + matrix.rates.T, 1.0, atol=1e-15)


def test_inputs_stay_as_they_are():
    scores, reference = np.array([1.0, 2.0]), np.array([2.0, 2.0])
    score_outcomes(scores, reference, tie_tolerance=3.0)
    assert (scores.tolist(), reference.tolist()) == ([1.0, 2.0], [2.0, 2.0])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: score_outcomes([1.0, np.nan], [1.0, 2.0]), ValueError, r"scores\[1\] = nan: every value must"),
        (lambda: score_outcomes([[1.0], [np.inf]], [[1], [2]]), ValueError, r"scores\[1, 0\] = inf"),
        (lambda: score_outcomes([1.0], [1.0, 2.0]), ValueError, r"scores \(1,\), reference_scores \(2,\)"),
        (lambda: score_outcomes([], []), ValueError, r"scores has shape \(0,\): at least one value is needed"),
        (lambda: score_outcomes(1.0, 2.0), ValueError, r"scores has shape \(\)"),
        (lambda: score_outcomes([[1.0], [1.0, 2.0]], [1.0]), ValueError, "scores is ragged"),
        (lambda: score_outcomes([1.0, None], [1.0, 2.0]), TypeError, "scores has dtype object, not a real number type"),
        (lambda: score_outcomes([True], [False]), TypeError, "scores has dtype bool"),
        (lambda: score_outcomes(["a"], ["b"]), TypeError, "scores has dtype <U1"),
        (lambda: score_outcomes([1.0], [1.0], tie_tolerance=-0.1), ValueError, "tie_tolerance = -0.1"),
        (lambda: win_rate([0.0, 0.7]), ValueError, "outcomes holds 0.7: an outcome is 0, 0.5 or 1"),
        (lambda: both_orders([2.0], [1.0]), ValueError, "shown_first holds 2.0"),
        (lambda: both_orders([1.0], [-1.0]), ValueError, "shown_second holds -1.0"),
        (lambda: both_orders([[1.0]], [[1.0]]), ValueError, r"shown_first has shape \(1, 1\): one axis is needed"),
        (lambda: win_matrix({}), ValueError, "scores is empty"),
        (lambda: win_matrix({"dar": [1.0], "dao": [1.0, 2.0]}), ValueError, r"shapes: dar \(1,\), dao \(2,\)"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
