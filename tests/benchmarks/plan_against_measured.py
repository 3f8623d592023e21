"""The memory that `dar-ref plan` predicts, against the memory that a run takes. `make benchmark-plan`.

Each case is trained for two steps in a fresh process (`plan_cases`). The memory of the process after its imports is
subtracted from all later numbers. On a CPU the peak of a phase is the kernel's peak of the resident memory (VmHWM),
which is reset when the phase begins. It measures the tensors only if freed memory is returned at once. For that, glibc
must map every block from 64 KiB on separately (MALLOC_MMAP_THRESHOLD_) and use one arena; otherwise freed memory stays
resident and counts twice. On a GPU the peak is `torch.cuda.max_memory_allocated`, and the plan is taken without its
stated overhead, which torch does not allocate.

Other memory before the first step (tokenizer, data, modules imported late) is measured but not planned; the table shows
it.

The plan is not fitted to these measurements: each of its terms is counted, and a test compares it with the tensors that
it stands for.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from dar_ref import results
from tests.benchmarks.plan_cases import CASES, CUDA_CASES, Case, make_trainer, options, quiet, save_models, watch_phases

LIMIT = 0.10  # of the measured peak
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
MALLOC["MALLOC_MMAP_MAX_"] = "1000000"
MB = 1e6


def main() -> int:
    """Run all cases, print the table, write the results. Return 1 if a peak is off by more than `LIMIT`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results/plan"))
    parser.add_argument("--only", default="", help="only cases whose name contains this; then nothing is written")
    parser.add_argument("--child", nargs=2, metavar=("JOB", "CASE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return child(*arguments.child, arguments.out)
    started = time.time()
    rows = [run_case(case) for case in cases() if arguments.only in case.name]
    text = table(rows)
    print(text)
    if not arguments.only:
        results.write_json(arguments.out / "results.json", {"limit": LIMIT, "cases": rows})
        results.write_text(arguments.out / "table.md", text)
        results.write_json(arguments.out / "run.json", results.run_info("make benchmark-plan", started))
    return 0 if all(abs(row["ratio"] - 1) <= LIMIT for row in rows) else 1


def cases() -> tuple[Case, ...]:
    """The cases for a CPU, and those for a GPU if there is one."""
    import torch

    return (*CASES, *CUDA_CASES) if torch.cuda.is_available() else CASES


def run_case(case: Case) -> dict[str, Any]:
    """Save the models in one process, train in another, plan in a third, and put the numbers side by side."""
    with tempfile.TemporaryDirectory() as folder:
        printed = [spawn(job, case, folder) for job in ("save", "train", "plan")]
    measured, planned = printed[1], printed[2]
    by_phase = {
        phase: {"measured": measured["peaks"][phase], "planned": planned["peaks"][phase]} for phase in planned["peaks"]
    }
    peak = max(measured["peaks"].values())
    row = {
        "case": case.name,
        "device": measured["device"],
        "weights": planned["weights"],
        "planned": planned["peak"],
        "measured": peak,
        "ratio": round(planned["peak"] / peak, 3),
        "peaks": by_phase,
        "no_tensors": measured["beside"],
        "moment": planned["moment"],
        "terms": planned["terms"],
    }
    print(f"{case.name}: planned {row['planned'] / MB:.0f} MB, measured {peak / MB:.0f} MB, {row['ratio']:.3f}")
    for phase, both in by_phase.items():
        ratio = both["planned"] / both["measured"]
        print(f"    {phase}: {both['planned'] / MB:.0f} MB, {both['measured'] / MB:.0f} MB, {ratio:.3f}", flush=True)
    return row


def spawn(job: str, case: Case, folder: str) -> dict[str, Any]:
    """One job in a fresh process; the last line that it prints is its result."""
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.plan_against_measured",
        "--child",
        job,
        case.name,
        "--out",
        folder,
    ]
    environment = {"OMP_NUM_THREADS": "1"} | os.environ | MALLOC
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{case.name}, {job}:\n{done.stderr[-4000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().split("\n")[-1])
    return answer


def child(job: str, name: str, folder: Path) -> int:
    """The job of a fresh process: save the models, train, or plan."""
    quiet()
    case = next(case for case in (*CASES, *CUDA_CASES) if case.name == name)
    jobs = {"save": saved, "train": measured_peaks, "plan": planned_peaks}
    print("\n" + json.dumps(jobs[job](case, folder)))
    return 0


def saved(case: Case, folder: Path) -> dict[str, Any]:
    """Write the models."""
    save_models(case, folder)
    return {}


def planned_peaks(case: Case, folder: Path) -> dict[str, Any]:
    """The plan of the case, without the overhead."""
    import torch

    from dar_ref.llm.plan.estimate import plan

    made = plan(options(case, folder), cuda=torch.cuda.is_available())
    peaks = {moment.phase: moment.total - moment.terms.get("overhead", 0) for moment in made.peaks}
    largest = max(made.peaks, key=lambda moment: moment.total)
    terms = {name: count for name, count in largest.terms.items() if name != "overhead"}
    moment = f"{largest.phase}: {largest.name}"
    return {"peaks": peaks, "peak": max(peaks.values()), "weights": terms["weights"], "moment": moment, "terms": terms}


def measured_peaks(case: Case, folder: Path) -> dict[str, Any]:
    """The peaks of the phases of two steps, in bytes above the memory after the imports."""
    import datasets
    import peft
    import torch
    import transformers
    import trl

    _ = datasets.Dataset, peft.LoraConfig, transformers.AutoModelForCausalLM, trl.GRPOTrainer  # imported at first use
    cuda = torch.cuda.is_available()
    base = 0 if cuda else resident("VmRSS")
    trainer = make_trainer(case, folder)
    gc.collect()
    models = [trainer.model, trainer.ref_model, *trainer.reward_funcs]
    parameters = [p for model in models if isinstance(model, torch.nn.Module) for p in model.parameters()]
    tensors = sum(parameter.nbytes for parameter in parameters)
    for parameter in parameters:
        parameter.detach().sum()  # weights are mapped from their file; reading makes them resident
    beside = 0 if cuda else resident("VmRSS") - base - tensors
    found: dict[str, int] = {}
    now = ""

    def enter(phase: str) -> None:
        nonlocal now
        if now:
            peak = torch.cuda.max_memory_allocated() if cuda else resident("VmHWM") - base
            found[now] = max(found.get(now, 0), peak)
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
        now = phase

    with watch_phases(trainer, enter):
        trainer.train()
        enter("")
    return {"peaks": found, "beside": beside, "device": torch.cuda.get_device_name() if cuda else "CPU"}


def resident(field: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().split("\n"):
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}; this benchmark needs Linux")


def table(rows: list[dict[str, Any]]) -> str:
    """The results as Markdown, in MB."""
    lines = [
        "| case | weights | planned | measured | of it no tensors | planned / measured | generate | score | update |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        ratios = [f"{both['planned'] / both['measured']:.2f}" for both in row["peaks"].values()]
        sizes = [f"{row[name] / MB:,.0f} MB" for name in ("weights", "planned", "measured", "no_tensors")]
        together = f"**{row['ratio']:.2f}**"
        lines.append(f"| {' | '.join([row['case'], *sizes, together, *ratios])} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
