"""The iteration with A divided by its std under pi_t: when it has a fixed point between the corners.

Every step replaces A by `a = (A - E_pi[A]) / s(pi)`, where `s` is the std of A under pi. Let `kappa = alpha beta`.

1. Fixed points. `pi = pi*(pi)` means `pi ∝ pi_0 exp(A/(kappa s(pi)))`. So pi lies on the curve
   `pi_theta ∝ pi_0 exp(theta A)`, at `kappa theta s(pi_theta) = 1`. Since `log(pi_theta/pi_0) = theta A - const`:

       h(theta) = theta s(pi_theta) = std of log(pi/pi_0) under pi = 1/(alpha beta).

   This is an identity of every fixed point with alpha > 0 and arms that are not all equally good: 200 nats at the
   paper's setting (certified in `verify`, T5). `h(0) = 0`, and `h -> 0` as theta -> inf, where s falls exponentially.
   So `h` has a maximum, and no `alpha beta` below `1/max h` has such a point. The scale of A plays no role: a gap of
   1e-6 has the effect of a gap of 1.
2. The path. From `pi_0` the iterates stay on the curve, and `theta' - theta = (1 - kappa h(theta)) / (beta s)`. Where h
   falls through `1/kappa`, the fixed point repels. Beyond the last fixed point theta grows for ever. **The corner
   arg max A attracts at every alpha and beta.** If `kappa max h < 1`, theta grows from every start: the run goes to the
   corner for any such alpha. (For alpha > 0 this holds off the curve too: the deviation shrinks by `1-alpha` a step.)
3. Two arms. Let x be half the log odds of the better arm (x_0 under pi_0). Then `h = (x - x_0)/cosh x`, and log h is
   concave with one peak, where `(x - x_0) tanh x = 1` and `1/h = sinh x`. This `sinh x` is the threshold: there are
   two, one or no fixed points if `alpha beta` is above, at or below it. For uniform `pi_0` the peak of h is the Laplace
   limit of Kepler's equation, 0.6627..., and the threshold is 1.5088...
4. Any rewards, any number of arms. Maximise `Var_pi[L]`, `L = log(pi/pi_0)`, over pi. At the maximum the derivative
   `L^2 + 2L - 2 E[L] L`, a quadratic in L, is the same for every arm. So L takes two values, which is the case of two
   arms, the better one with prior mass q. The peak rises as q falls: **no reward has a fixed point between the corners
   unless `alpha beta >=` the threshold of the smallest probability in pi_0**. A reward on that arm alone attains it.
   The threshold falls slowly, like `2/log(1/q)`: the paper's 0.005 needs an arm with `log pi_0` below -399.99.
5. Many prompts, one std. With `s^2` the mean of the prompts' variances, `h^2` is the mean of the prompts' `h^2`, hence
   at most the largest. **More prompts never create a fixed point.** Longer answers help: n tokens that are drawn and
   rewarded independently add their `h^2` within one prompt and divide the threshold by `sqrt(n)`.
6. The clip, `w_clip >= 1`. At a fixed point the clipped weights are equal on supp pi, and
   `E_pi[log w] = -alpha KL(pi‖pi_0) <= 0`. So not all weights are above the clip, hence none is: the clip neither adds
   nor removes a fixed point. Two arms, kappa below the threshold: the better arm has the larger weight before the clip
   (1-3), and not both weights are above the clip. So its odds grow at every step, up to the corner. Above the threshold
   a clip can change which limit a start reaches.

Deviation from practice: infinite batches, and exact minimisation at every step. Reward noise with the same distribution
on every arm keeps s away from 0. Then h grows without bound and a fixed point always exists.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from dar_ref.theory import checks
from dar_ref.theory.checks import Array
from dar_ref.theory.divergence import log_sum_exp
from dar_ref.theory.dual_kl import log_normalize
from dar_ref.theory.iteration import centred, log_variance
from dar_ref.theory.roots import crossing


class NormalizedFixedPoints(NamedTuple):
    """The fixed points where both arms have positive probability, nearest to `pi_0` first; n is 0, 1 or 2.

    `log_pi` (n, 2): the policies; `slope` (n,): derivative of one update with respect to the log odds, at the point;
    `attracting` (n,): `|slope| < 1`, so nearby starts converge to it.
    """

    log_pi: Array
    slope: Array
    attracting: np.ndarray[tuple[int], np.dtype[np.bool_]]


def log_ratio_std(advantage: ArrayLike, log_pi_0: ArrayLike, theta: ArrayLike) -> Array:
    """The curve `h(theta) = theta s(pi_theta)`: std of `log(pi_theta/pi_0)` under `pi_theta ∝ pi_0 exp(theta A)`.

    Its crossings with `1/(alpha beta)` are the fixed points of the normalised iteration. Where h falls, they repel;
    where h rises, they attract unless the step overshoots. With leading axes (many prompts, one std) h is the root mean
    square over all rows.

    Args:
        advantage: A (..., A), finite.
        log_pi_0: initial policy (..., A), log-probabilities.
        theta: tilts (M,), finite and `>= 0`, in nats per unit of the advantage.

    Returns:
        h (M,), in nats.

    Raises:
        TypeError, ValueError: bad input, or `theta * A` beyond float64.

    Source: T5, batch normalisation; steps 1 and 5 of the module's derivation.

    >>> import numpy as np
    >>> h = log_ratio_std(np.array([1.0, -1.0]), np.log([0.5, 0.5]), np.linspace(0.0, 5.0, 5001))
    >>> round(float(h.max()), 6), round(float(1 / h.max()), 5)
    (0.662743, 1.50888)
    """
    advantage, log_pi_0 = checks.arrays(advantage=advantage, log_pi_0=log_pi_0)
    checks.span(advantage=advantage)
    tilts = _tilts(theta, np.abs(advantage).max())
    curve = np.empty(tilts.shape)
    for i, tilt in enumerate(tilts):
        log_pi = log_normalize(log_pi_0 + tilt * advantage)[0]
        log_var = log_variance(centred(advantage, log_pi), log_pi)
        curve[i] = tilt * np.exp(0.5 * (log_sum_exp(log_var.ravel()) - np.log(log_var.size)))
    return curve


def normalized_threshold(log_prior: ArrayLike) -> Array:
    """The smallest `alpha beta` at which two arms have a fixed point between the corners, with A divided by its std.

        threshold = min over x > x_0 of cosh x / (x - x_0) = sinh x*,  (x* - x_0) tanh x* = 1,  2 x_0 = log q - log(1-q)

    The bound holds for any number of arms, with `log_prior = log_pi_0.min()`: no reward on those arms, and no batch of
    prompts with such `pi_0`, has a fixed point at a smaller `alpha beta`. A reward on the rarest arm alone attains it.

    Args:
        log_prior: log q (...), where q in (0, 1) is the initial probability of the better arm.

    Returns:
        Threshold (...), within 1e-12 relative. It rises with q: `~2/log(1/q)` as q -> 0, `~e/(2 sqrt(1-q))` as q -> 1.

    Raises:
        TypeError, ValueError: not a float, or outside (-inf, 0).

    Source: T5, batch normalisation; steps 3 and 4 of the module's derivation.

    >>> import numpy as np
    >>> round(float(normalized_threshold(np.log(0.5))), 12)
    1.508879561538
    """
    prior = np.asarray(log_prior)
    if not np.issubdtype(prior.dtype, np.floating):
        raise TypeError(f"log_prior has dtype {prior.dtype}, not a floating type; pass floats")
    if not ((prior > -np.inf) & (prior < 0.0)).all():
        raise ValueError(
            f"log_prior = {log_prior!r}: log q with 0 < q < 1 is needed; both arms must be possible under pi_0"
        )
    start = 0.5 * (prior.astype(np.float64) - np.log(-np.expm1(prior.astype(np.float64))))
    return np.sinh(_peak(start))


def normalized_fixed_points(
    advantage: ArrayLike, log_pi_0: ArrayLike, alpha: float, beta: float
) -> NormalizedFixedPoints:
    """All fixed points of two arms, both of positive probability, with A divided by its std under pi_t at every step.

        x' = alpha x_0 + (1-alpha) x + cosh(x)/beta       x: half the log odds of the better arm

    So `cosh x = alpha beta (x - x_0)` at a fixed point, and the slope of the update is `1 - alpha + sinh(x)/beta`. The
    point beyond the peak of h always repels. The point before the peak has a slope below 1 and attracts, unless the
    better arm is so rare that the step overshoots (slope <= -1).

    Args:
        advantage: A (2,), finite, two different values; only which one is larger matters.
        log_pi_0: initial policy (2,), both probabilities positive.
        alpha: weight of `pi_0`, in [0, 1].
        beta: strength of the regulariser, `> 0`; a pure number here, since the normalised A has no unit.

    Returns:
        `NormalizedFixedPoints(log_pi, slope, attracting)` with 0, 1 (exactly at the threshold) or 2 points.

    Raises:
        TypeError, ValueError: bad input, not two arms, equal advantages, or an arm that pi_0 lacks.

    Source: T5, batch normalisation; step 3 of the module's derivation.

    >>> import numpy as np
    >>> points = normalized_fixed_points(np.array([1.0, 0.0]), np.log([0.5, 0.5]), alpha=0.5, beta=4.0)
    >>> np.exp(points.log_pi[:, 0]).round(4).tolist(), points.attracting.tolist()
    ([0.7647, 0.986], [True, False])
    >>> normalized_fixed_points(np.array([1.0, 0.0]), np.log([0.5, 0.5]), alpha=0.1, beta=0.05).log_pi.shape
    (0, 2)
    """
    advantage, log_pi_0 = checks.arrays(advantage=advantage, log_pi_0=log_pi_0)
    alpha, beta = checks.alpha(alpha), checks.positive("beta", beta)
    _check_two_arms(advantage, log_pi_0)
    better = int(advantage[1] > advantage[0])
    x_0 = 0.5 * float(log_pi_0[better] - log_pi_0[1 - better])
    kappa, peak = alpha * beta, float(_peak(np.asarray(x_0)))
    threshold = np.sinh(peak)
    if kappa < threshold:
        x = np.empty(0)
    elif kappa == threshold:
        x = np.array([peak])
    else:
        high = peak + 1.0
        while _log_excess(high, x_0, kappa) <= 0.0:
            high += high - peak
        ends = ((x_0, peak), (peak, high))
        x = np.array([crossing(lambda x: _log_excess(x, x_0, kappa), low, peak, high) for low, high in ends])
    log_pi = np.empty((x.size, 2))
    log_pi[:, better], log_pi[:, 1 - better] = -np.logaddexp(0.0, -2.0 * x), -np.logaddexp(0.0, 2.0 * x)
    slope = 1.0 - alpha + np.sinh(x) / beta if kappa != threshold else np.ones(1)  # there it is 1, without rounding
    return NormalizedFixedPoints(log_pi, slope, np.abs(slope) < 1.0)


def _peak(x_0: Array) -> Array:
    """Root x > 0 of `x - x_0 = coth x`, the peak of `(x - x_0)/cosh x`. Newton's iterates rise to it (concave)."""
    x = np.maximum(x_0 + 1.0, 2.0 / (np.hypot(x_0, 2.0) - x_0))  # below the root, since coth x > 1 and coth x > 1/x
    for _ in range(8):  # quadratic convergence: five steps are enough everywhere
        coth = 1.0 / np.tanh(x)
        x = x + (coth - (x - x_0)) / coth / coth  # the derivative is 1 + 1/sinh^2 = coth^2
    return x


def _log_excess(x: float, x_0: float, kappa: float) -> float:
    """`log(cosh x / (kappa (x - x_0)))`: zero at the fixed points, convex in x, negative between them."""
    log_cosh = abs(x) + np.log1p(np.exp(-2.0 * abs(x))) - np.log(2.0)
    return float(log_cosh - np.log(kappa) - np.log(x - x_0)) if x > x_0 else np.inf


def _tilts(theta: ArrayLike, largest: float) -> Array:
    tilts = np.asarray(theta)
    if not np.issubdtype(tilts.dtype, np.floating):
        raise TypeError(f"theta has dtype {tilts.dtype}, not a floating type; pass floats")
    if tilts.ndim != 1 or not np.isfinite(tilts).all() or (tilts < 0.0).any():
        raise ValueError(
            f"theta = {theta!r}: finite tilts >= 0 on one axis are needed; pass for example np.linspace(0, 5, 501)"
        )
    with np.errstate(over="ignore"):
        if not np.isfinite(tilts * largest).all():
            raise ValueError(
                f"theta * advantage overflows float64: max theta = {tilts.max()!r}, max |advantage| = {largest!r};"
                " scale one of them down"
            )
    return tilts.astype(np.float64)


def _check_two_arms(advantage: Array, log_pi_0: Array) -> None:
    if advantage.shape != (2,) or log_pi_0.shape != (2,):
        raise ValueError(
            f"two arms and no leading axes are needed, got advantage {advantage.shape}, log_pi_0 {log_pi_0.shape};"
            " for more arms or prompts find the crossings of log_ratio_std"
        )
    if advantage[0] == advantage[1]:
        raise ValueError(
            f"both advantages are {float(advantage[0])!r}: their std is 0 under every policy; give two values"
        )
    if (log_pi_0 == -np.inf).any():
        raise ValueError(
            "log_pi_0 has probability 0 on an arm, where it stays 0; give both arms a positive probability"
        )
