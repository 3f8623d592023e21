"""What is tuned before an experiment, on validation prompts and on seeds that no reported run uses: the learning rate
of each method by a grid, or learning rate and regulariser of each cell by `search`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from dar_ref.toy.config import Method, RunConfig
from dar_ref.toy.experiments.runner import Job
from dar_ref.toy.experiments.search import Cell, Point, at, search

LEARNING_RATES = (3e-5, 1e-4, 3e-4, 1e-3)
VALIDATION_SEEDS = (1000, 1001)

Runner = Callable[[Sequence[Job]], list[dict[str, Any]]]
"""Does jobs, see `runner.run_jobs`."""


def tune(run: Runner, tasks: Iterable[str], methods: Iterable[Method]) -> dict[str, Any]:
    """Choose the learning rate of each method on each task: the same grid and the same budget for all.

    The choice is the rate with the highest win rate against pi_0 under the gold judge on validation prompts, mean over
    validation seeds, as a benchmark's judge would choose. A run that diverged counts as a win rate of 0. In a tie the
    smaller rate wins.

    Returns:
        `{task: {method: {"learning_rate": chosen, "tried": {rate: win rate}}}}`.
    """
    cases = [(task, method, rate) for task in tasks for method in methods for rate in LEARNING_RATES]
    jobs = [
        Job(task, RunConfig(method=method, learning_rate=rate, seed=seed))
        for task, method, rate in cases
        for seed in VALIDATION_SEEDS
    ]
    content = iter(run(jobs))
    chosen: dict[str, Any] = {}
    for task, method, rate in cases:
        won = fmean(_won(next(content)) for _ in VALIDATION_SEEDS)
        chosen.setdefault(task, {}).setdefault(method, {"tried": {}})["tried"][repr(rate)] = won
    for row in (row for rows in chosen.values() for row in rows.values()):
        row["learning_rate"] = float(max(row["tried"], key=row["tried"].__getitem__))
    return chosen


def tune_cells(run: Runner, cells: Sequence[Cell], trials: int) -> list[dict[str, Any]]:
    """Choose learning rate and regulariser of each cell by the win rate against pi_0 under the gold judge on validation
    prompts, mean over validation seeds. A run that diverged counts as a win rate of 0.

    Returns:
        For each cell `{"task", "reward", "label", "chosen", "interior", "tried"}`, see `search`.
    """

    def score(asked: Sequence[tuple[Cell, Point]]) -> list[float]:
        jobs = [
            Job(cell.task, replace(cell.config, **at(cell.config, point), seed=seed))
            for cell, point in asked
            for seed in VALIDATION_SEEDS
        ]
        done = iter(run(jobs))
        return [fmean(_won(next(done)) for _ in VALIDATION_SEEDS) for _ in asked]

    choices = search(cells, score, trials)
    names = ({"task": cell.task, "reward": cell.config.reward, "label": cell.label} for cell in cells)
    return [{**name, **choice} for name, choice in zip(names, choices, strict=True)]


def _won(run: Mapping[str, Any]) -> float:
    return float(final(run)["win_rate"]) if run["diverged"] is None else 0.0


def final(run: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics at the end of a run; of pi_0 where it diverged before its first evaluation."""
    return run["evaluations"][-1]
