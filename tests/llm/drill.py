"""The drill: SIGKILL during the final save of a run, then `--resume`; does it end as a run that nobody touched?

    python -m tests.llm.drill docs/results/drill

Full weights, LoRA, and two processes, each killed at several file operations between its last step and its end: while
the checkpoint is written, before and after its mark, while the old one is removed, while the policy and the results are
written. Writes results.json, run.json and table.md; exit status 1 if one of them ends otherwise. A few minutes.

Every leg of a run is a child of this process, forked once everything is imported.
"""

import argparse
import json
import os
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch

from dar_ref import results
from dar_ref.evaluation import Table, markdown
from dar_ref.llm import build, train
from dar_ref.llm.keeper import Keeper
from dar_ref.llm.options import options_as_json
from dar_ref.toy import commands
from tests import file_faults
from tests.llm.training import options
from tests.small_start import SMALL

STEPS = 4
SAVED = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 1, "max_steps": STEPS}
RUNS = {"full": (None, 1), "LoRA": ({"r": 2, "alpha": 4}, 1), "two processes": (None, 2)}
POINTS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # of the operations after the last step


def drill(name, exported, folder, points):
    """Rows `run, killed at, resumed from, same`, one for each point."""
    lora, processes = RUNS[name]
    folder.mkdir()
    file = folder / "run.yaml"
    file.write_text(json.dumps(options_as_json(options(exported, lora=lora, training=SAVED))))
    statuses, said = leg(file, folder / "whole", processes)
    assert statuses == [0] * processes, said
    count = int(said.partition("operations: ")[2].split()[0])
    return [killed(name, file, folder, 1 + round(point * (count - 1)), count) for point in points]


def killed(name, file, folder, at, count):
    """One row: kill at operation `at`, resume, compare."""
    out, processes = folder / f"killed at {at}", RUNS[name][1]
    statuses, said = leg(file, out, processes, at)
    assert statuses[0] == -signal.SIGKILL, said
    assert 0 not in statuses, said
    statuses, said = leg(file, out, processes)
    assert statuses == [0] * processes, said
    where = next(line for line in reversed(said.splitlines()) if "goes on from" in line or "nothing is left" in line)
    return {
        "run": name,
        "killed at": f"{at} of {count}",
        "resumed from": "the last step" if "nothing is left" in where else where.partition("checkpoints/")[2][:12],
        "same": ended(out) == ended(folder / "whole"),
    }


def ended(out):
    """What a run ends with: every byte of its weights, its steps and its log."""
    content = json.loads((out / "results.json").read_text())
    return {p.name: p.read_bytes() for p in (out / "policy").glob("*.safetensors")}, content["steps"], content["log"]


def leg(file, out, processes, at=0):
    """Train in new processes, the first one killed at operation `at`. Returns exit statuses and what was printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log, children = out.with_name(f"{out.name}.log"), []
    for rank in range(processes):
        if not (child := os.fork()):
            where = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(where, 1)
            os.dup2(where, 2)
            if processes > 1:
                group = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
                group |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": 1}
                os.environ.update({key: str(value) for key, value in group.items()})
            run_and_exit(str(file), str(out), at)
        children.append(child)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return statuses, log.read_text()


def run_and_exit(file, out, at):
    """`dar_ref.llm.train --resume`, killed at that file operation after the last step if `at` is not 0."""
    usual, counted = Keeper.on_step_end, []

    def on_step_end(self, args, state, control, **rest):
        usual(self, args, state, control, **rest)
        if state.global_step == STEPS and state.is_world_process_zero:
            stop = (lambda: os.kill(os.getpid(), signal.SIGKILL)) if at else (lambda: None)
            counted.append(file_faults.arm(max(at, 1), stop))

    Keeper.on_step_end = on_step_end
    status = 1
    try:
        status = train.main(["--config", file, "--out", out, "--resume"])
        if counted:
            print(f"operations: {counted[0].seen}")
    finally:
        sys.stdout.flush()
        os._exit(status)


def main(out, exported, runs, points):
    """The chosen runs; returns the exit status."""
    torch.set_num_threads(1)
    build.classes("dar")  # imported once, before the processes are forked
    began, command, rows = time.time(), f"python -m tests.llm.drill {out}", []
    with results.writing(out, command), tempfile.TemporaryDirectory() as name:
        if exported is None:
            exported = Path(name) / "exported"
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(commands, "start_config", lambda _task, _seed: SMALL)
                commands.export("tiny", 0, Path(name) / "cache", exported)
        for run in runs:
            rows += drill(run, exported, Path(name) / run, points)
            print(*rows[-len(points) :], sep="\n", flush=True)
        cells = [tuple("yes" if cell is True else str(cell) for cell in row.values()) for row in rows]
        results.write_text(out / "table.md", markdown(Table(tuple(rows[0]), tuple(cells), ())))
        results.write_json(out / "results.json", {"rows": rows})
        results.write_json(out / "run.json", results.run_info(command, began))
    same = [row["same"] for row in rows]
    print(f"{sum(same)} of {len(same)} end with the same bytes")
    return 0 if all(same) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.llm.drill")
    parser.add_argument("out", type=Path)
    parser.add_argument("--exported", type=Path, help="what `dar-ref toy export` wrote (default: a small one is made)")
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS))
    parser.add_argument("--points", nargs="+", type=float, default=POINTS)
    given = parser.parse_args()
    sys.exit(main(given.out, given.exported, given.runs, given.points))
