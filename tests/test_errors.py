"""Every command ends in one way: one line and an exit status, and no traceback unless it is asked for."""

import json

import pytest

from dar_ref import cli
from dar_ref.errors import exit_status
from dar_ref.theory import kl


def ending(error, capsys, debug=False):
    def work():
        raise error

    status = exit_status("dar-ref x", work, debug)
    return status, capsys.readouterr().err


def test_work_that_ends_gives_its_status():
    assert [exit_status("dar-ref x", lambda status=status: status) for status in (0, 1, 2)] == [0, 1, 2]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device", "out"), "dar-ref x: [Errno 28] No space left on device: 'out'\n"),
        (RuntimeError("out of memory"), "dar-ref x: RuntimeError: out of memory; --debug shows the traceback\n"),
        (KeyError("a"), "dar-ref x: KeyError: 'a'; --debug shows the traceback\n"),
        (AssertionError(), "dar-ref x: AssertionError: no more is said; --debug shows the traceback\n"),
        (
            ModuleNotFoundError("no", name="trl.a"),
            "dar-ref x: the package 'trl' is missing; pip install \"dar-ref[llm]\"\n",
        ),
        (
            ModuleNotFoundError("no", name="yaml"),
            "dar-ref x: the package 'pyyaml' is missing; pip install \"dar-ref[llm]\"\n",
        ),
        (ModuleNotFoundError("no", name="nosuch"), "dar-ref x: the package 'nosuch' is missing; pip install nosuch\n"),
    ],
    ids=repr,
)
def test_what_stops_a_command_is_one_line(capsys, error, line):
    status, said = ending(error, capsys)
    assert status == 2
    assert said.startswith(line)
    assert said.count("\n") == 1


def test_our_own_refusals_stand_alone_and_those_of_libraries_have_type_and_place(capsys):
    assert exit_status("x", lambda: int(kl(0.5, 1.0))) == 2
    said = capsys.readouterr().err
    assert said.startswith("x: ")
    assert "Error" not in said
    assert exit_status("x", lambda: json.loads("{")) == 2
    assert capsys.readouterr().err.startswith("x: JSONDecodeError: Expecting")


@pytest.mark.parametrize("address", ["https://me:secret@host/x", "http://me:se@cret@host:80/y", "s3://secret@bucket"])
def test_no_command_repeats_a_password_in_an_address(capsys, address):
    _, said = ending(ValueError(f"{address} is not a folder; write to me@host or see https://host/a@b"), capsys)
    assert "secret" not in said
    assert "cret@" not in said
    assert "write to me@host or see https://host/a@b;" in said


def test_ctrl_c_is_one_line(capsys):
    assert ending(KeyboardInterrupt(), capsys) == (130, "dar-ref x: stopped by Ctrl-C\n")


def test_debug_shows_the_traceback(capsys):
    for error in (ValueError("a"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            ending(error, capsys, debug=True)
    with pytest.raises(FileNotFoundError):
        cli.main(["--debug", "train", "--config", "no-such-file"])
    assert cli.main(["train", "--config", "no-such-file"]) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["verify", "--cases", "1_000"], "'1_000' is not a whole number; write decimal digits"),
        (["verify", "--seed", "010"], "'010' is not a whole number"),
        (["demo", "--out", ""], "'' names no file or folder; write . for this folder"),
        (["toy", "exact", "--out", "a\0b"], "names no file or folder"),
        (["plan", "--tokens-per-second", "1e400"], "'1e400' is beyond the numbers of float64"),
        (["train", "--config", "toy_cpu", "--out", " "], "' ' names no file or folder"),
    ],
)
def test_arguments_are_read_as_they_are_written(capsys, arguments, said):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
