"""A folder per piece of work, named by a hash of its inputs, and made only once.

A folder that exists is complete. While it is being made it has a temporary name, so an interrupted one is never read;
the work starts again. If two processes make the same folder at once, they make the same bytes; the second copy is
dropped.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

from dar_ref import arithmetic

VERSION = 4  # raise it with any change that alters numbers or files: folders of an older version are then made anew


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
        OSError: the folder cannot be written.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        make(partial)
        os.replace(partial, folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder
