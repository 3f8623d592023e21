"""Random bandits for `dar-ref verify`, drawn over a domain as wide as the claims.

One to eight arms. Policies range from flat to thousands of nats wide; a third of them have arms of probability zero.
alpha is 0, 1, close to them, or between; beta is 1e-6 to 1e6. Advantages are 1e-6 to 1e6 or constant. The clip binds in
about half of the cases.
"""

from typing import NamedTuple

import numpy as np

from dar_ref.theory.checks import Array
from dar_ref.theory.dual_kl import log_normalize


class Case(NamedTuple):
    """One bandit of A arms with all the quantities in T1 to T4; arrays are (A,), policies are log-probabilities."""

    log_pi: Array
    advantage: Array
    log_pi_0: Array
    log_pi_t: Array
    alpha: float
    beta: float
    w_clip: float


def draw_case(rng: np.random.Generator) -> Case:
    """Draw a bandit on which every statement T1 to T4 is defined: the anchors share at least one arm."""
    arms = int(rng.integers(1, 9))
    kept = int(rng.integers(arms))
    log_pi_0, log_pi_t = random_policy(rng, arms, kept), random_policy(rng, arms, kept)
    alpha, beta = random_alpha(rng), 10.0 ** rng.uniform(-6.0, 6.0)
    advantage = 10.0 ** rng.uniform(-6.0, 6.0) * (rng.standard_normal(arms) if rng.random() < 0.95 else np.ones(arms))
    log_w = alpha * (log_pi_0[kept] - log_pi_t[kept]) + advantage[kept] / beta
    w_clip = float(np.exp(np.clip(log_w, -600.0, 600.0))) if rng.random() < 0.5 else 10.0 ** rng.uniform(-2.0, 3.0)
    log_pi = random_policy(rng, arms, kept)
    if rng.random() < 0.8:  # else `pi` may have mass that an anchor lacks, and both sides are infinite
        shared = (log_pi_0 > -np.inf) & (log_pi_t > -np.inf)
        log_pi = log_normalize(np.where(shared, log_pi, -np.inf))[0]
    return Case(log_pi, advantage, log_pi_0, log_pi_t, alpha, beta, w_clip)


def random_policy(rng: np.random.Generator, arms: int, kept: int, widest: float = 1e3) -> Array:
    """Draw a policy (A,) in which arm `kept` has positive probability; its logits have a std of 1e-3 to `widest`."""
    logits = 10.0 ** rng.uniform(-3.0, np.log10(widest)) * rng.standard_normal(arms)
    if rng.random() < 1 / 3:
        dropped = rng.random(arms) < 0.4
        dropped[kept] = False
        logits[dropped] = -np.inf
    return log_normalize(logits)[0]


def random_alpha(rng: np.random.Generator) -> float:
    """Draw alpha: 0, 1, close to either, or anywhere between."""
    near = 10.0 ** rng.uniform(-12.0, -1.0)
    return float(rng.choice([0.0, 1.0, near, 1.0 - near, rng.random(), rng.random(), rng.random()]))
