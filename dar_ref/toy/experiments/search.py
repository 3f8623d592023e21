"""Learning rate and regulariser of a method, chosen together: a walk on a logarithmic grid, with equal budgets.

The walk begins at the defaults. Each round asks for the neighbours of the best point that were not tried yet, up, down,
left and right. At a point with four worse neighbours the choice is interior, and the rest of the budget goes to the
neighbours of the next best points. So a good point between bad ones can still be found, and no method gets more runs.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from dar_ref.toy.config import Method, RunConfig

TRIALS = 12  # points per method, task and reward
RATES = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
FACTOR = 4.0  # between neighbouring regularisers
REGULARISERS: dict[Method, str] = {  # the option that holds each method near pi_0 or pi_t
    "dar": "beta",
    "dao": "beta",
    "dual_ppo": "beta",
    "grpo": "kl_coef",
    "rloo": "kl_coef",
    "ppo": "kl_coef",
    "online_dpo": "dpo_beta",
}
Point = tuple[int, int]  # steps from the defaults: of the learning rate, of the regulariser


class Cell(NamedTuple):
    """What is tuned by itself: a method with its other options, on a task."""

    task: str
    label: str
    config: RunConfig


def at(config: RunConfig, point: Point) -> dict[str, Any]:
    """The two options at a point of the grid."""
    name = REGULARISERS[config.method]
    rate = RATES[RATES.index(config.learning_rate) + point[0]]
    return {"learning_rate": rate, name: getattr(config, name) * FACTOR ** point[1]}


def search(
    cells: Sequence[Cell], score: Callable[[Sequence[tuple[Cell, Point]]], Sequence[float]], trials: int = TRIALS
) -> list[dict[str, Any]]:
    """Walk for all cells at once.

    Args:
        cells: what to tune.
        score: the value of each (cell, point), larger is better; called once per round with all that are asked for.
        trials: points per cell.

    Returns:
        For each cell `{"chosen": options, "interior": whether its four neighbours were tried and are not better,
        "tried": [{"point", "options", "score"}]}`, in the order tried.
    """
    tried: list[dict[Point, float]] = [{} for _ in cells]
    while any(len(values) < trials for values in tried):
        asked = [(i, point) for i, values in enumerate(tried) for point in _proposals(values)[: trials - len(values)]]
        for (i, point), value in zip(asked, score([(cells[i], point) for i, point in asked]), strict=True):
            tried[i][point] = value
    return [_choice(cell, values) for cell, values in zip(cells, tried, strict=True)]


def _proposals(values: Mapping[Point, float]) -> list[Point]:
    """Untried neighbours of the best point that has any; the defaults if nothing was tried."""
    for best in sorted(values, key=values.__getitem__, reverse=True):
        if untried := [point for point in _neighbours(best) if point not in values]:
            return untried
    return [(0, 0)]


def _neighbours(point: Point) -> list[Point]:
    rate, regulariser = point
    return [(rate - 1, regulariser), (rate + 1, regulariser), (rate, regulariser - 1), (rate, regulariser + 1)]


def _choice(cell: Cell, values: Mapping[Point, float]) -> dict[str, Any]:
    best = max(values, key=values.__getitem__)
    rows = [{"point": list(p), "options": at(cell.config, p), "score": value} for p, value in values.items()]
    interior = all(neighbour in values for neighbour in _neighbours(best))
    return {"chosen": at(cell.config, best), "interior": interior, "tried": rows}
