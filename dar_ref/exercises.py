"""Checkers for the exercises of the notebooks: each takes an answer, says right or wrong, and gives a hint.

A checker computes the expected value without the answer, mostly with `dar_ref.theory`, and prints one line. It returns
whether the answer is right, so that a notebook can assert it.
"""

from numbers import Real
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from dar_ref import theory
from dar_ref.theory.roots import crossing

THREE_DIGITS = 5e-3  # largest relative error of rounding to three digits


def smallest_dual_kl(answer: float, log_pi_0: ArrayLike, log_pi_t: ArrayLike, alpha: float) -> bool:
    """Notebook 01: the smallest dual KL that any policy can have, in nats, to three digits. Policies are log-probs,
    (A,)."""
    return _number(
        answer,
        float(-theory.interpolate(log_pi_0, log_pi_t, alpha).log_c),
        hint="T1: which policy makes KL(pi‖pi_ref) zero, and what is left then?",
    )


def beta_for_odds(
    answer: float, odds: float, advantage: ArrayLike, log_pi_0: ArrayLike, log_pi_t: ArrayLike, alpha: float
) -> bool:
    """Notebook 02: the beta at which pi* plays the first arm `odds` times as often as the second, to three digits.
    Advantages and log-probs are (A,) with A >= 2."""
    first, second = np.asarray(theory.interpolate(log_pi_0, log_pi_t, alpha).log_pi_ref)[:2]
    a = np.asarray(advantage)
    return _number(
        answer,
        float((a[0] - a[1]) / (np.log(odds) - (first - second))),
        hint="in log pi*(1) - log pi*(2) the normaliser cancels: write it with pi_ref and A/beta, and solve",
    )


def beta_for_clipped_share(answer: float, share: float, w_clip: float) -> bool:
    """Notebook 04: the beta at which a given share of samples is clipped, for A standard normal, to three digits."""
    return _number(
        answer,
        NormalDist().inv_cdf(1.0 - share) / float(np.log(w_clip)),
        hint="w = exp(A/beta) passes w_clip where A passes beta log w_clip: which quantile of A must that be?",
    )


def radius_where_the_balls_touch(answer: float, log_pi_0: ArrayLike, log_pi_t: ArrayLike) -> bool:
    """Notebook 03: the smallest equal radius, in nats, at which some policy satisfies both constraints, to three
    digits. Policies are log-probs, (A,)."""
    return _number(
        answer,
        float(theory.chernoff(log_pi_0, log_pi_t).information),
        hint="bisect on the radius with theory.feasible, or look for the information named after Chernoff",
    )


def smallest_budget_of_pi_0(answer: float, log_pi_0: ArrayLike, log_pi_t: ArrayLike, eps_t: float) -> bool:
    """Notebook 03: the smallest `eps_0`, in nats, at which some policy satisfies both constraints, to three digits.
    Policies are log-probs, (A,)."""
    return _number(
        answer,
        theory.closest(log_pi_0, log_pi_t, eps_t, stability="kl").divergence,
        hint="T6: alpha eps_0 + (1-alpha) eps_t >= -log C(alpha) must hold for every alpha; solve for eps_0",
    )


def beta_to_pass(answer: float, beta: float, num_generations: int) -> bool:
    """Notebook 05: the beta to pass with the group mean of K samples so that the target is `pi*` at `beta`."""
    flat, gap = np.log([0.5, 0.5]), np.array([1.0, 0.0])
    target = theory.sampled_target(gap, flat, flat, 1.0, 1.0, num_generations)
    return _number(
        answer,
        beta * float(target[0] - target[1]),
        relative=1e-6,
        hint="the group mean makes the loss act as if beta were K/(K-1) times larger",
    )


def share_where_noises_cross(answer: float) -> bool:
    """Notebook 05: no reward, two arms, `pi_t = (q, 1-q)`, `pi_theta = (1-q, q)`: the q < 1/2 at which DAR and DAO have
    equal noise-to-signal ratios, to three digits."""

    def excess(share: float) -> float:
        log_pi_t = np.log([share, 1.0 - share])
        policies = (log_pi_t[::-1], log_pi_t, log_pi_t)
        dar = theory.estimator_moments("dar", np.zeros(2), *policies, 1, alpha=0.0, beta=1.0, baseline="none")
        dao = theory.estimator_moments("dao", np.zeros(2), *policies, 1, alpha=0.0, beta=1.0, baseline="none")
        return theory.noise_to_signal(dar) - theory.noise_to_signal(dao)

    return _number(
        answer,
        crossing(excess, 0.01, 0.25, 0.49),  # DAR is the quieter one at the low end, the noisier one at the high end
        hint="bisect on q: DAR is the quieter one where pi_theta is far from pi_t, that is at small q",
    )


def smallest_beta_with_a_fixed_point(answer: float, log_pi_0: ArrayLike, alpha: float) -> bool:
    """Notebook 06: two arms, the first is better, A / std: the smallest beta with a fixed point between the corners.
    `log_pi_0` is (2,)."""
    return _number(
        answer,
        float(theory.normalized_threshold(np.asarray(log_pi_0)[0])) / alpha,
        hint="the threshold is one of the product alpha beta; theory.normalized_threshold takes log pi_0 of the arm",
    )


def beta_where_both_matter(answer: float, log_pi_0: ArrayLike, log_pi_t: ArrayLike, alpha: float) -> bool:
    """Notebook 07: the beta at which one std of the advantage changes the log weight of the first arm as much as
    `pi_0` does. Policies are log-probs, (A,)."""
    log_reg = theory.regression_weights(np.zeros(np.shape(log_pi_0)), log_pi_0, log_pi_t, alpha, 1.0).log_weight[0]
    return _number(
        answer,
        1.0 / abs(float(log_reg)),
        hint="the log weight is alpha log(pi_0/pi_t) + A/beta: make the two terms equal in size at A = 1",
    )


def bonus_where_padding_pays(answer: float, answer_words: int, response_words: int) -> bool:
    """Notebook 08: the bonus per word at which a response filled up to `response_words` with wrong words pleases the
    annotators of `tldr` as much as the ideal answer of `answer_words` does, to three digits."""
    agreement = 2.0 * answer_words / (answer_words + response_words)
    return _number(
        answer,
        (1.0 - agreement) / (response_words - answer_words),
        hint="the agreement of m right words among n is 2m/(m+n), and 1 if n = m: add to each the bonus of its words",
    )


def weight_at_twice_the_beta(answer: float, weight: float, log_reg: float) -> bool:
    """Notebook 09: the new value of a weight below the clip if beta doubles, to three digits. `log_reg` is
    `alpha log(pi_0/pi_t)`."""
    log_adv = float(np.log(weight)) - log_reg
    return _number(
        answer,
        float(np.exp(log_reg + 0.5 * log_adv)),
        hint="log w = alpha log(pi_0/pi_t) + A/beta: beta divides the second term only",
    )


def accumulation_steps(answer: float, samples: int, micro_batch: int, devices: int) -> bool:
    """Notebook 09: the `gradient_accumulation_steps` at which an update has `samples` completions."""
    return _number(
        answer,
        samples / (micro_batch * devices),
        relative=1e-6,
        hint="completions of an update = per_device_train_batch_size x gradient_accumulation_steps x devices",
    )


def budget_of_a_beta(answer: float, beta: float) -> bool:
    """Notebook 10: the nats that one step spends, to first order, if A is divided by its std and `beta` is large."""
    return _number(
        answer,
        0.5 / beta**2,
        hint="T12: a small step of eps_t nats has beta = 1/sqrt(2 eps_t); solve for eps_t",
    )


def alpha_that_keeps_a_share(
    answer: float, log_pi_0: ArrayLike, log_pi_t: ArrayLike, tokens: int, share: float
) -> bool:
    """Notebook 10: the alpha at which sequences of independent tokens keep an effective share of the samples, to three
    digits. Policies over the values of one token are log-probs, (A,)."""

    def spare(alpha: float) -> float:
        return float(theory.weight_ess(log_pi_0, log_pi_t, alpha)) ** tokens - share

    return _number(
        answer,
        crossing(lambda alpha: -spare(alpha), 0.0, 0.5, 1.0),  # the share falls as alpha rises
        hint="T13: a token must keep the share to the power 1/tokens; bisect on alpha with theory.weight_ess",
    )


def alpha_that_holds_a_spread(answer: float, spread: float, beta: float) -> bool:
    """Notebook 11: the alpha at which log(pi/pi_0) has this standard deviation, in nats, where a run comes to rest."""
    return _number(
        answer,
        1.0 / (beta * spread),
        hint="T5: where A is divided by its std, a fixed point has the standard deviation 1/(alpha beta)",
    )


def _number(answer: object, expected: float, *, hint: str, relative: float = THREE_DIGITS) -> bool:
    """Compare a number with the expected value; print right, or wrong with a hint that does not reveal the value."""
    if answer is None:
        print("Write your number in place of None and run the cell.")
        return False
    if isinstance(answer, bool | np.bool_) or not isinstance(answer, Real):
        print(f"{answer!r} is not a number; write one in its place and run the cell.")
        return False
    right = bool(abs(float(answer) - expected) <= relative * abs(expected))
    side = "too large" if float(answer) > expected else "too small"
    print("right" if right else f"wrong ({side}): {hint}")
    return right
