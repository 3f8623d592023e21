"""Checkpoints that a run can go on from bit for bit, and what pi_0 is.

A rollout buffer is not saved. Instead, checkpoints are written only where the buffer is used up, at the boundaries
between one generation and the next, so 2N steps are N steps, a kill, and N resumed. `save_steps` off a boundary is
refused before the run; a SIGTERM saves at the next boundary and ends the run.

pi_0 is named by a hash of its weight files. The name is written into each checkpoint, last of all, so a checkpoint
without it was cut off and is passed over; one with another name is refused: a policy regularised towards pi_0 cannot go
on with another pi_0. Beside the name stand the options, and a run goes on with those it began with; only what does not
touch the steps themselves, `MAY_CHANGE`, may be another.
"""

import hashlib
import json
import math
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl.trainer.utils import RepeatSampler

from dar_ref import results
from dar_ref.llm.options import RunOptions, plain

MARK = "pi_0.json"
MAY_CHANGE = (  # beginnings of option names: how long, how often, how loud, and where things are
    "model.name",
    "model.revision",
    "training.max_steps",
    "training.num_train_epochs",
    "training.save_",
    "training.logging_",
    "training.log_",
    "training.report_to",
    "training.run_name",
    "training.disable_tqdm",
    "training.eval_",
    "training.per_device_eval_batch_size",
    "training.dataloader_",
    "data.eval_",
    "reward.base_url",
    "reward.batch_size",
    "reward.cache",
    "reward.concurrency",
    "reward.retries",
    "reward.timeout",
)
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


def check_folder(out: Path, resume: bool) -> None:
    """Raise ValueError if a run that does not resume would write into the folder of another."""
    if not resume and list(out.glob("checkpoints/checkpoint-*")):
        raise ValueError(f"{out} holds checkpoints of a run; pass --resume to go on with it, or another --out")


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


def make_mark(pi_0: str, options: RunOptions) -> dict[str, Any]:
    """What a checkpoint says of its run: the hash of pi_0, and the options that may not change, by their full names."""
    content = plain(options)
    content["methods"] = {options.method: options.section(f"methods.{options.method}")}
    flat = dict(_flattened("", json.loads(json.dumps(content))))
    return {"sha256": pi_0, "options": {k: v for k, v in flat.items() if not k.startswith(MAY_CHANGE)}}


def _flattened(prefix: str, content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _flattened(f"{prefix}{key}.", value)
        else:
            yield prefix + key, value


def last_checkpoint(folder: Path, mark: Mapping[str, Any]) -> Path | None:
    """The newest whole checkpoint in `folder`; None if there is none.

    Raises:
        ValueError: it belongs to another pi_0, or to a run with other options.
    """
    found = sorted(folder.glob(f"checkpoint-*/{MARK}"), key=lambda path: int(path.parent.name.split("-")[-1]))
    if not found:
        return None
    there, checkpoint = json.loads(found[-1].read_text(encoding="utf-8")), found[-1].parent
    if there["sha256"] != mark["sha256"]:
        raise ValueError(
            f"{checkpoint} was trained from another pi_0 (sha256 {there['sha256'][:12]}..., not"
            f" {mark['sha256'][:12]}...); resume with the model it began with, or choose another --out"
        )
    old, new = there["options"], mark["options"]
    if changed := sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name)):
        shown = ", ".join(f"{name} = {old.get(name)!r} there and {new.get(name)!r} here" for name in changed)
        raise ValueError(
            f"{checkpoint} was trained with other options: {shown}; a run goes on with those it began with: put them"
            " back, or choose another --out"
        )
    return checkpoint


class Keeper(TrainerCallback):  # type: ignore[misc]
    """Marks checkpoints with `make_mark`, and turns SIGTERM into a checkpoint at the next boundary and a clean end.

    Gives each epoch its order of prompts. stopped: whether a SIGTERM came.
    """

    def __init__(self, mark: Mapping[str, Any], period: int) -> None:
        self.mark, self.period, self.stopped = mark, period, False
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
            results.write_json(folder / MARK, self.mark)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Stop listening."""
        signal.signal(signal.SIGTERM, self._before)

    def _stop(self, *_: Any) -> None:
        self.stopped = True
