"""Write the prompts of the real tasks: `python -m dar_ref.llm.real.prompts FOLDER`; `make real-model` does it.

Each task gets a folder with `train.jsonl`, `validation.jsonl` and `test.jsonl`, one row a line, in TRL's columns. They
are the same bytes every time, for given versions of the packages that `tldr` reads.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from dar_ref import results
from dar_ref.errors import exit_status, path
from dar_ref.llm.real import harmless, sentiment, tldr

TASKS = {"sentiment": sentiment, "harmless": harmless, "tldr": tldr}
SPLITS = ("train", "validation", "test")


def write_prompts(folder: Path) -> list[Path]:
    """Write the prompts to a folder; files that are there are replaced. Returns the files."""
    files = []
    for task, module in TASKS.items():
        for split in SPLITS:
            files.append(folder / task / f"{split}.jsonl")
            rows = module.prompts(split)
            results.write_text(files[-1], "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return files


def main(argv: Sequence[str] | None = None) -> int:
    """Write them and say where; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m dar_ref.llm.real.prompts", description="Prompts of the real tasks."
    )
    parser.add_argument("folder", type=path, help="to write")
    arguments = parser.parse_args(argv)

    def work() -> int:
        for file in write_prompts(arguments.folder):
            print(file)
        return 0

    return exit_status("dar_ref.llm.real.prompts", work)


if __name__ == "__main__":
    sys.exit(main())
