"""Seconds and memory of an update: DAR with everything, with each piece off, and TRL's GRPO, RLOO and SFT.
`make benchmark-update`.

All train one step on the same rollouts: the same random model, prompts, completions of unequal lengths and rewards.
Nothing is generated in the measurement; DAR is given the log-probs that the sampler drew with, as in a run. A step is

    score    log-probs under pi_0 (and pi_t, where a method needs them) and everything else before the first loss
    update   forward, backward and optimizer step (SGD, which is small) of all micro-batches

Each measurement is a process of its own, forked from one that has run every variant with a small vocabulary. Rounds
are interleaved: all variants, then all again. Ratios are to TRL's GRPO with KL of the same round; its GRPO without one,
the default of TRL, stands beside it. Seconds are processor time on one thread, so other work on the machine hardly
counts. Memory is the largest resident set of the step above that before it.

Then the same for SmolLM2-135M-Instruct where `make real-model` has put it, on real prompts and completions: all of DAR,
none of it, and TRL's. Then the head alone, as large as in a run: loss and gradients of 4 x 512 tokens from hidden
states and 150,000 words, by the fused loss, by TRL's kernel, and by log-softmax of the whole logits.

Beside each ratio stands what arithmetic alone would give: multiply-adds of the matrix products that a variant makes,
for the tokens it makes them for, padding included, over those of GRPO. It leaves out softmax, attention's scores and
all that is not a product.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from dar_ref import results
from tests.benchmarks.meters import in_a_fork
from tests.benchmarks.update_head import HEAD_SHAPE, HEADS_OF, measure_head
from tests.benchmarks.update_model import (
    HIDDEN,
    INNER,
    LAYERS,
    OURS,
    REAL_MODEL,
    Rollout,
    matrices,
    random_prompts,
    real_prompts,
    roll_out,
    save_model,
)
from tests.benchmarks.update_step import PHASES, REAL_VARIANTS, VARIANTS, Measured, measure, products

VOCABULARIES, WARM_UP = (32_000, 150_000), 500


def main() -> int:
    """Measure, and write results.json, run.json and table.md. Return 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--vocabularies", type=int, nargs="+", default=VOCABULARIES)
    parser.add_argument("--parts", nargs="+", choices=("steps", "real", "head"), default=("steps", "real", "head"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/update"))
    arguments = parser.parse_args()
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.set_verbosity_error()
    began, load = time.time(), [os.getloadavg()[0]]
    written = arguments.out / "results.json"
    content = json.loads(written.read_text(encoding="utf-8")) if written.exists() else {}
    if "head" in arguments.parts:
        content["head"] = of_head(arguments.rounds)
    if set(arguments.parts) - {"head"}:
        warm_up()
    if "steps" in arguments.parts:
        content |= {"sizes": sizes(), "rounds": arguments.rounds}
        content["vocabularies"] = of_steps(arguments.vocabularies, arguments.rounds)
    if "real" in arguments.parts and REAL_MODEL.is_dir():
        content["real"] = of_real_model(arguments.rounds)
    load.append(os.getloadavg()[0])
    about = results.run_info("make benchmark-update", began) | {"load": [round(x, 1) for x in load]}
    results.write_json(written, content)
    results.write_json(arguments.out / "run.json", about)
    results.write_text(arguments.out / "table.md", table(content))
    results.write_text(arguments.out / "head.md", head_table(content))
    print(table(content), head_table(content), sep="\n")
    return 0


def of_head(rounds: int) -> dict[str, Any]:
    """All rounds of the head alone, by what makes its gradients."""
    rows: dict[str, list[Measured]] = {kind: [] for kind in HEADS_OF}
    for _ in range(rounds):
        for kind in HEADS_OF:
            rows[kind].append(Measured(*in_a_fork(partial(measure_head, kind))))
    return {
        kind: {"seconds": [round(m.seconds, 3) for m in measured], "memory": [m.memory for m in measured]}
        for kind, measured in rows.items()
    }


def of_steps(vocabularies: Sequence[int], rounds: int) -> dict[str, Any]:
    """All rounds of all variants, by vocabulary and variant."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for vocabulary in vocabularies:
            model = folder / str(vocabulary)
            save_model(model, vocabulary)
            rollout = roll_out(model, random_prompts(model), cut=True)
            found[str(vocabulary)] = of_model(model, rollout, VARIANTS, rounds, folder / "out")
    return found


def of_real_model(rounds: int) -> dict[str, Any]:
    """All rounds of SmolLM2-135M-Instruct, by variant."""
    rollout = roll_out(REAL_MODEL, real_prompts(), cut=False)
    with tempfile.TemporaryDirectory() as name:
        return of_model(REAL_MODEL, rollout, REAL_VARIANTS, rounds, Path(name) / "out")


def warm_up() -> None:
    """One step of every variant with a small vocabulary: imports, and what is made once in a process."""
    with tempfile.TemporaryDirectory() as name:
        model = Path(name) / "warm"
        save_model(model, WARM_UP)
        rollout = roll_out(model, random_prompts(model), cut=True)
        for variant in VARIANTS:
            measure(variant, model, rollout, Path(name) / "out")


def of_model(model: Path, rollout: Rollout, variants: Sequence[str], rounds: int, out: Path) -> dict[str, Any]:
    """All rounds of all variants, by variant."""
    rows: dict[str, list[Measured]] = {variant: [] for variant in variants}
    for number in range(rounds):
        for variant in variants:
            rows[variant].append(Measured(*in_a_fork(partial(measure, variant, model, rollout, out))))
            print(f"{model.name}, round {number + 1}, {variant}: {rows[variant][-1].seconds:.2f} s", flush=True)
    weights = matrices(model)
    yardstick = products("TRL GRPO + KL", rows["TRL GRPO + KL"][0], weights)
    return {
        variant: {
            **{phase: [round(getattr(m, phase), 3) for m in measured] for phase in PHASES},
            "memory": [m.memory for m in measured],
            "products": round(products(variant, measured[0], weights) / yardstick, 4),
            "skipped": measured[0].skipped,
        }
        for variant, measured in rows.items()
    } | {"tokens": tokens(rollout)}


def tokens(rollout: Rollout) -> dict[str, Any]:
    """Lengths of the rollout, and how certain the model is."""
    lengths = [len(c) for c in rollout.completions]
    sums = sum(map(sum, rollout.logps))
    return {"prompts": [len(p) for p in rollout.prompts], "completions": lengths, "logp": round(sums / sum(lengths), 3)}


def sizes() -> dict[str, Any]:
    """What the model and the batch are."""
    of_step = {"rows": OURS.rows, "micro_batch": OURS.batch, "K": OURS.K}
    return {"hidden": HIDDEN, "inner": INNER, "layers": LAYERS, **of_step}


def ratios(of_variants: dict[str, Any], variant: str, of: str = "seconds") -> list[float]:
    """A phase of a variant over that of TRL's GRPO with KL, round by round."""
    pairs = zip(of_variants[variant][of], of_variants["TRL GRPO + KL"][of], strict=True)
    return [ours / theirs for ours, theirs in pairs]


def table(content: dict[str, Any]) -> str:
    """The ratios in Markdown, with the smallest and largest of the rounds."""
    vocabularies = content.get("vocabularies", {})
    models = {f"Vocabulary {int(size):,}": vocabularies[size] for size in sorted(vocabularies, key=int)}
    if "real" in content:
        models["SmolLM2-135M-Instruct, vocabulary 49,152"] = content["real"]
    return "\n".join(of_variants(title, rows) for title, rows in models.items())


def of_variants(title: str, rows: dict[str, Any]) -> str:
    """One model's table."""
    lines = [
        f"**{title}**\n",
        "| | score, s | update, s | step / GRPO's | spread | products / GRPO's | memory, MB | memory / GRPO's |",
        "| --- |" + " ---: |" * 7,
    ]
    for variant in (variant for variant in VARIANTS if variant in rows):
        row, of_step = rows[variant], ratios(rows, variant)
        score, update = (statistics.median(row[phase]) for phase in ("score", "update"))
        memory, share = statistics.median(row["memory"]) / 1e6, statistics.median(ratios(rows, variant, "memory"))
        lines.append(
            f"| {variant} | {score:.2f} | {update:.2f} | {statistics.median(of_step):.2f} |"
            f" {min(of_step):.2f} to {max(of_step):.2f} | {row['products']:.2f} | {memory:.0f} | {share:.2f} |"
        )
    return "\n".join(lines) + "\n"


def head_table(content: dict[str, Any]) -> str:
    """The head alone, in Markdown."""
    b, t, h, v = HEAD_SHAPE
    lines = [f"**The head alone**, {b} x {t} tokens, {h} dimensions, {v:,} words, float32\n"]
    lines += ["| | seconds | spread | memory, MB | memory / TRL's |", "| --- |" + " ---: |" * 4]
    theirs = statistics.median(content["head"]["TRL's kernel"]["memory"])
    for kind in HEADS_OF:
        row = content["head"][kind]
        memory, seconds = statistics.median(row["memory"]), row["seconds"]
        spread = f"{min(seconds):.1f} to {max(seconds):.1f}"
        middle = statistics.median(seconds)
        lines.append(f"| {kind} | {middle:.1f} | {spread} | {memory / 1e6:.0f} | {memory / theirs:.2f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
