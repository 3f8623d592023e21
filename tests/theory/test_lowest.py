"""The search for alpha: against 60 digits, at any size of block, and in how many passes over the arms."""

import mpmath
import numpy as np
import pytest
from mpmath import mpf

from dar_ref.theory import feasible, lowest
from dar_ref.theory.checks import EPS
from dar_ref.theory.lowest import lowest_log_c


def normalized(logits):
    top = logits.max(axis=-1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))


def exact(log_p, log_q, slope):
    """Minimum, alpha, and what an error of one ulp in the derivative's terms does to alpha; by bisection."""
    pairs = [(mpf(a), mpf(b)) for a, b in zip(log_p.tolist(), log_q.tolist(), strict=True) if max(-a, -b) < np.inf]

    def moments(alpha):
        weights = [mpmath.exp(alpha * a + (1 - alpha) * b) for a, b in pairs]
        return [
            mpmath.fsum(w * f(a - b) for w, (a, b) in zip(weights, pairs, strict=True)) / mpmath.fsum(weights)
            for f in (lambda r: r, abs, lambda r: r * r)
        ]

    low, high = mpf(0), mpf(1)
    for _ in range(140):
        middle = (low + high) / 2
        low, high = (low, middle) if moments(middle)[0] + slope > 0 else (middle, high)
    alpha = mpf(round(low)) if min(low, 1 - low) < mpf(2) ** -130 else low
    value = alpha * slope + mpmath.log(mpmath.fsum(mpmath.exp(alpha * a + (1 - alpha) * b) for a, b in pairs))
    mean, size, square = moments(alpha)
    variance = square - mean**2
    return value, alpha, EPS * (size + abs(slope)) / variance if variance > 0 else mpf(1)


def draw(rng):
    """Policies from nearly equal to hundreds of nats apart, some that differ only where there is little mass. (Beyond
    700 nats the weights of such arms are 0 in float64, and alpha cannot be known.)"""
    arms, scale = rng.integers(2, 24), 10.0 ** rng.uniform(-6.0, 2.0)
    base = rng.normal(size=arms) * 10.0 ** rng.uniform(-1.0, 2.0) * (rng.random() < 0.5)
    log_p, log_q = (normalized(base + scale * rng.normal(size=arms)) for _ in range(2))
    lost = rng.random((2, arms)) < 0.1 * (rng.random() < 0.3)
    lost[:, 0] = False
    slope = rng.normal() * min(scale, 10.0) * 10.0 ** rng.uniform(-4.0, 1.0) * (rng.random() < 0.5)
    return np.where(lost[0], -np.inf, log_p), np.where(lost[1], -np.inf, log_q), slope


def test_minimum_and_alpha_have_all_their_digits():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(60):
        log_p, log_q, slope = draw(rng)
        value, alpha, noise = exact(log_p, log_q, mpf(slope))
        found, at = lowest_log_c(log_p, log_q, np.asarray(slope))
        size = 1.0 + abs(slope) + max(-x[x > -np.inf].min() for x in (log_p, log_q))
        assert abs(mpf(float(found)) - value) <= 2 * EPS * size
        assert abs(mpf(float(at)) - alpha) <= EPS + noise * size  # exp rounds by its argument
        inside += 0 < alpha < 1
    assert inside > 20


def test_alpha_is_found_where_all_that_differs_is_tiny():
    """One arm has all the mass and the same log-prob under both; the others decide, at e^-300."""
    log_p, log_q = np.array([0.0, -300.0, -304.0]), np.array([0.0, -303.0, -301.0])
    value, alpha, _ = exact(log_p, log_q, mpf(0))
    found, at = lowest_log_c(log_p, log_q, np.zeros(()))
    assert float(at) == pytest.approx(float(alpha), abs=1e-13)
    assert at == pytest.approx(1.0 / 3.0, abs=1e-13)  # where both of the small arms weigh the same
    assert float(found) == pytest.approx(float(value), abs=1e-100)


@pytest.mark.parametrize("arms", [4, lowest.FEW, lowest.FEW + 1, 100])
def test_blocks_of_any_size_give_the_same(arms, monkeypatch):
    rng = np.random.default_rng(arms)
    spread = 10.0 ** rng.uniform(-3.0, 3.0, size=(60, 1))
    log_p, log_q = (normalized(spread * rng.normal(size=(60, arms))) for _ in range(2))
    log_p[::7, 0] = -np.inf
    slopes = np.where(rng.random(60) < 0.5, 0.0, spread[:, 0] * rng.normal(size=60))
    whole = lowest_log_c(log_p, log_q, slopes)
    for block in (1, 64, 1000):  # a part of the arms, some rows, many
        monkeypatch.setattr(lowest, "BLOCK", max(block, arms if arms <= lowest.FEW else 1))
        for one, other in zip(whole, lowest_log_c(log_p, log_q, slopes), strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("shape", "most"), [((5000, 4), 3.5), ((70, 1000), 3.0), ((200_000,), 3.0)])
def test_few_passes_over_the_arms(shape, most, monkeypatch):
    rng = np.random.default_rng(0)
    read = []
    real = lowest._Search._sums
    monkeypatch.setattr(lowest._Search, "_sums", lambda self, top: read.append(self.base.size) or real(self, top))
    log_p, log_q = (normalized(rng.normal(size=shape)) for _ in range(2))
    for eps_t in (0.3, 0.1):
        read.clear()
        feasible(log_p, log_q, 0.3, eps_t)
        assert 2.0 <= sum(read) / log_p.size <= most
