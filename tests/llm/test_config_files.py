"""Configuration files as editors and mishaps leave them: read as they are meant, or refused with the file's name."""

import re

import pytest

from dar_ref.llm.options import load_options, make_options

MINIMAL = b"model: {name: m}\ndata: {prompts: p}\nreward: {kind: model, name: r}\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds a NoneType; write a mapping"),
        (b"\n# nothing\n", "holds a NoneType; write a mapping"),
        (b"model:\n\tname: x\n", "is not YAML: .*cannot start any token"),
        (bytes(range(256)), "is not YAML"),
        (MINIMAL + b"method: d\xe4r\n", "is not YAML: 'utf-8' codec"),
        (MINIMAL + b"---\n" + MINIMAL, "is not YAML: expected a single document"),
        (b"a: &a {b: 1}\n" + MINIMAL + b"training: *a\n", "'a' is no part of the value"),
        (MINIMAL + b"training: *a\n", "stands for another value"),
        (MINIMAL + b"1: 2\n", "unknown key|valid|keyword"),
        (MINIMAL + b"training: {learning_rate: 1e400}\n", "'1e400' is beyond the numbers of float64"),
    ],
)
def test_files_that_cannot_be_meant_are_refused(tmp_path, content, message):
    file = tmp_path / "run.yaml"
    file.write_bytes(content)
    with pytest.raises((ValueError, TypeError), match=message):
        load_options(file)


@pytest.mark.parametrize("change", [lambda c: b"\xef\xbb\xbf" + c, lambda c: c.replace(b"\n", b"\r\n")])
def test_a_byte_order_mark_and_the_lines_of_another_system_change_nothing(tmp_path, change):
    for name, content in (("plain", MINIMAL), ("changed", change(MINIMAL))):
        (tmp_path / name).write_bytes(content)
    assert load_options(tmp_path / "plain") == load_options(tmp_path / "changed")


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{tmp_path.name}' is not a file"):
        load_options(tmp_path)


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("data.system_prompt=# Be brief", "'# Be brief' would be a comment; put the value in quotes"),
        ("data.prompts=my file #1.jsonl", "'#1.jsonl' would be a comment"),
        ("data.limit=5 # rows", "'# rows' would be a comment"),
        ("data.system_prompt=", "no value; write null, or '' for an empty text"),
        ("data.revision= ", "no value"),
        ("data.system_prompt=&you Be brief", "'you' is no part of the value"),
        ("data.limit=!!int '1_0'", "'tag:yaml.org,2002:int' is no part of the value"),
        ("data.system_prompt=!x Be brief", "'!x' is no part of the value"),
    ],
)
def test_no_part_of_an_override_is_lost(override, reason):
    content = {"model": {"name": "m"}, "data": {"prompts": "p"}, "reward": {"kind": "model", "name": "r"}}
    with pytest.raises(ValueError, match=re.escape(reason)):
        make_options(content, [override])


@pytest.mark.parametrize(
    ("text", "value"),
    [("'# Be brief'", "# Be brief"), ("a#b", "a#b"), ("''", ""), ("'&you'", "&you"), ("null", None), ("a=b", "a=b")],
)
def test_what_is_quoted_or_no_comment_is_the_text(text, value):
    content = {"model": {"name": "m"}, "data": {"prompts": "p"}, "reward": {"kind": "model", "name": "r"}}
    assert make_options(content, [f"data.system_prompt={text}"]).data.system_prompt == value


@pytest.mark.parametrize(
    "override", ["a.b=1", "=1", "a..b=1", ".a=1", "a.=1", "seed", "", "model.name.x=1", "data=null"]
)
def test_overrides_that_cannot_be_meant_are_refused(tmp_path, override):
    (tmp_path / "run.yaml").write_bytes(MINIMAL)
    with pytest.raises(ValueError, match=r"not an override|unknown key|no keys of its own|data"):
        load_options(tmp_path / "run.yaml", [override])


def test_the_home_folder_stands_in_every_path(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    paths = ["model.name=~/m", "reward={kind: model, name: ~/r}", "data.prompts=~/p.jsonl"]
    options = load_options("toy_cpu", paths)
    found = (options.model.name, options.reward.name, options.data.prompts)
    assert found == tuple(f"{tmp_path}/{name}" for name in ("m", "r", "p.jsonl"))
    assert load_options("toy_cpu", ["data.system_prompt=~ is a tilde"]).data.system_prompt == "~ is a tilde"
