"""The commands and their options, read from the real schema: the parser, the dataclasses, TRL's configurations.

`draw_command(name, draw, place)` gives one command line and what was written for each option; `run` runs it in this
process up to where the work would begin, and compares the options that it was resolved to.
"""

import argparse
import contextlib
import dataclasses
import functools
import io
import os
import random
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints
from unittest import mock

from dar_ref.cli import build_parser, main
from dar_ref.cli.toy import EXPERIMENTS
from dar_ref.errors import path
from dar_ref.llm import build, options
from dar_ref.toy.config import RunConfig
from tests.fuzz.values import NAMES, WRONG, Written, name_value, plain_value, same, yaml_value

COMMANDS = ("verify", "demo", "toy run", *(f"toy {name}" for name in EXPERIMENTS), "toy exact", "toy export", "plan")
COMMANDS += ("train --dry-run",)
HERE = Path(build.__file__).parents[1]
# They start other programs or servers, reach for a network, or need a package that is not there: not set here.
NOT_FUZZED = {"deepspeed", "use_vllm", "output_dir", "push_to_hub", "torch_compile", "use_liger_kernel", "hub_token"}
NOT_FUZZED |= {"fsdp", "fsdp_config", "parallelism_config", "accelerator_config", "full_determinism", "ddp_backend"}
# TRL and transformers resolve these to other forms of the same: an enumeration, a list, a default for None.
RESOLVED_BY_TRL = {"report_to", "debug", "warmup_steps", "disable_tqdm", "run_name", "logging_dir", "bf16", "use_cpu"}
RESOLVED_BY_TRL |= {"include_num_input_tokens_seen", "dataloader_pin_memory"}  # the last: off on a CPU
REPLACED_ALOUD = {"training.use_cpu"}  # a dry run without a GPU says that it checks for a CPU
RESOLVED_BY_TRL |= {"generation_batch_size", "steps_per_generation"}  # null lets TRL compute one from the other


class Command(NamedTuple):
    """argv, and for each option that was written: its name in the resolved options, and the value."""

    argv: list[str]
    written: dict[str, Written]


class Outcome(NamedTuple):
    """kind: accepted, refused, traceback or changed; detail: what happened."""

    kind: Literal["accepted", "refused", "traceback", "changed"]
    detail: str


class ReachedError(BaseException):
    """Raised where the work would begin, with the options that were resolved; no command catches it."""

    def __init__(self, resolved: dict[str, Any]) -> None:
        super().__init__()
        self.resolved = resolved


# --- command lines ----------------------------------------------------------------------------------------------------


def draw_command(name: str, draw: random.Random, place: Path) -> Command:
    """One command line, with one to three options that are valid or broken."""
    words = name.split()
    if name == "plan":
        return _of_run(draw, place, ["plan"], [])
    if words[0] == "train":
        return _of_run(draw, place, ["train", "--out", str(place / "out")], ["--dry-run"])
    parser = _parser(words)
    flags = {a.option_strings[-1]: a for a in parser._actions if a.option_strings and a.nargs != 0}
    argv, written, first = [], {}, []
    for flag in draw.sample(sorted(flags), k=draw.randint(0, min(3, len(flags)))):
        value = _of_flag(draw, flags[flag])
        argv += [f"{flag}={value.text}"]
        written[flag.lstrip("-").replace("-", "_")] = value
    if name == "toy export":
        argv.append(draw.choice(["new", *NAMES]))
    if name == "toy run":
        for field in draw.sample(dataclasses.fields(RunConfig), k=draw.randint(0, 3)):
            value = _of_field(draw, field.type, plain_value)
            argv.append(f"{field.name}={value.text}")
            if field.name in written:  # a flag and a pair
                written[field.name] = Written(value.text, WRONG)
            else:
                written[field.name] = value
        argv += [draw.choice(["", "a", "=", "=1", "alpha", "alpha=", "nosuch=1", "a.b=1"])] * (draw.random() < 0.1)
    if words[0] == "toy" and draw.random() < 0.2:
        first = ["--cache", name_value(draw, ["cache"]).text]
    return Command([words[0], *first, *words[1:], *argv], written)


def _parser(words: list[str]) -> argparse.ArgumentParser:
    parser = build_parser()
    for word in words:
        (choices,) = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        parser = choices.choices[word]
    return parser


def _of_flag(draw: random.Random, action: argparse.Action) -> Written:
    if action.type is path:
        return name_value(draw, ["new", "new/folder", "results.json"])
    if action.choices or action.type is None:
        return name_value(draw, [str(c) for c in action.choices or ["dar", "grpo", "80", "H100-80GB", "ddp", "none"]])
    return plain_value(draw, [Written(str(n), n) for n in (0, 1, 2, 3, 5, 50)])


def _of_field(draw: random.Random, kind: Any, drawn: Callable[..., Written]) -> Written:
    """A value for a field of a dataclass; the valid ones are by its type."""
    kinds = [kind, *get_args(kind)] if get_origin(kind) is not Literal else [kind]
    valid: list[Written] = []
    for one in kinds:
        if get_origin(one) is Literal:
            valid += [Written(str(c), c) for c in get_args(one)]
        elif one is bool:
            valid += [Written("true", True), Written("false", False)]
        elif one is int:
            valid += [Written(str(n), n) for n in (1, 2, 4, 32, 100)]
        elif one is float:
            valid += [Written(t, float(t)) for t in ("0.1", "0.5", "1.0", "3e-4")]
    return drawn(draw, valid)


def _of_run(draw: random.Random, place: Path, begin: list[str], end: list[str]) -> Command:
    """`plan` and `train`: a base configuration that is valid, and changes."""
    method = draw.choice(options.METHODS)
    argv, written = [*begin, "--config", str(place / "run.yaml"), "--method", method], {}
    if draw.random() < 0.08:
        argv[argv.index("--config") + 1] = draw.choice([str(place / name) for name in BAD_FILES] + NAMES)
    if begin == ["plan"]:
        flags = {a.option_strings[-1]: a for a in _parser(["plan"])._actions if a.option_strings and a.nargs != 0}
        for flag in draw.sample(["--devices", "--sharding", "--device-memory", "--tokens-per-second", "--json"], k=1):
            argv += [f"{flag}={_of_flag(draw, flags[flag]).text}"] * (draw.random() < 0.4)
    fields = schema(method)
    for key in draw.sample(sorted(fields), k=draw.randint(1, 3)):
        value = _of_field(draw, fields[key], yaml_value)
        argv.append(f"{key}={value.text}")
        written[key] = value
    if draw.random() < 0.1:
        argv.append(draw.choice(BAD_PAIRS))
    return Command(argv + end, written)


BAD_PAIRS = ["a.b=", "=1", "a..b=1", ".a=1", "a.=1", "training=1", "training.max_steps", "", "=", "model.name.x=1"]
BAD_PAIRS += ["data=null", "model=[]", "training={seed: 1}", "method=dar", "lora=null", "methods.dar=3", "a.b=c=d"]
MINIMAL = b"model: {name: policy}\ndata: {prompts: prompts.jsonl}\nreward: {kind: function, name: 'rewards:reward'}\n"
BAD_FILES = {
    "empty.yaml": b"",
    "blank.yaml": b"\n \n",
    "tabs.yaml": b"model:\n\tname: x\n",
    "binary.yaml": bytes(range(256)),
    "latin.yaml": MINIMAL + b"method: d\xe4r\n",
    "utf16.yaml": MINIMAL.decode().encode("utf-16"),
    "anchors.yaml": b"a: &a {b: 1}\n" + MINIMAL + b"training: *a\n",
    "list.yaml": b"- 1\n",
    "two.yaml": MINIMAL + b"---\n" + MINIMAL,
    "cut.yaml": MINIMAL[:30],
    "keys.yaml": MINIMAL + b"1: 2\nnull: 3\n[1, 2]: 4\n",
    "json.yaml": b'{"model": {"name": "policy"}, "data": {"prompts": 5}}',
    "deep.yaml": b"training: " + b"{a: " * 3000,
    "bom.yaml": b"\xef\xbb\xbf" + MINIMAL + b"method: no_such\n",
    "crlf.yaml": MINIMAL.replace(b"\n", b"\r\n") + b"method: no_such\r\n",
}


@functools.cache
def schema(method: str) -> dict[str, Any]:
    """Every option of a run with this method: dotted name -> type."""
    found: dict[str, Any] = {"method": options.Method}
    parts = {"model": options.ModelOptions, "data": options.DataOptions, "reward": options.RewardOptions}
    for section, kind in {**parts, "lora": options.LoraOptions}.items():
        found |= {f"{section}.{name}": hint for name, hint in get_type_hints(kind).items()}
    kind = build.classes(method)[0]
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        if field.init and field.name not in NOT_FUZZED:
            for section in ("training", *["generation"] * (method in options.ONLINE), f"methods.{method}"):
                found[f"{section}.{field.name}"] = hints[field.name]
    return found


def prepare(place: Path, exported: Path) -> None:
    """A folder with a valid configuration, and the broken files beside it."""
    for name, content in BAD_FILES.items():
        (place / name).write_bytes(content)
    (place / "a_folder.yaml").mkdir()
    (place / "rewards.py").write_text("def reward(prompts, completions, **_):\n    return [1.0] * len(completions)\n")
    (place / "run.yaml").write_text(
        f"model: {{name: {exported / 'policy'}, dtype: float32}}\n"
        f"data: {{prompts: {exported / 'prompts' / 'train.jsonl'}, preferences: {exported / 'preferences.jsonl'},"
        " max_prompt_tokens: 4}\n"
        "reward: {kind: function, name: 'tests.llm.training:reward'}\n"
        "training: {use_cpu: true, bf16: false, gradient_checkpointing: false, max_steps: 3, save_steps: 1}\n"
        "generation: {num_generations: 4, max_completion_length: 4}\nmethods: {dpo: {max_length: 8}}\n"
    )


# --- running them -----------------------------------------------------------------------------------------------------


def run(command: Command) -> Outcome:
    """What becomes of a command line. The work itself does not begin."""
    seen: dict[str, Any] = {}
    try:
        with _boundaries(seen), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            status = main(["--debug", *command.argv])
    except ReachedError as reached:
        return _compared(command, reached.resolved)
    except SystemExit as stopped:
        return Outcome("refused" if stopped.code == 2 else "traceback", f"exit {stopped.code}")
    except Exception as error:
        return _judged(error)
    if status != 0:
        return Outcome("traceback", f"status {status}")
    return _compared(command, seen)


def _judged(error: Exception) -> Outcome:
    """A refusal in our words is raised in the package; an OSError may be the system's, which names the file."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    ours = Path(last.filename).is_relative_to(HERE)
    words = f"{type(error).__name__}: {error} ({last.filename}, line {last.lineno})"
    if (ours and isinstance(error, ValueError | TypeError | OSError)) or (isinstance(error, OSError) and str(error)):
        return Outcome("refused", words)
    return Outcome("traceback", words)


def _compared(command: Command, resolved: dict[str, Any]) -> Outcome:
    for name, (text, meaning) in command.written.items():
        if name not in resolved or name in REPLACED_ALOUD or text != text.strip():  # YAML drops blanks around a value
            continue
        if not same(meaning, resolved[name]):
            return Outcome("changed", f"{name}={text!r} became {resolved[name]!r}")
    return Outcome("accepted", "")


@contextlib.contextmanager
def _boundaries(seen: dict[str, Any]) -> Iterator[None]:
    """Stop every command where its work begins; `plan` and the dry run do all of theirs, and what they resolved is put
    in `seen`."""
    import dar_ref.demo.run as demo
    import dar_ref.llm.dry_run as dry
    import dar_ref.llm.plan.command as plan
    import dar_ref.toy.commands as toy
    import dar_ref.verify.run as verify

    original, made, planned = verify.verify, dry.make_arguments, plan.plan

    def verified(seed: Any, cases: Any, digits: Any, _progress: Any) -> Any:
        def begin(_numbers: Any) -> Any:
            raise ReachedError({"seed": seed, "cases": cases, "digits": digits})

        return original(seed, cases, digits, begin)

    def started(config: Any, folder: Path, _report: Any = None) -> Any:
        frame = sys._getframe(1).f_locals
        given = dataclasses.asdict(frame["config"]) if "config" in frame else {"seed": config.seed}
        raise ReachedError({**given, "task": config.task, "out": str(_callers("out")), "cache": str(folder)})

    def experiment(_jobs: Any, folder: Path, processes: int) -> Any:
        raise ReachedError({"processes": processes, "cache": str(folder)})

    def demonstrated(seed: int, _progress: Any) -> Any:
        raise ReachedError({"seed": seed, "out": str(_callers("out"))})

    def arguments(chosen: Any, folder: Path) -> Any:
        found = made(chosen, folder)
        seen.update(_flat(chosen))
        for section in ("training", "generation", f"methods.{chosen.method}"):
            for name in chosen.section(section):
                if name in vars(found) and name not in RESOLVED_BY_TRL and _last_word(chosen, section, name):
                    value = getattr(found, name)
                    seen[f"{section}.{name}"] = getattr(value, "value", value)
        return found

    def plan_it(chosen: Any, **rest: Any) -> Any:
        seen.update(_flat(chosen))
        return planned(chosen, **rest)

    with contextlib.ExitStack() as stack:
        for module, name, replacement in (
            (verify, "verify", verified),
            (toy, "load_start", started),
            (toy, "run_jobs", experiment),
            (demo, "_verify", demonstrated),
            (dry, "make_arguments", arguments),
            (plan, "plan", plan_it),
        ):
            stack.enter_context(mock.patch.object(module, name, replacement))
        stack.enter_context(mock.patch.dict(os.environ))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        yield


def _callers(name: str) -> Any:
    """The local variable `name` of the nearest caller that has one."""
    frame = sys._getframe(2)
    while name not in frame.f_locals:
        assert frame.f_back is not None
        frame = frame.f_back
    return frame.f_locals[name]


def _last_word(chosen: Any, section: str, name: str) -> bool:
    later = {"training": ["generation", f"methods.{chosen.method}"], "generation": [f"methods.{chosen.method}"]}
    return not any(name in chosen.section(other) for other in later.get(section, []))


def _flat(chosen: Any) -> dict[str, Any]:
    """The options of a run by dotted name, values as Python has them."""
    found: dict[str, Any] = {"method": chosen.method}
    for section in ("model", "data", "reward", "lora"):
        part = getattr(chosen, section)
        found |= (
            {} if part is None else {f"{section}.{f.name}": getattr(part, f.name) for f in dataclasses.fields(part)}
        )
    for section in ("training", "generation", f"methods.{chosen.method}"):
        found |= {f"{section}.{name}": value for name, value in chosen.section(section).items()}
    return found
