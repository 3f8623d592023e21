"""The runs behind `llm_methods`: one method, one seed, by the full-size script or by the toy engine.

Each run needs its own process. A finished run is a folder, and is not done again.

    exports/<seed>-<key>/          what `dar-ref toy export` writes
    runs/<engine>-<method>-.../    policy/, what the script or the engine wrote, log.txt and figures.json
"""

import contextlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import Qwen2ForCausalLM

from dar_ref import results
from dar_ref.llm.options import METHODS, RunOptions, load_options, options_as_json
from dar_ref.toy import cache, commands
from dar_ref.toy.config import RunConfig, start_config
from dar_ref.toy.measure import Evaluator
from dar_ref.toy.start import Start, load_start, start_key

TASK = "tldr"
CONFIG = "toy_cpu"
PER_PROMPT = (4, 16)  # completions per test prompt: for the table of methods, and for the comparison of the engines
FIGURES = ("proxy", "gold", "win_rate", "length", "missing_eos", "kl")
IN_BOTH = ("dar", "dao", "grpo", "rloo", "online_dpo", "dpo")  # not PPO: only the toy engine's has a critic


class Job(NamedTuple):
    """engine: script, toy, or pi_0 (no training); method: of the engine; seed: for the start and for training."""

    engine: str
    method: str
    seed: int


class Folders(NamedTuple):
    """starts: cache of the toy engine; work: exports and runs, see the module docstring."""

    starts: Path
    work: Path


def jobs(seeds: int) -> list[Job]:
    """Every run, in the order of execution."""
    of_a_seed = [("pi_0", "pi_0"), *(("script", m) for m in METHODS), *(("toy", m) for m in IN_BOTH)]
    return [Job(engine, method, seed) for seed in range(seeds) for engine, method in of_a_seed]


def options_of(job: Job, export: Path = Path("out/toy/export")) -> RunOptions:
    """The script's options: `toy_cpu`, with the method, the seed, and the folder that the toy engine exported to."""
    return load_options(
        CONFIG,
        [
            f"method={job.method}",
            f"model.name={export / 'policy'}",
            f"data.prompts={export / 'prompts' / 'train.jsonl'}",
            "data.eval_prompts=null",
            f"data.preferences={export / 'preferences.jsonl'}",
            f"reward.name={export / 'reward_model'}",
            f"training.seed={job.seed}",
            'training.save_strategy="no"',
            "training.disable_tqdm=true",
        ],
    )


def config_of(job: Job) -> RunConfig:
    """The toy engine's options that mean the same as `options_of`."""
    options = options_of(job)
    training, method = {**options.training, **options.methods[job.method]}, options.methods[job.method]
    generations = 2 if job.method == "online_dpo" else options.generation["num_generations"]
    per_row = {"online_dpo": 2, "dpo": 2}.get(job.method, 1)  # TRL counts prompts and pairs there, not completions
    own: dict[str, Any] = {name: method[name] for name in ("alpha", "w_clip", "epsilon") if name in method}
    beta = method["beta"][0] if isinstance(method["beta"], list) else method["beta"]
    own[{"dar": "beta", "dao": "beta", "grpo": "kl_coef", "rloo": "kl_coef"}.get(job.method, "dpo_beta")] = beta
    return RunConfig(
        method=job.method,
        steps=training["max_steps"],
        batch_prompts=training["per_device_train_batch_size"] * per_row // generations,
        num_generations=generations,
        learning_rate=training["learning_rate"],
        evaluate_every=training["max_steps"],
        evaluate_on="test",
        seed=job.seed,
        **own,
    )


def folder_of(job: Job, folders: Folders) -> Path:
    """The folder of a run, named by its options and its start."""
    inputs: dict[str, Any] = {"start": start_key(start_config(TASK, job.seed)), "per_prompt": PER_PROMPT}
    if job.engine == "script":
        inputs["options"] = options_as_json(options_of(job))
    elif job.engine == "toy":
        inputs["config"] = results.plain(config_of(job))
    return folders.work / "runs" / f"{job.engine}-{job.method}-{job.seed}-{cache.content_key(inputs)}"


def figures_of(job: Job, folders: Folders) -> dict[str, Any]:
    """The metrics of a finished run."""
    return json.loads((folder_of(job, folders) / "figures.json").read_text(encoding="utf-8"))


def do(job: Job, folders: Folders) -> None:
    """Do one run, unless it is done. Call it in a fresh process, so that runs cannot affect each other."""
    torch.set_num_threads(1)

    def make(folder: Path) -> None:
        began, processor = time.time(), time.process_time()
        start = load_start(start_config(TASK, job.seed), folders.starts)
        policy = start.pi_0 if job.engine == "pi_0" else TRAIN[job.engine](job, folders, start, folder)
        seconds = {"wall": time.time() - began, "processor": time.process_time() - processor}
        measured = {str(count): measure(start, policy, count) for count in PER_PROMPT}
        rounded = {name: round(value, 1) for name, value in seconds.items()}
        results.write_json(folder / "figures.json", {"seconds": rounded, **measured})

    cache.made(folder_of(job, folders), make)


def by_script(job: Job, folders: Folders, _start: Start, folder: Path) -> Qwen2ForCausalLM:
    """Train by `dar_ref.llm.train.train`; its output goes to log.txt."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
    with (folder / "log.txt").open("w") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        from dar_ref.llm.train import train

        export = folders.work / "exports" / f"{job.seed}-{start_key(start_config(TASK, job.seed))}"
        cache.made(export, lambda new: commands.export(TASK, job.seed, folders.starts, new))
        train(options_of(job, export), folder)
        return Qwen2ForCausalLM.from_pretrained(folder / "policy")


def by_toy_engine(job: Job, _folders: Folders, start: Start, folder: Path) -> Qwen2ForCausalLM:
    """Train by `dar_ref.toy.train.train`."""
    from dar_ref.toy.train import train

    run = train(start, config_of(job))
    if run.diverged is not None:
        raise RuntimeError(f"{job} diverged at step {run.diverged}; lower its learning rate in toy_cpu.yaml")
    run.policy.save_pretrained(folder / "policy")
    return run.policy


TRAIN = {"script": by_script, "toy": by_toy_engine}


def measure(start: Start, policy: Qwen2ForCausalLM, count: int) -> dict[str, float]:
    """Metrics on the test prompts, `count` completions each, with the same random numbers for all policies."""
    prompts = [prompt for prompt in start.prompts.test for _ in range(count)]
    found: Mapping[str, Any] = Evaluator(start, prompts).evaluate(policy.eval(), 0)
    return {name: found[name] for name in FIGURES}


def bar() -> Progress:
    """A progress bar for long work."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))
