"""`dar-ref plan`: from options to a verdict; what it refuses; its command line; its defaults against TRL's."""

import dataclasses

import pytest
import trl

from dar_ref.llm.options import CONFIGS, load_options
from dar_ref.llm.plan.architecture import read_architecture
from dar_ref.llm.plan.estimate import device_bytes, plan
from dar_ref.llm.plan.peaks import peaks
from dar_ref.llm.plan.resident import GIB
from dar_ref.llm.plan.settings import GENERATION, OF_METHOD, TRAINING
from dar_ref.llm.plan.what_would_fit import what_would_fit
from tests.llm.plan.plans import options, save_config

FULL = sorted(file.stem for file in CONFIGS.glob("qwen2-*.yaml"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_config(tmp_path_factory.mktemp("model"))


def peak(folder, planned=(), **sections):
    return plan(options(folder, **sections), **dict(planned)).peak


# --- defaults ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "configuration"),
    [
        (TRAINING | GENERATION | OF_METHOD["grpo"], trl.GRPOConfig),
        (TRAINING | GENERATION | OF_METHOD["rloo"], trl.RLOOConfig),
        (TRAINING | OF_METHOD["dpo"], trl.DPOConfig),
    ],
)
def test_defaults_are_trls(table, configuration):
    fields = {field.name: field.default for field in dataclasses.fields(configuration)}
    assert {name: fields[name] for name in table} == table


# --- what a run takes -------------------------------------------------------------------------------------------------


def test_the_options_reach_the_run(folder):
    made = plan(
        options(
            folder,
            training={"per_device_train_batch_size": 6, "gradient_accumulation_steps": 4, "max_steps": 10},
            generation={"num_generations": 3, "max_completion_length": 32},
            data={"max_prompt_tokens": 16},
        ),
        devices=2,
        sharding="ddp",
        tokens_per_second=1000.0,
    )
    assert (made.setup.rows, made.setup.buffer_rows, made.setup.length, made.setup.old) == (6, 24, 48, False)
    assert made.work.samples == 6 * 4 * 2
    assert (made.work.prompt_tokens, made.work.sampled_tokens) == (48 * 16, 48 * 32)
    assert made.work.tokens == 10 * 48 * 48
    assert made.work.total_samples == 480
    assert made.work.hours == pytest.approx(10 * 48 * 48 / 1000 / 3600)


def test_samples_used_again_are_drawn_once(folder):
    made = plan(options(folder, generation={"num_iterations": 2}, training={"max_steps": 4}))
    assert made.work.sampled_tokens == 8 * 512 // 2
    assert made.setup.old  # pi_theta has moved when a sample is used again, so pi_t is scored apart


def test_the_length_of_a_run_follows_from_its_data(folder):
    made = plan(options(folder, data={"limit": 100}, training={"num_train_epochs": 2}))
    assert made.work.steps == 2 * 100 * 8 // 8
    assert plan(options(folder)).work.steps is None


@pytest.mark.parametrize(
    ("sections", "steps"),
    [
        # a rollout is of two prompts with K 4, and the fifth of 5 fills none: 2 rollouts an epoch, one step each
        ({"data": {"limit": 5}, "generation": {"num_generations": 4}}, 3 * 2),
        ({"data": {"limit": 5}, "generation": {"num_generations": 4, "num_iterations": 2}}, 3 * 4),
        # 13 batches of 8 pairs, the last not whole; two are accumulated, the last alone
        ({"method": "dpo", "data": {"limit": 100}, "training": {"gradient_accumulation_steps": 2}}, 3 * 7),
        ({"method": "dar_offline", "data": {"limit": 100}}, 3 * 25),  # a pair is two rows
    ],
)
def test_every_epoch_has_whole_rollouts_and_a_last_step_of_its_own(folder, sections, steps):
    made = plan(options(folder, **sections))
    assert (made.setup.batch, made.work.steps) == (8, steps)


CHANGES = [
    ({"training": {"per_device_train_batch_size": 16}}, 1),
    ({"training": {"gradient_checkpointing": False}}, 1),
    ({"training": {"optim": "adafactor"}}, -1),
    ({"training": {"optim": "sgd"}}, -1),
    ({"training": {"bf16": False}}, -1),  # no float32 beside bfloat16 weights
    ({"generation": {"max_completion_length": 400}}, -1),
    ({"generation": {"steps_per_generation": 8}}, 1),
    ({"data": {"max_prompt_tokens": 100}}, -1),
    ({"model": {"dtype": "float32"}}, 1),
    ({"lora": {"r": 8}}, -1),
    ({"methods": {"dar": {"fused_loss": False}}}, 1),
]


@pytest.mark.parametrize(("sections", "sign"), CHANGES, ids=[str(c[0]) for c in CHANGES])
def test_each_option_changes_the_peak(folder, sections, sign):
    before, after = peak(folder), peak(folder, **sections)
    if sections == {"training": {"bf16": False}}:
        assert after <= before
    else:
        assert (after - before) * sign > 0


def test_without_a_kl_term_grpo_holds_no_pi_0(folder):
    assert peak(folder, method="grpo") < peak(folder, method="grpo", methods={"grpo": {"beta": 0.04}})


@pytest.mark.parametrize(("method", "recorded"), [("dar", True), ("grpo", False)])
def test_dar_reads_its_log_probs_off_the_sampler(folder, method, recorded):
    assert plan(options(folder, method=method)).setup.recorded == recorded
    assert not plan(options(folder, method=method, methods={"dar": {"sampler_logps": False}})).setup.recorded


@pytest.mark.parametrize(("name", "value"), [("use_vllm", True), ("temperature", 0.5)])
def test_options_of_generation_change_the_setup(folder, name, value):
    settings = {"device_memory": 80 * GIB, "devices": 8, "sharding": "zero3"}
    before = plan(options(folder), **settings)
    after = plan(options(folder, generation={name: value}), **settings)
    assert before.setup != after.setup


def test_colocated_vllm_takes_its_share(folder):
    section = {"use_vllm": True, "vllm_gpu_memory_utilization": 0.25}
    made = plan(options(folder, generation=section), device_memory=80 * GIB)
    assert {moment.phase for moment in made.peaks} == {"score", "update"}
    assert made.peaks[0].terms["vLLM"] == 20 * GIB
    served = plan(options(folder, generation=section | {"vllm_mode": "server"}))
    assert "vLLM" not in served.peaks[0].terms


def test_a_reward_model_lies_on_the_device(folder):
    reward = {"kind": "model", "name": str(folder), "dtype": "bfloat16"}
    terms = plan(options(folder, reward=reward)).peaks[0].terms
    assert terms["reward model"] == 2 * read_architecture(folder, kind="reward").count
    assert "reward model" not in plan(options(folder)).peaks[0].terms


def test_dpo_holds_pairs_and_draws_nothing(folder):
    made = plan(options(folder, method="dpo", methods={"dpo": {"max_length": 300}}, data={"max_prompt_tokens": 200}))
    assert (made.setup.rows, made.setup.prompt, made.setup.completion) == (16, 200, 100)
    assert [moment.phase for moment in made.peaks] == ["score", "update"]


def test_adapters_under_zero3_have_the_models_type(folder):
    lora = {"r": 8}
    types = {s: plan(options(folder, lora=lora), devices=2, sharding=s).setup.types for s in ("fsdp", "zero3")}
    assert (types["fsdp"].adapters, types["zero3"].adapters) == (4, 2)


def test_lora_needs_no_second_model(folder):
    assert "pi_0" in plan(options(folder)).peaks[0].terms
    assert "pi_0" not in plan(options(folder, lora={"r": 8})).peaks[0].terms


# --- whether it fits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", FULL)
@pytest.mark.parametrize("method", ["dar", "dpo", "grpo"])
def test_the_configurations_that_come_along_fit_where_they_say(config, method):
    memory_of = "RTX4090-24GB" if "0.5b" in config else "H100-80GB"
    made = plan(load_options(config, [f"method={method}"]), device_memory=device_bytes(memory_of))
    assert made.fits


def test_every_change_that_is_named_makes_it_fit():
    config = load_options("qwen2-7b-tldr", ["lora=null", "training.optim=adamw_torch"])
    too_little = plan(config, device_memory=80 * GIB)
    assert too_little.fits is False
    assert too_little.what_would_fit
    for change in too_little.what_would_fit:
        words = change.split()
        devices = int(words[words.index("--devices") + 1]) if "--devices" in words else 1
        sharding = words[words.index("--sharding") + 1] if "--sharding" in words else "none"
        changes = [] if "--devices" in words else words
        named = {change.partition("=")[0].partition(".")[0] for change in changes}
        unchanged = [
            kept
            for kept in ("lora=null", "training.optim=adamw_torch")
            if kept.split(".")[0].split("=")[0] not in named
        ]
        changed = load_options("qwen2-7b-tldr", [*unchanged, *changes])
        assert plan(changed, devices=devices, sharding=sharding, device_memory=80 * GIB).fits, change


def test_a_change_is_written_where_it_has_the_last_word():
    words = ["method=dpo"]
    too_little = plan(load_options("qwen2-7b-tldr", words), device_memory=19 * GIB)
    assert not too_little.fits
    batches = [change for change in too_little.what_would_fit if "batch_size" in change]
    assert batches
    for change in batches:
        changed = plan(load_options("qwen2-7b-tldr", [*words, *change.split()]), device_memory=19 * GIB)
        assert changed.fits, change
        assert changed.work.samples == too_little.work.samples


@pytest.mark.parametrize("family", ["gpt2", "opt"])
def test_a_reward_model_of_any_family_is_counted(folder, tmp_path, family):
    from transformers import AutoConfig

    sizes = {
        "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2},
        "opt": {"hidden_size": 32, "ffn_dim": 64, "num_attention_heads": 2},
    }[family]
    AutoConfig.for_model(family, vocab_size=64, **sizes).save_pretrained(tmp_path)
    described = read_architecture(tmp_path, kind="reward")
    assert described.intermediate_size == {"gpt2": 4 * 32, "opt": 64}[family]
    reward = {"kind": "model", "name": str(tmp_path), "dtype": "float32"}
    assert plan(options(folder, reward=reward)).peaks[0].terms["reward model"] == 4 * described.count


def test_changes_together_where_none_helps_alone(folder):
    training = {"gradient_checkpointing": False, "optim": "adamw_torch", "per_device_train_batch_size": 16}
    setup = plan(options(folder, training=training, model={"dtype": "bfloat16"})).setup
    together = dataclasses.replace(
        setup, checkpointing=True, batch=1, micro_batches=16, generation_rows=8, buffer_rows=8, optim="adafactor"
    )
    least = max(moment.total for moment in peaks(together))
    (found,) = what_would_fit(setup, least)
    assert found == (
        "training.gradient_checkpointing=true"
        " training.per_device_train_batch_size=1 training.gradient_accumulation_steps=16"
        " generation.steps_per_generation=8 training.optim=adafactor"
    )
    assert what_would_fit(setup, 0) == []


def test_no_verdict_without_a_device(folder):
    assert plan(options(folder)).fits is None
