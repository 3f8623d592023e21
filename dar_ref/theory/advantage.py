"""The exact advantage: what the samples of a batch estimate, as a finite sum over arms."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from dar_ref.theory import checks
from dar_ref.theory.checks import Array
from dar_ref.theory.iteration import centred

MIN_STD = 1e-8
"""Standard deviation of a reward at and below which all rewards count as equal."""


class ExactAdvantage(NamedTuple):
    """`advantage` (..., A): normalised; `std`: what it was divided by, in units of the reward."""

    advantage: Array
    std: float


def exact_advantage(reward: ArrayLike, log_pi_t: ArrayLike) -> ExactAdvantage:
    """The advantage that samples of `pi_t` estimate: `A(x, a) = (r(x, a) - E_{pi_t}[r | x]) / std`.

    `std` is the standard deviation of `r - E_{pi_t}[r | x]` over all prompts and arms, under `pi_t`. It leaves out that
    the mean of a group contains its own sample (T10). Given the arm, and in a large batch, the sampled advantage has
    mean `sqrt((K-1)/K) A(x, a)`, plus noise from the other K-1 samples. The first makes the regression aim as if beta
    were `sqrt(K/(K-1))` times larger. The second does not depend on the arm, so without a clip it only scales how much
    a prompt counts.

    Args:
        reward: r (..., A), finite.
        log_pi_t: sampler (..., A), log-probabilities.

    Returns:
        `ExactAdvantage(advantage, std)`. The advantage is 0 everywhere if the standard deviation is at most `MIN_STD`.

    Raises:
        TypeError, ValueError: bad input, or rewards whose difference is beyond float64.

    Source: the paper's practical loss; T10.

    >>> exact_advantage(np.array([[1.0, 3.0]]), np.log([[0.5, 0.5]])).advantage.tolist()
    [[-1.0, 1.0]]
    """
    reward, log_pi_t = checks.arrays(reward=reward, log_pi_t=log_pi_t)
    checks.span(reward=reward)
    difference = centred(reward, log_pi_t)
    exponent = np.frexp(np.abs(difference).max())[1]  # in units of a power of two no square overflows
    variance = (np.exp(log_pi_t) * np.ldexp(difference, -exponent) ** 2).sum(axis=-1).mean()
    std = float(np.ldexp(np.sqrt(variance), exponent))
    return ExactAdvantage(difference / std if std > MIN_STD else np.zeros_like(difference), std)
