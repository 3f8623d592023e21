"""Hard budgets, iterated: the user's dials are two radii in nats instead of alpha and beta (T12).

    pi_{t+1} = argmax E_pi[A]   over   KL(pi‖pi_0) <= e0,  KL(pi‖pi_t) <= et,     from pi_0

Every step is the DAR step of its multipliers (T7), unless `pi_0` on the best arms is within the budgets; the region is
never empty, and E[A] never falls. With A fixed the whole path lies on the curve `pi_0 exp(theta A)`, and theta never
falls. So no step needs an alpha between 0 and 1: while `et` alone stops it, alpha is 0; the step that meets `e0` has
alpha 1. After more than `e0/et` steps, `et > 0`, the path is at the best policy of the ball around `pi_0`, and stays
there. Small steps get there in about `sqrt(e0/et)`.

A step of a small budget `et` has `beta = sd(A) / sqrt(2 et)`, `sd` under `pi_t`. So `A/beta` does not depend on the
scale of A: the budget stands in the place of the division by the std.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from dar_ref import scalars
from dar_ref.theory import checks
from dar_ref.theory.checks import Array
from dar_ref.theory.constrained import constrained_optimum
from dar_ref.theory.region import feasible


def budgeted_path(advantage: ArrayLike, log_pi_0: ArrayLike, eps_0: float, eps_t: float, steps: int) -> Array:
    """The path of best policies within `eps_0` nats of `pi_0` and within `eps_t` nats of the policy before.

    Args:
        advantage: A (..., A), finite.
        log_pi_0: initial policy and start (..., A), log-probabilities.
        eps_0: budget of the whole path, KL(pi‖pi_0), in nats, in [0, inf].
        eps_t: budget of one step, KL(pi_{t+1}‖pi_t), in nats, in [0, inf].
        steps: number of steps, `>= 0`.

    Returns:
        log pi_0 ... log pi_steps, (steps+1, ..., A); the first row is `pi_0`. If a budget is 0 or A is constant, the
        path stays there. Where the budgets allow the best arms alone, it ends in `pi_0` on the best arms; with both
        infinite, uniform on the best of all arms, as `constrained_optimum` has it.

    Raises:
        TypeError, ValueError: bad input, see `checks.arrays`; a budget that is negative or NaN; `steps` that is not a
            whole number `>= 0`.

    Source: T12.

    >>> import numpy as np
    >>> path = budgeted_path(np.array([1.0, 0.0]), np.log([0.5, 0.5]), eps_0=0.2, eps_t=0.05, steps=4)
    >>> np.exp(path[:, 0]).round(3).tolist()  # two steps of 0.05 nats, then the border of the ball of 0.2
    [0.5, 0.657, 0.8, 0.805, 0.805]
    """
    advantage, log_pi_0 = checks.arrays(advantage=advantage, log_pi_0=log_pi_0)
    eps_0, eps_t = checks.non_negative("eps_0", eps_0), checks.non_negative("eps_t", eps_t)
    advantage, log_pi_0 = np.broadcast_arrays(advantage, log_pi_0)
    path = np.empty((scalars.integer("steps", steps, 0) + 1, *log_pi_0.shape))
    path[0] = log_pi_0
    for row in np.ndindex(log_pi_0.shape[:-1]):
        for now, following in pairwise(path[:, *row]):
            following[:] = _step(advantage[row], log_pi_0[row], now, eps_0, eps_t)
    return path


def _step(advantage: Array, log_pi_0: Array, log_pi_t: Array, eps_0: float, eps_t: float) -> Array:
    """The best policy within both budgets. It is `pi_t` itself where a budget is 0, or so small that rounding decides
    whether the balls meet: exactly they do, since `pi_t` keeps both budgets."""
    if feasible(log_pi_0, log_pi_t, eps_0, eps_t).margin <= 0.0:
        return log_pi_t
    return constrained_optimum(advantage, log_pi_0, log_pi_t, eps_0, eps_t).log_pi
