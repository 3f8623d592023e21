"""The four updates whose moments `estimators` gives: their options, their checks and their coefficients (T8, T14).

    U = 1/(N K) sum_i c_i (e_{y_i} - pi_theta),   y_i ~ pi_t

`batches` enumerates the samples. Here each batch becomes its update.

Shapes: `N` prompts, `K` completions per prompt, `A` arms, `S` batches of a chunk.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike

from dar_ref import scalars
from dar_ref.theory import checks
from dar_ref.theory.batches import (
    Baseline,
    Batches,
    Normalize,
    batches,
    independent_rows,
    one_row_per_prompt,
    sample_size,
    sampled_advantages,
)
from dar_ref.theory.checks import Array
from dar_ref.theory.divergence import log_sum_exp
from dar_ref.theory.dual_kl import log_mixture
from dar_ref.theory.regression import regression_weights

Method = Literal["dar", "dao", "grpo", "rloo"]
Weights = Literal["dar", "zero_sum"]

_OPTIONS = {"dar": {"alpha", "w_clip", "weights"}, "dao": {"alpha"}, "grpo": {"epsilon"}, "rloo": set[str]()}


class Options(NamedTuple):
    """The options of `estimators.estimator_moments` as they were given; None is for the method's default."""

    alpha: float | None
    beta: float
    w_clip: float | None
    epsilon: float | None
    baseline: Baseline | None
    normalize: Normalize | None
    weights: Weights


class Update(NamedTuple):
    """A method with all options; policies and reward are (N, A). `log_mean_weight`: log E[w] of zero-sum weights."""

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
    log_mean_weight: float | None


def checked_update(method: Method, arrays: dict[str, ArrayLike], num_generations: int, options: Options) -> Update:
    """The update of a method, with the defaults put in, RLOO's KL term in its reward, and the mean of the weights.

    Args:
        method: "dar", "dao", "grpo" or "rloo".
        arrays: `reward`, `log_pi_theta`, `log_pi_0` and `log_pi_t`, by name.
        num_generations: K.
        options: as given.

    Raises:
        TypeError, ValueError: as `estimators.estimator_moments`.
    """
    _check_options(method, options)
    reward, log_pi_theta, log_pi_0, log_pi_t = one_row_per_prompt(**arrays)
    baseline = options.baseline or ("leave_one_out" if method == "rloo" else "group")
    normalize = options.normalize or ("group" if method == "grpo" else "none")
    update = Update(
        method,
        reward,
        log_pi_theta,
        log_pi_0,
        log_pi_t,
        sample_size(num_generations, baseline, normalize, len(reward)),
        0.1 if options.alpha is None else checks.alpha(options.alpha),
        checks.positive("beta", options.beta)
        if "alpha" in _OPTIONS[method]
        else scalars.non_negative("beta", options.beta),
        options.w_clip,
        0.2 if options.epsilon is None else checks.non_negative("epsilon", options.epsilon),
        baseline,
        normalize,
        None,
    )
    update = _with_penalised_reward(update)
    _check_supports(update)
    return update if options.weights == "dar" else update._replace(log_mean_weight=_log_mean_weight(update))


def _check_options(method: str, options: Options) -> None:
    scalars.choice("method", method, get_args(Method))
    scalars.choice("weights", options.weights, get_args(Weights))
    given: dict[str, object] = {"alpha": options.alpha, "w_clip": options.w_clip, "epsilon": options.epsilon}
    given["weights"] = None if options.weights == "dar" else options.weights
    for name, value in given.items():
        if value is not None and name not in _OPTIONS[method]:
            raise ValueError(f"{name} = {value!r} is not an option of method {method!r}; leave it out")


def _with_penalised_reward(update: Update) -> Update:
    """RLOO subtracts its KL term from the reward, at sampling time."""
    if update.method != "rloo" or update.beta == 0.0:
        return update
    drawn = update.log_pi_t > -np.inf
    with np.errstate(invalid="ignore"):  # -inf - -inf on arms that are never drawn
        penalty = np.where(drawn, update.log_pi_t - update.log_pi_0, 0.0)
    return update._replace(reward=update.reward - update.beta * penalty)


def _check_supports(update: Update) -> None:
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


def independent_parts(update: Update) -> Iterator[Update]:
    """The prompts one by one; all together if the batch's mean or std couples them."""
    for one in independent_rows(len(update.reward), update.baseline, update.normalize):
        yield update._replace(
            reward=update.reward[one],
            log_pi_theta=update.log_pi_theta[one],
            log_pi_0=update.log_pi_0[one],
            log_pi_t=update.log_pi_t[one],
        )


def directions(update: Update, chunk: Batches) -> Array:
    """The update of each batch in the chunk, (S, N*A)."""
    coefficient = np.where(chunk.counts > 0, _coefficients(update, _advantages(update, chunk)), 0.0)
    pulls = chunk.counts * coefficient / chunk.counts[0].sum()
    direction: Array = pulls - pulls.sum(axis=-1, keepdims=True) * np.exp(update.log_pi_theta)
    return direction.reshape(len(direction), -1)


def _log_mean_weight(update: Update) -> float:
    """log E[w], the mean over all batches and prompts."""
    means = []
    for part in independent_parts(update):
        for chunk in batches(part.log_pi_t, part.num_generations):
            with np.errstate(divide="ignore"):  # arms that were not drawn have no share
                log_share = np.log(chunk.counts / chunk.counts[0].sum() * (len(part.reward) / len(update.reward)))
            log_weight = _log_weights(part, _advantages(part, chunk))
            terms = chunk.log_probability[:, None, None] + log_share + log_weight
            means.append(log_sum_exp(terms.reshape(-1)))
    return float(log_sum_exp(np.array(means)))


def _advantages(update: Update, chunk: Batches) -> Array:
    return sampled_advantages(update.reward, chunk.counts, update.num_generations, update.baseline, update.normalize)


def _log_weights(update: Update, advantage: Array) -> Array:
    return regression_weights(
        advantage, update.log_pi_0, update.log_pi_t, update.alpha, update.beta, update.w_clip
    ).log_weight


def _coefficients(update: Update, advantage: Array) -> Array:
    """The coefficient c of every arm (S, N, A); entries of arms that were not drawn are arbitrary."""
    log_pi_theta, log_pi_0, log_pi_t = update.log_pi_theta, update.log_pi_0, update.log_pi_t
    if update.method == "rloo":
        return advantage
    if update.method == "dar":
        log_weight = _log_weights(update, advantage)
        return np.exp(log_weight) if update.log_mean_weight is None else np.expm1(log_weight - update.log_mean_weight)
    ratio = np.exp(log_pi_theta - log_pi_t)
    if update.method == "dao":
        return ratio * (advantage - update.beta * (log_pi_theta - log_mixture(log_pi_0, log_pi_t, update.alpha)))
    inside = np.where(advantage > 0.0, ratio <= 1.0 + update.epsilon, ratio >= 1.0 - update.epsilon)
    inside &= advantage != 0.0  # the ratio may be infinite
    return np.where(inside, ratio * advantage, 0.0) + update.beta * np.expm1(log_pi_0 - log_pi_theta)
