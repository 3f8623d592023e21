"""`dar-ref demo`: verify the theory, train with the same loss on real data, and write a page that shows both. It takes
about a minute.

It writes to one folder: `results.json` (same seed, same bytes), `run.json` (versions, commit, machine, times), PNG
figures and `report.html`, which needs no other file.
"""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from dar_ref import results, scalars
from dar_ref.bandit import TrainConfig, compare, digits_bandit, digits_config
from dar_ref.bandit.config import Method
from dar_ref.demo.page import table_rows, write_report
from dar_ref.verify.run import Row, rows_as_json, verify

METHODS: tuple[Method, ...] = ("dar", "grpo", "dao")
SEEDS = 3
CASES = 500


def demo(out: Path, seed: int = 0) -> int:
    """Run the demo and write everything to `out`.

    Args:
        out: folder, created if it is missing; files of an earlier demo are replaced.
        seed: seed of the random bandits, >= 0; the digits runs use `seed`, `seed + 1`, `seed + 2`.

    Returns:
        0, or 1 if a statement failed.

    Raises:
        OSError: `out` cannot be written; raised before any work.
        ValueError: a negative seed.
    """
    started = time.time()
    scalars.integer("--seed", seed, 0, scalars.LARGEST_SEED - SEEDS)
    results.write_json(out / "run.json", results.run_info("dar-ref demo (unfinished)", started))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the order of sums, and so the last digits, must not depend on the machine's cores
    try:
        with Progress(console=Console(stderr=True)) as progress:
            rows = _verify(seed, progress)
            comparison = _compare(seed, progress)
    finally:
        torch.set_num_threads(threads)
    content = {"verify": rows_as_json(rows), "digits": comparison}
    results.write_json(out / "results.json", content)
    write_report(out, content)
    results.write_json(out / "run.json", results.run_info(f"dar-ref demo --seed {seed}", started))
    passed = all(row.passed for row in rows)
    console = Console()
    console.print(f"theory: {sum(row.passed for row in rows)} of {len(rows)} statements pass")
    for line in table_rows(comparison):
        console.print("  ".join(f"{cell:>{width}}" for cell, width in zip(line, (6, 16, 16, 16), strict=True)))
    console.print(f"open {out / 'report.html'}", soft_wrap=True)
    return 0 if passed else 1


def _verify(seed: int, progress: Progress) -> list[Row]:
    def advance(numbers: Iterable[int]) -> Iterable[int]:
        return progress.track(numbers, total=CASES, description="theory")

    return verify(seed, CASES, progress=advance)


def _compare(seed: int, progress: Progress) -> dict[str, Any]:
    configs: dict[str, TrainConfig] = {method: digits_config(method) for method in METHODS}
    task = progress.add_task("digits", total=SEEDS * sum(config.steps for config in configs.values()))
    return compare(
        digits_bandit, configs, range(seed, seed + SEEDS), on_step=lambda *_: progress.update(task, advance=1)
    )
