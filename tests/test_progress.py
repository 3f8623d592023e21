"""Where a command stands, where nobody looks at a terminal: plain lines on stderr."""

import pytest

from dar_ref import cli, progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test moves on by hand."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_stage_is_said_when_it_begins_and_then_every_ten_seconds(clock, capsys):
    with progress.reporting() as report:
        for second in range(26):
            clock[0] = second
            report("first", second, 26)
        report("second")
        clock[0] = 40.0
        report("second")
    assert capsys.readouterr().err.splitlines() == [
        "first, 0 of 26, 0 s",
        "first, 10 of 26, 10 s",
        "first, 20 of 26, 20 s",
        "second, 25 s",
        "second, 40 s",
    ]


def test_items_are_counted_before_and_after(capsys):
    seen = []
    assert list(progress.stepwise(lambda *at: seen.append(at), "x", ("a", "b"))) == ["a", "b"]
    assert seen == [("x", 0, 2), ("x", 1, 2), ("x", 2, 2)]
    assert capsys.readouterr().err == ""


def test_on_a_terminal_there_are_bars_and_no_lines(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress.reporting() as report:
        report("not counted")
        report("counted", 1, 2)
        assert [(t.description, t.completed, t.total) for t in report.bars.tasks] == [
            ("not counted", 1, 1),
            ("counted", 1, 2),
        ]
    said = capsys.readouterr().err
    assert "counted" in said
    assert ", 1 of 2, 0 s" not in said


def test_verify_says_where_it_stands(clock, monkeypatch, capsys):
    case = iter(range(10**6))
    monkeypatch.setattr("dar_ref.verify.run._judge", lambda *_: (clock.__setitem__(0, next(case)), (0.0, 0.0, None))[1])
    assert cli.main(["verify", "--cases", "2"]) == 0
    said = capsys.readouterr()
    assert said.err.splitlines()[0] == "random bandits, 0 of 2, 0 s"
    assert said.err.splitlines()[1].startswith("random bandits, 1 of 2, ")
    header = next(line for line in said.out.splitlines() if "cases" in line)
    assert header.split() == ["claim", "cases", "float64", "certified", "verdict"]
    assert "float64: worst error per unit of scale" in " ".join(said.out.split())
