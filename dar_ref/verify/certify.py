"""Proofs on given bandits, by ball arithmetic.

Both sides of an identity are computed from their definitions in `dar_ref.verify.arb.policies` and subtracted. A
residual whose ball contains 0 with a radius below 10^-D proves that the identity holds on this bandit to D digits. A
ball that excludes 0 disproves it. The working precision is doubled until one of the two happens. A NaN says
nothing, so it counts as a ball of infinite radius: undecided, at any place in the list. An empty list is refused.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from flint import arb

from dar_ref import scalars
from dar_ref.verify.arb.policies import INF, precision

MAX_BITS = 2**20
MOST_DIGITS = 100_000
C = TypeVar("C")


class Certificate(NamedTuple):
    """`passed`: every residual's ball contains 0; `radius`: the largest of `|midpoint| + radius`, as a float."""

    passed: bool
    radius: float


def certify(residuals: Callable[[C], list[arb]], case: C, digits: int = 100) -> Certificate:
    """Enclose every residual of a statement on one case within 10^-digits, or disprove it.

    Args:
        residuals: function from a case to the difference of both sides of each identity, at the current precision.
        case: argument of `residuals`.
        digits: D in [1, MOST_DIGITS], number of decimal places.

    Returns:
        `Certificate(passed, radius)`; `radius < 10^-digits` if passed (a float: 0 from about 308 digits on).

    Raises:
        ValueError: too few or too many digits, no residual at all, or one that stays undecided at 2^20 bits.

    Source: Johansson, "Arb: efficient arbitrary-precision midpoint-radius interval arithmetic", IEEE Trans. Computers
        66 (2017).
    """
    bits = int(3.33 * scalars.integer("digits", digits, 1, MOST_DIGITS)) + 128
    while bits <= MAX_BITS:
        with precision(bits):
            balls = residuals(case)
            if not balls:
                raise ValueError("the list of residuals is empty and proves nothing; return at least one")
            largest = max(INF if ball.is_nan() else ball.abs_upper() for ball in balls)  # max skips a NaN
            if not all(ball.contains(0) for ball in balls):
                return Certificate(False, float(largest))
            if largest < arb(10) ** -digits:
                return Certificate(True, float(largest))
        bits *= 2
    raise ValueError(f"undecided at {bits // 2} bits: a ball around 0 does not shrink below 10^-{digits}")
