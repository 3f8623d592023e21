"""QLoRA: 4-bit weights, which stay as they are, and adapters in float32, which are trained."""

import pytest
import torch
from safetensors.torch import load_file

from dar_ref.llm import train
from dar_ref.llm.plan import plan
from tests.llm.training import make_trainer, options

QLORA = {"model": {"quantization": "nf4"}, "lora": {"r": 4, "alpha": 8}}


def test_it_needs_adapters(exported):
    with pytest.raises(ValueError, match=r"model\.quantization = nf4: weights of 4 bits cannot be trained"):
        options(exported, model={"quantization": "nf4"})


def test_it_is_not_planned(exported):
    with pytest.raises(ValueError, match=r"model\.quantization = nf4 is not planned"):
        plan(options(exported, **QLORA))


@pytest.mark.filterwarnings("ignore")  # of bitsandbytes on a CPU
def test_adapters_are_trained_on_weights_that_stay(exported, tmp_path):
    pytest.importorskip("bitsandbytes", reason='pip install "dar-ref[quantization]"')
    trainer = make_trainer(exported, tmp_path / "run", **QLORA)
    kept = {name: p.clone() for name, p in trainer.model.named_parameters() if not p.requires_grad}
    before = {name: p.clone() for name, p in trainer.model.named_parameters() if p.requires_grad}
    assert sum(p.dtype == torch.uint8 for p in kept.values()) == 2 * 7  # every linear layer of both blocks
    assert {p.dtype for p in before.values()} == {torch.float32}
    trainer.train()
    after = dict(trainer.model.named_parameters())
    assert all(torch.equal(p, after[name]) for name, p in kept.items())
    assert any(not torch.equal(p, after[name]) for name, p in before.items())


@pytest.mark.filterwarnings("ignore")
def test_the_script_saves_and_resumes_the_adapters(exported, tmp_path):
    pytest.importorskip("bitsandbytes", reason='pip install "dar-ref[quantization]"')
    saving = {"save_strategy": "steps", "save_steps": 2}
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    train.train(options(exported, **QLORA, training={**saving, "max_steps": 4}), whole)
    train.train(options(exported, **QLORA, training={**saving, "max_steps": 2}), halves)
    train.train(options(exported, **QLORA, training={**saving, "max_steps": 4}), halves, resume=True)
    once, twice = (load_file(out / "policy" / "adapter_model.safetensors") for out in (whole, halves))
    assert once.keys() == twice.keys()
    assert all(torch.equal(once[name], twice[name]) for name in once)
    assert any("lora_B" in name and p.abs().max() > 0 for name, p in once.items())
    assert len(once) == 2 * 2 * 7
