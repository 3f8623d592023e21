"""Exact mean and covariance of the DAR, DAO, GRPO and RLOO updates, by enumeration of all batches (T8, T10).

The policy is a tabular softmax with one row of logits per prompt. A completion is one arm. An update is the gradient of
**minus** the loss with respect to the logits, the direction of ascent. All four updates have the form

    U = 1/(N K) sum_i c_i grad log pi_theta(y_i),   y_i ~ pi_t,   grad log pi_theta(y) = e_y - pi_theta

They differ only in the coefficient, with `rho = pi_theta/pi_t`:

    dar    c = min((pi_0/pi_t)^alpha exp(A/beta), w_clip)
    dao    c = rho (A - beta (alpha log(pi_theta/pi_0) + (1-alpha) log(pi_theta/pi_t)))
    grpo   c = rho A [inside the clip] + beta (pi_0/pi_theta - 1)
    rloo   c = A

No gradient flows through any term except `rho` in dao and grpo. GRPO's second term is the gradient of its k3 penalty.
RLOO's reward is `r - beta log(pi_t/pi_0)`, fixed at sampling time. RLOO has no ratio, so on stale samples
(pi_theta != pi_t) it is a biased policy gradient. Group statistics are population statistics (GRPO's paper does not say
which).

Does the regression remove the variance of the ratio? It replaces one ratio by another: `w = Z pi*/pi_t` with
`Z = sum pi_t w` (exact advantage, no clip). DAR's noise is that of pi*/pi_t. This ratio does not change with `pi_theta`
and can be clipped. The noise of DAO and GRPO is that of pi_theta/pi_t, which grows with every step away from `pi_t`. At
`pi_theta = pi*` the two ratios are equal. DAR's weights are positive: near `pi_t` they contain a constant that adds
noise and no signal.
"""

from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike

from dar_ref.theory import checks
from dar_ref.theory.batches import (
    Baseline,
    Batches,
    Normalize,
    batches,
    check_choice,
    one_row_per_prompt,
    sample_size,
    sampled_advantages,
)
from dar_ref.theory.checks import Array
from dar_ref.theory.dual_kl import log_mixture
from dar_ref.theory.regression import regression_weights

Method = Literal["dar", "dao", "grpo", "rloo"]

_OPTIONS = {"dar": {"alpha", "w_clip"}, "dao": {"alpha"}, "grpo": {"epsilon"}, "rloo": set[str]()}


class Moments(NamedTuple):
    """`mean` (N*A,) and `covariance` (N*A, N*A) of an update of the logits; prompts one after another."""

    mean: Array
    covariance: Array


class _Update(NamedTuple):
    """A method with all its options; policies and reward are (N, A)."""

    method: str
    reward: Array
    log_pi_theta: Array
    log_pi_0: Array
    log_pi_t: Array
    num_generations: int
    alpha: float
    beta: float
    w_clip: float | None
    epsilon: float
    baseline: Baseline
    normalize: Normalize


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
) -> Moments:
    """Exact mean and covariance of one update over all batches of N prompts with K completions each, drawn from `pi_t`.

    The update is the ascent direction `U = 1/(N K) sum_i c_i (e_{y_i} - pi_theta)`, with the coefficients of the
    module's docstring. An option that the method does not have is refused.

    Args:
        method: "dar", "dao", "grpo" or "rloo".
        reward: r (A,) for one prompt or (N, A), finite.
        log_pi_theta: policy being fitted (A,) or (N, A), log-probabilities; positive wherever `pi_t` is.
        log_pi_0: initial policy (A,) or (N, A); positive wherever `pi_t` is, for dao with alpha > 0 and for rloo with
            beta > 0.
        log_pi_t: sampler (A,) or (N, A). The four arrays broadcast.
        num_generations: K, completions per prompt, `>= 1`; `>= 2` where a mean or std over the group is taken.
        alpha: weight of `pi_0`, in [0, 1]; dar and dao only, None takes the paper's 0.1.
        beta: strength of the regulariser, in units of the advantage per nat; `> 0` for dar and dao, `>= 0` for grpo and
            rloo.
        w_clip: upper bound of the weight, `> 0`; dar only; None for no bound.
        epsilon: half-width of the ratio's clip, in [0, inf]; grpo only; None takes 0.2, inf is for no clip.
        baseline: "group" (mean over the K rewards, own sample included), "leave_one_out" (mean of the others) or "none"
            (the reward is the advantage); None takes leave_one_out for rloo and group for the others.
        normalize: "none", "group" (divide by the population std of the K advantages) or "batch" (by that of all N*K,
            which couples the prompts); equal advantages give 0. None takes "group" for grpo, "none" for the others.
            DAR's practical loss uses "batch".

    Returns:
        `Moments(mean, covariance)`, (N*A,) and (N*A, N*A), in units of the coefficient.

    Raises:
        TypeError: policies, rewards or numbers of a wrong type.
        ValueError: bad input, an option of another method, K = 1 with a group statistic, more batches than
            `batches.MAX_STATES`, or moments beyond float64.

    Source: T8. DAR: the paper's practical loss; DAO: DESIGN's dual-KL score-function form; GRPO: DeepSeekMath
    (arXiv 2402.03300), equations 3 and 4; RLOO: Ahmadian et al. (arXiv 2402.14740).

    >>> import numpy as np
    >>> flat = np.log([0.5, 0.5])
    >>> moments = estimator_moments("rloo", np.array([1.0, 0.0]), flat, flat, flat, 2, beta=0.0)
    >>> moments.mean.round(12).tolist(), moments.covariance.round(12).tolist()
    ([0.25, -0.25], [[0.0625, -0.0625], [-0.0625, 0.0625]])
    """
    check_choice("method", method, get_args(Method))
    for name, value in (("alpha", alpha), ("w_clip", w_clip), ("epsilon", epsilon)):
        if value is not None and name not in _OPTIONS[method]:
            raise ValueError(f"{name} = {value!r} is not an option of method {method!r}; leave it out")
    reward, log_pi_theta, log_pi_0, log_pi_t = one_row_per_prompt(
        reward=reward, log_pi_theta=log_pi_theta, log_pi_0=log_pi_0, log_pi_t=log_pi_t
    )
    if baseline is None:
        baseline = "leave_one_out" if method == "rloo" else "group"
    if normalize is None:
        normalize = "group" if method == "grpo" else "none"
    update = _Update(
        method,
        reward,
        log_pi_theta,
        log_pi_0,
        log_pi_t,
        sample_size(num_generations, baseline, normalize, len(reward)),
        0.1 if alpha is None else checks.alpha(alpha),
        checks.positive("beta", beta) if "alpha" in _OPTIONS[method] else checks.non_negative("beta", beta),
        w_clip,
        0.2 if epsilon is None else checks.non_negative("epsilon", epsilon),
        baseline,
        normalize,
    )
    update = _with_penalised_reward(update)
    _check_supports(update)
    moments = _moments(update) if normalize == "batch" else _independent(update)
    if not (np.isfinite(moments.mean).all() and np.isfinite(moments.covariance).all()):
        raise ValueError(
            f"the moments of method {method!r} leave the range of float64 (beta = {beta!r}, w_clip = {w_clip!r});"
            " raise beta, give dar a w_clip, or bring the policies closer together"
        )
    return moments


def noise_to_signal(moments: Moments) -> float:
    """Noise-to-signal ratio `trace(covariance) / |mean|^2` of an update; the same for any multiple of the update.

    Args:
        moments: of an update, from `estimator_moments`.

    Returns:
        The ratio, `>= 0`; inf where the mean is exactly 0 and the noise is not, NaN where both are 0.

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
        The share in [0, 1]; NaN where the update is always 0.

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


def _with_penalised_reward(update: _Update) -> _Update:
    """RLOO subtracts its KL term from the reward, at sampling time."""
    if update.method != "rloo" or update.beta == 0.0:
        return update
    drawn = update.log_pi_t > -np.inf
    with np.errstate(invalid="ignore"):  # -inf - -inf on arms that are never drawn
        penalty = np.where(drawn, update.log_pi_t - update.log_pi_0, 0.0)
    return update._replace(reward=update.reward - update.beta * penalty)


def _check_supports(update: _Update) -> None:
    """Refuse policies that make a coefficient infinite on an arm that `pi_t` can draw."""
    drawn = update.log_pi_t > -np.inf
    needs_pi_0 = (update.method == "dao" and update.alpha > 0.0) or (update.method == "rloo" and update.beta > 0.0)
    for name, policy, needed in (
        ("log_pi_theta", update.log_pi_theta, True),
        ("log_pi_0", update.log_pi_0, needs_pi_0),
    ):
        missing = drawn & (policy == -np.inf)
        if needed and missing.any():
            prompt, arm = np.argwhere(missing)[0]
            raise ValueError(
                f"{name} is -inf on arm {arm} of prompt {prompt}, which pi_t draws, and method {update.method!r} takes"
                " its log; give the arm a positive probability or remove it from pi_t"
            )


def _independent(update: _Update) -> Moments:
    """Enumerate prompts that are independent one by one; the mean over N prompts scales blocks by 1/N and 1/N^2."""
    prompts, arms = update.reward.shape
    mean = np.zeros((prompts, arms))
    covariance = np.zeros((prompts, arms, prompts, arms))
    for row in range(prompts):
        one = slice(row, row + 1)
        alone = update._replace(
            reward=update.reward[one],
            log_pi_theta=update.log_pi_theta[one],
            log_pi_0=update.log_pi_0[one],
            log_pi_t=update.log_pi_t[one],
        )
        mean[row], covariance[row, :, row, :] = _moments(alone)
    return Moments(mean.reshape(-1) / prompts, covariance.reshape(prompts * arms, -1) / prompts**2)


def _moments(update: _Update) -> Moments:
    """Two passes over the enumeration: the mean, then the covariance around it (no cancelling of second moments)."""
    size = update.reward.size
    mean, covariance = np.zeros(size), np.zeros((size, size))
    with np.errstate(over="ignore", invalid="ignore"):  # the caller refuses moments beyond float64
        for chunk in batches(update.log_pi_t, update.num_generations):
            mean = mean + np.exp(chunk.log_probability) @ _directions(update, chunk)
        for chunk in batches(update.log_pi_t, update.num_generations):
            root = np.exp(0.5 * chunk.log_probability)[:, None] * (_directions(update, chunk) - mean)
            covariance = covariance + root.T @ root
    return Moments(mean, covariance)


def _directions(update: _Update, chunk: Batches) -> Array:
    """The update of each batch in the chunk, (S, N*A)."""
    advantage = sampled_advantages(
        update.reward, chunk.counts, update.num_generations, update.baseline, update.normalize
    )
    coefficient = np.where(chunk.counts > 0, _coefficients(update, advantage), 0.0)
    pulls = chunk.counts * coefficient / chunk.counts[0].sum()
    direction: Array = pulls - pulls.sum(axis=-1, keepdims=True) * np.exp(update.log_pi_theta)
    return direction.reshape(len(direction), -1)


def _coefficients(update: _Update, advantage: Array) -> Array:
    """The coefficient c of every arm (S, N, A); entries of arms that were not drawn are arbitrary."""
    log_pi_theta, log_pi_0, log_pi_t = update.log_pi_theta, update.log_pi_0, update.log_pi_t
    if update.method == "rloo":
        return advantage
    if update.method == "dar":
        weights = regression_weights(advantage, log_pi_0, log_pi_t, update.alpha, update.beta, update.w_clip)
        return np.exp(weights.log_weight)
    ratio = np.exp(log_pi_theta - log_pi_t)
    if update.method == "dao":
        return ratio * (advantage - update.beta * (log_pi_theta - log_mixture(log_pi_0, log_pi_t, update.alpha)))
    inside = np.where(advantage > 0.0, ratio <= 1.0 + update.epsilon, ratio >= 1.0 - update.epsilon)
    return inside * ratio * advantage + update.beta * np.expm1(log_pi_0 - log_pi_theta)
