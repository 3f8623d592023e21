"""The commands `dar-ref train`, `plan` and `configs`: their options, so that `--help` is fast. `dar_ref.llm` does the
work of the first two."""

import argparse
import shutil

from dar_ref.errors import number, path, whole
from dar_ref.llm.arguments import add_arguments, meant_pair
from dar_ref.parser import Parser


def add_train(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add `train`."""
    parser = commands.add_parser(
        "train", help="train a language model with DAR or another method, on a CPU, one GPU or many"
    )
    add_arguments(parser)
    parser.set_defaults(run=_train)


def _train(arguments: argparse.Namespace) -> int:
    from dar_ref.llm.first_checks import checked_options

    options = checked_options(arguments)

    from dar_ref.llm import train  # the first import of torch

    return train.run(arguments, options)


def add_plan(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add `plan`."""
    parser = commands.add_parser(
        "plan",
        help="memory of a device, tokens and hours of a training run, before it starts",
        description="Memory of one device in each phase of a training run, from its configuration and the model's"
        " config.json: no weights, no GPU. KEY=VALUE pairs change single options as in `dar-ref train`. Models are"
        " folders or hub names: looked up in the hub cache, in this package, then on the hub.",
        epilog="exit status: 0 the plan was made, whether it fits or not; 2 no such run",
    )
    parser.pair = meant_pair
    parser.add_argument("--config", metavar="FILE", help="YAML file, or the name of one in this package")
    parser.add_argument("--method", help="in place of the configuration's")
    parser.add_argument("--model", metavar="FOLDER", help="in place of the configuration's; alone: TRL's defaults")
    parser.add_argument("--reward-model", metavar="FOLDER", help="in place of the configuration's")
    parser.add_argument("--devices", type=whole, default=1, help="how many train together (default: %(default)s)")
    parser.add_argument("--sharding", help="none, ddp, fsdp, zero3 (default: none, ddp if --devices is above 1)")
    parser.add_argument("--device-memory", metavar="GIB|NAME", help="of one device: 80, H100-80GB, RTX4090-24GB, ...")
    parser.add_argument(
        "--tokens-per-second", type=number, metavar="X", help="prompt and sampled tokens, all devices together"
    )
    parser.add_argument("--json", type=path, metavar="FILE", help="write the plan to FILE as well")
    parser.add_argument("options", nargs="*", metavar="KEY=VALUE", help="single options")
    parser.set_defaults(run=_plan)


def _plan(arguments: argparse.Namespace) -> int:
    from dar_ref.llm.plan import command

    return command.run(arguments)


def add_configs(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add `configs`."""
    parser = commands.add_parser(
        "configs",
        help="copy the configurations of this package to a folder: of runs, and of accelerate",
        description="Copy the configurations of this package to a folder: those of runs, which `dar-ref train` also"
        " finds by name, and accelerate/*.yaml for `accelerate launch --config_file`.",
    )
    parser.add_argument("folder", type=path, metavar="PATH", help="a folder; it need not exist")
    parser.set_defaults(run=_configs)


def _configs(arguments: argparse.Namespace) -> int:
    from dar_ref.llm.options import CONFIGS

    files = [file.relative_to(CONFIGS) for file in sorted(CONFIGS.rglob("*.yaml"))]
    for file in files:
        if (arguments.folder / file).exists():
            raise FileExistsError(f"{arguments.folder / file} is there already; remove it, or pass another folder")
    for file in files:
        (arguments.folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(CONFIGS / file, arguments.folder / file)
        print(arguments.folder / file)
    return 0
