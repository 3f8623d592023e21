"""Intervals: against full enumeration of the resamples, scipy, defining equations, and coverage on simulated data."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dar_ref.evaluation import NotAnInterval, bootstrap, length_controlled_win_rate, paired_difference, student, wilson

levels = st.floats(0.5, 0.999)
values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


def enumerated(data, resample):
    """The mean of every resample, each equally likely."""
    s, p = data.shape if data.ndim == 2 else (len(data), 1)
    data = data.reshape(s, p)
    for units in itertools.product(range(s), repeat=s):
        rows = data[list(units)]
        if resample == "units":
            yield rows.mean()
        else:
            yield from (rows[:, list(columns)].mean() for columns in itertools.product(range(p), repeat=p))


@pytest.mark.parametrize("resample", ["units", "crossed"])
@pytest.mark.parametrize("level", [0.6, 0.9])
def test_the_ends_are_the_quantiles_over_all_resamples(resample, level):
    """3 seeds x 2 prompts: 27 and 108 resamples, enumerated; (1 -+ level)/2 of them lie below the ends."""
    data = np.array([[0.0, 1.7], [4.1, 2.3], [9.2, 3.9]])
    exact = np.array(list(enumerated(data, resample)))
    assert len(exact) == {"units": 27, "crossed": 27 * 4}[resample]
    interval = bootstrap(data, resample=resample, level=level, resamples=5_000)
    assert interval.estimate == data.mean()
    assert interval.level == level
    slack = 4 * np.sqrt(0.25 / 5_000)  # four standard deviations of a simulated share
    for end, share in ((interval.low, (1 - level) / 2), (interval.high, (1 + level) / 2)):
        assert (exact < end - 1e-9).mean() - slack <= share <= (exact <= end + 1e-9).mean() + slack


def test_units_agree_with_scipy():
    data = np.random.default_rng(5).exponential(size=40)
    ours = bootstrap(data, resamples=5_000, seed=1)
    theirs = stats.bootstrap((data,), np.mean, method="percentile", n_resamples=5_000, rng=0).confidence_interval
    sigma = data.std() / np.sqrt(40)
    assert (ours.low, ours.high) == pytest.approx(
        (theirs.low, theirs.high), abs=0.2 * sigma
    )  # the ends differ by 0.05 sigma, typically


def covered(make, cover, datasets=400):
    """The number of simulated data sets whose interval contains the true value 0."""
    rng = np.random.default_rng(0)
    return sum(interval.low <= 0.0 <= interval.high for interval in (cover(make(rng)) for _ in range(datasets)))


def test_coverage_of_the_bootstrap_over_forty_prompts():
    hits = covered(lambda rng: rng.normal(size=40), lambda x: bootstrap(x, resamples=120))
    assert stats.binomtest(hits, 400, 0.94).pvalue > 1e-3


def test_five_seeds_the_bootstrap_is_too_narrow_and_student_is_exact():
    bootstrapped = covered(lambda rng: rng.normal(size=5), lambda x: bootstrap(x, resamples=200))
    assert stats.binomtest(bootstrapped, 400, 0.83).pvalue > 1e-3
    assert stats.binomtest(bootstrapped, 400, 0.95, alternative="less").pvalue < 1e-6
    assert stats.binomtest(covered(lambda rng: rng.normal(size=5), student), 400, 0.95).pvalue > 1e-3


def test_prompts_shared_by_all_seeds_need_the_crossed_draw():
    """Hard prompts are hard for every seed: intervals that ignore this miss the true value most of the time."""

    def shared(rng):
        return rng.normal(size=20) + 0.05 * rng.normal(size=(8, 1)) + 0.5 * rng.normal(size=(8, 20))

    hits = {
        resample: covered(shared, lambda x, r=resample: bootstrap(x, resample=r, resamples=100), datasets=200)
        for resample in ("units", "crossed")
    }
    assert hits["crossed"] > 175
    assert hits["units"] < 150


@given(values, st.integers(0, 2**31))
def test_bootstrap_lies_in_the_range_and_the_seed_decides(data, seed):
    first = bootstrap(data, resamples=20, seed=seed)
    assert first == bootstrap(data, resamples=20, seed=seed)
    slack = 1e-9 * (1.0 + max(map(abs, data)))
    if isinstance(first, NotAnInterval):
        assert np.ptp(data) <= slack or len(data) == 1
        return
    assert min(data) - slack <= first.low <= first.high <= max(data) + slack


def test_every_option_changes_the_result():
    data = np.random.default_rng(2).normal(size=(6, 9))
    base = bootstrap(data, resamples=300)
    others = [
        bootstrap(data, resamples=300, statistic=lambda x: float(np.median(x))),
        bootstrap(data, resamples=300, resample="crossed"),
        bootstrap(data, resamples=300, level=0.8),
        bootstrap(data, resamples=299),
        bootstrap(data, resamples=300, seed=1),
    ]
    assert len({base, *others}) == 6
    assert others[2].low > base.low
    assert others[2].high < base.high


def test_samples_are_drawn_together():
    """y = 2 x in every resample, so the slope has no spread; a statistic of three paired columns runs too."""
    x = np.random.default_rng(1).normal(size=12)
    interval = bootstrap(x, 2 * x, statistic=lambda a, b: float((a * b).sum() / (a * a).sum()), resamples=50)
    assert (interval.estimate, type(interval)) == (pytest.approx(2.0, abs=1e-14), NotAnInterval)
    y, lengths = (x > 0).astype(float), np.arange(12)
    rate = bootstrap(
        y, lengths, np.full(12, 5), statistic=lambda *a: length_controlled_win_rate(*a).rate, resamples=100
    )
    assert rate.estimate == length_controlled_win_rate(y, lengths, [5] * 12).rate
    assert 0.0 <= rate.low <= rate.estimate <= rate.high <= 1.0


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20), levels)
def test_student_is_scipys(data, level):
    interval = student(data, level=level)
    spread = float(np.std(np.array(data) - data[0], ddof=1))
    assert interval.estimate == pytest.approx(np.mean(data), abs=1e-9)
    if spread > 1e-6:
        expected = stats.t.interval(level, len(data) - 1, loc=np.mean(data), scale=spread / np.sqrt(len(data)))
        assert (interval.low, interval.high) == pytest.approx(expected, rel=1e-8, abs=1e-9)


def test_equal_values_have_width_zero():
    assert student([0.1] * 3) == (0.1, 0.1, 0.1, 0.95)


@given(st.integers(0, 2**32 - 1), st.integers(2, 8), st.integers(1, 6))
def test_paired_difference_is_student_on_the_differences(seed, seeds, prompts):
    rng = np.random.default_rng(seed)
    ours, theirs = rng.normal(size=(2, seeds, prompts))
    interval = paired_difference(ours, theirs, level=0.9)
    expected = student([np.mean(a - b) for a, b in zip(ours, theirs, strict=True)], level=0.9)
    assert interval == pytest.approx(expected, abs=1e-12)
    swapped = paired_difference(theirs, ours, level=0.9)
    assert (-swapped.estimate, -swapped.high, -swapped.low) == pytest.approx(interval[:3], abs=1e-12)
    common = 100.0 * rng.normal(size=(seeds, 1))  # the common effect of a seed cancels
    assert paired_difference(ours + common, theirs + common, level=0.9) == pytest.approx(interval, abs=1e-9)


@given(st.integers(1, 2000), st.floats(0.0, 1.0), levels)
def test_wilson_ends_solve_their_equation(n, share, level):
    successes = share * n
    interval = wilson(successes, n, level=level)
    p_hat, z = successes / n, stats.norm.ppf((1 + level) / 2)
    assert 0.0 <= interval.low <= p_hat + 1e-15
    assert p_hat - 1e-15 <= interval.high <= 1.0
    for p in (interval.low, interval.high):
        assert (p_hat - p) ** 2 == pytest.approx(z * z * p * (1 - p) / n, abs=1e-12)


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (1, 1), (7, 20), (500, 500), (1, 1000)])
def test_wilson_is_scipys_and_the_ends_are_exact(successes, trials):
    expected = stats.binomtest(successes, trials).proportion_ci(0.9, method="wilson")
    interval = wilson(successes, trials, level=0.9)
    assert interval == pytest.approx((successes / trials, expected.low, expected.high, 0.9), abs=1e-14)
    assert (interval.low == 0.0) == (successes == 0)
    assert (interval.high == 1.0) == (successes == trials)
    assert wilson(successes, np.int64(trials), level=0.9) == interval
    mirrored = wilson(trials - successes, trials, level=0.9)
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((interval.low, interval.high), abs=1e-15)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: bootstrap(), ValueError, "no samples given"),
        (lambda: bootstrap([]), ValueError, r"samples\[0\] has shape \(0,\)"),
        (lambda: bootstrap([1.0], [np.nan]), ValueError, r"samples\[1\]\[0\] = nan"),
        (lambda: bootstrap([1.0], [1.0, 2.0]), ValueError, r"samples have shapes \[\(1,\), \(2,\)\]: res"),
        (lambda: bootstrap([1.0], resample="crossed"), ValueError, "draws from the first 2 of their axes"),
        (lambda: bootstrap([[1.0]], [[1.0, 2.0]], resample="crossed"), ValueError, "resample = 'crossed' draws"),
        (lambda: bootstrap([1.0], resample="seeds"), ValueError, "resample = 'seeds' is unknown; choose one of units"),
        (lambda: bootstrap([1.0], level=1.0), ValueError, r"level = 1.0 gives a point .*inside \(0, 1\)"),
        (lambda: bootstrap([1.0], level=0), ValueError, "level = 0 gives a point"),
        (lambda: bootstrap([1.0], level=95), ValueError, "level = 95 is outside"),
        (lambda: bootstrap([1.0], resamples=0), ValueError, "resamples = 0 is below 1"),
        (lambda: bootstrap([1.0], resamples=10.0), TypeError, "resamples = 10.0 is a float"),
        (lambda: bootstrap([1.0], seed=-1), ValueError, "seed = -1 is below 0"),
        (lambda: bootstrap([1.0], seed=True), TypeError, "seed = True is a bool"),
        (lambda: bootstrap([1.0], statistic=lambda x: np.nan), ValueError, "statistic gave nan on the samples"),  # noqa: ARG005
        (lambda: bootstrap([1.0, 2.0], statistic=lambda x: 0.0 if np.ptp(x) else np.inf), ValueError, "on a resample"),
        (lambda: student([1.0]), ValueError, "values has one entry: a spread needs at least two; run more seeds"),
        (lambda: student([[1.0, 2.0]]), ValueError, r"values has shape \(1, 2\)"),
        (lambda: paired_difference([1.0, 2.0], [1.0]), ValueError, r"values \(2,\), baseline \(1,\)"),
        (lambda: paired_difference([1.0], [1.0]), ValueError, "values has one entry"),
        (lambda: student([]), ValueError, r"values has shape \(0,\)"),
        (lambda: student([np.inf]), ValueError, r"values\[0\] = inf"),
        (lambda: wilson(3, 2), ValueError, "successes = 3.0 exceeds trials = 2"),
        (lambda: wilson(-1, 2), ValueError, "successes = -1"),
        (lambda: wilson(0, 0), ValueError, "trials = 0 is below 1"),
        (lambda: wilson(1, 2.0), TypeError, "trials = 2.0 is a float"),
        (lambda: wilson(1, 2, level=1), ValueError, "level = 1 gives a point"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ([0.7], "one unit: nothing varies"),
        ([[0.0, 1.0]], "one unit: nothing varies"),
        ([1.0] * 9, "the statistic is the same in each of 50 resamples of 9 units"),
    ],
)
def test_a_bootstrap_that_cannot_vary_is_no_interval_of_width_zero(data, reason):
    found = bootstrap(data, resamples=50)
    assert found == NotAnInterval(float(np.mean(data)), reason, 0.95)
    assert not hasattr(found, "low")


@pytest.mark.parametrize("n", [2, 7, 300])
def test_many_means_at_once_are_the_means_one_by_one(n):
    data = np.random.default_rng(n).normal(size=n)
    one_by_one = bootstrap(data, statistic=lambda x: float(x.mean()), resamples=150)
    assert bootstrap(data, resamples=150) == pytest.approx(one_by_one, rel=1e-13, abs=1e-15)


@pytest.mark.parametrize("unit", [1e-300, 1e-12, 1.0, 1e12])
def test_small_numbers_vary_like_large_ones(unit):
    found = bootstrap(np.array([4.0, 3.0, 2.0, 1.0]) * unit)
    assert found.low / unit == pytest.approx(bootstrap([4.0, 3.0, 2.0, 1.0]).low)
    assert isinstance(bootstrap(np.full(4, 0.1 + 0.2) * unit), NotAnInterval)
