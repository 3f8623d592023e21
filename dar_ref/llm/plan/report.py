"""A plan as a table for the terminal, and as JSON."""

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dar_ref.llm.plan.estimate import Plan
from dar_ref.llm.plan.resident import GIB

MIB = 2**20


def plan_as_json(plan: Plan) -> dict[str, Any]:
    """The plan as JSON can hold it: bytes, counts, hours."""
    setup, work = plan.setup, plan.work
    return {
        "model": setup.model.name,
        "method": plan.options.method,
        "parameters": {
            "total": setup.model.count + (setup.trainable if setup.lora else 0),
            "trainable": setup.trainable,
        },
        "devices": setup.devices,
        "sharding": setup.sharding,
        "peak_bytes": plan.peak,
        "device_memory_bytes": plan.device_memory,
        "fits": plan.fits,
        "what_would_fit": plan.what_would_fit,
        "peaks": [{"phase": m.phase, "moment": m.name, "total_bytes": m.total, "terms": m.terms} for m in plan.peaks],
        "per_step": {
            "samples": work.samples,
            "prompt_tokens": work.prompt_tokens,
            "sampled_tokens": work.sampled_tokens,
        },
        "run": {"steps": work.steps, "samples": work.total_samples, "tokens": work.tokens, "hours": work.hours},
    }


def show(plan: Plan, console: Console) -> None:
    """Print the plan: a column per phase, a row per term, then whether it fits, tokens and hours."""
    console.print(Text(_header(plan)))
    console.print(_table(plan))
    for line in [*_verdict(plan), *_work(plan)]:
        console.print(Text(line))


def _header(plan: Plan) -> str:
    setup = plan.setup
    trained = "all weights" if setup.lora is None else f"LoRA of rank {setup.lora.rank}"
    split = "" if setup.devices == 1 else f", {setup.devices} devices, {setup.sharding}"
    checkpointing = "" if setup.checkpointing else " without gradient checkpointing"
    return (
        f"{plan.options.method} on {setup.model.name}: {setup.model.count:,} parameters, {trained}: {setup.trainable:,}"
        f" trained by {setup.optim}{split}. A micro-batch has {setup.rows} sequences of"
        f" {setup.prompt} + {setup.completion} tokens{checkpointing}, a step {setup.micro_batches} of them;"
        f" {setup.buffer_rows or 'no'} completions a rollout. Per device:"
    )


def _table(plan: Plan) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    for moment in plan.peaks:
        table.add_column(f"{moment.phase}\n{moment.name}", justify="right")
    for name in dict.fromkeys(name for moment in plan.peaks for name in moment.terms):
        table.add_row(name, *(size(moment.terms.get(name, 0)) for moment in plan.peaks))
    table.add_section()
    table.add_row("together", *(size(moment.total) for moment in plan.peaks), style="bold")
    return table


def _verdict(plan: Plan) -> list[str]:
    line = f"peak {size(plan.peak)} in {max(plan.peaks, key=lambda m: m.total).phase}"
    if plan.device_memory is None:
        return [f"{line}; --device-memory says whether that fits"]
    if plan.fits:
        return [f"{line}: fits in {size(plan.device_memory)}, {size(plan.device_memory - plan.peak)} are left"]
    lines = [f"{line}: does not fit in {size(plan.device_memory)}, {size(plan.peak - plan.device_memory)} are missing"]
    if not plan.what_would_fit:
        return [*lines, "nothing tried here makes it fit; take a smaller model or shorter texts"]
    return [*lines, "each of these makes it fit:", *(f"  {change}" for change in plan.what_would_fit)]


def _work(plan: Plan) -> list[str]:
    work = plan.work
    step = f"a step: {work.samples:,} samples, {work.prompt_tokens:,} prompt and {work.sampled_tokens:,} sampled tokens"
    if plan.setup.pairs:
        step = (
            f"a step: {work.samples:,} pairs, {work.prompt_tokens:,} prompt and {work.sampled_tokens:,} answer tokens"
        )
    if work.steps is None:
        return [f"{step}, at most", "the run's length is not known: set training.max_steps or data.limit"]
    line = f"the run: {work.steps:,} steps, {work.total_samples:,} samples, {work.tokens:,} tokens, at most"
    if work.hours is not None:
        line += f"; {work.hours:,.1f} hours"
    return [f"{step}, at most", line]


def size(count: int) -> str:
    """Bytes as GiB, or as MiB where that says more; a dot for none."""
    if not count:
        return "·"
    return f"{count / GIB:,.2f} GiB" if count >= GIB / 10 else f"{count / MIB:,.1f} MiB"
