"""What is counted is what the script trains on, for every method, and it fits the model."""

import json
import shutil

import pytest
from tokenizers import processors
from transformers import AutoModelForCausalLM

from dar_ref.llm import build
from dar_ref.llm.models.prompts import PromptReader
from tests.llm.test_train import config as config
from tests.llm.test_train import dar_ref
from tests.llm.training import make_trainer, options


def with_bos(exported, folder):
    """The exported policy with a tokenizer that writes <eos> before plain text."""
    shutil.copytree(exported, folder)
    file = folder / "policy" / "tokenizer.json"
    content = json.loads(file.read_text())
    token = next(t for t in content["added_tokens"] if t["content"] == "<eos>")
    writes = processors.TemplateProcessing(single="<eos> $A", special_tokens=[("<eos>", token["id"])])
    file.write_text(json.dumps(content | {"post_processor": json.loads(writes.__getstate__())}))
    return folder


@pytest.mark.parametrize("method", ["dar", "grpo", "rloo", "ppo_critic_free"])
def test_every_sampling_method_reads_prompts_by_the_reader_that_counted_them(exported, tmp_path, method):
    trainer = make_trainer(with_bos(exported, tmp_path / "bos"), tmp_path, method=method)
    prompts = trainer.train_dataset["prompt"][:2]
    read = PromptReader(trainer.processing_class).read(prompts)
    assert trainer._tokenize_prompts.__func__ is PromptReader.for_trl
    assert trainer._tokenize_prompts(prompts)[0] == [prompt.ids for prompt in read]
    assert {prompt.ids[0] for prompt in read} == {trainer.processing_class.eos_token_id}


def test_online_dpo_refuses_special_tokens_that_it_would_leave_out(exported, tmp_path):
    folder = with_bos(exported, tmp_path / "bos")
    with pytest.raises(ValueError, match=r"leaves out the special tokens .* such as '<eos>'; set data\.format=chat"):
        make_trainer(folder, tmp_path, method="online_dpo")


def test_online_dpo_never_cuts_a_prompt(exported, tmp_path):
    chosen = options(exported, "online_dpo")
    assert build.make_arguments(chosen, tmp_path).max_length == chosen.data.max_prompt_tokens + 4
    with pytest.raises(ValueError, match=r"max_length = 100 would cut prompts: .* are 516; leave it out"):
        build.make_arguments(options(exported, "online_dpo", max_length=100), tmp_path)


@pytest.mark.parametrize("dry", [True, False], ids=["dry", "real"])
@pytest.mark.parametrize("method", ["dar", "dpo"])
def test_prompts_longer_than_the_model_s_positions_are_refused(
    config, exported, tmp_path, monkeypatch, capsys, dry, method
):
    shutil.copytree(exported / "policy", tmp_path / "short")
    file = tmp_path / "short" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"max_position_embeddings": 5}))
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", pytest.fail)
    arguments = ("--config", config, "--method", method, "--out", tmp_path / "out", f"model.name={tmp_path / 'short'}")
    assert dar_ref(*arguments, *["--dry-run"] * dry) == 2
    assert "positions, and model.name = " in capsys.readouterr().err


def test_variables_of_a_template_have_an_effect_or_are_refused(config, tmp_path, capsys):
    changes = ["generation.chat_template_kwargs={enable_thinking: false}"]
    for dry in ([], ["--dry-run"]):
        assert dar_ref("--config", config, "--out", tmp_path / "out", *changes, *dry) == 2
        assert "chat_template_kwargs: enable_thinking is not a variable" in capsys.readouterr().err
