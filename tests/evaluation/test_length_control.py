"""Length control: against two independent optimisers, a closed form, and a judge with a known length bias."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from dar_ref.evaluation import length_control, length_controlled_win_rate

ridges = st.floats(-6.0, 6.0).map(lambda power: 10.0**power)


@st.composite
def comparisons(draw, soft=True):
    """Outcomes, lengths and reference lengths of up to 20 prompts, and a ridge; short lengths, so that ties occur."""
    n = draw(st.integers(1, 20))
    longest = draw(st.sampled_from([0, 1, 3, 1000]))
    outcomes = st.sampled_from([0.0, 0.5, 1.0]) | (st.floats(0.0, 1.0) if soft else st.nothing())
    lengths = st.lists(st.integers(0, longest), min_size=n, max_size=n).map(np.array)
    y = np.array(draw(st.lists(outcomes, min_size=n, max_size=n)))
    return y, draw(lengths), draw(lengths), draw(ridges)


def feature(lengths, reference_lengths):
    d = np.asarray(lengths, dtype=float) - np.asarray(reference_lengths)
    return np.sign(d) if (d == d[0]).all() else np.tanh(d / np.sqrt(np.mean((d - np.mean(d)) ** 2)))


@given(comparisons())
def test_the_fit_satisfies_the_optimality_conditions(case):
    """The loss is strictly convex, so these two equations have one solution."""
    y, lengths, reference_lengths, ridge = case
    fit = length_controlled_win_rate(y, lengths, reference_lengths, ridge=ridge)
    if fit.raw <= 1e-300 or fit.raw == 1.0:
        assert (fit.rate, fit.slope) == (float(fit.raw == 1.0), 0.0)
        return
    x = feature(lengths, reference_lengths)
    p = expit(fit.constant + fit.slope * x)
    scale = 1e-9 * (1.0 + abs(fit.slope) + abs(fit.constant)) * len(y)
    assert p.mean() == pytest.approx(fit.raw, abs=scale)  # the constant has no penalty, so the means agree
    assert ((y - p) * x).sum() == pytest.approx(ridge * fit.slope, abs=scale, rel=1e-6)
    assert fit.rate == pytest.approx(expit(fit.constant), rel=1e-15)


@pytest.mark.parametrize("ridge", [1e-2, 1.0, 30.0])
def test_against_scikit_learn_on_duplicated_rows(ridge):
    rng = np.random.default_rng(3)
    y, lengths, reference_lengths = rng.random(60), rng.integers(1, 200, 60), rng.integers(1, 200, 60)
    x = feature(lengths, reference_lengths)[:, None]
    model = LogisticRegression(C=1.0 / ridge, solver="newton-cholesky", tol=1e-12, max_iter=1000)
    model.fit(np.vstack([x, x]), np.repeat([1, 0], 60), sample_weight=np.concatenate([y, 1.0 - y]))
    fit = length_controlled_win_rate(y, lengths, reference_lengths, ridge=ridge)
    assert (fit.constant, fit.slope) == pytest.approx((model.intercept_[0], model.coef_[0, 0]), rel=1e-7)


@pytest.mark.parametrize("seed", range(5))
def test_against_a_derivative_free_optimiser(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(4, 30))
    y, lengths, reference_lengths = rng.integers(0, 3, n) / 2, rng.integers(0, 50, n), rng.integers(0, 50, n)
    x = feature(lengths, reference_lengths)

    def loss(v):
        z = v[0] + v[1] * x
        return np.sum(y * np.logaddexp(0, -z) + (1 - y) * np.logaddexp(0, z)) + 0.005 * v[1] ** 2

    best = minimize(loss, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 0, "maxfev": 4000})
    fit = length_controlled_win_rate(y, lengths, reference_lengths)
    assert loss([fit.constant, fit.slope]) <= best.fun + 1e-13 * (1.0 + best.fun)
    assert fit.rate == pytest.approx(expit(best.x[0]), abs=1e-6)


def test_two_opposite_differences_have_a_closed_form():
    """Longer: 3 of 4 won; shorter: 1 of 5 won. Without a ridge the fit is exact, and c is the mean of both log-odds."""
    y = [1, 1, 1, 0, 1, 0, 0, 0, 0]
    lengths, reference = [7] * 4 + [3] * 5, [5] * 9
    expected = expit((logit(3 / 4) + logit(1 / 5)) / 2)
    std = np.std([2] * 4 + [-2] * 5)
    fit = length_controlled_win_rate(y, lengths, reference, ridge=1e-9)
    assert fit.rate == pytest.approx(expected, abs=1e-8)
    assert fit.slope == pytest.approx((logit(3 / 4) - logit(1 / 5)) / 2 / np.tanh(2 / std), rel=1e-7)
    assert (fit.raw, fit.length_std, fit.extrapolated) == (pytest.approx(4 / 9), pytest.approx(std), False)


@given(comparisons())
def test_swapping_the_policies_turns_w_into_one_minus_w(case):
    y, lengths, reference_lengths, ridge = case
    ours = length_controlled_win_rate(y, lengths, reference_lengths, ridge=ridge)
    theirs = length_controlled_win_rate(1.0 - y, reference_lengths, lengths, ridge=ridge)
    assert theirs.rate == pytest.approx(1.0 - ours.rate, abs=1e-8)
    assert theirs.extrapolated == ours.extrapolated


@given(comparisons(), st.randoms(use_true_random=False))
def test_order_and_unit_of_length_do_not_matter(case, random):
    y, lengths, reference_lengths, ridge = case
    fit = length_controlled_win_rate(y, lengths, reference_lengths, ridge=ridge)
    order = random.sample(range(len(y)), len(y))
    permuted = length_controlled_win_rate(y[order], lengths[order], reference_lengths[order], ridge=ridge)
    rescaled = length_controlled_win_rate(y, 4 * lengths, 4 * reference_lengths, ridge=ridge)
    assert permuted.rate == pytest.approx(fit.rate, abs=1e-8)
    assert rescaled.rate == pytest.approx(fit.rate, abs=1e-8)
    assert rescaled.length_std == 4 * fit.length_std


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20), st.integers(0, 9), st.integers(0, 9))
def test_constant_lengths_give_the_raw_win_rate(y, length, reference_length):
    n = len(y)
    fit = length_controlled_win_rate(y, [length] * n, [reference_length] * n)
    assert fit.rate == pytest.approx(np.mean(y), abs=1e-14)
    assert (fit.slope, fit.length_std) == (pytest.approx(0.0, abs=1e-12), 0.0)
    assert fit.extrapolated == (length != reference_length)


def test_a_strong_ridge_gives_the_raw_win_rate_back():
    y, lengths = [1, 1, 0, 0, 1], [9, 8, 2, 3, 1]
    fits = [length_controlled_win_rate(y, lengths, [5] * 5, ridge=ridge) for ridge in (1e-3, 1.0, 1e3, 1e9)]
    slopes = [fit.slope for fit in fits]
    assert slopes == sorted(slopes, reverse=True)
    assert fits[-1].rate == pytest.approx(0.6, abs=1e-8)
    assert abs(fits[0].rate - 0.6) > 0.02


def test_separable_data_have_a_finite_slope():
    """Every longer completion wins: by symmetry the policy is as good as the reference at equal length."""
    slopes = []
    for ridge in (1.0, 1e-2, 1e-4, 1e-6):
        fit = length_controlled_win_rate([1, 1, 1, 0, 0, 0], [9, 8, 6, 4, 2, 1], [5] * 6, ridge=ridge)
        assert fit.rate == pytest.approx(0.5, abs=1e-12)
        slopes.append(fit.slope)
    assert all(later > earlier for earlier, later in itertools.pairwise(slopes))
    assert np.isfinite(slopes).all()


@pytest.mark.parametrize(("y", "rate", "constant"), [(1.0, 1.0, np.inf), (0.0, 0.0, -np.inf), (1e-310, 0.0, -np.inf)])
def test_all_won_or_all_lost_is_the_limit(y, rate, constant):
    fit = length_controlled_win_rate([y] * 3, [1, 2, 3], [3, 2, 2])
    assert (fit.rate, fit.constant, fit.slope) == (rate, constant, 0.0)


def test_a_judge_that_likes_length_is_seen_through():
    """Equal quality, log-odds 1.5 tanh(d / std) from length alone: raw about 0.7, controlled 0.5."""
    rng = np.random.default_rng(11)
    lengths, reference_lengths = rng.normal(130, 20, 4000).clip(1), rng.normal(100, 20, 4000).clip(1)
    x = feature(lengths, reference_lengths)
    y = (rng.random(4000) < expit(1.5 * x)).astype(float)
    fit = length_controlled_win_rate(y, lengths, reference_lengths)
    assert fit.raw > 0.68
    assert fit.rate == pytest.approx(0.5, abs=0.05)
    assert fit.slope == pytest.approx(1.5, abs=0.3)


@pytest.mark.parametrize(
    ("lengths", "extrapolated"), [([6, 7, 8], True), ([1, 2, 4], True), ([5, 6, 7], False), ([4, 6, 7], False)]
)
def test_extrapolation_is_said(lengths, extrapolated):
    assert length_controlled_win_rate([1, 0, 1], lengths, [5, 5, 5]).extrapolated is extrapolated


def test_one_prompt_and_inputs_untouched():
    y, lengths = np.array([0.25]), np.array([3])
    fit = length_controlled_win_rate(y, lengths, [1])
    assert (fit.rate, fit.slope) == (pytest.approx(0.25, abs=1e-15), pytest.approx(0.0, abs=1e-12))
    assert (y.tolist(), lengths.tolist()) == ([0.25], [3])


def test_soft_outcomes_on_which_full_newton_steps_diverge():
    """Hard cases found by search; the damped steps still converge to the optimality conditions."""
    y, lengths, reference = [1e-4, 0.6, 6e-3, 1e-4, 2e-8], [5, 9, 3, 5, 5], [10, 0, 9, 9, 10]
    fit = length_controlled_win_rate(y, lengths, reference, ridge=1e-4)
    x = feature(lengths, reference)
    residual = y - expit(fit.constant + fit.slope * x)
    assert (residual.sum(), (residual * x).sum()) == pytest.approx((0.0, 1e-4 * fit.slope), abs=1e-13)


def test_an_iteration_that_does_not_settle_says_so(monkeypatch):
    monkeypatch.setattr(length_control, "MAX_STEPS", 1)
    with pytest.raises(RuntimeError, match=r"no convergence in 1 Newton steps, last step .*; raise ridge = 0.01"):
        length_controlled_win_rate([0, 0, 1], [4, 5, 6], [5, 5, 5])


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (([1.5], [1], [1]), {}, ValueError, r"outcomes\[0\] = 1.5: an outcome lies in \[0, 1\]"),
        (([1, -0.1], [1, 1], [1, 1]), {}, ValueError, r"outcomes\[1\] = -0.1"),
        (([np.nan], [1], [1]), {}, ValueError, r"outcomes\[0\] = nan"),
        (([1], [-1], [1]), {}, ValueError, r"lengths\[0\] = -1.0: a length is at least 0"),
        (([1], [1], [-2]), {}, ValueError, r"reference_lengths\[0\] = -2.0"),
        (([1, 0], [1], [1, 1]), {}, ValueError, r"different shapes: outcomes \(2,\), lengths \(1,\)"),
        (([[1]], [[1]], [[1]]), {}, ValueError, r"outcomes has shape \(1, 1\)"),
        (([], [], []), {}, ValueError, r"outcomes has shape \(0,\)"),
        (([True], [1], [1]), {}, TypeError, "outcomes has dtype bool"),
        (([1], ["3"], [1]), {}, TypeError, "lengths has dtype <U1"),
        (([1], [1], [1]), {"ridge": 0.0}, ValueError, "ridge = 0.0"),
        (([1], [1], [1]), {"ridge": "1"}, TypeError, "ridge = '1'"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(arguments, options, error, message):
    with pytest.raises(error, match=message):
        length_controlled_win_rate(*arguments, **options)


def test_at_equal_lengths_the_rate_is_the_share_of_wins_itself():
    for n in range(1, 40):
        for wins in range(n + 1):
            outcomes = [1.0] * wins + [0.0] * (n - wins)
            fit = length_controlled_win_rate(outcomes, [5] * n, [5] * n)
            assert fit.rate == fit.raw == np.mean(outcomes)
