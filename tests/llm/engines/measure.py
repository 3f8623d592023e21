"""Accelerate's engines on two CPU processes, compared with DDP: `make engines`, `python -m tests.llm.engines.measure`.

Each engine trains the exported toy policy, whose head is tied to its embedding, by the real script and the package's
accelerate file; then it trains again from the middle checkpoint. Writes results.json, run.json and table.md to
docs/results/engines. `make engines` installs DeepSpeed in a folder of its own, which only these runs see.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from safetensors.torch import load_file

from dar_ref import results
from dar_ref.llm.options import CONFIGS, options_as_json
from dar_ref.toy import commands
from tests.llm.training import options
from tests.small_start import SMALL

RESULTS = Path(__file__).parents[3] / "docs" / "results" / "engines"
DEEPSPEED = Path(sys.prefix) / "deepspeed"
STEPS = 4
LORA = ("lora.r=4", "lora.alpha=8")
ZERO_2 = ("--zero_stage", "2", "--zero3_init_flag", "false", "--zero3_save_16bit_model", "false")


class Engine(NamedTuple):
    """file: in dar_ref/configs/accelerate; flags: of `accelerate launch`; options: of the script; like: the engine
    whose weights it should train; resumed: whether it is also trained from the middle checkpoint."""

    file: str
    flags: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    like: str = "ddp"
    resumed: bool = True

    def precision(self) -> str:
        return "bf16" if "training.bf16=true" in self.options else "no"

    def shown(self) -> str:
        """The launch in short."""
        bf16 = ("--mixed_precision bf16",) if self.precision() == "bf16" else ()
        return " ".join([f"{self.file}.yaml", *self.flags, *bf16, *self.options])


BF16 = ("training.bf16=true", "training.optim=sgd", "training.learning_rate=3e-3")  # Adam would enlarge the rounding
ENGINES = {
    "ddp": Engine("ddp"),
    "fsdp2": Engine("fsdp2"),
    "zero2": Engine("zero3", ZERO_2),
    "zero3": Engine("zero3"),
    "ddp-lora": Engine("ddp", options=LORA, like="ddp-lora"),
    "fsdp2-lora": Engine("fsdp2", options=LORA, like="ddp-lora"),
    "ddp-bf16": Engine("ddp", options=BF16, like="ddp-bf16", resumed=False),
    "fsdp2-bf16": Engine("fsdp2", options=BF16, like="ddp-bf16", resumed=False),
    "zero2-bf16": Engine("zero3", ZERO_2, BF16, like="ddp-bf16", resumed=False),
    "zero3-bf16": Engine("zero3", options=BF16, like="ddp-bf16", resumed=False),
}


def export(folder: Path) -> Path:
    """The small toy start of the tests, in `folder`, and the run's configuration beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "start_config", lambda _task, _seed: SMALL)
        commands.export("tiny", 0, folder / "cache", folder / "exported")
    training = {"max_steps": STEPS, "save_strategy": "steps", "save_steps": STEPS // 2, "optim": "adamw_torch"}
    return write_config(folder / "exported", folder / "run.yaml", training)


def write_config(exported: Path, file: Path, training: dict[str, Any]) -> Path:
    file.write_text(yaml.safe_dump(options_as_json(options(exported, training=training))), encoding="utf-8")
    return file


def launch(engine: Engine, config: Path, out: Path, *more: str) -> float:
    """Train on two processes; returns seconds.

    Raises:
        RuntimeError: it failed, with the end of what it said.
    """
    began = time.time()
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    command += ["--config_file", str(CONFIGS / "accelerate" / f"{engine.file}.yaml"), *engine.flags]
    command += ["--num_processes", "2", "--mixed_precision", engine.precision(), "--main_process_port", "0"]
    command += ["-m", "tests.llm.engines.on_cpu", "--config", str(config), "--out", str(out), *more, *engine.options]
    on_cpu = {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    on_cpu |= {"DAR_TEST_DRAW": "1"} if engine.precision() == "bf16" else {}
    on_cpu["PYTHONPATH"] = os.pathsep.join([*sys.path[:1], str(DEEPSPEED), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, env={**os.environ, **on_cpu}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}\n{done.stderr[-4000:]}")
    return time.time() - began


def saved(folder: Path) -> dict[str, Any]:
    """The tensors in a folder's safetensors files, by name."""
    return {name: tensor for file in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(file).items()}


def distance(first: dict[str, Any], second: dict[str, Any]) -> float:
    """Largest difference of two sets of tensors with the same names; infinite if the names differ."""
    if first.keys() != second.keys():
        return float("inf")
    return max((first[name].double() - second[name].double()).abs().max().item() for name in first)


def trained(engine: Engine, config: Path, out: Path) -> dict[str, Any]:
    """Train; returns the tensors of the policy and what is known of the run."""
    seconds = launch(engine, config, out)
    policy = saved(out / "policy")
    found: dict[str, Any] = {"policy": policy, "seconds": seconds}
    found["checkpoint"] = sorted(saved(out / "checkpoints" / f"checkpoint-{STEPS}"))
    log = json.loads((out / "results.json").read_text(encoding="utf-8"))["log"]
    found["losses"] = [row["loss"] for row in log if "loss" in row]
    if engine.resumed:
        shutil.rmtree(out / "checkpoints" / f"checkpoint-{STEPS}")
        shutil.rmtree(out / "policy")
        launch(engine, config, out, "--resume")
        found["resume"] = distance(saved(out / "policy"), policy)
    return found


def compared(name: str, found: dict[str, dict[str, Any]], pi_0: dict[str, Any]) -> dict[str, Any]:
    """One row of the results."""
    engine, this = ENGINES[name], found[name]
    other = found[engine.like]
    names = sorted(this["policy"])
    start = {name: 0 * tensor for name, tensor in this["policy"].items() if "lora_B" in name} or pi_0  # B begins at 0
    moved = distance({name: this["policy"][name] for name in start}, start)
    return {
        "launch": engine.shown(),
        "like": engine.like,
        "weights_difference": distance(this["policy"], other["policy"]),
        "loss_difference": max(abs(a - b) for a, b in zip(this["losses"], other["losses"], strict=True)),
        "moved": moved,
        "resume_difference": this.get("resume"),
        "saved": len(names),
        "of_pi_0": len(pi_0) if "lora" not in name else len(other["policy"]),
        "second_head": any(n.endswith("lm_head.weight") for n in [*names, *this["checkpoint"]]),
    }


def table(content: dict[str, Any], seconds: dict[str, float]) -> str:
    """The rows in Markdown."""
    lines = [
        "| engine | launch | weights against DDP | moved | resumed | saved tensors | seconds |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in ENGINES:  # JSON has sorted them by name
        if name not in content["engines"]:
            continue
        row = content["engines"][name]
        against = "" if row["like"] == name else f"{row['weights_difference']:.2g}"
        resumed = "not run" if row["resume_difference"] is None else f"{row['resume_difference']:.2g}"
        tensors = f"{row['saved']} of {row['of_pi_0']}"
        moved = f"{row['moved']:.2g}"
        cells = [name, f"`{row['launch']}`", against, moved, resumed, tensors, f"{seconds[name]:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure all engines, or those that are named, and write the files; what they hold of the others stays."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(ENGINES)}; each needs the one it is compared with")
    arguments, began = parser.parse_args(), time.time()
    out, names = arguments.out, arguments.names or list(ENGINES)
    rows, seconds = {}, {}
    if arguments.names and (out / "results.json").exists():
        rows = json.loads((out / "results.json").read_text(encoding="utf-8"))["engines"]
        seconds = json.loads((out / "run.json").read_text(encoding="utf-8"))["seconds_of"]
    with tempfile.TemporaryDirectory() as scratch:
        config = export(Path(scratch))
        pi_0 = saved(Path(scratch) / "exported" / "policy")
        found: dict[str, dict[str, Any]] = {}
        for name in names:
            found[name] = trained(ENGINES[name], config, Path(scratch) / name)
            seconds[name] = round(found[name]["seconds"], 1)
            print(f"{name}: {seconds[name]} s", flush=True)
    rows |= {name: compared(name, found, pi_0) for name in names}
    content = {"steps": STEPS, "processes": 2, "engines": {name: rows[name] for name in ENGINES if name in rows}}
    run = results.run_info(" ".join(["python -m tests.llm.engines.measure", *arguments.names]), began)
    run["packages"] |= {name: metadata.version(name) for name in ("accelerate", "peft")}
    results.write_json(out / "results.json", content)
    results.write_json(out / "run.json", run | {"seconds_of": seconds})
    results.write_text(out / "table.md", table(content, seconds))


if __name__ == "__main__":
    main()
