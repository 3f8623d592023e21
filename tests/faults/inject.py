"""Put one fault into a piece of work, let it go on, and judge how it ends."""

import errno
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from dar_ref import errors
from tests import file_faults
from tests.faults.work import Work

REFUSED = 2  # the exit status of what is refused in one line


class Outcome(NamedTuple):
    """How a work ended after a fault. `verdict`: one of `VERDICTS`; `said`: its last words."""

    work: str
    fault: str
    place: str
    verdict: str
    said: str


SAME = "went on, and ended the same"
ONE_LINE = "refused in one line"
CHANGED = "ended otherwise, without a word"
UNEXPLAINED = "a traceback, or no explanation"
NO_WAY_ON = "did not go on afterwards"
VERDICTS = (SAME, ONE_LINE, CHANGED, UNEXPLAINED, NO_WAY_ON)
GOOD = (SAME, ONE_LINE)


def _killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _full_disk() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


STOPS: dict[str, Callable[[], None]] = {"SIGKILL": _killed, "full disk": _full_disk}


def in_a_process(work: Work, folder: Path, said: Path, at: int = 0, stop: Callable[[], None] | None = None) -> int:
    """Do the work in a child process, stopped at file operation `at` if that is not 0. Returns its status, as
    `os.waitstatus_to_exitcode` gives it; what it printed is in `said`, and the number of operations in `said.count`."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        status = 3
        try:
            output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            counted = file_faults.arm(at or sys.maxsize, stop or _killed)
            status = errors.exit_status("work", lambda: work.do(folder))
            file_faults.disarm()
            said.with_suffix(".count").write_text(str(counted.seen))
        except BaseException:
            file_faults.disarm()
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def untouched(work: Work, folder: Path) -> int:
    """Prepare the work and do it once in `folder/whole`. Returns the number of its file operations."""
    work_folder = folder / "whole"
    (folder / "prepared").mkdir(parents=True)
    work.prepare(folder / "prepared")
    shutil.copytree(folder / "prepared", work_folder)
    status = in_a_process(work, work_folder, folder / "said")
    assert status == 0, (folder / "said").read_text()
    return int((folder / "said.count").read_text())


def stopped(work: Work, folder: Path, fault: str, at: int) -> Outcome:
    """Stop the work at one operation, and let it go on."""
    trial = _fresh(folder)
    status = in_a_process(work, trial, folder / "said", at, STOPS[fault])
    words = _last_line(folder / "said")
    if fault == "full disk" and (status not in (0, REFUSED) or _traceback(folder / "said")):
        return Outcome(work.name, fault, f"operation {at}", UNEXPLAINED, words)
    return _gone_on(work, folder, trial, fault, f"operation {at}", may_refuse=False)


def _gone_on(work: Work, folder: Path, trial: Path, fault: str, place: str, *, may_refuse: bool) -> Outcome:
    status = in_a_process(work, trial, folder / "said")
    words = _last_line(folder / "said")
    if status == 0:
        verdict = SAME if work.ended(trial) == work.ended(folder / "whole") else CHANGED
    elif _traceback(folder / "said") or status != REFUSED:
        verdict = UNEXPLAINED
    else:
        verdict = ONE_LINE if may_refuse else NO_WAY_ON
    return Outcome(work.name, fault, place, verdict, words)


# --- damage -----------------------------------------------------------------------------------------------------------


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _emptied(path: Path) -> None:
    os.truncate(path, 0)


def _one_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], None]] = {
    "cut in half": _cut,
    "emptied": _emptied,
    "one bit changed": _one_byte,
    "removed": Path.unlink,
    "a folder in its place": _a_folder,
}


def half_done(work: Work, folder: Path, at: int) -> list[Path]:
    """Kill the work at operation `at`, keep what it left in `folder/half`, and list its files."""
    half = folder / "half"
    shutil.rmtree(half, ignore_errors=True)
    shutil.copytree(folder / "prepared", half)
    in_a_process(work, half, folder / "said", at, _killed)
    return sorted(p.relative_to(half) for p in half.rglob("*") if p.is_file() and p.stat().st_size and not _lock(p))


def damaged(work: Work, folder: Path, damage: str, file: Path) -> Outcome:
    """Damage one file of what a killed work left, and let it go on: it may refuse, but never end otherwise."""
    trial = _fresh(folder, "half")
    DAMAGES[damage](trial / file)
    return _gone_on(work, folder, trial, damage, str(file), may_refuse=True)


def _lock(path: Path) -> bool:
    return path.name.startswith(".lock")


def _fresh(folder: Path, source: str = "prepared") -> Path:
    trial = folder / "trial"
    shutil.rmtree(trial, ignore_errors=True)
    shutil.copytree(folder / source, trial)
    return trial


def _last_line(said: Path) -> str:
    lines = [line for line in said.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _traceback(said: Path) -> bool:
    return "Traceback (most recent call last)" in said.read_text(errors="replace")


def spread(count: int, wanted: int) -> Iterator[int]:
    """`wanted` numbers of 1 to `count`, evenly spread, both ends included; all of them if there are fewer."""
    if count <= wanted:
        yield from range(1, count + 1)
    else:
        yield from sorted({1 + round(i * (count - 1) / (wanted - 1)) for i in range(wanted)})
