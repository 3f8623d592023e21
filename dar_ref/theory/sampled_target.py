"""The minimiser of the K-sample DAR loss when the baseline is a mean of the same samples (T10).

    A_i = r_i - mean_K(r) = (K-1)/K (r_i - mean of the others)

The group mean contains the sample itself, which shrinks the advantage by (K-1)/K. So the minimiser of the expected loss
is `pi*` at `beta K/(K-1)` and not at beta: at K = 4 beta is a third larger than requested, at K = 1 the minimiser is
`pi_ref` for any reward; each on supp pi_t, since what is never drawn is never fitted. This is exact and not a
first-order result, since the mean of the others enters as a factor that is independent of `y_i`. The factor differs
between prompts, so it reweights them (`prompt_mass`). This does not affect a tabular policy, but it does affect a
policy with shared parameters.

The mean over a batch of B = N K samples allows K = 1. It is the same argument with B in place of K, so the minimiser is
`pi*` at `beta B/(B-1)`. But it does not take out how good a prompt is: add c to all rewards of a prompt, and its mass
relative to the other prompts' is multiplied by exp(c/beta).
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from dar_ref.theory.batches import (
    Baseline,
    Normalize,
    batches,
    independent_rows,
    one_row_per_prompt,
    sample_size,
    sampled_advantages,
)
from dar_ref.theory.checks import Array
from dar_ref.theory.divergence import log_sum_exp
from dar_ref.theory.dual_kl import log_normalize
from dar_ref.theory.regression import regression_weights


def sampled_target(
    reward: ArrayLike,
    log_pi_0: ArrayLike,
    log_pi_t: ArrayLike,
    alpha: float,
    beta: float,
    num_generations: int,
    w_clip: float | None = None,
    *,
    baseline: Baseline = "group",
    normalize: Normalize = "none",
) -> Array:
    """The exact minimiser over all policies of the **expected** K-sample DAR loss, `pi' ∝ pi_t(y) E[v_i | y_i = y]`.

    With the group mean, no clip and no normalisation, `E[w_i | y_i = y]` is `(pi_0/pi_t)^alpha exp((K-1)/K r(y)/beta)`
    times a factor that does not depend on y. So the target is exactly `pi*` at `beta K/(K-1)`; with the mean of B
    samples of a batch at `beta B/(B-1)`; with "leave_one_out" at beta. With a clip or normalisation there is no such
    formula, and only enumeration gives it.

    Args:
        reward: r (A,) for one prompt or (N, A), finite.
        log_pi_0: initial policy (A,) or (N, A), log-probabilities.
        log_pi_t: sampler (A,) or (N, A), log-probabilities.
        alpha: weight of `pi_0`, in [0, 1].
        beta: strength of the regulariser, `> 0`, in units of the advantage per nat.
        num_generations: K, `>= 2` where a mean or std over the group is taken.
        w_clip: upper bound of the weight, `> 0`; None for no bound.
        baseline: "group", "batch", "leave_one_out" or "none", as in `estimator_moments`.
        normalize: "none", "group" or "batch", as in `estimator_moments`.

    Returns:
        log pi' (A,) or (N, A): the shape of the inputs, broadcast.

    Raises:
        TypeError, ValueError: as `estimator_moments`, or a prompt whose weights are all zero.

    Source: T10; T3 and T4 with the Monte Carlo advantage in place of the exact one.

    >>> import numpy as np
    >>> flat = np.log([0.5, 0.5])
    >>> target = sampled_target(np.array([1.0, 0.0]), flat, flat, alpha=0.1, beta=1.0, num_generations=2)
    >>> round(float(target[0] - target[1]), 12)  # 1/beta with the exact advantage
    0.5
    """
    log_mass = _log_mass(reward, log_pi_0, log_pi_t, alpha, beta, num_generations, w_clip, baseline, normalize)
    shape = np.broadcast_shapes(np.shape(reward), np.shape(log_pi_0), np.shape(log_pi_t))
    return log_normalize(log_mass)[0].reshape(shape)


def prompt_mass(
    reward: ArrayLike,
    log_pi_0: ArrayLike,
    log_pi_t: ArrayLike,
    alpha: float,
    beta: float,
    num_generations: int,
    w_clip: float | None = None,
    *,
    baseline: Baseline = "group",
    normalize: Normalize = "none",
) -> Array:
    """What a prompt counts for in the expected K-sample loss: the log of its mean weight, `m_n = E[v_i]`.

        E L(pi) - E L(pi') = 1/N sum_n m_n KL(pi'_n‖pi_n)

    A policy that shares parameters between prompts fits those with a large mass at the cost of the others.

    Args:
        reward: as in `sampled_target`, like all others.
        log_pi_0: initial policy.
        log_pi_t: sampler.
        alpha: weight of `pi_0`.
        beta: strength of the regulariser.
        num_generations: K.
        w_clip: upper bound of the weight.
        baseline: of the advantage.
        normalize: of the advantage.

    Returns:
        log m (N,); (1,) for one prompt.

    Raises:
        TypeError, ValueError: as `estimator_moments`.

    Source: T10.

    >>> import numpy as np
    >>> flat, reward = np.log([0.5, 0.5]), np.array([[1.0, 0.0], [3.0, 2.0]])  # the second prompt pays 2 more
    >>> log_mass = prompt_mass(reward, flat, flat, alpha=0.1, beta=0.5, num_generations=1, baseline="batch")
    >>> round(float(log_mass[1] - log_mass[0]), 12)
    4.0
    """
    log_mass = _log_mass(reward, log_pi_0, log_pi_t, alpha, beta, num_generations, w_clip, baseline, normalize)
    total: Array = log_sum_exp(log_mass) - math.log(num_generations)
    return total


def _log_mass(
    reward: ArrayLike,
    log_pi_0: ArrayLike,
    log_pi_t: ArrayLike,
    alpha: float,
    beta: float,
    num_generations: int,
    w_clip: float | None,
    baseline: Baseline,
    normalize: Normalize,
) -> Array:
    """log E[sum_i v_i (y_i = y)] (N, A), the sum over the K samples of a prompt."""
    reward, log_pi_0, log_pi_t = one_row_per_prompt(reward=reward, log_pi_0=log_pi_0, log_pi_t=log_pi_t)
    num_generations = sample_size(num_generations, baseline, normalize, len(reward))
    parts = []
    for row in independent_rows(len(reward), baseline, normalize):
        log_mass = np.full(reward[row].shape, -np.inf)
        for log_probability, counts in batches(log_pi_t[row], num_generations):
            advantage = sampled_advantages(reward[row], counts, num_generations, baseline, normalize)
            weights = regression_weights(advantage, log_pi_0[row], log_pi_t[row], alpha, beta, w_clip)
            with np.errstate(divide="ignore"):  # an arm that was not drawn adds log 0
                terms = log_probability[:, None, None] + np.log(counts) + weights.log_weight
            log_mass = np.logaddexp(log_mass, np.logaddexp.reduce(terms, axis=0))
        parts.append(log_mass)
    return np.concatenate(parts)
