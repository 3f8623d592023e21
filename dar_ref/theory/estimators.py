"""Exact mean and covariance of the DAR, DAO, GRPO and RLOO updates, by enumeration of all batches (T8, T10, T14).

The policy is a tabular softmax with one row of logits per prompt. A completion is one arm. An update is the gradient of
**minus** the loss with respect to the logits, the direction of ascent. All four updates have the form

    U = 1/(N K) sum_i c_i grad log pi_theta(y_i),   y_i ~ pi_t,   grad log pi_theta(y) = e_y - pi_theta

They differ only in the coefficient, with `rho = pi_theta/pi_t`:

    dar    c = w = min((pi_0/pi_t)^alpha exp(A/beta), w_clip);  with zero-sum weights c = w/E[w] - 1
    dao    c = rho (A - beta (alpha log(pi_theta/pi_0) + (1-alpha) log(pi_theta/pi_t)))
    grpo   c = rho A [inside the clip] + beta (pi_0/pi_theta - 1)
    rloo   c = A

No gradient flows through any term except `rho` in dao and grpo. GRPO's second term is the gradient of its k3 penalty.
RLOO's reward is `r - beta log(pi_t/pi_0)`, fixed at sampling time. RLOO has no ratio, so on stale samples
(pi_theta != pi_t) it is a biased policy gradient. Group statistics are population statistics (GRPO's paper does not say
which).

Baselines: "group" is the mean over the K rewards, own sample included; "batch" that over all N*K, which couples the
prompts; "leave_one_out" the mean of the others; with "none" the reward is the advantage. Normalisations: "group"
divides by the population std of the K advantages, "batch" by that of all N*K; equal advantages give 0. DAR's practical
loss has baseline "group" and normalises over the "batch".

Does the regression remove the variance of the ratio? It replaces one ratio by another: `w = Z pi*/pi_t` with
`Z = sum pi_t w` (exact advantage, no clip). DAR's noise is that of pi*/pi_t. This ratio does not change with `pi_theta`
and can be clipped. The noise of DAO and GRPO is that of pi_theta/pi_t, which grows with every step away from `pi_t`. At
`pi_theta = pi*` the two ratios are equal. DAR's weights are positive: near `pi_t` they contain a constant that adds
noise and no signal. Zero-sum weights subtract it (T14). E[w] is the exact mean, over all batches and prompts. A batch's
own mean in its place is another update, and biased: of a single sample it leaves nothing.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from dar_ref.theory import checks
from dar_ref.theory.batches import Baseline, Normalize, batches
from dar_ref.theory.checks import Array
from dar_ref.theory.updates import Method, Options, Update, Weights, checked_update, directions, independent_parts


class Moments(NamedTuple):
    """`mean` (N*A,) and `covariance` (N*A, N*A) of an update of the logits; prompts one after another."""

    mean: Array
    covariance: Array


def estimator_moments(
    method: Method,
    reward: ArrayLike,
    log_pi_theta: ArrayLike,
    log_pi_0: ArrayLike,
    log_pi_t: ArrayLike,
    num_generations: int,
    *,
    alpha: float | None = None,
    beta: float = 0.05,
    w_clip: float | None = None,
    epsilon: float | None = None,
    baseline: Baseline | None = None,
    normalize: Normalize | None = None,
    weights: Weights = "dar",
) -> Moments:
    """Exact mean and covariance of one update over all batches of N prompts with K completions each, drawn from `pi_t`.

    Args:
        method: "dar", "dao", "grpo" or "rloo", as in the module's docstring. It refuses options of another method.
        reward: r (A,) for one prompt or (N, A), finite.
        log_pi_theta: policy being fitted (A,) or (N, A), log-probabilities; positive wherever `pi_t` is.
        log_pi_0: initial policy (A,) or (N, A); for dao (alpha > 0) and rloo (beta > 0) positive wherever `pi_t` is.
        log_pi_t: sampler (A,) or (N, A). The four arrays broadcast.
        num_generations: K, completions per prompt, `>= 1`; `>= 2` where a mean or std over the group is taken.
        alpha: dar and dao: weight of `pi_0`, in [0, 1]; None takes the paper's 0.1.
        beta: strength of the regulariser, advantage per nat; `> 0` for dar and dao, `>= 0` for grpo and rloo.
        w_clip: dar: upper bound of the weight, `> 0`; None for no bound.
        epsilon: grpo: half-width of the ratio's clip, in [0, inf] (inf: no clip); None takes 0.2.
        baseline: "group", "batch", "leave_one_out" or "none"; None takes leave_one_out for rloo, else group.
        normalize: "none", "group" or "batch"; None takes "group" for grpo and "none" for the others.
        weights: dar: "dar" for `w`, "zero_sum" for `w/E[w] - 1`.

    Returns:
        `Moments(mean, covariance)`, (N*A,) and (N*A, N*A), in units of the coefficient.

    Raises:
        TypeError, ValueError: bad input, K = 1 with a group statistic, too many batches, or moments beyond float64.

    Source: T8, T14. DAR: the paper's practical loss; DAO: DESIGN's dual-KL score-function form; GRPO: DeepSeekMath
    (arXiv 2402.03300), equations 3 and 4; RLOO: Ahmadian et al. (arXiv 2402.14740).

    >>> flat = np.log([0.5, 0.5])
    >>> estimator_moments("rloo", np.array([1.0, 0.0]), flat, flat, flat, 2, beta=0.0).mean.round(12).tolist()
    [0.25, -0.25]
    """
    arrays = {"reward": reward, "log_pi_theta": log_pi_theta, "log_pi_0": log_pi_0, "log_pi_t": log_pi_t}
    options = Options(alpha, beta, w_clip, epsilon, baseline, normalize, weights)
    return _within_float64(_moments(checked_update(method, arrays, num_generations, options)), options, method)


def noise_to_signal(moments: Moments) -> float:
    """Noise-to-signal ratio `trace(covariance) / |mean|^2` of an update; the same for any multiple of the update.

    Args:
        moments: of an update, from `estimator_moments`.

    Returns:
        The ratio, `>= 0`; inf where the mean is exactly 0 and the noise is not; NaN where both are 0, or so small
        (below about 1e-160) that their squares are 0 in float64.

    Source: T8. DAR's and DAO's means differ by the factor 1/beta, so only a ratio compares them.

    >>> noise_to_signal(Moments(np.array([0.5, -0.5]), np.array([[0.5, -0.5], [-0.5, 0.5]])))
    2.0
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.trace(moments.covariance) / np.sum(moments.mean**2))


def efficiency(moments: Moments, gradient: ArrayLike) -> float:
    """Share of |gradient|^2 that one update, at its best step size, recovers: bias and variance in one number.

        max_s 1 - E|s U - G|^2 / |G|^2 = cos^2(E[U], G) / (1 + noise_to_signal) = (E[U] . G)^2 / (E|U|^2 |G|^2)

    Args:
        moments: of an update U, from `estimator_moments`.
        gradient: G (N*A,) or (N, A), the exact gradient to recover; finite, not zero.

    Returns:
        The share in [0, 1]; NaN where the update is always 0, or below about 1e-160.

    Raises:
        ValueError: a gradient of another size, all zero, or not finite.

    Source: T8; the usual optimal-step argument.
    """
    (gradient,) = checks.arrays(gradient=gradient)
    if gradient.size != moments.mean.size or not gradient.any():
        raise ValueError(
            f"gradient has {gradient.size} entries, largest {np.abs(gradient).max()!r}, for an update of"
            f" {moments.mean.size}; pass one entry per logit, not all zero"
        )
    wanted = gradient.ravel() / np.abs(gradient).max()
    second_moment = np.trace(moments.covariance) + np.sum(moments.mean**2)
    with np.errstate(invalid="ignore"):
        return float((moments.mean @ wanted) ** 2 / (second_moment * (wanted @ wanted)))


def _moments(update: Update) -> Moments:
    """Moments of independent parts; the mean over N prompts scales their blocks by 1/N and 1/N^2."""
    parts = [_moments_by_enumeration(part) for part in independent_parts(update)]
    mean = np.concatenate([part.mean for part in parts]) / len(parts)
    covariance, start = np.zeros((mean.size, mean.size)), 0
    for part in parts:
        own = slice(start, start + part.mean.size)
        covariance[own, own] = part.covariance / len(parts) ** 2
        start = own.stop
    return Moments(mean, covariance)


def _moments_by_enumeration(update: Update) -> Moments:
    """Two passes over the enumeration: the mean, then the covariance around it (no cancelling of second moments)."""
    size = update.reward.size
    mean, covariance = np.zeros(size), np.zeros((size, size))
    with np.errstate(over="ignore", invalid="ignore"):  # `_within_float64` refuses moments beyond float64
        for chunk in batches(update.log_pi_t, update.num_generations):
            mean = mean + np.exp(chunk.log_probability) @ directions(update, chunk)
        for chunk in batches(update.log_pi_t, update.num_generations):
            root = np.exp(0.5 * chunk.log_probability)[:, None] * (directions(update, chunk) - mean)
            covariance = covariance + root.T @ root
    return Moments(mean, covariance)


def _within_float64(moments: Moments, options: Options, method: str) -> Moments:
    if not (np.isfinite(moments.mean).all() and np.isfinite(moments.covariance).all()):
        remedy = "raise beta, give dar a w_clip," if method == "dar" else "lower beta"
        raise ValueError(
            f"the moments of method {method!r} leave the range of float64 (beta = {options.beta!r}, w_clip ="
            f" {options.w_clip!r}); {remedy} or bring the policies closer together"
        )
    return moments
