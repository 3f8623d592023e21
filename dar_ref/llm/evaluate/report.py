"""`dar-ref evaluate report`: what the verdicts say, in one folder.

    results.json     every rate with its interval, counts of what was not judged, grades, verdicts on runs
    report.md        tables, among them those of the paper's layout with its figures in columns of their own
    alpaca_eval/     the verdicts as annotations of alpaca_eval
    hacking-RUN.png  the metrics of a run's log, with the thresholds of the verdict

Several folders of `generate` and `judge` may be given, one for each task: their rates stand in one table.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dar_ref import results
from dar_ref.evaluation import Interval, NotAnInterval, alpaca_eval_rows, repetition
from dar_ref.llm.evaluate import COMPLETIONS, GRADES, TASKS, VERDICTS, VERSUS, run_log, store
from dar_ref.llm.evaluate.report_tables import markdown_report
from dar_ref.llm.evaluate.statistics import compared, grade_interval, graded, intervals, mean_of_tasks, outcomes_of
from dar_ref.llm.evaluate.store import Row
from dar_ref.llm.rewards import flat_text

COMMAND = "dar-ref evaluate report"


def report(
    folders: Sequence[Path],
    runs: Mapping[str, Path],
    out: Path,
    command: str,
    draw: Callable[[run_log.Panels, Path], None],
) -> int:
    """Write the report of evaluations and runs to `out`, and print its tables. Returns 0.

    Args:
        folders: of `generate` and `judge`.
        runs: name -> folder of a training run.
        out: folder to write to.
        command: for run.json.
        draw: draws the panels of a run's log and saves them to a file. The layer above has the plots.

    Raises:
        ValueError: nothing to report, rows that were changed, or a run without the log that the verdict needs.
        OSError: a file that cannot be read or written.
    """
    began = time.time()
    found: dict[str, Any] = {"comparisons": [], "grades": [], "completions": {}, "runs": {}}
    exports: dict[str, list[dict[str, Any]]] = {}
    parts: dict[tuple[str, str, str], dict[str, Any]] = {}
    for folder in folders:
        _read_folder(folder, found, exports, parts)
    found["means"] = [
        {
            "judge": judge,
            "reference": reference,
            "policy": policy,
            "interval": mean_of_tasks([tasks[task] for task in TASKS]),
        }
        for (judge, reference, policy), tasks in parts.items()
        if tasks.keys() >= set(TASKS)
    ]
    logs = {name: run_log.read_log(path) for name, path in runs.items()}
    found["runs"] = {name: log.content() for name, log in logs.items()}
    if not (found["comparisons"] or found["grades"] or found["runs"]):
        raise ValueError(
            f"nothing to report in {', '.join(map(str, folders)) or 'no folder'}; run `dar-ref evaluate judge` first,"
            " or pass --run NAME=FOLDER of a training run"
        )
    with results.writing(out, command, replaces=COMMAND):
        if (out / "report.md").is_file():  # what is there is an older report's
            shutil.rmtree(out / "alpaca_eval", ignore_errors=True)
            for picture in out.glob("hacking-*.png"):
                picture.unlink()
        for name, rows in exports.items():
            results.write_text(out / "alpaca_eval" / f"{name}.json", json.dumps(rows, indent=1) + "\n")
        for name, log in logs.items():
            draw(run_log.panels_of(log, name), out / f"hacking-{name}.png")
        text = markdown_report(found)
        results.write_text(out / "report.md", text)
        results.write_json(out / "results.json", _plain(found))
        results.write_json(out / "run.json", results.run_info(command, began))
    print(text)
    print(f"written to {out}")
    return 0


def _read_folder(
    folder: Path,
    found: dict[str, Any],
    exports: dict[str, list[dict[str, Any]]],
    parts: dict[tuple[str, str, str], dict[str, Any]],
) -> None:
    """Add what the folder of one evaluation holds; `parts`: outcomes by judge, reference and policy, then by task."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; pass those that `dar-ref evaluate judge` wrote to")
    tasks = []
    for name in store.names(folder / VERDICTS):
        judge, _, pair = name.rpartition("/")
        policy, _, reference = pair.partition(VERSUS)
        done = store.read_rows(folder / VERDICTS / name)
        ours, theirs = (_judged(folder, done, *side) for side in (("policy", policy), ("reference", reference)))
        task = str(done.head["task"])
        tasks.append(task)
        texts = _texts(done.rows, ours, theirs)
        characters = [(len(row["completion"]), len(row["reference_completion"])) for row in texts]
        rates = compared(done.rows, done.head["missing"]) | {"intervals": intervals(done.rows, characters)}
        names = {"task": task, "judge": judge, "policy": policy, "reference": reference}
        found["comparisons"].append({**names, "prompts": len({row["id"] for row in done.rows}), **rates})
        judged, outcomes = outcomes_of(done.rows)
        of_tasks = parts.setdefault((judge, reference, policy), {})
        if task in of_tasks:
            raise ValueError(
                f"{folder}: {policy} against {reference} on {task} by {judge} is in another of the folders too, and a"
                " table has one place for it; report them one by one, or name the task of each by `judge --task`"
            )
        of_tasks[task] = ([row["id"] for row in judged], outcomes)
        of_judged = [text for text, row in zip(texts, done.rows, strict=True) if row["reason"] is None]
        rows = [{**text, "outcome": float(outcome)} for text, outcome in zip(of_judged, outcomes, strict=True)]
        export = alpaca_eval_rows(rows, policy=policy, reference=reference, annotator=judge)
        exports[f"{task}/{judge}/{pair}"] = export
    for name in store.names(folder / GRADES):
        judge, _, policy = name.rpartition("/")
        rows = store.read_rows(folder / GRADES / name).rows
        found["grades"].append({"judge": judge, "policy": policy, **graded(rows), "interval": grade_interval(rows)})
    for name in store.names(folder / COMPLETIONS) if tasks else []:
        if rows := store.read_rows(folder / COMPLETIONS / name).rows:
            found["completions"].setdefault(tasks[0], {})[name] = _described(rows)


def _judged(folder: Path, done: store.Finished, side: str, name: str) -> list[Row]:
    """The completions that verdicts are on; ValueError if they are others by now."""
    there = store.read_rows(folder / COMPLETIONS / name)
    if there.sha256 != done.head[side]:
        raise ValueError(f"{folder}: the verdicts are on other completions of {name} than are there now; judge again")
    return there.rows


def _texts(rows: Sequence[Row], ours: Sequence[Row], theirs: Sequence[Row]) -> list[Row]:
    """Prompt and both completions of each verdict."""
    of_policy = {(row["id"], row["sample"]): row for row in ours}
    of_reference = {row["id"]: row for row in reversed(theirs)} | {(row["id"], row["sample"]): row for row in theirs}
    texts = []
    for row in rows:
        key = (row["id"], row["sample"])
        a, b = of_policy[key], of_reference.get(key) or of_reference[row["id"]]
        prompt = flat_text(a["prompt"])
        texts.append({"prompt": prompt, "completion": a["completion"], "reference_completion": b["completion"]})
    return texts


def _described(rows: Sequence[Row]) -> dict[str, float | int]:
    """What completions look like: the part of the hacking panel that needs no reward."""
    return {
        "completions": len(rows),
        "length": float(np.mean([len(row["ids"]) for row in rows])),
        "missing_eos": float(np.mean([not row["finished"] for row in rows])),
        "repetition": float(repetition([row["ids"] for row in rows]).mean()),
        "empty": sum(not row["completion"].strip() for row in rows),
    }


def _plain(value: Any) -> Any:
    """Intervals as mappings, so that JSON keeps their names."""
    if isinstance(value, Interval | NotAnInterval):
        return value._asdict()
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
