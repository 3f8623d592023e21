"""Samples trained per second: the toy engine against TRL's `GRPOTrainer`. `make benchmark-trl`.

Both train the same pi_0 with GRPO on the same prompts, K = 4, at most 12 tokens, with the same gold reward, in turn, on
one thread of one process. A step is 128 samples: generation, reward, reference and policy forward, backward, Adam. Time
is processor time, so other work on the machine does not count; on an idle core it equals wall time. The fastest median
of all rounds counts. Then the engine alone: time per sample for growing batches, and its profile.
"""

import argparse
import importlib
import itertools
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.profiler import ProfilerActivity, profile, record_function
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM, TrainerCallback
from transformers.utils import logging
from trl import GRPOConfig, GRPOTrainer

from dar_ref.toy import commands, methods
from dar_ref.toy.config import RunConfig, start_config
from dar_ref.toy.start import Start, load_start

toy_train = importlib.import_module("dar_ref.toy.train")  # the package's `train` is its function
STEPS, WARM_UP, ROUNDS, K = 24, 4, 3, 4
GOAL, LIMIT = 5.0, 2.5  # multiples of TRL's samples per second: the goal, and the lower limit
BATCHES = (64, 128, 256, 512, 1024)


class Clock(TrainerCallback):
    """Time at the end of every step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *_args: Any, **_kwargs: Any) -> None:
        self.times.append(time.process_time())


def step_seconds(times: list[float]) -> float:
    """Median seconds of a step, without the warm-up."""
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    return statistics.median(gaps[WARM_UP:])


def of_trl(start: Start, folder: Path, batch: int) -> float:
    """Seconds of a TRL step."""
    clock, task = Clock(), start.task

    def reward(prompts: list[str], completions: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        rows = zip(prompts, completions, completion_ids, strict=True)
        return [task.gold(prompt.split(), text.split(), ids[-1] == 0) for prompt, text, ids in rows]

    trainer = GRPOTrainer(
        model=Qwen2ForCausalLM.from_pretrained(folder / "policy"),
        processing_class=PreTrainedTokenizerFast.from_pretrained(folder / "policy"),
        reward_funcs=reward,
        train_dataset=Dataset.from_json(str(folder / "prompts" / "train.jsonl")),
        callbacks=[clock],
        args=GRPOConfig(
            output_dir=str(folder / "trl"),
            per_device_train_batch_size=batch,
            num_generations=K,
            max_completion_length=task.max_new_tokens,
            max_steps=STEPS,
            learning_rate=3e-4,
            beta=0.04,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            save_strategy="no",
            report_to=[],
            logging_steps=STEPS,
            disable_tqdm=True,
        ),
    )
    trainer.train()
    return step_seconds(clock.times)


def of_ours(start: Start, batch: int, method: str = "grpo", reward: str = "gold") -> float:
    """Seconds of a step of the toy engine."""
    times: list[float] = []
    config = RunConfig(
        method=method, steps=STEPS, batch_prompts=batch // K, num_generations=K, reward=reward, evaluate_every=10**6
    )
    toy_train.train(start, config, on_step=lambda _: times.append(time.process_time()))
    return step_seconds(times)


def shares(start: Start) -> dict[str, float]:
    """Share of each part in the time of a DAR step with the proxy reward."""
    parts = {
        "sample": (toy_train, "sample"),
        "reward": (toy_train, "rewards_of"),
        "score pi_t, pi_0": (toy_train, "make_rollout"),
    }
    originals = {name: getattr(module, attribute) for name, (module, attribute) in parts.items()}
    originals["loss"] = methods.method_loss

    def labelled(name: str) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            with record_function(f"part {name}"):
                return originals[name](*args, **kwargs)

        return run

    for name, (module, attribute) in parts.items():
        setattr(module, attribute, labelled(name))
    toy_train.method_loss = labelled("loss")
    began = time.process_time()
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        toy_train.train(start, RunConfig(steps=STEPS, evaluate_every=10**6))
    total = time.process_time() - began
    for name, (module, attribute) in parts.items():
        setattr(module, attribute, originals[name])
    toy_train.method_loss = originals["loss"]
    taken = {e.key: e.cpu_time_total / 1e6 for e in recorded.key_averages() if e.key.startswith("part ")}
    found = {name.removeprefix("part "): seconds / total for name, seconds in taken.items()}
    return {**found, "backward, Adam and the rest": 1.0 - sum(found.values())}


def main() -> int:
    """Print the table. Return 1 if the engine is slower than `LIMIT` times TRL's speed, else 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--cache", type=Path, default=Path("out/toy/cache"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    start = load_start(start_config("tldr", 0), arguments.cache)
    with tempfile.TemporaryDirectory() as folder:
        commands.export("tldr", 0, arguments.cache, Path(folder))
        rounds = [(of_trl(start, Path(folder), 128), of_ours(start, 128)) for _ in range(ROUNDS)]
    trl, ours = (128 / min(seconds) for seconds in zip(*rounds, strict=True))
    growth = {batch: 1e3 * of_ours(start, batch, "dar", "proxy") / batch for batch in BATCHES}
    figures = {
        "samples_per_second": {"TRL GRPOTrainer": round(trl), "toy engine, GRPO": round(ours)},
        "ratio": round(ours / trl, 2),
        "dar_ms_per_sample_by_batch": {str(batch): round(ms, 3) for batch, ms in growth.items()},
        "dar_step_shares": {name: round(share, 2) for name, share in shares(start).items()},
    }
    text = json.dumps(figures, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n", encoding="utf-8")
    return int(ours / trl < LIMIT)


if __name__ == "__main__":
    sys.exit(main())
