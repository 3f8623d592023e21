"""The five-minute run of the page "Full-size training": its files, its printed lines, and a table of its metrics.

    dar-ref toy export out/toy/export
    dar-ref train --config toy_cpu
    python docs/first_run.py out/train

Copies results.json and run.json of the run to docs/results/first-run, and writes there the files that pages include.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from dar_ref import results
from dar_ref.llm.logs import short_line

HERE = Path(__file__).parent / "results" / "first-run"


def logged(content: dict[str, Any], run: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a run's log with their times."""
    times = {row["step"]: row for row in run["times"]}
    return [row | times.get(row["step"], {}) for row in content["log"] if "loss" in row]


def printed(content: dict[str, Any], run: dict[str, Any]) -> str:
    """The lines that `dar-ref train` prints, apart from its progress bar."""
    lines = [line for row in logged(content, run) if (line := short_line(row["step"], row))]
    return "\n".join([*lines, f"dar: {content['steps']} steps; policy in out/train/policy"]) + "\n"


def table(content: dict[str, Any], run: dict[str, Any]) -> str:
    """Every logged metric at the start, in the middle and at the end of the run, in Markdown."""
    rows = logged(content, run)
    chosen = [rows[0], rows[len(rows) // 2], rows[-1]]
    lines = ["| figure | " + " | ".join(f"step {row['step']}" for row in chosen) + " |", "| --- | ---: | ---: | ---: |"]
    for name in sorted(set(chosen[0]) - {"step"}):
        lines += [f"| `{name}` | " + " | ".join(f"{row[name]:z.4g}" for row in chosen) + " |"]
    return "\n".join(lines) + "\n"


def main(folder: Path) -> None:
    """Write docs/results/first-run from the folder of a run."""
    content, run = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("results.json", "run.json"))
    HERE.mkdir(parents=True, exist_ok=True)
    for name in ("results.json", "run.json"):
        shutil.copyfile(folder / name, HERE / name)
    results.write_text(HERE / "printed.txt", printed(content, run))
    results.write_text(HERE / "table.md", table(content, run))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
