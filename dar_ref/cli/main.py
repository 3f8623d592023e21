"""The `dar-ref` command: one entry point, one sub-command per job.

Heavy imports happen inside the commands, so `dar-ref --help` answers at once. Exit status: 0 success, 1 a statement
that failed or a run that learned nothing, 2 bad usage or input, 130 Ctrl-C (see `dar_ref.errors`).
"""

import argparse
import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from dar_ref import __version__, arithmetic, results
from dar_ref.cli.evaluate import add_evaluate
from dar_ref.cli.llm import add_configs, add_plan, add_train
from dar_ref.cli.toy import add_toy
from dar_ref.errors import exit_status, path, refuse_file, whole
from dar_ref.parser import Parser
from dar_ref.progress import reporting, stepwise


def main(argv: Sequence[str] | None = None) -> int:
    """Run `dar-ref` with `argv` (default: the process's arguments) and return its exit status."""
    arguments = build_parser().parse_args(argv)
    if arguments.portable:
        arithmetic.make_portable()
    return exit_status(f"dar-ref {arguments.command}", lambda: _run(arguments), arguments.debug)


def _run(arguments: argparse.Namespace) -> int:
    for name in ("out", "cache", "folder"):  # before the work, and before torch is imported
        if (folder := getattr(arguments, name, None)) is not None:
            refuse_file(folder)
    if getattr(arguments, "json", None) is not None:
        refuse_file(arguments.json.parent)
    return int(arguments.run(arguments))


def build_parser() -> Parser:
    """Return the parser of every sub-command; each sets `run`, a function from the parsed arguments to the exit
    status."""
    parser = Parser(prog="dar-ref", description="The executable reference for DAR (arXiv 2602.11523).")
    parser.add_argument("--version", action="version", version=f"dar-ref {__version__}")
    parser.add_argument(
        "--portable",
        action="store_true",
        help="train with kernels that every x86 processor has: slower, but the same bytes on all of them;"
        " write it before COMMAND",
    )
    parser.add_argument(
        "--debug", action="store_true", help="show the traceback of what stops a command; stands before COMMAND"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_verify(commands)
    _add_demo(commands)
    add_toy(commands)
    add_plan(commands)
    add_train(commands)
    add_evaluate(commands)
    add_configs(commands)
    return parser


def _add_verify(commands: "argparse._SubParsersAction[Parser]") -> None:
    parser = commands.add_parser(
        "verify",
        help="try every statement of the theory on random bandits, in float64 and by certified ball arithmetic",
        description="Try every statement of the theory on random bandits. One row per statement: cases tried, worst"
        " float64 error per unit of scale (see dar_ref.verify.run), certified bound on the residual, PASS or FAIL.",
    )
    parser.add_argument("--seed", type=whole, default=0, help="seed of the random bandits (default: %(default)s)")
    parser.add_argument("--cases", type=whole, default=1000, help="bandits per statement (default: %(default)s)")
    parser.add_argument("--digits", type=whole, default=100, help="digits of the certificates (default: %(default)s)")
    parser.add_argument("--json", type=path, metavar="FILE", help="also write the result, with versions, to FILE")
    parser.set_defaults(run=_run_verify)


def _run_verify(arguments: argparse.Namespace) -> int:
    from dar_ref.verify.run import rows_as_json, verify
    from dar_ref.verify.statement import LIMIT

    if arguments.json:
        results.check_writable(arguments.json)
    began = time.time()
    with reporting() as report:
        rows = verify(arguments.seed, arguments.cases, arguments.digits, partial(stepwise, report, "random bandits"))
    table = Table(
        title=f"seed {arguments.seed}, certificates to {arguments.digits} digits",
        caption=f"float64: worst error per unit of scale, {LIMIT:.1e} is allowed; certified: a bound of the residual",
        box=box.SIMPLE_HEAD,
    )
    for column in ("", "claim", "cases", "float64", "certified", "verdict"):
        table.add_column(column, justify="right" if column in ("cases", "float64", "certified") else "left")
    for row in rows:
        verdict = "[green]PASS[/]" if row.passed else "[red]FAIL[/]"
        table.add_row(row.id, row.claim, str(row.cases), f"{row.worst:.1e}", f"< {row.bound:.1e}", verdict)
    console = Console()
    console.print(table)
    for row in rows:
        if row.failure:
            console.print(f"{row.id} FAIL: {row.failure}", markup=False)
    if arguments.json:
        asked = f"--seed {arguments.seed} --cases {arguments.cases} --digits {arguments.digits}"
        content = {**rows_as_json(rows), "run": results.run_info(f"dar-ref verify {asked}", began)}
        results.write_text(arguments.json, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return 0 if all(row.passed for row in rows) else 1


def _add_demo(commands: "argparse._SubParsersAction[Parser]") -> None:
    parser = commands.add_parser(
        "demo",
        help="verify, train DAR, GRPO and DAO on the digits bandit, write figures and a report: about a minute",
        description="Verify the theory, train the digits bandit with DAR, GRPO and DAO from the same start, and write"
        " results.json, run.json, figures and report.html.",
    )
    parser.add_argument("--out", type=path, default=Path("out/demo"), help="folder to write to (default: %(default)s)")
    parser.add_argument("--seed", type=whole, default=0, help="first seed (default: %(default)s)")
    parser.set_defaults(run=_run_demo)


def _run_demo(arguments: argparse.Namespace) -> int:
    from dar_ref.demo import demo

    return demo(arguments.out, arguments.seed)
