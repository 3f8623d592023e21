"""Where a long command stands, on stderr: bars on a terminal; elsewhere a plain line when a stage begins, and from time
to time."""

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")
EVERY = 10.0  # seconds between two lines of a stage


class Report(Protocol):
    """Says where the work stands."""

    def __call__(self, stage: str, done: int = 0, total: int | None = None) -> None:
        """`done` of `total` steps of a stage; None where they are not counted."""


@contextlib.contextmanager
def reporting() -> Iterator[Report]:
    """Show what is reported inside this context."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bars:
        yield _Bars(bars)


def silent(stage: str, done: int = 0, total: int | None = None) -> None:
    """A `Report` that shows nothing."""


def stepwise(report: Report, stage: str, items: Sequence[T]) -> Iterator[T]:
    """The items, with a report before each of them."""
    for done, item in enumerate(items):
        report(stage, done, len(items))
        yield item
    report(stage, len(items), len(items))


class _Bars:
    """One bar per stage; one that is not counted ends when the next begins."""

    def __init__(self, bars: Progress) -> None:
        self.bars, self.stages = bars, dict[str, TaskID]()

    def __call__(self, stage: str, done: int = 0, total: int | None = None) -> None:
        if stage not in self.stages:
            for task in self.bars.tasks:
                self.bars.update(task.id, total=task.total or 1, completed=task.completed if task.total else 1)
            self.stages[stage] = self.bars.add_task(stage, total=total)
        self.bars.update(self.stages[stage], completed=done, total=total)


def _lines() -> Report:
    began = shown = time.monotonic()
    current = ""

    def report(stage: str, done: int = 0, total: int | None = None) -> None:
        nonlocal current, shown
        now = time.monotonic()
        if stage == current and now - shown < EVERY:
            return
        counted = "" if total is None else f", {done} of {total}"
        print(f"{stage}{counted}, {now - began:.0f} s", file=sys.stderr, flush=True)
        current, shown = stage, now

    return report
