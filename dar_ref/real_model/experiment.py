"""The comparison on real text: `python -m dar_ref.real_model.experiment`, or `make real-experiment`.

Every run is one `dar-ref train` of a configuration `smollm2-135m-*`, in a folder of its own, and its checkpoints are
measured on the test prompts. The command can be stopped at any moment and started again: a run goes on from its last
checkpoint, what is measured is not measured twice. Results are written after every run, so they stand with whatever
runs are there; `--updates 40` prolongs runs of 20. On a GPU, with the paper's batch:

    --set training.use_cpu=false training.per_device_train_batch_size=128

    OUT/set.json                     the options of all runs, --set: all that is in OUT has the same
    OUT/TASK/RUN/seed-S/             what `dar-ref train` writes
    OUT/TASK/RUN/seed-S/measured.json
    REPORT/results.json, run.json, table.md, gold.png, panel.png
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from dar_ref import results, scalars
from dar_ref.errors import exit_status, path, whole
from dar_ref.llm.data.load import load_prompts
from dar_ref.llm.models.policy import load_policy, model_folder, policy_tokenizer
from dar_ref.llm.models.prompts import PromptReader
from dar_ref.llm.options import ModelOptions, RunOptions, load_options
from dar_ref.llm.real.measure import complete, of_tokens, with_adapter
from dar_ref.real_model import report
from dar_ref.real_model.runs import RUNS, PlannedRun

SET = "set.json"
SEED = 1  # of the answers to the test prompts


def do(run: PlannedRun, seed: int, updates: int, out: Path, options_of_all: Sequence[str] = ()) -> None:
    """Train one run and measure its checkpoints, as far as that is not done.

    Args:
        run: what to train.
        seed: of the training.
        updates: how far.
        out: folder of all runs.
        options_of_all: KEY=VALUE of the configuration; a run's own come after them.

    Raises:
        ValueError: the run is there with other `options_of_all`, or its end would not be measured.
        ChildProcessError: training failed; the same command resumes it.
    """
    folder = out / run.task / run.name / f"seed-{seed}"
    file = folder / "measured.json"
    check_same(file, options_of_all)
    check_same(out / SET, options_of_all)
    results.write_json(out / SET, {"set": list(options_of_all)})  # before the first training: measuring may be stopped
    overrides = [*options_of_all, *run.overrides, f"training.seed={seed}", f"training.max_steps={updates}"]
    options = load_options(f"smollm2-135m-{run.task}", overrides)
    if updates % (every := options.training["save_steps"]):
        raise ValueError(
            f"--updates = {updates}: checkpoints are written and measured every {every} updates, and the end would not"
            f" be; pass a multiple of {every}"
        )
    if not (folder / "checkpoints" / f"checkpoint-{updates}").is_dir() or not (folder / "results.json").is_file():
        train = ["-m", "dar_ref.llm.train", "--config", f"smollm2-135m-{run.task}", "--out", str(folder), "--resume"]
        status = subprocess.run([sys.executable, *train, *overrides], check=False).returncode
        if status:
            raise ChildProcessError(f"{folder}: training ended with {status}, see above; the same command resumes it")
    start, prompts = out / run.task / "pi_0.json", report.prompts_hash(report.test_prompts(options.data))
    if report.read_measured(start, prompts) is None:
        results.write_json(start, {"prompts": prompts} | measured(options, None, 0))
    new: dict[str, Any] = {"prompts": prompts, "set": list(options_of_all), "checkpoints": []}
    content = report.read_measured(file, prompts) or new
    for step in range(options.training["save_steps"], updates + 1, options.training["save_steps"]):
        if step not in [point["step"] for point in content["checkpoints"]]:
            checkpoint = folder / "checkpoints" / f"checkpoint-{step}"
            content["checkpoints"].append(measured(options, checkpoint, step))
            results.write_json(file, content)


def check_same(file: Path, options_of_all: Sequence[str]) -> None:
    """Raise ValueError if a run was measured with other options than those that are asked for."""
    if file.is_file():
        there, here = (
            " ".join(words) or "nothing" for words in (report.read_json(file).get("set", []), options_of_all)
        )
        if there != here:
            raise ValueError(f"{file} is of a run with --set {there}, and here it is {here}; pass another --out")


def measured(options: RunOptions, checkpoint: Path | None, step: int) -> dict[str, Any]:
    """The answers of one checkpoint to the test prompts, and greedy answers to the prompts that are shown.

    Args:
        options: of the run.
        checkpoint: folder of an adapter; None for pi_0.
        step: updates so far.
    """
    base, tokenizer, texts, rows = _loaded(options)
    model = with_adapter(base, checkpoint)
    tokens = options.generation["max_completion_length"]
    shown = report.places_shown(texts)
    found = complete(model, tokenizer, texts, tokens, SEED)
    greedy = complete(model, tokenizer, [texts[i] for i in shown], tokens, None)
    if checkpoint is not None:
        model.unload()
    return {
        "step": step,
        "completions": of_tokens(found),
        "greedy": [
            {"prompt": rows[i]["prompt"][-1]["content"], "answer": answer.text}
            for i, answer in zip(shown, greedy, strict=True)
        ],
    }


@cache
def _base(model: ModelOptions, folder: Path, device: str) -> Any:
    return load_policy(model, folder).eval().to(device)


def _loaded(options: RunOptions) -> tuple[Any, Any, list[str], list[dict[str, Any]]]:
    """pi_0, its tokenizer, and the test prompts: as the model reads them, and as rows."""
    folder = model_folder(options.model)
    tokenizer = policy_tokenizer(options.model, folder)
    test = replace(options.data, prompts=str(report.test_prompts(options.data)))
    rows = list(load_prompts(test, tokenizer).dataset)
    texts = PromptReader(tokenizer).write([row["prompt"] for row in rows])
    return _base(options.model, folder, "cpu" if options.training["use_cpu"] else "cuda"), tokenizer, texts, rows


def planned(seeds: int) -> tuple[PlannedRun, ...]:
    """All runs; those of several seeds have at least so many."""
    return tuple(run if run.seeds == 1 else run._replace(seeds=max(run.seeds, seeds)) for run in RUNS)


def main(argv: Sequence[str] | None = None) -> int:
    """Do all runs that are asked for; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m dar_ref.real_model.experiment",
        description="Train SmolLM2-135M-Instruct on real text with several methods, measure, and write a report.",
    )
    parser.add_argument("--out", type=path, default=Path("out/real-experiment"), help="of the runs (%(default)s)")
    parser.add_argument("--report", type=path, help="folder of results, table and figures (default: OUT/report)")
    parser.add_argument("--task", choices=sorted({run.task for run in RUNS}), help="only this one")
    parser.add_argument("--runs", nargs="+", choices=sorted({run.name for run in RUNS}), help="only these")
    parser.add_argument(
        "--seeds", type=whole, default=3, help="of each run that is planned with several (default: %(default)s)"
    )
    parser.add_argument("--updates", type=whole, default=20, help="of each run, a multiple of 5 (default: %(default)s)")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="options of the configuration, for all runs"
    )
    parser.add_argument(
        "--only-report", action="store_true", help="do no run; write the report of those that are there"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of what stops it")
    arguments = parser.parse_args(argv)
    return exit_status("dar_ref.real_model.experiment", lambda: _all(arguments), arguments.debug)


def _all(arguments: argparse.Namespace) -> int:
    scalars.integer("--seeds", arguments.seeds, 1)
    scalars.integer("--updates", arguments.updates, 1)
    folder, runs = arguments.report or arguments.out / "report", planned(arguments.seeds)
    for seed in range(0 if arguments.only_report else arguments.seeds):
        for run in runs:
            wanted = arguments.task in (None, run.task) and (arguments.runs is None or run.name in arguments.runs)
            if wanted and seed < run.seeds:
                print(f"{run.task}, {run.label}, seed {seed}", file=sys.stderr)
                do(run, seed, arguments.updates, arguments.out, arguments.set)
                report.write_measured(arguments.out, folder, runs)
    report.write_measured(arguments.out, folder, runs)
    print(folder / "results.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
