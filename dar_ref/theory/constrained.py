"""The balls behind the feasible region (T7): one for each alpha, and the best policy of each.

By T1, the constraints `KL(pi‖pi_0) <= e0` and `KL(pi‖pi_t) <= et`, weighted with alpha and 1-alpha, give one ball:

    KL(pi‖pi_ref(alpha)) <= rho(alpha) = alpha e0 + (1-alpha) et + log C(alpha)

It contains the region, and its best policy for A is a tilt `pi_ref exp(tau A)`, tau = 1/beta. The dual of T7 says that
the lowest of these best values over alpha is the best value of the region. So two nested one-variable roots solve it,
and both functions change sign once: no start, however far off, leads them astray.
"""

import numpy as np
from numpy.typing import NDArray

from dar_ref.theory.checks import Array
from dar_ref.theory.divergence import log_sum_exp
from dar_ref.theory.dual_kl import log_mixture, log_normalize

ULP = float(np.finfo(np.float64).eps)
LARGEST_TILT = 1e308


class Balls:
    """The family of balls of one bandit. Arrays run over the common support; `gain` is A brought to [-1, 0]."""

    def __init__(
        self,
        log_pi_0: Array,
        log_pi_t: Array,
        kept: NDArray[np.bool_],
        gain: Array,
        eps_0: float,
        eps_t: float,
        margin: float,
    ) -> None:
        self.whole, self.kept = (log_pi_0, log_pi_t), kept
        self.log_p, self.log_q, self.gain = log_pi_0[kept], log_pi_t[kept], gain
        self.log_ratio, self.best = self.log_p - self.log_q, gain == 0.0
        self.top = kept.copy()
        self.top[kept] = self.best
        self.eps_0, self.eps_t, self.margin = eps_0, eps_t, margin

    def tilt(self, alpha: float, start: float) -> float:
        """The tau at which the tilted policy reaches the ball's surface; inf if the ball contains a maximiser of A.

        Its divergence from `pi_ref` grows with tau from 0 to `-log pi_ref(best arms)`; the square root is nearly linear
        at first, so Newton runs on that, within a bracket. `start` is a guess (0: none).
        """
        budget, mixture = weighted(alpha, self.eps_0, self.eps_t), log_mixture(self.log_p, self.log_q, alpha)
        log_ref, log_c = log_normalize(mixture)
        log_best = log_sum_exp(mixture[self.best])
        if alpha in (0.0, 1.0):  # where these logarithms may be tiny, and known better
            log_c, log_best = (log_overlap(*self.whole, arms, np.asarray(alpha))[0] for arms in (self.kept, self.top))
        if budget + float(log_best) >= 0.0:
            return np.inf
        radius = max(budget + float(log_c), self.margin)  # the margin is its minimum
        ref, low, high = np.exp(log_ref), 0.0, np.inf
        centred = self.gain - ref @ self.gain
        spread = float(ref @ centred**2)
        guess = np.sqrt(2.0 * radius / spread) if spread > radius else 1.0
        tau = float(start if 0.0 < start < np.inf else guess)
        for step in range(300):  # pragma: no branch (the bracket is down to one ulp long before)
            divergence, variance, noise = _tilted(ref, log_ref, self.gain, centred, tau)
            low, high = (tau, high) if divergence < radius else (low, tau)
            root = np.sqrt(divergence)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # a useless step is replaced at once
                newton = tau + (np.sqrt(radius) - root) * 2.0 * root / np.float64(tau * variance)
            if root == 0.0 or not (low <= newton <= high and np.isfinite(newton)) or (step > 40 and step % 2):
                newton = _between(low, high)
            if abs(newton - tau) <= 4e-16 * tau or abs(divergence - radius) <= noise:
                break
            tau = float(newton)
        return tau

    def solve(self, certificate: float, inner: float) -> tuple[float, float]:
        """The alpha whose ball has the lowest best value, and its tau.

        The best value is quasiconvex in alpha, and its slope has the sign of `lean = (e0 - KL_0) - (et - KL_t)` at the
        ball's best policy. `certificate` is that of the region: a small region has its alpha close by. `inner` is the
        certificate that the best arms lie outside: tau is finite at and around it.
        """
        for end, sign in ((0.0, 1.0), (1.0, -1.0)):
            tau = self.tilt(end, 0.0)
            if np.isfinite(tau) and sign * self._lean(end, tau)[0] >= 0.0:
                return end, tau
        low, high, before = 0.0, 1.0, np.inf
        alpha = certificate if 0.0 < certificate < 1.0 else inner if 0.0 < inner < 1.0 else 0.5
        for _ in range(200):  # pragma: no branch (as above)
            tau = self.tilt(alpha, tau)
            lean, slope, noise = self._lean(alpha, tau) if np.isfinite(tau) else (alpha - inner, 0.0, 0.0)
            low, high = (alpha, high) if lean < 0.0 else (low, alpha)
            newton = alpha - lean / slope if slope > abs(lean) * 1e-9 else np.nan
            proposal = newton if low < newton < high and abs(lean) < 0.5 * before else 0.5 * (low + high)
            if abs(lean) <= noise or abs(proposal - alpha) <= 1e-16:
                break
            alpha, before = proposal, abs(lean)
        return alpha, min(tau, LARGEST_TILT)  # inf only where rounding hides that the best arms lie outside

    def _lean(self, alpha: float, tau: float) -> tuple[float, float, float]:
        """`lean` at the best policy of a ball, its derivative in alpha along these policies, and its rounding error."""
        pi = np.exp(log_normalize(log_mixture(self.log_p, self.log_q, alpha) + tau * self.gain)[0])
        ratio = self.log_ratio - pi @ self.log_ratio
        gain = self.gain - pi @ self.gain
        lean = float(pi @ self.log_ratio) + (self.eps_0 - self.eps_t)
        noise = ULP * float(pi @ np.abs(self.log_ratio))
        variance, mixed = float(pi @ gain**2), float(pi @ (gain * ratio))
        along = mixed * (mixed - lean / tau) / variance if variance > 0.0 else np.inf  # -inf: no Newton step
        return lean, float(pi @ ratio**2) - along, noise


def _tilted(ref: Array, log_ref: Array, gain: Array, centred: Array, tau: float) -> tuple[float, float, float]:
    """KL(pi‖ref), Var_pi[gain] and the error of the KL, `pi ∝ ref exp(tau gain)`; no cancellation up to tau = 1."""
    if tau > 1.0:
        log_pi, log_total = log_normalize(log_ref + tau * gain)
        pi = np.exp(log_pi)
        mean = float(pi @ gain)
        spread = float(pi @ (gain - mean) ** 2)
        return max(tau * mean - float(log_total), 0.0), spread, ULP * (tau * abs(mean) + abs(float(log_total)))
    growth = np.expm1(tau * centred)
    total = float(ref @ growth)
    mean = float(ref @ (growth * centred)) / (1.0 + total)
    variance = float((ref * (1.0 + growth)) @ (centred - mean) ** 2) / (1.0 + total)
    divergence = max(tau * mean - float(np.log1p(total)), 0.0)
    return divergence, variance, ULP * divergence


def _between(low: float, high: float) -> float:
    """A point between two bounds of tau whose ratio may span all of float64."""
    if high == np.inf:
        return max(min(low * max(low, 8.0), LARGEST_TILT), 1e-300) if low < 1e154 else LARGEST_TILT
    return float(np.sqrt(low) * np.sqrt(high)) if low > 0.0 else high / 64.0


def weighted(alpha: float, eps_0: float, eps_t: float) -> float:
    """`alpha eps_0 + (1-alpha) eps_t` with `0 * inf = 0`."""
    return (alpha * eps_0 if alpha > 0.0 else 0.0) + ((1.0 - alpha) * eps_t if alpha < 1.0 else 0.0)


def log_overlap(log_p: Array, log_q: Array, kept: NDArray[np.bool_], alpha: Array) -> tuple[Array, Array]:
    """log sum over the arms `kept` of `p^alpha q^(1-alpha)` (...), and the size of the terms its rounding scales with.

    At the end points, and between equal policies, it is the log of one policy's mass on `kept`. That mass is 1 minus
    the rest, so a policy that loses no arm gives exactly 0: small radii around one anchor keep all their digits.
    """
    with np.errstate(invalid="ignore"):
        logits = np.where(kept, alpha[..., None] * log_p + (1.0 - alpha)[..., None] * log_q, -np.inf)
    equal = (np.where(kept, log_p, 0.0) == np.where(kept, log_q, 0.0)).all(axis=-1)
    log_c = log_sum_exp(logits)
    some = np.isfinite(log_c)
    ref = np.exp(logits - np.where(some, log_c, 0.0)[..., None])
    size = 1.0 + (ref * np.where(kept, np.abs(log_p) + np.abs(log_q), 0.0)).sum(axis=-1)
    for log_anchor, at_end in ((log_q, (alpha == 0.0) | equal), (log_p, alpha == 1.0)):
        lost = np.where(kept, 0.0, np.exp(log_anchor)).sum(axis=-1)
        exact = at_end & (lost <= 0.5)
        log_mass = np.log1p(-np.where(exact, lost, 0.0))
        log_c, size = np.where(exact, log_mass, log_c), np.where(exact, -log_mass, size)
    return np.where(some, log_c, -np.inf), np.where(some, size, 1.0)
