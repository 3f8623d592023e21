"""T1 and T2: Proposition 4.1 and Theorem 4.2 against 60-digit definitions, over the whole domain of the claims."""

import numpy as np
import pytest
from hypothesis import given

from dar_ref.theory import dual_kl, interpolate, kl, objective, optimum
from tests.strategies import Setting, interior_alphas, log_normalized, policy_pairs, settings
from tests.theory import reference

EPS = np.finfo(np.float64).eps
INF = np.inf
LEFT, RIGHT = np.array([0.0, -INF]), np.array([-INF, 0.0])
HALVES = np.log([0.5, 0.5])


def log_scale(*policies):
    return max(np.abs(p[p > -INF]).max() for p in policies)


def tilted_scale(s: Setting):
    return np.abs(s.advantage).max() / s.beta + log_scale(s.log_pi, s.log_pi_0, s.log_pi_t)


@given(settings())
def test_interpolation_is_its_definition(s):
    log_pi_ref, log_c = interpolate(s.log_pi_0, s.log_pi_t, s.alpha)
    mixed = reference.mixture(s.log_pi_0, s.log_pi_t, s.alpha)
    bound = 8 * EPS * log_scale(s.log_pi_0, s.log_pi_t)
    assert log_c <= 0.0
    assert reference.distance(log_c, reference.mpmath.log(reference.mpmath.fsum(mixed))) <= bound
    assert reference.distance(log_pi_ref, reference.log_normalized(mixed)) <= bound


@given(settings())
def test_t1_dual_kl_is_kl_to_the_interpolation_minus_log_c(s):
    log_pi_ref, log_c = interpolate(s.log_pi_0, s.log_pi_t, s.alpha)
    left = dual_kl(s.log_pi, s.log_pi_0, s.log_pi_t, s.alpha)
    right = kl(s.log_pi, log_pi_ref) - log_c
    bound = 8 * EPS * log_scale(s.log_pi, s.log_pi_0, s.log_pi_t)
    assert left == right or abs(left - right) <= bound
    assert reference.distance(left, reference.dual_kl(s.log_pi, s.log_pi_0, s.log_pi_t, s.alpha)) <= bound


@given(settings())
def test_t2_optimum_is_its_definition(s):
    bandit = s[1:]
    best = optimum(*bandit)
    tilted = reference.tilted(*bandit)
    bound = 8 * EPS * tilted_scale(s)
    assert reference.distance(best.log_pi, reference.log_normalized(tilted)) <= bound
    value = reference.mpf(s.beta) * reference.mpmath.log(reference.mpmath.fsum(tilted))
    assert reference.distance(best.value, value) <= s.beta * bound
    assert abs(np.exp(best.log_pi).sum() - 1.0) <= 8 * EPS  # normalised, however large the logits


@given(settings())
def test_t2_gap_is_beta_kl_for_every_policy(s):
    bandit = s[1:]
    best = optimum(*bandit)
    j_pi, j_best = objective(s.log_pi, *bandit), objective(best.log_pi, *bandit)
    bound = 8 * EPS * s.beta * tilted_scale(s)
    assert reference.distance(j_pi, reference.objective(s.log_pi, *bandit)) <= bound
    assert abs(j_best - best.value) <= bound
    gap = s.beta * kl(s.log_pi, best.log_pi)
    assert j_best - j_pi == gap or abs(j_best - j_pi - gap) <= bound


@given(policy_pairs(), interior_alphas)
def test_swapping_the_anchors_swaps_alpha(pair, alpha):
    log_pi_0, log_pi_t = pair
    one, two = interpolate(log_pi_0, log_pi_t, alpha), interpolate(log_pi_t, log_pi_0, 1.0 - alpha)
    assert one.log_pi_ref == pytest.approx(two.log_pi_ref, abs=16 * EPS * log_scale(*pair))
    assert one.log_c == pytest.approx(two.log_c, abs=16 * EPS * log_scale(*pair))


@given(settings())
def test_a_constant_added_to_the_advantage_moves_only_the_value(s):
    best = optimum(*s[1:])
    shifted = optimum(s.advantage + 3.0 * s.beta, *s[2:])
    bound = 16 * EPS * (tilted_scale(s) + 3.0)
    assert shifted.log_pi == pytest.approx(best.log_pi, abs=bound)
    assert shifted.value == pytest.approx(best.value + 3.0 * s.beta, abs=s.beta * bound)


def test_end_points_return_the_anchor_to_the_bit():
    log_pi_0, log_pi_t = np.log([0.3, 0.3, 0.4]), np.log([0.1, 0.2, 0.7])
    for alpha, anchor in ((0.0, log_pi_t), (1.0, log_pi_0)):
        log_pi_ref, log_c = interpolate(log_pi_0, log_pi_t, alpha)
        assert (log_pi_ref == anchor).all()
        assert log_c == 0.0


def test_end_points_are_exact_and_never_nan():
    log_pi_0, log_pi_t = np.log([0.25, 0.75]), LEFT
    at_zero, at_one = interpolate(log_pi_0, log_pi_t, 0.0), interpolate(log_pi_0, log_pi_t, 1.0)
    assert (at_zero.log_pi_ref == log_pi_t).all()
    assert (at_one.log_pi_ref == log_pi_0).all()
    assert at_zero.log_c == at_one.log_c == 0.0
    assert dual_kl(log_pi_0, log_pi_0, log_pi_t, 1.0) == 0.0  # 0 * inf = 0: pi_t has weight zero
    assert dual_kl(log_pi_0, log_pi_0, log_pi_t, 0.0) == INF
    assert dual_kl(log_pi_t, log_pi_0, log_pi_t, 0.0) == 0.0
    assert objective(log_pi_0, np.zeros(2), log_pi_0, log_pi_t, 0.5, 1.0) == -INF
    assert optimum(np.array([1.0, 2.0]), LEFT, RIGHT, 1.0, 1.0) == (pytest.approx(LEFT), pytest.approx(1.0))
    assert optimum(np.array([1.0, 2.0]), LEFT, RIGHT, 0.0, 1.0) == (pytest.approx(RIGHT), pytest.approx(2.0))
    assert (interpolate(LEFT, HALVES, 0.5).log_pi_ref == LEFT).all()


def test_results_do_not_share_memory_with_their_input():
    log_pi_0, log_pi_t = HALVES.copy(), HALVES.copy()
    for alpha in (0.0, 0.5, 1.0):
        for anchor in (log_pi_0, log_pi_t):
            assert not np.shares_memory(interpolate(log_pi_0, log_pi_t, alpha).log_pi_ref, anchor)
            assert not np.shares_memory(optimum(np.zeros(2), log_pi_0, log_pi_t, alpha, 1.0).log_pi, anchor)
    assert (log_pi_0 == HALVES).all()
    assert (log_pi_t == HALVES).all()


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_leading_axes_broadcast(alpha):
    rng = np.random.default_rng(0)
    log_pi, log_pi_0, log_pi_t = (log_normalized(rng.normal(size=s)) for s in ((4, 1, 1, 3), (2, 1, 3), (5, 3)))
    advantage = rng.normal(size=3)
    values, best = (
        objective(log_pi, advantage, log_pi_0, log_pi_t, alpha, 0.5),
        optimum(advantage, log_pi_0, log_pi_t, alpha, 0.5),
    )
    assert values.shape == dual_kl(log_pi, log_pi_0, log_pi_t, alpha).shape == (4, 2, 5)
    assert interpolate(log_pi_0, log_pi_t, alpha).log_c.shape == best.value.shape == (2, 5)
    assert interpolate(log_pi_0, log_pi_t, alpha).log_pi_ref.shape == best.log_pi.shape == (2, 5, 3)
    one = (advantage, log_pi_0[1, 0], log_pi_t[4], alpha, 0.5)
    assert values[3, 1, 4] == pytest.approx(objective(log_pi[3, 0, 0], *one), rel=1e-15)
    assert best.log_pi[1, 4] == pytest.approx(optimum(*one).log_pi, rel=1e-15)


@pytest.mark.parametrize("beta", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_a_million_arms(beta, size):
    rng = np.random.default_rng(0)
    log_pi_0, log_pi_t = (log_normalized(rng.normal(size=10**6)) for _ in range(2))
    advantage = size * rng.normal(size=10**6)
    alpha = 0.1
    best = optimum(advantage, log_pi_0, log_pi_t, alpha, beta)
    # the reference: extended precision, with the sum in the opposite order
    logits = np.longdouble(alpha) * log_pi_0 + (1 - np.longdouble(alpha)) * log_pi_t + advantage / np.longdouble(beta)
    top = logits.max()
    total = top + np.log(np.exp(logits - top)[::-1].sum())
    bound = 8 * EPS * (np.abs(advantage).max() / beta + log_scale(log_pi_0, log_pi_t))
    assert np.isfinite(best.log_pi).all()
    assert np.abs(best.log_pi - (logits - total)).max() <= bound
    assert abs(best.value - beta * total) <= beta * bound
    assert abs(objective(best.log_pi, advantage, log_pi_0, log_pi_t, alpha, beta) - best.value) <= 2 * beta * bound


def test_t1_and_t2_symbolically_for_a_general_pair_of_arms():
    """Both theorems symbolically: two arms, and no numbers."""
    import sympy as sp

    p, a, b, alpha, beta = sp.symbols("p a b alpha beta", positive=True)  # pi, pi_0, pi_t on the first arm
    adv_1, adv_2 = sp.symbols("A_1 A_2", real=True)
    pi, pi_0, pi_t = (p, 1 - p), (a, 1 - a), (b, 1 - b)
    log = {x: sp.Symbol(f"l{i}", real=True) for i, x in enumerate((*pi, *pi_0, *pi_t))}  # log x, as free symbols

    def kl_of(first, second):
        return sum(x * (log[x] - log[y]) for x, y in zip(first, second, strict=True))

    dual = alpha * kl_of(pi, pi_0) + (1 - alpha) * kl_of(pi, pi_t)
    mixed = [alpha * log[x] + (1 - alpha) * log[y] for x, y in zip(pi_0, pi_t, strict=True)]
    log_c = sp.Symbol("log_C", real=True)
    kl_to_ref = sum(x * (log[x] - (m - log_c)) for x, m in zip(pi, mixed, strict=True))
    assert sp.expand(dual - (kl_to_ref - log_c)) == 0

    log_z = sp.Symbol("log_Z", real=True)
    log_best = [m + adv / beta - log_z for m, adv in zip(mixed, (adv_1, adv_2), strict=True)]
    j_pi = p * adv_1 + (1 - p) * adv_2 - beta * dual
    value = beta * log_z  # J(pi*), for any pi: value - J(pi) = beta KL(pi‖pi*)
    kl_to_best = sum(x * (log[x] - best) for x, best in zip(pi, log_best, strict=True))
    assert sp.expand(value - j_pi - beta * kl_to_best) == 0
    assert sp.expand(value - j_pi - beta * kl_to_best.subs(beta, 2 * beta)) != 0
