"""A value that no run can have is refused by the option's name, before anything is read."""

import pytest

from dar_ref.llm import build
from dar_ref.llm.build import check_steps, make_arguments, named_options
from tests.llm.training import options

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("learning_rate", value) for value in (-1.0, NAN, INF, 1e-40)),
        *(("weight_decay", value) for value in (-3.0, NAN)),
        *(("max_grad_norm", value) for value in (-1.0, NAN)),
        *(("adam_epsilon", value) for value in (-1.0, NAN)),
        ("adam_beta1", 2.0),
        ("adam_beta2", -1.0),
        *(("num_train_epochs", value) for value in (NAN, INF, -1.0)),
        *(("gradient_accumulation_steps", value) for value in (0, -1)),
        *(("per_device_train_batch_size", value) for value in (0, -8)),
        *(("save_total_limit", value) for value in (0, -1)),
        *(("logging_steps", value) for value in (0, -1)),
        *(("save_steps", value) for value in (0, -1)),
        *(("ddp_timeout", value) for value in (0, -1)),
        ("dataloader_num_workers", -1),
    ],
)
@pytest.mark.parametrize("method", ["dar", "dpo"])
def test_options_of_every_method(exported, method, option, value):
    with pytest.raises(ValueError, match=rf"training\.{option} = {value}"):
        named_options(options(exported, method, training={option: value}))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("temperature", value) for value in (0.0, -1.0, NAN, 1e-300)),
        *(("max_completion_length", value) for value in (0, -1)),
        *((name, 0) for name in ("num_generations", "steps_per_generation", "num_iterations")),
    ],
)
@pytest.mark.parametrize("method", ["dar", "grpo", "rloo"])
def test_options_of_sampling(exported, method, option, value):
    with pytest.raises(ValueError, match=rf"generation\.{option} = {value}"):
        named_options(options(exported, method, generation={option: value}))


@pytest.mark.parametrize(
    ("method", "option", "value"),
    [
        *(("dar", "reward_weights", value) for value in ([], [1.0, 2.0], [NAN])),
        *(("grpo", "beta", value) for value in (-1.0, NAN, INF)),
        ("grpo", "epsilon", -0.1),
        *(("online_dpo", "beta", [0.1, value]) for value in (-1.0, 0.0)),
        ("dpo", "max_length", 0),
    ],
)
def test_options_of_one_method(exported, method, option, value):
    with pytest.raises(ValueError, match=rf"methods\.{method}\.{option} = "):
        named_options(options(exported, method, **{option: value}))


@pytest.mark.parametrize("method", ["dar", "dar_offline", "dao", "ppo_critic_free", "dual_ppo_critic_free", "dpo"])
@pytest.mark.parametrize("value", [0.0, -0.05])
def test_a_beta_that_is_no_weight_of_a_kl_term_is_above_0_and_the_message_says_so(exported, method, value):
    with pytest.raises(ValueError, match=rf"methods\.{method}\.beta = {value} .* pass methods\.{method}\.beta > 0"):
        named_options(options(exported, method, beta=value))


@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_a_kl_term_may_be_left_out(exported, method):
    assert named_options(options(exported, method, beta=0.0))["beta"] == 0.0


@pytest.mark.parametrize(
    ("option", "value", "remedy"),
    [
        ("output_dir", "here", "pass --out"),
        ("resume_from_checkpoint", "there", "pass --resume"),
        ("ignore_data_skip", True, "would begin its prompts anew"),
    ],
)
def test_what_has_its_place_elsewhere(exported, option, value, remedy):
    with pytest.raises(ValueError, match=rf"training\.{option} = {value!r}: .*{remedy}; leave it out"):
        named_options(options(exported, training={option: value}))


def test_a_warm_up_that_the_schedule_does_not_have_is_refused(exported, tmp_path):
    warm = {"warmup_steps": 15}
    for schedule in ("constant_with_warmup", "linear"):
        chosen = options(exported, training={**warm, "lr_scheduler_type": schedule})
        check_steps(make_arguments(chosen, tmp_path))
    with pytest.raises(ValueError, match=r"warmup_steps = 15 has no effect .* set constant_with_warmup"):
        check_steps(make_arguments(options(exported, training=warm), tmp_path))


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("dar", r"needs prompts; set data\.eval_prompts"),
        *((method, f"method = {method} is not evaluated") for method in ("online_dpo", "dpo", "dar_offline")),
    ],
)
def test_an_evaluation_that_cannot_be_is_refused(exported, tmp_path, method, message):
    chosen = options(exported, method, training={"eval_strategy": "steps", "eval_steps": 1})
    with pytest.raises(ValueError, match=message):
        make_arguments(chosen, tmp_path)


def test_an_unknown_place_to_report_to_is_refused(exported, tmp_path):
    with pytest.raises(ValueError, match=r"training\.report_to = .*wandd.* is not supported"):
        build.make_arguments(options(exported, training={"report_to": "wandd"}), tmp_path)
