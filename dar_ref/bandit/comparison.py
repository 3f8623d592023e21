"""Several settings over several seeds. The result is plain Python, the same bytes each time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from dar_ref import results, scalars
from dar_ref.bandit.config import TrainConfig
from dar_ref.bandit.measure import Record
from dar_ref.bandit.problem import Bandit
from dar_ref.bandit.train import train


def compare(
    make_bandit: Callable[[int], Bandit],
    configs: Mapping[str, TrainConfig],
    seeds: Sequence[int],
    on_step: Callable[[str, int, Record], None] | None = None,
) -> dict[str, Any]:
    """Train every setting on the bandit of every seed.

    A seed sets the bandit and the sampling. With one seed all settings share pi_0, rewards and contexts. Different
    seeds share nothing, so a spread over seeds includes all randomness.

    Args:
        make_bandit: seed -> bandit, for example `digits_bandit`.
        configs: name of the setting -> options; their own `seed` is replaced.
        seeds: different whole numbers, at least one.
        on_step: called with (name, seed, record) after each iteration.

    Returns:
        What json can hold, finite numbers only:
        `{"configs": {name: {option: value}}, "seeds": [seed], "start": {seed: {metric: value}},
        "runs": {name: {seed: {metric: [value per iteration]}}}}`, seeds as strings where they are keys. Metrics are the
        fields of `Evaluation` and `Record`; `w_clip` of inf is the string "inf".

    Raises:
        TypeError, ValueError: no setting, no seed, a seed twice, or an option that `train` refuses.
    """
    if not configs:
        raise ValueError("configs is empty: nothing to compare; pass at least one name -> TrainConfig")
    seeds = [scalars.integer("seed", seed, 0) for seed in seeds]
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds = {seeds} is empty or has a seed twice; pass different seeds, at least one")
    start: dict[str, dict[str, float]] = {}
    runs: dict[str, dict[str, dict[str, list[Any]]]] = {name: {} for name in configs}
    for seed in seeds:
        bandit = make_bandit(seed)
        for name, config in configs.items():
            told = None if on_step is None else partial(on_step, name, seed)
            run = train(bandit, replace(config, seed=seed), told)
            start[str(seed)] = run.start._asdict()
            runs[name][str(seed)] = {
                metric: [getattr(record, metric) for record in run.records] for metric in Record._fields
            }
    return {
        "configs": {name: _options(config) for name, config in configs.items()},
        "seeds": seeds,
        "start": start,
        "runs": runs,
    }


def _options(config: TrainConfig) -> dict[str, Any]:
    """The options of a setting without its seed."""
    return {name: value for name, value in results.plain(config).items() if name != "seed"}
