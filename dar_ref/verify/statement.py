"""How a statement is judged: float64 errors per unit of a stated scale, and residuals in ball arithmetic."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from flint import arb

from dar_ref.theory.checks import EPS, Array
from dar_ref.verify.arb import policies

LIMIT = 8 * EPS  # error allowed per unit of scale; the bound that the modules state
JUDGE_BITS = 256  # precision of the values that float64 is compared with: 40 bits are lost at A/beta = 1e12


class Error(NamedTuple):
    """A float64 error and the scale it is measured by; `0 <= error <= LIMIT * scale` is a pass."""

    error: float
    scale: float


class Statement(NamedTuple):
    """A statement to verify.

    id: as in the theory pages; claim: in one line; draw: a random case; errors: float64 errors on a case; residuals:
    differences of the two sides in ball arithmetic; every: tried on every so many-th case (1 unless a case is costly).
    """

    id: str
    claim: str
    draw: Callable[[np.random.Generator], Any]
    errors: Callable[[Any], list[Error]]
    residuals: Callable[[Any], list[arb]]
    every: int = 1


def relative(error: Error) -> float:
    """Error per unit of scale; infinite for NaN, and for an error where there must be none at all."""
    if np.isnan(error.error):
        return np.inf
    return float(error.error / error.scale) if error.scale > 0.0 else (0.0 if error.error == 0.0 else np.inf)


def log_scale(*log_policies: Array) -> float:
    """`max|log p|` over the finite entries of all policies."""
    return max(float(np.abs(log_p[log_p > -np.inf]).max()) for log_p in log_policies)


def distance(left: float | Array | arb, right: float | Array | arb) -> float:
    """|left - right| of numbers or balls; 0 where both are the same infinity."""
    left, right = (x if isinstance(x, arb) else arb(float(x)) for x in (left, right))
    return 0.0 if left == right and not left.is_finite() else float(abs(left - right))


def policy_distance(log_p: Array, log_q: policies.Policy) -> float:
    """Largest difference of log-probabilities; infinite where the supports differ."""
    differences = [
        (0.0 if p == -np.inf else np.inf) if q is None else distance(p, q) for p, q in zip(log_p, log_q, strict=True)
    ]
    return max(differences)


def residual(left: arb, right: arb) -> arb:
    """`left - right`, and 0 where both are `+inf`."""
    return arb(0) if left == policies.INFINITY and right == policies.INFINITY else left - right


def policy_residuals(log_p: policies.Policy, log_q: policies.Policy) -> list[arb]:
    """Differences arm by arm; an arm that only one of them has counts as infinite."""
    pairs = [(p, q) for p, q in zip(log_p, log_q, strict=True) if p is not None or q is not None]
    return [policies.INFINITY if p is None or q is None else p - q for p, q in pairs]


def shortfall(larger: arb, smaller: arb) -> arb:
    """Residual of `larger >= smaller`: 0 where that is certain, else their difference, negative where it is false."""
    return (larger - smaller).min(arb(0))
