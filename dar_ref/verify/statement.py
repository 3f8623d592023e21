"""How a statement is tested: float64 errors per unit of a stated scale, and residuals in ball arithmetic."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from flint import arb

from dar_ref.theory.checks import EPS, Array
from dar_ref.verify.arb import policies

LIMIT = 8 * EPS  # allowed error per unit of scale, as stated in the modules of the theory
JUDGE_BITS = 256  # precision of the values that float64 is compared with; A/beta = 1e12 costs 40 of these bits


class Error(NamedTuple):
    """A float64 error and its scale; `0 <= error <= LIMIT * scale` passes."""

    error: float
    scale: float


class Statement(NamedTuple):
    """A statement to verify.

    id: as in the theory pages; claim: in one line; draw: a random case; errors: float64 errors on a case; residuals:
    differences of the two sides in ball arithmetic; every: tried on case 0, `every`, 2 `every`, ... (1 unless costly).
    """

    id: str
    claim: str
    draw: Callable[[np.random.Generator], Any]
    errors: Callable[[Any], list[Error]]
    residuals: Callable[[Any], list[arb]]
    every: int = 1


def relative(error: Error) -> float:
    """Error per unit of scale; infinite for a positive error at scale 0, and where one of the two is negative, NaN or
    infinite, which no formula gives that is right."""
    if not all(0.0 <= number < np.inf for number in error):
        return np.inf
    return float(error.error / error.scale) if error.scale > 0.0 else (0.0 if error.error == 0.0 else np.inf)


def log_scale(*log_policies: Array) -> float:
    """`max|log p|` over the finite entries of all policies."""
    return max(float(np.abs(log_p[log_p > -np.inf]).max()) for log_p in log_policies)


def distance(left: float | Array | arb, right: float | Array | arb) -> float:
    """|left - right| of numbers or balls; 0 if both are the same infinity."""
    left, right = (x if isinstance(x, arb) else arb(float(x)) for x in (left, right))
    return 0.0 if left == right and not left.is_finite() else float(abs(left - right))


def policy_distance(log_p: Array, log_q: policies.Policy) -> float:
    """Largest difference of log-probabilities; infinite if the supports differ, NaN if one of them is."""
    differences = [
        (0.0 if p == -np.inf else np.inf) if q is None else distance(p, q) for p, q in zip(log_p, log_q, strict=True)
    ]
    return float(np.max(differences))  # the built-in max would skip a NaN


def residual(left: arb, right: arb) -> arb:
    """`left - right`, and 0 where both are `+inf`."""
    return arb(0) if left == policies.INF and right == policies.INF else left - right


def policy_residuals(log_p: policies.Policy, log_q: policies.Policy) -> list[arb]:
    """Differences arm by arm; infinite for an arm that only one policy has."""
    pairs = [(p, q) for p, q in zip(log_p, log_q, strict=True) if p is not None or q is not None]
    return [policies.INF if p is None or q is None else p - q for p, q in pairs]


def shortfall(larger: arb, smaller: arb) -> arb:
    """Residual of `larger >= smaller`: 0 if it certainly holds, otherwise their difference, negative if it is false."""
    return (larger - smaller).min(arb(0))
