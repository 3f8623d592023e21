"""From two strengths to `alpha` and `beta`, for those who come from the predecessor of DAR, arXiv 2504.14177.

It writes the objective with one strength for each of the two KLs,

    E_pi[A] - a KL(pi‖pi_0) - b KL(pi‖pi_t),   w = (pi_0 / pi_t)^(a/(a+b)) exp(A / (a+b))

which is DAR's with `beta = a + b` and `alpha = a / (a + b)`.
"""

import math
from typing import NamedTuple

from dar_ref import scalars


class Weighting(NamedTuple):
    """How DAR writes the two strengths. alpha: share of the KL to pi_0, in [0, 1]; beta: their sum, > 0."""

    alpha: float
    beta: float


class Strengths(NamedTuple):
    """What each KL costs, in advantage per nat. reference: KL(pi‖pi_0); stability: KL(pi‖pi_t)."""

    reference: float
    stability: float


def from_strengths(reference: float, stability: float) -> Weighting:
    """`alpha` and `beta` of DAR, from the strengths of the two KLs.

    Args:
        reference: a, of KL(pi‖pi_0), at least 0.
        stability: b, of KL(pi‖pi_t), at least 0; one of the two is above 0.

    Raises:
        TypeError, ValueError: a strength out of range, both 0, or a sum beyond float64.

    Source: arXiv 2504.14177 and arXiv 2602.11523.

    >>> from_strengths(0.25, 0.75)
    Weighting(alpha=0.25, beta=1.0)
    """
    a, b = scalars.non_negative("reference", reference), scalars.non_negative("stability", stability)
    if a + b == 0.0:
        raise ValueError("reference = stability = 0: nothing holds the policy, and no alpha and beta say so; raise one")
    if a + b == math.inf:
        raise ValueError(f"reference + stability overflows float64: {a!r} + {b!r}; scale both, and the reward, down")
    return Weighting(a / (a + b), a + b)


def to_strengths(alpha: float, beta: float) -> Strengths:
    """The strengths of the two KLs, from `alpha` and `beta` of DAR; the inverse of `from_strengths`.

    >>> to_strengths(0.5, 0.25)
    Strengths(reference=0.125, stability=0.125)
    """
    share, total = scalars.fraction("alpha", alpha), scalars.positive("beta", beta)
    return Strengths(share * total, (1.0 - share) * total)
