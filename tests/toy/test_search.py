"""The joint choice of learning rate and regulariser: equal budgets, the best point of a known surface."""

import math

import pytest

from dar_ref.toy.config import RunConfig
from dar_ref.toy.experiments import search as module
from dar_ref.toy.experiments.search import RATES, REGULARISERS, Cell, at, search
from dar_ref.toy.experiments.settings import DIRECT, EXPERIMENTS

CELLS = [Cell("tldr", method, RunConfig(method=method)) for method in REGULARISERS]


def hill(top):
    """A surface with one hill, whose top is at `top`."""
    return lambda asked: [-math.dist(point, top) for _, point in asked]


@pytest.mark.parametrize("top", [(0, 0), (1, 0), (-1, 1), (0, -2), (-2, -1)])
def test_the_top_of_a_hill_is_found_and_known_to_be_interior(top):
    for cell, found in zip(CELLS, search(CELLS, hill(top), trials=16), strict=True):
        assert found["chosen"] == at(cell.config, top)
        assert found["interior"]


def test_a_top_that_is_too_far_for_the_budget_is_said_not_to_be_interior():
    (found,) = search(CELLS[:1], hill((-4, 4)), trials=12)
    assert not found["interior"]


def test_a_default_where_all_is_hacked_is_left_by_the_ladder(monkeypatch):
    """0.04 at the default, a little more at smaller rates, 0.5 where nothing is trained; a hill far up the regulariser.
    A walk alone ends at 0.5."""

    def height(rate, regulariser):
        if regulariser >= 2 and rate >= -1:
            return 0.7 - 0.02 * math.dist((rate, regulariser), (1, 3))
        return 0.5 if rate <= -3 else 0.04 - 0.02 * rate

    def chosen():
        (found,) = search(CELLS[:1], lambda asked: [height(*point) for _, point in asked])
        return found

    found = chosen()
    assert found["chosen"] == at(CELLS[0].config, (1, 3))
    assert found["interior"]
    monkeypatch.setattr(module, "LADDER", ((0, 0),))
    assert chosen()["chosen"]["learning_rate"] <= 1e-5


@pytest.mark.parametrize("step", [-1, 1])
def test_the_walk_stops_at_the_ends_of_the_rates(step):
    (found,) = search(CELLS[:1], lambda asked: [step * point[0] for _, point in asked], trials=40)
    rates = {one["options"]["learning_rate"] for one in found["tried"]}
    assert rates <= set(RATES)
    assert found["chosen"]["learning_rate"] == (min(RATES) if step < 0 else max(RATES))
    assert not found["interior"]


@pytest.mark.parametrize("trials", [1, 5, 12])
def test_every_cell_gets_the_same_number_of_points_and_none_twice(trials):
    asked = []

    def score(pairs):
        asked.extend(pairs)
        return [hill((i % 3, i % 2))([pair])[0] for i, pair in enumerate(pairs)]

    found = search(CELLS, score, trials)
    assert len(set(asked)) == len(asked) == trials * len(CELLS)
    assert {len(row["tried"]) for row in found} == {trials}
    best = [max(row["tried"], key=lambda one: one["score"]) for row in found]
    assert [row["chosen"] for row in found] == [one["options"] for one in best]


def test_a_step_of_the_grid_is_about_three_in_the_rate_and_four_in_the_regulariser():
    config = RunConfig(method="rloo")
    assert at(config, (0, 0)) == {"learning_rate": 3e-4, "kl_coef": 0.04}
    assert at(config, (-3, 1)) == {"learning_rate": 1e-5, "kl_coef": 0.16}
    with pytest.raises(IndexError, match="no learning rate -6 steps"):
        at(config, (-6, 0))


def test_the_direct_experiments_tune_every_method_alike_on_its_own_reward():
    for name, reward in (("direct", "annotator"), ("direct-gold", "gold")):
        cells = EXPERIMENTS[name].cells
        assert len({(cell.task, cell.label) for cell in cells}) == len(cells) == 3 * len(DIRECT)
        assert {cell.config.reward for cell in cells} == {reward}
        assert {(c.config.steps, c.config.batch_prompts, c.config.num_generations) for c in cells} == {(300, 32, 4)}
