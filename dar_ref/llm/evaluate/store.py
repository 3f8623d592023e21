"""Rows that cost something, completions and verdicts: kept as soon as they are there, and never used if they changed.

    NAME.partial.jsonl   while the work goes on: a line for each batch, with the hash of its rows
    NAME.jsonl           when it is done: a line for each row
    NAME.json            the mark of a finished work: what it was made from (`head`), and the hash of NAME.jsonl

A work that was stopped goes on after its last whole batch. A line that was cut off or damaged is left out, and its rows
are made again. A finished file that was changed, or that was made from something else, is refused by name.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dar_ref import results

Row = dict[str, Any]
MARK, ROWS, PARTIAL = ".json", ".jsonl", ".partial.jsonl"


class Finished(NamedTuple):
    """A finished work: its rows, their hash, and what they were made from."""

    rows: list[Row]
    sha256: str
    head: dict[str, Any]


class RowFile:
    """The rows of one work, by their `key`; a new work, one that was stopped, or one that has finished.

    Args:
        path: of the files, without their endings.
        head: what the rows are made from; JSON.
        key: the columns that name a row.

    Raises:
        ValueError: the files there are damaged, or were made from something else.
    """

    def __init__(self, path: Path, head: Mapping[str, Any], key: Sequence[str]) -> None:
        self.path, self.head, self.key = path, dict(head), tuple(key)
        self.rows: dict[tuple[Any, ...], Row] = {}
        self.finished = _there(path, MARK)
        if self.finished:
            done = read_rows(path)
            _compare(path, done.head, self.head)
            self._take(done.rows)
        elif _there(path, PARTIAL):
            self._resume()

    def add(self, rows: Iterable[Row]) -> None:
        """Keep the rows of a batch, on disk before this returns."""
        batch = list(rows)
        self._take(batch)
        partial = _named(self.path, PARTIAL)
        partial.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("a", encoding="utf-8") as file:
            file.write(self._line(batch))
            file.flush()
            os.fsync(file.fileno())

    def finish(self, order: Iterable[tuple[Any, ...]]) -> None:
        """Write the finished files, the rows in this order of their keys, and then their mark."""
        text = "".join(json.dumps(self.rows[key], allow_nan=False) + "\n" for key in order)
        results.write_text(_named(self.path, ROWS), text)
        results.write_json(_named(self.path, MARK), {"head": self.head, "sha256": _sha256(text)})
        _named(self.path, PARTIAL).unlink(missing_ok=True)
        self.finished = True

    def reopen(self, without: Iterable[tuple[Any, ...]]) -> None:
        """Let a work that has finished, or was stopped, go on without the rows of these keys."""
        for key in list(without):
            del self.rows[key]
        results.write_text(_named(self.path, PARTIAL), self._line(list(self.rows.values())))
        _named(self.path, MARK).unlink(missing_ok=True)
        self.finished = False

    def _take(self, rows: Iterable[Row]) -> None:
        self.rows |= {tuple(row[name] for name in self.key): row for row in rows}

    def _line(self, batch: list[Row]) -> str:
        content = json.dumps([self.head, batch], allow_nan=False)
        return json.dumps([_sha256(content), content]) + "\n"

    def _resume(self) -> None:
        """Take the whole lines, and leave out the others for good."""
        partial = _named(self.path, PARTIAL)
        lines = partial.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)  # all in ASCII
        batches = [batch for line in lines if (batch := _whole(line)) is not None]
        for head, rows in batches:
            _compare(self.path, head, self.head)
            self._take(rows)
        if len(batches) < len(lines):
            results.write_text(partial, "".join(self._line(rows) for _, rows in batches))


def read_rows(path: Path) -> Finished:
    """The rows of a finished work.

    Raises:
        ValueError: it is not finished, or was changed afterwards.
        OSError: it cannot be read.
    """
    mark, file = _named(path, MARK), _named(path, ROWS)
    again = f"remove {mark} and {file} and run the command that wrote them again"
    try:
        content = json.loads(mark.read_text(encoding="utf-8"))
        head, sha256 = dict(content["head"]), str(content["sha256"])
        text = file.read_text(encoding="utf-8")
        if _sha256(text) != sha256:
            raise ValueError("its rows are not those that were written")
        return Finished([json.loads(line) for line in text.splitlines()], sha256, head)
    except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
        raise ValueError(f"{file} is damaged or not finished ({error}); {again}") from None


def names(folder: Path) -> list[str]:
    """Names of the finished works in a folder, sorted."""
    marks = [path.relative_to(folder).with_suffix("") for path in folder.rglob(f"*{MARK}")]
    return sorted(path.as_posix() for path in marks)


def _named(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _there(path: Path, ending: str) -> bool:
    return _named(path, ending).exists()


def _whole(line: str) -> tuple[dict[str, Any], list[Row]] | None:
    """Head and rows of a line of a partial file; None if it was cut off or damaged."""
    try:
        sha256, content = json.loads(line)
        head, rows = json.loads(content)
        return (head, rows) if line.endswith("\n") and _sha256(content) == sha256 else None
    except (ValueError, TypeError, AttributeError):
        return None


def _compare(path: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    if changed := sorted(name for name in there.keys() | here.keys() if there.get(name) != here.get(name)):
        shown = ", ".join(f"{name} = {there.get(name)!r:.60} there and {here.get(name)!r:.60} here" for name in changed)
        raise ValueError(
            f"{path} was made from something else: {shown}; put it back, take another name or --out, or remove"
            f" {path.name}.*"
        )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
