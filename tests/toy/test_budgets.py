"""Budgets against T7 where the samples are the whole distribution, and on a run that holds them."""

import numpy as np
import pytest

from dar_ref.theory import constrained_optimum, feasible
from dar_ref.toy.budgets import ANCHORS, multipliers, next_anchor
from dar_ref.toy.config import RunConfig
from dar_ref.toy.train import train

ARMS = 6


def one_prompt(seed, drift):
    """pi_t uniform, so that its arms are a perfect sample of it; pi_0 away from it; a centred advantage."""
    rng = np.random.default_rng(seed)
    log_pi_t, log_pi_0 = np.full(ARMS, -np.log(ARMS)), drift * rng.standard_normal(ARMS)
    log_pi_0 -= np.log(np.exp(log_pi_0).sum())
    advantage = rng.standard_normal(ARMS)
    return log_pi_0, log_pi_t, advantage - advantage.mean()


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("eps_0", "eps_t"), [(0.3, 0.2), (0.05, 0.5), (0.6, 0.1)])
def test_on_a_whole_distribution_they_are_the_multipliers_of_t7(seed, eps_0, eps_t):
    log_pi_0, log_pi_t, advantage = one_prompt(seed, 0.4)
    exact = constrained_optimum(advantage, log_pi_0, log_pi_t, eps_0, eps_t)
    found = multipliers(advantage[None], (log_pi_0 - log_pi_t)[None], eps_0, eps_t)
    assert found.margin == pytest.approx(float(feasible(log_pi_0, log_pi_t, eps_0, eps_t).margin), abs=1e-6)
    # a multiplier of exactly 0 is at its lower bound here
    assert found.beta == pytest.approx(float(exact.beta), abs=0.03)
    assert found.alpha == pytest.approx(float(exact.alpha), abs=0.03)


def test_the_scale_of_the_reward_is_that_of_beta():
    log_pi_0, log_pi_t, advantage = one_prompt(3, 0.4)
    one, ten = (multipliers(s * advantage[None], (log_pi_0 - log_pi_t)[None], 0.3, 0.2) for s in (1.0, 10.0))
    assert ten == pytest.approx((one.alpha, 10.0 * one.beta, one.margin), rel=1e-4)


def test_where_no_policy_meets_both_budgets_it_goes_back_to_pi_0():
    log_pi_0, log_pi_t, advantage = one_prompt(0, 2.0)
    found = multipliers(advantage[None], (log_pi_0 - log_pi_t)[None], 0.05, 0.05)
    assert found.margin < 0.0
    assert not feasible(log_pi_0, log_pi_t, 0.05, 0.05).nonempty
    assert (found.alpha, found.beta) == (1.0, pytest.approx(advantage.std() / np.sqrt(0.1)))


def test_equal_rewards_have_multipliers_too():
    found = multipliers(np.zeros((4, 4)), np.zeros((4, 4)), 0.1, 0.1)
    assert np.isfinite(found).all()


def test_the_anchor_grows_above_the_budget_falls_below_it_and_has_bounds():
    assert next_anchor(1.0, 0.3, 0.3) == 1.0
    assert next_anchor(1.0, 0.6, 0.3) > 1.0 > next_anchor(1.0, 0.0, 0.3)
    assert next_anchor(ANCHORS[1], 9.0, 0.3) == ANCHORS[1]
    assert next_anchor(ANCHORS[0], -9.0, 0.3) == ANCHORS[0]


def test_a_run_with_a_smaller_budget_stays_nearer_to_pi_0(start):
    ended = {}
    for eps_0 in (0.02, 2.0):
        config = RunConfig(steps=60, learning_rate=3e-3, batch_prompts=24, reward="gold", eps_0=eps_0, eps_t=0.2)
        run = train(start, config)
        ended[eps_0] = run.evaluations[-1]["kl"]
        assert {"alpha", "beta", "margin"} <= set(run.rollouts[-1])
    assert ended[0.02] < 0.5 * ended[2.0]


@pytest.mark.parametrize("options", [{"eps_0": 0.1}, {"eps_t": 0.1}, {"eps_0": 0.1, "eps_t": 0.1, "method": "grpo"}])
def test_budgets_come_as_a_pair_and_with_dar(options):
    with pytest.raises(ValueError, match="budgets are an option of dar, and come as a pair"):
        RunConfig(**options)
