"""A folder for each piece of work, named by the content of what went into it: made once, whole or not at all.

A folder that exists is finished. While it is being made it has another name, so one that was cut off is never read; it
is begun again. Two processes that make the same folder at once make the same bytes, and the second one's are dropped.
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

VERSION = 3  # raise it with any change that alters numbers or files: folders of an older version are then made anew


def content_key(inputs: Mapping[str, Any]) -> str:
    """Name for the work that `inputs` (what JSON can hold) determine, together with the versions that could change
    it and the instruction set, which changes the last digits and with them where training ends."""
    versions = {
        "version": VERSION,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "instruction_set": arithmetic.instruction_set(),
    }
    text = json.dumps({**inputs, "versions": versions}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def made(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return `folder`, and let `make` fill it first if there is none.

    Raises:
        OSError: the place cannot be written.
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
