"""The theory in 60-digit mpmath, from the definitions, to test the float64 code.

Policies are given as float64 log-probabilities, taken as exact numbers and normalised exactly; probability zero is
`-inf`.
"""

from collections.abc import Sequence

import mpmath
import numpy as np
from mpmath import mpf

mpmath.mp.dps = 60


def probabilities(log_p: Sequence[float]) -> list[mpf]:
    weights = [mpmath.exp(mpf(float(x))) if x > -np.inf else mpf(0) for x in log_p]
    total = mpmath.fsum(weights)
    return [w / total for w in weights]


def kl(log_p: Sequence[float], log_q: Sequence[float]) -> mpf:
    return mpmath.fsum(
        p * mpmath.log(p / q) if q > 0 else mpmath.inf
        for p, q in zip(probabilities(log_p), probabilities(log_q), strict=True)
        if p > 0
    )


def power_sum(log_p: Sequence[float], log_q: Sequence[float], order: float) -> mpf:
    """sum p^order q^(1-order) over the common support."""
    pairs = zip(probabilities(log_p), probabilities(log_q), strict=True)
    return mpmath.fsum(p ** mpf(order) * q ** (1 - mpf(order)) for p, q in pairs if p > 0 and q > 0)


def mixture(log_pi_0: Sequence[float], log_pi_t: Sequence[float], alpha: float) -> list[mpf]:
    """pi_0^alpha pi_t^(1-alpha) arm by arm, with 0^0 = 1."""
    pairs = zip(probabilities(log_pi_0), probabilities(log_pi_t), strict=True)
    return [mpf(p) ** mpf(alpha) * mpf(q) ** (1 - mpf(alpha)) for p, q in pairs]


def dual_kl(log_pi, log_pi_0, log_pi_t, alpha) -> mpf:
    total = mpf(0)
    if alpha > 0:
        total += mpf(alpha) * kl(log_pi, log_pi_0)
    if alpha < 1:
        total += (1 - mpf(alpha)) * kl(log_pi, log_pi_t)
    return total


def objective(log_pi, advantage, log_pi_0, log_pi_t, alpha, beta) -> mpf:
    mean = mpmath.fsum(p * mpf(float(a)) for p, a in zip(probabilities(log_pi), advantage, strict=True))
    return mean - mpf(beta) * dual_kl(log_pi, log_pi_0, log_pi_t, alpha)


def tilted(advantage, log_pi_0, log_pi_t, alpha, beta) -> list[mpf]:
    """pi_0^alpha pi_t^(1-alpha) exp(A/beta) arm by arm."""
    mixed = mixture(log_pi_0, log_pi_t, alpha)
    return [m * mpmath.exp(mpf(float(a)) / mpf(beta)) for m, a in zip(mixed, advantage, strict=True)]


def weights(advantage, log_pi_0, log_pi_t, alpha, beta, w_clip=None) -> list[mpf]:
    """pi_t min(w, w_clip) arm by arm, w = (pi_0/pi_t)^alpha exp(A/beta)."""
    out = []
    for p, q, a in zip(probabilities(log_pi_0), probabilities(log_pi_t), advantage, strict=True):
        if q == 0:
            out.append(mpf(0))
            continue
        w = (p / q) ** mpf(alpha) * mpmath.exp(mpf(float(a)) / mpf(beta))
        out.append(q * (w if w_clip is None else min(w, mpf(w_clip))))
    return out


def log_normalized(values: list[mpf]) -> list[mpf]:
    total = mpmath.fsum(values)
    return [mpmath.log(v / total) if v > 0 else -mpmath.inf for v in values]


def distance(actual, expected) -> float:
    """Largest |actual - expected|; 0 where both are the same infinity."""
    actual, expected = np.atleast_1d(actual), expected if isinstance(expected, list) else [expected]
    assert len(actual) == len(expected)
    return max(
        0.0 if mpf(float(a)) == e else float(abs(mpf(float(a)) - e)) for a, e in zip(actual, expected, strict=True)
    )
