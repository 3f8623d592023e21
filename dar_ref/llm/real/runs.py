"""The runs of the comparison on real text."""

from typing import NamedTuple


class Run(NamedTuple):
    """One row of the table. seeds: how many are planned."""

    task: str
    name: str
    label: str
    overrides: tuple[str, ...]
    seeds: int


RUNS = (  # in the order in which they are done; all seeds 0 first
    Run("sentiment", "dar", "DAR, the paper's values", ("method=dar",), 3),
    Run("sentiment", "dar-alpha-1", "DAR, alpha 1", ("method=dar", "methods.dar.alpha=1.0"), 3),
    Run("sentiment", "dar-alpha-0", "DAR, alpha 0", ("method=dar", "methods.dar.alpha=0.0"), 3),
    Run("sentiment", "grpo", "GRPO", ("method=grpo",), 3),
    Run("sentiment", "rloo", "RLOO", ("method=rloo",), 1),
    Run("sentiment", "dao", "DAO", ("method=dao",), 1),
    Run("tldr", "dar", "DAR, the paper's values", ("method=dar",), 1),
    Run("tldr", "grpo", "GRPO", ("method=grpo",), 1),
)
