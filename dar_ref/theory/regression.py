"""The weighted maximum-likelihood loss whose minimiser is the target (T3), and how the clip moves it (T4).

    L(pi) = -E_{y ~ pi_t}[v(y) log pi(y)],   w = (pi_0/pi_t)^alpha exp(A/beta),   v = min(w, w_clip)

T3 (no clip): `L(pi) - L(pi*) = (sum pi_t w) KL(pi*‖pi)`. So the minimiser is `pi*` of Theorem 4.2, provided that
supp pi* ⊆ supp pi_t. At alpha = 1 with a wider `pi_0` it is `pi*` restricted to supp pi_t, since an arm that is never
sampled is never fitted.

T4 (clip): the same identity holds with `v` and `pi' ∝ pi_t v` in place of `w` and `pi*`. The clip moves the target.

The KL is forward (target first). `w` spans many orders of magnitude, so all computation stays in log space.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from dar_ref import scalars
from dar_ref.theory import checks
from dar_ref.theory.checks import Array
from dar_ref.theory.dual_kl import log_normalize


class RegressionWeights(NamedTuple):
    """`log_weight` (..., A): log v, `-inf` on arms outside supp pi_t; `log_mass` (...): log of `sum pi_t v`."""

    log_weight: Array
    log_mass: Array


def regression_weights(
    advantage: ArrayLike,
    log_pi_0: ArrayLike,
    log_pi_t: ArrayLike,
    alpha: float,
    beta: float,
    w_clip: float | None = None,
) -> RegressionWeights:
    """The weights `v = min((pi_0/pi_t)^alpha exp(A/beta), w_clip)` of the regression, in log space.

    Args:
        advantage: A (..., A), finite.
        log_pi_0: initial policy (..., A), log-probabilities.
        log_pi_t: current policy and sampler (..., A), log-probabilities.
        alpha: weight of `pi_0`, in [0, 1].
        beta: strength of the regulariser, `> 0`, in units of the advantage per nat.
        w_clip: upper bound of the weight, `> 0`; None or inf for no bound.

    Returns:
        `RegressionWeights(log_weight, log_mass)`, (..., A) and (...).

    Raises:
        TypeError, ValueError: bad input, no common arm at alpha > 0 (all weights zero), or `A/beta` beyond float64.

    Source: the paper's practical loss, T3 and T4.
    """
    advantage, log_pi_0, log_pi_t = checks.arrays(advantage=advantage, log_pi_0=log_pi_0, log_pi_t=log_pi_t)
    log_weight = _log_weight(advantage, log_pi_0, log_pi_t, alpha, beta, w_clip)  # (..., A)
    return RegressionWeights(log_weight, log_normalize(log_pi_t + log_weight)[1])  # (..., A), (...)


def regression_target(
    advantage: ArrayLike,
    log_pi_0: ArrayLike,
    log_pi_t: ArrayLike,
    alpha: float,
    beta: float,
    w_clip: float | None = None,
) -> Array:
    """The exact minimiser `pi' ∝ pi_t min(w, w_clip)` of the regression loss over all policies.

    Args:
        advantage: A (..., A), finite.
        log_pi_0: initial policy (..., A), log-probabilities.
        log_pi_t: current policy and sampler (..., A), log-probabilities.
        alpha: weight of `pi_0`, in [0, 1].
        beta: strength of the regulariser, `> 0`, in units of the advantage per nat.
        w_clip: upper bound of the weight, `> 0`; None or inf for no bound: the target is then `pi*` on supp pi_t.

    Returns:
        log pi' (..., A).

    Raises:
        TypeError, ValueError: as `regression_weights`.

    Source: T3 and T4.

    >>> import numpy as np
    >>> uniform = np.log([0.5, 0.5])
    >>> target = regression_target(np.log([3.0, 1.0]), uniform, uniform, alpha=0.1, beta=1.0, w_clip=1.0)
    >>> np.exp(target).round(12).tolist()
    [0.5, 0.5]
    """
    advantage, log_pi_0, log_pi_t = checks.arrays(advantage=advantage, log_pi_0=log_pi_0, log_pi_t=log_pi_t)
    log_weight = _log_weight(advantage, log_pi_0, log_pi_t, alpha, beta, w_clip)  # (..., A)
    return log_normalize(log_pi_t + log_weight)[0]


def regression_loss(
    log_pi: ArrayLike,
    advantage: ArrayLike,
    log_pi_0: ArrayLike,
    log_pi_t: ArrayLike,
    alpha: float,
    beta: float,
    w_clip: float | None = None,
) -> Array:
    """The regression loss `L(pi) = -E_{y ~ pi_t}[v(y) log pi(y)] = -sum pi_t v log pi`, by enumeration.

    Args:
        log_pi: policy (..., A), log-probabilities.
        advantage: A (..., A), finite.
        log_pi_0: initial policy (..., A), log-probabilities.
        log_pi_t: current policy and sampler (..., A), log-probabilities.
        alpha: weight of `pi_0`, in [0, 1].
        beta: strength of the regulariser, `> 0`, in units of the advantage per nat.
        w_clip: upper bound of the weight, `> 0`; None or inf for no bound.

    Returns:
        L (...), `>= 0`; `+inf` where `pi` lacks an arm of positive weight, or where the sum of the weights overflows
        float64 (`log_mass > 709`, possible without a clip).

    Raises:
        TypeError, ValueError: as `regression_weights`, or a `log_pi` that is not a policy.

    Source: T3 and T4.
    """
    log_pi, advantage, log_pi_0, log_pi_t = checks.arrays(
        log_pi=log_pi, advantage=advantage, log_pi_0=log_pi_0, log_pi_t=log_pi_t
    )
    log_weight = _log_weight(advantage, log_pi_0, log_pi_t, alpha, beta, w_clip)
    carries = log_weight > -np.inf
    with np.errstate(over="ignore", invalid="ignore"):  # overflow gives inf; the np.where below replaces 0 * -inf
        terms = -np.exp(log_pi_t + log_weight) * log_pi
        terms = np.where(carries & (log_pi == -np.inf), np.inf, np.where(carries & (log_pi < 0.0), terms, 0.0))
        return terms.sum(axis=-1)  # (..., A) -> (...)


def _log_weight(
    advantage: Array, log_pi_0: Array, log_pi_t: Array, alpha: float, beta: float, w_clip: float | None
) -> Array:
    """log v (..., A) from arrays that were checked before; the scalars are checked here."""
    alpha, beta = checks.alpha(alpha), checks.positive("beta", beta)
    sampled = log_pi_t > -np.inf
    # w_reg = 1 at alpha = 0, even where log_pi_0 is -inf.
    log_reg = np.zeros(()) if alpha == 0.0 else alpha * (log_pi_0 - np.where(sampled, log_pi_t, 0.0))
    log_weight = np.where(sampled, log_reg + checks.over_beta(advantage, beta), -np.inf)
    checks.common_support(log_weight)
    if w_clip is None:
        return log_weight
    return np.minimum(log_weight, np.log(scalars.positive("w_clip", w_clip, or_infinite=True)))
