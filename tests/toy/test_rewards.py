"""A reward that is missing, not finite or one too many stops the run with a message that names the sample."""

import math
import re
from decimal import Decimal

import numpy as np
import pytest
import torch

from dar_ref.toy.config import RunConfig
from dar_ref.toy.policy import decode
from dar_ref.toy.rewards import rewards_of
from dar_ref.toy.tasks import TINY
from dar_ref.toy.train import train
from tests.toy.reference import mixed_completions

COUNT = 12


def with_value(value, index=6):
    """A reward function that returns one wrong reward, at `index`."""
    return lambda prompts, _responses, _finished: [value if i == index else 0.5 for i in range(len(prompts))]


def test_a_function_of_ones_own_sees_prompts_responses_and_ends(start):
    completions, seen = mixed_completions(), []

    def reward(*arguments):
        seen.append(arguments)
        return [float(i) for i in range(COUNT)]

    assert rewards_of(start, completions, reward).tolist() == list(range(COUNT))
    prompts, responses, finished = seen[0]
    assert prompts == [list(prompt) for prompt in ("abc", "dda", "cab") for _ in range(4)]
    assert responses == decode(TINY, completions)
    assert finished == [True, True, True, False] * 3


@pytest.mark.parametrize(
    "kind", [list, tuple, np.array, lambda x: np.array(x, dtype=np.float32), lambda x: np.array(x, dtype=int), iter]
)
def test_numbers_of_any_real_type_are_taken(start, kind):
    found = rewards_of(start, mixed_completions(), lambda prompts, *_: kind([float(i) for i in range(len(prompts))]))
    assert found.dtype == torch.float32
    assert found.tolist() == list(range(COUNT))


@pytest.mark.parametrize(
    "value",
    [None, math.nan, math.inf, -math.inf, True, False, "0.5", 1j, [0.5], Decimal("0.5"), np.float32("nan")],
    ids=repr,
)
def test_what_is_no_finite_number_is_refused_with_its_sample(start, value):
    response = " ".join(decode(TINY, mixed_completions())[6])
    message = (
        f"reward 6 is {value!r}, for the prompt 'd d a' and the completion '{response}': every reward must be a finite"
        " number up to 1e+18; fix the reward function"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        rewards_of(start, mixed_completions(), with_value(value))


@pytest.mark.parametrize(
    "value", [1e39, 3e38, -2e18, 10**400, 10**30], ids=["1e39", "3e38", "-2e18", "10^400", "10^30"]
)
def test_a_number_whose_square_overflows_is_refused(start, value):
    with pytest.raises(ValueError, match=rf"reward 6 is {re.escape(str(value))}, for the prompt 'd d a'"):
        rewards_of(start, mixed_completions(), with_value(value))


@pytest.mark.parametrize("count", [0, 1, 11, 13])
def test_the_wrong_number_of_rewards_is_refused_and_not_broadcast(start, count):
    with pytest.raises(ValueError, match=f"returned {count} rewards for 12 completions; return one reward per"):
        rewards_of(start, mixed_completions(), lambda *_: [0.5] * count)


@pytest.mark.parametrize("value", [None, 0.5])
def test_no_list_at_all_is_refused(start, value):
    with pytest.raises(ValueError, match=rf"the reward function returned {value}; return a list of 12 rewards"):
        rewards_of(start, mixed_completions(), lambda *_: value)


def test_an_unknown_name_is_refused(start):
    with pytest.raises(ValueError, match="reward = 'silver' is unknown; pass 'proxy', 'annotator', 'gold' or a func"):
        rewards_of(start, mixed_completions(), "silver")


def test_a_reward_model_that_is_broken_is_found(start, monkeypatch):
    monkeypatch.setattr("dar_ref.toy.start.score", lambda *_: torch.tensor([0.0] * 5 + [math.nan] + [0.0] * 6))
    with pytest.raises(ValueError, match="reward 5 is nan, for the prompt 'd d a'"):
        rewards_of(start, mixed_completions(), "proxy")


@pytest.mark.parametrize("method", ["dar", "ppo", "best_of_n"])
@pytest.mark.parametrize("value", [None, math.nan])
def test_training_stops_with_it(start, method, value):
    steps = []
    with pytest.raises(ValueError, match=rf"reward 6 is {value}, for the prompt '. . .' and the completion"):
        train(start, RunConfig(method=method, steps=3, batch_prompts=4), reward=with_value(value), on_step=steps.append)
    assert steps == []


def test_training_follows_the_function_it_is_given(start):
    config = RunConfig(steps=30, batch_prompts=24, learning_rate=1e-2, evaluate_every=30)
    run = train(start, config, reward=lambda _p, responses, _f: [float(r.count("a")) for r in responses])
    gained = [rollout["reward"] for rollout in run.rollouts]
    assert np.mean(gained[-5:]) > np.mean(gained[:5]) + 0.5
