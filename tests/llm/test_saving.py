"""What stands in the folder of a trained policy: a card that names the method and its paper, and each weight once."""

from importlib.metadata import version

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.llm.training import make_trainer

OURS = {
    "dar": ("DAR", "2602.11523"),
    "dao": ("DAO", "2602.11523"),
    "ppo_critic_free": ("critic-free PPO", "1707.06347"),
    "dual_ppo_critic_free": ("critic-free dual PPO", "2602.11523"),
}


@pytest.mark.parametrize("method", OURS)
def test_the_card_names_method_paper_options_and_versions(exported, tmp_path, method):
    name, paper = OURS[method]
    trainer = make_trainer(exported, tmp_path / "my-run", method=method, beta=0.3)
    trainer.create_model_card(model_name="a policy", tags="mine")
    card = ModelCard.load(tmp_path / "my-run" / "README.md")
    assert f"with {name}, by dar-ref {version('dar-ref')}" in card.text
    assert f"https://arxiv.org/abs/{paper}" in card.text
    assert "- beta: 0.3" in card.text
    assert ("- w_clip: 20.0" in card.text) == (method == "dar")
    assert ("- epsilon: 0.2" in card.text) == ("ppo" in method)
    assert f"- dar-ref: {version('dar-ref')}" in card.text
    assert ("he2026unifying" in card.text) == (paper == "2602.11523")
    assert "DeepSeekMath" not in card.text
    assert "None" not in card.text
    assert {"mine", "trl", trainer._tag_names[-1]} <= set(card.data.tags)
    assert card.data.library_name == "transformers"


def test_a_card_from_the_hub_keeps_its_base_model_and_data(exported, tmp_path):
    trainer = make_trainer(exported, tmp_path)
    trainer.model.config._name_or_path = "some/base"
    trainer.create_model_card(dataset_name="some/data")
    text = (tmp_path / "README.md").read_text()
    assert "base_model: some/base" in text
    assert "from [some/base](https://huggingface.co/some/base) on [some/data]" in text


def test_a_checkpoint_s_run_has_the_card(exported, tmp_path):
    trainer = make_trainer(exported, tmp_path, training={"max_steps": 1, "save_strategy": "steps", "save_steps": 1})
    trainer.train()
    assert "Unifying Stable Optimization" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("method", ["dar", "grpo", "rloo", "online_dpo"])
def test_a_tied_head_is_saved_once_also_when_it_was_gathered_apart(exported, tmp_path, method):
    """FSDP2 and ZeRO-2 hand the head over as a tensor of its own; a copy stands for that here."""
    trainer = make_trainer(exported, tmp_path, method=method)
    assert trainer.model.config.tie_word_embeddings
    gathered = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    assert "lm_head.weight" in gathered
    trainer._save(str(tmp_path / "policy"), gathered)
    saved = load_file(tmp_path / "policy" / "model.safetensors")
    assert set(gathered) - set(saved) == {"lm_head.weight"}
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "policy").state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in gathered.items())


def test_weights_that_have_come_apart_are_both_saved(exported, tmp_path):
    trainer = make_trainer(exported, tmp_path)
    gathered = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    gathered["lm_head.weight"] += 1
    trainer._save(str(tmp_path / "policy"), gathered)
    assert "lm_head.weight" in load_file(tmp_path / "policy" / "model.safetensors")
