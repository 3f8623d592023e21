"""Which files a user's reward function reads: a word list, a table, a module that it imports by a computed name. Python
tells of every file that is opened. A checkpoint keeps what they held, and a run that goes on says what has changed."""

import contextlib
import hashlib
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

READ: dict[str, str] = {}
"""SHA-256 of each file, by its path, as it was when it was first read."""
_OPENED: ContextVar[set[str] | None] = ContextVar("opened", default=None)
_ELSEWHERE = ("/proc/", "/dev/", "/sys/", sysconfig.get_path("stdlib"), str(Path(__file__).parents[2]))
_INSTALLED: list[bool] = []


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Note in `READ` which files the block opens for reading; installed packages and this one left out."""
    if not _INSTALLED:
        sys.addaudithook(_note)  # for good: Python takes none back
        _INSTALLED.append(True)
    opened = set[str]()
    token = _OPENED.set(opened)
    try:
        yield
    finally:
        _OPENED.reset(token)
        for path in sorted(opened - READ.keys()):
            if digest := _digest(path):
                READ[path] = digest


def other_files(read: Mapping[str, str]) -> list[str]:
    """The files of `read` that hold something else now, or are gone."""
    return [path for path, digest in read.items() if _digest(path) != digest]


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "open" or (opened := _OPENED.get()) is None or not isinstance(arguments[0], str | bytes):
        return
    path, mode, flags = os.path.abspath(os.fsdecode(arguments[0])), arguments[1] or "", arguments[2] or 0
    if set(mode) & set("wax+") or flags & (os.O_WRONLY | os.O_RDWR):
        return
    if path.endswith(".pyc") and "__pycache__" in path:
        path = importlib.util.source_from_cache(path)
    if "site-packages" not in path and not path.startswith(_ELSEWHERE):
        opened.add(path)


def _digest(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
