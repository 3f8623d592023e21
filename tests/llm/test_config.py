"""Options that would do nothing are refused with their reason, and every method has its own."""

import dataclasses
import math

import pytest
from trl import GRPOConfig

from dar_ref.llm import build
from dar_ref.llm.config import NO_MEANING, DAOConfig, DARConfig, DualPPOConfig, PPOConfig
from dar_ref.llm.options import METHODS, load_options, make_options, plain

CPU = {"use_cpu": True, "bf16": False}
OTHER = {  # a value that is not the default, for every option that is refused
    "loss_type": "grpo",
    "importance_sampling_level": "sequence",
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
    "use_adaptive_entropy": True,
    "router_aux_loss_coef": 0.1,
    "sync_ref_model": True,
    "disable_dropout": False,
    "top_p": 0.9,
    "top_k": 20,
    "min_p": 0.1,
    "repetition_penalty": 1.1,
    "generation_kwargs": {"num_beams": 2},
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
        (DAOConfig, {"w_clip": 20.0}, "no weight to clip"),
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
    if method != "dpo":
        assert made.temperature == 0.7
        assert 9 in (getattr(made, "max_completion_length", None), getattr(made, "max_new_tokens", None))
    assert made.disable_dropout


def test_the_method_s_own_section_has_the_last_word(tmp_path):
    chosen = run(training={**CPU, "learning_rate": 1.0}, methods={"dar": {"learning_rate": 2.0, "alpha": 0.7}})
    made = build.make_arguments(chosen, tmp_path)
    assert (made.learning_rate, made.alpha) == (2.0, 0.7)
    other = run("grpo", training={**CPU, "learning_rate": 1.0}, methods={"dar": {"learning_rate": 2.0}})
    assert build.make_arguments(other, tmp_path).learning_rate == 1.0


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"training": {"learning_rat": 1.0}}, "training.learning_rat is not an option .* mean learning_rate"),
        ({"generation": {"temperatur": 1.0}}, "generation.temperatur is not an option .* mean temperature"),
        ({"methods": {"dar": {"w_clp": 1.0}}}, r"methods.dar.w_clp is not an option .* mean w_clip"),
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
    assert plain(found)["methods"]["dar"]["w_clip"] == "infinity"


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


@pytest.mark.parametrize(("text", "message"), [("- 1", "holds a list"), ("a: [", "is no YAML")])
def test_files_that_hold_no_options(tmp_path, text, message):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_options(file)


def test_a_configuration_that_is_not_there_lists_those_that_are():
    with pytest.raises(FileNotFoundError, match="toy_cpu"):
        load_options("toy_gpu")
