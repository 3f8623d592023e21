"""The numbers behind the figures of the conflict: the region of both constraints along a path of policies."""

from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dar_ref import theory
from dar_ref.theory import checks
from dar_ref.theory.checks import Array
from dar_ref.theory.trust_regions import Stability


class ConflictPath(NamedTuple):
    """The intersection of `KL(pi‖pi_0) <= eps_0` with a trust region, for every policy of a path of T policies.

    Input: `log_pi_0` (3,), `log_path` (T, 3), `reward` (3,), `eps_0`, `eps_t` (nats, also of the forward ball), `box`.
    `margin`, `certificate` (T,): from `theory.feasible`; the region is empty where the margin is negative.
    `alpha`, `beta` (T,): DAR's parameters at the best policy of the region; nan where it is empty. `area`, `best`, for
    each trust region: share of the simplex (T,); best policies (T, 3), log-probabilities, nan where it is empty.
    """

    log_pi_0: Array
    log_path: Array
    reward: Array
    eps_0: float
    eps_t: float
    box: float
    margin: Array
    certificate: Array
    alpha: Array
    beta: Array
    area: dict[Stability, Array]
    best: dict[Stability, Array]

    @property
    def empty(self) -> NDArray[np.bool_]:
        """Where no policy satisfies both KL constraints, (T,)."""
        return self.margin < 0.0

    def size(self, stability: Stability) -> float:
        """Size of a trust region: `box` for the box, `eps_t` for the balls."""
        return self.box if stability == "ppo_box" else self.eps_t


def measure_path(
    log_pi_0: ArrayLike, log_path: ArrayLike, reward: ArrayLike, eps_0: float, eps_t: float, box: float = 0.2
) -> ConflictPath:
    """Measure the region of both constraints at every policy of a path.

    Args:
        log_pi_0: initial policy (3,), log-probabilities, every arm above 0.
        log_path: the current policies `pi_t` (T, 3), log-probabilities, every arm above 0.
        reward: (3,), finite. An advantage works as well, since a constant does not change the maximiser.
        eps_0: radius of the ball around `pi_0`, in nats.
        eps_t: radius of the ball around `pi_t` and of the forward ball, in nats.
        box: half-width of PPO's box, as a relative change of a probability.

    Raises:
        ValueError: other shapes, or an arm of probability 0.

    Source: T6, T7, T9.

    >>> path = theory.iterate(np.array([0.0, 1.0, 0.0]), np.log([0.6, 0.2, 0.2]), alpha=0.0, beta=0.5, steps=2)
    >>> measure_path(path[0], path, np.array([0.0, 1.0, 0.0]), 0.2, 0.2).empty.tolist()
    [False, False, True]
    """
    log_pi_0, log_path, reward = checks.arrays(log_pi_0=log_pi_0, log_path=log_path, reward=reward)
    shapes = log_pi_0.shape, log_path.shape[1:], log_path.ndim
    if shapes != ((3,), (3,), 2) or not (np.isfinite(log_pi_0).all() and np.isfinite(log_path).all()):
        raise ValueError(
            f"log_pi_0 has shape {log_pi_0.shape} and log_path {log_path.shape}: pass (3,) and (T, 3), and give each of"
            " the three arms a probability above 0"
        )
    _, certificate, margin = theory.feasible(log_pi_0, log_path, eps_0, eps_t)
    alpha, beta = np.full((2, len(log_path)), np.nan)
    for step in np.flatnonzero(margin >= 0.0):
        inside = theory.constrained_optimum(reward, log_pi_0, log_path[step], eps_0, eps_t)
        alpha[step], beta[step] = inside.alpha, inside.beta
    area: dict[Stability, Array] = {}
    best: dict[Stability, Array] = {}
    for stability in get_args(Stability):
        size = box if stability == "ppo_box" else eps_t
        area[stability] = np.array(
            [theory.region_volume(log_pi_0, log_q, eps_0, size, stability=stability).fraction for log_q in log_path]
        )
        best[stability] = np.array(
            [theory.best_reward(reward, log_pi_0, log_q, eps_0, size, stability=stability).log_pi for log_q in log_path]
        )
    sizes = float(eps_0), float(eps_t), float(box)
    return ConflictPath(log_pi_0, log_path, reward, *sizes, margin, certificate, alpha, beta, area, best)
