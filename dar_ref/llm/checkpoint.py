"""Checkpoints that a run can go on from bit for bit, and what pi_0 is.

A rollout buffer is not saved. Instead, checkpoints are written only where the buffer is used up, at the boundaries
between one generation and the next, so 2N steps are N steps, a kill, and N resumed. `save_steps` off a boundary is
refused before the run; a SIGTERM saves at the next boundary and ends the run.

Each checkpoint has a mark, `MARK`, which is written last of all: a folder without it was cut off and is passed over,
which is said. The mark holds, and a run that goes on compares,

    sha256    of pi_0's weight files: a policy regularised towards pi_0 cannot go on with another pi_0
    options   those the run began with; only what does not touch the steps themselves, `MAY_CHANGE`, may be another
    content   hashes of the prompts or pairs and of what gives the reward, and the number of processes
    files     a hash of every file of the checkpoint: one that is missing or was changed is named, and refused

Old checkpoints are removed by `keeper` and not by transformers, which deletes them before the new one has its mark: a
run that was killed in between would have none.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from dar_ref import arithmetic, results
from dar_ref.llm.folder import MARK, checkpoints
from dar_ref.llm.options import RunOptions, options_as_json, without_secrets
from dar_ref.llm.rewards.reads import other_files

REMOVED = ".removed"
MAY_CHANGE = (  # beginnings of option names: how long, how often, how loud, and where things are
    "model.name",
    "model.revision",
    "data.prompts",  # the rows are compared, and so are weights
    "data.preferences",
    "data.rated",
    "methods.dar_offline.sampler",
    "generation.vllm_server_",
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
    "training.ddp_timeout",
    "training.dataloader_num_workers",
    "training.dataloader_pin_memory",
    "training.dataloader_prefetch_factor",
    "training.dataloader_persistent_workers",
    "data.eval_",
    "reward.base_url",
    "reward.cache",
    "reward.concurrency",
    "reward.retries",
    "reward.timeout",
)
STOPPED = 143  # exit status of a run that SIGTERM ended, 128 + 15, as shells report it


def content_hash(folder: Path) -> str:
    """SHA-256 over the names and bytes of a model's config.json, generation_config.json (which names its EOS tokens)
    and weight files (safetensors).

    Raises:
        FileNotFoundError: no weight file.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(
            f"{folder} holds no *.safetensors; convert the weights to safetensors (other formats run code when read)"
        )
    digest = hashlib.sha256()
    for file in (folder / "config.json", *folder.glob("generation_config.json"), *files):
        with file.open("rb") as stream:
            digest.update(f"{file.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def rows_hash(rows: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256 of the rows of a dataset, in their order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True, default=repr).encode() + b"\n")
    return digest.hexdigest()


def steps_per_buffer(args: TrainingArguments) -> int:
    """Optimizer steps from one boundary to the next: 1 for methods without a rollout buffer.

    Raises:
        ValueError: a generation would end inside an optimizer step.
    """
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
    if args.save_only_model:
        raise ValueError(
            "training.save_only_model = True leaves out what --resume needs; remove it, or set save_strategy to no"
        )
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


def make_mark(pi_0: str, options: RunOptions, content: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of its run: the hash of pi_0, the options that may not change by their full names, and
    `content`, what else may not change by name."""
    named = options_as_json(options)
    named["methods"] = {options.method: options.section(f"methods.{options.method}")}
    flat = dict(_flattened("", json.loads(json.dumps(without_secrets(named)))))
    kept = _fixed(flat)
    return {
        "sha256": pi_0,
        "options": kept,
        "content": dict(content),
        "packages": results.packages(),
        "machine": _machine(),
    }


def _fixed(options: Mapping[str, Any]) -> dict[str, Any]:
    """Of options by their full names, those that may not change; a reward model's name may, its weights may not."""
    may_change = (*MAY_CHANGE, *(("reward.name", "reward.revision") if options.get("reward.kind") == "model" else ()))
    return {name: value for name, value in options.items() if not name.startswith(may_change)}


def _flattened(prefix: str, content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _flattened(f"{prefix}{key}.", value)
        else:
            yield prefix + key, value


def last_checkpoint(folder: Path, mark: Mapping[str, Any]) -> tuple[Path | None, str]:
    """The newest checkpoint in `folder` that is whole, None if there is none; and where the run goes on, in words.

    Raises:
        ValueError: it is damaged, or belongs to another pi_0 or to a run with other options or other content.
    """
    found = checkpoints(folder)
    whole = [path for path in found if (path / MARK).exists()]
    cut_off = [path.name for path in found[found.index(whole[-1]) + 1 if whole else 0 :]]
    passed = f" ({', '.join(cut_off)}: no whole checkpoint, cut off while it was written)" if cut_off else ""
    if not whole:
        return None, f"{folder} holds no whole checkpoint{passed}; the run begins from the start"
    there = _check_mark(whole[-1], mark)
    changed = other_files(there.get("read", {}))
    others = f"; the reward reads other files than it did: {', '.join(changed)}" if changed else ""
    return whole[-1], f"the run goes on from {whole[-1]}{passed}{_other_arithmetic(there, mark)}{others}"


def _other_arithmetic(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Which versions, threads or processor are others than those of the checkpoint, in words: the last digits may
    differ then."""
    old, new = ({**(mark.get("packages") or {}), **(mark.get("machine") or {})} for mark in (there, here))
    changed = [name for name in ("torch", "transformers", "trl", *here["machine"]) if old.get(name) != new.get(name)]
    words = ", ".join(f"{name} {old.get(name)} there and {new.get(name)} here" for name in changed)
    return f"; not bit for bit, since the arithmetic changed: {words}" if changed else ""


def _machine() -> dict[str, Any]:
    """What the last digits of a sum depend on."""
    device = torch.accelerator.current_accelerator()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else device and device.type
    return {"threads": torch.get_num_threads(), "instructions": arithmetic.instruction_set(), "accelerator": gpu}


def _check_mark(checkpoint: Path, mark: Mapping[str, Any]) -> dict[str, Any]:
    """The mark of a checkpoint; ValueError unless the run of `mark` can go on from there."""
    try:
        there = json.loads((checkpoint / MARK).read_text(encoding="utf-8"))
        pi_0, options, content, files = (there[name] for name in ("sha256", "options", "content", "files"))
        old, new = {**_fixed(options), **content}, {**mark["options"], **mark["content"]}
        damaged = _damage(file_hashes(checkpoint), dict(files))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{checkpoint / MARK} is damaged, or of another version of this package ({error!r}); {_REMOVE}"
        ) from None
    if pi_0 != mark["sha256"]:
        raise ValueError(
            f"{checkpoint} was trained from another pi_0 (sha256 {pi_0[:12]}..., not"
            f" {mark['sha256'][:12]}...); resume with the model it began with, or choose another --out"
        )
    if changed := sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name)):
        shown = ", ".join(f"{name} = {old.get(name)!r} there and {new.get(name)!r} here" for name in changed)
        raise ValueError(
            f"{checkpoint} was trained with other options or other content: {shown}; a run goes on with what it began"
            " with: put it back, or choose another --out"
        )
    if damaged:
        raise ValueError(f"{checkpoint} is damaged: {damaged}; put the files back, or {_REMOVE}")
    return dict(there)


_REMOVE = "remove the folder, and --resume goes on from the one before it"


def _damage(found: Mapping[str, str], written: Mapping[str, str]) -> str:
    """What is not as it was written, in words; empty if all is."""
    lost = [f"{name} is missing" for name in sorted(written.keys() - found.keys())]
    return ", ".join(
        lost + [f"{name} was changed" for name in sorted(written) if found.get(name, written[name]) != written[name]]
    )


def file_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in `folder`, the mark left out, by its path in there."""
    hashes = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MARK:
            with path.open("rb") as stream:
                hashes[path.relative_to(folder).as_posix()] = hashlib.file_digest(stream, "sha256").hexdigest()
    return hashes
