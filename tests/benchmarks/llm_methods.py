"""Every method of the full-size script on the exported toy task, and the toy engine beside it. `make benchmark-llm`.

1. Each method trains from `dar-ref toy export` by `dar_ref.llm.train`, with `dar_ref/configs/toy_cpu.yaml`, on five
   seeds. Its proxy reward on held-out prompts must rise: interval of the paired difference to pi_0 above 0.
2. Methods that the toy engine has as well train there with the same options and seeds. Prompt order and random numbers
   differ, so the two can only be equal in distribution. Their results are compared seed by seed. For each pair of
   method and metric the interval of the difference must contain 0. There are many intervals, so their level is
   corrected to hold for all together (Bonferroni).

Exit status 1 if either fails. Runs are kept in `--work`: a second call resumes where the first was stopped.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

from dar_ref import results
from dar_ref.evaluation import (
    Column,
    Interval,
    Table,
    comparison_table,
    markdown,
    paired_difference,
    plain_text,
    student,
)
from dar_ref.llm.options import METHODS, load_options
from tests.benchmarks.llm_runs import (
    CONFIG,
    FIGURES,
    IN_BOTH,
    PER_PROMPT,
    Folders,
    Job,
    bar,
    do,
    figures_of,
    folder_of,
    jobs,
)

FEW, MANY = map(str, PER_PROMPT)
COMPARED = ("proxy", "gold", "win_rate", "length", "kl")
TITLES = ("Every method, by the script", "Script and toy engine", "Script less toy engine")
COLUMNS = {
    "steps": Column("steps", "Steps"),
    "rise": Column("rise", "Proxy, less pi_0's"),
    "proxy": Column("proxy", "Proxy"),
    "gold": Column("gold", "Gold"),
    "win_rate": Column("win_rate", "Win rate", "%", 100.0),
    "length": Column("length", "Length", "tokens"),
    "missing_eos": Column("missing_eos", "Missing EOS", "%", 100.0),
    "kl": Column("kl", "KL to pi_0", "nats"),
}


def measure_all(seeds: int, folders: Folders, processes: int) -> dict[str, Any]:
    """Metrics of every run: engine -> method -> one entry per seed. Each run has its own process."""
    everything = jobs(seeds)
    todo = [job for job in everything if not folder_of(job, folders).is_dir()]
    context = get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, max_tasks_per_child=1) as pool, bar() as progress:
        shown = progress.add_task("runs", total=len(todo))
        futures = {pool.submit(do, job, folders): job for job in todo}
        try:
            for future in as_completed(futures):
                future.result()
                progress.update(shown, advance=1, description=" ".join(map(str, futures[future])))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    found: dict[str, Any] = {}
    for engine, method in dict.fromkeys(job[:2] for job in everything):
        of_seeds = [figures_of(Job(engine, method, seed), folders) for seed in range(seeds)]
        found.setdefault(engine, {})[method] = of_seeds
    return found


def of(runs: Sequence[Any], figure: str, count: str = FEW) -> list[float]:
    """One metric of each seed, at `count` completions per test prompt."""
    return [run[count][figure] for run in runs]


def rises(found: dict[str, Any]) -> dict[str, Interval]:
    """Proxy reward of each method minus that of pi_0 on the same prompts."""
    before = of(found["pi_0"]["pi_0"], "proxy")
    return {method: paired_difference(of(found["script"][method], "proxy"), before) for method in METHODS}


def differences(found: dict[str, Any], level: float = 0.95) -> dict[str, dict[str, Interval]]:
    """Result of the script minus result of the toy engine, by method and metric."""
    return {
        method: {
            figure: paired_difference(
                of(found["script"][method], figure, MANY), of(found["toy"][method], figure, MANY), level=level
            )
            for figure in COMPARED
        }
        for method in IN_BOTH
    }


def tables(found: dict[str, Any], seeds: int) -> list[Table]:
    """Three tables: every method by the script; both engines; their differences."""
    risen = rises(found)
    before = {"steps": _fixed(0.0), "rise": _fixed(0.0), **_intervals(found["pi_0"]["pi_0"], FIGURES, FEW)}
    rows: dict[str, dict[str, Interval | None]] = {"pi_0": before}
    for method, runs in found["script"].items():
        rows[method] = {"steps": _fixed(steps(method)), "rise": risen[method], **_intervals(runs, FIGURES, FEW)}
    both = {
        f"{method}, {title}": _intervals(found[engine][method], COMPARED, MANY)
        for method in IN_BOTH
        for engine, title in (("script", "script"), ("toy", "toy engine"))
    }
    said = f"{seeds} seeds, Student's interval over seeds, 200 test prompts"
    of_compared = [COLUMNS[figure] for figure in COMPARED]
    return [
        comparison_table(rows, list(COLUMNS.values()), ours=f"toy tldr, {said}, {FEW} completions of each"),
        comparison_table(both, of_compared, ours=f"toy tldr, {said}, {MANY} completions of each"),
        comparison_table(differences(found), of_compared, ours=f"script less toy engine, same seeds, {said}"),
    ]


def steps(method: str) -> int:
    """Optimizer steps of a method in `toy_cpu`."""
    options = load_options(CONFIG, [f"method={method}"])
    return {**options.training, **options.methods[method]}["max_steps"]


def _fixed(value: float) -> Interval:
    return Interval(value, value, value, 0.95)


def _intervals(runs: Sequence[Any], figures: Sequence[str], count: str) -> dict[str, Interval | None]:
    return {figure: student(of(runs, figure, count)) for figure in figures}


def complaints(found: dict[str, Any]) -> list[str]:
    """The failures: methods whose reward did not rise, and metrics in which the engines differ."""
    many = len(IN_BOTH) * len(COMPARED)
    apart = differences(found, level=1.0 - 0.05 / many)
    return [
        *(f"{method}: proxy reward did not rise, {rise}" for method, rise in rises(found).items() if not rise.low > 0),
        *(
            f"{method}: {figure} differs between the engines, {interval}"
            for method, row in apart.items()
            for figure, interval in row.items()
            if not interval.low <= 0 <= interval.high
        ),
    ]


def write(found: dict[str, Any], seeds: int, out: Path, command: str, began: float) -> list[str]:
    """Write results.json, run.json and the tables; return `complaints`."""
    wrong, shown = complaints(found), tables(found, seeds)
    measured = {
        engine: {m: [{k: v for k, v in run.items() if k != "seconds"} for run in runs] for m, runs in methods.items()}
        for engine, methods in found.items()
    }
    content = {
        "seeds": list(range(seeds)),
        "steps": {method: steps(method) for method in METHODS},
        "runs": measured,
        "rises": {method: rise._asdict() for method, rise in rises(found).items()},
        "differences": {m: {k: v._asdict() for k, v in row.items()} for m, row in differences(found).items()},
        "complaints": wrong,
    }
    results.write_json(out / "results.json", content)
    seconds = {
        f"{engine} {method}": round(fmean(run["seconds"]["processor"] for run in runs), 1)
        for engine, methods in found.items()
        for method, runs in methods.items()
        if engine != "pi_0"
    }
    results.write_json(out / "run.json", {**results.run_info(command, began), "processor_seconds_per_run": seconds})
    text = "\n".join(f"**{title}**\n\n{markdown(table)}" for title, table in zip(TITLES, shown, strict=True))
    results.write_text(out / "table.md", text)
    print("\n".join(map(plain_text, shown)))
    return wrong


def main() -> int:
    """Do the runs that are missing, print and write the tables. Return 1 if there are complaints, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results/llm"), help="folder of the tables")
    parser.add_argument("--work", type=Path, default=Path("out/llm/methods"), help="folder of the runs")
    parser.add_argument("--cache", type=Path, default=Path("out/toy/cache"), help="cache of toy starts")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0, 1, ...; at least 2")
    parser.add_argument("--processes", type=int, default=2, help="runs at once")
    arguments = parser.parse_args()
    if arguments.seeds < 2:
        parser.error(f"--seeds {arguments.seeds}: an interval over seeds needs at least 2")
    began = time.time()
    found = measure_all(arguments.seeds, Folders(arguments.cache, arguments.work), arguments.processes)
    wrong = write(found, arguments.seeds, arguments.out, "make benchmark-llm", began)
    for line in wrong:
        print(line, file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
