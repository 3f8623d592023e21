"""What finitely many samples of `pi_t` can do: the share of them that counts (T13), and the error of the fit (T15).

T13: with `C(a) = sum pi_0^a pi_t^(1-a)` over supp pi_t, the weights `w_reg = (pi_0/pi_t)^alpha` of n samples are worth
`n C(alpha)^2 / C(2 alpha)` equal weights. Over T independent tokens the share is that of one token to the power T.

T15: n samples with weights `v` are fitted by `pi_hat(a) = sum_i v_i [y_i = a] / sum_i v_i`. As n grows,
`2 n KL(pi*‖pi_hat)` tends to a random number with the mean

    sum_a E[v^2 ([y = a] - pi*_a)^2] / (E[v]^2 pi*_a)  =  sum_a (pi*_a/pi_t_a) (1 - pi*_a)

E KL(pi*‖pi_hat) itself is infinite for every n, since an arm may be missing among the samples. So the expectation is
taken over the samples that have every arm; the probability of the others vanishes exponentially. KL(pi_hat‖pi*) has the
same limit, and is finite for every n.
"""

import numpy as np
from numpy.typing import ArrayLike

from dar_ref.theory import checks
from dar_ref.theory.checks import Array
from dar_ref.theory.divergence import log_sum_exp
from dar_ref.theory.regression import regression_weights


def weight_ess(log_pi_0: ArrayLike, log_pi_t: ArrayLike, alpha: float) -> Array:
    """Effective sample share of the weights `w_reg = (pi_0/pi_t)^alpha` under `pi_t`.

        E[w_reg]^2 / E[w_reg^2] = C(alpha)^2 / C(2 alpha),     C(a) = sum over supp pi_t of pi_0^a pi_t^(1-a)

    It falls as alpha rises. For `2 alpha <= 1` it is at least `C(alpha)^2`, whatever the policies. For `2 alpha > 1` no
    function of C(alpha) keeps it from 0, and `C(alpha)^2` is an upper bound where `pi_t` covers `pi_0`.

    Args:
        log_pi_0: initial policy (..., A), log-probabilities.
        log_pi_t: current policy and sampler (..., A), log-probabilities.
        alpha: weight of `pi_0`, in [0, 1].

    Returns:
        Share (...), in (0, 1]; 1 at alpha 0; 0 where it is below the smallest float64. `share ** T` is the share for T
        independent tokens with these policies.

    Raises:
        TypeError, ValueError: bad input, or policies without a common arm at alpha > 0 (all weights are zero).

    Source: T13.

    >>> import numpy as np
    >>> share = weight_ess(np.log([0.5, 0.5]), np.log([0.8, 0.2]), 0.5)
    >>> round(float(share), 12), round(float(share) ** 10, 3)  # C(1/2)^2 = 0.9, C(1) = 1; ten tokens
    (0.9, 0.349)
    """
    log_pi_0, log_pi_t = checks.arrays(log_pi_0=log_pi_0, log_pi_t=log_pi_t)
    log_weight, log_mass = regression_weights(np.zeros(log_pi_t.shape[-1]), log_pi_0, log_pi_t, alpha, 1.0)
    log_square = log_sum_exp(log_pi_t + 2.0 * log_weight) + log_sum_exp(log_pi_t)  # its second term is 0 up to rounding
    return np.exp(np.minimum(2.0 * log_mass - log_square, 0.0))


def fit_error(
    advantage: ArrayLike,
    log_pi_0: ArrayLike,
    log_pi_t: ArrayLike,
    alpha: float,
    beta: float,
    w_clip: float | None = None,
) -> Array:
    """The limit of `2 n E KL(pi'‖pi_hat)`, where `pi_hat` is the tabular fit of n samples and `pi'` the exact target.

        sum_a (pi'_a/pi_t_a) (1 - pi'_a),     pi' ∝ pi_t min(w, w_clip)

    So about `fit_error / (2 d)` samples of a prompt bring the fit to within d nats of its target. With a clip the
    target is the clipped one: the fit tends to `pi'`, and its distance to `pi*` to KL(pi*‖pi'). If the target is `pi_t`
    itself, the error is the number of arms less one, as for any frequencies.

    Args:
        advantage: A (..., A), finite and exact: the same for every sample of an arm.
        log_pi_0: initial policy (..., A), log-probabilities.
        log_pi_t: current policy and sampler (..., A), log-probabilities.
        alpha: weight of `pi_0`, in [0, 1].
        beta: strength of the regulariser, `> 0`, in units of the advantage per nat.
        w_clip: upper bound of the weight, `> 0`; None or inf for no bound: the target is then `pi*` on supp pi_t.

    Returns:
        Limit (...), in nats times samples, `>= 0`; inf beyond the largest float64. The expectation is over the samples
        that have every arm of the target: see the module's docstring.

    Raises:
        TypeError, ValueError: as `regression_weights`.

    Source: T15.

    >>> import numpy as np
    >>> even = np.log(np.full(4, 0.25))
    >>> gain = np.log([4.0, 2.0, 1.0, 1.0])  # target (4, 2, 1, 1)/8 at beta 1
    >>> [round(float(fit_error(gain, even, even, 0.1, 1.0, w_clip)), 9) for w_clip in (None, 1.0)]
    [2.625, 3.0]
    """
    log_weight, log_mass = regression_weights(advantage, log_pi_0, log_pi_t, alpha, beta, w_clip)
    log_ratio = log_weight - log_mass[..., None]  # log pi'/pi_t, (..., A)
    log_target = np.where(log_weight > -np.inf, np.asarray(log_pi_t) + log_ratio, -np.inf)
    top = np.arange(log_target.shape[-1]) == log_target.argmax(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", over="ignore"):  # log 0 where the target has one arm; inf beyond float64
        log_rest = np.log1p(-np.exp(np.where(top, -np.inf, log_target)))
        log_rest = np.where(top, log_sum_exp(np.where(top, -np.inf, log_target))[..., None], log_rest)
        return np.exp(log_ratio + log_rest).sum(axis=-1)  # (..., A) -> (...)
