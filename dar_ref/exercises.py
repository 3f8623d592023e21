"""Checkers for the exercises of the notebooks: each takes an answer and says right or wrong, and where to look again.

A checker computes what it expects with `dar_ref.theory`, never from the answer, and prints one line. It returns whether
the answer is right, so that a notebook can assert it.
"""

from numbers import Real

import numpy as np
from numpy.typing import ArrayLike

from dar_ref import theory


def radius_where_the_balls_touch(answer: float, log_pi_0: ArrayLike, log_pi_t: ArrayLike) -> bool:
    """Notebook 03: the smallest equal radius at which some policy satisfies both constraints, to three digits."""
    return _number(
        answer,
        float(theory.chernoff(log_pi_0, log_pi_t).information),
        relative=1e-3,
        hint="bisect on the radius with theory.feasible, or look for the information named after Chernoff",
    )


def _number(answer: object, expected: float, relative: float, hint: str) -> bool:
    """Compare a number with the expected one; print right, or wrong with a hint that does not give the value away."""
    if isinstance(answer, bool | np.bool_) or not isinstance(answer, Real):
        print(f"not yet an answer: {answer!r} is no number")
        return False
    right = bool(abs(float(answer) - expected) <= relative * abs(expected))
    side = "too large" if float(answer) > expected else "too small"
    print("right" if right else f"wrong ({side}): {hint}")
    return right
