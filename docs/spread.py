"""Why groups of few drift on `helpful`: the std that advantages are divided by, along runs of `dar-ref toy samples`.

    python docs/spread.py [--cache out/toy/cache]

Does the runs with K 4 again, with the mean of the group and with that of the batch, five seeds, and writes for every
rollout the std of the advantage, the KL and the mean reward to docs/results/samples/spread.json, with a figure. A run
is the same as in the experiment: the reward is the annotator's, read on its way.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dar_ref import results
from dar_ref.plots.style import save_png, style
from dar_ref.toy.config import RunConfig, start_config
from dar_ref.toy.experiments.settings import EXPERIMENTS
from dar_ref.toy.start import Start, load_start
from dar_ref.toy.train import train

HERE = Path(__file__).parent / "results" / "samples"
LABELS = {"group": "K 4, mean of the group", "batch": "K 4, mean of the batch"}
TASK, SEEDS, EVERY = "helpful", range(5), 10  # rollouts of a point


def spreads(start: Start, config: RunConfig) -> list[dict[str, float]]:
    """Means over each EVERY rollouts of a run: the std of the advantage before it is divided by it, and its KL."""
    stds: list[float] = []

    def annotator(prompts: list[list[str]], responses: list[list[str]], ended: list[bool]) -> Sequence[float]:
        found = [start.task.annotator(*row) for row in zip(prompts, responses, ended, strict=True)]
        groups = np.array(found).reshape(-1, config.num_generations)
        axis = 1 if config.baseline == "group" else None
        stds.append(float((groups - groups.mean(axis=axis, keepdims=True)).std()))
        return found

    run = train(start, config, reward=annotator)
    points = []
    for first in range(0, len(stds), EVERY):
        part = slice(first, first + EVERY)
        kl, reward = ([rollout[key] for rollout in run.rollouts[part]] for key in ("kl", "reward"))
        means = {"std": np.mean(stds[part]), "kl": np.mean(kl), "reward": np.mean(reward)}
        points.append({"step": first} | {name: round(float(value), 4) for name, value in means.items()})
    return points


def figure(content: dict[str, Any]) -> Any:
    """The std and the KL along the runs, one line per seed."""
    import matplotlib.pyplot as plt

    with style():
        drawn, axes = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained")
        for color, (baseline, runs) in zip(("C0", "C1"), content["runs"].items(), strict=True):
            for seed, points in enumerate(runs):
                steps = [point["step"] for point in points]
                name = f"mean of the {baseline}" if seed == 0 else None
                axes[0].plot(steps, [point["std"] for point in points], color=color, alpha=0.7, label=name)
                axes[1].plot(steps, [point["kl"] for point in points], color=color, alpha=0.7)
        axes[0].set(title="std of the advantage", xlabel="update", ylim=(0, None))
        axes[1].set(title="KL(πₜ‖π₀), nats", xlabel="update", ylim=(0, None))
        axes[0].legend(fontsize="small")
    return drawn


def main() -> int:
    """Do the runs, write spread.json and spread.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path("out/toy/cache"))
    cache = parser.parse_args().cache
    torch.set_num_threads(1)
    settings = {setting.label: setting for setting in EXPERIMENTS["samples"].settings({}) if setting.task == TASK}
    runs: dict[str, list[list[dict[str, float]]]] = {}
    for baseline, label in LABELS.items():
        runs[baseline] = []
        for seed in SEEDS:
            config = replace(settings[label].config, seed=seed, evaluate_on="test", evaluate_every=10**6)
            runs[baseline].append(spreads(load_start(start_config(TASK, seed), cache), config))
            print(json.dumps({label: runs[baseline][-1][-1]}), flush=True)
    content = {"command": "python docs/spread.py", "task": TASK, "runs": runs}
    results.write_json(HERE / "spread.json", content)
    save_png(figure(content), HERE / "spread.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
