"""The package as a user gets it: a wheel in an empty environment, used from an empty folder. `make wheel-drill`.

Builds the wheel, installs it alone, then with the extra `llm`, and runs every command of the README and of Getting
started that needs no GPU and no source tree. Writes results.json, run.json, table.md to docs/results/wheel; ends with
1 if a command ended otherwise than expected, or did not say what it should.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from dar_ref import results

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results" / "wheel"
PAIR = "--num_processes 2 --mixed_precision no --main_process_port 0"


class Step(NamedTuple):
    """command: as a user types it; status: that it should end with; says: a part of what it should print."""

    command: str
    status: int = 0
    says: str = ""


ALONE = (
    Step("dar-ref --help"),
    Step("dar-ref verify --cases 100", says="PASS"),
    Step("dar-ref demo --out out/demo"),
    Step("python -m dar_ref.minimal.bandit"),
)
WITHOUT_LLM = (
    Step("dar-ref train --config toy_cpu", 2, 'is missing; pip install "dar-ref[llm]"'),
    Step("python -c 'from dar_ref.llm import DARTrainer'", 1, 'is missing; pip install "dar-ref[llm]"'),
)
WITH_LLM = (
    Step("dar-ref toy export out/toy/export"),
    Step("dar-ref plan --config qwen2-7b-tldr --device-memory 80", says="GiB"),
    Step("dar-ref train --config toy_cpu --dry-run", says="nothing was trained"),
    Step("dar-ref train --config toy_cpu training.max_steps=20", says="20 steps; policy in out/train/policy"),
    Step("dar-ref train --config toy_cpu training.max_steps=22 --resume", says="22 steps; policy in out/train/policy"),
    Step("dar-ref train --config toy-cpu", 2, "pass a YAML file or one of"),
    Step("dar-ref configs my-configs", says="my-configs/accelerate/fsdp2.yaml"),
    Step("dar-ref configs my-configs", 2, "is there already"),
    Step("dar-ref train --config my-configs/toy_cpu.yaml --out out/own training.max_steps=1"),
    Step(
        f"accelerate launch --config_file my-configs/accelerate/ddp.yaml {PAIR} -m dar_ref.llm.train --config toy_cpu"
        " --out out/ddp training.max_steps=2 training.per_device_train_batch_size=64",
        says="2 steps; policy in out/ddp/policy",
    ),
    Step("python -c 'from dar_ref.llm import DARConfig, DARTrainer; print(DARConfig.__name__)'", says="DARConfig"),
)


def run(step: Step, home: Path, folder: Path) -> dict[str, Any]:
    """Run a command by the programs of the environment in `home`, in `folder`."""
    drop = {"PYTHONPATH", "VIRTUAL_ENV"}
    environment = {name: value for name, value in os.environ.items() if name not in drop}
    environment |= {"PATH": f"{home / 'bin'}:{environment['PATH']}", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    began = time.time()
    done = subprocess.run(
        shlex.split(step.command), cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    as_expected = done.returncode == step.status and step.says in done.stdout + done.stderr
    print(f"{'ok ' if as_expected else 'NOT'} {done.returncode} {step.command}", flush=True)
    if not as_expected:
        print((done.stdout + done.stderr)[-3000:], file=sys.stderr)
    row = {"command": step.command, "status": done.returncode, "expected": step.status, "as_expected": as_expected}
    return row | {"seconds": round(time.time() - began, 1)}


def install(home: Path, wheel: Path, extra: str) -> None:
    """Install the wheel, with the versions of constraints.txt."""
    constraint = ["--constraint", str(ROOT / "constraints.txt")]
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-compile"]
    subprocess.run([*pip, *constraint, f"{wheel}{extra}"], check=True)


def drill(scratch: Path) -> list[dict[str, Any]]:
    """Build, install, run; one row for each command."""
    home, folder = scratch / "environment", scratch / "empty"
    folder.mkdir()
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    pip = [str(home / "bin" / "python"), "-m", "pip", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(scratch), str(ROOT)], check=True)
    (wheel,) = scratch.glob("*.whl")
    rows = []
    for extra, steps in (("", ALONE + WITHOUT_LLM), ("[llm]", WITH_LLM)):
        install(home, wheel, extra)
        rows += [{"extra": extra.strip("[]"), **run(step, home, folder)} for step in steps]
    return rows


def table(content: dict[str, Any]) -> str:
    """The rows in Markdown."""
    lines = ["| installed | command | exit status |", "| --- | --- | ---: |"]
    for row in content["commands"]:
        what = f'`pip install "dar-ref[{row["extra"]}]"`' if row["extra"] else "`pip install dar-ref`"
        lines.append(f"| {what} | `{row['command']}` | {row['status']} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the drill and write the files; 0 if every command ended as expected."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS)
    out, began = parser.parse_args().out, time.time()
    with tempfile.TemporaryDirectory() as scratch:
        rows = drill(Path(scratch))
    seconds = [row.pop("seconds") for row in rows]
    content = {"commands": rows}
    results.write_json(out / "results.json", content)
    info = results.run_info("python -m tests.wheel_drill", began)
    results.write_json(out / "run.json", info | {"seconds_of": seconds})
    results.write_text(out / "table.md", table(content))
    return 0 if all(row["as_expected"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
