"""300 of the configurations of `make fuzz`: no command ends in a library's traceback, none changes what was written."""

import random

import pytest

from tests.fuzz import table
from tests.fuzz.commands import COMMANDS, Command, draw_command, prepare, run
from tests.fuzz.values import WRONG, Written, same

NUMBER = 300


def test_every_configuration_is_taken_as_written_or_refused_in_our_words(exported):
    rows = table.measure(NUMBER, exported, seed=1)
    assert [row["command"] for row in rows] == list(COMMANDS)
    assert sum(row["configurations"] for row in rows) >= NUMBER - len(rows)
    assert [wrong for row in rows for wrong in row["wrong"]] == []
    assert sum(row["accepted"] for row in rows) > NUMBER / 10
    assert sum(row["refused"] for row in rows) > NUMBER / 10


def test_the_fuzzer_sees_a_value_that_is_changed(exported, tmp_path, monkeypatch):
    prepare(tmp_path, exported)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dar_ref.scalars.read_number", float)  # as it was: 1e400 is inf
    changed = run(Command(["toy", "run", "w_clip=1e400"], {"w_clip": Written("1e400", WRONG)}))
    assert changed.kind == "changed"
    monkeypatch.setattr("dar_ref.scalars.fraction", lambda *_, **__: {}["x"])
    assert run(Command(["toy", "run"], {})).kind == "traceback"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_seed_draws_the_same_command_lines(name, tmp_path):
    first, second = (
        [draw_command(name, draw, tmp_path) for _ in range(5)] for draw in (random.Random(3), random.Random(3))
    )
    assert first == second


@pytest.mark.parametrize(
    ("given", "found", "equal"),
    [
        (1, 1.0, True),
        (1, True, False),
        ("5", 5, False),
        (0.0, False, False),
        ([1, 2], (1, 2), True),
        (WRONG, "x", False),
    ],
)
def test_what_counts_as_the_same_value(given, found, equal):
    assert same(given, found) is equal
