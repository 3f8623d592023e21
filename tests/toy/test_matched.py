"""Reward at equal KL against areas by hand and against a fine grid."""

import numpy as np
import pytest

from dar_ref.toy.experiments.matched import advantages, mean_height


def on_a_grid(kl, reward, upto, count=200_000):
    places = (np.arange(count) + 0.5) * upto / count
    return float(np.mean([max(r for k, r in zip(kl, reward, strict=True) if k <= place) for place in places[::100]]))


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_mean_of_the_staircase(seed):
    rng = np.random.default_rng(seed)
    kl, reward = [0.0, *rng.uniform(0, 3, 12)], rng.standard_normal(13).tolist()
    for upto in (0.5, max(kl), 4.0):
        assert mean_height(kl, reward, upto) == pytest.approx(on_a_grid(kl, reward, upto), abs=2e-2)


def test_points_at_one_kl_count_with_the_best_and_negative_estimates_as_zero():
    assert mean_height([0.0, -0.1, 1.0, 1.0], [0.0, 2.0, 1.0, 5.0], 2.0) == pytest.approx((2.0 + 5.0) / 2)


def run(kl, gold):
    return {"evaluations": [{"kl": k, "gold": g} for k, g in zip(kl, gold, strict=True)]}


def test_methods_are_compared_up_to_the_kl_that_both_reach_seed_by_seed():
    first, second = run([0.0, 1.0], [0.0, 1.0]), run([0.0, 1.0], [0.0, 3.0])
    settings = [
        {"task": "tldr", "group": "dar alpha 1", "runs": [first, second]},
        {"task": "tldr", "group": "dar alpha 0.1", "runs": [run([0.0, 2.0], [0.0, 9.0])] * 2},
        {"task": "tldr", "group": "grpo", "runs": [run([0.0, 0.5, 1.5], [0.0, 1.0, 8.0])] * 2},
        {"task": "tiny", "group": "grpo", "runs": [run([0.0, 1.0], [50.0, 50.0])] * 2},
    ]
    # up to 1.5: dar has 1 (then 3) from 1 on, grpo 1 from 0.5 on
    expected = [(0.5 - 1.0) / 1.5, (1.5 - 1.0) / 1.5]
    assert advantages({"settings": settings}, "tldr", "gold", "dar", ["grpo"]) == {"grpo": pytest.approx(expected)}
