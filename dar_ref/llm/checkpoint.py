"""Checkpoints that a run can go on from bit for bit, and what pi_0 is.

A rollout buffer is not saved. Instead, checkpoints are written only where the buffer is used up, at the boundaries
between one generation and the next, so 2N steps are N steps, a kill, and N resumed. `save_steps` off a boundary is
refused before the run; a SIGTERM saves at the next boundary and ends the run.

pi_0 is named by a hash of its weight files. The name is written into each checkpoint, last of all, so a checkpoint
without it was cut off and is passed over; one with another name is refused: a policy regularised towards pi_0 cannot go
on with another pi_0.
"""

import hashlib
import json
import math
import signal
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl.trainer.utils import RepeatSampler

from dar_ref import results

MARK = "pi_0.json"
STOPPED = 143  # exit status of a run that SIGTERM ended, 128 + 15, as shells report it


def content_hash(folder: Path) -> str:
    """SHA-256 over the names and bytes of a model's config.json and weight files (safetensors).

    Raises:
        FileNotFoundError: no weight file.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(
            f"{folder} holds no *.safetensors; convert the weights to safetensors (other formats run code when read)"
        )
    digest = hashlib.sha256()
    for file in (folder / "config.json", *files):
        with file.open("rb") as stream:
            digest.update(f"{file.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def steps_per_buffer(args: TrainingArguments) -> int:
    """Optimizer steps from one boundary to the next: 1 for methods without a rollout buffer."""
    if not hasattr(args, "steps_per_generation"):
        return 1
    micro_batches = args.steps_per_generation * args.num_iterations
    if micro_batches % args.gradient_accumulation_steps and args.gradient_accumulation_steps % micro_batches:
        raise ValueError(
            f"steps_per_generation = {args.steps_per_generation} times num_iterations = {args.num_iterations} micro-"
            f"batches use one generation, and gradient_accumulation_steps = {args.gradient_accumulation_steps} make an"
            " optimizer step; let one divide the other, or generations end inside steps and no checkpoint is exact"
        )
    return max(1, micro_batches // args.gradient_accumulation_steps)


def check_save_steps(args: TrainingArguments) -> None:
    """Raise ValueError if checkpoints would fall inside a rollout buffer, or be written by other counts than steps."""
    period = steps_per_buffer(args)
    if args.save_strategy == "no":
        return
    if args.save_strategy != "steps" or args.save_steps != int(args.save_steps):
        raise ValueError(
            f"save_strategy = {str(args.save_strategy)!r}, save_steps = {args.save_steps}: checkpoints are exact at"
            " multiples of whole steps only; set save_strategy to steps or no, and save_steps to a whole number"
        )
    if args.save_steps % period:
        raise ValueError(
            f"save_steps = {args.save_steps} is inside a rollout buffer, which lasts {period} steps and is not saved;"
            f" set save_steps to a multiple of {period}"
        )


def last_checkpoint(folder: Path, pi_0: str) -> Path | None:
    """The newest whole checkpoint in `folder`; None if there is none.

    Raises:
        ValueError: it belongs to another pi_0.
    """
    found = sorted(folder.glob(f"checkpoint-*/{MARK}"), key=lambda path: int(path.parent.name.split("-")[-1]))
    if not found:
        return None
    there = json.loads(found[-1].read_text(encoding="utf-8"))["sha256"]
    if there != pi_0:
        raise ValueError(
            f"{found[-1].parent} was trained from another pi_0 (sha256 {there[:12]}..., not {pi_0[:12]}...);"
            " resume with the model it began with, or choose another --out"
        )
    return found[-1].parent


class Keeper(TrainerCallback):  # type: ignore[misc]
    """Marks checkpoints with pi_0, and turns SIGTERM into a checkpoint at the next boundary and a clean end.

    Gives each epoch its order of prompts. stopped: whether a SIGTERM came.
    """

    def __init__(self, pi_0: str, period: int) -> None:
        self.pi_0, self.period, self.stopped = pi_0, period, False
        self._before: Any = signal.SIG_DFL

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Listen for SIGTERM."""
        self._before = signal.signal(signal.SIGTERM, self._stop)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, _control: Any, train_dataloader: Any = None, **_: Any
    ) -> None:
        """Let the order of the prompts depend on the epoch alone; TRL's depends on how often it was drawn before."""
        loader = train_dataloader
        while hasattr(loader, "batch_sampler"):  # one around the other where there are several processes
            loader = loader.batch_sampler
        if isinstance(sampler := loader.sampler, RepeatSampler) and sampler.shuffle:
            sampler.generator.manual_seed(args.seed + math.floor(round(state.epoch or 0.0, 6)))

    def on_step_end(self, _args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Save and stop at a boundary once SIGTERM came to any process."""
        if state.global_step % self.period == 0 and any(gather_object([self.stopped])):
            self.stopped = control.should_save = control.should_training_stop = True

    def on_save(self, args: TrainingArguments, state: TrainerState, _control: Any, **_: Any) -> None:
        """Write the mark, the last file of a checkpoint."""
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            results.write_json(folder / MARK, {"sha256": self.pi_0})

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Stop listening."""
        signal.signal(signal.SIGTERM, self._before)

    def _stop(self, *_: Any) -> None:
        self.stopped = True
