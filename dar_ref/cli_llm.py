"""The `dar-ref train` and `dar-ref plan` commands: their options only, so that `--help` answers at once. The work is in
`dar_ref.llm`."""

import argparse

from dar_ref.llm.arguments import add_arguments


def add_train(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `train`."""
    parser = commands.add_parser(
        "train", help="train a language model by DAR or another method, on CPU, one GPU or many"
    )
    add_arguments(parser)
    parser.set_defaults(run=_train)


def _train(arguments: argparse.Namespace) -> int:
    from dar_ref.llm import train

    return train.run(arguments)
