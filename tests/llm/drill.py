"""The drill: SIGKILL during the final save of a run, then `--resume`; does it end as a run that nobody touched?

    python -m tests.llm.drill docs/results/drill

Full weights, LoRA, and two processes, each killed at several file operations between its last step and its end: while
the checkpoint is written, before and after its mark, while the old one is removed, while the policy and the results are
written. Writes results.json, run.json and table.md; exit status 1 if one of them ends otherwise. A few minutes.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from dar_ref import results
from dar_ref.evaluation import Table, markdown
from dar_ref.llm import train
from dar_ref.llm.checkpoint import Keeper
from dar_ref.llm.options import options_as_json
from tests import file_faults
from tests.llm.training import options
from tests.small_start import SMALL

STEPS = 4
SAVED = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 1, "max_steps": STEPS}
RUNS = {"full": (None, 1), "LoRA": ({"r": 2, "alpha": 4}, 1), "two processes": (None, 2)}
POINTS = (0.0, 0.3, 0.6, 1.0)  # of the operations after the last step


def drill(name, exported, folder, points=POINTS):
    """Rows `run, killed at, of, same`, one for each point."""
    lora, processes = RUNS[name]
    file = folder / "run.yaml"
    file.write_text(json.dumps(options_as_json(options(exported, lora=lora, training=SAVED))))
    status, said = leg(file, folder / "whole", processes)
    assert status == 0, said
    operations = int(said.partition("operations: ")[2].split()[0])
    return [killed(name, file, folder, processes, 1 + round(p * (operations - 1)), operations) for p in points]


def killed(name, file, folder, processes, at, operations):
    """One row: kill at operation `at`, resume, compare."""
    out = folder / f"killed at {at}"
    status, said = leg(file, out, processes, at)
    assert status != 0, f"it was not killed: {said}"
    status, said = leg(file, out, processes)
    assert status == 0, said
    where = [line for line in said.splitlines() if "goes on from" in line or "nothing is left" in line][-1]
    return {
        "run": name,
        "killed at": f"{at} of {operations}",
        "resumed from": "the last step" if "nothing is left" in where else where.partition("checkpoints/")[2][:12],
        "same": ended(out) == ended(folder / "whole"),
    }


def ended(out):
    """What a run ends with: every byte of its weights, its steps and its log."""
    content = json.loads((out / "results.json").read_text())
    return {p.name: p.read_bytes() for p in (out / "policy").glob("*.safetensors")}, content["steps"], content["log"]


def leg(file, out, processes, at=0):
    """Train in new processes, killed at operation `at`. Returns exit status and what was printed."""
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--standalone", "--master_port", "0"]
    command = [
        sys.executable,
        *launcher[: 100 * (processes > 1)],
        "-m",
        "tests.llm.drill",
        str(file),
        str(out),
        str(at),
    ]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    return done.returncode, done.stdout + done.stderr


def child(file, out, at):
    """`dar-ref train --resume` that kills itself, if `at` is not 0, at that file operation after the last step."""
    usual, counted = Keeper.on_step_end, []

    def on_step_end(self, args, state, control, **rest):
        usual(self, args, state, control, **rest)
        if state.global_step == STEPS and state.is_world_process_zero:
            stop = (lambda: os.kill(os.getpid(), signal.SIGKILL)) if at else (lambda: None)
            counted.append(file_faults.arm(max(at, 1), stop))

    Keeper.on_step_end = on_step_end
    status = train.main(["--config", file, "--out", out, "--resume"])
    if counted:
        print(f"operations: {counted[0].seen}", flush=True)
    return status


def exported_start(folder):
    """The small start, exported without pytest."""
    from dar_ref.toy import commands

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "start_config", lambda _task, _seed: SMALL)
        commands.export("tiny", 0, folder / "cache", folder / "exported")
    return folder / "exported"


def main(out):
    """All runs; returns the exit status."""
    began, command, rows = time.time(), f"python -m tests.llm.drill {out}", []
    with results.writing(out, command), tempfile.TemporaryDirectory() as name:
        exported = exported_start(Path(name))
        for run in RUNS:
            (Path(name) / run).mkdir()
            rows += drill(run, exported, Path(name) / run)
            print(rows[-len(POINTS) :], flush=True)
        cells = [tuple("yes" if cell is True else str(cell) for cell in row.values()) for row in rows]
        results.write_text(out / "table.md", markdown(Table(tuple(rows[0]), tuple(cells), ())))
        results.write_json(out / "results.json", {"rows": rows})
        results.write_json(out / "run.json", results.run_info(command, began))
    same = [row["same"] for row in rows]
    print(f"{sum(same)} of {len(same)} end with the same bytes")
    return 0 if all(same) else 1


if __name__ == "__main__":
    if len(sys.argv) == 4:
        sys.exit(child(sys.argv[1], sys.argv[2], int(sys.argv[3])))
    sys.exit(main(Path(sys.argv[1])))
