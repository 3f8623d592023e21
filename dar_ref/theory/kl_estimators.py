"""The estimators k1, k2, k3 of KL(p‖q) from samples of p: their exact moments, and their gradients as losses (T8).

Let `x = log p(y)/q(y)` with `y ~ p`: the sampled policy comes first, as in `kl(log_p, log_q)`. Some texts define k1 as
`log q/p`, the negative of ours.

    k1 = x                 unbiased for KL(p‖q), may be negative
    k2 = x^2 / 2           biased, >= 0; close only where p is close to q
    k3 = exp(-x) - 1 + x   unbiased for KL(p‖q) - q(p = 0), >= 0: biased if q has mass where p has none

An unbiased value does not make a correct loss. Training loops differentiate the estimate with the samples held fixed.
The expected gradients are then

    k1   0                        no regularisation
    k2   grad KL(p‖q)             the correct gradient, although the value is biased
    k3   grad KL(q‖p) = p - q     the other direction (p of full support)
"""

from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dar_ref import scalars
from dar_ref.theory import checks
from dar_ref.theory.checks import Array

Estimator = Literal["k1", "k2", "k3"]


class KLMoments(NamedTuple):
    """`mean` (...) in nats and `variance` (...) in nats squared of the estimate from one sample."""

    mean: Array
    variance: Array


def kl_estimate(estimator: Estimator, log_ratio: ArrayLike) -> Array:
    """Estimate of KL(p‖q) from each sample y ~ p, given `x = log p(y) - log q(y)`.

    `k1 = x`, `k2 = x^2/2`, `k3 = exp(-x) - 1 + x`.

    Args:
        estimator: "k1", "k2" or "k3".
        log_ratio: x (...), finite, nats.

    Returns:
        Estimates (...), nats; `+inf` where `exp(-x)` or `x^2` leaves float64.

    Raises:
        TypeError: log ratios that are not floats.
        ValueError: unknown estimator, or log ratios that are not finite.

    Source: Schulman, "Approximating KL Divergence" (2020); k3 is the penalty of GRPO, DeepSeekMath equation 4.

    >>> kl_estimate("k3", np.log([0.5, 2.0])).round(6).tolist()
    [0.306853, 0.193147]
    """
    scalars.choice("estimator", estimator, get_args(Estimator))
    (log_ratio,) = checks.arrays(**{"the log_ratio": log_ratio})  # a name that begins with log_ is checked as a policy
    with np.errstate(over="ignore"):
        if estimator == "k1":
            return log_ratio.copy()
        return 0.5 * log_ratio**2 if estimator == "k2" else np.expm1(-log_ratio) + log_ratio


def kl_estimator_moments(estimator: Estimator, log_p: ArrayLike, log_q: ArrayLike) -> KLMoments:
    """Exact mean and variance of one estimate of KL(p‖q) from one sample of p, by enumeration.

    Means: k1 KL(p‖q), k2 `sum p log^2(p/q) / 2`, k3 `KL(p‖q) - q(p = 0)`.

    Args:
        estimator: "k1", "k2" or "k3".
        log_p: policy that is sampled (..., A), log-probabilities.
        log_q: policy (..., A), log-probabilities.

    Returns:
        `KLMoments(mean, variance)`, each (...). Where p has mass on an arm that q lacks, the mean is `+inf`, like
        KL(p‖q), and the variance NaN. The average of n independent samples has the same mean and `variance / n`.

    Raises:
        TypeError, ValueError: unknown estimator, or input that is not a policy.

    Source: Schulman, "Approximating KL Divergence" (2020); the support rules are ours.

    >>> p, q = np.log([0.5, 0.5]), np.log([0.25, 0.75])
    >>> [round(float(kl_estimator_moments(name, p, q).mean), 6) for name in ("k1", "k2", "k3")]
    [0.143841, 0.161214, 0.143841]
    """
    scalars.choice("estimator", estimator, get_args(Estimator))
    log_p, log_q = checks.arrays(log_p=log_p, log_q=log_q)
    infinite = _escapes(log_p, log_q)
    log_p, log_q = np.where(infinite[..., None], 0.0, log_p), np.where(infinite[..., None], 0.0, log_q)
    ratio, p, root_p = _log_ratio(log_p, log_q), np.exp(log_p), np.exp(0.5 * log_p)
    if estimator == "k3":
        far = ratio < -1.0  # there exp(-x) may overflow or p underflow, but q and q/sqrt(p) do not
        near = np.expm1(-np.where(far, 0.0, ratio)) + ratio
        mean = np.where(far, np.exp(log_q) + p * (ratio - 1.0), p * near).sum(axis=-1)
        with np.errstate(over="ignore", invalid="ignore"):  # a variance beyond float64 is inf; p = 0 is not far
            rare = np.exp(log_q - 0.5 * log_p) + root_p * (ratio - 1.0 - mean[..., None])
        spread = np.where(far, rare, root_p * (near - mean[..., None]))
    else:
        estimate = ratio if estimator == "k1" else 0.5 * ratio**2
        mean = (p * estimate).sum(axis=-1)
        spread = root_p * (estimate - mean[..., None])
    with np.errstate(over="ignore"):
        variance = (spread**2).sum(axis=-1)
    return KLMoments(np.where(infinite, np.inf, mean), np.where(infinite, np.nan, variance))


def kl_loss_gradient(estimator: Estimator, log_p: ArrayLike, log_q: ArrayLike) -> Array:
    """Expected gradient with respect to the logits of p of an estimator that is used as a loss, with the samples fixed.

    `E_p[k'(x) grad log p(y)]` with `k' = 1, x, 1 - exp(-x)`: 0 for k1, `grad KL(p‖q)` for k2, `p - q = grad KL(q‖p)`
    for k3.

    Args:
        estimator: "k1", "k2" or "k3".
        log_p: policy that is fitted and sampled (..., A), log-probabilities.
        log_q: policy (..., A), log-probabilities.

    Returns:
        Gradient (..., A). For k3 with `p = 0` somewhere it is `p q(p > 0) - q` on supp p and 0 elsewhere.

    Raises:
        TypeError, ValueError: unknown estimator, input that is not a policy, or p with mass where q has none.

    Source: T8; the two directions of KL and their score functions.

    >>> p, q = np.log([0.5, 0.5]), np.log([0.25, 0.75])
    >>> [kl_loss_gradient(name, p, q).round(6).tolist() for name in ("k1", "k2", "k3")]
    [[0.0, 0.0], [0.274653, -0.274653], [0.25, -0.25]]
    """
    scalars.choice("estimator", estimator, get_args(Estimator))
    log_p, log_q = checks.arrays(log_p=log_p, log_q=log_q)
    infinite = _escapes(log_p, log_q)
    if infinite.any():
        row = np.argwhere(infinite)[0].tolist()
        raise ValueError(
            f"log_p has mass on an arm that log_q lacks (row {row}): KL(p‖q) and the loss are inf; give q the arm"
        )
    ratio, p = _log_ratio(log_p, log_q), np.exp(log_p)
    if estimator == "k1":
        pull = np.broadcast_to(p, ratio.shape)
    else:
        pull = p * ratio if estimator == "k2" else np.where(log_p == -np.inf, 0.0, p - np.exp(log_q))
    gradient: Array = pull - p * pull.sum(axis=-1, keepdims=True)
    return gradient


def _escapes(log_p: Array, log_q: Array) -> NDArray[np.bool_]:
    """Rows (...) where p has mass on an arm that q lacks."""
    escapes: NDArray[np.bool_] = ((log_p > -np.inf) & (log_q == -np.inf)).any(axis=-1)
    return escapes


def _log_ratio(log_p: Array, log_q: Array) -> Array:
    """`x = log p/q` (..., A), 0 where p is 0."""
    in_p = log_p > -np.inf
    return np.where(in_p, np.where(in_p, log_p, 0.0) - np.where(in_p, log_q, 0.0), 0.0)
