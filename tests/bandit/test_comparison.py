"""Comparison and choice of learning rates: plain results, the same bytes, and no choice by the gold reward."""

import json
import math
from dataclasses import replace

import pytest

from dar_ref.bandit import (
    Bandit,
    Record,
    TrainConfig,
    compare,
    digits_bandit,
    digits_config,
    random_tabular_bandit,
    train,
)
from dar_ref.bandit.digits import LEARNING_RATES
from dar_ref.bandit.tune import GRID, VALIDATION_SEEDS, tune

SMALL = TrainConfig(steps=2, batch_prompts=4, num_generations=3, learning_rate=0.1)
CONFIGS = {"dar": SMALL, "no clip": replace(SMALL, w_clip=math.inf), "grpo": replace(SMALL, method="grpo")}


def make_bandit(seed):
    return random_tabular_bandit(6, 4, seed)


def as_bytes(results):
    return json.dumps(results, sort_keys=True, allow_nan=False).encode()


def test_results_are_the_same_bytes_and_survive_json():
    results = compare(make_bandit, CONFIGS, [3, 1])
    assert as_bytes(results) == as_bytes(compare(make_bandit, CONFIGS, [3, 1]))
    assert json.loads(as_bytes(results)) == results
    assert as_bytes(results) != as_bytes(compare(make_bandit, CONFIGS, [3, 2]))


def test_results_are_those_of_train():
    results = compare(make_bandit, CONFIGS, [3, 1])
    assert results["seeds"] == [3, 1]
    assert results["configs"]["no clip"]["w_clip"] == "inf"
    assert "seed" not in results["configs"]["dar"]
    assert results["configs"]["grpo"]["method"] == "grpo"
    for name, config in CONFIGS.items():
        for seed in (3, 1):
            run = train(make_bandit(seed), replace(config, seed=seed))
            columns = results["runs"][name][str(seed)]
            assert [Record(*row) for row in zip(*columns.values(), strict=True)] == run.records
            assert results["start"][str(seed)] == run.start._asdict()


def test_progress_is_told_setting_and_seed():
    seen = []
    compare(make_bandit, CONFIGS, [0, 1], on_step=lambda name, seed, record: seen.append((name, seed, record.step)))
    assert seen == [(name, seed, step) for seed in (0, 1) for name in CONFIGS for step in (1, 2)]


@pytest.mark.parametrize(
    ("configs", "seeds", "error", "message"),
    [
        ({}, [0], ValueError, "configs is empty"),
        (CONFIGS, [], ValueError, r"seeds = \[\] is empty"),
        (CONFIGS, [1, 1], ValueError, r"seeds = \[1, 1\] is empty or has a seed twice"),
        (CONFIGS, [0.5], TypeError, r"seed = 0\.5 is a float"),
    ],
)
def test_compare_refuses(configs, seeds, error, message):
    with pytest.raises(error, match=message):
        compare(make_bandit, configs, seeds)


def opposed_bandit(seed):
    """A bandit whose gold reward is opposed to its proxy, so a choice by one is never the choice by the other."""
    bandit = make_bandit(seed)
    contexts = replace(bandit.train, gold=-bandit.train.proxy)
    return Bandit(contexts, contexts, bandit.pi_0)


def test_tune_takes_the_highest_final_proxy_of_the_grid():
    grid, seeds = (1e-3, 0.3), (5, 6)
    chosen = tune(opposed_bandit, [SMALL, replace(SMALL, method="dao")], grid, seeds)
    assert list(chosen) == ["dar", "dao"]
    for method, result in chosen.items():
        for rate, tried in zip(grid, result["tried"], strict=True):
            config = replace(SMALL, method=method, learning_rate=rate)
            last = [train(opposed_bandit(seed), replace(config, seed=seed)).records[-1] for seed in seeds]
            assert tried["learning_rate"] == rate
            for figure in ("proxy", "gold", "kl_to_pi_0"):
                assert tried[figure] == pytest.approx(sum(getattr(record, figure) for record in last) / 2, rel=1e-14)
        best = max(result["tried"], key=lambda tried: tried["proxy"])
        assert result["learning_rate"] == best["learning_rate"]


def test_frozen_learning_rates_come_from_the_grid_and_small_seeds_are_free_for_reporting():
    assert set(LEARNING_RATES.values()) <= set(GRID)
    assert min(VALIDATION_SEEDS) >= 1000


@pytest.mark.slow
def test_the_frozen_learning_rates_are_the_ones_that_tuning_chooses():
    chosen = tune(digits_bandit, [digits_config(method) for method in LEARNING_RATES])
    assert {method: result["learning_rate"] for method, result in chosen.items()} == LEARNING_RATES
