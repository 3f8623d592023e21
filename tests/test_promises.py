"""The page of promises names tests that exist, each once, and no row is without one."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROWS = [
    line
    for line in (ROOT / "docs/reference/promises.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("- ")
]
TEST = r"`(tests/[\w/]+\.py)::(test_\w+)`"


def test_every_promise_has_tests_that_exist():
    assert len(ROWS) > 40
    missing = []
    for row in ROWS:
        assert re.fullmatch(rf"- .+\.<br>{TEST}(, {TEST})*", row), (
            f"not - PROMISE.<br>`tests/FILE.py::test_NAME`: {row}"
        )
        for file, name in re.findall(TEST, row):
            tree = (
                ast.parse((ROOT / file).read_text(encoding="utf-8")) if (ROOT / file).exists() else ast.Module([], [])
            )
            if name not in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}:
                missing.append(f"{file}::{name}")
    assert missing == []


def test_no_test_is_named_twice():
    named = [test for row in ROWS for test in re.findall(TEST, row)]
    assert len(named) > 100
    assert len(set(named)) == len(named)


def test_no_promise_is_made_twice():
    promises = [row.split("<br>")[0] for row in ROWS]
    assert len(set(promises)) == len(promises)
