"""The dual-KL objective, its single-KL form and its optimum: Proposition 4.1 (T1) and Theorem 4.2 (T2).

    J(pi) = E_pi[A] - beta * (alpha KL(pi‖pi_0) + (1-alpha) KL(pi‖pi_t))

T1: `alpha KL(pi‖pi_0) + (1-alpha) KL(pi‖pi_t) = KL(pi‖pi_ref) - log C` with `pi_ref = pi_0^alpha pi_t^(1-alpha) / C`.
T2: `pi* ∝ pi_0^alpha pi_t^(1-alpha) exp(A/beta)`, `J(pi*) = beta log sum pi_0^alpha pi_t^(1-alpha) exp(A/beta)`, and
for every policy `J(pi*) - J(pi) = beta KL(pi‖pi*)`.

Deviation: summaries of the paper drop `-log C`. This term does not depend on `pi`, so the maximiser is the same, but
the two sides of T1 differ by it. Conventions: `0^0 = 1`, so `C = 1` at alpha 0 and 1; a KL of weight zero counts 0,
even where it is infinite.

Rounding errors, with `eps = 2^-52`: log-probabilities are within `8 eps (max|A|/beta + max|log p|)`, values within beta
times that. Tested against ball arithmetic for finite entries, beta in [1e-6, 1e6], |A| up to 1e6, up to a million arms.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from dar_ref.theory import checks
from dar_ref.theory.checks import Array
from dar_ref.theory.divergence import expected_log_ratio


class Interpolation(NamedTuple):
    """`log_pi_ref` (..., A): the policy `pi_0^alpha pi_t^(1-alpha) / C`; `log_c` (...): `log C <= 0`."""

    log_pi_ref: Array
    log_c: Array


class Optimum(NamedTuple):
    """`log_pi` (..., A): the maximiser of J; `value` (...): J at the maximiser, in units of the advantage."""

    log_pi: Array
    value: Array


def interpolate(log_pi_0: ArrayLike, log_pi_t: ArrayLike, alpha: float) -> Interpolation:
    """Geometric interpolation `pi_ref = pi_0^alpha pi_t^(1-alpha) / C` of the two anchors.

    Args:
        log_pi_0: initial policy (..., A), log-probabilities.
        log_pi_t: current policy (..., A), log-probabilities.
        alpha: weight of `pi_0`, in [0, 1].

    Returns:
        `Interpolation(log_pi_ref, log_c)`, (..., A) and (...). Exactly `(log_pi_t, 0)` at alpha 0 and `(log_pi_0, 0)`
        at alpha 1.

    Raises:
        TypeError, ValueError: bad input, or anchors without a common arm at 0 < alpha < 1.

    Source: Proposition 4.1.

    >>> import numpy as np
    >>> log_pi_ref, log_c = interpolate(np.log([0.8, 0.2]), np.log([0.2, 0.8]), 0.5)
    >>> np.exp(log_pi_ref).round(12).tolist(), round(float(np.exp(log_c)), 12)
    ([0.5, 0.5], 0.8)
    """
    log_pi_0, log_pi_t = checks.arrays(log_pi_0=log_pi_0, log_pi_t=log_pi_t)
    alpha = checks.alpha(alpha)
    logits = log_mixture(log_pi_0, log_pi_t, alpha)  # (..., A)
    if alpha in (0.0, 1.0):  # no common arm is needed here: pi_ref is one of the anchors
        return Interpolation(logits, np.zeros(logits.shape[:-1]))
    checks.common_support(logits)
    log_pi_ref, log_c = log_normalize(logits)  # (..., A), (...)
    return Interpolation(log_pi_ref, np.minimum(log_c, 0.0))  # rounding may leave log C an ulp above 0


def dual_kl(log_pi: ArrayLike, log_pi_0: ArrayLike, log_pi_t: ArrayLike, alpha: float) -> Array:
    """The regulariser `alpha KL(pi‖pi_0) + (1-alpha) KL(pi‖pi_t)`, in nats.

    Args:
        log_pi: policy (..., A), log-probabilities.
        log_pi_0: initial policy (..., A), log-probabilities.
        log_pi_t: current policy (..., A), log-probabilities.
        alpha: weight of `pi_0`, in [0, 1].

    Returns:
        Value (...), `>= 0`; `+inf` where `pi` has mass on an arm that an anchor of positive weight lacks.

    Raises:
        TypeError, ValueError: bad input, see `checks.arrays`.

    Source: the paper's dual-KL objective; left-hand side of Proposition 4.1.
    """
    log_pi, log_pi_0, log_pi_t = checks.arrays(log_pi=log_pi, log_pi_0=log_pi_0, log_pi_t=log_pi_t)
    return _dual_kl(log_pi, log_pi_0, log_pi_t, checks.alpha(alpha))


def objective(
    log_pi: ArrayLike, advantage: ArrayLike, log_pi_0: ArrayLike, log_pi_t: ArrayLike, alpha: float, beta: float
) -> Array:
    """The objective `J(pi) = E_pi[A] - beta (alpha KL(pi‖pi_0) + (1-alpha) KL(pi‖pi_t))`.

    Args:
        log_pi: policy (..., A), log-probabilities.
        advantage: A (..., A), finite.
        log_pi_0: initial policy (..., A), log-probabilities.
        log_pi_t: current policy (..., A), log-probabilities.
        alpha: weight of `pi_0`, in [0, 1].
        beta: strength of the regulariser, `> 0`, in units of the advantage per nat.

    Returns:
        J (...), in units of the advantage; `-inf` where the dual KL is infinite.

    Raises:
        TypeError, ValueError: bad input, see `checks.arrays`.

    Source: the paper's dual-KL objective.
    """
    log_pi, advantage, log_pi_0, log_pi_t = checks.arrays(
        log_pi=log_pi, advantage=advantage, log_pi_0=log_pi_0, log_pi_t=log_pi_t
    )
    alpha, beta = checks.alpha(alpha), checks.positive("beta", beta)
    return (np.exp(log_pi) * advantage).sum(axis=-1) - beta * _dual_kl(log_pi, log_pi_0, log_pi_t, alpha)  # (...)


def optimum(advantage: ArrayLike, log_pi_0: ArrayLike, log_pi_t: ArrayLike, alpha: float, beta: float) -> Optimum:
    """The maximiser `pi* ∝ pi_0^alpha pi_t^(1-alpha) exp(A/beta)` of J, and `J(pi*)`.

    Args:
        advantage: A (..., A), finite.
        log_pi_0: initial policy (..., A), log-probabilities.
        log_pi_t: current policy (..., A), log-probabilities.
        alpha: weight of `pi_0`, in [0, 1].
        beta: strength of the regulariser, `> 0`, in units of the advantage per nat.

    Returns:
        `Optimum(log_pi, value)`: (..., A), and (...) in units of the advantage.

    Raises:
        TypeError, ValueError: bad input, anchors without a common arm at 0 < alpha < 1, or `A/beta` beyond float64.

    Source: Theorem 4.2.

    >>> import numpy as np
    >>> uniform = np.log([0.5, 0.5])
    >>> best = optimum(np.array([1.0, 0.0]), uniform, uniform, alpha=0.3, beta=1.0)
    >>> np.exp(best.log_pi).round(6).tolist()
    [0.731059, 0.268941]
    """
    advantage, log_pi_0, log_pi_t = checks.arrays(advantage=advantage, log_pi_0=log_pi_0, log_pi_t=log_pi_t)
    alpha, beta = checks.alpha(alpha), checks.positive("beta", beta)
    logits = log_mixture(log_pi_0, log_pi_t, alpha) + checks.over_beta(advantage, beta)  # (..., A)
    checks.common_support(logits)
    log_pi, log_total = log_normalize(logits)  # (..., A), (...)
    return Optimum(log_pi, beta * log_total)


def log_mixture(log_pi_0: Array, log_pi_t: Array, alpha: float) -> Array:
    """`alpha log pi_0 + (1-alpha) log pi_t` (..., A), with `0 * -inf = 0` (`0^0 = 1`) at the end points."""
    if alpha == 0.0:
        return np.broadcast_arrays(log_pi_0, log_pi_t)[1].copy()
    if alpha == 1.0:
        return np.broadcast_arrays(log_pi_0, log_pi_t)[0].copy()
    return alpha * log_pi_0 + (1.0 - alpha) * log_pi_t


def log_normalize(logits: Array) -> tuple[Array, Array]:
    """Return log softmax (..., A) and log sum exp (...) of logits (..., A) with a finite entry in every row.

    The maximum is subtracted first. So rows are normalised to a few ulp even for logits of 1e12.
    """
    top = logits.max(axis=-1, keepdims=True)  # (..., 1)
    shifted = logits - top  # (..., A)
    log_total = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))  # (..., 1)
    return shifted - log_total, (top + log_total)[..., 0]


def _dual_kl(log_pi: Array, log_pi_0: Array, log_pi_t: Array, alpha: float) -> Array:
    total = np.zeros(np.broadcast_shapes(log_pi.shape, log_pi_0.shape, log_pi_t.shape)[:-1])  # (...)
    for weight, anchor in ((alpha, log_pi_0), (1.0 - alpha, log_pi_t)):
        if weight > 0.0:  # otherwise 0 * inf would be NaN
            total = total + weight * expected_log_ratio(log_pi, anchor)
    return total
