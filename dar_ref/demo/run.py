"""`dar-ref demo`: verify the theory, train with the same loss on real data, and write a page that shows both. It takes
about a minute.

It writes to one folder: `results.json` (same seed, same bytes), `run.json` (versions, commit, machine, times), PNG
figures and `report.html`, which needs no other file.
"""

import itertools
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from dar_ref import results, scalars
from dar_ref.bandit import TrainConfig, compare, digits_bandit, digits_config
from dar_ref.bandit.config import Method
from dar_ref.demo.page import table_rows, write_report
from dar_ref.progress import Report, reporting, stepwise
from dar_ref.verify.run import Row, rows_as_json, verify

METHODS: tuple[Method, ...] = ("dar", "grpo", "dao")
SEEDS = 3
CASES = 500


def demo(out: Path, seed: int = 0) -> int:
    """Run the demo and write everything to `out`.

    Args:
        out: folder, created if it is missing; files of an earlier demo of the same seed are replaced.
        seed: seed of the random bandits, >= 0; the digits runs use `seed`, `seed + 1`, `seed + 2`.

    Returns:
        0, or 1 if a statement failed.

    Raises:
        OSError: `out` cannot be written; raised before any work.
        ValueError: a negative seed; `out` is in use, or holds the results of another run.
    """
    started, command = time.time(), f"dar-ref demo --seed {seed}"
    scalars.integer("--seed", seed, 0, scalars.LARGEST_SEED - SEEDS)
    with results.writing(out, command):
        content, passed = _measured(seed)
        write_report(out, content)
        results.write_json(out / "results.json", content)
        results.write_json(out / "run.json", results.run_info(command, started))
    console = Console()
    console.print(f"theory: {sum(passed)} of {len(passed)} statements pass")
    for line in table_rows(content["digits"]):
        console.print("  ".join(f"{cell:>{width}}" for cell, width in zip(line, (6, 16, 16, 16), strict=True)))
    console.print(f"open {out / 'report.html'}", soft_wrap=True, markup=False)
    return 0 if all(passed) else 1


def _measured(seed: int) -> tuple[dict[str, Any], list[bool]]:
    """The content of `results.json`, and which statements passed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the order of sums, and so the last digits, must not depend on the machine's cores
    try:
        with reporting() as report:
            rows = _verify(seed, report)
            comparison = _compare(seed, report)
    finally:
        torch.set_num_threads(threads)
    return {"verify": rows_as_json(rows), "digits": comparison}, [row.passed for row in rows]


def _verify(seed: int, report: Report) -> list[Row]:
    return verify(seed, CASES, progress=partial(stepwise, report, "theory"))


def _compare(seed: int, report: Report) -> dict[str, Any]:
    configs: dict[str, TrainConfig] = {method: digits_config(method) for method in METHODS}
    total, done = SEEDS * sum(config.steps for config in configs.values()), itertools.count(1)
    return compare(
        digits_bandit, configs, range(seed, seed + SEEDS), on_step=lambda *_: report("digits", next(done), total)
    )
