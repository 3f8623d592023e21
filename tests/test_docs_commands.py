"""Every command that the documentation shows exists, with its options.

The program's parser must accept a `dar-ref` line, a `make` target must be in the Makefile, and a script or module must
be a file. Other programs are listed by name, so that a typo in a name is found.
"""

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from dar_ref import cli
from dar_ref.toy.config import RunConfig

ROOT = Path(__file__).parent.parent
WRITTEN = {"assets", "wheel"}  # the wheel drill runs what its table lists, wrong commands too
PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if not WRITTEN & {*path.parts})]
# Blocks of every kind, so that the end of one is not taken for the start of the next.
BLOCK = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", flags=re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`((?:\.venv/bin/)?(?:dar-ref|make|python) [^`\n]+)`")
TARGET = re.compile(r"^([a-z-]+):.*##", flags=re.MULTILINE)
OTHER_PROGRAMS = {"pip", "git", "cd", "export", "source", "trl"}


def commands(path):
    """The command lines of a page: those of its bash blocks, and those in the text."""
    text = path.read_text(encoding="utf-8")
    blocks = [block.group(3) for block in BLOCK.finditer(text) if block.group(2) == "bash"]
    if path.name == "README.md":  # a plain block with two commands
        blocks += [block.group(3) for block in BLOCK.finditer(text) if block.group(3).startswith("make ")]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in [*lines, *INLINE.findall(text)] if line.strip() and not line.lstrip().startswith("#")]


def fault(line):
    """What is wrong with a command line, or None."""
    words = shlex.split(line, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):  # FOO=1 before the program
        words = words[1:]
    program, arguments = Path(words[0]).name, words[1:]
    if program == "dar-ref":
        return dar_ref_fault(arguments)
    if program == "make":
        targets = TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8"))
        return next(
            (f"no target {target}" for target in arguments if "=" not in target and target not in targets), None
        )
    if program in ("python", "python3", "accelerate", "torchrun"):
        return script_fault(arguments)
    return None if program in OTHER_PROGRAMS else f"{program} is not known: is it meant? then list it"


def dar_ref_fault(arguments):
    if not arguments or "..." in arguments:
        return None
    if all(re.fullmatch(r"[a-z-]+", word) for word in arguments):  # only a name: its arguments may be missing
        arguments = [*arguments, "--help"]
    try:
        cli.build_parser().parse_args(arguments)
    except SystemExit as stop:  # --help ends with 0
        if stop.code:
            return "refused by the parser"
    fields = {field.name for field in dataclasses.fields(RunConfig)}
    settings = [word.split("=")[0] for word in arguments if re.match(r"[a-z_]+=", word)]
    if arguments[:2] == ["toy", "run"]:
        return next((f"RunConfig has no field {key}" for key in settings if key not in fields), None)
    return None


def script_fault(arguments):
    if "-m" in arguments:
        module = arguments[arguments.index("-m") + 1]
        path = ROOT / module.replace(".", "/")
        own = module.split(".")[0] in ("dar_ref", "tests")
        return f"no module {module}" if own and not (path.with_suffix(".py").is_file() or path.is_dir()) else None
    script = next((word for word in arguments if word.endswith(".py")), None)
    return f"no file {script}" if script and not (ROOT / script).is_file() else None


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_exist(path, capsys):
    faults = {line: fault(line) for line in commands(path)}
    capsys.readouterr()  # the parser prints its usage
    assert {line: found for line, found in faults.items() if found} == {}


def test_home_and_readme_have_commands():
    assert all(commands(ROOT / page) for page in ("README.md", "docs/index.md", "docs/start.md"))


@pytest.mark.parametrize(
    "line",
    [
        "dar-ref verify --sed 1",
        "dar-ref verfy",
        "dar-ref toy run --task tldr learning_rat=1",
        "make dcos",
        "python docs/figure.py",
        ".venv/bin/python -m dar_ref.llm.trian",
        "accelerate launch --num_processes 8 -m dar_ref.trian --config a.yaml",
        "darref verify",
    ],
)
def test_a_slip_is_found(line, capsys):
    assert fault(line)
    capsys.readouterr()
