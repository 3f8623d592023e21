"""A folder per piece of work, named by a hash of its inputs, and made only once.

A folder that exists is complete, and holds the hash of every file: one that was damaged later is refused, not used.
While it is being made it has a temporary name, so an interrupted one is never read; the work starts again. If two
processes make the same folder at once, they make the same bytes; the second copy is dropped.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers

from dar_ref import arithmetic, results

T = TypeVar("T")
HASHES = "hashes.json"
VERSION = 5  # raise it with any change that alters numbers or files: folders of an older version are then made anew


def content_key(inputs: Mapping[str, Any]) -> str:
    """Hash of `inputs` (JSON values) and of all else that can change the results: library versions and the instruction
    set, which changes the last digits and so where training ends."""
    versions = {
        "version": VERSION,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "instruction_set": arithmetic.instruction_set(),
    }
    text = json.dumps({**inputs, "versions": versions}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def made(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return `folder`. If it does not exist, let `make` fill it first.

    Raises:
        OSError: the folder cannot be written, or a file is in its place.
    """
    if folder.is_dir():
        return folder
    if folder.exists():
        raise FileExistsError(f"{folder} is a file where the cache has a folder; remove it, or pass another --cache")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        make(partial)
        results.write_json(partial / HASHES, _hashes(partial))
        os.replace(partial, folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def read(folder: Path, read_it: Callable[[Path], T]) -> T:
    """What `read_it` makes of a complete folder.

    Raises:
        ValueError: a file of the folder was damaged or removed later; the message names the folder to remove.
    """
    try:
        written = json.loads((folder / HASHES).read_text(encoding="utf-8"))
        if changed := [name for name, digest in _hashes(folder).items() if written.pop(name, None) != digest]:
            raise ValueError(f"{changed[0]} was changed")
        if written:
            raise ValueError(f"{next(iter(written))} is missing")
        return read_it(folder)
    except Exception as error:  # of json, safetensors and transformers: they have no base in common
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
        raise ValueError(
            f"{folder} in the cache cannot be read ({reason}); remove this folder, and it is made again"
        ) from error


def _hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file, by its place in the folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != HASHES)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
