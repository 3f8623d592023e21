"""The pages on full-size training say what the code says: commands load, tables are those of the code, quoted messages
exist, every metric that a run logs is explained."""

import argparse
import ast
import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from dar_ref import cli
from dar_ref.llm import logs, train
from dar_ref.llm.arguments import add_arguments
from dar_ref.llm.build import classes, make_arguments
from dar_ref.llm.config import NO_MEANING
from dar_ref.llm.options import CONFIGS, METHODS, load_options
from tests.llm.training import options
from tests.scripts import docs_script
from tests.small_start import exported, toy_cache  # noqa: F401 - fixtures
from tests.test_docs_commands import PAGES, commands

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
FIRST_RUN = DOCS / "results" / "first-run"
COMMANDS = sorted({line for page in PAGES for line in commands(page)})
TRAIN = [line for line in COMMANDS if re.search(r"(dar-ref train|dar_ref\.llm\.train) .*--config [^.]", line)]
PLAN = [line for line in COMMANDS if line.startswith("dar-ref plan ") and "..." not in line]


def page(name):
    return (DOCS / name).read_text(encoding="utf-8")


def parsed(line):
    """The options of a train command, from the parser of the program, and the words that start several processes."""
    words = shlex.split(line, comments=True)
    launch, marker = [], words.index("train" if "train" in words else "dar_ref.llm.train")
    if words[marker] == "dar_ref.llm.train":
        launch = words[: marker - 1]
    return cli.build_parser().parse_args(["train", *words[marker + 1 :]]), launch


def test_the_pages_have_such_commands():
    assert len(TRAIN) >= 15
    assert len(PLAN) >= 3


@pytest.mark.filterwarnings("ignore:.*torch_dtype.*:FutureWarning")
@pytest.mark.parametrize("line", TRAIN)
def test_a_train_command_makes_its_number_of_samples_an_update(line, tmp_path):
    arguments, launch = parsed(line)
    method = [f"method={arguments.method}"] if arguments.method else []
    options = load_options(arguments.config, [*arguments.options, *method, "training.use_cpu=true"])
    made = make_arguments(options, tmp_path)
    assert type(made) is classes(options.method)[0]
    devices = 1
    if "--config_file" in launch:
        file = (
            CONFIGS / "accelerate" / Path(launch[launch.index("--config_file") + 1]).name
        )  # as `dar-ref configs` copies it
        devices = yaml.safe_load(file.read_text(encoding="utf-8"))["num_processes"]
    elif "--nproc_per_node" in launch:
        devices = int(launch[launch.index("--nproc_per_node") + 1])
    a_row = 2 if options.method in ("dpo", "online_dpo") else 1
    assert made.per_device_train_batch_size * made.gradient_accumulation_steps * devices * a_row == (
        32 if "smollm2" in line else 128
    )


@pytest.mark.parametrize("line", PLAN)
def test_a_plan_command_is_parsed_and_its_options_load(line):
    arguments = cli.build_parser().parse_args(shlex.split(line, comments=True)[1:])
    assert arguments.model or load_options(arguments.config, arguments.options)


def test_sections_of_the_page_are_those_of_the_help():
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    sections = re.findall(r"^\| `(\w+)(?:\.NAME)?` \|", page("llm/index.md").partition("| section |")[2], re.MULTILINE)
    assert sections == ["method", "model", "lora", "data", "reward", "training", "generation", "methods"]
    assert all(f"\n  {name}" in parser.epilog for name in sections)


def test_refused_options_are_those_of_the_code():
    _, _, section = page("llm/methods.md").partition("## Options that are refused")
    table = re.findall(r"^\| (`.*`) \| (.*) \|$", section, re.MULTILINE)
    named = [(name, reason) for names, reason in table for name in re.findall(r"`(\w+)`", names)]
    assert len(named) == len(dict(named))
    assert dict(named) == NO_MEANING


def test_every_method_has_its_classes_and_its_section():
    text = page("llm/methods.md")
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)\|$", text.partition("## What is shared")[0], re.MULTILINE))
    assert tuple(rows) == (
        "dar",
        "dao",
        "ppo_critic_free",
        "dual_ppo_critic_free",
        "grpo",
        "rloo",
        "online_dpo",
        "dpo",
        "dar_offline",
    )
    for method in METHODS:
        assert all(cls.__name__ in rows[method] for cls in classes(method))
        assert f"\n## {method}\n" in text


def named(text):
    """Metrics named on the page of metrics: in the first cell of a row, some only by their last part."""
    for row in re.findall(r"^\|(.*?)\|", text, re.MULTILINE):
        prefix = ""
        for name in re.findall(r"`([^`]+)`", row):
            whole = name if "/" in name or not prefix else prefix + name
            prefix = whole.rpartition("/")[0] + "/" if "/" in whole else prefix
            yield whole


def explained(name, names):
    if name.startswith("eval_"):
        return True
    pattern = re.sub(r"^rewards/(?!chosen|rejected|margins|accuracies)[^/]+", "rewards/NAME", name)
    pattern = re.sub(r"/(min|max)_terminated_length$", r"/\1_", pattern)
    return pattern in names


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", METHODS)
def test_every_metric_that_is_logged_is_explained(method, first_steps):
    names = {*named(page("llm/metrics.md")), "step"}
    logged = {name for row in first_steps(method) for name in row}
    assert {name for name in logged if not explained(name, names)} == set()
    assert "loss" in logged


@pytest.fixture
def first_steps(exported, tmp_path):  # noqa: F811 - the fixture
    """Log of two steps of a method."""

    def run(method):
        sizes = {"max_steps": 2, "logging_steps": 2, "per_device_train_batch_size": 4}
        chosen = options(exported, method=method, training=sizes)
        trainer = train.train(chosen, tmp_path / "out").trainer
        return [row for row in trainer.state.log_history if "loss" in row]

    return run


def test_plans_of_a_7b_model_are_those_of_the_code():
    module, folder = docs_script("plans"), DOCS / "results" / "plan-7b"
    plans = json.loads((folder / "results.json").read_text(encoding="utf-8"))["plans"]
    assert plans == module.rows()
    assert (folder / "table.md").read_text(encoding="utf-8") == module.table(plans)


def test_the_first_run_is_shown_as_it_was():
    module = docs_script("first_run")
    content, run = (json.loads((FIRST_RUN / n).read_text(encoding="utf-8")) for n in ("results.json", "run.json"))
    assert module.short_line is logs.short_line
    assert (FIRST_RUN / "printed.txt").read_text(encoding="utf-8") == module.printed(content, run)
    assert (FIRST_RUN / "table.md").read_text(encoding="utf-8") == module.table(content, run)
    assert load_options("toy_cpu").methods["dar"] == content["options"]["methods"]["dar"]
    assert load_options("toy_cpu").training == content["options"]["training"]
    names = {*named(page("llm/metrics.md")), "step"}
    assert all(explained(name, names) for row in module.logged(content, run) for name in row)


def messages():
    """The texts in the code of the layer, with an ellipsis for each value that is filled in."""
    for path in [
        *(ROOT / "dar_ref" / name for name in ("results.py", "parser.py")),
        *sorted((ROOT / "dar_ref" / "llm").rglob("*.py")),
    ]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


@pytest.mark.parametrize("name", ["llm/troubleshooting.md", "llm/checkpoints.md"])
def test_quoted_messages_are_in_the_code(name):
    rows = re.findall(r"^- (.*?)<br>", page(name), re.MULTILINE) if "trouble" in name else []
    if "checkpoints" in name:
        rows = re.findall(r"\| (`[^|]*`) \|$", page(name), re.MULTILINE)
    found = list(messages())
    quoted = [text for row in rows for text in re.findall(r"`([^`]*\.\.\.[^`]*|[^`]*(?: [^` ]+){3,})`", row)]
    quoted = [text for text in quoted if not text.startswith(("accelerate", "Your setup", "There were missing keys"))]
    assert len(quoted) >= (20 if "trouble" in name else 5)
    missing = []
    for text in quoted:
        parts = [part.strip() for part in re.split(r"\.\.\.|\?", text) if len(part.strip()) > 2]
        pattern = re.compile(".*".join(map(re.escape, parts)), re.DOTALL)
        missing += [] if any(pattern.search(message) for message in found) else [text]
    assert missing == []
