"""`dar-ref plan`: from the arguments of the command line to a plan, printed and written to a file."""

import argparse
from dataclasses import replace
from typing import Any

from rich.console import Console

from dar_ref import results, scalars
from dar_ref.llm.first_checks import check_models, check_names
from dar_ref.llm.options import METHODS, RunOptions, load_options, make_options
from dar_ref.llm.plan.estimate import check_devices, device_bytes, plan
from dar_ref.llm.plan.report import plan_as_json, show
from dar_ref.progress import reporting

DEFAULTS: dict[str, Any] = {  # a run must name these, and memory does not depend on them
    "model": {"name": "-"},
    "data": {"prompts": "-", "preferences": "-"},
    "reward": {"kind": "function", "name": "none:none"},
}


def run(arguments: argparse.Namespace) -> int:
    """Plan, print, write; returns 0.

    Raises:
        ValueError, TypeError: options that no run could have, or that are not planned.
        OSError: no configuration or config.json, or an unwritable file.
    """
    if arguments.json:
        results.check_writable(arguments.json)
    run = options(arguments)
    check_names(run)
    check_models(run)
    sharding = arguments.sharding or ("none" if arguments.devices == 1 else "ddp")
    check_devices(arguments.devices, sharding)
    if arguments.tokens_per_second is not None:
        scalars.positive("--tokens-per-second", arguments.tokens_per_second)
    memory = None if arguments.device_memory is None else device_bytes(arguments.device_memory)
    with reporting() as report:
        if arguments.config or arguments.options:  # a model alone has no options, and needs no TRL
            report("types of TRL's options")
            from dar_ref.llm.build import named_options

            named_options(run)  # as the run would
        report("memory of each phase")
        made = plan(
            run,
            devices=arguments.devices,
            sharding=sharding,
            device_memory=memory,
            tokens_per_second=arguments.tokens_per_second,
        )
    show(made, Console(highlight=False))
    if arguments.json:
        results.write_json(arguments.json, plan_as_json(made))
    return 0


def options(arguments: argparse.Namespace) -> RunOptions:
    """The run that is planned: a configuration with changes, or TRL's defaults for a model.

    Raises:
        ValueError: neither a configuration nor a model, or a wrong option.
        FileNotFoundError: no such configuration.
    """
    overrides = list(arguments.options)
    if arguments.method is not None:
        overrides.append(f"method={scalars.choice('--method', arguments.method, METHODS)}")
    if arguments.config is None and arguments.model is None:
        raise ValueError("nothing to plan; pass --config FILE, or --model FOLDER for TRL's defaults")
    if arguments.config is not None:
        made = load_options(arguments.config, overrides)
    else:
        made = make_options(DEFAULTS, overrides)
    return with_models(made, arguments.model, arguments.reward_model)


def with_models(made: RunOptions, model: str | None, reward_model: str | None) -> RunOptions:
    """The options with another model, and with another reward model, which lies on the same device.

    Raises:
        ValueError: a reward model for a method that has no reward.
    """
    if model is not None:
        made = replace(made, model=replace(made.model, name=model))
    if reward_model is not None:
        if made.reward is None:
            raise ValueError(f"--reward-model {reward_model}: method {made.method} has no reward; leave it out")
        made = replace(made, reward=replace(made.reward, kind="model", name=reward_model))
    return made
