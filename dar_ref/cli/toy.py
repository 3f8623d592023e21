"""The `dar-ref toy` sub-commands: only their options, so that `--help` is fast. The work is done in
`dar_ref.toy.commands`."""

import argparse
import os
from pathlib import Path

from dar_ref import scalars
from dar_ref.errors import path, whole
from dar_ref.field_names import field_names
from dar_ref.parser import Parser

TASKS = ("tldr", "helpful", "harmless", "tiny", "mixed")
EXPERIMENTS = {
    "hacking": "one run with reward hacking, and the same run with another reward, anchor or method",
    "compare": "every method on every task with equal tuning: the paper's Table 1 at toy scale",
    "standard": "score, length-controlled win rate and length: the paper's Table 2 at toy scale",
    "ablate-alpha": "alpha from 0 to 1",
    "anchor": "alpha from 0.03 to 1 with alpha times beta held: what a large beta costs",
    "frontier": "reward against KL to pi_0",
    "efficiency": "win rate against number of annotations",
    "stability": "which methods collapse with larger steps and older samples",
    "clip": "w_clip from 1 to infinity",
    "direct": "the annotator scores online, everything tuned: the paper's Table 1 as it was made (hours)",
    "direct-gold": "the same with the true goal as reward (hours)",
    "quality": "six methods with reward models of correlation 0.3 to 1 (hours)",
    "budgets": "budgets of KL in nats, in place of alpha and beta",
    "null-space": "training on harmless prompts alone, and what it does to helpful ones, with and without a projection",
    "samples": "one to eight completions per prompt, at equal samples",
}


def add_toy(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add `toy` and everything under it."""
    parser = commands.add_parser(
        "toy",
        help="all of RLHF on a tiny language model: SFT, reward model, every method, evaluation",
        description="The toy engine. Finished work is kept in the cache, so an experiment that was stopped continues"
        " where it was, and a run continues from its last checkpoint.",
    )
    parser.add_argument(
        "--cache", type=path, default=Path("out/toy/cache"), help="folder of the cache (default: %(default)s)"
    )
    jobs = parser.add_subparsers(dest="job", required=True, metavar="JOB")
    _add_run(jobs)
    for name, text in EXPERIMENTS.items():
        _add_experiment(jobs, name, text)
    _add_exact(jobs)
    _add_export(jobs)


def _add_run(jobs: "argparse._SubParsersAction[Parser]") -> None:
    parser = jobs.add_parser(
        "run",
        help="train one policy: about ten seconds, half a minute more the first time",
        description="Train one policy with one method. Options are fields of dar_ref.toy.config.RunConfig, for example"
        " learning_rate=1e-3 alpha=0.3 reward=gold.",
    )
    parser.add_argument("--task", choices=TASKS, default="tldr", help="default: %(default)s")
    parser.add_argument("--method", help="dar, grpo, rloo, ... (default: dar)")
    parser.add_argument("--seed", type=whole, help="default: 0")
    parser.add_argument("--out", type=path, default=Path("out/toy/run"), help="folder (default: %(default)s)")
    parser.add_argument("options", nargs="*", metavar="KEY=VALUE", help="any other option of the run")
    parser.pair = lambda name, _: next(iter(_meant(name)), None)
    parser.set_defaults(run=_run)


def _add_experiment(jobs: "argparse._SubParsersAction[Parser]", name: str, text: str) -> None:
    parser = jobs.add_parser(name, help=text, description=text)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=[], help="only these (default: all that it has)")
    parser.add_argument("--seeds", type=whole, default=5, help="number of seeds, at least 2 (default: %(default)s)")
    parser.add_argument(
        "--processes", type=whole, default=os.cpu_count() or 1, help="processes at once (default: %(default)s)"
    )
    parser.add_argument("--out", type=path, default=Path(f"out/toy/{name}"), help="folder (default: %(default)s)")
    parser.set_defaults(run=_experiment)


def _add_exact(jobs: "argparse._SubParsersAction[Parser]") -> None:
    text = "DAR against the theory, on the task that can be enumerated: about ten minutes"
    parser = jobs.add_parser("exact", help=text, description=text)
    parser.add_argument("--seed", type=whole, default=0, help="default: %(default)s")
    parser.add_argument("--out", type=path, default=Path("out/toy/exact"), help="folder (default: %(default)s)")
    parser.set_defaults(run=_exact)


def _add_export(jobs: "argparse._SubParsersAction[Parser]") -> None:
    text = "write the SFT model, reward model, tokenizers, prompts and preferences in Hugging Face formats"
    parser = jobs.add_parser("export", help=text, description=text)
    parser.add_argument("out", type=path, metavar="DIR", help="folder to write to")
    parser.add_argument("--task", choices=TASKS, default="tldr", help="default: %(default)s")
    parser.add_argument("--seed", type=whole, default=0, help="default: %(default)s")
    parser.set_defaults(run=_export)


def _keys() -> tuple[str, ...]:
    return field_names("dar_ref.toy.config", "RunConfig")


def _meant(name: str) -> list[str]:
    return [name] if name in _keys() else scalars.close(name, _keys())


def _run(arguments: argparse.Namespace) -> int:
    for option in arguments.options:  # before torch is imported
        name, equals, _ = option.partition("=")
        if name not in _keys() or not equals:
            close = scalars.did_you_mean(f"{key}=..." for key in _meant(name))
            raise ValueError(f"{option!r} is not an option{close}; pass key=value with a key of {', '.join(_keys())}")

    from dar_ref.toy import commands

    given = {name: value for name in ("method", "seed") if (value := getattr(arguments, name)) is not None}
    config = commands.run_config(arguments.options, **given)
    return commands.run(arguments.task, config, arguments.cache, arguments.out)


def _experiment(arguments: argparse.Namespace) -> int:
    seeds = range(scalars.integer("--seeds", arguments.seeds, 2, 10_000))
    processes = scalars.integer("--processes", arguments.processes, 1, 1_000)

    from dar_ref.toy import commands

    tasks = ["--tasks", *arguments.tasks] if arguments.tasks else []
    command = " ".join(["dar-ref toy", arguments.job, *tasks, "--seeds", str(arguments.seeds)])
    return commands.experiment(
        arguments.job, arguments.tasks, seeds, arguments.cache, arguments.out, processes, command
    )


def _exact(arguments: argparse.Namespace) -> int:
    from dar_ref.toy import commands

    return commands.exact(arguments.seed, arguments.cache, arguments.out)


def _export(arguments: argparse.Namespace) -> int:
    from dar_ref.toy import commands

    return commands.export(arguments.task, arguments.seed, arguments.cache, arguments.out)
