"""What `dar-ref toy ...` does; the command line itself is in `dar_ref.cli.toy`."""

import dataclasses
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from dar_ref import results, scalars
from dar_ref.evaluation import Table as TextTable
from dar_ref.evaluation import markdown, plain_text
from dar_ref.plots.style import save_png
from dar_ref.progress import reporting
from dar_ref.toy.config import RunConfig, StartConfig, start_config
from dar_ref.toy.exact import report, study
from dar_ref.toy.exact.enumerate import exact_observer
from dar_ref.toy.experiments.conduct import conduct, on_tasks
from dar_ref.toy.experiments.report import elapsed, write
from dar_ref.toy.experiments.runner import Job, run_jobs
from dar_ref.toy.experiments.settings import EXPERIMENTS
from dar_ref.toy.policy import Completions, decode, encode_prompts, save, tokenizer
from dar_ref.toy.sampling import sample
from dar_ref.toy.start import PAD, Start, load_start
from dar_ref.toy.tasks import TASKS
from dar_ref.toy.train import Run, train, trained_part

SHOWN = {  # metric -> title
    "step": "step",
    "proxy": "proxy",
    "gold": "gold",
    "win_rate": "win",
    "lc_win_rate": "LC win",
    "length": "length",
    "missing_eos": "no EOS",
    "kl": "KL to pi_0",
    "annotations": "labels",
}
EXACT = {  # metric of `exact.enumerate.ExactMetrics` -> title
    "step": "step",
    "kl_to_pi_0": "KL(pi‖pi_0)",
    "kl_to_pi_t": "KL(pi‖pi_t)",
    "kl_optimum_to_pi": "KL(pi*‖pi)",
    "kl_target_to_pi": "KL(pi'‖pi)",
    "objective": "J(pi)",
    "objective_optimum": "J(pi*)",
}
DUAL_KL = ("dar", "dao", "dual_ppo")
ONLY: dict[str, tuple[str, ...]] = {  # options that some methods have
    "alpha": DUAL_KL,
    "beta": DUAL_KL,
    "w_clip": ("dar",),
    "epsilon": ("grpo", "ppo", "dual_ppo"),
    "kl_coef": ("grpo", "rloo", "ppo"),
    "dpo_beta": ("dpo", "online_dpo", "ipo"),
    "gae_lambda": ("ppo", "dual_ppo"),
}
SAMPLES = 5  # prompts shown before and after


def run_config(options: Sequence[str], **given: Any) -> RunConfig:
    """`RunConfig` from `key=value` texts and given options.

    Raises:
        TypeError, ValueError: an unknown key, a value of the wrong type, or a value that `RunConfig` refuses.
    """
    types = {field.name: field.type for field in dataclasses.fields(RunConfig)}
    values: dict[str, Any] = dict(given)
    for option in options:
        name, equals, text = option.partition("=")
        if name not in types or not equals:
            raise ValueError(f"{option!r} is not an option; pass key=value with a key of {', '.join(types)}")
        if name in values:
            raise ValueError(f"{option!r}: {name} is set twice, also to {values[name]!r}; leave one of them out")
        values[name] = _parsed(name, text, types[name])
    config = RunConfig(**values)
    for name in values:
        if config.method not in ONLY.get(name, (config.method,)):
            raise ValueError(f"{name} has no effect on {config.method}, only on {', '.join(ONLY[name])}; leave it out")
    return config


def run(task: str, config: RunConfig, folder: Path, out: Path) -> int:
    """Train once and write the run to `out`: results.json, run.json, samples.json and the policy as a folder.

    A run that was stopped resumes from `out/checkpoint.pt`.

    Returns:
        0, or 1 if the run diverged or changed no weight.

    Raises:
        ValueError: `out` is in use or holds the results of another run, or the task has no part `train_on`.
    """
    began, start_settings = time.time(), start_config(task, config.seed)
    trained_part(TASKS[task], config)  # refuses a part that the task lacks, before the start is made
    command = _run_command(task, config)
    with results.writing(out, command):
        start, done = _trained(task, config, start_settings, folder, out / "checkpoint.pt")
        save(done.policy, tokenizer(start.task), out / "policy")
        results.write_json(out / "samples.json", {"samples": samples(start, done)})
        results.write_json(out / "results.json", _content(task, config, start, done))
        results.write_json(out / "run.json", results.run_info(command, began))
        (out / "checkpoint.pt").unlink(missing_ok=True)
    unchanged = all(map(torch.equal, start.pi_0.state_dict().values(), done.policy.state_dict().values()))
    if unchanged and done.diverged is None:
        print("nothing was learned: no weight was changed; raise learning_rate", file=sys.stderr)
    _print_run(done, samples(start, done))
    if done.observations:
        _print_metrics(done.observations, EXACT)
    Console().print(f"written to {out}; {elapsed(began)}", highlight=False, markup=False)
    return 0 if done.diverged is None and not unchanged else 1


def _run_command(task: str, config: RunConfig) -> str:
    """The command line of a run: every option that is not the default."""
    usual, named = results.plain(RunConfig()), ("method", "seed")
    changed = {k: v for k, v in results.plain(config).items() if v != usual[k] and k not in named}
    options = (f"{k}={str(v).lower() if isinstance(v, bool) else v}" for k, v in changed.items())
    return " ".join([f"dar-ref toy run --task {task} --method {config.method} --seed {config.seed}", *options])


def _trained(
    task: str, config: RunConfig, start_settings: StartConfig, folder: Path, checkpoint: Path
) -> tuple[Start, Run]:
    torch.set_num_threads(1)  # the number of threads sets the order of sums, and so the last digits
    stage = f"{config.method} on {task}"
    with reporting() as show:
        start = load_start(start_settings, folder, show)
        show(stage, 0, config.steps)
        observer = exact_observer(start, config) if task == "tiny" else None
        done = train(start, config, checkpoint, None, lambda step: show(stage, step, config.steps), observer)
    return start, done


def experiment(
    name: str, tasks: Sequence[str], seeds: Sequence[int], folder: Path, out: Path, processes: int, command: str
) -> int:
    """Run an experiment, or the part of it that is on `tasks` if there are any, and write its folder.

    Returns:
        0.
    """
    began = time.time()
    measured = on_tasks(EXPERIMENTS[name], tasks) if tasks else EXPERIMENTS[name]
    seconds: dict[str, list[float]] = {}

    def do(jobs: Sequence[Job]) -> list[dict[str, Any]]:
        rows = run_jobs(jobs, folder, processes)
        for job, row in zip(jobs, rows, strict=True):
            seconds.setdefault(f"{job.task} {job.config.method}", []).append(row["seconds"])
        return rows

    with results.writing(out, command):
        content = {"experiment": name, "question": measured.question, **conduct(measured, do, seeds)}
        means = {label: fmean(values) for label, values in seconds.items()}
        print(write(out, name, content, command, began, means))
    print(f"written to {out}; {elapsed(began)}")
    return 0


def exact(seed: int, folder: Path, out: Path) -> int:
    """Compare DAR on `tiny` with the theory, see `exact.study`. Writes results.json, run.json, table.md and figures.

    Returns:
        0.
    """
    began = time.time()
    command = f"dar-ref toy exact --seed {seed}"
    torch.set_num_threads(1)
    with results.writing(out, command):
        with reporting() as show:
            start = load_start(start_config("tiny", seed), folder, show)
            content = study.run(start, seed, lambda step: show("exact", step, study.total_steps()))
        header, *rows = report.table(content)
        table = TextTable(tuple(header), tuple(map(tuple, rows)), ())
        results.write_text(out / "table.md", f"Command: `{command}`.\n\n{markdown(table)}")
        for name, figure in report.figures(content).items():
            save_png(figure, out / f"{name}.png")
        results.write_json(out / "results.json", content)
        results.write_json(out / "run.json", results.run_info(command, began))
    print(plain_text(table))
    print(f"written to {out}; {elapsed(began)}")
    return 0


def export(task: str, seed: int, folder: Path, out: Path) -> int:
    """Write the inputs of a full-size run, in Hugging Face formats.

    policy/ and reward_model/ with their tokenizers; prompts/{train,validation,test}.jsonl with `prompt`;
    preferences.jsonl with `prompt`, `chosen`, `rejected` in TRL's plain format.

    Returns:
        0.
    """
    began, settings = time.time(), start_config(task, seed)
    command = f"dar-ref toy export --task {task} --seed {seed}"
    torch.set_num_threads(1)  # as in every other command: the start goes to the cache that they share
    with results.writing(out, command, "start.json"):
        start = load_start(settings, folder)
        save(start.pi_0, tokenizer(start.task), out / "policy")
        save(start.reward_model, tokenizer(start.task, [PAD]), out / "reward_model")
        for split, prompts in start.prompts._asdict().items():
            _write_lines(out / "prompts" / f"{split}.jsonl", [{"prompt": " ".join(prompt)} for prompt in prompts])
        pairs = start.comparisons.pairs(torch.arange(start.comparisons.labels))
        _write_lines(out / "preferences.jsonl", _preference_rows(start, pairs))
        results.write_json(out / "start.json", {"config": results.plain(start.config), "metrics": start.metrics})
        results.write_json(out / "run.json", results.run_info(command, began))
    print(f"{task}, seed {seed}: written to {out}; {elapsed(began)}")
    return 0


def samples(start: Start, done: Run) -> list[dict[str, str]]:
    """Answers of pi_0 and of the trained policy to the first test prompts, from the same random numbers. A policy that
    diverged gives no answers."""
    prompts = start.prompts.test[:SAMPLES]
    ids, longest = encode_prompts(start.task, prompts), start.task.max_new_tokens
    policies = (start.pi_0, done.policy) if done.diverged is None else (start.pi_0,)
    answers = [
        _texts(start, sample(policy, ids, 1, longest, torch.Generator().manual_seed(0)).completions)
        for policy in policies
    ]
    ideal = [" ".join(start.task.answer(prompt)) for prompt in prompts]
    names = ("prompt", "ideal", "before", "after")[: 2 + len(answers)]
    rows = zip((" ".join(prompt) for prompt in prompts), ideal, *answers, strict=True)
    return [dict(zip(names, row, strict=True)) for row in rows]


def _texts(start: Start, completions: Completions) -> list[str]:
    words = decode(start.task, completions)
    return [
        " ".join(w) + ("" if ended else " ...") for w, ended in zip(words, completions.finished.tolist(), strict=True)
    ]


def _preference_rows(start: Start, pairs: Completions) -> list[dict[str, str]]:
    texts = [" ".join(words) for words in decode(start.task, pairs)]
    prompts = [" ".join(prompt) for prompt in start.prompts_of(pairs)]
    return [
        {"prompt": prompt, "chosen": f" {chosen}", "rejected": f" {rejected}"}
        for prompt, chosen, rejected in zip(prompts, texts[::2], texts[1::2], strict=True)
    ]


def _write_lines(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    results.write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def _content(task: str, config: RunConfig, start: Start, done: Run) -> dict[str, Any]:
    measured = {"rollouts": done.rollouts, "evaluations": done.evaluations, "diverged": done.diverged}
    exact = done.observations or None
    return {"task": task, "config": results.plain(config), "start": start.metrics, **measured, "exact": exact}


def _print_run(done: Run, rows: Sequence[Mapping[str, str]]) -> None:
    console = Console(markup=False)
    _print_metrics(done.evaluations, SHOWN)
    table = Table(*rows[0], box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row.values())
    console.print(table)
    if done.diverged is not None:
        console.print(f"diverged after step {done.diverged}: lower learning_rate, raise beta, or set w_clip")


def _print_metrics(rows: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> None:
    table = Table(*titles.values(), box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*(f"{row[name]:.3f}" if isinstance(row[name], float) else str(row[name]) for name in titles))
    Console().print(table)


def _parsed(name: str, text: str, kind: Any) -> Any:
    """The value of one option, by the type of its field."""
    if kind is bool:
        if text not in ("true", "false"):
            raise ValueError(f"{name} = {text!r} is not a truth value; pass true or false")
        return text == "true"
    if kind == float | None:
        if text == "none":
            return None
        kind = float
    if kind not in (int, float):
        return text
    try:
        return scalars.read_integer(text) if kind is int else scalars.read_number(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
