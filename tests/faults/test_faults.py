"""A few of the faults of `make faults`, and that the trial sees what goes wrong."""

import os

import pytest

from tests.faults.inject import (
    CHANGED,
    GOOD,
    NO_WAY_ON,
    ONE_LINE,
    SAME,
    UNEXPLAINED,
    damaged,
    half_done,
    spread,
    stopped,
    untouched,
)
from tests.faults.work import WORKS, Work, files

BY_NAME = {work.name: work for work in WORKS}


@pytest.mark.parametrize("name", ["toy run", "the endpoint", pytest.param("evaluate", marks=pytest.mark.slow)])
def test_a_work_that_is_stopped_goes_on_and_what_is_damaged_is_refused(tmp_path, name):
    work = BY_NAME[name]
    operations = untouched(work, tmp_path)
    assert operations > 5
    for fault in ("SIGKILL", "full disk"):
        for at in spread(operations, 3):
            found = stopped(work, tmp_path, fault, at)
            assert found.verdict == SAME, found
    (tmp_path / "half").mkdir(exist_ok=True)
    left = half_done(work, tmp_path, operations // 2)
    found = [damaged(work, tmp_path, damage, left[0]) for damage in ("cut in half", "one bit changed", "removed")]
    assert all(outcome.verdict in GOOD for outcome in found), found


def writes(folder, text):
    (folder / "partial").write_text(text)
    (folder / "partial").rename(folder / "result")
    return 0


def appends(folder):
    with (folder / "partial").open("a") as file:  # what was there before a kill stays
        file.write("one")
    return writes(folder, (folder / "partial").read_text())


def forgets(folder):
    if (folder / "begun").exists():
        raise RuntimeError("it was begun before")
    (folder / "begun").touch()
    return writes(folder, "one")


def crashes(folder):
    try:
        return writes(folder, "one")
    except OSError:
        os._exit(9)


@pytest.mark.parametrize(
    ("do", "fault", "at", "verdict"),
    [
        (lambda folder: writes(folder, "one"), "SIGKILL", 2, SAME),
        (lambda folder: writes(folder, "one"), "full disk", 2, SAME),
        (appends, "SIGKILL", 2, CHANGED),
        (forgets, "SIGKILL", 2, NO_WAY_ON),
        (crashes, "full disk", 1, UNEXPLAINED),
    ],
)
def test_the_trial_sees_how_a_work_ends(tmp_path, do, fault, at, verdict):
    work = Work("made up", lambda _folder: None, do, lambda folder: files(folder, "result"))
    assert untouched(work, tmp_path) >= 2
    assert stopped(work, tmp_path, fault, at).verdict == verdict


def test_a_damage_may_be_refused_and_a_kill_may_not(tmp_path):
    def careful(folder):
        if (folder / "state").exists() and (folder / "state").read_text() != "good":
            raise ValueError("state is not good; remove it")
        with (folder / "state").open("w") as file:
            (folder / "other").touch()  # a kill here leaves an empty state
            file.write("good")
        return writes(folder, "one")

    work = Work("made up", lambda _folder: None, careful, lambda folder: files(folder, "result"))
    operations = untouched(work, tmp_path)
    (state,) = (path for path in half_done(work, tmp_path, operations) if path.name == "state")
    assert damaged(work, tmp_path, "cut in half", state).verdict == ONE_LINE
    assert stopped(work, tmp_path, "SIGKILL", 2).verdict == NO_WAY_ON
