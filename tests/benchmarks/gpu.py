"""All that a GPU is wanted for, in one command with a limit of minutes: `make gpu`.

    update   DAR's update and TRL's, 0.5B and 7B, see `gpu_update`
    step     whole steps of the 7B configuration, DAR and GRPO, compared with the plan, see `gpu_step`
    real     SmolLM2-135M-Instruct on real text with batches of 128, see `dar_ref.real_model.experiment`

Each piece is done in parts. A part whose result is there is not done again, so a second call goes on; one that would
not end in the minutes that are left is not begun; one that is begun is never stopped. Results, with versions, commit
and machine, are written after every part, to a folder for each piece.

    python -m tests.benchmarks.gpu --minutes 9                     what `make gpu` does
    python -m tests.benchmarks.gpu --rehearse --out FOLDER         the same with tiny sizes on a CPU
"""

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dar_ref import results
from dar_ref.errors import exit_status, in_one_line, number, path
from dar_ref.real_model import experiment
from tests.benchmarks import gpu_rehearsal
from tests.benchmarks.gpu_pieces import Real, Step
from tests.benchmarks.gpu_update import CASES, Update
from tests.benchmarks.update_model import REAL_MODEL

REHEARSAL = "python -m tests.benchmarks.gpu --rehearse --out out/gpu-rehearsal"
NO_GPU = f"no NVIDIA GPU can be used here (torch.cuda.is_available() is False); `{REHEARSAL}` tries all on a CPU"
PIECES = ("update", "step", "real")


class Outcome(NamedTuple):
    """Parts that were not begun, with the reason, and parts that failed."""

    late: dict[str, str]
    failed: dict[str, str]


def main(argv: Sequence[str] | None = None) -> int:
    """Do what fits into the minutes; returns the exit status, 1 if a part failed."""
    parser = argparse.ArgumentParser(
        prog="make gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--minutes", type=number, default=9.0, help="no part is begun that would end later (%(default)s)"
    )
    parser.add_argument("--pieces", nargs="+", choices=PIECES, default=PIECES, help="only these")
    parser.add_argument("--out", type=path, help="of results (default: docs/results/gpu)")
    parser.add_argument("--work", type=path, default=Path("out/gpu"), help="of models and checkpoints (%(default)s)")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes on a CPU; needs --out, and works there")
    arguments = parser.parse_args(argv)
    return exit_status("make gpu", lambda: run(arguments))


def run(arguments: argparse.Namespace) -> int:
    """Plan, do, and say what is there."""
    began, command = time.time(), "make gpu" if not arguments.rehearse else REHEARSAL
    device = "CPU, a rehearsal" if arguments.rehearse else gpu_name()
    if arguments.rehearse and not arguments.out:
        raise ValueError("--rehearse writes no results of this project: pass --out FOLDER")
    out = (arguments.out or Path("docs/results/gpu")).resolve()
    check_device(out, device)
    with results.locked(out):
        if arguments.rehearse:
            pieces = gpu_rehearsal.pieces(out, command)
        else:
            pieces = full_size(out, arguments.work.resolve(), command)
        pieces = [piece for piece in pieces if piece.title in arguments.pieces]
        say_plan(pieces, arguments.minutes, device)
        about = {"device": device}
        results.write_json(out / "run.json", results.run_info(command + results.UNFINISHED, began) | about)
        try:
            outcome = do_all(pieces, began + 60.0 * arguments.minutes)
        finally:
            for piece in pieces:
                piece.end()
        about |= {"missing": outcome.late, "failed": outcome.failed}
        results.write_json(out / "run.json", results.run_info(command, began) | about)
    return say_end(pieces, outcome, out)


def gpu_name() -> str:
    """The GPU's name. Of several only the first is used: transformers would spread a batch over all.

    Raises:
        OSError: there is none.
    """
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    import torch

    if not torch.cuda.is_available():
        raise OSError(NO_GPU)
    return torch.cuda.get_device_name()


def check_device(out: Path, device: str) -> None:
    """Raise ValueError if the results that are there are another machine's: ratios of two machines mean nothing."""
    file = out / "run.json"
    there = json.loads(file.read_text(encoding="utf-8"))["device"] if file.is_file() else device
    if there != device:
        raise ValueError(f"{out} has results of {there!r} and this is {device!r}; pass another --out")


def full_size(out: Path, work: Path, command: str) -> list[Any]:
    """The pieces of a GPU. Without the real model its piece is left out, with a message."""
    pieces: list[Any] = [
        Update(CASES, 3, out, work, apart=True, command=command),
        Step(["--steps", "4"], 240.0, out),
    ]
    if not REAL_MODEL.is_dir():
        print(f"real: left out, {REAL_MODEL} is not there; `make real-model` writes it", flush=True)
        return pieces
    on_gpu = ("training.use_cpu=false", "training.per_device_train_batch_size=128", "training.save_steps=10")
    return [*pieces, Real(Path.cwd(), experiment.planned(5), (20, 100, 300), on_gpu, (45.0, 2.0), out, work)]


def say_plan(pieces: Sequence[Any], minutes: float, device: str) -> None:
    """What is to be done, and how long it may take."""
    print(f"{device}: {minutes:g} minutes", flush=True)
    for piece in pieces:
        missing = piece.missing()
        what = (
            f"{len(missing)} parts to do, about {piece.expected() / 60.0:.1f} minutes"
            if missing
            else "all there, nothing to do"
        )
        print(f"  {piece.title:8}{what}", flush=True)


def do_all(pieces: Sequence[Any], end: float) -> Outcome:
    """Do all parts that end before `end`, by the clock `time.time()`."""
    outcome = Outcome({}, {})
    for piece in pieces:
        for part in piece.missing():
            name, left, needs = f"{piece.title}: {part}", end - time.time(), piece.seconds(part)
            if needs > left:
                outcome.late[name] = f"would take about {needs:.0f} s, and {max(left, 0.0):.0f} s are left"
                continue
            print(f"{name} ... ({needs:.0f} s of {left:.0f} s expected)", flush=True)
            began = time.time()
            try:
                print(f"{name}: {piece.do(part, left)}; took {time.time() - began:.0f} s", flush=True)
            except Exception as error:  # the others may succeed
                traceback.print_exc()
                outcome.failed[name] = in_one_line(error)
                print(f"{name}: FAILED, {outcome.failed[name]}", flush=True)
    return outcome


def say_end(pieces: Sequence[Any], outcome: Outcome, out: Path) -> int:
    """What is there and what is missing; returns the exit status."""
    print(f"\n{out}:", flush=True)
    for piece in pieces:
        missing = piece.missing()
        print(f"  {piece.title:8}{f'{len(missing)} parts are missing' if missing else 'complete'}", flush=True)
        for part in missing:
            name = f"{piece.title}: {part}"
            why = outcome.failed.get(name) or outcome.late.get(name) or "not as far as it should"
            print(f"          {part}: {why}", flush=True)
    if any(piece.missing() for piece in pieces):
        print("The same command goes on.", flush=True)
    return 1 if outcome.failed else 0


if __name__ == "__main__":
    sys.exit(main())
