"""The measures of error that the statements use."""

import numpy as np
import pytest
from flint import arb

from dar_ref.verify import statement
from dar_ref.verify.arb import policies
from dar_ref.verify.statement import Error

INF = np.inf


def test_errors_are_measured_by_their_scale():
    assert statement.relative(Error(3.0, 2.0)) == 1.5
    assert statement.relative(Error(0.0, 0.0)) == 0.0
    assert statement.relative(Error(1e-300, 0.0)) == INF  # no error is allowed at scale 0
    assert statement.relative(Error(np.nan, 1.0)) == INF
    assert statement.relative(Error(INF, 1.0)) == INF
    assert statement.relative(Error(1.0, INF)) == statement.relative(Error(INF, INF)) == INF  # a broken scale
    assert statement.relative(Error(-1.0, 1.0)) == INF


def test_scale_skips_probability_zero():
    assert statement.log_scale(np.array([-INF, 0.0]), np.array([-3.0, -0.5])) == 3.0


def test_distance_of_numbers_balls_and_infinities():
    assert statement.distance(1.0, 3.0) == statement.distance(arb(3), 1.0) == 2.0
    assert statement.distance(INF, arb("inf")) == 0.0
    assert statement.distance(INF, 1.0) == INF
    assert statement.distance(1.0, arb("inf")) == INF
    assert statement.distance(arb("1e-50"), arb(0)) == pytest.approx(1e-50)
    with policies.precision(200):  # digits beyond float64 are kept
        assert statement.distance(1 + arb(2) ** -100, 1.0) == statement.distance(1.0, 1 - arb(2) ** -100) == 2.0**-100


def test_policies_of_different_support_are_infinitely_far_apart():
    log_p = np.array([-1.0, -INF])
    assert statement.policy_distance(log_p, [arb(-1.5), None]) == 0.5
    assert statement.policy_distance(log_p, [arb(-1), arb(-2)]) == INF
    for log_q in ([np.nan, -1.0], [-1.0, np.nan]):  # a NaN in any arm
        assert np.isnan(statement.policy_distance(np.array(log_q), [arb(-1), arb(-1)]))
    assert statement.policy_distance(np.array([-1.0, -2.0]), [arb(-1), None]) == INF
    assert statement.policy_residuals([arb(1), None, None], [arb(3), None, arb(1)]) == [arb(-2), arb("inf")]
    assert statement.policy_residuals([None, arb(1)], [None, None]) == [arb("inf")]


def test_residuals_of_infinities_and_inequalities():
    inf = arb("inf")
    assert statement.residual(inf, inf) == 0
    assert statement.residual(inf, arb(1)) == inf
    assert statement.residual(arb(3), arb(1)) == 2
    assert statement.shortfall(arb(3), arb(1)) == 0
    assert statement.shortfall(arb(1), arb(3)) == -2
    assert statement.shortfall(arb(-3), arb(-5)) == 0
