"""The runs of the comparison on real text."""

from typing import NamedTuple


class PlannedRun(NamedTuple):
    """One row of the table. seeds: how many are planned."""

    task: str
    name: str
    label: str
    overrides: tuple[str, ...]
    seeds: int


RUNS = (  # in the order in which they are done; all seeds 0 first
    PlannedRun("sentiment", "dar", "DAR, the paper's values", ("method=dar",), 3),
    PlannedRun("sentiment", "dar-alpha-1", "DAR, alpha 1", ("method=dar", "methods.dar.alpha=1.0"), 3),
    PlannedRun("sentiment", "dar-alpha-0", "DAR, alpha 0", ("method=dar", "methods.dar.alpha=0.0"), 3),
    PlannedRun("sentiment", "grpo", "GRPO", ("method=grpo",), 3),
    PlannedRun(
        "sentiment",
        "dar-anchored",
        "DAR, alpha 1, beta 0.2",
        ("method=dar", "methods.dar.alpha=1.0", "methods.dar.beta=0.2"),
        1,
    ),
    PlannedRun("sentiment", "rloo", "RLOO", ("method=rloo",), 1),
    PlannedRun("sentiment", "dao", "DAO", ("method=dao",), 1),
    PlannedRun("harmless", "dar", "DAR, the paper's values", ("method=dar",), 1),
    PlannedRun("harmless", "grpo", "GRPO", ("method=grpo",), 1),
    PlannedRun("tldr", "dar", "DAR, the paper's values", ("method=dar",), 1),
    PlannedRun("tldr", "grpo", "GRPO", ("method=grpo",), 1),
)
