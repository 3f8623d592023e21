"""A model's folder that cannot be trained as it is: refused in our words, by the file or option that is wrong."""

import json
import shutil

import pytest

from dar_ref.llm import train
from dar_ref.llm.dry_run import dry_run
from tests.llm.training import options


@pytest.fixture
def folder(exported, tmp_path):
    """A copy of the export, to be spoilt."""
    shutil.copytree(exported, tmp_path / "exported")
    return tmp_path / "exported"


def edit(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("config.json", {"model_type": "nosuch"}, r"its config\.json cannot be read: .*model type `nosuch`"),
        ("config.json", {"num_hidden_layers": "two"}, r"its config\.json cannot be read: .*expected int, got str"),
        ("tokenizer_config.json", {"eos_token": None}, "has no EOS token, so no completion could end; name one as"),
        ("generation_config.json", {"min_p": 0.15}, r"generation_config\.json sets min_p = 0\.15: the log-probs are"),
        ("generation_config.json", {"num_beams": 4}, "sets num_beams = 4"),
        ("generation_config.json", {"bad_words_ids": [[1]]}, r"sets bad_words_ids = \[\[1\]\]"),
        ("generation_config.json", {"no_repeat_ngram_size": 3}, "sets no_repeat_ngram_size = 3"),
    ],
)
def test_what_a_file_of_the_model_says_is_refused(folder, tmp_path, file, changes, message):
    edit(folder / "policy" / file, **changes)
    for start in (train.train, dry_run):
        with pytest.raises(ValueError, match=message):
            start(options(folder), tmp_path / "out")


def test_what_trl_sets_itself_may_stand_in_the_model_s_settings(folder, tmp_path):
    usual = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05}  # Qwen2's
    edit(folder / "policy" / "generation_config.json", **usual)
    assert train.train(options(folder, training={"max_steps": 1}), tmp_path / "out").trainer.state.global_step == 1


def test_beams_of_the_model_s_settings_are_no_matter_where_nothing_is_sampled(folder, tmp_path):
    edit(folder / "policy" / "generation_config.json", num_beams=4)
    train.train(options(folder, "dpo", training={"max_steps": 1}), tmp_path / "out")


@pytest.mark.parametrize("file", ["config.json", "generation_config.json"])
def test_broken_json_is_refused_by_the_file(folder, tmp_path, file):
    (folder / "policy" / file).write_text("{")
    with pytest.raises(ValueError, match=rf"policy/{file} is no JSON"):
        train.train(options(folder), tmp_path / "out")


def test_a_tokenizer_without_a_vocabulary_is_refused(folder, tmp_path):
    (folder / "policy" / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"reads no token in .*; see that its vocabulary is there"):
        train.train(options(folder), tmp_path / "out")


def test_a_broken_tokenizer_is_refused(folder, tmp_path):
    (folder / "policy" / "tokenizer.json").write_text("{")
    with pytest.raises(OSError, match=r"no tokenizer can be read from .*JSONDecodeError"):
        train.train(options(folder), tmp_path / "out")


@pytest.mark.parametrize("where", ["train", "eval"])
def test_a_token_without_an_embedding_is_refused(folder, tmp_path, where):
    file = folder / "policy" / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["vocab"]["zebra"] = 50
    file.write_text(json.dumps(content))
    chosen = options(folder)
    train.train(options(folder, training={"max_steps": 1}), tmp_path / "unused")  # nobody writes it: no matter
    (tmp_path / "zebra.jsonl").write_text('{"prompt": "zebra"}\n{"prompt": "a"}\n')
    if where == "train":
        chosen = options(folder, prompts=tmp_path / "zebra.jsonl")
    else:
        object.__setattr__(chosen.data, "eval_prompts", str(tmp_path / "zebra.jsonl"))
    with pytest.raises(ValueError, match="ids up to 50, and the model has 5 embeddings; take the tokenizer that"):
        train.train(chosen, tmp_path / "out")


def test_evaluation_prompts_longer_than_the_model_s_positions_are_refused(folder, tmp_path):
    chosen = options(folder)
    (tmp_path / "long.jsonl").write_text(json.dumps({"prompt": "a " * 20}))
    object.__setattr__(chosen.data, "eval_prompts", str(tmp_path / "long.jsonl"))
    with pytest.raises(ValueError, match=r"a prompt of 20 tokens and 4 new ones take 24 positions"):
        train.train(chosen, tmp_path / "out")
