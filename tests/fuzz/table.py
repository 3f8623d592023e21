"""Fuzz every option of every command and write the table: `make fuzz`.

python -m tests.fuzz.table [NUMBER]       writes docs/results/fuzz: results.json, run.json, table.md
"""

import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

from dar_ref import results
from tests.fuzz.commands import COMMANDS, draw_command, prepare, run

KINDS = ("accepted", "refused", "traceback", "changed")
SHARES = {"train --dry-run": 0.4, "plan": 0.2, "toy run": 0.2}  # the rest is divided among the others


def measure(number: int, exported: Path, seed: int = 0) -> list[dict[str, Any]]:
    """One row per command: how many configurations, what became of them, and those that went wrong."""
    rows, rest = [], (1.0 - sum(SHARES.values())) / (len(COMMANDS) - len(SHARES))
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        prepare(place, exported)
        os.chdir(place)
        try:
            for name in COMMANDS:
                draw, count, wrong = random.Random(f"{name} {seed}"), Counter[str](), []
                total = round(number * SHARES.get(name, rest)) or 1
                for _ in range(total):
                    command = draw_command(name, draw, place)
                    kind, detail = run(command)
                    count[kind] += 1
                    if kind in ("traceback", "changed"):
                        wrong.append({"argv": command.argv, "kind": kind, "detail": detail[:300]})
                        print(kind, command.argv, detail[:300], file=sys.stderr)
                rows.append({"command": name, "configurations": total, **{k: count[k] for k in KINDS}, "wrong": wrong})
        finally:
            os.chdir(before)
    return rows


def table(rows: list[dict[str, Any]], command: str) -> str:
    """The rows as Markdown, with their sums."""
    lines = [f"Command: `{command}`.", "", "| command | configurations | accepted | refused | tracebacks | changed |"]
    lines.append("| --- |" + " ---: |" * 5)
    sums = {k: sum(row[k] for row in rows) for k in ("configurations", *KINDS)}
    shown = [*({**row, "command": f"`{row['command']}`"} for row in rows), {"command": "all", **sums}]
    lines += ["| " + " | ".join(str(row[k]) for k in ("command", "configurations", *KINDS)) + " |" for row in shown]
    return "\n".join(lines) + "\n"


def main(argv: list[str]) -> int:
    """Write docs/results/fuzz; 1 if anything went wrong."""
    from dar_ref.toy import commands as toy
    from tests.small_start import SMALL

    began, number, out = time.time(), int(argv[0]) if argv else 5200, Path("docs/results/fuzz").absolute()
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "exported"
        with mock.patch.object(toy, "start_config", return_value=SMALL):  # a small policy is as good
            toy.export("tiny", 0, Path(folder) / "cache", exported)
        rows = measure(number, exported)
    text = table(rows, "make fuzz")
    results.write_json(out / "results.json", {"rows": rows})
    results.write_text(out / "table.md", text)
    results.write_json(out / "run.json", results.run_info("make fuzz", began))
    print(text)
    return 1 if any(row["wrong"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
