"""The report of the comparison on real text: `results.json`, a table, two figures, from whatever runs are there.

Intervals: with one seed, bootstrap over the test prompts, those about one topic together; they say nothing about other
seeds. With several seeds, Student's over the seeds.
"""

import hashlib
import json
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dar_ref import results
from dar_ref.evaluation import Column, Interval, NotAnInterval, bootstrap, comparison_table, markdown, student
from dar_ref.llm.options import DataOptions, load_options
from dar_ref.llm.real.measure import judged
from dar_ref.llm.real.prompts import TASKS
from dar_ref.plots.style import BLACK, BLUE, GREEN, GREY, LABELS, ORANGE, PURPLE, VERMILION, save_png, style
from dar_ref.real_model.runs import PlannedRun

Content = dict[str, Any]
COMMAND = "python -m dar_ref.real_model.experiment"
QUESTION = "What do DAR and others make of a real model, and does the anchor hold?"
TITLES = {"sentiment": "Sentiment", "harmless": "Harmless", "tldr": "TL;DR of documentation"}
LOOKS = {  # of a run: colour, marker
    "dar": (BLUE, "o"),
    "dar-alpha-1": (GREY, "v"),
    "dar-alpha-0": (VERMILION, "X"),
    "dar-anchored": (BLACK, "P"),
    "grpo": (ORANGE, "s"),
    "rloo": (GREEN, "D"),
    "dao": (PURPLE, "^"),
}
OF_TEXT = (  # of any task
    Column("fluency", "Fluency", "nats a token"),
    Column("repetition", "Repeated word pairs", "%", 100.0),
    Column("length", "Length", "tokens"),
    Column("missing_eos", "No EOS", "%", 100.0),
)
COLUMNS = {
    "sentiment": (
        Column("kl", "KL to pi_0", "nats"),
        Column("proxy", "Proxy"),
        Column("gold", "Gold", "%", 100.0),
        Column("positive", "Positive", "%", 100.0),
        Column("on_topic", "On the topic", "%", 100.0),
        *OF_TEXT,
    ),
    "harmless": (
        Column("kl", "KL to pi_0", "nats"),
        Column("proxy", "Proxy", "%", 100.0),
        Column("gold", "Gold", "%", 100.0),
        Column("calm", "Calm", "%", 100.0),
        Column("on_topic", "On the topic", "%", 100.0),
        *OF_TEXT,
    ),
    "tldr": (
        Column("kl", "KL to pi_0", "nats"),
        Column("proxy", "Proxy", "%", 100.0),
        Column("gold", "Gold", "%", 100.0),
        Column("copied", "Copied", "%", 100.0),
        *OF_TEXT,
    ),
}


def places_shown(prompts: Sequence[str]) -> list[int]:
    """Which test prompts the page shows, before any run is known: the first of each third."""
    return [0, len(prompts) // 3, 2 * len(prompts) // 3]


def test_prompts(data: DataOptions) -> Path:
    """The file of the test split, beside that of the training split."""
    assert data.prompts is not None  # a method that samples has some
    return Path(data.prompts).with_name("test.jsonl")


@cache
def test_prompts_of(task: str) -> Path:
    """That file for a task, where `make real-model` writes it."""
    return test_prompts(load_options(f"smollm2-135m-{task}").data)


def prompts_hash(test: Path) -> str:
    """Names the test prompts that answers belong to: the SHA-256 of their file."""
    return hashlib.sha256(test.read_bytes()).hexdigest()


def read_json(file: Path) -> Content:
    """What a file of this experiment holds; ValueError if it is damaged."""
    try:
        content: Content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}); remove it, and the same command measures again") from None
    return content


def read_measured(file: Path, prompts: str) -> Content | None:
    """What was measured on these test prompts; None where nothing was, or on others."""
    content = read_json(file) if file.is_file() else {}
    return content if content.get("prompts") == prompts else None


def gathered(out: Path, runs: Sequence[PlannedRun]) -> Content:
    """The content of results.json: means at every checkpoint of every run that is there, and the answers at its end.
    The judges read the answers here, so another judge needs no new samples."""
    found = []
    for run in runs:
        for seed in range(run.seeds):
            content = _measured(out / run.task / run.name / f"seed-{seed}" / "measured.json", run.task)
            if content is not None:
                place = {"task": run.task, "run": run.name, "seed": seed}
                found.append(place | _kept(run.task, content["checkpoints"]))
    starts = {task: _measured(out / task / "pi_0.json", task) or {} for task in _tasks(found)}
    return {
        "question": QUESTION,
        "planned": [{"task": r.task, "run": r.name, "label": r.label, "seeds": r.seeds} for r in runs],
        "pi_0": {task: _kept(task, [start]) for task, start in starts.items()},
        "runs": found,
    }


def _measured(file: Path, task: str) -> Content | None:
    """What a file holds; None if it is not there. Answers to other prompts would be judged by these topics."""
    content = read_measured(file, prompts_hash(test_prompts_of(task)))
    if content is None and file.is_file():
        raise ValueError(
            f"{file} was measured on other test prompts than those of today; run {COMMAND} without --only-report, which"
            " measures them again"
        )
    return content


def _kept(task: str, points: Sequence[Content]) -> Content:
    """What is kept of the checkpoints of a run."""
    rows = [json.loads(line) for line in test_prompts_of(task).read_text(encoding="utf-8").splitlines()]
    means = []
    for point in points:
        of_judges = judged(task, rows, point["completions"])
        each = [answer | row for answer, row in zip(point["completions"], of_judges, strict=True)]
        means.append({"step": point["step"]} | {c.key: fmean(row[c.key] for row in each) for c in COLUMNS[task]})
    last = [{c.key: row[c.key] for c in COLUMNS[task]} for row in each]
    return {"checkpoints": means, "completions": last, "greedy": points[-1]["greedy"]}


def _tasks(runs: Sequence[Content]) -> list[str]:
    return list(dict.fromkeys(run["task"] for run in runs))


def markdown_tables(content: Content) -> str:
    """All that the page shows of the results: for each task a table, two figures, and answers."""
    lines = []
    for task, title in TITLES.items():
        lines += [f"### {title}", ""]
        if task not in content["pi_0"]:
            lines += ["Not run.", ""]
            continue
        lines += [
            table(content, task),
            f"![{title}: proxy and gold against KL to pi_0](real-model/{task}-gold.png)",
            "",
            f"![{title}: fluency, repetition, length and missing EOS along the updates](real-model/{task}-panel.png)",
            "",
            "Greedy answers to the first prompt of each third of the test prompts, of pi_0 and of the end of seed 0:",
            "",
            sample_lines(content, task),
        ]
    return "\n".join(lines)


def table(content: Content, task: str) -> str:
    """The end of every planned run beside pi_0, in Markdown; a run that is not there is "not measured"."""
    start = content["pi_0"][task]
    rows = {"pi_0": _intervals(task, [start], 0)}
    for planned in content["planned"]:
        if planned["task"] == task:
            ends = [run for run in content["runs"] if (run["task"], run["run"]) == (task, planned["run"])]
            last = min((run["checkpoints"][-1]["step"] for run in ends), default=0)  # that all seeds have
            seeds = f"{len(ends)} of {planned['seeds']} seeds" if planned["seeds"] > 1 else "one seed"
            name = planned["label"] + (f" ({seeds}, {last} updates)" if ends else "")
            rows[name] = _intervals(task, ends, last) if ends else {}
    ours = f"SmolLM2-135M-Instruct, {task}, {len(start['completions'])} test prompts"
    return markdown(comparison_table(rows, COLUMNS[task], ours=ours))


def _intervals(task: str, runs: Sequence[Content], step: int) -> dict[str, Interval | NotAnInterval]:
    """Of runs of several seeds after `step` updates; of one run, over its prompts at its end."""
    ends = [point for run in runs for point in run["checkpoints"] if point["step"] == step]
    if len(runs) > 1:
        return {column.key: student([end[column.key] for end in ends]) for column in COLUMNS[task]}
    (run,) = runs
    each = {column.key: np.array([row[column.key] for row in run["completions"]]) for column in COLUMNS[task]}
    return {name: bootstrap(values.reshape(-1, TASKS[task].TOGETHER)) for name, values in each.items()}


def sample_lines(content: Content, task: str) -> str:
    """Greedy answers of pi_0 and of the end of each run (seed 0) to the prompts of `places_shown`, in Markdown."""
    labels = {planned["run"]: planned["label"] for planned in content["planned"]}
    lines = []
    for i, start in enumerate(content["pi_0"][task]["greedy"]):
        lines += [f"**{_line(start['prompt'])}**", "", f"- pi_0: {_line(start['answer'])}"]
        for run in content["runs"]:
            if (run["task"], run["seed"]) == (task, 0):
                lines.append(f"- {labels[run['run']]}: {_line(run['greedy'][i]['answer'])}")
        lines.append("")
    return "\n".join(lines)


def _line(text: str) -> str:
    """A text that a model wrote, on one line and without effect as Markdown."""
    return "".join("\\" + c if c in "\\`*_{}[]<>#|$&~" else c for c in " ".join(text.split()))


def gold_figure(content: Content, task: str) -> Figure:
    """Proxy and gold against KL to pi_0, a point for each measured checkpoint."""
    return _figure(content, task, "kl", ("proxy", "gold"))


def panel_figure(content: Content, task: str) -> Figure:
    """The hacking panel along the updates."""
    return _figure(content, task, "step", ("fluency", "repetition", "length", "missing_eos"))


def _figure(content: Content, task: str, across: str, keys: Sequence[str]) -> Figure:
    import matplotlib.pyplot as plt

    titles = {c.key: f"{c.title}, {c.unit}" if c.unit else c.title for c in COLUMNS[task]}
    scales = {c.key: c.scale for c in COLUMNS[task]}
    labels = {planned["run"]: planned["label"] for planned in content["planned"]}
    start = content["pi_0"][task]["checkpoints"][0]
    with style():
        figure, axes = plt.subplots(1, len(keys), figsize=(3.3 * len(keys) if len(keys) > 2 else 9.0, 3.9))
        for ax, key in zip(axes, keys, strict=True):
            for run in content["runs"]:
                if run["task"] == task:
                    color, marker = LOOKS[run["run"]]
                    points = [start, *run["checkpoints"]]
                    first = run["seed"] == 0
                    ax.plot(
                        [point[across] for point in points],
                        [scales[key] * point[key] for point in points],
                        marker=marker,
                        color=color,
                        markersize=4,
                        alpha=1.0 if first else 0.5,
                        label=labels[run["run"]] if first else None,
                    )
            ax.plot(start[across], scales[key] * start[key], "*", color=BLACK, markersize=9, label=LABELS["pi_0"])
            ax.set(title=titles[key], xlabel="KL(π‖π₀), nats" if across == "kl" else "update")
        lines, names = axes[0].get_legend_handles_labels()
        figure.legend(lines, names, loc="outside lower center", ncols=4, fontsize="small")
    plt.close(figure)
    return figure


def write_measured(out: Path, folder: Path, runs: Sequence[PlannedRun]) -> None:
    """Write results, tables and figures of the runs in `out` to `folder`."""
    began, content = time.time(), gathered(out, runs)
    results.write_json(folder / "results.json", content)
    times = {f"{r['task']}/{r['run']}/seed-{r['seed']}": _times(out, r) for r in content["runs"]}
    results.write_json(folder / "run.json", results.run_info(COMMAND, began) | {"runs": times})
    results.write_text(folder / "table.md", markdown_tables(content))
    for task in content["pi_0"]:
        save_png(gold_figure(content, task), folder / f"{task}-gold.png")
        save_png(panel_figure(content, task), folder / f"{task}-panel.png")


def _times(out: Path, run: Content) -> Content:
    """What run.json says of a run: command, commit, seconds, and the mean of an update's parts if they are logged."""
    file = out / run["task"] / run["run"] / f"seed-{run['seed']}" / "run.json"
    written = json.loads(file.read_text(encoding="utf-8"))
    parts = [row for row in written["times"] if "seconds/update" in row]
    means = {name: float(np.mean([row[name] for row in parts])) for name in parts[0] if name != "step"} if parts else {}
    return {name: written[name] for name in ("command", "commit", "finished", "seconds")} | {"mean": means}
