"""From an experiment's content to its folder:

results.json   what the seeds determine: question, tuning, settings, and for every seed the metrics of its run
run.json       versions, commit, machine, times; seconds of each setting, which no seed determines
table.md       the tables
*.png          the figures
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from dar_ref import arithmetic, results
from dar_ref.evaluation import Table, markdown, plain_text
from dar_ref.plots.style import save_png
from dar_ref.toy.experiments import paired
from dar_ref.toy.experiments.figures import FIGURES, Content, tasks
from dar_ref.toy.experiments.tables import (
    PANEL,
    PARTS,
    WEIGHTS,
    collapse_table,
    cost_table,
    panel_table,
    table_1,
    table_2,
    tuned_table,
)
from dar_ref.toy.tasks import TASKS


def write(out: Path, name: str, content: Content, command: str, began: float, seconds: Mapping[str, float]) -> str:
    """Write the folder of an experiment.

    Args:
        out: folder, made if it is missing.
        name: a key of `settings.EXPERIMENTS`.
        content: the result of `conduct.conduct`, with `experiment` and `question`.
        command: the command line that repeats the experiment.
        began: `time.time()` at its start.
        seconds: measured mean seconds per run of each task and method, tuning included; runs from the cache count with
            their first time.

    Returns:
        The tables as plain text.

    Raises:
        OSError: the folder cannot be written.
    """
    tables = TABLES[name](content)
    seeds = ", ".join(map(str, content["seeds"]))
    head = f"{content['question']}\n\nCommand: `{arithmetic.as_run(command)}`. Seeds: {seeds}.\n"
    results.write_text(out / "table.md", "\n".join([head, *(markdown(table) for table in tables)]))
    results.write_json(out / "results.json", content)  # before the figures, which can be drawn again from it
    for file, draw in FIGURES[name].items():
        if file in TASKS and file not in tasks(content):
            continue  # the figure of a task that is left out
        save_png(draw(content), out / f"{file}.png")
    info = results.run_info(command, began)
    results.write_json(out / "run.json", {**info, "seconds_per_run": {k: round(v, 2) for k, v in seconds.items()}})
    return "\n".join(plain_text(table) for table in tables)


def elapsed(began: float) -> str:
    """Time since `began` as text, such as "2 min 05 s"."""
    seconds = round(time.time() - began)
    return f"{seconds // 60} min {seconds % 60:02d} s"


def _panels(content: Content) -> list[Table]:
    return [panel_table(content, task, WEIGHTS) for task in tasks(content)]


def _direct(content: Content) -> list[Table]:
    return [table_1(content), paired.by_task(content), tuned_table(content), *_panels(content)]


TABLES: dict[str, Callable[[Content], list[Table]]] = {
    "hacking": _panels,
    "compare": lambda content: [table_1(content), *_panels(content)],
    "standard": lambda content: [table_2(content), *_panels(content)],
    "ablate-alpha": _panels,
    "anchor": _panels,
    "frontier": lambda content: [paired.at_equal_kl(content), *_panels(content)],
    "efficiency": lambda content: [cost_table(content, task) for task in tasks(content)],
    "stability": lambda content: [collapse_table(content)],
    "clip": _panels,
    "direct": _direct,
    "direct-gold": _direct,
    "quality": lambda content: [paired.by_quality(content), *_panels(content), tuned_table(content)],
    "budgets": _panels,
    "null-space": lambda content: [panel_table(content, "mixed", panel=(*PARTS, *PANEL))],
    "samples": _panels,
}
