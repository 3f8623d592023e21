"""Learning curves of the toy engine with and without the completions of negligible weight, five seeds of `tldr`.
`make skipping-curves`.

The toy engine leaves out nothing; here its DAR loss is given weights with 0 in the place of what `negligible` names.
Otherwise everything is as in `dar-ref toy run`. The two runs of a seed draw the same prompts in the same order; their
samples part ways as the policies do.
"""

import argparse
import importlib
import sys
import time
from pathlib import Path
from typing import Any

import torch

from dar_ref import results
from dar_ref.evaluation import Interval, paired_difference
from dar_ref.losses import DARLoss, dar_loss, negligible
from dar_ref.toy.config import RunConfig, start_config
from dar_ref.toy.start import load_start
from dar_ref.toy.train import train

FIGURES = ("proxy", "gold", "win_rate", "kl")
SEEDS, TOLERANCES = range(5), (0.0, 1e-3)


def run(seed: int, tolerance: float, cache: Path) -> dict[str, Any]:
    """The evaluations of a run, and the mean share of completions that its updates left out."""
    shares: list[float] = []

    def leaving_out(*policies: Any, **options: Any) -> DARLoss:
        whole = dar_loss(*policies, **options)
        out = negligible(whole.weights.weight, tolerance)
        shares.append(out.float().mean().item())
        weight = torch.where(out, 0.0, whole.weights.weight)
        return DARLoss(-(weight * policies[0]).mean(), whole.weights)

    before, module = dar_loss, importlib.import_module("dar_ref.toy.methods")
    vars(module)["dar_loss"] = leaving_out
    try:
        done = train(load_start(start_config("tldr", seed), cache), RunConfig(seed=seed))
    finally:
        vars(module)["dar_loss"] = before
    rows = [{name: row[name] for name in ("step", *FIGURES)} for row in done.evaluations]
    return {"seed": seed, "tolerance": tolerance, "left_out": sum(shares) / len(shares), "evaluations": rows}


def differences(runs: list[dict[str, Any]]) -> dict[str, Interval]:
    """With less without, at the end, seed by seed."""
    ends = {
        tolerance: [r["evaluations"][-1] for r in sorted(runs, key=lambda r: r["seed"]) if r["tolerance"] == tolerance]
        for tolerance in TOLERANCES
    }
    return {
        name: paired_difference([row[name] for row in ends[TOLERANCES[1]]], [row[name] for row in ends[0.0]])
        for name in FIGURES
    }


def table(runs: list[dict[str, Any]]) -> str:
    """The ends of both, their spread over the seeds, and the difference, in Markdown."""
    lines = ["| | nothing left out | " + f"tolerance {TOLERANCES[1]:g} | difference, 95 % |", "| --- |" + " --- |" * 3]
    for name, interval in differences(runs).items():
        ends = [[r["evaluations"][-1][name] for r in runs if r["tolerance"] == t] for t in TOLERANCES]
        cells = [f"{sum(e) / len(e):.3f} ({min(e):.3f} to {max(e):.3f})" for e in ends]
        lines.append(
            f"| {name} | {' | '.join(cells)} | {interval.estimate:+.3f} ({interval.low:+.3f} to {interval.high:+.3f}) |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run, and write results.json, run.json and table.md. Return 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path("out/toy/cache"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/skipping"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    began, runs = time.time(), []
    for seed in SEEDS:
        for tolerance in TOLERANCES:
            runs.append(run(seed, tolerance, arguments.cache))
            print(f"seed {seed}, tolerance {tolerance:g}: left out {runs[-1]['left_out']:.2f}", flush=True)
    results.write_json(arguments.out / "results.json", {"runs": runs})
    results.write_json(arguments.out / "run.json", results.run_info("make skipping-curves", began))
    results.write_text(arguments.out / "table.md", table(runs))
    print(table(runs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
