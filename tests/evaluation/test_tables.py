"""Tables: whole renderings, the rule for digits, and that the paper's numbers stay in their own columns."""

import math
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dar_ref.evaluation import (
    TABLE_1,
    TABLE_1_COLUMNS,
    TABLE_2,
    TABLE_2_COLUMNS,
    Column,
    Interval,
    Reported,
    Table,
    bootstrap,
    comparison_table,
    format_interval,
    markdown,
    plain_text,
)

COLUMNS = (Column("win", "Win rate", "%", 100.0, 1), Column("length", "Length", "", 1.0, 0))
RESULTS = {
    "dar": {"win": Interval(0.71234, 0.6891, 0.7389, 0.95), "length": Interval(31.04, 29.9, 32.1, 0.95)},
    "a|b": {"win": None},
}
MIXED = {"dar": {"win": Interval(0, 0, 0, 0.9), "length": Interval(0, 0, 0, 0.95)}}
REPORTED = Reported("a paper", {"grpo": {"win": 83.0}, "dar": {"win": 98.25, "length": 1358.0}})


def test_markdown_as_a_whole():
    assert markdown(comparison_table(RESULTS, COLUMNS, ours="toy, 5 seeds", paper=REPORTED)) == (
        "| method | Win rate, % | Win rate, % (paper) | Length | Length (paper) |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        "| dar | 71.2 [68.9, 73.9] | 98.2 | 31.0 [29.9, 32.1] | 1358 |\n"
        "| a\\|b | not measured | not reported | not measured | not reported |\n"
        "| grpo | not measured | 83.0 | not measured | not reported |\n"
        "\n"
        "ours: toy, 5 seeds; intervals: 95 %  \n"
        "paper: a paper\n"
    )


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("<script>alert(1)</script>", "&lt;script>alert(1)&lt;/script>"),
        ("a|b", "a\\|b"),
        ("a\\|b", "a&#92;\\|b"),
        ("two\nlines", "two lines"),
        ("[text](javascript:x)", "[text]&#40;javascript:x)"),
        ("[red]x[/]", "[red]x[/]"),
    ],
)
def test_a_name_is_text_in_markdown(name, written):
    lines = markdown(comparison_table({name: {}}, COLUMNS, ours=name)).splitlines()
    assert lines[2] == f"| {written} | not measured | not measured |"
    assert lines[-1] == f"ours: {written}"


def test_plain_text_as_a_whole():
    assert plain_text(comparison_table(RESULTS, COLUMNS, ours="toy")) == (
        "method        Win rate, %             Length\n"
        "------  -----------------  -----------------\n"
        "dar     71.2 [68.9, 73.9]  31.0 [29.9, 32.1]\n"
        "a|b          not measured       not measured\n"
        "\n"
        "ours: toy; intervals: 95 %\n"
    )


def test_nothing_measured_names_no_level():
    table = comparison_table({"dar": {}}, COLUMNS, ours="toy")
    assert table.notes == ("ours: toy",)
    assert table.rows == (("dar", "not measured", "not measured"),)


def test_the_papers_figures_never_stand_in_our_columns():
    table = comparison_table({}, TABLE_1_COLUMNS, ours="nothing yet", paper=TABLE_1)
    assert [row[0] for row in table.rows] == ["dpo", "online_dpo", "grpo", "dar"]
    for title, cells in zip(table.header[1:], zip(*(row[1:] for row in table.rows), strict=True), strict=True):
        assert title.endswith("(paper)") != all(cell == "not measured" for cell in cells)
        assert title.endswith("(paper)") == all(re.fullmatch(r"\d\d\.\d\d", cell) is not None for cell in cells)
    assert table.notes[1].startswith("paper: arXiv 2602.11523, Table 1")


def test_the_papers_figures_as_listed():
    """The paper's means over the tasks equal the means of its numbers, to the last printed digit."""
    assert {method: tuple(row.values()) for method, row in TABLE_1.values.items()} == {
        "dpo": (67.17, 81.34, 77.91, 75.47),
        "online_dpo": (78.47, 88.86, 83.55, 83.63),
        "grpo": (83.03, 86.93, 85.50, 85.15),
        "dar": (98.27, 93.16, 85.84, 92.42),
    }
    for row in TABLE_1.values.values():
        assert row["mean"] == pytest.approx((row["tldr"] + row["helpful"] + row["harmless"]) / 3, abs=0.0051)
    rows = comparison_table({}, TABLE_2_COLUMNS, ours="nothing yet", paper=TABLE_2).rows
    assert [(row[0], *row[2::2]) for row in rows] == [
        ("pi_0", "not reported", "not reported", "1340"),
        ("grpo", "8.425", "50.50", "1559"),
        ("rloo", "8.409", "52.25", "1580"),
        ("dar", "8.538", "54.17", "1358"),
    ]


def test_the_papers_figures_cannot_be_changed():
    for reported in (TABLE_1, TABLE_2):
        with pytest.raises(TypeError):
            reported.values["dar"] = {}
        with pytest.raises(TypeError):
            reported.values["dar"]["length"] = 0.0


@pytest.mark.parametrize(
    ("interval", "scale", "text"),
    [
        ((0.5, 0.45, 0.549), 100.0, "50.0 [45.0, 54.9]"),
        ((0.5, 0.45, 0.55), 1.0, "0.50 [0.45, 0.55]"),
        ((1358.2, 1300.0, 1420.0), 1.0, "1358 [1300, 1420]"),
        ((1358.2, 1352.0, 1364.0), 1.0, "1358 [1352, 1364]"),
        ((1358.24, 1354.1, 1362.0), 1.0, "1358.2 [1354.1, 1362.0]"),
        ((0.3, 0.2, 0.3), 1.0, "0.30 [0.20, 0.30]"),  # a width of 0.09999999999999998
        ((0.0, -0.04, 0.94), 1.0, "0.00 [-0.04, 0.94]"),
        ((-0.0004, -5.0, 4.0), 1.0, "0.0 [-5.0, 4.0]"),
        ((1.0, 1.0 - 1e-9, 1.0 + 1e-9), 1.0, "1.000000 [1.000000, 1.000000]"),
        ((2 / 3, 2 / 3, 2 / 3), 100.0, "66.6667 [66.6667, 66.6667]"),
    ],
)
def test_digits_follow_the_width(interval, scale, text):
    assert format_interval(Interval(*interval, 0.95), scale) == text


@given(st.floats(-1e6, 1e6), st.floats(1e-4, 1e6))
def test_what_is_printed_is_within_a_tenth_of_the_width(middle, width):
    interval = Interval(middle, middle - width / 2, middle + width / 2, 0.95)
    printed = [float(part) for part in re.split(r" \[|, |\]", format_interval(interval))[:3]]
    off = 0.051 * (interval.high - interval.low)  # half a unit of the second digit of a width of at least 1.0
    assert printed == pytest.approx(interval[:3], rel=0.0, abs=off)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: comparison_table({}, COLUMNS, ours="x"), "0 methods and 2 columns: no table"),
        (lambda: comparison_table(RESULTS, (), ours="x"), "2 methods and 0 columns: no table"),
        (lambda: comparison_table({"dar": {"wim": None}}, COLUMNS, ours="x"), "'wim', not a column; choose from"),
        (lambda: comparison_table(MIXED, COLUMNS, ours="x"), r"different levels \[0.9, 0.95\] in one table"),
        (lambda: format_interval(Interval(math.nan, 0.0, 1.0, 0.95)), "is not a finite interval"),
        (lambda: format_interval(Interval(0.0, -math.inf, 1.0, 0.95)), "is not a finite interval"),
        (lambda: format_interval(Interval(0.0, 1.0, 0.0, 0.95)), "low <= high"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_importing_the_layer_loads_nothing_heavy():
    heavy = ("torch", "matplotlib", "sklearn", "scipy.optimize", "scipy.stats", "dar_ref.losses")
    code = f"import sys, dar_ref.evaluation; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_what_is_not_an_interval_says_so_and_why():
    alike = bootstrap([1.0] * 8)
    table = comparison_table({"dar": {"tldr": alike}}, TABLE_1_COLUMNS[:1], ours="eight prompts")
    assert table.rows[0][1] == "100 (not an interval)"
    assert table.notes[-1] == "not an interval: the statistic is the same in each of 2000 resamples of 8 units"
    assert "intervals: 95 %" in table.notes[0]


def test_a_name_marks_no_emphasis_and_no_code():
    shown = markdown(Table(("name",), (("*b*",), ("_b_",), ("`b`",), ("w_clip 0.1",)), ()))
    assert re.findall("^[|] (.*) [|]$", shown, re.MULTILINE)[2:] == [
        "&#42;b&#42;",
        "&#95;b&#95;",
        "&#96;b&#96;",
        "w_clip 0.1",
    ]
