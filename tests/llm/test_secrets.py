"""A key or password is in no file that a run writes and in no line that it prints; text is never read as markup."""

import json
import shutil

import pytest
import yaml

from dar_ref.cli import main
from dar_ref.llm.options import options_as_json, shown, without_secrets
from tests.llm.training import options

CANARY = "CANARY-0123456789"


@pytest.fixture
def config(exported, tmp_path):
    training = {"save_strategy": "steps", "save_steps": 1, "max_steps": 1}
    content = options_as_json(options(exported, lora={"r": 2, "alpha": 4}, training=training))
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "run.yaml"


def files_with(secret, folder):
    return [path for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    "overrides",
    [
        [f"training.hub_token={CANARY}"],
        [f"training.push_to_hub_token={CANARY}"],
        [f"training={{hub_token: {CANARY}}}"],
        [f"reward.api_key={CANARY}"],
        [f"reward={{kind: annotator, name: judge, Authorization: {CANARY}}}"],
        [f"training.hub_token={CANARY}", f"training.hub_token={CANARY}"],
        [f"training.hub_token=[{CANARY}"],
        [f"training.hub_token.x={CANARY}", f"training.hub_token={CANARY}"],
        [f"training.deepspeed={{wandb: {{api_key: {CANARY}}}}}"],
        [f"generation.vllm_server_base_url=http://me:{CANARY}@judge/v1"],
        ["reward.kind=annotator", "reward.name=judge", f"reward.base_url=http://me:{CANARY}@judge/v1"],
    ],
    ids=lambda overrides: overrides[-1].partition("=")[0] + "=",
)
@pytest.mark.parametrize("dry", [True, False], ids=["dry", "real"])
def test_a_secret_option_is_refused_and_not_shown(config, tmp_path, capsys, monkeypatch, overrides, dry):
    monkeypatch.setenv("OPENAI_API_KEY", "unused-key")
    arguments = ["train", "--config", str(config), "--out", str(tmp_path / "out"), *["--dry-run"] * dry, *overrides]
    assert main(arguments) == 2
    assert CANARY not in "".join(capsys.readouterr())
    assert files_with(CANARY, tmp_path) == []


def test_broken_yaml_is_named_by_its_place_and_not_quoted(tmp_path, capsys):
    (tmp_path / "run.yaml").write_text(f"method: dar\ntraining: {{hub_token: {CANARY}\nmodel: x\n")
    assert main(["train", "--config", str(tmp_path / "run.yaml")]) == 2
    said = capsys.readouterr().err
    assert CANARY not in said
    assert "run.yaml is not YAML: while parsing a flow mapping expected ',' or '}'" in said
    assert "(line 3, column" in said


def test_a_secret_of_another_method_is_hidden(config, tmp_path, capsys):
    other = f"methods.grpo={{hub_token: {CANARY}}}"
    assert main(["train", "--config", str(config), "--out", str(tmp_path / "out"), other]) == 0
    assert CANARY not in "".join(capsys.readouterr())
    assert files_with(CANARY, tmp_path) == []
    assert '"hub_token": "***"' in json.loads((tmp_path / "out" / "run.json").read_text())["command"]


def test_keys_of_the_environment_are_in_no_file_and_no_line(config, tmp_path, capsys, monkeypatch):
    for name in ("HF_TOKEN", "OPENAI_API_KEY", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, CANARY)
    assert main(["train", "--config", str(config), "--out", str(tmp_path / "out")]) == 0
    with pytest.raises(ValueError, match="holds checkpoints") as error:
        main(["--debug", "train", "--config", str(config), "--out", str(tmp_path / "out")])
    assert CANARY not in "".join(capsys.readouterr()) + str(error.getrepr(showlocals=False))
    assert files_with(CANARY, tmp_path) == []
    assert len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) > 15


@pytest.mark.parametrize(
    ("content", "written"),
    [
        (
            {"x-api-key": "k", "private_key": 1, "passwd": ["k"]},
            {"x-api-key": "***", "private_key": "***", "passwd": "***"},
        ),
        ({"a": [{"hf_token": "k"}], "token": None}, {"a": [{"hf_token": "***"}], "token": None}),
        ({"eos_token": "<e>", "max_tokens": 3, "key": "k"}, {"eos_token": "<e>", "max_tokens": 3, "key": "k"}),
        ("http://me:pw@host:80/v1?a=b@c", "http://***@host:80/v1?a=b@c"),
        (["mail me@host, see http://host/@me"], ["mail me@host, see http://host/@me"]),
        (("http://a:b@c",), ["http://***@c"]),
    ],
    ids=str,
)
def test_what_is_secret(content, written):
    assert without_secrets(content) == written


def test_an_option_without_a_secret_is_shown_as_it_was_written():
    for override in ("training.seed=1", "lora=null", "data.prompts=a b", "methods.dar={alpha: .1}", "x=[", "no value"):
        assert shown(override) == override


def test_text_that_looks_like_markup_is_text(config, exported, tmp_path, capsys):
    odd = tmp_path / "[red]odd[/] [/bold]"
    shutil.copytree(exported, odd)
    rows = [json.loads(line) for line in (odd / "prompts" / "train.jsonl").read_text().splitlines()]
    (odd / "rows.jsonl").write_text("".join(json.dumps(row | {"[/b]": "[link=x]y[/]"}) + "\n" for row in rows))
    arguments = ["train", "--config", str(config), "--out", str(tmp_path / "[/out]"), f"model.name={odd / 'policy'}"]
    arguments.append(f"data.prompts={odd / 'rows.jsonl'}")
    assert main([*arguments, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert all(text in said for text in ("columns prompt, [/b]", "[red]odd[/] [/bold]", "[/out]"))
    assert main(arguments) == 0
    assert str(tmp_path / "[/out]" / "policy") in capsys.readouterr().out
    short = ["data.max_prompt_tokens=4", f"model.name={odd / 'policy'}"]
    assert main(["plan", "--config", str(config), *short]) == 0
    assert "[red]odd[/]" in capsys.readouterr().out.replace("\n", "")
