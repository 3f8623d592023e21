"""Tables that compare methods seed by seed: a seed decides prompts, start and sampling, so its differences are paired.

Intervals are Student's t intervals over seeds at 95 %.
"""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from dar_ref.evaluation import Column, Interval, Table, comparison_table
from dar_ref.toy.experiments.figures import Content, of_task, tasks
from dar_ref.toy.experiments.matched import advantages
from dar_ref.toy.experiments.tables import interval, seeds

METRICS = (("win_rate", "Win rate", "points", 100.0), ("gold", "Gold", "", 1.0))  # name, title, unit, scale


class Part(NamedTuple):
    """Where two methods are compared: on a task, between settings whose labels are the method's name and `suffix`."""

    task: str
    suffix: str = ""


def by_task(content: Content) -> Table:
    """Win rate and gold of every method minus DAR's, seed by seed, on each task and on their mean."""
    parts = [Part(task) for task in tasks(content)]
    places = {part.task: [part] for part in parts} | ({"mean": parts} if len(parts) > 1 else {})
    return _table(content, (setting["label"] for setting in content["settings"]), places)


def by_quality(content: Content) -> Table:
    """Win rate and gold of every method minus DAR's, seed by seed, at each quality of the reward model."""
    names = dict.fromkeys(f"quality {setting['x']:g}" for setting in content["settings"])
    places = {name: [Part(tasks(content)[0], f", {name}")] for name in names}
    return _table(content, (setting["group"] for setting in content["settings"]), places)


def at_equal_kl(content: Content) -> Table:
    """Reward of DAR minus that of other methods at equal KL to pi_0, see `matched`."""
    rows: dict[str, dict[str, Interval | None]] = {}
    for task in tasks(content):
        for key in ("proxy", "gold"):
            for other, values in advantages(content, task, key, "dar", ("grpo", "rloo")).items():
                rows.setdefault(f"{task}: dar minus {other}", {})[key] = interval(values)
    columns = (Column("proxy", "Proxy at equal KL"), Column("gold", "Gold at equal KL"))
    return comparison_table(rows, columns, ours=f"mean over the KL that both reach, paired, {seeds(content)}")


def _table(content: Content, methods: Iterable[str], places: Mapping[str, Sequence[Part]]) -> Table:
    """A row for each method but DAR; a column for each metric at each place, the mean of its parts."""
    rows: dict[str, dict[str, Interval | None]] = {
        method: {
            f"{metric} {place}": interval(_differences(content, metric, method, parts))
            for metric, *_ in METRICS
            for place, parts in places.items()
        }
        for method in dict.fromkeys(methods)
        if method != "dar"
    }
    columns = [
        Column(f"{metric} {place}", f"{title}, {place}", unit, scale)
        for metric, title, unit, scale in METRICS
        for place in places
    ]
    broken = any(run["diverged"] is not None for setting in content["settings"] for run in setting["runs"])
    note = "; a run that diverged counts with its last evaluation" if broken else ""
    return comparison_table(rows, columns, ours=f"minus dar, paired, {seeds(content)}{note}")


def _differences(content: Content, metric: str, method: str, parts: Sequence[Part]) -> list[float]:
    """Metric of `method` minus DAR's, one number per seed: the mean over `parts`. A run that diverged ends with its
    last evaluation."""
    pairs = []
    for task, suffix in parts:
        runs = {s["label"]: [run["final"][metric] for run in s["runs"]] for s in of_task(content, task)}
        pairs.append([a - b for a, b in zip(runs[method + suffix], runs["dar" + suffix], strict=True)])
    return [fmean(of_seed) for of_seed in zip(*pairs, strict=True)]
