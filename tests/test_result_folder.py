"""A folder belongs to one process and to one command; results never stand beside the record of another run."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from dar_ref import results
from tests.file_faults import stopped_at

HOLD = "import sys, time; from dar_ref import results\nwith results.locked(__import__('pathlib').Path(sys.argv[1])):\n"
HOLD += "    print('held', flush=True); time.sleep(600)"


def test_the_second_process_is_told_of_the_first_and_a_dead_one_bars_nobody(tmp_path):
    out = tmp_path / "out"
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(out)], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    who = rf"process {first.pid} on {socket.gethostname()}, which began 20.*, writes to {out}; wait until it ends, or"
    with pytest.raises(ValueError, match=who), results.writing(out, "dar-ref x"):
        pytest.fail("wrote beside the other")
    first.send_signal(signal.SIGKILL)
    first.wait()
    first.stdout.close()
    assert (out / ".lock.holder").exists()  # what the dead one left
    with results.writing(out, "dar-ref x"):
        assert str(os.getpid()) in (out / ".lock.holder").read_text()
    assert [path.name for path in out.iterdir()] == ["run.json"]


def finished(out, command, number):
    with results.writing(out, command):
        results.write_json(out / "results.json", {"number": number})
        results.write_json(out / "run.json", results.run_info(command, 0.0) | {"number": number})


def test_a_finished_folder_is_not_overwritten_by_another_command(tmp_path):
    finished(tmp_path, "dar-ref toy run --seed 0", 1)
    before = (tmp_path / "results.json").read_bytes()
    message = "holds what `dar-ref toy run --seed 0` has written; remove it, or pass another --out"
    with pytest.raises(ValueError, match=message), results.writing(tmp_path, "dar-ref toy run --seed 1"):
        pytest.fail("wrote over the other")
    assert (tmp_path / "results.json").read_bytes() == before
    finished(tmp_path, "dar-ref toy run --seed 0", 2)
    assert json.loads((tmp_path / "results.json").read_text()) == {"number": 2}


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"command": "other (unfinished)"}'])
def test_results_of_an_unknown_or_another_command_are_kept(tmp_path, content):
    (tmp_path / "results.json").write_text("{}")
    if content:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(ValueError, match=r"holds what `(another command|other)` has written"):
        finished(tmp_path, "dar-ref x", 1)


@pytest.mark.parametrize("kept", ["checkpoint.pt", "checkpoints"])
def test_what_a_killed_run_can_go_on_from_is_not_written_over(tmp_path, kept):
    (tmp_path / kept).mkdir()
    with pytest.raises(ValueError, match="holds what `another command` has written"):
        finished(tmp_path, "dar-ref x", 1)


def test_an_out_that_is_no_folder_is_refused_by_its_name(tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(OSError, match=rf"{out} cannot be a folder to write to .*; pass another --out"):
            finished(out, "dar-ref x", 1)


def test_an_unfinished_folder_without_results_is_free(tmp_path):
    with results.writing(tmp_path, "one"):
        pass
    assert json.loads((tmp_path / "run.json").read_text())["command"] == "one (unfinished)"
    finished(tmp_path, "two", 1)


def test_a_kill_leaves_no_results_beside_the_record_of_another_run(tmp_path):
    seen = set()
    for at in itertools.count(1):
        out = tmp_path / str(at)
        finished(out, "one", 1)
        with stopped_at(at) as killed:
            finished(out, "one", 2)
        written = json.loads((out / "results.json").read_text()) if (out / "results.json").exists() else {}
        run = json.loads((out / "run.json").read_text())
        pair = written.get("number"), run.get("number")
        assert pair in {(1, 1), (None, None), (None, 1), (2, None), (2, 2)}
        seen.add(pair)
        if not killed:
            break
    assert seen == {(1, 1), (None, None), (None, 1), (2, None), (2, 2)}


def test_a_place_is_tried_without_leaving_a_file(tmp_path):
    results.check_writable(tmp_path / "new" / "file.json")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "old").write_text("kept")
    results.check_writable(tmp_path / "old")
    assert (tmp_path / "old").read_text() == "kept"
