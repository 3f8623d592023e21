"""The two strengths of the predecessor and alpha and beta of DAR: the same objective, the same weight, one optimum."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dar_ref.theory import from_strengths, kl, objective, optimum, regression_weights, to_strengths

STRENGTHS = st.floats(0.0, 10.0).filter(lambda x: x == 0.0 or x > 1e-3)


@given(STRENGTHS, STRENGTHS.filter(lambda x: x > 0), st.integers(0, 2**32 - 1))
def test_objective_weight_and_optimum_are_the_predecessor_s(a, b, seed):
    random = np.random.default_rng(seed)
    pi_0, pi_t, pi = random.dirichlet(np.ones(5), size=3)
    advantage = random.normal(size=5)
    alpha, beta = from_strengths(a, b)
    logs = np.log(pi_0), np.log(pi_t)

    theirs = pi @ advantage - a * (pi @ np.log(pi / pi_0)) - b * (pi @ np.log(pi / pi_t))
    assert objective(np.log(pi), advantage, *logs, alpha, beta) == pytest.approx(theirs, rel=1e-9, abs=1e-9)

    weight = (pi_0 / pi_t) ** (a / (a + b)) * np.exp(advantage / (a + b) - advantage.max() / (a + b))
    ours = regression_weights(advantage, *logs, alpha, beta)
    assert np.exp(ours.log_weight - advantage.max() / (a + b)) == pytest.approx(weight, rel=1e-9)

    best = pi_t * weight / (pi_t * weight).sum()  # their closed form
    assert kl(np.log(best), optimum(advantage, *logs, alpha, beta).log_pi) == pytest.approx(0.0, abs=1e-9)


@given(STRENGTHS, STRENGTHS.filter(lambda x: x > 0))
def test_there_and_back(a, b):
    assert to_strengths(*from_strengths(a, b)) == pytest.approx((a, b), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(("a", "b"), [(0.0, 0.0), (-1.0, 1.0), (1.0, math.inf), (math.nan, 1.0)])
def test_strengths_out_of_range(a, b):
    with pytest.raises(ValueError, match=r"reference|stability"):
        from_strengths(a, b)


def test_a_sum_of_strengths_beyond_float64_is_refused():
    with pytest.raises(ValueError, match="overflows float64"):
        from_strengths(1e308, 1e308)
