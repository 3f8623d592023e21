"""A user of TRL changes one import: the same constructor, and what cannot work is refused before any work."""

import dataclasses
import inspect

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PromptTuningConfig
from transformers import AutoModelForCausalLM
from trl import GRPOConfig, GRPOTrainer

from dar_ref.llm import (
    DAOConfig,
    DAOTrainer,
    DARConfig,
    DARTrainer,
    DualPPOTrainer,
    PPOTrainer,
    load_prompts,
    policy_tokenizer,
)
from tests.llm.models.small_lm import save_small_lm
from tests.llm.training import CPU, options, reward


@pytest.fixture(scope="module")
def parts(exported):
    """The exported policy's folder, its tokenizer, and prompts."""
    chosen = options(exported)
    folder = exported / "policy"
    tokenizer = policy_tokenizer(chosen.model, folder)
    return folder, tokenizer, load_prompts(chosen.data, tokenizer).dataset


@pytest.mark.parametrize("trainer", [DARTrainer, DAOTrainer, PPOTrainer, DualPPOTrainer])
def test_names_order_and_defaults_are_trls(trainer):
    ours, theirs = (inspect.signature(kind.__init__).parameters.values() for kind in (trainer, GRPOTrainer))
    assert [(p.name, p.kind, p.default) for p in ours] == [(p.name, p.kind, p.default) for p in theirs]


def arguments(tmp_path, kind=DARConfig, **changes):
    sizes = {"num_generations": 4, "max_completion_length": 4, "report_to": "none"}
    return kind(str(tmp_path), **{**CPU, **sizes, "max_steps": 1, **changes})


def test_everything_may_be_given_by_its_place(parts, tmp_path):
    folder, tokenizer, prompts = parts
    trainer = DARTrainer(str(folder), reward, arguments(tmp_path), prompts, prompts.select(range(2)), tokenizer)
    trainer.train()
    assert trainer.state.global_step == 1
    assert trainer.eval_dataset.num_rows == 2


@pytest.mark.parametrize(("trainer", "name"), [(DARTrainer, "policy-DAR"), (DAOTrainer, "policy-DAO")])
def test_without_args_the_defaults_hold(parts, monkeypatch, tmp_path, trainer, name):
    folder, tokenizer, prompts = parts
    monkeypatch.chdir(tmp_path)
    on_cpu = dataclasses.make_dataclass("OnCPU", [("use_cpu", bool, True)], bases=(trainer.config_class,))
    monkeypatch.setattr(trainer, "config_class", on_cpu)
    made = trainer(str(folder), reward, train_dataset=prompts, processing_class=tokenizer).args
    assert type(made) is on_cpu
    assert made.output_dir == name
    assert (made.max_grad_norm, made.disable_dropout) == (0.0, True)


@pytest.mark.parametrize(
    ("trainer", "kind", "wanted"),
    [(DARTrainer, DAOConfig, "DARConfig"), (DAOTrainer, DARConfig, "DAOConfig"), (DARTrainer, GRPOConfig, "DARConfig")],
)
def test_the_configuration_of_another_method_is_refused_at_once(tmp_path, trainer, kind, wanted):
    with pytest.raises(TypeError, match=f"takes a {wanted} and args is a {kind.__name__}; pass a {wanted}"):
        trainer("no such model", reward, arguments(tmp_path, kind))


def in_memory(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.config._name_or_path = ""
    return model


def test_a_model_made_in_memory_has_no_pi_0_to_read(parts, tmp_path):
    folder, tokenizer, prompts = parts
    with pytest.raises(ValueError, match=r"Qwen2ForCausalLM was made in memory .* save it by save_pretrained"):
        DARTrainer(in_memory(folder), reward, arguments(tmp_path), prompts, processing_class=tokenizer)


def test_with_adapters_pi_0_is_the_model_in_memory(parts, tmp_path):
    folder, tokenizer, prompts = parts
    lora = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = DARTrainer(
        in_memory(folder), reward, arguments(tmp_path), prompts, processing_class=tokenizer, peft_config=lora
    )
    trainer.train()
    assert abs(trainer.state.log_history[0]["kl/pi_0_k1"]) < 1e-6


@pytest.mark.filterwarnings("ignore:Position ids are not supported")  # of prompt tuning, where it samples
@pytest.mark.parametrize(
    ("adapters", "named"),
    [
        (
            LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights="pissa"),
            "LORA with init_lora_weights = 'pissa'",
        ),
        (LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False), "LORA with init_lora_weights = False"),
        (PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"), "PROMPT_TUNING"),
    ],
)
def test_adapters_that_do_not_begin_at_pi_0_are_named(parts, tmp_path, adapters, named):
    folder, tokenizer, prompts = parts
    trainer = DARTrainer(
        str(folder), reward, arguments(tmp_path), prompts, processing_class=tokenizer, peft_config=adapters
    )
    with pytest.raises(RuntimeError, match=f"adapters of type {named} do not begin at pi_0"):
        trainer.train()


def test_a_completion_ends_where_its_stop_string_does(tmp_path):
    """Padding behind it is no sample; what stopped is what was drawn, and transformers draws the same without one."""
    tokenizer = save_small_lm(tmp_path / "policy")
    rows = Dataset.from_list([{"prompt": f"Say {i}."} for i in range(4)])
    stops, drawn = ["e", "xy", "\n"], []
    for kwargs in ({}, {"stop_strings": stops}):
        args = arguments(tmp_path / "out", num_generations=8, max_completion_length=64, generation_kwargs=kwargs)
        trainer = DARTrainer(str(tmp_path / "policy"), reward, args, rows, processing_class=tokenizer)
        generate = trainer._generate_single_turn

        def watched(*given, generate=generate):
            drawn.append(generate(*given)[0])
            return drawn[-1], None

        trainer._generate_single_turn = watched
        trainer.train()
    longest, stopped = drawn
    for whole, short in zip(longest, stopped, strict=True):
        texts = [tokenizer.decode(whole[: n + 1]) for n in range(len(whole))]
        ends = [n + 1 for n, text in enumerate(texts) if any(stop in text for stop in stops)]
        assert short == whole[: ends[0] if ends else len(whole)]
    assert any(len(short) < len(whole) for short, whole in zip(stopped, longest, strict=True))
