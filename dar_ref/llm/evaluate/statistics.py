"""From verdicts and grades to numbers with intervals. Units are prompts: all answers to a prompt are drawn together.

A pair without a verdict is in no rate. What it could do to the rate is said by `bounds`: the rate if all of them had
been lost, and if all had been won.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dar_ref.evaluation import (
    Interval,
    NotAnInterval,
    alpaca_eval_win_rate,
    bootstrap,
    both_orders,
    length_controlled_win_rate,
    score_outcomes,
    wilson,
    win_rate,
)
from dar_ref.evaluation.intervals import ROUNDING
from dar_ref.llm.evaluate import TURNS
from dar_ref.llm.evaluate.store import Row

MISSING = "missing"
FEWEST = 5  # rows that alpaca_eval's five folds need
RESAMPLES, LEVEL = 2_000, 0.95  # as `bootstrap`


def outcomes_of(rows: Sequence[Row]) -> "tuple[list[Row], np.ndarray[Any, Any]]":
    """The rows with a verdict, and their outcomes 1, 0.5, 0: disagreement between the orders is a tie."""
    judged = [row for row in rows if row["reason"] is None]
    if not judged:
        return [], np.zeros(0)
    first, second = (score_outcomes([row[name] for row in judged], [0.5] * len(judged)) for name in ("first", "second"))
    return judged, both_orders(first, second).outcomes


def compared(rows: Sequence[Row], missing: int) -> dict[str, Any]:
    """Counts and rates of one policy against one reference, without intervals.

    Returns:
        judged, not_judged (by reason), win_rate, wins, ties, losses, bounds, agreement (share of pairs on which both
        orders agree), first_share (win rate of the answer shown first), mean_probability, length and reference_length
        (tokens), tokens (paid for). Rates are None where nothing was judged.
    """
    judged, outcomes = outcomes_of(rows)
    reasons = Counter(row["reason"] for row in rows if row["reason"] is not None)
    if missing:
        reasons[MISSING] = missing
    found: dict[str, Any] = {
        "judged": len(judged),
        "not_judged": dict(sorted(reasons.items())),
        "tokens": [sum(row["tokens"][i] for row in rows) for i in range(2)],
        **dict.fromkeys(("win_rate", "agreement", "first_share", "mean_probability", "length", "reference_length")),
    }
    if not judged:
        return found
    total, unknown = win_rate(outcomes), reasons.total()
    won, count = total.wins + total.ties / 2.0, len(judged) + unknown
    first, second = (score_outcomes([row[n] for row in judged], [0.5] * len(judged)) for n in ("first", "second"))
    orders = both_orders(first, second)
    lengths = np.array([row["lengths"] for row in judged], dtype=float)
    return found | {
        "win_rate": total.rate,
        "wins": total.wins,
        "ties": total.ties,
        "losses": total.losses,
        "bounds": [won / count, (won + unknown) / count],
        "agreement": orders.agreement,
        "first_share": orders.first_share,
        "mean_probability": float(np.mean([(row["first"] + row["second"]) / 2.0 for row in judged])),
        "length": float(lengths[:, 0].mean()),
        "reference_length": float(lengths[:, 1].mean()),
    }


def intervals(rows: Sequence[Row], characters: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Win rate and length-controlled win rate with intervals over prompts, the other lengths, alpaca_eval's rate.

    Wilson's interval takes answers as independent, so it is None where a prompt has several.

    Args:
        rows: with a verdict or without.
        characters: of both completions of each row, for alpaca_eval's form.
    """
    judged, outcomes = outcomes_of(rows)
    if not judged:
        return {}
    place = {id(row): i for i, row in enumerate(rows)}
    chars = np.array([characters[place[id(row)]] for row in judged], dtype=float)
    lengths = np.array([row["lengths"] for row in judged], dtype=float)
    controlled = length_controlled_win_rate(outcomes, *lengths.T)
    total = win_rate(outcomes)
    varied = np.ptp(chars[:, 0] - chars[:, 1]) > 0.0
    units = places_of_prompts([row["id"] for row in judged])
    return {
        "win_rate": by_prompt(units, lambda drawn: float(outcomes[drawn].mean())),
        "wilson": wilson(total.wins + total.ties / 2.0, len(judged)) if len(units) == len(judged) else None,
        "lc_win_rate": by_prompt(
            units, lambda drawn: length_controlled_win_rate(outcomes[drawn], *lengths[drawn].T).rate
        ),
        "lc_extrapolated": controlled.extrapolated,
        "lc_alpaca_eval": alpaca_eval_win_rate(outcomes, *chars.T) if varied and len(judged) >= FEWEST else None,
        "length": by_prompt(units, lambda drawn: float(lengths[drawn, 0].mean())),
    }


def mean_of_tasks(parts: "Sequence[tuple[Sequence[str], np.ndarray[Any, Any]]]") -> Interval | NotAnInterval | None:
    """The mean of the tasks' win rates; the prompts of each task are drawn by themselves. None if one has no verdict.

    Args:
        parts: prompt ids and outcomes of each task.
    """
    if not all(len(outcomes) for _, outcomes in parts):
        return None
    units = [places_of_prompts(ids) for ids, _ in parts]
    rng = np.random.default_rng(0)

    def rate() -> float:
        drawn = [np.concatenate([u[i] for i in rng.integers(len(u), size=len(u))]) for u in units]
        return float(np.mean([outcomes[rows].mean() for (_, outcomes), rows in zip(parts, drawn, strict=True)]))

    draws = np.array([rate() for _ in range(RESAMPLES)])
    estimate = float(np.mean([outcomes.mean() for _, outcomes in parts]))
    if np.ptp(draws) <= ROUNDING:
        return NotAnInterval(estimate, f"the statistic is the same in each of {RESAMPLES} resamples", LEVEL)
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(estimate, float(low), float(high), LEVEL)


def graded(rows: Sequence[Row]) -> dict[str, Any]:
    """Mean grades: score over turns and questions, by turn, and what has no grade, by reason."""
    values = [grade for row in rows for grade in row["grades"] if grade is not None]
    turns = [[row["grades"][turn] for row in rows if row["grades"][turn] is not None] for turn in range(TURNS)]
    reasons = Counter(reason for row in rows for reason in row["reasons"])
    return {
        "judged": len(values),
        "not_judged": dict(sorted(reasons.items())),
        "score": float(np.mean(values)) if values else None,
        "turns": [float(np.mean(turn)) if turn else None for turn in turns],
        "tokens": [sum(row["tokens"][i] for row in rows) for i in range(2)],
    }


def grade_interval(rows: Sequence[Row]) -> Interval | NotAnInterval | None:
    """The score with an interval over questions; questions without a grade are left out."""
    pairs = [(row["id"], grade) for row in rows for grade in row["grades"] if grade is not None]
    if not pairs:
        return None
    values = np.array([grade for _, grade in pairs])
    return by_prompt(places_of_prompts([name for name, _ in pairs]), lambda drawn: float(values[drawn].mean()))


def places_of_prompts(ids: Sequence[str]) -> "list[np.ndarray[Any, Any]]":
    """The places of each prompt's rows."""
    places: dict[str, list[int]] = {}
    for i, name in enumerate(ids):
        places.setdefault(name, []).append(i)
    return [np.array(rows) for rows in places.values()]


def by_prompt(
    units: "Sequence[np.ndarray[Any, Any]]", statistic: "Callable[[np.ndarray[Any, Any]], float]"
) -> Interval | NotAnInterval:
    """A bootstrap over prompts of a statistic of the places of their rows."""

    def of_drawn(drawn: "np.ndarray[Any, Any]") -> float:
        return statistic(np.concatenate([units[int(i)] for i in drawn]))

    return bootstrap(np.arange(len(units)), statistic=of_drawn, resamples=RESAMPLES)
