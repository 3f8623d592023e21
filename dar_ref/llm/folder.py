"""The folder that a training run writes to: one run at a time, and no run over what another has written.

    .lock       held by the run that writes here; the system gives it back when its process ends, see `results.locked`
    pi_0/       weights that were drawn, `--random-init`
    checkpoints/  policy/  results.json  run.json

Policy and results of a run that finished stay until the longer run that goes on from it has finished too. Then
`results.json` is removed before the policy is replaced, and `run.json` is written last: a kill at any moment leaves no
file of one run beside those of another.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dar_ref import results

MARK = "pi_0.json"
"""A checkpoint without this file was cut off while it was written."""
PARTIAL = ".partial"


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in `folder` by their steps, those that were cut off included."""
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdecimal()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")))


def check_folder(out: Path, resume: bool) -> None:
    """Raise ValueError if a run would write over what another has written."""
    if checkpoints(out / "checkpoints") and not resume:
        raise ValueError(f"{out} holds checkpoints of a run; pass --resume to go on with it, or another --out")
    finished = any((out / name).exists() for name in ("results.json", "policy", "checkpoint.pt"))
    if finished and not _has_whole_checkpoint(out):
        what = "no whole checkpoint to go on from" if resume else "no checkpoints"
        raise ValueError(f"{out} holds what a run has written, and {what}; pass another --out, or remove it")


def _has_whole_checkpoint(out: Path) -> bool:
    return any((path / MARK).exists() for path in checkpoints(out / "checkpoints"))


def first_process(work: Callable[[], Any]) -> Any:
    """Do `work` in the first process only; all return what it returns, or raise the ValueError or OSError that stops
    it."""
    from accelerate import PartialState  # here, since it imports torch: `check_folder` comes before that
    from accelerate.utils import broadcast_object_list

    outcome: list[Any] = [None, None]
    if PartialState().is_main_process:
        try:
            outcome[0] = work()
        except (ValueError, OSError) as error:
            outcome[1] = error
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


@contextlib.contextmanager
def held(out: Path, resume: bool) -> Iterator[None]:
    """Keep `out` from other runs, see `results.locked`. What a killed run has left half written is removed."""

    def take() -> None:
        lock.enter_context(results.locked(out))
        check_folder(out, resume)  # again: another run may have ended by now
        of_this_run = _has_whole_checkpoint(out)
        for name in (f"policy{PARTIAL}", f"pi_0{PARTIAL}", *([] if of_this_run else ["pi_0"])):
            shutil.rmtree(out / name, ignore_errors=True)

    with contextlib.ExitStack() as lock:
        first_process(take)
        yield


def save_policy(trainer: Any, folder: Path) -> None:
    """Write the policy whole or not at all: under another name first."""
    from accelerate import PartialState

    partial = folder.with_name(folder.name + PARTIAL)
    trainer.save_model(str(partial))
    trainer.create_model_card(model_name=folder.resolve().parent.name)  # TRL writes it beside the checkpoints
    if trainer.is_world_process_zero():
        shutil.copy(Path(trainer.args.output_dir) / "README.md", partial)
    PartialState().wait_for_everyone()
    if trainer.is_world_process_zero():
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
