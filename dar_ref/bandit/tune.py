"""Choice of the learning rates in `digits.LEARNING_RATES`: `python -m dar_ref.bandit.tune` prints them as JSON, in
about two minutes.

Every method gets the same grid, the same sampling budget and the same validation seeds, which no reported run uses. The
choice is the rate with the highest final proxy reward on held-out contexts, mean over the validation seeds: without
gold labels there is nothing else to choose by. The gold reward is printed, but not used.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, get_args

from dar_ref.bandit.comparison import compare
from dar_ref.bandit.config import Method, TrainConfig
from dar_ref.bandit.digits import digits_bandit, digits_config
from dar_ref.bandit.problem import Bandit

GRID = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
VALIDATION_SEEDS = (1000, 1001, 1002)


def tune(
    make_bandit: Callable[[int], Bandit],
    configs: Sequence[TrainConfig],
    grid: Sequence[float] = GRID,
    seeds: Sequence[int] = VALIDATION_SEEDS,
) -> dict[str, Any]:
    """Try each learning rate of the grid with each setting. There is one setting per method.

    Args:
        make_bandit: seed -> bandit.
        configs: the settings; their own learning rates are replaced.
        grid: learning rates.
        seeds: validation seeds.

    Returns:
        `{method: {"learning_rate": chosen, "tried": [{"learning_rate", "proxy", "gold", "kl_to_pi_0"}]}}`, metrics of
        the last iteration, held-out, mean over seeds. Of equal proxy rewards the earlier rate of the grid.
    """
    return {config.method: _tune_one(make_bandit, config, grid, seeds) for config in configs}


def _tune_one(
    make_bandit: Callable[[int], Bandit], config: TrainConfig, grid: Sequence[float], seeds: Sequence[int]
) -> dict[str, Any]:
    results = compare(make_bandit, {repr(rate): replace(config, learning_rate=rate) for rate in grid}, seeds)
    tried = []
    for rate in grid:
        runs = results["runs"][repr(rate)].values()
        metrics = {name: fmean(run[name][-1] for run in runs) for name in ("proxy", "gold", "kl_to_pi_0")}
        tried.append({"learning_rate": rate, **metrics})
    best = max(tried, key=lambda metrics: metrics["proxy"])
    return {"learning_rate": best["learning_rate"], "tried": tried}


if __name__ == "__main__":
    settings = [digits_config(method) for method in get_args(Method)]
    print(json.dumps(tune(digits_bandit, settings), indent=2))
