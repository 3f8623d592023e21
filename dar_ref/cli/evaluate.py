"""The `dar-ref evaluate` sub-commands: only their options, so that `--help` is fast. The work is done in
`dar_ref.llm.evaluate`."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dar_ref.errors import path, whole
from dar_ref.parser import Parser

if TYPE_CHECKING:
    from dar_ref.llm.evaluate.run_log import Panels

OUT = Path("out/evaluate")
POLICIES = """sources of --policy NAME=SOURCE
  FOLDER        a policy, a checkpoint or an adapter, as `dar-ref train` writes them
  column:NAME   answers in a column of the prompts' data
  FILE.jsonl    answers from elsewhere: completion, and id or prompt
"""
JUDGES = """the judge is the section `reward` of the configuration; KEY=VALUE changes it
  reward.kind=model       a reward model: P = sigmoid(difference of the scores)
  reward.kind=function    reward.name=FILE.py:NAME, judge(prompt, a, b) -> P(a is better), or a reward function
  reward.kind=annotator   a language model behind reward.base_url, asked in both orders; its key is OPENAI_API_KEY
"""


def add_evaluate(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add `evaluate` and everything under it."""
    parser = commands.add_parser(
        "evaluate",
        help="sample from trained policies, judge what they say, report win rates",
        description="Measure policies: generate, then judge, then report. Each command goes on where it was stopped.",
    )
    jobs = parser.add_subparsers(dest="job", required=True, metavar="JOB")
    _add_generate(jobs)
    _add_judge(jobs)
    _add_report(jobs)


def _add(jobs: "argparse._SubParsersAction[Parser]", name: str, **texts: Any) -> Parser:
    return jobs.add_parser(name, formatter_class=argparse.RawDescriptionHelpFormatter, **texts)


def _add_generate(jobs: "argparse._SubParsersAction[Parser]") -> None:
    parser = _add(
        jobs,
        "generate",
        help="completions of pi_0 and of other policies on the same prompts",
        description="Completions of pi_0 and of every --policy on the evaluation prompts of a training configuration.",
        epilog=POLICIES,
    )
    _add_config(parser)
    parser.add_argument("--policy", action="append", default=[], metavar="NAME=SOURCE", help="may be given many times")
    parser.add_argument("--questions", type=path, metavar="FILE", help="questions of two turns in place of the prompts")
    parser.add_argument("--samples", type=whole, default=1, help="completions of each prompt (default: %(default)s)")
    parser.add_argument("--seed", type=whole, default=0, help="default: %(default)s")
    parser.add_argument("--batch-size", type=whole, default=16, help="completions at once (default: %(default)s)")
    parser.set_defaults(run=_generate)


def _add_judge(jobs: "argparse._SubParsersAction[Parser]") -> None:
    parser = _add(
        jobs,
        "judge",
        help="compare the completions with those of a reference",
        description="Compare the completions in --out with those of a reference; grade answers to --questions.",
        epilog=JUDGES + "exit status: 1 if there is no verdict at all",
    )
    _add_config(parser)
    parser.add_argument("--judge", metavar="NAME", help="its name in the report (default: from reward.name)")
    parser.add_argument("--policy", action="append", default=[], metavar="NAME", help="default: all but the reference")
    parser.add_argument("--reference", default="pi_0", metavar="NAME", help="default: %(default)s")
    parser.add_argument(
        "--task", metavar="TASK", help="tldr, helpful or harmless (default: that of data.prompts, if it is one of them)"
    )
    parser.set_defaults(run=_judge)


def _add_report(jobs: "argparse._SubParsersAction[Parser]") -> None:
    parser = _add(
        jobs,
        "report",
        help="win rates with intervals, grades, tables in the paper's layout, the hacking panel of runs",
        description="What the verdicts in one or several folders say, and whether runs gamed their reward.",
    )
    parser.add_argument("folders", nargs="*", type=path, metavar="FOLDER", help="that generate and judge wrote to")
    parser.add_argument("--run", action="append", default=[], metavar="NAME=FOLDER", dest="runs", help="of a training")
    parser.add_argument(
        "--out", type=path, help=f"folder to write to (default: report in the one FOLDER, otherwise {OUT / 'report'})"
    )
    parser.set_defaults(run=_report)


def _add_config(parser: Parser) -> None:
    parser.add_argument("--config", required=True, metavar="FILE", help="of a training run, or a name in this package")
    parser.add_argument("--out", type=path, default=OUT, help="folder of the evaluation (default: %(default)s)")
    parser.add_argument("options", nargs="*", metavar="KEY=VALUE", help="change single options of the configuration")


def _generate(arguments: argparse.Namespace) -> int:
    from dar_ref.llm.evaluate.generate import generate
    from dar_ref.llm.evaluate.policies import read_names
    from dar_ref.llm.evaluate.sampling import sampling_of
    from dar_ref.llm.options import load_options

    options = load_options(arguments.config, arguments.options)
    drawn = sampling_of(options, arguments.samples, arguments.seed, arguments.batch_size)
    policies = read_names(arguments.policy)
    words = [f"--policy {shlex.quote(f'{name}={source}')}" for name, source in policies.items()]
    words += [f"--samples {drawn.samples} --seed {drawn.seed} --batch-size {drawn.batch_size}"]
    words += [] if arguments.questions is None else [f"--questions {shlex.quote(str(arguments.questions))}"]
    command = _command("generate", arguments, words)
    return generate(options, policies, drawn, arguments.out, arguments.questions, command)


def _judge(arguments: argparse.Namespace) -> int:
    from dar_ref.llm.evaluate.judge import judge
    from dar_ref.llm.options import load_options

    options = load_options(arguments.config, arguments.options)
    words = [f"--reference {arguments.reference}"]
    words += [] if arguments.task is None else [f"--task {arguments.task}"]
    words += [] if arguments.judge is None else [f"--judge {shlex.quote(arguments.judge)}"]
    words += [f"--policy {shlex.quote(name)}" for name in arguments.policy]
    return judge(
        options,
        arguments.out,
        name=arguments.judge,
        policies=arguments.policy,
        reference=arguments.reference,
        task=arguments.task,
        command=_command("judge", arguments, words),
    )


def _report(arguments: argparse.Namespace) -> int:
    from dar_ref.llm.evaluate.policies import read_names
    from dar_ref.llm.evaluate.report import COMMAND, report

    runs = {name: Path(folder) for name, folder in read_names(arguments.runs).items()}
    words = [*map(str, arguments.folders), *(f"--run {name}={folder}" for name, folder in runs.items())]
    one = arguments.folders[0] if len(arguments.folders) == 1 else OUT
    return report(arguments.folders, runs, arguments.out or one / "report", " ".join([COMMAND, *words]), _draw)


def _draw(panels: "Panels", file: Path) -> None:
    from dar_ref.plots import panels_figure, save_png

    save_png(panels_figure(*panels[:4], levels=panels.levels), file)


def _command(job: str, arguments: argparse.Namespace, words: Sequence[str]) -> str:
    """The command line, for run.json; secrets are hidden."""
    from dar_ref.llm.options import shown

    options = (shlex.quote(shown(option)) for option in arguments.options)
    return " ".join([f"dar-ref evaluate {job} --config {arguments.config}", *words, *options])
