"""The best policy in the region where the two balls of the paper's conflict meet (T7).

Let `l0` and `lt` be the multipliers of the two constraints. If one of them is positive, the maximiser of E_pi[A] over
the region is a DAR policy on the common support `S`:

    pi ∝ pi_0^alpha pi_t^(1-alpha) exp(A/beta),     alpha = l0/(l0+lt),     beta = l0+lt

So DAR's (alpha, beta) sweep the frontier of the hard-constrained problem. The paper draws the region; T7 is ours.

By T1, the constraints `KL(pi‖pi_0) <= e0` and `KL(pi‖pi_t) <= et`, weighted with alpha and 1-alpha, give one ball:

    KL(pi‖pi_ref(alpha)) <= rho(alpha) = alpha e0 + (1-alpha) et + log C(alpha)

This ball contains the region, and its best policy for A is a tilt `pi_ref exp(tau A)`, tau = 1/beta. By the duality of
T7, the lowest of these best values over alpha is the best value of the region. So the solver nests two one-variable
root searches. Each function changes sign once, so the searches converge from any start.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dar_ref.theory import checks
from dar_ref.theory.checks import EPS, LARGEST_TILT, Array
from dar_ref.theory.divergence import log_sum_exp
from dar_ref.theory.dual_kl import log_mixture, log_normalize
from dar_ref.theory.region import log_overlap, lowest_margin, weighted


class ConstrainedOptimum(NamedTuple):
    """`log_pi` (A,): the best policy of the region; `alpha`, `beta`: its DAR parameters; `value`: E_pi[A]."""

    log_pi: Array
    alpha: float
    beta: float
    value: float


def constrained_optimum(
    advantage: ArrayLike, log_pi_0: ArrayLike, log_pi_t: ArrayLike, eps_0: float, eps_t: float
) -> ConstrainedOptimum:
    """The maximiser of E_pi[A] under `KL(pi‖pi_0) <= eps_0` and `KL(pi‖pi_t) <= eps_t`, as a DAR policy.

        dual: minimise beta (alpha eps_0 + (1-alpha) eps_t + log sum_S pi_0^alpha pi_t^(1-alpha) exp(A/beta))
        over alpha in [0, 1] and beta >= 0

    Args:
        advantage: A (A,), finite.
        log_pi_0: initial policy (A,), log-probabilities.
        log_pi_t: current policy (A,), log-probabilities.
        eps_0: radius of the ball around `pi_0`, in nats, in [0, inf].
        eps_t: radius of the ball around `pi_t`, in nats, in [0, inf].

    Returns:
        `ConstrainedOptimum(log_pi, alpha, beta, value)`. The cases:
        both constraints are needed: 0 < alpha < 1; that of `pi_0` is enough: alpha 1; that of `pi_t`: alpha 0;
        the balls touch (margin 0): beta inf, alpha the certificate, `pi_ref` on `S`;
        a maximiser of A over `S` lies in the region (for example A constant): beta 0, alpha nan. Of these maximisers,
        the policy whose smaller slack is largest: `pi_ref` on the best arms, at their own certificate;
        both radii infinite: beta 0, alpha nan, uniform over the best of all arms.

    Raises:
        TypeError, ValueError: bad input, leading axes, or an empty region (the message gives the certificate).

    Source: T7.

    >>> import numpy as np
    >>> log_pi_0, log_pi_t = np.log([0.7, 0.2, 0.1]), np.log([0.1, 0.2, 0.7])
    >>> best = constrained_optimum(np.array([0.0, 1.0, 0.0]), log_pi_0, log_pi_t, 0.4, 0.4)
    >>> round(best.alpha, 9), round(best.value, 6), round(float(np.exp(best.log_pi[0])), 6)
    (0.5, 0.467136, 0.266432)
    """
    advantage, log_pi_0, log_pi_t = checks.single(advantage=advantage, log_pi_0=log_pi_0, log_pi_t=log_pi_t)
    eps_0, eps_t = checks.non_negative("eps_0", eps_0), checks.non_negative("eps_t", eps_t)
    if eps_0 == eps_t == np.inf:
        best = advantage == advantage.max()
        return _outcome(advantage, best, np.zeros(best.sum()), np.nan, 0.0)
    alone = float(np.isinf(eps_t)) if np.inf in (eps_0, eps_t) else None
    if alone is not None:  # only one ball constrains: use it twice, and fix alpha at its end point
        log_pi_0 = log_pi_t = log_pi_0 if alone else log_pi_t
        eps_0 = eps_t = min(eps_0, eps_t)
    kept = (log_pi_0 > -np.inf) & (log_pi_t > -np.inf)
    alpha, margin = (float(x) for x in lowest_margin(log_pi_0, log_pi_t, kept, eps_0, eps_t))
    if margin < 0.0:
        _refuse_empty(alpha, margin)
    if margin == 0.0:
        alpha = alpha if alone is None else alone
        return _outcome(advantage, kept, log_mixture(log_pi_0[kept], log_pi_t[kept], alpha), alpha, np.inf)
    best = kept & (advantage == advantage[kept].max())
    inner_alpha, inner_margin = (float(x) for x in lowest_margin(log_pi_0, log_pi_t, best, eps_0, eps_t))
    if inner_margin >= 0.0:
        return _outcome(advantage, best, log_mixture(log_pi_0[best], log_pi_t[best], inner_alpha), np.nan, 0.0)
    half_gap = 0.5 * advantage[kept] - 0.5 * advantage[kept].max()  # halves: the difference itself may overflow
    half_range = -float(half_gap.min())
    balls = _Balls(log_pi_0, log_pi_t, kept, half_gap / half_range, eps_0, eps_t, margin)
    alpha, tau = balls.solve(alpha, inner_alpha) if alone is None else (alone, balls.tilt(alone, 0.0))
    logits = log_mixture(log_pi_0[kept], log_pi_t[kept], alpha) + tau * balls.gain
    return _outcome(advantage, kept, logits, alpha, half_range / (0.5 * tau))


def _outcome(advantage: Array, kept: NDArray[np.bool_], logits: Array, alpha: float, beta: float) -> ConstrainedOptimum:
    log_pi = np.full(advantage.shape, -np.inf)
    log_pi[kept] = log_normalize(logits)[0]
    return ConstrainedOptimum(log_pi, alpha, beta, float(np.exp(log_pi) @ advantage))


def _refuse_empty(alpha: float, margin: float) -> None:
    if margin == -np.inf:
        raise ValueError(
            f"the region is empty: log_pi_0 and log_pi_t have no arm in common (certificate: alpha = {alpha!r},"
            f" margin = {margin!r}); give both policies some common support or make one radius infinite"
        )
    raise ValueError(
        f"the region is empty: certificate alpha = {alpha!r}, where alpha eps_0 + (1-alpha) eps_t + log C, its margin ="
        f" {margin!r}, is below 0; raise both radii by {-margin!r}, where the balls touch, or more"
    )


class _Balls:
    """The balls of one bandit, one per alpha. Arrays run over the common support; `gain` is A scaled to [-1, 0]."""

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

        The divergence from `pi_ref` grows with tau from 0 to `-log pi_ref(best arms)`. Its square root is nearly linear
        at small tau, so a bracketed Newton iteration runs on the root. `start` is a guess (0: none).
        """
        budget, mixture = weighted(alpha, self.eps_0, self.eps_t), log_mixture(self.log_p, self.log_q, alpha)
        log_ref, log_c = log_normalize(mixture)
        log_best = log_sum_exp(mixture[self.best])
        if alpha in (0.0, 1.0):  # these logarithms may be tiny here; log_overlap keeps their digits
            log_c, log_best = (log_overlap(*self.whole, arms, np.asarray(alpha))[0] for arms in (self.kept, self.top))
        if budget + float(log_best) >= 0.0:
            return np.inf
        radius = max(budget + float(log_c), self.margin)  # the margin is its minimum
        ref, low, high = np.exp(log_ref), 0.0, np.inf
        centred = self.gain - ref @ self.gain
        spread = float(ref @ centred**2)
        guess = np.sqrt(2.0 * radius / spread) if spread > radius else 1.0
        tau = float(start if 0.0 < start < np.inf else guess)
        for step in range(300):  # pragma: no branch (the bracket shrinks to one ulp long before)
            divergence, variance, noise = _tilted(ref, log_ref, self.gain, centred, tau)
            low, high = (tau, high) if divergence < radius else (low, tau)
            root = np.sqrt(divergence)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # a non-finite step is replaced below
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
        ball's best policy. `certificate` is the alpha of the region's certificate: in a small region the answer is
        close to it. `inner` is the certificate that the best arms lie outside: tau is finite in its neighbourhood.
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
        noise = EPS * float(pi @ np.abs(self.log_ratio))
        variance, mixed = float(pi @ gain**2), float(pi @ (gain * ratio))
        along = mixed * (mixed - lean / tau) / variance if variance > 0.0 else np.inf  # -inf: no Newton step
        return lean, float(pi @ ratio**2) - along, noise


def _tilted(ref: Array, log_ref: Array, gain: Array, centred: Array, tau: float) -> tuple[float, float, float]:
    """KL(pi‖ref), Var_pi[gain] and the KL's error for `pi ∝ ref exp(tau gain)`, without cancellation up to tau = 1."""
    if tau > 1.0:
        log_pi, log_total = log_normalize(log_ref + tau * gain)
        pi = np.exp(log_pi)
        mean = float(pi @ gain)
        spread = float(pi @ (gain - mean) ** 2)
        return max(tau * mean - float(log_total), 0.0), spread, EPS * (tau * abs(mean) + abs(float(log_total)))
    growth = np.expm1(tau * centred)
    total = float(ref @ growth)
    mean = float(ref @ (growth * centred)) / (1.0 + total)
    variance = float((ref * (1.0 + growth)) @ (centred - mean) ** 2) / (1.0 + total)
    divergence = max(tau * mean - float(np.log1p(total)), 0.0)
    return divergence, variance, EPS * divergence


def _between(low: float, high: float) -> float:
    """A point between two bounds of tau whose ratio may span all of float64."""
    if high == np.inf:
        return max(min(low * max(low, 8.0), LARGEST_TILT), 1e-300) if low < 1e154 else LARGEST_TILT
    return float(np.sqrt(low) * np.sqrt(high)) if low > 0.0 else high / 64.0
