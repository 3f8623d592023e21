"""The pictures of the site: `.venv/bin/python docs/figures.py [NAME ...]` writes docs/images/*.png in some seconds."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parent))
from pictures import findings, home, methods, theory

from dar_ref import plots

METHODS = ("dar", "dao", "grpo", "rloo", "ppo", "dual_ppo", "dpo", "ipo", "slic", "best_of_n")
IMAGES = Path(__file__).parent / "images"
PICTURES: dict[str, Callable[[], Figure]] = {
    "conflict": partial(home.stages, 1, 3),
    "conflict_narrow": partial(home.stages, 3, 1),
    "loop": partial(home.loop, 1, 4),
    "loop_narrow": partial(home.loop, 2, 2),
    "t1": theory.two_kls,
    "t2": theory.optimum,
    "t3": theory.weighted_samples,
    "t4": theory.clipped_target,
    "t5": theory.contraction,
    "t7": theory.best_inside,
    "t8": theory.noise,
    "t9": theory.trust_regions,
    "t10": theory.own_sample,
    "t11": theory.coverage,
    "t14": theory.weights,
    "t15": theory.fits,
    "normalised": findings.normalised,
    "switch": findings.switch,
    "certificate": findings.certificate,
    **{name: getattr(methods, name) for name in METHODS},
}


def main(names: list[str]) -> None:
    """Write the pictures that are named; every picture without a name."""
    for name in names or PICTURES:
        print(plots.save_png(PICTURES[name](), IMAGES / f"{name}.png"))


if __name__ == "__main__":
    main(sys.argv[1:])
