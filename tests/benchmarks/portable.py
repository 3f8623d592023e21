"""The notebooks and the tests that train, on every instruction set that this machine has: `make portable`.

    python -m tests.benchmarks.portable [--out out/portable] [--results docs/results/portable]

One seed gives other digits on another processor (`dar_ref.arithmetic`), so no assertion may depend on them. A row of
the table is an instruction set, a column is a piece of work: the tests that train, and each notebook. Notebooks with a
seed run with three seeds. Every piece starts with an empty cache, in its own process. Finished pieces are kept in
`--out`, so a second call resumes where the first was stopped. Writes results.json, run.json and table.md.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from rich.progress import track

from dar_ref import arithmetic, results

ROOT = Path(__file__).parents[2]
TRAINING_TESTS = ("tests/bandit", "tests/toy", "tests/llm", "tests/minimal")
SEEDS = (0, 1, 2)
WAYS = {  # name -> environment
    "as it is": {},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "no vectors, oneDNN SSE4.1": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
    "two threads": {"OMP_NUM_THREADS": "2"},
    "portable": arithmetic.PORTABLE,
}
STORY = re.compile(r"^story: (.*)$", re.MULTILINE)  # the line with which a notebook sums up its run


class Piece(NamedTuple):
    """One piece of work: the tests that train, or a notebook with a seed; None is the notebook's own seed."""

    way: str
    work: str
    seed: int | None = None

    @property
    def name(self) -> str:
        """Its file name."""
        return re.sub(r"\W+", "-", "-".join(map(str, self)))


def pieces() -> list[Piece]:
    """All pieces of work, the longest training first."""
    notebooks = sorted((path.name for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")), reverse=True)
    seeded = [name for name in notebooks if _names_a_seed(ROOT / "notebooks" / name)]
    works = [Piece("", name, seed) for name in seeded for seed in (None, *SEEDS)]
    works += [Piece("", name) for name in (*notebooks, "tests") if name not in seeded]
    both = [work._replace(way=way) for work in works for way in WAYS]
    return [piece for piece in both if piece.work == "tests" or piece.way != "two threads"]  # notebooks take one


def _names_a_seed(path: Path) -> bool:
    cells = nbformat.read(path, as_version=4).cells
    return any("parameters" in cell.metadata.get("tags", []) for cell in cells)


def do(piece: Piece) -> dict[str, Any]:
    """Run one piece in its own process, on a copy of the notebooks without a cache."""
    environment = {"OMP_NUM_THREADS": "1"} | os.environ | WAYS[piece.way] | {"PYTHONPATH": str(ROOT)}
    began = time.time()
    with tempfile.TemporaryDirectory() as name:
        shutil.copytree(ROOT / "notebooks", Path(name, "notebooks"))
        Path(name, "docs").symlink_to(ROOT / "docs")
        if piece.work == "tests":
            words, folder = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *TRAINING_TESTS], ROOT
        else:
            seed = [] if piece.seed is None else [f"SEED={piece.seed}"]
            words, folder = ["notebooks/execute.py", piece.work, *seed], Path(name)
        command = [sys.executable, *words]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        story = None if piece.work == "tests" else _story(Path(name, "notebooks", piece.work))
    text = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)  # without colours
    failed = re.findall(r"^FAILED (\S+)|^-+> +\d+ (.*)$", text, re.MULTILINE)  # a test, or the line of a notebook
    failed = ["".join(found) for found in failed] or text.strip().splitlines()[-1:]
    return {
        "passed": done.returncode == 0,
        "story": story if done.returncode == 0 else None,
        "failed": failed if done.returncode else [],
        "seconds": round(time.time() - began, 1),
    }


def _story(path: Path) -> str | None:
    """The line of a notebook's output that sums up its run."""
    outputs = [o for cell in nbformat.read(path, as_version=4).cells for o in cell.get("outputs", [])]
    found = [STORY.search(output.get("text", "")) for output in outputs]
    return next((match.group(1) for match in found if match), None)


def table(rows: list[dict[str, Any]]) -> str:
    """Passed or failed for every instruction set and piece of work, and the notebooks' stories, in Markdown."""
    works = sorted(dict.fromkeys(_title(row) for row in rows))
    by_place = {(row["way"], _title(row)): row for row in rows}
    lines = ["| | " + " | ".join(works) + " |", "| --- |" + " --- |" * len(works)]
    for way in dict.fromkeys(row["way"] for row in rows):
        found = [by_place.get((way, work)) for work in works]
        cells = ["" if row is None else "passed" if row["passed"] else "FAILED" for row in found]
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    lines += ["", "| | seed | what the run of the notebook did |", "| --- | --- | --- |"]
    for row in rows:
        if row["story"]:
            seed = "the page's" if row["seed"] is None else row["seed"]
            lines.append(f"| {row['way']} | {seed} | {row['story']} |")
    return "\n".join(lines) + "\n"


def _title(row: dict[str, Any]) -> str:
    work = row["work"].partition("_")[0]
    return work if row["seed"] is None else f"{work}, seed {row['seed']}"


def main() -> int:
    """Do the missing pieces and write the table. Return 1 if a piece failed, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/portable"), help="finished pieces (default: %(default)s)")
    parser.add_argument("--table", action="store_true", help="run nothing, only write the table of finished pieces")
    parser.add_argument("--results", type=Path, default=Path("docs/results/portable"), help="folder of the table")
    arguments = parser.parse_args()
    began, rows = time.time(), []
    for piece in track(pieces(), description="portable"):
        kept = arguments.out / f"{piece.name}.json"
        if not kept.exists():
            if arguments.table:
                continue
            results.write_json(kept, piece._asdict() | do(piece))
        rows.append(json.loads(kept.read_text(encoding="utf-8")))
    without_times = [{name: value for name, value in row.items() if name != "seconds"} for row in rows]
    results.write_json(arguments.results / "results.json", {"rows": without_times})
    rows.sort(key=lambda row: list(WAYS).index(row["way"]))
    seconds = {f"{row['way']}, {_title(row)}": row["seconds"] for row in rows}
    results.write_json(arguments.results / "run.json", results.run_info("make portable", began) | {"seconds": seconds})
    results.write_text(arguments.results / "table.md", table(rows))
    print(table(rows))
    for row in rows:
        if not row["passed"]:
            print(f"{row['way']}, {_title(row)}: {row['failed']}")
    return 0 if all(row["passed"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
