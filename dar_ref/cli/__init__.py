"""The `dar-ref` command: `main` is the entry point; `toy` and `llm` hold the options of the larger sub-commands."""

from dar_ref.cli.main import build_parser, main

__all__ = ["build_parser", "main"]
