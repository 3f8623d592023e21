"""How an experiment is run: first what is tuned, then every setting with every seed."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, NamedTuple

from dar_ref.toy.config import Method, RunConfig
from dar_ref.toy.experiments.runner import Job
from dar_ref.toy.experiments.search import TRIALS, Cell
from dar_ref.toy.experiments.tuning import VALIDATION_SEEDS, Runner, final, tune, tune_cells

INFINITE = float("inf")


class Setting(NamedTuple):
    """`label`: row of tables and curve of figures; `group`: its curve or panel; `x`: its place on the x axis."""

    label: str
    task: str
    config: RunConfig
    group: str = ""
    x: float = 0.0


class Experiment(NamedTuple):
    """`question`: what it answers; `settings`: function of what was tuned, the learning rates `{task: {method: rate}}`
    or the tuned cells; `tasks` and `methods`: what `tune` runs on first; `cells`: what `search` runs on first, with
    `trials` points each."""

    question: str
    settings: Callable[[Any], list[Setting]]
    tasks: tuple[str, ...] = ()
    methods: tuple[Method, ...] = ()
    cells: tuple[Cell, ...] = ()
    trials: int = TRIALS


def on_tasks(experiment: Experiment, tasks: Collection[str]) -> Experiment:
    """The part of an experiment that is on some of its tasks: what is tuned, and the settings.

    Raises:
        ValueError: a task that it does not have.
    """
    tuned = [*experiment.tasks, *(cell.task for cell in experiment.cells)]
    there = list(dict.fromkeys(tuned or (setting.task for setting in experiment.settings({}))))
    if unknown := [task for task in tasks if task not in there]:
        raise ValueError(f"--tasks {' '.join(unknown)}: the experiment has {', '.join(there)}; pass some of these")
    return experiment._replace(
        settings=lambda found: [setting for setting in experiment.settings(found) if setting.task in tasks],
        tasks=tuple(task for task in experiment.tasks if task in tasks),
        cells=tuple(cell for cell in experiment.cells if cell.task in tasks),
    )


def conduct(experiment: Experiment, run: Runner, seeds: Sequence[int]) -> dict[str, Any]:
    """Run an experiment.

    Args:
        experiment: one of `EXPERIMENTS`.
        run: does jobs, see `runner.run_jobs`.
        seeds: of the reported runs; none of `VALIDATION_SEEDS`.

    Returns:
        `{"tuning": see `tune` and `tune_cells`, "settings": [{"label", "group", "x", "task", "config", "runs": []}]}`,
        one run per seed: its final metrics, its evaluations, the means of its weight metrics, and whether it diverged.

    Raises:
        ValueError: fewer than two seeds, a seed twice, or a seed of `VALIDATION_SEEDS`.
    """
    if len(set(seeds)) < max(2, len(seeds)) or set(seeds) & set(VALIDATION_SEEDS):
        raise ValueError(
            f"seeds = {list(seeds)}: an interval needs at least two different seeds, and {list(VALIDATION_SEEDS)} are"
            " reserved for the choice of learning rates; pass other seeds"
        )
    tuning, settings = _settings(experiment, run)
    jobs = [
        Job(setting.task, replace(setting.config, seed=seed, evaluate_on="test"))
        for setting in settings
        for seed in seeds
    ]
    done = iter(run(jobs))
    rows = []
    for setting in settings:
        runs = [_digest(next(done)) for _ in seeds]
        config = {name: value for name, value in runs[0].pop("config").items() if name not in ("seed",)}
        for other in runs[1:]:
            other.pop("config")
        x = "inf" if setting.x == INFINITE else setting.x  # JSON has no infinity
        rows.append({**setting._asdict(), "x": x, "config": config, "runs": runs})
    return {"tuning": tuning, "seeds": list(seeds), "settings": rows}


def _settings(experiment: Experiment, run: Runner) -> tuple[Any, list[Setting]]:
    """What was tuned, and the settings that follow from it."""
    if experiment.cells:
        rows = tune_cells(run, experiment.cells, experiment.trials)
        tuned = [
            cell._replace(config=replace(cell.config, **row["chosen"]))
            for cell, row in zip(experiment.cells, rows, strict=True)
        ]
        return rows, experiment.settings(tuned)
    tuning = tune(run, experiment.tasks, experiment.methods) if experiment.methods else {}
    rates = {task: {method: row["learning_rate"] for method, row in rows.items()} for task, rows in tuning.items()}
    return tuning, experiment.settings(rates)


def _digest(run: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a run that tables and figures need. Its seconds are left out: they change from run to run."""
    names = ("ess", "clipped", "weight")
    weights = {n: fmean(r[n] for r in run["rollouts"]) for n in names if run["rollouts"] and n in run["rollouts"][0]}
    kept = {name: run[name] for name in ("config", "start", "evaluations", "diverged", "exact") if name in run}
    exact = run.get("exact", {}).get("metrics", {})  # on tiny, in place of the estimates
    return {**kept, "final": {**final(run), **exact}, "weights": weights}
