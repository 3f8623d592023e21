"""Bad input gets an error with value, reason and remedy; good input is never changed."""

import numpy as np
import pytest
import scipy.special

from dar_ref import theory

INF = np.inf
HALVES = np.log([0.5, 0.5])
ADVANTAGE = np.array([1.0, -1.0])

CALLS = {
    "kl": lambda p: theory.kl(p, HALVES),
    "kl second": lambda p: theory.kl(HALVES, p),
    "renyi": lambda p: theory.renyi(p, HALVES, 0.5),
    "chernoff": lambda p: theory.chernoff(HALVES, p),
    "interpolate": lambda p: theory.interpolate(p, HALVES, 0.5),
    "dual_kl": lambda p: theory.dual_kl(p, HALVES, HALVES, 0.5),
    "objective": lambda p: theory.objective(p, ADVANTAGE, HALVES, HALVES, 0.5, 1.0),
    "optimum": lambda p: theory.optimum(ADVANTAGE, HALVES, p, 0.5, 1.0),
    "regression_target": lambda p: theory.regression_target(ADVANTAGE, p, HALVES, 0.5, 1.0),
    "regression_weights": lambda p: theory.regression_weights(ADVANTAGE, HALVES, p, 0.5, 1.0),
    "regression_loss": lambda p: theory.regression_loss(p, ADVANTAGE, HALVES, HALVES, 0.5, 1.0),
}

BAD_POLICIES = {
    "probabilities": (np.array([0.5, 0.5]), ValueError, r"holds probabilities .* pass np\.log"),
    "sum below one": (np.log([0.5, 0.4]), ValueError, r"sum to 0\.9.*normalise it in float64"),
    "sum just too far": (HALVES + 3e-8, ValueError, "sum to 1.00000003"),
    "nan": (np.array([np.nan, 0.0]), ValueError, r"\[0\] is NaN"),
    "nan second": (np.array([[0.0, -INF], [0.0, np.nan]]), ValueError, r"\[1, 1\] is NaN"),
    "+inf": (np.array([-1.0, INF]), ValueError, r"\[1\] is \+inf"),
    "overflowing": (np.array([1e4, 0.0]), ValueError, "sum to inf"),
    "all -inf": (np.array([-INF, -INF]), ValueError, "sum to 0.0"),
    "arms": (np.log([0.25, 0.25, 0.5]), ValueError, "different numbers of arms"),
    "one arm": (np.zeros(1), ValueError, "different numbers of arms"),
    "integers": (np.array([0, 0]), TypeError, "dtype int64, not a floating type"),
    "booleans": (np.array([True, False]), TypeError, "dtype bool"),
    "complex": (HALVES.astype(complex), TypeError, "dtype complex128"),
    "objects": (np.array([0.5, None]), TypeError, "dtype object"),
    "empty": (np.zeros((0, 2)), ValueError, r"shape \(0, 2\)"),
    "no arms": (np.zeros(0), ValueError, r"shape \(0,\)"),
    "scalar": (np.float64(0.0), ValueError, r"shape \(\)"),
}


@pytest.mark.parametrize("bad", BAD_POLICIES)
@pytest.mark.parametrize("call", CALLS)
def test_a_bad_policy_is_refused_everywhere(call, bad):
    value, error, message = BAD_POLICIES[bad]
    with pytest.raises(error, match=message):
        CALLS[call](value)


@pytest.mark.parametrize("call", CALLS)
def test_policies_within_the_tolerance_and_in_other_layouts_are_accepted(call):
    CALLS[call](HALVES + 0.9e-8)
    CALLS[call](HALVES.tolist())
    assert CALLS[call](np.stack([HALVES, HALVES])) is not None


def test_the_name_of_the_bad_argument_is_in_the_message():
    with pytest.raises(ValueError, match="log_pi_t"):
        theory.optimum(ADVANTAGE, HALVES, np.array([0.5, 0.5]), 0.5, 1.0)
    with pytest.raises(ValueError, match=r"row|log_pi_0\[1\]: probabilities"):
        theory.optimum(ADVANTAGE, np.stack([HALVES, HALVES - 1.0]), HALVES, 0.5, 1.0)
    with pytest.raises(ValueError, match=r"advantage\[1\] = nan: every value must be finite"):
        theory.optimum(np.array([0.0, np.nan]), HALVES, HALVES, 0.5, 1.0)
    with pytest.raises(ValueError, match=r"leading axes do not broadcast: log_p \(2, 2\), log_q \(3, 2\)"):
        theory.kl(np.stack([HALVES] * 2), np.stack([HALVES] * 3))
    with pytest.raises(ValueError, match=r"no arm in common in row \[1\]"):
        theory.interpolate(np.array([[0.0, -INF], [0.0, -INF]]), np.array([[0.0, -INF], [-INF, 0.0]]), 0.5)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_advantages_must_be_finite(value):
    with pytest.raises(ValueError, match="advantage"):
        theory.objective(HALVES, np.array([0.0, value]), HALVES, HALVES, 0.5, 1.0)


@pytest.mark.parametrize(
    ("alpha", "error"),
    [
        (-0.1, ValueError),
        (1.1, ValueError),
        (np.nan, ValueError),
        ("0.5", TypeError),
        (None, TypeError),
        (True, TypeError),
        (HALVES, TypeError),
    ],
)
def test_alpha_lies_in_the_unit_interval(alpha, error):
    with pytest.raises(error, match="alpha = "):
        theory.interpolate(HALVES, HALVES, alpha)


@pytest.mark.parametrize(
    ("value", "error"),
    [(0.0, ValueError), (-1.0, ValueError), (np.inf, ValueError), (np.nan, ValueError), ("1", TypeError)],
)
def test_beta_is_finite_and_positive(value, error):
    with pytest.raises(error, match=r"^beta = "):
        theory.optimum(ADVANTAGE, HALVES, HALVES, 0.5, value)
    with pytest.raises(error, match=r"^beta = "):
        theory.objective(HALVES, ADVANTAGE, HALVES, HALVES, 0.5, value)
    with pytest.raises(error, match=r"^beta = "):
        theory.regression_target(ADVANTAGE, HALVES, HALVES, 0.5, value)


@pytest.mark.parametrize(
    ("value", "error"), [(0.0, ValueError), (-1.0, ValueError), (np.nan, ValueError), ("1", TypeError)]
)
def test_w_clip_is_positive(value, error):
    with pytest.raises(error, match="w_clip = "):
        theory.regression_target(ADVANTAGE, HALVES, HALVES, 0.5, 1.0, value)


@pytest.mark.parametrize(("value", "error"), [(-0.1, ValueError), (np.nan, ValueError), (None, TypeError)])
def test_order_is_not_negative(value, error):
    with pytest.raises(error, match="order = "):
        theory.renyi(HALVES, HALVES, value)


def test_overflow_of_a_over_beta_is_refused():
    with pytest.raises(ValueError, match="overflows float64"):
        theory.optimum(np.array([1e306, 0.0]), HALVES, HALVES, 0.5, 1e-6)
    with pytest.raises(ValueError, match="overflows float64"):
        theory.regression_target(np.array([-1e306, 0.0]), HALVES, HALVES, 0.5, 1e-6, 2.0)
    wide = np.array([1e308, -1e308])  # each is a number, their difference is not: an arm would be lost
    with pytest.raises(ValueError, match="overflows float64"):
        theory.optimum(wide, HALVES, HALVES, 0.5, 1.0)
    with pytest.raises(ValueError, match="overflows float64"):
        theory.fixed_point(wide, HALVES, 1.0, 1.0)
    with pytest.raises(ValueError, match="the difference overflows float64"):
        theory.sampled_target(wide, HALVES, HALVES, 0.5, 1.0, 2, normalize="group")


def test_the_advice_for_float32_policies_works():
    logits = np.random.default_rng(0).normal(size=(200, 50)).astype(np.float32)
    narrow = scipy.special.log_softmax(logits, axis=-1)
    with pytest.raises(ValueError, match=r"np.asarray\(\w+, dtype=float\)"):
        theory.kl(narrow, narrow)
    wide = scipy.special.log_softmax(np.asarray(narrow, dtype=float), axis=-1)
    assert not theory.kl(wide, wide).any()


def test_numpy_scalars_are_numbers_and_float32_is_taken_as_given():
    assert theory.interpolate(HALVES, HALVES, np.float32(0.5)).log_c == 0.0
    assert theory.kl(np.zeros(1, dtype=np.float32), np.zeros(1)).dtype == np.float64


def test_inputs_are_never_changed():
    arrays = [np.log([0.3, 0.7]), np.array([1.0, 2.0]), np.log([0.6, 0.4]), np.array([0.0, -INF])]
    before = [a.copy() for a in arrays]
    theory.objective(*arrays, 0.5, 1.0)
    theory.optimum(*arrays[1:], 0.0, 1.0)
    theory.regression_loss(*arrays, 0.5, 1.0, 0.1)
    theory.chernoff(arrays[0], arrays[3])
    theory.renyi(arrays[3], arrays[0], 2.0)
    assert all((a == b).all() for a, b in zip(arrays, before, strict=True))


def test_scalar_messages_say_whether_infinity_is_allowed():
    with pytest.raises(ValueError, match=r"^beta = inf is not a finite number above 0; pass beta > 0$"):
        theory.optimum(ADVANTAGE, HALVES, HALVES, 0.5, INF)
    with pytest.raises(ValueError, match=r"^w_clip = 0.0 is not a number above 0; pass w_clip > 0$"):
        theory.regression_target(ADVANTAGE, HALVES, HALVES, 0.5, 1.0, 0.0)
    with pytest.raises(ValueError, match=r"^order = -1 is not a number of at least 0; pass order >= 0$"):
        theory.renyi(HALVES, HALVES, -1)


def test_messages_point_at_the_row():
    with pytest.raises(ValueError, match=r"^log_p: probabilities sum to 0.9"):
        theory.kl(np.log([0.5, 0.4]), HALVES)
    bad = np.stack([HALVES, np.log([0.5, 0.4]), np.log([0.5, 0.1])])  # the message names the worst row
    with pytest.raises(ValueError, match=r"^log_p\[2\]: probabilities sum to 0.6"):
        theory.kl(bad, HALVES)
    bad[2] = np.log([0.5, 0.7])  # further from 1 than the row of 0.9, on the other side
    with pytest.raises(ValueError, match=r"^log_p\[2\]: probabilities sum to 1.2"):
        theory.kl(bad, HALVES)
    left, right = np.array([0.0, -INF]), np.array([-INF, 0.0])
    with pytest.raises(ValueError, match="no arm in common: "):
        theory.interpolate(left, right, 0.5)
    with pytest.raises(ValueError, match=r"log_p holds probabilities"):
        theory.kl(np.array([[1.0, 0.0], [0.5, 0.5]]), HALVES)


def test_messages_name_the_argument_its_value_and_its_type():
    with pytest.raises(TypeError, match=r"^log_q has dtype int64"):
        theory.kl(HALVES, np.array([0, 0]))
    with pytest.raises(TypeError, match=r"^advantage has dtype int64"):
        theory.optimum(np.array([0, 1]), HALVES, HALVES, 0.5, 1.0)
    with pytest.raises(TypeError, match=r"^beta = '1' is a str, not a real number; pass one float$"):
        theory.optimum(ADVANTAGE, HALVES, HALVES, 0.5, "1")
    with pytest.raises(ValueError, match=r"different numbers of arms on the last axis: log_p \(2,\), log_q \(3,\)"):
        theory.kl(HALVES, np.log([0.25, 0.25, 0.5]))
