"""The pieces `step` and `real` of `gpu`, each resumable and in parts that say how long they will take."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dar_ref.llm.options import load_options
from dar_ref.real_model import experiment, report
from dar_ref.real_model.runs import PlannedRun
from tests.benchmarks.gpu_step import METHODS


class Step:
    """A step of the 7B configuration, see `gpu_step`: one part for each method.

    words: arguments of the command; guess: seconds of a part, before there is one.
    """

    title = "step"

    def __init__(self, words: Sequence[str], guess: float, out: Path) -> None:
        self.words, self.guess, self.file = list(words), guess, out / "step" / "results.json"

    def missing(self) -> list[str]:
        """The methods that are not measured."""
        return [method for method in METHODS if method not in self._measured()]

    def seconds(self, _method: str) -> float:
        """As long as the longest so far."""
        return 1.2 * max((of_one["seconds of all"] for of_one in self._measured().values()), default=self.guess)

    def expected(self) -> float:
        """Seconds of all that is missing."""
        return sum(map(self.seconds, self.missing()))

    def do(self, method: str, _left: float) -> str:
        """Measure one method."""
        command = ["-m", "tests.benchmarks.gpu_step", "--methods", method, "--json", str(self.file), *self.words]
        subprocess.run([sys.executable, *command], check=True)
        return f"{self._measured()[method]['seconds_per_step']:.3g} s a step"

    def end(self) -> None:
        """Nothing is left open."""

    def _measured(self) -> dict[str, Any]:
        return json.loads(self.file.read_text(encoding="utf-8"))["measured"] if self.file.is_file() else {}


class Real:
    """The comparison on real text, see `dar_ref.real_model.experiment`: a part takes one run of one seed some updates
    further, as many as the time allows; all runs come to the first mark, then to the next.

    place: where `out/real-model` is; runs: with the seeds that are wanted; marks: updates; options: of all runs; guess:
    seconds of a start and of an update, before there are any.
    """

    title = "real"

    def __init__(
        self,
        place: Path,
        runs: Sequence[PlannedRun],
        marks: Sequence[int],
        options: Sequence[str],
        guess: tuple[float, float],
        out: Path,
        work: Path,
    ) -> None:
        self.place, self.runs, self.marks, self.options = place, tuple(runs), marks, tuple(options)
        self.start, self.update = guess
        self.out, self.work = out / "real", work / "real"
        self.parts = {
            f"{run.task}/{run.name}; seed {seed}; to update {mark}": (run, seed, mark)
            for mark in marks
            for seed in range(max(run.seeds for run in runs))
            for run in runs
            if seed < run.seeds
        }

    def missing(self) -> list[str]:
        """The runs that have not come to their marks."""
        return [name for name, (run, seed, mark) in self.parts.items() if self._done(run, seed) < mark]

    def seconds(self, name: str) -> float:
        """To the mark, or as far as the first mark is from 0 if that is less."""
        run, seed, mark = self.parts[name]
        return self.start + self.update * min(mark - self._done(run, seed), self.marks[0])

    def expected(self) -> float:
        """Seconds of all that is missing."""
        runs = {self.parts[name][:2] for name in self.missing()}
        updates = sum(self.marks[-1] - self._done(*one) for one in runs)
        return self.start * len(self.missing()) + self.update * updates

    def do(self, name: str, left: float) -> str:
        """Train and measure one run, to its mark if the time is enough."""
        run, seed, mark = self.parts[name]
        done, began = self._done(run, seed), time.perf_counter()
        with contextlib.chdir(self.place):
            save = load_options(f"smollm2-135m-{run.task}", self.options).training["save_steps"]
            fits = done + int((left - self.start) / self.update) // save * save
            updates = min(mark, max(fits, done + save))
            experiment.do(run, seed, updates, self.work, self.options)
            report.write_measured(self.work, self.out, self.runs)
        spent = time.perf_counter() - began
        self.update = max(spent - self.start, 0.3 * spent) / (updates - done)
        return f"at update {updates}, {self.update:.2f} s an update with what is measured"

    def end(self) -> None:
        """Nothing is left open."""

    def _done(self, run: PlannedRun, seed: int) -> int:
        """The last update that is measured, on the test prompts of today."""
        file = self.work / run.task / run.name / f"seed-{seed}" / "measured.json"
        if not file.is_file():
            return 0
        with contextlib.chdir(self.place):
            content = report.read_measured(file, report.prompts_hash(report.test_prompts_of(run.task)))
        return content["checkpoints"][-1]["step"] if content and content["checkpoints"] else 0
