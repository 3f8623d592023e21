"""Which changes of options would make a run fit on its device: each is tried by planning the run again with it."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from dar_ref.llm.plan.peaks import peak_bytes
from dar_ref.llm.plan.resident import Setup
from dar_ref.llm.plan.tensors import Lora

COUNTS = (2, 4, 8, 16, 32, 64)
RANK = 64

Change = tuple[str, Setup]


def what_would_fit(setup: Setup, device_memory: int) -> list[str]:
    """Changes after which the run's peak is at most `device_memory` bytes, written as on the command line.

    Single changes if one is enough, otherwise the first combination that is; empty if nothing tried here helps.
    """

    def fits(changed: Setup) -> bool:
        return peak_bytes(changed) <= device_memory

    alone = [text for text, changed in _single(setup, fits) if fits(changed)]
    if alone:
        return alone
    together: list[str] = []
    for step in (_checkpointing, _batch_of_one, _fewer_at_once, _adafactor, _lora):
        for text, changed in step(setup):
            together, setup = [*together, text], changed
        if fits(setup):
            return [" ".join(together)]
    return []


def _single(setup: Setup, fits: Callable[[Setup], bool]) -> Iterator[Change]:
    yield from _checkpointing(setup)
    yield from _batches(setup, fits)
    yield from _fewer_at_once(setup)
    yield from _bfloat16(setup)
    yield from _adafactor(setup)
    yield from _eight_bits(setup)
    yield from _lora(setup)
    yield from _devices(setup, fits)


def _checkpointing(setup: Setup) -> Iterator[Change]:
    if not setup.checkpointing:
        yield "training.gradient_checkpointing=true", replace(setup, checkpointing=True)


def _batches(setup: Setup, fits: Callable[[Setup], bool]) -> Iterator[Change]:
    """The largest smaller micro-batch that fits, with as many completions per step and per rollout as before."""
    for batch in range(setup.batch - 1, 0, -1):
        if setup.batch % batch == 0:
            changed = _with_batch(setup, batch)
            if fits(changed[1]):
                yield changed
                return


def _batch_of_one(setup: Setup) -> Iterator[Change]:
    if setup.batch > 1:
        yield _with_batch(setup, 1)


def _with_batch(setup: Setup, batch: int) -> Change:
    micro = setup.batch // batch * setup.micro_batches
    text = f"training.per_device_train_batch_size={batch} training.gradient_accumulation_steps={micro}"
    return text, replace(setup, batch=batch, micro_batches=micro)


def _fewer_at_once(setup: Setup) -> Iterator[Change]:
    """Half as many completions at once: an optimizer step then uses two rollouts, both of the same pi_t."""
    steps, rows = setup.generation_rows // setup.batch, setup.generation_rows // 2
    if (
        steps
        and steps % 2 == 0 == setup.micro_batches % (steps // 2)
        and rows * setup.devices % setup.num_generations == 0
    ):
        yield f"generation.steps_per_generation={steps // 2}", replace(setup, generation_rows=rows, buffer_rows=rows)


def _bfloat16(setup: Setup) -> Iterator[Change]:
    if setup.storage == 4:
        types = replace(setup.types, weights=2, compute=2)
        yield "model.dtype=bfloat16", replace(setup, types=types, storage=2)


def _adafactor(setup: Setup) -> Iterator[Change]:
    if setup.optim != "adafactor":
        yield "training.optim=adafactor", replace(setup, optim="adafactor")


def _eight_bits(setup: Setup) -> Iterator[Change]:
    if setup.optim in ("adamw_torch", "adamw_torch_fused"):
        yield "training.optim=adamw_8bit", replace(setup, optim="adamw_8bit")


def _lora(setup: Setup) -> Iterator[Change]:
    if setup.lora is None and setup.model.hidden_size >= RANK:
        lora = Lora(RANK, frozenset(setup.model.linears))
        adapters = setup.types.weights if setup.sharding == "zero3" else 4
        yield f"lora.r={RANK}", replace(setup, lora=lora, types=replace(setup.types, adapters=adapters))


def _devices(setup: Setup, fits: Callable[[Setup], bool]) -> Iterator[Change]:
    for sharding in ("fsdp", "zero3"):
        for devices in COUNTS:
            changed = sharded(setup, sharding, devices)
            if devices > setup.devices and fits(changed):
                yield f"--devices {devices} --sharding {sharding}", changed
                break


def sharded(setup: Setup, sharding: str, devices: int) -> Setup:
    """The run split over more devices: the layers are then in the type of the computation."""
    weights = setup.types.compute
    adapters = setup.types.adapters and (weights if sharding == "zero3" else 4)
    types = replace(setup.types, weights=weights, adapters=adapters)
    storage = weights if sharding == "zero3" else setup.storage
    return replace(setup, types=types, storage=storage, sharding=sharding, devices=devices)
