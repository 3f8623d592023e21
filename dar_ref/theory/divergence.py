"""Divergences between policies on a finite set of arms: KL, Rényi, Chernoff.

`kl(log_p, log_q)` is KL(p‖q): the order of the arguments is the direction. All sums run over the last axis; leading
axes broadcast. `log p = -inf` is probability zero with `0 log 0 = 0`; infinite divergences are `+inf`. Everything is
computed in log space from float64 input. The error is a few ulp of `max|log p| + max|log q|` (finite entries), tested
against ball arithmetic. True values are never negative, so a negative rounding error is returned as 0.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from dar_ref.theory import checks
from dar_ref.theory.checks import EPS, Array
from dar_ref.theory.lowest import lowest_log_c


class Chernoff(NamedTuple):
    """`information` (...): Chernoff information in nats; `alpha` (...): the weight of `log_p` that attains it."""

    information: Array
    alpha: Array


def kl(log_p: ArrayLike, log_q: ArrayLike) -> Array:
    """Kullback-Leibler divergence KL(p‖q) = sum p log(p/q), in nats.

    Args:
        log_p: policy (..., A), log-probabilities.
        log_q: policy (..., A), log-probabilities.

    Returns:
        KL (...), `>= 0`; `+inf` where p has mass on an arm that q lacks.

    Raises:
        TypeError, ValueError: input that is not a policy, see `checks.arrays`.

    Source: the two regularisers of the paper's objective (arXiv 2602.11523, Section 4).

    >>> import numpy as np
    >>> bool(np.isclose(kl(np.log([0.5, 0.5]), np.log([0.25, 0.75])), 0.5 * np.log(4 / 3), rtol=1e-15))
    True
    """
    log_p, log_q = checks.arrays(log_p=log_p, log_q=log_q)
    return expected_log_ratio(log_p, log_q)


def renyi(log_p: ArrayLike, log_q: ArrayLike, order: float) -> Array:
    """Rényi divergence D_a(p‖q) = log(sum p^a q^(1-a)) / (a - 1), in nats.

    Args:
        log_p: policy (..., A), log-probabilities.
        log_q: policy (..., A), log-probabilities.
        order: a in [0, inf]. The limits are taken at 0 (`-log q(p > 0)`), 1 (KL) and inf (`log max p/q`).

    Returns:
        D_a (...), `>= 0`; `+inf` where p and q share no arm, or `a >= 1` and p has mass on an arm that q lacks.

    Raises:
        TypeError, ValueError: input that is not a policy, or an order that is negative or NaN.

    Source: T1, `-log C = (1-alpha) D_alpha(pi_0‖pi_t)`; van Erven & Harremoës, IEEE Trans. IT 60 (2014).
    """
    log_p, log_q = checks.arrays(log_p=log_p, log_q=log_q)
    order = checks.non_negative("order", order)
    if order == 1.0:
        return expected_log_ratio(log_p, log_q)
    in_p = log_p > -np.inf
    with np.errstate(invalid="ignore"):  # -inf - -inf outside supp p is masked in the same line
        log_ratio = np.where(in_p, log_p - log_q, 0.0)
    if order >= 2.0 / EPS:  # here log(p)/(order - 1) is below the rounding of log p
        return np.maximum(np.where(in_p, log_ratio, -np.inf).max(axis=-1), 0.0)
    tilt = (order - 1.0) * log_ratio
    log_power_sum = log_sum_exp(np.where(in_p, log_p + tilt, -np.inf))
    # Near order 1 the sum is 1 + sum p expm1(tilt), and this form loses no digits where that is near 1.
    lost = tilt == -np.inf  # an arm that q lacks, at an order below 1
    excess = (np.exp(log_p) * np.where(lost, -1.0, np.expm1(np.clip(tilt, -1.0, 1.0)))).sum(axis=-1)
    near_one = np.all((np.abs(tilt) <= 1.0) | lost, axis=-1) & (excess > -0.5)
    log_power_sum = np.where(near_one, np.log1p(np.maximum(excess, -0.5)), log_power_sum)
    return np.maximum(log_power_sum / (order - 1.0), 0.0)


def chernoff(log_p: ArrayLike, log_q: ArrayLike) -> Chernoff:
    """Chernoff information: max over alpha in [0, 1] of `-log sum p^alpha q^(1-alpha)`, sums over the common support.

    It is the smallest radius at which the two KL balls `KL(pi‖p) <= e` and `KL(pi‖q) <= e` meet (T6). They touch at the
    interpolated policy `p^alpha q^(1-alpha) / C`.

    Args:
        log_p: policy (..., A), log-probabilities.
        log_q: policy (..., A), log-probabilities.

    Returns:
        `Chernoff(information, alpha)`, each (...): nats, and the weight of p in [0, 1]. End points are taken as limits.
        Where every alpha attains it, alpha is 1/2: identical policies (0 up to rounding), no common support (+inf).

    Raises:
        TypeError, ValueError: input that is not a policy, see `checks.arrays`.

    Source: T6; Cover & Thomas, Elements of Information Theory, Section 11.9.

    >>> import numpy as np
    >>> information, alpha = chernoff(np.log([0.7, 0.2, 0.1]), np.log([0.1, 0.2, 0.7]))
    >>> round(float(information), 9), round(float(alpha), 9)
    (0.315875447, 0.5)
    """
    log_p, log_q = checks.arrays(log_p=log_p, log_q=log_q)
    lowest, alpha = lowest_log_c(log_p, log_q, np.zeros(()))
    return Chernoff(np.maximum(-lowest, 0.0), alpha[()])  # of one bandit a number


def expected_log_ratio(log_p: Array, log_q: Array) -> Array:
    """KL(p‖q) (...) of policies (..., A) that were checked before."""
    with np.errstate(invalid="ignore"):  # -inf - -inf, and 0 * inf where exp underflows: both are replaced below
        terms = np.exp(log_p) * (log_p - log_q)
    terms = np.where(log_p == -np.inf, 0.0, np.where(log_q == -np.inf, np.inf, terms))
    return np.maximum(terms.sum(axis=-1), 0.0)


def log_sum_exp(logits: Array) -> Array:
    """log sum exp over the last axis, (..., A) -> (...); a row of -inf gives -inf, a row with +inf gives +inf."""
    top = logits.max(axis=-1, keepdims=True)
    anchor = np.where(np.isinf(top), 0.0, top)
    with np.errstate(divide="ignore", over="ignore"):  # log 0 = -inf and exp inf = inf are intended
        return np.log(np.exp(logits - anchor).sum(axis=-1)) + anchor[..., 0]
