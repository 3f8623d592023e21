"""Learning rate and regulariser of a method, chosen together: a ladder and a walk on a logarithmic grid, equal budgets.

First come three rungs of the regulariser at the default rate: its default, and 16 and 256 times that. A default can lie
where every run is hacked; a walk from there only finds rates at which nothing is trained. Then a walk: each round asks
for the neighbours of the best point that were not tried yet, up, down, left and right. Where none of the four is better
the choice is interior, and the rest of the budget goes to the neighbours of the next best points. So a good point
between bad ones can still be found, and no method gets more runs.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from dar_ref.toy.config import Method, RunConfig

TRIALS = 16  # points per method, task and reward
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
LADDER: tuple[Point, ...] = ((0, 0), (0, 2), (0, 4))


class Cell(NamedTuple):
    """What is tuned by itself: a method with its other options, on a task."""

    task: str
    label: str
    config: RunConfig


def at(config: RunConfig, point: Point) -> dict[str, Any]:
    """The two options at a point of the grid.

    Raises:
        IndexError: the grid has no such rate.
    """
    name = REGULARISERS[config.method]
    if not _on_grid(config, point):
        raise IndexError(f"no learning rate {point[0]} steps from {config.learning_rate}; the grid has {RATES}")
    rate = RATES[RATES.index(config.learning_rate) + point[0]]
    return {"learning_rate": rate, name: getattr(config, name) * FACTOR ** point[1]}


def _on_grid(config: RunConfig, point: Point) -> bool:
    return 0 <= RATES.index(config.learning_rate) + point[0] < len(RATES)


def search(
    cells: Sequence[Cell], score: Callable[[Sequence[tuple[Cell, Point]]], Sequence[float]], trials: int = TRIALS
) -> list[dict[str, Any]]:
    """Climb the ladder and walk, for all cells at once.

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
        asked = [
            (i, point)
            for i, (cell, values) in enumerate(zip(cells, tried, strict=True))
            for point in _proposals(cell, values)[: trials - len(values)]
        ]
        for (i, point), value in zip(asked, score([(cells[i], point) for i, point in asked]), strict=True):
            tried[i][point] = value
    return [_choice(cell, values) for cell, values in zip(cells, tried, strict=True)]


def _proposals(cell: Cell, values: Mapping[Point, float]) -> list[Point]:
    """The ladder; after it the untried neighbours, of a rate in `RATES`, of the best point that has any."""
    if not values:
        return list(LADDER)
    for best in sorted(values, key=values.__getitem__, reverse=True):
        near = [point for point in _neighbours(best) if _on_grid(cell.config, point)]
        if untried := [point for point in near if point not in values]:
            return untried
    raise AssertionError("a regulariser has no end, so a point has an untried neighbour")


def _neighbours(point: Point) -> list[Point]:
    rate, regulariser = point
    return [(rate - 1, regulariser), (rate + 1, regulariser), (rate, regulariser - 1), (rate, regulariser + 1)]


def _choice(cell: Cell, values: Mapping[Point, float]) -> dict[str, Any]:
    best = max(values, key=values.__getitem__)
    rows = [{"point": list(p), "options": at(cell.config, p), "score": value} for p, value in values.items()]
    interior = all(neighbour in values for neighbour in _neighbours(best))
    return {"chosen": at(cell.config, best), "interior": interior, "tried": rows}
