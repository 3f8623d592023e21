"""Rows of JSON files, and a dataset of rows, with every value as it was written.

`datasets.load_dataset` guesses one type for each column of a JSON file, and so does `Dataset.from_list`: a text that
looks like a date becomes a date, 2^64 + 1 a float, and every mapping gets the keys of all others. Here the rows are
read by Python's own reader, and a column that Arrow would change is kept as JSON text, and read back from it whenever a
row is taken.
"""

import gzip
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset

from dar_ref.llm.data.paper import Row


def json_rows(path: Path) -> Iterator[Row]:
    """The rows of a .jsonl or .json file, one a line or all in one list; either may end in .gz.

    Raises:
        ValueError: what is no row, with file and line.
    """
    number = 0
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8-sig") as file:
            is_list = file.read(1000).lstrip().startswith("[")
            file.seek(0)
            if is_list:
                for row in _parsed(file.read(), str(path)):
                    number += 1
                    yield _checked(row, f"{path}, row {number}")
                return
            for line in file:
                number += 1
                if line.strip():
                    place = f"{path}, line {number}"
                    yield _checked(_parsed(line, place), place)
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}, after line {number}: {error}; write it whole, as UTF-8") from None


def as_dataset(rows: Sequence[Row]) -> Dataset:
    """A dataset that gives the rows as they are; a column that a row lacks is None in it."""
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    changed = [name for name, values in columns.items() if _arrow_changes(name, values)]
    dataset = Dataset.from_dict(columns | {name: [json.dumps(value) for value in columns[name]] for name in changed})
    return dataset.with_transform(partial(_from_text, changed)) if changed else dataset


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_mapping, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place}: {error}; write JSON") from None


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return mapping


def _finite(text: str) -> float:
    if math.isinf(float(text)):
        raise ValueError(f"{text} is beyond the numbers of float64")
    return float(text)


def _checked(row: Any, place: str) -> Row:
    if not isinstance(row, dict):
        raise ValueError(f"{place} is a {type(row).__name__}; write a mapping from column names to values")
    return row


def _arrow_changes(name: str, values: list[Any]) -> bool:
    try:
        stored = list(Dataset.from_dict({name: values})[name])
    except Exception:  # of pyarrow and datasets: mixed types, numbers beyond int64, half characters
        return True
    return _text(stored) != _text(values)


def _text(values: list[Any]) -> str:
    return json.dumps(values, default=repr)  # tells 1, 1.0 and true apart, and sees the order of keys


def _from_text(names: Sequence[str], batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    return {
        name: [json.loads(value) for value in values] if name in names else values for name, values in batch.items()
    }
