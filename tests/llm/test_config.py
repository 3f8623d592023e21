"""Options that would do nothing are refused with their reason, and every method has its own."""

import dataclasses
import math
import re

import pytest
from transformers import GenerationConfig
from trl import GRPOConfig

from dar_ref.llm import build
from dar_ref.llm.config import NEUTRAL, NO_MEANING, RESHAPING, DAOConfig, DARConfig, DualPPOConfig, PPOConfig
from dar_ref.llm.options import CONFIGS, METHODS, ONLINE, find_config, load_options, make_options, options_as_json
from dar_ref.llm.yaml_file import read_value

CPU = {"use_cpu": True, "bf16": False}
OTHER = {  # a value that is not the default, for every option that is refused
    "loss_type": "dr_grpo",
    "importance_sampling_level": "word",
    "scale_rewards": "batch",
    "multi_objective_aggregation": "normalize_then_sum",
    "delta": 2.0,
    "epsilon": 0.1,
    "epsilon_high": 0.3,
    "off_policy_mask_threshold": 1.0,
    "use_bias_correction_kl": False,
    "sapo_temperature_neg": 2.0,
    "sapo_temperature_pos": 2.0,
    "vespo_k_pos": 1.0,
    "vespo_lambda_pos": 1.0,
    "vespo_k_neg": 1.0,
    "vespo_lambda_neg": 1.0,
    "top_entropy_quantile": 0.5,
    "entropy_coef": 0.1,
    "entropy_target": 0.5,
    "entropy_coef_min": 0.5,
    "entropy_coef_max": 0.5,
    "entropy_coef_delta": 0.5,
    "ref_model_mixup_alpha": 0.5,
    "ref_model_sync_steps": 7,
    "data_seed": 7,
    "label_smoothing_factor": 0.1,
    "neftune_noise_alpha": 5.0,
    "use_adaptive_entropy": True,
    "router_aux_loss_coef": 0.1,
    "sync_ref_model": True,
    "disable_dropout": False,
    "top_p": 0.9,
    "top_k": 20,
    "min_p": 0.1,
    "repetition_penalty": 1.1,
    "vllm_structured_outputs_regex": "[a-z]+",
}


def test_every_refused_option_is_one_of_trl():
    assert set(OTHER) == set(NO_MEANING)
    assert set(NO_MEANING) <= {f.name for f in dataclasses.fields(GRPOConfig)}


@pytest.mark.parametrize("name", NO_MEANING)
def test_options_without_meaning_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"{name} = .* has no meaning for DARConfig: .*leave it out"):
        DARConfig(output_dir=str(tmp_path), **CPU, **{name: OTHER[name]})


@pytest.mark.parametrize("kind", [PPOConfig, DualPPOConfig])
def test_methods_with_a_ratio_have_its_clip(tmp_path, kind):
    assert kind(output_dir=str(tmp_path), **CPU, epsilon=0.1).epsilon == 0.1
    with pytest.raises(ValueError, match="delta"):
        kind(output_dir=str(tmp_path), **CPU, delta=2.0)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (DARConfig, {"alpha": 1.5}, "alpha = 1.5"),
        (DARConfig, {"beta": 0.0}, "beta = 0.0"),
        (DARConfig, {"beta": math.inf}, "beta = inf"),
        (DARConfig, {"w_clip": -1.0}, "w_clip = -1.0"),
        (DARConfig, {"num_generations": 1, "per_device_train_batch_size": 8}, "at least 2 generations"),
        (PPOConfig, {"alpha": 0.5}, "pi_0 alone"),
        (DARConfig, {"use_vllm": True, "vllm_importance_sampling_mode": "token_truncate"}, "sequence_mask"),
    ],
)
def test_values_that_do_not_fit(tmp_path, kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(output_dir=str(tmp_path), **CPU, **options)


def test_no_clip_is_infinity_and_not_none(tmp_path):
    assert DARConfig(output_dir=str(tmp_path), **CPU, w_clip=math.inf).w_clip == math.inf
    with pytest.raises(TypeError, match=r"\.inf"):
        DARConfig(output_dir=str(tmp_path), **CPU, w_clip=None)


@pytest.mark.parametrize("kind", [DAOConfig, PPOConfig, DualPPOConfig])
def test_only_dar_has_a_weight_to_clip(kind):
    with pytest.raises(TypeError, match="w_clip"):
        kind(w_clip=20.0)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in NEUTRAL.items() for value in values])
def test_another_way_to_write_the_default_is_the_default(tmp_path, name, value):
    made = DARConfig(output_dir=str(tmp_path), **CPU, **{name: value})
    usual = {field.name: field.default for field in dataclasses.fields(DARConfig)}[name]
    assert getattr(made, name) == usual


@pytest.mark.parametrize("value", ["+-1", 3, ["top_k"]])
def test_generation_kwargs_that_are_no_mapping_are_refused(tmp_path, value):
    with pytest.raises(ValueError, match=r"generation_kwargs = .* is not a mapping; pass key: value pairs"):
        DARConfig(output_dir=str(tmp_path), **CPU, generation_kwargs=value)


@pytest.mark.parametrize("kind", [DARConfig, DAOConfig])
def test_a_level_of_whole_sequences_is_what_dar_and_dao_do(tmp_path, kind):
    made = kind(output_dir=str(tmp_path), **CPU, importance_sampling_level="sequence")
    assert made == kind(output_dir=str(tmp_path), **CPU)
    with pytest.raises(ValueError, match="each token has a ratio of its own"):
        PPOConfig(output_dir=str(tmp_path), **CPU, importance_sampling_level="sequence")


def test_stop_strings_are_welcome_and_what_changes_the_draws_is_not(tmp_path):
    welcome = {"stop_strings": ["\n"], "max_time": 9.0, "top_p": 1.0, "top_k": 0, "num_beams": 1, "temperature": 0.7}
    made = DARConfig(output_dir=str(tmp_path), **CPU, temperature=0.7, generation_kwargs=welcome)
    assert made.generation_kwargs == welcome
    keys = RESHAPING.split()
    known = set(vars(GenerationConfig()))
    assert {"do_sample", "top_h", "typical_p", "no_repeat_ngram_size", "min_new_tokens"} <= set(keys) & known
    for key in keys:
        with pytest.raises(ValueError, match=rf"generation_kwargs\['{key}'\] = 0.37: .* leave it out"):
            DARConfig(output_dir=str(tmp_path), **CPU, generation_kwargs={key: 0.37})
    with pytest.raises(ValueError, match="none of those that stopped would count"):
        DARConfig(output_dir=str(tmp_path), **CPU, mask_truncated_completions=True, generation_kwargs={"stop": ["a"]})


@pytest.mark.parametrize("kind", [DARConfig, DAOConfig, PPOConfig, DualPPOConfig])
def test_alone_it_clips_no_gradient_as_the_configurations_have_it(tmp_path, kind):
    assert kind(output_dir=str(tmp_path), **CPU).max_grad_norm == 0.0
    for file in CONFIGS.glob("*.yaml"):
        assert load_options(file).training["max_grad_norm"] == 0.0


def test_defaults_are_the_paper_s(tmp_path):
    made = DARConfig(output_dir=str(tmp_path), **CPU)
    assert (made.alpha, made.beta, made.w_clip) == (0.1, 0.05, 20.0)
    assert isinstance(made, GRPOConfig)


def run(method="dar", **sections):
    content = {
        "method": method,
        "model": {"name": "m"},
        "data": {"prompts": "p.jsonl", "preferences": "q.jsonl"},
        "reward": {"kind": "model", "name": "r"},
    }
    return make_options({**content, **sections})


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_its_configuration(tmp_path, method):
    sections = {"training": CPU, "generation": {"num_generations": 4, "max_completion_length": 9, "temperature": 0.7}}
    made = build.make_arguments(run(method, **sections), tmp_path)
    assert isinstance(made, build.classes(method)[0])
    if method in ONLINE:
        assert made.temperature == 0.7
        assert 9 in (getattr(made, "max_completion_length", None), getattr(made, "max_new_tokens", None))
    assert method == "dar_offline" or made.disable_dropout  # always off there


def test_the_method_s_own_section_has_the_last_word(tmp_path):
    chosen = run(training={**CPU, "learning_rate": 1.0}, methods={"dar": {"learning_rate": 2.0, "alpha": 0.7}})
    made = build.make_arguments(chosen, tmp_path)
    assert (made.learning_rate, made.alpha) == (2.0, 0.7)
    other = run("grpo", training={**CPU, "learning_rate": 1.0}, methods={"dar": {"learning_rate": 2.0}})
    assert build.make_arguments(other, tmp_path).learning_rate == 1.0


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"training": {"learning_rat": 1.0}}, "training.learning_rat is not an option .* mean training.learning_rate"),
        ({"generation": {"temperatur": 1.0}}, "generation.temperatur is not an option .* mean generation.temperature"),
        ({"methods": {"dar": {"w_clp": 1.0}}}, r"methods.dar.w_clp is not an option .* mean methods.dar.w_clip"),
        ({"training": {"trust_remote_code": True}}, "set model.trust_remote_code instead"),
        ({"methods": {"drr": {}}}, "methods.drr is not a method"),
    ],
)
def test_misspelt_and_misplaced_options_are_refused(tmp_path, sections, message):
    with pytest.raises(ValueError, match=message):
        build.make_arguments(run(**sections), tmp_path)


def test_overrides_go_on_top_of_the_file(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("model: {name: m}\ndata: {prompts: p}\nreward: {kind: model, name: r}\ntraining: {seed: 1}\n")
    found = load_options(
        file, ["training.learning_rate=1e-6", "methods.dar.w_clip=.inf", "lora={r: 4}", "training.seed=2"]
    )
    assert found.training == {"seed": 2, "learning_rate": 1e-6}
    assert found.methods["dar"]["w_clip"] == math.inf
    assert found.lora is not None
    assert found.lora.r == 4
    assert options_as_json(found)["methods"]["dar"]["w_clip"] == "inf"


def test_yaml_is_1_2(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("model: {name: m}\ndata: {prompts: p}\nreward: {kind: model, name: r}\n")
    words = ["save_strategy=no", "a=on", "b=true", "c=False", "d=1e-3", "e=1.5e2", "f=3", "g=null", "h=.inf", "i=yes"]
    found = load_options(file, [f"training.{word}" for word in words]).training
    expected = ["no", "on", True, False, 1e-3, 150.0, 3, None, math.inf, "yes"]
    assert list(found.values()) == expected
    assert [type(value) for value in found.values()] == [type(value) for value in expected]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["training.seed"], "write key=value"),
        (["=3"], "write key=value"),
        (["model.nam=x"], "model.nam = 'x' is an unknown key"),
        (["lora.dropout=0.1"], "lora.dropout = 0.1 is an unknown key"),
        (["data.limit=many"], "data.limit = 'many'"),
        (["method=ppo"], "method = 'ppo'"),
        (["reward=null"], "needs a reward"),
        (["method=dpo"], "set data.preferences"),
        (["model.name.x=1"], "has no keys of its own"),
    ],
)
def test_wrong_options_are_named(tmp_path, overrides, message):
    file = tmp_path / "run.yaml"
    file.write_text("model: {name: m}\ndata: {prompts: p}\nreward: {kind: model, name: r}\n")
    with pytest.raises(ValueError, match=message):
        load_options(file, overrides)


MINIMAL = "model: {name: m}\ndata: {prompts: p}\nreward: {kind: model, name: r}\n"


@pytest.mark.parametrize(
    "override",
    [
        *("data.limit=true", "data.limit=1.5", "data.limit='5'", "data.limit=0", "data.max_prompt_tokens=-1"),
        *("reward.batch_size=true", "reward.timeout=true", "reward.timeout='5'", "reward.scores=[true, 10]"),
        *("lora.r=true", "lora.r=0", "lora.alpha=-1", "lora.target_modules=[1]", "model.random_init=1"),
        *("model.random_init='yes'", "model.name=5", "data.prompts=!!binary aGk=", "training.seed=!!set {1}"),
        *("training.seed=!!timestamp 2021-03-01", "model.revision=1.0"),
    ],
)
def test_a_value_of_another_type_is_refused_and_not_converted(tmp_path, override):
    file = tmp_path / "run.yaml"
    file.write_text(MINIMAL)
    with pytest.raises((ValueError, TypeError)):
        load_options(file, [override])


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"training": {"max_steps": True}}, "training.max_steps = True is not a whole number; for example 5"),
        ({"training": {"learning_rate": "fast"}}, "training.learning_rate = 'fast' is not a number; for example 0.5"),
        ({"training": {"seed": 1.5}}, "training.seed = 1.5"),
        ({"training": {"bf16": "no"}}, "training.bf16 = 'no'"),
        ({"generation": {"num_generations": "4"}}, "generation.num_generations = '4'"),
        ({"generation": {"temperature": True}}, "generation.temperature = True"),
        ({"methods": {"dar": {"alpha": True}}}, "methods.dar.alpha = True"),
        ({"training": {"hub_token": "hf_CANARY"}}, "hub_token holds a key or password .* set HF_TOKEN"),
    ],
)
def test_the_free_sections_are_checked_by_type_too(tmp_path, sections, message):
    with pytest.raises(ValueError, match=message):
        build.make_arguments(run(**sections), tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "training: {seed: 1}\ntraining: {max_steps: 3}",
        "method: dar\nmethod: grpo",
        "training: {seed: 1, seed: 2}",
        "training: {a: {b: [{c: 1, c: 1}]}}",
    ],
)
def test_a_key_that_stands_twice_is_refused_with_its_place(tmp_path, text):
    file = tmp_path / "run.yaml"
    file.write_text(MINIMAL + text + "\n")
    with pytest.raises(ValueError, match=r"run.yaml is not YAML: the key '\w+' stands twice.*line [45], column"):
        load_options(file)


@pytest.mark.parametrize(
    "overrides",
    [
        ("training.seed=1", "training.seed=1"),
        ("training.seed=1", "training={max_steps: 3}"),
        ("lora=null", "lora.r=3"),
        ("training={seed: 1, seed: 2}",),
    ],
)
def test_two_overrides_of_one_option_are_refused(tmp_path, overrides):
    file = tmp_path / "run.yaml"
    file.write_text(MINIMAL)
    with pytest.raises(ValueError, match=r"both set|stands twice"):
        load_options(file, overrides)


BOMB = "".join(f"  a{i}: &a{i} [{','.join([f'*a{i - 1}' if i else 'x'] * 9)}]\n" for i in range(10))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"training:\n{BOMB}", "'a0' is no part of the value"),
        ("training: &a {b: *a}", "'a' is no part of the value"),
        ("training: {b: *a}", r"\*a stands for another value"),
        ("training: {a: " + "[" * 20_000, "nested too deeply"),
        ("training: !!python/object/apply:os.system [true]", r"os\.system' is no part of the value"),
        ("training: \x00", "is not YAML"),
    ],
)
def test_a_file_that_would_blow_up_or_run_code_is_refused(tmp_path, text, message):
    file = tmp_path / "run.yaml"
    file.write_text(MINIMAL + text)
    with pytest.raises(ValueError, match=message):
        load_options(file)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        *((text, text) for text in ("010", "1:30", "2021-03-01", "1_000", "0x10", "=", "<<")),
        *(("~", None), ("1e3", 1000.0), ("-.5", -0.5), ("+7", 7), ("-0", 0), (str(2**70), 2**70)),
    ],
)
def test_what_is_written_is_what_is_read(written, read):
    found = read_value(written)
    assert found == read
    assert type(found) is type(read)


@pytest.mark.parametrize("name", ["my/qwen2-7b-tldr.yaml", "./toy_cpu", "/tmp/none/toy_cpu.yaml", "../toy_cpu.yaml"])
def test_a_mistyped_path_is_not_replaced_by_a_file_of_that_name_that_comes_along(name):
    assert find_config("toy_cpu") == find_config("toy_cpu.yaml")
    with pytest.raises(FileNotFoundError, match=re.escape(name)):
        find_config(name)


def test_passwords_and_keys_are_hidden_and_tokens_are_not():
    secrets = {"hub_token": "CANARY", "kwargs": [{"token": "CANARY", "api_key": "CANARY", "DB_PASSWORD": "CANARY"}]}
    shown = options_as_json(run(training={**secrets, "pad_token": "<pad>", "max_prompt_tokens": 3}))["training"]
    assert "CANARY" not in str(shown)
    assert str(shown).count("***") == 4
    assert (shown["pad_token"], shown["max_prompt_tokens"]) == ("<pad>", 3)


@pytest.mark.parametrize(("text", "message"), [("- 1", "holds a list"), ("a: [", "is not YAML")])
def test_files_that_hold_no_options(tmp_path, text, message):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_options(file)


def test_a_configuration_that_is_not_there_lists_those_that_are():
    with pytest.raises(FileNotFoundError, match="toy_cpu"):
        load_options("toy_gpu")
