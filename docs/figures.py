"""The pictures of the site: `.venv/bin/python docs/figures.py [NAME ...]` writes docs/images/*.png in some seconds."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parent))
from pictures import home

from dar_ref import plots

IMAGES = Path(__file__).parent / "images"
PICTURES: dict[str, Callable[[], Figure]] = {
    "conflict": partial(home.stages, 1, 3),
    "conflict_narrow": partial(home.stages, 3, 1),
    "loop": partial(home.loop, 1, 4),
    "loop_narrow": partial(home.loop, 2, 2),
}


def main(names: list[str]) -> None:
    """Write the pictures that are named; every picture without a name."""
    for name in names or PICTURES:
        print(plots.save_png(PICTURES[name](), IMAGES / f"{name}.png"))


if __name__ == "__main__":
    main(sys.argv[1:])
