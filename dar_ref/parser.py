"""The parser of every command: argparse's, which also says what was probably meant."""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from dar_ref import scalars

BEFORE = ("--portable", "--debug")
"""Options of `dar-ref` itself."""


class Parser(argparse.ArgumentParser):
    """argparse's parser with "did you mean" for commands, options and choices.

    pair: for a command that takes KEY=VALUE pairs; from the name of an unknown option and what was parsed to the KEY
    that is meant, or None.
    """

    pair: Callable[[str, argparse.Namespace], str | None] | None = None

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse does, but what is unknown is an error here: this parser knows best what was meant."""
        given = list(sys.argv[1:] if args is None else args)
        found, unknown = super().parse_known_args(given, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._meant(unknown, given, found)}")
        return found, unknown

    def error(self, message: str) -> Any:
        """As argparse does, with the closest of the choices."""
        if wrong := re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message):
            message += scalars.did_you_mean(scalars.close(wrong[1], re.findall(r"[\w.-]+", wrong[2])))
        super().error(message)

    def _meant(self, unknown: Sequence[str], given: Sequence[str], found: argparse.Namespace) -> str:
        option = next((word for word in unknown if word.startswith("--")), "")
        name, equals, value = option.partition("=")
        if name in BEFORE:
            return f"; {name} stands before the command: dar-ref {name} ..."
        known = [text for action in self._actions for text in action.option_strings if text.startswith("--")]
        options, plain = scalars.close(name[2:], [text[2:] for text in known]), name[2:].replace("-", "_")
        key = self.pair(plain, found) if option and self.pair else None
        if key is None or (options and key.rpartition(".")[2] != plain):
            return scalars.did_you_mean(f"--{text}" for text in options)
        behind = given[given.index(option) + 1 :]
        if not equals:
            value = behind[0] if behind and not behind[0].startswith("--") else "VALUE"
        return f"; write {key}={value}"
