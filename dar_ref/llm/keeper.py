"""What happens at the boundaries of a run's steps: checkpoints get their marks, old ones go, SIGTERM ends the run, and
weights that are not finite stop it before they replace good ones."""

import json
import math
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import SchedulerType, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl.trainer.utils import RepeatSampler

from dar_ref import results
from dar_ref.llm.checkpoint import REMOVED, file_hashes
from dar_ref.llm.folder import MARK, checkpoints
from dar_ref.llm.rewards.reads import READ
from dar_ref.llm.weights import check_finite, fingerprint

CONSTANT = ("constant", "constant_with_warmup")  # schedules that do not ask how long a run is


def _on_disk(path: Path) -> None:
    if path.is_file():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())


class NothingLeftError(Exception):
    """The checkpoint that a run goes on from is its last step; transformers would take one more."""


class Keeper(TrainerCallback):  # type: ignore[misc]
    """Marks checkpoints with `make_mark`, which are written at boundaries only, and turns SIGTERM into a checkpoint at
    the next one and a clean end.

    Gives each epoch its order of prompts. limit: remove the oldest checkpoints beyond so many; None keeps all. stopped:
    whether a SIGTERM came; unchanged: whether a run that ended has changed no weight.
    """

    def __init__(self, mark: Mapping[str, Any], period: int, limit: int | None = None) -> None:
        self.mark, self.period, self.limit, self.stopped = mark, period, limit, False
        self.unchanged = False
        self._before: Any = signal.SIG_DFL
        self._weights: list[int] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, _control: Any, model: Any = None, **_: Any
    ) -> None:
        """Listen for SIGTERM; end a run that has nothing left to do.

        Raises:
            NothingLeftError: the run has all its steps.
            ValueError: it has more, or a weight is not finite.
        """
        if state.global_step > state.max_steps:
            raise ValueError(
                f"the run is at step {state.global_step} already, beyond its {state.max_steps} steps; raise"
                f" training.max_steps or num_train_epochs, or remove the later checkpoints in {args.output_dir}"
            )
        if state.global_step == state.max_steps:
            raise NothingLeftError
        check_finite(model, "before the first step; fetch the model again, or take an older checkpoint")
        self._weights = [] if state.global_step else fingerprint(model)  # the steps before may have changed some
        if state.is_world_process_zero and state.global_step and args.lr_scheduler_type not in CONSTANT:
            _say_other_length(args, state)
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

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        """Save and stop at a boundary once SIGTERM came to any process. Log whatever a checkpoint does not keep."""
        if model is not None:
            check_finite(
                model,
                f"after step {state.global_step}, so no completion has a probability any more; lower"
                " training.learning_rate, or the bound of the weights (w_clip), and go on from the last checkpoint",
            )
        new = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and not (new / MARK).exists():
            shutil.rmtree(new, ignore_errors=True)  # cut off: nothing of it gets into the one that is written now
        if state.global_step % self.period == 0 and any(gather_object([self.stopped])):
            self.stopped = control.should_save = control.should_training_stop = True
        if state.global_step % self.period:
            control.should_save = False  # transformers saves the last step wherever it is
        if control.should_save or state.global_step >= state.max_steps:
            control.should_log = True

    def on_save(self, args: TrainingArguments, state: TrainerState, _control: Any, **_: Any) -> None:
        """Write the mark, the last file of a checkpoint; then remove the oldest ones."""
        PartialState().wait_for_everyone()  # each process writes a part
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir)
        new = folder / f"checkpoint-{state.global_step}"
        results.write_json(new / MARK, {**self.mark, "files": file_hashes(new), "read": dict(READ)})
        for path in new.rglob("*") if self.limit else ():
            _on_disk(path)  # the old one goes: a power cut must not take the new one as well
        whole = [path for path in checkpoints(folder) if (path / MARK).exists()]
        for old in whole[: -self.limit] if self.limit else []:
            if state.best_model_checkpoint is None or old.name != Path(state.best_model_checkpoint).name:
                old.rename(f"{old}{REMOVED}")  # first: a kill from here on leaves no half checkpoint
        for old in folder.glob(f"checkpoint-*{REMOVED}"):
            shutil.rmtree(old)

    def on_train_end(self, *_: Any, model: Any = None, **__: Any) -> None:
        """Stop listening; see whether any weight was changed."""
        self.unchanged = bool(self._weights) and all(gather_object([fingerprint(model) == self._weights]))
        signal.signal(signal.SIGTERM, self._before)

    def _stop(self, *_: Any) -> None:
        self.stopped = True


def _say_other_length(args: TrainingArguments, state: TrainerState) -> None:
    """Say so if the schedule of the learning rate was made for another number of steps."""
    checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
    before = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["max_steps"]
    if before != state.max_steps:
        schedule = f"the schedule of the learning rate ({SchedulerType(args.lr_scheduler_type).value})"
        print(
            f"{schedule} was made for {before} steps and is for {state.max_steps} now: this is not the run of"
            f" {state.max_steps} steps at once",
            file=sys.stderr,
        )
