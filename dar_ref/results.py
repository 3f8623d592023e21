"""Result files: `results.json` has what the seed determines, `run.json` beside it has everything else.

The same seed gives the same bytes of `results.json` on machines of one type (see `arithmetic`). Versions, commit,
machine and times are in `run.json`. Both files are written whole or not at all, so an interrupted run leaves no partial
file that could be taken for a result.
"""

import dataclasses
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from dar_ref import arithmetic

PACKAGES = ("dar-ref", "numpy", "scipy", "torch", "scikit-learn", "matplotlib", "python-flint", "transformers", "trl")


def check_writable(path: Path) -> None:
    """Raise OSError if no file can be written to `path`: before the work, not after it. Makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.open("a").close()


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all: to a temporary file first, which then replaces `path`.

    Raises:
        OSError: the folder is not writable.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as JSON with sorted keys, whole or not at all.

    Raises:
        ValueError: a NaN or an infinity, which JSON does not have.
        OSError: the folder is not writable.
    """
    write_text(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n")


def plain(config: Any) -> dict[str, Any]:
    """A configuration, a dataclass, as JSON can hold it: infinity becomes "inf"."""
    options = dataclasses.asdict(config)
    return {name: "inf" if value == math.inf else value for name, value in options.items()}


def run_info(command: str, started: float) -> dict[str, Any]:
    """The content of `run.json`: command, versions, commit, machine, and seconds since `started` (`time.time()`).

    The commit is that of the source tree of the package, with `-dirty` if it was edited; None outside a git checkout.
    The instruction set is included if torch is loaded.
    """
    machine = {"system": platform.system(), "architecture": platform.machine(), "cores": os.cpu_count()}
    if "torch" in sys.modules:
        machine["instruction_set"] = arithmetic.instruction_set()
    return {
        "command": command,
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "commit": _commit(),
        "machine": machine,
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(time.time() - started, 1),
        "platform": sys.platform,
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    here = Path(__file__).parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()
