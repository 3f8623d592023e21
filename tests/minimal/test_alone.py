"""Each file of `dar_ref.minimal` is complete, and where both have the same step they have the same lines."""

import ast
import inspect
from pathlib import Path

import pytest

from dar_ref import minimal
from dar_ref.minimal import bandit, llm

FILES = sorted(Path(minimal.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_it_imports_nothing_of_this_package(path):
    imported = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno} is a relative import"
            imported.append(node.module)
    assert [name for name in imported if name.split(".")[0] == "dar_ref"] == []
    assert imported or path.name == "__init__.py"


@pytest.mark.parametrize("step", ["advantage", "weight"])
def test_the_same_step_is_the_same_code(step):
    assert inspect.getsource(getattr(bandit, step)) == inspect.getsource(getattr(llm, step))
