"""Budgets in nats in place of alpha and beta: the multipliers of T7, solved on each rollout. Experimental.

The best of all policies with `KL(pi‖pi_0) <= eps_0` and `KL(pi‖pi_t) <= eps_t` is a DAR policy, and its alpha and beta
are the multipliers of the two constraints (T7). Here all means are over the K samples per prompt, so:

1. The dual is that of the samples: `KL(pi‖pi_t)` can be at most log K, and with few samples the budgets hold roughly.
2. The samples may say that no policy meets both budgets. Then alpha is 1, and beta is the one that spends `eps_0` on
   small advantages, `std(A) / sqrt(2 eps_0)`.
3. One gradient step does not reach the target. So the multiplier of `eps_0` is scaled by `anchor`, which grows while
   the measured KL to pi_0 is above its budget, and falls while it is below.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import logsumexp

Array = NDArray[np.float64]

LEAST, MOST = 1e-2, 1e3  # bounds of both multipliers, in units of the advantage's standard deviation per nat
GAIN, ANCHORS = 0.1, (1e-2, 1e2)  # of the feedback on `anchor`, and its bounds


class Multipliers(NamedTuple):
    """`alpha`, `beta` (reward per nat) for a rollout; `margin`: of the samples (T6), nats; below 0 no policy fits."""

    alpha: float
    beta: float
    margin: float


def multipliers(advantage: Array, log_ratio: Array, eps_0: float, eps_t: float, anchor: float = 1.0) -> Multipliers:
    """Solve the two-variable dual of the samples.

    Args:
        advantage: (N, K), of the K samples of pi_t for each of N prompts; centred; beta is in its units per nat.
        log_ratio: (N, K), log pi_0 - log pi_t of the samples.
        eps_0: budget of KL(pi‖pi_0), mean over prompts, in nats, > 0.
        eps_t: budget of KL(pi‖pi_t), mean over prompts, in nats, > 0.
        anchor: factor on the multiplier of `eps_0`, > 0.

    Returns:
        `Multipliers`.
    """
    spread = float(advantage.std()) or 1.0
    advantage = advantage / spread

    def log_mean(exponent: Array) -> float:
        """Mean over prompts of log mean exp, (N, K) to a number."""
        return float((logsumexp(exponent, axis=1) - math.log(exponent.shape[1])).mean())

    def margin(alpha: float) -> float:
        return alpha * eps_0 + (1.0 - alpha) * eps_t + log_mean(alpha * log_ratio)

    def dual(logs: Array) -> float:
        m_0, m_t = np.exp(logs)
        beta = m_0 + m_t
        return float(m_0 * eps_0 + m_t * eps_t + beta * log_mean((m_0 * log_ratio + advantage) / beta))

    least = min(minimize_scalar(margin, bounds=(0.0, 1.0), method="bounded").fun, margin(0.0), margin(1.0))
    if least <= 0.0:
        return Multipliers(1.0, anchor * spread / math.sqrt(2.0 * eps_0), least)
    bounds = [(math.log(LEAST), math.log(MOST))] * 2
    found = minimize(dual, np.zeros(2), method="L-BFGS-B", bounds=bounds)
    m_0, m_t = np.exp(found.x) * spread
    m_0 *= anchor
    return Multipliers(float(m_0 / (m_0 + m_t)), float(m_0 + m_t), least)


def next_anchor(anchor: float, kl: float, eps_0: float) -> float:
    """`anchor` after a rollout whose samples have a mean KL(pi_t‖pi_0) of `kl` nats."""
    moved = anchor * math.exp(GAIN * max(-1.0, min(kl / eps_0 - 1.0, 1.0)))
    return min(max(moved, ANCHORS[0]), ANCHORS[1])
