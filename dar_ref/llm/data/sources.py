"""Open data and check it row by row: a dataset of the paper, another one on the hub, or your own files.

Every row gets TRL's columns: `prompt`, for pairs also `chosen` and `rejected`, and the other columns, for reward
functions. A prompt is text or a list of messages; `dar_ref.llm.data.load` renders, counts and filters. A bad row in
your own data is an error that names the row. A bad row in a dataset of the paper is left out and counted.
"""

import glob
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import load_dataset

from dar_ref.llm.data.json_rows import json_rows
from dar_ref.llm.data.paper import DATASETS, Hub, Messages, Row

TRL_NAMES = frozenset(
    {
        *("prompt", "prompts", "prompt_ids", "completion", "completions", "completion_ids", "chosen", "rejected"),
        *("messages", "image", "images", "environment", "environments", "trainer_state", "log_extra", "log_metric"),
    }
)  # names that TRL itself reads from a row or passes to reward functions


@dataclass(frozen=True)
class Source:
    """Rows and how to convert them.

    name: for messages; columns: required columns; rows: opens the rows, with `streaming` without loading all of them;
    convert: gives TRL's columns of a row, or the reason to leave it out; its second argument, the row's place, is for
    errors; plain: makes the usual text form of a conversation; clashes: columns whose names TRL uses itself.
    """

    name: str
    columns: tuple[str, ...]
    rows: Callable[[bool], Iterator[Row]]
    convert: Callable[[Row, str], Row | str]
    plain: Callable[[Messages], str] | None = None
    clashes: frozenset[str] = frozenset()


def prompt_source(name: str, split: str, column: str = "prompt") -> Source:
    """Source of prompts: a name in `DATASETS`, a file, folder or pattern, or a dataset on the hub.

    Raises:
        FileNotFoundError: no such source.
        ValueError: no such split, or files of different kinds.
    """
    if name in DATASETS:
        return _paper_source(DATASETS[name].prompts, split, column)
    return Source(name, (column,), _own_rows(name, split), own_prompt(column), clashes=TRL_NAMES - {column})


def pair_source(name: str, split: str, column: str = "prompt") -> Source:
    """Source of preference pairs; otherwise like `prompt_source`."""
    if name in DATASETS:
        return _paper_source(DATASETS[name].preferences, split, column)
    return Source(name, (column, "chosen", "rejected"), _own_rows(name, split), own_pair(column))


def rated_source(name: str, split: str, column: str = "prompt") -> Source:
    """Source of rated completions: your own rows, with `completion`, `reward` and, where known, `old_logps`."""
    return Source(name, (column, "completion", "reward"), _own_rows(name, split), own_rated(column))


def _paper_source(hub: Hub, split: str, column: str) -> Source:
    if column != "prompt":
        raise ValueError(f"prompt_column = {column!r} is for your own data; {hub.path} has its own rule: leave it out")
    name, part = split.partition("[")[::2]
    if name not in hub.splits:
        raise ValueError(f"split = {split!r}: {hub.path} has {', '.join(hub.splits)}; choose one of them")
    if part and hub.split_column:
        raise ValueError(f"split = {split!r}: {hub.path} has its splits in a column; set data.limit to take a part")

    def rows(streaming: bool) -> Iterator[Row]:
        if hub.split_column is None:
            yield from _read(hub.path, split, streaming, data_dir=hub.data_dir)
            return
        for row in _read(hub.path, "train", streaming, data_dir=hub.data_dir):
            if {"val": "validation"}.get(row[hub.split_column], row[hub.split_column]) == split:
                yield row

    place = f"{hub.path}/{hub.data_dir}" if hub.data_dir else hub.path
    return Source(f"{place}, split {split}", hub.columns, rows, lambda row, _: hub.convert(row), hub.plain)


def _own_rows(name: str, split: str) -> Callable[[bool], Iterator[Row]]:
    if files := local_files(name):
        if split != "train":
            raise ValueError(
                f"split = {split!r}: {name} is files, which have no splits; leave it out, and pass other files to"
                " evaluate on as data.eval_prompts, or data.limit to take a part"
            )
        if kind(files[0]) == "json":
            return lambda _: (row for file in files for row in json_rows(file))
        paths = [str(file) for file in files]
        return lambda streaming: _read("parquet", "train", streaming, data_files=paths)
    if kind(name) or not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise FileNotFoundError(
            f"{name!r} is not a file, folder or pattern, and none of {', '.join(DATASETS)}; pass one of these or a"
            " dataset of the hub as owner/name (`dar-ref toy export` writes the prompts of a toy task)"
        )
    return lambda streaming: _read(name, split, streaming)


def _read(path: str, split: str, streaming: bool, **options: Any) -> Iterator[Row]:
    what = ", ".join(options.get("data_files", [f"{path}, split {split}"]))
    try:
        # a stream cannot be sliced; only the first rows are read from it
        split = split.partition("[")[0] if streaming else split
        yield from load_dataset(path, split=split, streaming=streaming, **options)
    except ConnectionError as error:
        raise ConnectionError(
            f"{what}: no such file here, and the hub is out of reach ({error}); check the name, download the data where"
            " there is a network, or pass a file"
        ) from error
    except (
        Exception
    ) as error:  # errors of datasets, json and pyarrow have no common base; an empty file gives StopIteration
        raise ValueError(f"{what} cannot be read, {type(error).__name__}: {error}") from error


KINDS = {".jsonl": "json", ".json": "json", ".jsonl.gz": "json", ".json.gz": "json", ".parquet": "parquet"}


def kind(path: str | Path) -> str | None:
    """Kind of a file, "json" or "parquet", from its name; None for other files."""
    name = str(path).lower()
    return next((KINDS[ending] for ending in KINDS if name.endswith(ending)), None)


def local_files(name: str) -> list[Path] | None:
    """The files of a path, a folder or a pattern, sorted; None if there is no such thing.

    Raises:
        ValueError: there are no JSONL or parquet files, files of both kinds, or a file of another kind.
    """
    path = Path(name).expanduser()
    if path.is_file():
        files = [path]
    elif path.is_dir():
        files = [file for file in path.iterdir() if kind(file)]
    elif glob.has_magic(name):
        files = [Path(file) for file in glob.glob(str(path), recursive=True) if Path(file).is_file()]
    else:
        return None
    kinds = {kind(file) for file in files}
    if not files or None in kinds or len(kinds) > 1:
        found = "none" if not files else "files of other kinds" if None in kinds else "both kinds"
        raise ValueError(f"{name} must name files of one kind that end in {', '.join(KINDS)}; there are {found}")
    return sorted(files)


def own_prompt(column: str) -> Callable[[Row, str], Row]:
    """For your own data: `column` becomes the prompt, every other column is kept."""

    def convert(row: Row, place: str) -> Row:
        rest = {name: value for name, value in row.items() if name not in TRL_NAMES and name != column}
        return {"prompt": check_prompt(row[column], f"{place}, column {column!r}"), **rest}

    return convert


def own_pair(column: str) -> Callable[[Row, str], Row]:
    """For your own data: a prompt, `chosen` and `rejected`; a response is text or one message."""

    def convert(row: Row, place: str) -> Row:
        responses = {name: check_response(row[name], f"{place}, column {name!r}") for name in ("chosen", "rejected")}
        return {"prompt": check_prompt(row[column], f"{place}, column {column!r}"), **responses}

    return convert


def own_rated(column: str) -> Callable[[Row, str], Row]:
    """For your own data: a prompt, its `completion` (text or one message) and what is known of it."""

    def convert(row: Row, place: str) -> Row:
        completion = check_response(row["completion"], f"{place}, column 'completion'")
        known = {name: row[name] for name in ("reward", "old_logps") if row.get(name) is not None}
        return {"prompt": check_prompt(row[column], f"{place}, column {column!r}"), "completion": completion, **known}

    return convert


def check_prompt(value: Any, place: str) -> str | Messages:
    """The prompt; messages lose fields that are None. A ValueError or TypeError names the place in the data."""
    if value is None or value in ("", []) or (isinstance(value, str) and not value.strip()):
        raise ValueError(f"{place}: the prompt is empty; remove the row")
    if isinstance(value, str):
        return _whole(value, place)
    if not isinstance(value, list):
        raise TypeError(f"{place}: {value!r:.80} is a {type(value).__name__}; a prompt is text or a list of messages")
    messages = [check_message(message, place) for message in value]
    if messages[-1]["role"] == "assistant":
        raise ValueError(f"{place}: the last message is the assistant's, so there is nothing to answer; remove it")
    return messages


def check_message(message: Any, place: str) -> dict[str, str]:
    """The message, which needs a role and a text; fields that are None are removed.

    Raises:
        TypeError: no mapping with role and text.
        ValueError: an empty text, or half a character; `place` is where in the data.
    """
    if not isinstance(message, Mapping) or not all(isinstance(message.get(k), str) for k in ("role", "content")):
        raise TypeError(f"{place}: {message!r:.80} is not a message; write {{'role': 'user', 'content': 'text'}}")
    if not message["content"].strip():
        raise ValueError(f"{place}: a message of {message['role']!r} is empty; remove the row")
    _whole(message["content"], place)
    return {key: value for key, value in message.items() if value is not None}


def check_response(value: Any, place: str) -> str:
    """The text of a response. It may be empty: then only its EOS is learned.

    Raises:
        TypeError: neither text nor one message.
        ValueError: half a character; `place` is where in the data.
    """
    if isinstance(value, list) and len(value) == 1:
        value = check_message(value[0], place)["content"]
    if not isinstance(value, str):
        raise TypeError(f"{place}: {value!r:.80} is a {type(value).__name__}; a response is text or one message")
    return _whole(value, place)


def _whole(text: str, place: str) -> str:
    """The text; ValueError if it has half a character, which JSON can write and no tokenizer reads."""
    if half := re.search("[\ud800-\udfff]", text):
        raise ValueError(f"{place}: character {half.start() + 1} is half of one ({half.group()!a}); write it whole")
    return text
