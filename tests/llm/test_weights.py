"""A run whose weights are no numbers, or stay what they were, does not end as a success; nor does one that would begin
with weights that nobody trained."""

import math
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback

from dar_ref.llm import train
from dar_ref.llm.weights import check_finite, fingerprint
from tests.llm.test_train import config as config
from tests.llm.test_train import dar_ref
from tests.llm.training import options


def model(*weights, dtype=torch.float32):
    module = nn.Module()
    module.parts = nn.ParameterList(nn.Parameter(torch.tensor(values, dtype=dtype)) for values in weights)
    return module


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_weight_that_changes_by_its_last_bit_is_seen(dtype):
    changed = model([1.0, -2.0], [3.0], dtype=dtype)
    before = fingerprint(changed)
    assert fingerprint(model([1.0, -2.0], [3.0], dtype=dtype)) == before
    weight = changed.parts[0].data
    weight[1] = torch.nextafter(weight[1], torch.tensor(0.0, dtype=dtype))
    assert fingerprint(changed) != before


def test_frozen_weights_are_not_looked_at():
    frozen = model([1.0], [2.0])
    frozen.parts[0].requires_grad_(False)
    before = fingerprint(frozen)
    frozen.parts[0].data += 1
    assert fingerprint(frozen) == before


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_weight_that_is_no_number_is_refused(bad):
    check_finite(model([1.0], [3e38, 3e38]), "now")  # their sum overflows
    with pytest.raises(ValueError, match="a weight of the policy is not finite now"):
        check_finite(model([1.0], [0.0, bad]), "now")


TINY = ("learning_rate=1e-30", "max_grad_norm=1e-30", "adam_epsilon=1e30")


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        *(([f"training.{change}"], "no weight was changed") for change in TINY),
        (["method=dar_offline", "training.learning_rate=1e-30"], "no weight was changed"),
        (["training.logging_steps=100", "reward.name=tests.llm.training:constant"], "had the same reward"),
        (["training.logging_strategy=no", "reward.name=tests.llm.training:constant"], "had the same reward"),
        (["method=online_dpo", "reward.name=tests.llm.training:constant"], "had the same reward"),
        (["methods.dar.reward_weights=[0.0]"], "had the same reward"),
    ],
)
def test_a_run_that_learned_nothing_for_another_reason(config, tmp_path, capsys, overrides, reason):
    kind = ["reward.kind=function"]
    name = [] if any("reward.name" in change for change in overrides) else ["reward.name=tests.llm.training:reward"]
    changes = [*overrides, *kind, *name, "training.max_steps=2", "training.save_strategy=no"]
    assert dar_ref("--config", config, "--out", tmp_path / "out", *changes) == 1
    said = capsys.readouterr().err
    assert "nothing was learned" in said
    assert reason in said


class Overflows(TrainerCallback):
    def on_pre_optimizer_step(self, _args, state, _control, model=None, **_):
        if state.global_step == 1:  # in the second step
            next(model.parameters()).grad.fill_(math.inf)


def test_weights_that_are_no_numbers_replace_no_good_checkpoint(exported, tmp_path, monkeypatch):
    make = train.make_trainer
    monkeypatch.setattr(train, "make_trainer", lambda *args: add(make(*args), Overflows()))
    saved = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 1, "max_steps": 3}
    with pytest.raises(ValueError, match=r"not finite after step 2, .*lower training\.learning_rate"):
        train.train(options(exported, training=saved), tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / "checkpoints").glob("checkpoint-*")] == ["checkpoint-1"]
    assert not (tmp_path / "run" / "policy").exists()
    monkeypatch.undo()
    assert train.train(options(exported, training=saved), tmp_path / "run", resume=True).trainer.state.global_step == 3


def add(trainer, callback):
    trainer.add_callback(callback)
    return trainer


def test_a_policy_that_blew_up_is_said(config, tmp_path, capsys):
    """Weights of 1e10 are numbers, and the probabilities behind them are none."""
    reward = ("reward.kind=function", "reward.name=tests.llm.training:reward")
    changes = (*reward, "training.learning_rate=1e10", "training.max_steps=3", "training.save_strategy=no")
    assert dar_ref("--config", config, "--out", tmp_path / "out", *changes) == 2
    assert "the policy diverged; lower training.learning_rate" in capsys.readouterr().err


def without(tensors):
    del tensors["model.layers.0.mlp.gate_proj.weight"]


def of_another_shape(tensors):
    tensors["model.layers.0.mlp.gate_proj.weight"] = torch.zeros(2, 2)


def of_nan(tensors):
    tensors["model.layers.0.mlp.gate_proj.weight"] *= math.nan


@pytest.mark.parametrize("method", ["dar", "dpo"])
@pytest.mark.parametrize("lora", [None, {"r": 2, "alpha": 4}], ids=["full", "lora"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without, r"lacks weights, .*gate_proj.weight: they would be random"),
        (of_another_shape, r"lacks weights, of the right shape, for model\.layers\.0\.mlp\.gate_proj"),
        (of_nan, "not finite before the first step"),
    ],
)
def test_a_model_that_is_not_whole_is_refused(exported, tmp_path, method, lora, change, message):
    shutil.copytree(exported, tmp_path / "exported")
    file = tmp_path / "exported" / "policy" / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=message):
        train.train(options(tmp_path / "exported", method, lora=lora), tmp_path / "out")


@pytest.mark.parametrize("damage", [lambda _: b"", lambda content: content[:100], lambda content: content[:-7]])
def test_a_damaged_file_of_weights_is_refused_in_our_words(exported, tmp_path, damage):
    shutil.copytree(exported, tmp_path / "exported")
    file = tmp_path / "exported" / "policy" / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match=r"model\.name = .*: its weights cannot be read \(.*\); fetch the model again"):
        train.train(options(tmp_path / "exported"), tmp_path / "out")


def test_adapters_on_no_module_are_refused_by_the_option(exported, tmp_path):
    with pytest.raises(ValueError, match=r"lora\.target_modules = 'nothing': Target modules"):
        train.train(options(exported, lora={"r": 2, "alpha": 4, "target_modules": "nothing"}), tmp_path / "out")
