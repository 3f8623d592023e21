"""Commands, options and keys that are misspelt: what was meant is said, and torch is not imported for it."""

import subprocess
import sys

import pytest

from dar_ref import cli
from dar_ref.llm import train

SLIPS = [  # command line, what is said
    ("verfy", "did you mean verify?"),
    ("toy comapre", "did you mean compare?"),
    ("toy run --task tdlr", "did you mean tldr?"),
    ("verify --seeed 3", "did you mean --seed?"),
    ("verify 5", "unrecognized arguments: 5\n"),
    ("train --config toy_cpu --debug", "--debug stands before the command: dar-ref --debug ..."),
    ("train --config toy_cpuu", "did you mean toy_cpu?"),
    ("plan --config toy_cpuu", "did you mean toy_cpu?"),
    ("train --config toy_cpu --alpha 0.3", "unrecognized arguments: --alpha; write methods.dar.alpha=0.3"),
    ("plan --config toy_cpu --alpha=0.3", "write methods.dar.alpha=0.3"),
    ("train --config toy_cpu --method grpo --beta 0.1", "write methods.grpo.beta=0.1"),
    ("train --config toy_cpu --learning-rate 1e-3 --alpha 1", "write training.learning_rate=1e-3"),
    ("train --config toy_cpu --num-generation 8", "write generation.num_generations=8"),
    ("train --config toy_cpu --alpha", "write methods.dar.alpha=VALUE"),
    ("train --config toy_cpu --rseume", "did you mean --resume?"),
    ("train --config toy_cpu alpha=0.3", "did you mean methods.dar.alpha or lora.alpha?"),
    ("train --config toy_cpu modell.name=x", "did you mean model?"),
    ("train --config toy_cpu model.nme=x", "did you mean model.name?"),
    ("train --config toy_cpu training.learning_rat=1", "did you mean training.learning_rate?"),
    ("train --config toy_cpu training.alfa=1", "did you mean methods.dar.alpha?"),
    ("plan --config toy_cpu methods.dar.wclip=1", "did you mean methods.dar.w_clip?"),
    ("train --config toy_cpu method=dra", "did you mean dar or dao?"),
    ("train --config toy_cpu --method dra", "did you mean dar or dao?"),
    ("train --config toy_cpu methods.drr.alpha=1", "methods.drr is not a method"),
    ("toy run lr=0.1", "'lr=0.1' is not an option; did you mean learning_rate=...?; pass key=value"),
    ("toy run --lr 0.1", "write learning_rate=0.1"),
    ("toy run alpha", "'alpha' is not an option; did you mean alpha=...?"),
    ("toy clip --seeds 1", "--seeds = 1 is below 2"),
    ("toy run --out pyproject.toml/run", "'pyproject.toml' is a file; pass a folder"),
    ("train --config toy_cpu --out pyproject.toml", "'pyproject.toml' is a file; pass a folder"),
]
NO_TORCH = """
import contextlib, io, sys
from dar_ref import cli
for line in sys.stdin.read().splitlines():
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            status = cli.main(line.split())
        except SystemExit as stop:
            status = stop.code
    loaded = [name for name in ("torch", "transformers", "trl", "datasets", "accelerate") if name in sys.modules]
    print(status, loaded)
"""


@pytest.mark.parametrize(("line", "said"), SLIPS, ids=[line for line, _ in SLIPS])
def test_a_slip_is_answered_with_what_was_meant(line, said, capsys):
    try:
        status = cli.main(line.split())
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    assert said in capsys.readouterr().err


def test_slips_are_found_before_torch_is_imported():
    lines = [line for line, _ in SLIPS] + ["train --config toy_cpu", "plan --config toy_cpu", "toy --help", "--help"]
    out = subprocess.run(
        [sys.executable, "-c", NO_TORCH], input="\n".join(lines), capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert len(out) == len(lines)
    assert {line: o for line, o in zip(lines, out, strict=True) if o != "2 []"} == {
        "toy --help": "0 []",
        "--help": "0 []",
    }


def test_the_script_of_several_processes_answers_too(capsys):
    with pytest.raises(SystemExit):
        train.main(["--config", "toy_cpu", "--alpha", "0.3"])
    assert "write methods.dar.alpha=0.3" in capsys.readouterr().err
