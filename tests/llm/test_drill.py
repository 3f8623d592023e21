"""The drill of `tests.llm.drill`: SIGKILL during the final save, `--resume`, the same bytes. One kill of a LoRA run is
fast; the others are slow."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.llm.drill import POINTS, RUNS

ROOT = Path(__file__).parents[2]


def rows_of(exported, out, *options):
    command = [sys.executable, "-m", "tests.llm.drill", str(out), "--exported", str(exported), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((out / "results.json").read_text())["rows"]


def test_sigkill_during_the_final_save(exported, tmp_path):
    (row,) = rows_of(exported, tmp_path, "--runs", "LoRA", "--points", "0.1")
    assert row["same"] is True
    assert row["resumed from"] == "checkpoint-2"


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
def test_sigkill_at_any_part_of_the_final_save(exported, tmp_path, run):
    rows = rows_of(exported, tmp_path, "--runs", run)
    assert [row["same"] for row in rows] == [True] * len(POINTS)
    assert {row["resumed from"] for row in rows} == {"checkpoint-2", "the last step"}
