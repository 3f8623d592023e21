"""The drill of `tests.llm.drill`: SIGKILL during the final save, `--resume`, the same bytes. One kill of a LoRA run is
fast; the others are slow."""

import pytest

from tests.llm.drill import RUNS, drill


def test_sigkill_during_the_final_save(exported, tmp_path):
    (row,) = drill("LoRA", exported, tmp_path, points=(0.3,))
    assert row["same"]
    assert row["resumed from"] in ("checkpoint-2", "the last step")


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS)
def test_sigkill_at_any_part_of_the_final_save(exported, tmp_path, run):
    rows = drill(run, exported, tmp_path)
    assert all(row["same"] for row in rows), rows
    assert {row["resumed from"] for row in rows} == {"checkpoint-2", "the last step"}
