"""The page of promises names tests that exist, each once, and no row is without one."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROWS = [
    line
    for line in (ROOT / "docs/reference/promises.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith(("| promise", "| ---"))
]


def test_every_promise_has_a_test_that_exists():
    assert len(ROWS) > 40
    missing = []
    for row in ROWS:
        found = re.fullmatch(r"\| .+ \| `(tests/[\w/]+\.py)::(test_\w+)` \|", row)
        assert found, f"not of the form | promise | `tests/FILE.py::test_NAME` |: {row}"
        file, name = found.groups()
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8")) if (ROOT / file).exists() else ast.Module([], [])
        if name not in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}:
            missing.append(f"{file}::{name}")
    assert missing == []


def test_no_promise_is_made_twice():
    promises = [row.split(" | ")[0] for row in ROWS]
    assert len(set(promises)) == len(promises)
