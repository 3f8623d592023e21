"""The walks of docs/reference/walks.md: each hop exists, and names what comes next."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/reference/walks.md").read_text(encoding="utf-8")
HOP = re.compile(r"^\d+\. `(dar_ref/[\w/]+\.py)` `([\w.]+)`(?: → ((?:`\w+`(?:, )?)+))?: (.+)$", flags=re.MULTILINE)
WALKS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL))


def hops(walk):
    """(file, function, names that lead on, remark) of each hop."""
    return [(file, name, re.findall(r"\w+", onward), remark) for file, name, onward, remark in HOP.findall(walk)]


def found(body, names):
    """The function or class of a dotted name; None if there is none."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == names[0]:
            return node if len(names) == 1 else found(node.body, names[1:])
    return None


def words(node):
    """Every name that a function or class uses."""
    kinds = {ast.Name: "id", ast.Attribute: "attr", ast.alias: "name", ast.FunctionDef: "name"}
    return {getattr(part, field) for part in ast.walk(node) for kind, field in kinds.items() if isinstance(part, kind)}


def test_every_numbered_line_is_a_hop():
    assert len(WALKS) == 3
    for walk in WALKS.values():
        assert [line.split(".")[0] for line in walk.splitlines() if re.match(r"\d+\.", line)] == [
            str(number) for number in range(1, len(hops(walk)) + 1)
        ]


@pytest.mark.parametrize("title", WALKS)
def test_each_function_is_in_its_file_and_names_what_comes_next(title):
    for file, name, onward, _ in hops(WALKS[title]):
        node = found(ast.parse((ROOT / file).read_text(encoding="utf-8")).body, name.split("."))
        assert node is not None, f"{file} has no {name}"
        assert set(onward) <= words(node) - {node.name}, f"{name} in {file} does not name all of {onward}"


@pytest.mark.parametrize("title", WALKS)
def test_each_hop_is_named_before_it_or_made_by_trl(title):
    (_, _, reached, _), *others = hops(WALKS[title])
    for _, name, onward, remark in others:
        assert name.split(".")[-1] in reached or remark.startswith("TRL calls it"), f"nothing leads to {name}"
        reached += onward
