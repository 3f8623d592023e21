"""Options that make no sense are refused before any work starts: value, reason, remedy."""

import itertools
import math
import re
from dataclasses import fields
from typing import get_args

import pytest

from dar_ref.toy.config import OFFLINE, Method, RunConfig, StartConfig, start_config
from dar_ref.toy.tasks import TASKS

ALL_METHODS = "dar, dao, grpo, rloo, ppo, dual_ppo, online_dpo, dpo, ipo, slic, best_of_n"
WHOLE = {
    RunConfig: {"steps": 1, "batch_prompts": 1, "num_generations": 2, "evaluate_every": 1, "seed": 0}
    | {"updates_per_rollout": 1, "epochs_per_rollout": 1, "evaluation_samples": 1},
    StartConfig: {"seed": 0, "hidden_size": 2, "num_layers": 1, "num_heads": 1, "train_prompts": 1}
    | {"validation_prompts": 1, "test_prompts": 1, "demonstrations": 1, "sft_steps": 1, "sft_batch": 1, "groups": 1}
    | {"group_size": 2, "reward_layers": 1, "reward_steps": 1, "reward_batch": 1},
}
POSITIVE = {
    RunConfig: ["learning_rate", "beta", "dpo_beta"],
    StartConfig: ["sft_learning_rate", "label_temperature", "reward_learning_rate"],
}
NAMES = {
    (RunConfig, "method"): ALL_METHODS,
    (RunConfig, "optimizer"): "adam, sgd",
    (RunConfig, "reward"): "proxy, annotator, gold",
    (RunConfig, "weights"): "dar, zero_sum",
    (RunConfig, "baseline"): "group, batch",
    (RunConfig, "evaluate_on"): "validation, test",
    (StartConfig, "task"): "tldr, helpful, harmless, tiny, mixed",
}
OTHER = {
    RunConfig: {
        "alpha",
        "gae_lambda",
        "w_clip",
        "epsilon",
        "kl_coef",
        "self_normalize",
        "proxy_quality",
        "eps_0",
        "eps_t",
        "train_on",
        "null_space",
    },
    StartConfig: {"noise"},
}


@pytest.mark.parametrize("config", [RunConfig, StartConfig])
def test_every_option_is_in_these_tables(config):
    known = {*WHOLE[config], *POSITIVE[config], *OTHER[config], *(name for c, name in NAMES if c is config)}
    assert {field.name for field in fields(config)} == known


def test_the_names_listed_are_all_there_are():
    assert ALL_METHODS.split(", ") == list(get_args(Method))
    assert list(TASKS) == ["tldr", "helpful", "harmless", "tiny", "mixed"]


@pytest.mark.parametrize(("config", "name"), NAMES)
@pytest.mark.parametrize("value", ["DAR", "", None])
def test_an_unknown_name_lists_the_choices(config, name, value):
    message = re.escape(f"{name} = {value!r} is unknown; choose one of {NAMES[config, name]}")
    with pytest.raises(ValueError, match=f"^{message}$"):
        config(**{name: value})


@pytest.mark.parametrize(("config", "name"), [(c, n) for c, names in WHOLE.items() for n in names])
def test_whole_numbers(config, name):
    least = WHOLE[config][name]
    with pytest.raises(ValueError, match=rf"^{name} = {least - 1} is below {least}; pass {name} >= {least}$"):
        config(**{name: least - 1})
    for value in (4.0, True, "4", None):
        with pytest.raises(TypeError, match=rf"^{name} = {value!r} is a \w+, not a whole number; pass an int$"):
            config(**{name: value})


@pytest.mark.parametrize(("config", "name"), [(c, n) for c, names in POSITIVE.items() for n in names])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_positive_numbers(config, name, value):
    with pytest.raises(ValueError, match=rf"^{name} = {value} is not a finite number above 0; pass {name} > 0$"):
        config(**{name: value})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"alpha": 1.1}, ValueError, "alpha = 1.1 is outside [0, 1]; pass a number inside it"),
        ({"gae_lambda": -0.1}, ValueError, "gae_lambda = -0.1 is outside [0, 1]; pass a number inside it"),
        ({"w_clip": 0.0}, ValueError, "w_clip = 0.0 is not a number above 0; pass w_clip > 0"),
        ({"epsilon": -0.2}, ValueError, "epsilon = -0.2 is not a finite number of at least 0; pass epsilon >= 0"),
        ({"kl_coef": math.inf}, ValueError, "kl_coef = inf is not a finite number of at least 0; pass kl_coef >= 0"),
        ({"beta": "0.05"}, TypeError, "beta = '0.05' is a str, not a real number; pass one float"),
        ({"self_normalize": "no"}, TypeError, "self_normalize = 'no' is not a truth value; pass True or False"),
        (
            {"steps": 10, "updates_per_rollout": 8, "epochs_per_rollout": 2},
            ValueError,
            "steps = 10 is not a multiple of the 4 minibatches of a rollout: the last rollout would not be used up;"
            " pass steps = 8",
        ),
        (
            {"steps": 3, "updates_per_rollout": 4},
            ValueError,
            "steps = 3 is not a multiple of the 4 minibatches of a rollout: the last rollout would not be used up;"
            " pass steps = 4",
        ),
        (
            {"updates_per_rollout": 3, "epochs_per_rollout": 2},
            ValueError,
            "updates_per_rollout = 3 is not a multiple of epochs_per_rollout = 2: every epoch takes one step on each"
            " minibatch; pass a multiple",
        ),
        (
            {"epochs_per_rollout": 2},
            ValueError,
            "updates_per_rollout = 1 is not a multiple of epochs_per_rollout = 2: every epoch takes one step on each"
            " minibatch; pass a multiple",
        ),
        (
            {"method": "ipo", "updates_per_rollout": 2},
            ValueError,
            "updates_per_rollout = 2 with epochs_per_rollout = 1 makes the end of a rollout stale, and ipo samples"
            " none; pass the same number for both",
        ),
        (
            {"method": "slic", "reward": "gold"},
            ValueError,
            "reward = 'gold' has no effect on slic, which learns from labelled pairs; use an online method, or leave"
            " reward at 'proxy'",
        ),
        (
            {"method": "online_dpo", "num_generations": 3},
            ValueError,
            "num_generations = 3 is odd, but online_dpo learns from pairs; pass an even number",
        ),
        (
            {"method": "dao", "self_normalize": True},
            ValueError,
            "self_normalize is an option of dar, not of dao; leave it out",
        ),
        (
            {"method": "dpo", "train_on": "harmless"},
            ValueError,
            "train_on = 'harmless' with method = 'dpo', which learns from pairs of all prompts; take an online method,"
            " or leave it out",
        ),
        (
            {"eps_0": 0.1, "eps_t": 0.1, "alpha": 0.9, "beta": 3.0},
            ValueError,
            "alpha = 0.9 and beta = 3.0 with eps_0 and eps_t: budgets give both anew at every rollout; leave one pair"
            " out",
        ),
        (
            {"eps_0": 0.1, "eps_t": 0.1, "num_generations": 1, "baseline": "batch"},
            ValueError,
            "num_generations = 1 with eps_0 and eps_t: of one response per prompt no KL can be seen; pass 2 or more",
        ),
    ],
)
def test_runs_that_cannot_be_meant(options, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        RunConfig(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": 1.1}, "noise = 1.1 is outside [0, 1]; pass a number inside it"),
        ({"noise": 1.0}, "noise = 1.0: no demonstration would ever end; pass a number below 1"),
        (
            {"hidden_size": 12, "num_heads": 4},
            "hidden_size = 12 does not split into num_heads = 4 heads of an even number of channels; pass a multiple"
            " of 8",
        ),
    ],
)
def test_starts_that_cannot_be_made(options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        StartConfig(**options)


@pytest.mark.parametrize("config", [RunConfig, StartConfig])
def test_a_misspelt_option_is_refused_and_nothing_can_be_changed_later(config):
    with pytest.raises(TypeError, match="sede"):
        config(sede=1)
    with pytest.raises(AttributeError, match="seed"):
        config().seed = 1


def test_what_may_be_meant_is_taken():
    assert RunConfig(w_clip=math.inf, epsilon=0.0, kl_coef=0.0, alpha=1, gae_lambda=0).w_clip == math.inf
    for method, generations in itertools.product(set(get_args(Method)) - {*OFFLINE, "online_dpo"}, (2, 3)):
        assert RunConfig(method=method, num_generations=generations, reward="gold").num_generations == generations


def test_the_start_of_the_commands():
    for task, seed in itertools.product(TASKS, (0, 3)):
        config = start_config(task, seed)
        assert (config.task, config.seed) == (task, seed)
    assert sum(getattr(start_config("tiny", 0), f"{name}_prompts") for name in ("train", "validation", "test")) == 64
    with pytest.raises(
        ValueError, match="task = 'poem' is unknown; choose one of tldr, helpful, harmless, tiny, mixed"
    ):
        start_config("poem", 0)
