"""What `dar-ref plan` says of a 7B model: LoRA on one GPU, and all weights on 1, 4 and 8 with two optimizers.

    python docs/plans.py

Writes results.json, run.json and table.md to docs/results/plan-7b. Planned, not measured on a GPU.
"""

import time
from pathlib import Path
from typing import Any

from dar_ref import results
from dar_ref.llm.options import load_options
from dar_ref.llm.plan import plan

HERE = Path(__file__).parent / "results" / "plan-7b"
CONFIG = "qwen2-7b-tldr"
GIB = 2**30
CARD = 80 * GIB
MICRO_BATCHES = 16  # of the configuration, on one GPU; an update is always 128 completions
OPTIMIZERS = {"adamw_torch": "AdamW", "adafactor": "Adafactor"}


def rows() -> list[dict[str, Any]]:
    """A row for each plan: what is trained, by what, on how many GPUs, bytes of one GPU, phase of the peak."""
    found = [_row("LoRA", "adafactor", 1, [])]
    for optimizer in OPTIMIZERS:
        for devices in (1, 4, 8):
            options = ["lora=null", "model.dtype=float32", f"training.optim={optimizer}"]
            options.append(f"training.gradient_accumulation_steps={MICRO_BATCHES // devices}")
            found.append(_row("all weights", optimizer, devices, options))
    return found


def _row(trained: str, optimizer: str, devices: int, overrides: list[str]) -> dict[str, Any]:
    sharding = "none" if devices == 1 else "fsdp"
    made = plan(load_options(CONFIG, overrides), devices=devices, sharding=sharding, device_memory=CARD)
    phase = max(made.peaks, key=lambda moment: moment.total).phase
    names = {"trained": trained, "optimizer": OPTIMIZERS[optimizer], "devices": devices, "sharding": sharding}
    return {**names, "options": overrides, "peak_bytes": made.peak, "phase": phase, "fits": made.fits}


def table(found: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = [
        "| trained | optimizer | GPUs | GiB on each | largest in | fits 80 GB |",
        "| --- | --- | ---: | ---: | --- | --- |",
    ]
    for row in found:
        gpus = "1" if row["sharding"] == "none" else f"{row['devices']}, FSDP"
        cells = (row["trained"], row["optimizer"], gpus, f"{row['peak_bytes'] / GIB:.0f}", row["phase"])
        lines.append(f"| {' | '.join(cells)} | {'yes' if row['fits'] else '**no**'} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write docs/results/plan-7b."""
    started, found = time.time(), rows()
    results.write_json(HERE / "results.json", {"config": CONFIG, "device_memory_bytes": CARD, "plans": found})
    results.write_text(HERE / "table.md", table(found))
    results.write_json(HERE / "run.json", results.run_info("python docs/plans.py", started))
    print(table(found))


if __name__ == "__main__":
    main()
