"""Tables: our results with intervals, the paper's numbers beside them in columns of their own, never mixed.

A column whose title ends with "(paper)" holds the paper's numbers; every other one holds ours. Results are
`method -> task -> Interval`. What is absent says "not measured" (ours) or "not reported" (the paper's). The paper's
numbers are written here, once, and in no file of results.
"""

import math
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from dar_ref.evaluation.intervals import Interval, NotAnInterval

NOT_MEASURED = "not measured"
NOT_REPORTED = "not reported"
NOT_AN_INTERVAL = "not an interval"
AS_TEXT = {"\\": "&#92;", "|": "\\|", "<": "&lt;", "](": "]&#40;", "*": "&#42;", "`": "&#96;", "\n": " "}  # of Markdown


Measured = Interval | NotAnInterval | None


class Column(NamedTuple):
    """One task or metric of a table."""

    key: str  # in the results and in the paper's table
    title: str  # what the reader sees
    unit: str = ""  # after scaling, for example "%"
    scale: float = 1.0  # factor for our numbers, not the paper's: 100 to show shares in percent
    paper_decimals: int = 2  # as printed in the paper


class Reported(NamedTuple):
    """`source`: where and on what it was reported; `values`: method -> column key -> number, in the column's unit."""

    source: str
    values: Mapping[str, Mapping[str, float]]


class Table(NamedTuple):
    """`header`: column titles; `rows`: text, as many cells as the header; `notes`: lines below the table."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


# The paper's numbers, from the project's notes of arXiv 2602.11523: facts to set beside ours, on other models, data and
# judges. Methods and tasks carry the names of this package.
TABLE_1_COLUMNS = (
    Column("tldr", "TL;DR", "%", 100.0),
    Column("helpful", "Helpful", "%", 100.0),
    Column("harmless", "Harmless", "%", 100.0),
    Column("mean", "Mean", "%", 100.0),
)
TABLE_1 = Reported(
    source="arXiv 2602.11523, Table 1: Qwen2-7B, win rate against the reference by GPT-4-Turbo",
    values=MappingProxyType(
        {
            "dpo": MappingProxyType({"tldr": 67.17, "helpful": 81.34, "harmless": 77.91, "mean": 75.47}),
            "online_dpo": MappingProxyType({"tldr": 78.47, "helpful": 88.86, "harmless": 83.55, "mean": 83.63}),
            "grpo": MappingProxyType({"tldr": 83.03, "helpful": 86.93, "harmless": 85.50, "mean": 85.15}),
            "dar": MappingProxyType({"tldr": 98.27, "helpful": 93.16, "harmless": 85.84, "mean": 92.42}),
        }
    ),
)
TABLE_2_COLUMNS = (
    Column("score", "Score", "MT-Bench, 1 to 10", 1.0, 3),
    Column("lc_win_rate", "LC win rate", "%", 100.0, 2),
    Column("length", "Length", "", 1.0, 0),
)
TABLE_2 = Reported(
    source="arXiv 2602.11523, Table 2: Qwen2-7B-Instruct, MT-Bench score, LC win rate against pi_0, length",
    values=MappingProxyType(
        {
            "pi_0": MappingProxyType({"length": 1340.0}),
            "grpo": MappingProxyType({"score": 8.425, "lc_win_rate": 50.50, "length": 1559.0}),
            "rloo": MappingProxyType({"score": 8.409, "lc_win_rate": 52.25, "length": 1580.0}),
            "dar": MappingProxyType({"score": 8.538, "lc_win_rate": 54.17, "length": 1358.0}),
        }
    ),
)


def format_interval(interval: Interval, scale: float = 1.0) -> str:
    """`estimate [low, high]`, as many decimals as show the interval's width to two digits, at most six.

    With a width of zero, six significant digits are shown.

    Args:
        interval: finite, `low <= high`.
        scale: factor before printing, > 0.

    Returns:
        Text without unit.

    Raises:
        ValueError: an end that is not finite, or `low > high`.

    >>> format_interval(Interval(0.71234, 0.6891, 0.7389, 0.95), scale=100.0)
    '71.2 [68.9, 73.9]'
    """
    values = [scale * value for value in interval[:3]]
    width = values[2] - values[1]
    if not all(map(math.isfinite, values)) or width < 0.0:
        raise ValueError(f"{interval!r} is not a finite interval; pass finite low <= high, or None if not measured")
    if width == 0.0:
        estimate, low, high = (f"{value:z.6g}" for value in values)
    else:
        exponent = int(f"{width:.1e}".split("e")[1])  # rounded first: 0.0999... and 0.1 get the same digits
        decimals = min(max(1 - exponent, 0), 6)
        estimate, low, high = (f"{value:z.{decimals}f}" for value in values)
    return f"{estimate} [{low}, {high}]"


def comparison_table(
    results: Mapping[str, Mapping[str, Measured]],
    columns: Sequence[Column],
    *,
    ours: str,
    paper: Reported | None = None,
) -> Table:
    """Rows of methods; for each column our number and, where given, the paper's in a column of its own.

    Args:
        results: method -> column key -> interval; a key may be absent or None where nothing was measured. An interval
            without width is shown as its estimate alone, to four digits; what is `NotAnInterval` says so, and the
            reason stands in a note.
        columns: what to show, in order.
        ours: what our numbers are, for the note: model, judge, seeds, command.
        paper: the paper's numbers; methods of theirs that we lack get a row too, so that the gap shows.

    Returns:
        `Table(header, rows, notes)`: methods in the order of `results`, then the paper's other methods; the notes name
        the source of both kinds of columns and the level of the intervals.

    Raises:
        ValueError: no row, no column, a key in `results` that is not a column, intervals of different levels.

    >>> table = comparison_table({"dar": {}}, TABLE_1_COLUMNS[:1], ours="toy, 5 seeds", paper=TABLE_1)
    >>> table.header, table.rows[0]
    (('method', 'TL;DR, %', 'TL;DR, % (paper)'), ('dar', 'not measured', '98.27'))
    """
    reported = {} if paper is None else paper.values
    methods = list(dict.fromkeys([*results, *reported]))
    if not methods or not columns:
        raise ValueError(f"{len(methods)} methods and {len(columns)} columns: no table; pass at least one of each")
    _check_keys(results, columns)
    header = ["method"]
    for column in columns:
        title = f"{column.title}, {column.unit}" if column.unit else column.title
        header += [title] if paper is None else [title, f"{title} (paper)"]
    rows = []
    for method in methods:
        row = [method]
        for column in columns:
            row.append(_measured(results.get(method, {}).get(column.key), column))
            if paper is not None:
                row.append(_reported(reported.get(method, {}).get(column.key), column))
        rows.append(tuple(row))
    notes = [f"ours: {ours}{_level(results)}", *([] if paper is None else [f"paper: {paper.source}"])]
    measured = [value for row in results.values() for value in row.values()]
    notes += dict.fromkeys(f"{NOT_AN_INTERVAL}: {v.reason}" for v in measured if isinstance(v, NotAnInterval))
    return Table(tuple(header), tuple(rows), tuple(notes))


def markdown(table: Table) -> str:
    """The table in Markdown, first column left, others right, with the notes below; ends with a newline. A name in it
    is text, whatever it looks like: no HTML, no link, no emphasis, no column of its own."""
    lines = [[_as_text(cell) for cell in row] for row in (table.header, *table.rows)]
    rule = ["---", *["---:"] * (len(table.header) - 1)]
    body = [f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:])]
    return "\n".join([*body, "", *(f"{_as_text(note)}  " for note in table.notes)]).rstrip() + "\n"


def _as_text(cell: str) -> str:
    for mark, written in AS_TEXT.items():
        cell = cell.replace(mark, written)
    return re.sub(r"(?<!\w)_|_(?!\w)", "&#95;", cell)  # inside a word it marks nothing


def plain_text(table: Table) -> str:
    """The table for a terminal: aligned columns two spaces apart, with the notes below; ends with a newline."""
    lines = [table.header, *table.rows]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    padded = [
        [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        for line in lines
    ]
    padded.insert(1, ["-" * width for width in widths])
    return "\n".join(["  ".join(cells).rstrip() for cells in padded] + ["", *table.notes]).rstrip() + "\n"


def _measured(interval: Measured, column: Column) -> str:
    if interval is None:
        return NOT_MEASURED
    if isinstance(interval, NotAnInterval):
        return f"{column.scale * interval.estimate:z.4g} ({NOT_AN_INTERVAL})"
    if interval.low == interval.high:  # a count, or equal in every seed: no interval to show
        return f"{column.scale * interval.estimate:z.4g}"
    return format_interval(interval, column.scale)


def _reported(value: float | None, column: Column) -> str:
    return NOT_REPORTED if value is None else f"{value:.{column.paper_decimals}f}"


def _check_keys(results: Mapping[str, Mapping[str, Measured]], columns: Sequence[Column]) -> None:
    known = [column.key for column in columns]
    for method, row in results.items():
        for key in row:
            if key not in known:
                raise ValueError(f"results[{method!r}] has {key!r}, not a column; choose from {', '.join(known)}")


def _level(results: Mapping[str, Mapping[str, Measured]]) -> str:
    """The note on the level of the intervals; empty if nothing was measured."""
    levels = {interval.level for row in results.values() for interval in row.values() if interval is not None}
    if len(levels) > 1:
        raise ValueError(f"intervals of different levels {sorted(levels)} in one table; compute all at one level")
    return "".join(f"; intervals: {100 * level:g} %" for level in levels)
