"""What is refused before torch is imported, and its words."""

import re

import pytest

from dar_ref.llm.first_checks import check_paths
from dar_ref.llm.options import load_options, make_options

MINIMAL = "model: {name: m}\ndata: {prompts: p}\nreward: {kind: model, name: r}\n"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "lora=nul",
            "lora = 'nul' is not a section; write its keys (r, alpha, target_modules) below it, or null for none",
        ),
        ("model=x", "model = 'x' is not a section; write its keys (name, revision, dtype, attn_implementation"),
        ("training=5", "training = 5 is not a mapping; for example {key: value}"),
        ("lora.target_modules=5", "lora.target_modules"),
        ("data.format=caht", "data.format = 'caht' is unknown; choose one of auto, plain, chat; did you mean chat?"),
        ("model.dtype=half", "model.dtype = 'half' is unknown; choose one of bfloat16, float16, float32, float64"),
        ("reward.scores=[1]", "reward.scores.1 is missing; add it"),
        ("reward.timeout=soon", "reward.timeout = 'soon' is not a number; for example 0.5"),
        ("model.random_init=1", "model.random_init = 1 is not a truth value; for example true or false"),
    ],
)
def test_a_wrong_type_is_said_in_our_words(tmp_path, override, message):
    file = tmp_path / "run.yaml"
    file.write_text(MINIMAL)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        load_options(file, [override])
    assert not re.search("Input should|valid|instance|Options", str(error.value))


def test_paths_that_are_not_there_are_found_before_the_work(tmp_path):
    folder = tmp_path / "export"
    own = {"model": {"name": str(folder / "policy")}, "data": {"prompts": str(folder / "prompts" / "train.jsonl")}}
    options = make_options({**own, "reward": {"kind": "model", "name": "./no/reward"}})
    with pytest.raises(FileNotFoundError, match=f"model.name .* `dar-ref toy export {folder}` writes"):
        check_paths(options)
    (folder / "policy").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"reward.name = './no/reward': there is no such folder"):
        check_paths(options)
    elsewhere = make_options({**own, "reward": {"kind": "model", "name": "owner/name"}})  # may be on the hub
    with pytest.raises(FileNotFoundError, match=r"data.prompts"):
        check_paths(elsewhere)
    (folder / "prompts").mkdir()
    (folder / "prompts" / "train.jsonl").touch()
    check_paths(elsewhere)
    check_paths(make_options({**own, "data": {"prompts": "p/*/x.jsonl"}, "reward": {"kind": "model", "name": "r"}}))
    pairs = {"prompts": "p", "preferences": "no.jsonl"}
    with pytest.raises(FileNotFoundError, match=r"data.preferences = 'no.jsonl': .* check the path"):
        check_paths(make_options({"method": "dpo", "model": {"name": "m"}, "data": pairs}))
