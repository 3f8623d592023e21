"""Which options would make a run fit on its device: each is tried by planning the run again with it."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from dar_ref.llm.plan.peaks import peaks
from dar_ref.llm.plan.resident import Run
from dar_ref.llm.plan.tensors import Lora

COUNTS = (2, 4, 8, 16, 32, 64)
RANK = 64

Change = tuple[str, Run]


def fitting(run: Run, device_memory: int) -> list[str]:
    """Changes after which the run's peak is at most `device_memory` bytes, in words of the command line.

    Single ones if any does it, otherwise the first combination that does; empty if nothing here helps.
    """

    def fits(changed: Run) -> bool:
        return max(moment.total for moment in peaks(changed)) <= device_memory

    alone = [text for text, changed in _single(run, fits) if fits(changed)]
    if alone:
        return alone
    together: list[str] = []
    for step in (_checkpointing, _batch_of_one, _fewer_at_once, _adafactor, _lora):
        for text, changed in step(run):
            together, run = [*together, text], changed
        if fits(run):
            return [" ".join(together)]
    return []


def _single(run: Run, fits: Callable[[Run], bool]) -> Iterator[Change]:
    yield from _checkpointing(run)
    yield from _batches(run, fits)
    yield from _fewer_at_once(run)
    yield from _bfloat16(run)
    yield from _adafactor(run)
    yield from _eight_bits(run)
    yield from _lora(run)
    yield from _devices(run, fits)


def _checkpointing(run: Run) -> Iterator[Change]:
    if not run.checkpointing:
        yield "training.gradient_checkpointing=true", replace(run, checkpointing=True)


def _batches(run: Run, fits: Callable[[Run], bool]) -> Iterator[Change]:
    """The largest smaller micro-batch that fits, with the same number of completions a step and a rollout."""
    for batch in range(run.batch - 1, 0, -1):
        if run.batch % batch == 0:
            changed = _with_batch(run, batch)
            if fits(changed[1]):
                yield changed
                return


def _batch_of_one(run: Run) -> Iterator[Change]:
    if run.batch > 1:
        yield _with_batch(run, 1)


def _with_batch(run: Run, batch: int) -> Change:
    micro = run.batch // batch * run.micro_batches
    text = f"training.per_device_train_batch_size={batch} training.gradient_accumulation_steps={micro}"
    return text, replace(run, batch=batch, micro_batches=micro)


def _fewer_at_once(run: Run) -> Iterator[Change]:
    """Half of the completions at once, which are then scored under a pi_t that has not moved."""
    steps, rows = run.generation_rows // run.batch, run.generation_rows // 2
    if steps and steps % 2 == 0 == run.micro_batches % (steps // 2) and rows * run.devices % run.num_generations == 0:
        yield f"generation.steps_per_generation={steps // 2}", replace(run, generation_rows=rows, buffer_rows=rows)


def _bfloat16(run: Run) -> Iterator[Change]:
    if run.storage == 4:
        types = replace(run.types, weights=2, compute=2)
        yield "model.dtype=bfloat16", replace(run, types=types, storage=2)


def _adafactor(run: Run) -> Iterator[Change]:
    if run.optim != "adafactor":
        yield "training.optim=adafactor", replace(run, optim="adafactor")


def _eight_bits(run: Run) -> Iterator[Change]:
    if run.optim not in ("adafactor", "adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit", "sgd"):
        yield "training.optim=adamw_8bit", replace(run, optim="adamw_8bit")


def _lora(run: Run) -> Iterator[Change]:
    if run.lora is None and run.model.hidden_size >= RANK:
        lora = Lora(RANK, frozenset(run.model.linears))
        adapters = run.types.weights if run.sharding == "zero3" else 4
        yield f"lora.r={RANK}", replace(run, lora=lora, types=replace(run.types, adapters=adapters))


def _devices(run: Run, fits: Callable[[Run], bool]) -> Iterator[Change]:
    for sharding in ("fsdp", "zero3"):
        for devices in COUNTS:
            changed = sharded(run, sharding, devices)
            if devices > run.devices and fits(changed):
                yield f"--devices {devices} --sharding {sharding}", changed
                break


def sharded(run: Run, sharding: str, devices: int) -> Run:
    """The run on more devices, split: the layers are then in the computation's type."""
    weights = run.types.compute
    adapters = run.types.adapters and (weights if sharding == "zero3" else 4)
    types = replace(run.types, weights=weights, adapters=adapters)
    storage = weights if sharding == "zero3" else run.storage
    return replace(run, types=types, storage=storage, sharding=sharding, devices=devices)
