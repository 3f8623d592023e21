"""The piece `update` of `gpu`: DAR's update and TRL's on one GPU, for architectures of 0.5B and 7B.

All variants train on one rollout, see `update`; completions are cut to log-normal lengths. Each has a process of its
own, which stays (one for all, where the machine is small); a measurement draws or reads the model there, takes one step
as a warm-up and measures the next. Rounds are interleaved. What is measured stands in `results.json` at once, and is
not measured again while the rollout is there.

Products are in bf16. Under LoRA the weights are in bf16 too; where all weights are trained they are in float32, as in
our configurations, since bf16 would lose small steps.
"""

import hashlib
import itertools
import json
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from dar_ref import results
from dar_ref.llm.options import CONFIGS
from tests.benchmarks.meters import Spawned
from tests.benchmarks.update_model import (
    Rollout,
    Setting,
    Weights,
    matrices,
    random_prompts,
    roll_out,
    save_architecture,
)
from tests.benchmarks.update_step import REAL_VARIANTS, Measured, matrix_rate, measure, products

YARDSTICK = "TRL GRPO + KL"
BEGIN = 25.0  # seconds for processes, model and rollout, before there is a measurement
COLUMNS = ("score, s", "update, s", "step / GRPO's", "spread", "products / GRPO's", "share of matrix rate", "peak, GB")
COLUMNS += ("of the step, GB",)


class Case(NamedTuple):
    """A model and how it is trained. guess: seconds that a measurement takes, before there is one."""

    architecture: Path
    setting: Setting
    guess: float


ON_GPU = Setting(
    device="cuda",
    dtype="bfloat16",
    narrow=True,
    rank=64,
    checkpointing=True,
    rows=128,
    batch=8,
    prompt=(64, 512),
    completion=(8, 256),
    log_median=4.5,
    together=32,
    warm_up=1,
)
ARCHITECTURES = CONFIGS / "architectures"
CASES = {  # in the order in which they are measured, round by round
    "Qwen2-0.5B, LoRA": Case(ARCHITECTURES / "Qwen2-0.5B.json", ON_GPU, 10.0),
    "Qwen2-7B, LoRA": Case(ARCHITECTURES / "Qwen2-7B.json", ON_GPU._replace(rows=32, together=8), 20.0),
    "Qwen2-0.5B, all weights": Case(ARCHITECTURES / "Qwen2-0.5B.json", ON_GPU._replace(dtype="float32", rank=0), 10.0),
}


class Update:
    """The piece. cases, rounds: what is measured; out: of results; work: of models and rollouts; apart: a process for
    each variant, or one for all."""

    title = "update"

    def __init__(
        self, cases: dict[str, Case], rounds: int, out: Path, work: Path, *, apart: bool, command: str
    ) -> None:
        self.cases, self.rounds, self.out, self.work, self.command = cases, rounds, out / "update", work, command
        self.process_of = {variant: variant if apart else YARDSTICK for variant in REAL_VARIANTS}
        self.processes, self.began = Spawned(), time.time()
        self.rollouts: dict[str, Rollout] = {}
        file = self.out / "results.json"
        self.content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"cases": {}}

    def missing(self) -> list[str]:
        """Names of the measurements that are not there, in their order."""
        every = itertools.product(range(self.rounds), self.cases, REAL_VARIANTS)
        return [f"{case}; round {n + 1}; {v}" for n, case, v in every if len(self._measured(case).get(v, [])) <= n]

    def seconds(self, name: str) -> float:
        """What a measurement will take: as long as the longest of its model, and a bit."""
        case = name.partition("; ")[0]
        walls = [row["wall"] for rows in self._measured(case).values() for row in rows]
        begin = 0.0 if case in self.rollouts else BEGIN
        return (1.3 * max(walls) if walls else self.cases[case].guess) + begin

    def expected(self) -> float:
        """Seconds of all that is missing."""
        missing = self.missing()
        begun = len(missing) - len({name.partition("; ")[0] for name in missing})
        return sum(map(self.seconds, missing)) - (0.0 if self.rollouts else BEGIN * begun)

    def do(self, name: str, _left: float) -> str:
        """Make one measurement and write all; returns what to say of it."""
        case, _, variant = name.split("; ")
        setting = self.cases[case].setting
        if not self.processes.processes:  # all import at once
            names = dict.fromkeys(self.process_of.values())
            for ready in [self.processes.begin(process, matrix_rate, setting.device) for process in names]:
                ready.result()
        folder, rollout = self._folder(case), self._rollout(case)
        began = time.perf_counter()
        process, arguments = self.process_of[variant], (variant, folder, rollout, self.work / "out", setting)
        found: Measured = self.processes.do(process, measure, *arguments)
        rate = self.processes.do(process, matrix_rate, setting.device)
        row = found._asdict() | {"wall": round(time.perf_counter() - began, 2), "rate": rate}
        self._measured(case).setdefault(variant, []).append(row)
        self._write()
        return f"score {found.score:.2f} s, update {found.update:.2f} s"

    def end(self) -> None:
        """End the processes."""
        self.processes.end()

    def _measured(self, case: str) -> dict[str, list[dict[str, Any]]]:
        return self.content["cases"].get(case, {}).get("measured", {})

    def _folder(self, case: str) -> Path:
        """The folder of the model, written if it is not there."""
        folder = self.work / case.replace(", ", "-").replace(" ", "-")
        if not (folder / "done").exists():
            one = self.cases[case]
            self.processes.do(YARDSTICK, save_architecture, folder, one.architecture, one.setting)
            results.write_text(folder / "done", "")
        return folder

    def _rollout(self, case: str) -> Rollout:
        """The rollout, sampled if it is not there: then what was measured on another does not count."""
        if case in self.rollouts:
            return self.rollouts[case]
        folder, setting = self._folder(case), self.cases[case].setting
        file = folder / "rollout.json"
        if not file.is_file():
            data = random_prompts(folder, setting)
            found = self.processes.do(YARDSTICK, roll_out, folder, data, True, setting)
            results.write_json(file, found._asdict())
        text = file.read_text(encoding="utf-8")
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        self.rollouts[case] = Rollout(**json.loads(text))
        if self.content["cases"].get(case, {}).get("rollout") != sha256:
            weights = matrices(folder, setting.rank)._asdict()
            lengths = [len(ids) for ids in self.rollouts[case].completions]
            about = {"setting": setting._asdict(), "weights": weights, "completions": lengths}
            self.content["cases"][case] = about | {"rollout": sha256, "measured": {}}
        return self.rollouts[case]

    def _write(self) -> None:
        results.write_json(self.out / "results.json", self.content)
        results.write_json(self.out / "run.json", results.run_info(self.command, self.began))
        results.write_text(self.out / "table.md", table(self.content))


def table(content: dict[str, Any]) -> str:
    """All models in Markdown; spreads are those of the rounds."""
    return "\n".join(table_of(title, case) for title, case in content["cases"].items() if case["measured"])


def table_of(title: str, case: dict[str, Any]) -> str:
    """One model's table."""
    setting, measured = Setting(**case["setting"]), case["measured"]
    theirs = measured.get(YARDSTICK, [])
    about = f"{setting.rows} completions of {min(case['completions'])} to {max(case['completions'])} tokens"
    lines = [f"**{title}**, {about}, micro-batches of {setting.batch}; rounds: {len(theirs)}\n"]
    lines += ["| | " + " | ".join(COLUMNS) + " |", "| --- |" + " ---: |" * len(COLUMNS)]
    for variant, rows in measured.items():
        made = _products(variant, case)
        share = (made / row["seconds"] / row["rate"] for row in rows)
        of_step = [ours["seconds"] / other["seconds"] for ours, other in zip(rows, theirs, strict=False)]
        compared = ["not measured"] * 3
        if of_step:
            spread = f"{min(of_step):.2f} to {max(of_step):.2f}"
            compared = [f"{median(of_step):.2f}", spread, f"{made / _products(YARDSTICK, case):.2f}"]
        seconds = [f"{median(row[phase] for row in rows):.3g}" for phase in ("score", "update")]
        memory = (median(row["before"] + row["memory"] for row in rows), median(row["memory"] for row in rows))
        cells = [*seconds, *compared, f"{median(share):.2f}", *(f"{size / 1e9:.1f}" for size in memory)]
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _products(variant: str, case: dict[str, Any]) -> float:
    row = case["measured"][variant][0]
    measured = Measured(*(row[field] for field in Measured._fields))
    return products(variant, measured, Weights(**case["weights"]), case["setting"]["checkpointing"])
