"""Win rates: the share of prompts on which a policy's completion beats the reference's; a tie counts half.

    w = (wins + ties / 2) / N

An outcome is 1 (win), 0.5 (tie) or 0 (loss) of the policy on a prompt. It comes from the scores of a judge that grades
each completion separately (`score_outcomes`), or from a judge that compares two completions in both orders
(`both_orders`). Prompts are paired: position i of every array is the same prompt.

The caller adds the interval: `wilson` for independent prompts, `bootstrap` for seeds and prompts.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from dar_ref import scalars
from dar_ref.evaluation import checks
from dar_ref.evaluation.checks import Array


class WinRate(NamedTuple):
    """`rate`: (wins + ties/2) / prompts, in [0, 1]; `wins`, `ties`, `losses`: numbers of prompts."""

    rate: float
    wins: int
    ties: int
    losses: int


class BothOrders(NamedTuple):
    """The verdicts of a pairwise judge in both orders.

    outcomes: (N,), 1 if the policy won in both orders, 0 if it lost in both, otherwise 0.5; agreement: share of prompts
    with the same verdict in both orders; first_share: win rate of the completion shown first, over both orders, in
    [0, 1]: 0.5 for a judge without position bias.
    """

    outcomes: Array
    agreement: float
    first_share: float


class WinMatrix(NamedTuple):
    """`methods`: M names; `rates` (M, M): win rate of the row's method against the column's, 0.5 on the diagonal."""

    methods: tuple[str, ...]
    rates: Array


def score_outcomes(scores: ArrayLike, reference_scores: ArrayLike, *, tie_tolerance: float = 0.0) -> Array:
    """Outcome per prompt from a judge's scores: `1 if s - s_ref > tol, 0 if s_ref - s > tol, else 0.5`.

    Args:
        scores: of the policy's completions, any shape, finite; the last axis is usually the prompts.
        reference_scores: of the reference's completions on the same prompts, same shape.
        tie_tolerance: largest difference that counts as a tie, >= 0, in units of the score (computed in float64).

    Returns:
        Outcomes in {0, 0.5, 1}, same shape.

    Raises:
        TypeError, ValueError: bad input, see `checks.aligned`.

    Source: the win rate against the reference in the paper's Table 1. That a tie counts half is our choice: the two win
    rates of a pair then sum to one.

    >>> score_outcomes([3.0, 1.0, 2.0], [1.0, 3.0, 2.0]).tolist()
    [1.0, 0.0, 0.5]
    """
    scores, reference_scores = checks.aligned(scores=scores, reference_scores=reference_scores)
    tie_tolerance = scalars.non_negative("tie_tolerance", tie_tolerance)
    with np.errstate(over="ignore"):  # an infinite difference is still a win
        difference = scores - reference_scores
    return np.where(np.abs(difference) <= tie_tolerance, 0.5, np.where(difference > 0.0, 1.0, 0.0))


def both_orders(shown_first: ArrayLike, shown_second: ArrayLike) -> BothOrders:
    """One outcome per prompt from a pairwise judge asked in both orders; disagreement counts as a tie.

    Args:
        shown_first: (N,), outcome for the policy (1 won, 0.5 tie, 0 lost) when its completion was shown first.
        shown_second: (N,), outcome for the policy (not for the completion shown first) when it was shown second.

    Returns:
        `BothOrders(outcomes, agreement, first_share)`.

    Raises:
        TypeError, ValueError: bad input, see `checks.vectors`, or a value that is not an outcome.

    Source: Zheng et al., arXiv 2306.05685, section 3.4 (position bias): a win needs both orders.

    >>> both_orders([1, 1, 0.5], [1, 0, 1])
    BothOrders(outcomes=array([1. , 0.5, 0.5]), agreement=0.3333333333333333, first_share=0.5833333333333334)
    """
    first, second = checks.vectors(shown_first=shown_first, shown_second=shown_second)
    _outcomes("shown_first", first)
    _outcomes("shown_second", second)
    same = first == second
    return BothOrders(
        outcomes=np.where(same, first, 0.5),
        agreement=float(same.mean()),
        first_share=float((first + 1.0 - second).mean() / 2.0),
    )


def win_rate(outcomes: ArrayLike) -> WinRate:
    """Win rate `(wins + ties/2) / N` and the counts behind it.

    Args:
        outcomes: any shape, values 0, 0.5 or 1, from `score_outcomes` or `both_orders`.

    Returns:
        `WinRate(rate, wins, ties, losses)`.

    Raises:
        TypeError, ValueError: bad input, see `checks.aligned`, or a value that is not an outcome.

    >>> win_rate([1.0, 0.0, 0.5, 1.0])
    WinRate(rate=0.625, wins=2, ties=1, losses=1)
    """
    (array,) = checks.aligned(outcomes=outcomes)
    _outcomes("outcomes", array)
    wins, ties = int((array == 1.0).sum()), int((array == 0.5).sum())
    return WinRate((wins + 0.5 * ties) / array.size, wins, ties, array.size - wins - ties)


def win_matrix(scores: Mapping[str, ArrayLike], *, tie_tolerance: float = 0.0) -> WinMatrix:
    """Win rate of every method against every other, on the same prompts under the same judge.

    Args:
        scores: name of the method -> scores, all of one shape, finite.
        tie_tolerance: as in `score_outcomes`.

    Returns:
        `WinMatrix(methods, rates)`, methods in the order given; `rates + rates.T = 1`.

    Raises:
        TypeError, ValueError: no method, or bad input, see `checks.aligned`.

    >>> win_matrix({"dar": [2.0, 2.0], "grpo": [1.0, 2.0]}).rates.tolist()
    [[0.5, 0.75], [0.25, 0.5]]
    """
    if not scores:
        raise ValueError("scores is empty: nothing to compare; pass at least one name -> scores")
    arrays = checks.aligned(**scores)
    rates = [[win_rate(score_outcomes(a, b, tie_tolerance=tie_tolerance)).rate for b in arrays] for a in arrays]
    return WinMatrix(tuple(scores), np.array(rates))


def _outcomes(name: str, array: Array) -> None:
    """Raise ValueError at the first value that is not 0, 0.5 or 1."""
    decided = np.where(np.isin(array, (0.0, 0.5, 1.0)), array, np.nan)
    if np.isnan(decided).any():
        value = float(array[np.isnan(decided)][0])
        raise ValueError(f"{name} holds {value!r}: an outcome is 0, 0.5 or 1; for soft labels take their mean")
