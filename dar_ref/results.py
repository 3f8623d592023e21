"""Result files: `results.json` has what the seed determines, `run.json` beside it has everything else.

The same seed gives the same bytes of `results.json` on machines of one type (see `arithmetic`). Versions, commit,
machine and times are in `run.json`. Both files are written whole or not at all, so an interrupted run leaves no partial
file that could be taken for a result. A folder belongs to one command, and to one process at a time: see `writing`.
"""

import contextlib
import dataclasses
import json
import math
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dar_ref import arithmetic

PACKAGES = ("dar-ref", "numpy", "scipy", "torch", "scikit-learn", "matplotlib", "python-flint", "transformers", "trl")
LOCK = ".lock"
UNFINISHED = " (unfinished)"
"""End of the command in `run.json` while it runs."""


def check_writable(path: Path) -> None:
    """Raise OSError if no file can be written to `path`: before the work, not after it. Makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    path.open("a").close()
    if new:
        path.unlink()  # work that is stopped leaves no empty file


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep `out` from other processes. The lock is the system's: it ends with this process, however that ends.

    Raises:
        ValueError: another process has it; says which.
        OSError: the folder is not writable.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{out} cannot be a folder to write to ({error}); pass another --out") from None
    lock, holder = FileLock(out / LOCK, timeout=0), out / f"{LOCK}.holder"
    try:
        lock.acquire()
    except Timeout:
        who = holder.read_text(encoding="utf-8") if holder.exists() else "another process"
        raise ValueError(f"{who} writes to {out}; wait until it ends, or pass another --out") from None
    try:
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        write_text(holder, f"process {os.getpid()} on {socket.gethostname()}, which began {since},")
        yield
    finally:
        holder.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # where a file that is open cannot be removed, it stays
            (out / LOCK).unlink()  # before the release; filelock sees that a file which it opened is no longer there
        lock.release()


@contextlib.contextmanager
def writing(out: Path, command: str, result: str = "results.json", replaces: str | None = None) -> Iterator[None]:
    """Hold `out` while `command` writes its results there.

    The results of an older run of the same command are removed first, and `run.json` says that this one is unfinished:
    a kill at any moment leaves no `results.json` of one run beside the `run.json` of another.

    Args:
        out: folder, made if it is missing.
        command: the command line, with all that its results depend on.
        result: the file whose presence says that a run has finished.
        replaces: what commands begin with whose results may go: those made in seconds from files that stay.

    Raises:
        ValueError: another process writes there, or another command has finished, or can be resumed.
        OSError: the folder is not writable.
    """
    command = arithmetic.as_run(command)
    with locked(out):
        there = _command(out)
        own = there == command or (replaces is not None and there.startswith(arithmetic.as_run(replaces)))
        if not own and any((out / name).exists() for name in (result, "checkpoint.pt", "checkpoints")):
            raise ValueError(f"{out} holds what `{there}` has written; remove it, or pass another --out")
        begin(out, command, result)
        yield


def begin(out: Path, command: str, result: str = "results.json") -> None:
    """Remove the results in `out`, and let `run.json` say that `command` has not finished."""
    (out / result).unlink(missing_ok=True)
    write_json(out / "run.json", run_info(command + UNFINISHED, time.time()))


def _command(out: Path) -> str:
    """The command that `run.json` in `out` tells of."""
    try:
        content = json.loads((out / "run.json").read_text(encoding="utf-8"))
        return str(content["command"]).removesuffix(UNFINISHED)
    except (OSError, ValueError, KeyError, TypeError):
        return "another command"


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
        "command": arithmetic.as_run(command),
        "python": platform.python_version(),
        "packages": packages(),
        "commit": _commit(),
        "machine": machine,
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(time.time() - started, 1),
        "platform": sys.platform,
    }


def packages() -> dict[str, str]:
    """The installed versions of what results depend on."""
    return {name: version for name in PACKAGES if (version := _version(name))}


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
