"""Comparisons over seeds, from the committed result files: what `claims` judges by."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from dar_ref.evaluation import Interval, student

HERE = Path(__file__).parent / "results"
Content = dict[str, Any]
Values = list[float]  # one per seed


class Comparison(NamedTuple):
    """`where`: what is compared; `paper`: what it says of it; `values`: ours, one per seed; shown times `scale`."""

    where: str
    paper: str
    values: Values
    digits: int = 2
    scale: float = 1.0

    @property
    def ours(self) -> str:
        """Estimate and interval as text."""
        return shown(student(self.values), self.digits, self.scale)

    def sign(self, of: int = 1) -> int:
        """1 if the whole interval is above 0, -1 if it is below; it holds together with those of `of` - 1 others."""
        interval = student(self.values, level=1.0 - 0.05 / of)
        return int(interval.low > 0) - int(interval.high < 0)


class Row(NamedTuple):
    """A line of the table that is not a comparison over seeds."""

    where: str
    paper: str
    ours: str


@cache
def content(name: str) -> Any:
    """What an experiment wrote; None if it has no results here."""
    path = HERE / "verify.json" if name == "verify" else HERE / name / "results.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def shown(interval: Interval, digits: int, scale: float = 1.0) -> str:
    """An interval as text."""
    estimate, low, high = (f"{scale * value:z.{digits}f}" for value in interval[:3])
    return f"{estimate} [{low}, {high}]"


def runs(of: Content, task: str, label: str) -> list[Any]:
    """The runs of a setting, one per seed."""
    (found,) = [row["runs"] for row in of["settings"] if (row["task"], row["label"]) == (task, label)]
    return list(found)


def ends(of: Content, task: str, label: str, metric: str) -> Values:
    """A metric at the end of each run; of a run that diverged, at its last evaluation."""
    return [run["final"][metric] for run in runs(of, task, label)]


def minus(first: Values, second: Values) -> Values:
    """Seed by seed."""
    return [a - b for a, b in zip(first, second, strict=True)]


def mean(parts: Sequence[Values]) -> Values:
    """Seed by seed, over tasks."""
    return [fmean(seed) for seed in zip(*parts, strict=True)]
