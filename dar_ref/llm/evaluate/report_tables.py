"""The tables of a report, in Markdown: details, the layout of the paper's two tables, runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dar_ref.evaluation import (
    TABLE_1,
    TABLE_1_COLUMNS,
    TABLE_2,
    TABLE_2_COLUMNS,
    Column,
    Table,
    comparison_table,
    markdown,
)
from dar_ref.evaluation.tables import Measured
from dar_ref.llm.evaluate import TASKS

RATES = (
    Column("win_rate", "Win rate", "%", 100.0),
    Column("lc_win_rate", "LC win rate", "%", 100.0),
    Column("length", "Tokens"),
)
PI_0 = "pi_0"
COUNTED = (
    *("policy", "judged", "not judged", "wins", "ties", "losses", "win rate, Wilson", "if the others were lost"),
    *("if they were won", "orders agree", "first place wins", "LC as alpaca_eval", "LC extrapolates", "tokens paid"),
)


def markdown_report(found: Mapping[str, Any]) -> str:
    """Every table that there is something for."""
    parts = ["# Evaluation\n"]
    for judge, reference in _pairs(found["comparisons"]):
        rows = [row for row in found["comparisons"] if (row["judge"], row["reference"]) == (judge, reference)]
        parts += [f"## Judge {judge}, against {reference}\n", *_details(rows)]
        if any(row["task"] in TASKS for row in rows):
            parts += [
                "### In the layout of the paper's Table 1\n",
                markdown(_table_1(rows, found["means"], judge, reference)),
            ]
    for judge in dict.fromkeys(row["judge"] for row in (*found["grades"], *found["comparisons"])):
        if second := _table_2(found, judge):
            parts += [f"## Judge {judge}, in the layout of the paper's Table 2\n", markdown(second)]
    if found["completions"]:
        parts += ["## Completions\n", markdown(_completions(found["completions"]))]
    for name, run in found["runs"].items():
        parts += [f"## Run {name}: {run['verdict']}\n", f"{run['reason']}.\n", markdown(_signs(run["signs"]))]
    return "\n".join(parts)


def _pairs(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((row["judge"], row["reference"]) for row in rows))


def _details(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rates with intervals, and how they came about, for each task."""
    parts = []
    for task in dict.fromkeys(row["task"] for row in rows):
        of_task = [row for row in rows if row["task"] == task]
        measured = {row["policy"]: {c.key: row["intervals"].get(c.key) for c in RATES} for row in of_task}
        prompts = max(row["prompts"] for row in of_task)
        table = comparison_table(measured, RATES, ours=f"{task}, {prompts} prompts, bootstrap over prompts")
        parts += [markdown(table), markdown(Table(COUNTED, tuple(_counted(row) for row in of_task), ()))]
    return parts


def _counted(row: Mapping[str, Any]) -> tuple[str, ...]:
    reasons = ", ".join(f"{count} {reason}" for reason, count in row["not_judged"].items()) or "0"
    tokens = " + ".join(map(str, row["tokens"]))
    if not row["judged"]:
        return (row["policy"], "0", reasons, *["not measured"] * 10, tokens)
    wilson, controlled = row["intervals"]["wilson"], row["intervals"]["lc_alpaca_eval"]
    between = "several answers a prompt: not independent"
    if wilson is not None:
        between = f"{_percent(wilson.estimate)} [{_percent(wilson.low)}, {_percent(wilson.high)}]"
    return (
        row["policy"],
        str(row["judged"]),
        reasons,
        *(str(row[name]) for name in ("wins", "ties", "losses")),
        between,
        *map(_percent, row["bounds"]),
        _percent(row["agreement"]),
        _percent(row["first_share"]),
        "not measured" if controlled is None else _percent(controlled),
        "yes" if row["intervals"]["lc_extrapolated"] else "no",
        tokens,
    )


def _table_1(
    rows: Sequence[Mapping[str, Any]], means: Sequence[Mapping[str, Any]], judge: str, reference: str
) -> Table:
    measured: dict[str, dict[str, Measured]] = {}
    for row in rows:
        if row["task"] in TASKS:
            measured.setdefault(row["policy"], {})[row["task"]] = row["intervals"].get("win_rate")
    for row in means:
        if (row["judge"], row["reference"]) == (judge, reference):
            measured[row["policy"]]["mean"] = row["interval"]
    note = f"judge {judge}, against {reference}, bootstrap over prompts"
    return comparison_table(measured, TABLE_1_COLUMNS, ours=note, paper=TABLE_1)


def _table_2(found: Mapping[str, Any], judge: str) -> Table | None:
    """Grades, length-controlled rate against pi_0 and length; None if there is no grade and no such rate."""
    measured: dict[str, dict[str, Measured]] = {}
    for row in found["grades"]:
        if row["judge"] == judge:
            measured.setdefault(row["policy"], {})["score"] = row["interval"]
    for row in found["comparisons"]:
        if (row["judge"], row["reference"]) == (judge, PI_0):
            of_row = {key: row["intervals"].get(key) for key in ("lc_win_rate", "length")}
            measured.setdefault(row["policy"], {}).update(of_row)
    note = f"judge {judge}, lengths in tokens, bootstrap over prompts or questions"
    return comparison_table(measured, TABLE_2_COLUMNS, ours=note, paper=TABLE_2) if measured else None


def _completions(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Table:
    rows = [
        (
            f"{name} ({task})" if len(found) > 1 else name,
            str(row["completions"]),
            f"{row['length']:.1f}",
            _percent(row["missing_eos"]),
            _percent(row["repetition"]),
            str(row["empty"]),
        )
        for task, policies in found.items()
        for name, row in policies.items()
    ]
    return Table(("policy", "completions", "tokens", "without an end", "repeated 4-grams", "empty"), tuple(rows), ())


def _signs(signs: Sequence[Mapping[str, Any]]) -> Table:
    header = ("sign", "first tenth", "last tenth", "threshold", "crossed")
    rows = [
        (s["name"], f"{s['before']:.4g}", f"{s['after']:.4g}", s["threshold"], "yes" if s["crossed"] else "no")
        for s in signs
    ]
    return Table(header, tuple(rows), ())


def _percent(share: float) -> str:
    return f"{np.round(100.0 * share, 1):g} %"
