"""`dar_ref.llm` exports the names that a user of TRL needs first, and loads nothing heavy before their first use."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from dar_ref import llm


def test_every_name_is_there_and_is_that_of_its_module():
    tree = ast.parse(Path(llm.__file__).read_text(encoding="utf-8"))
    homes = {a.name: n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names}
    lent = {name: f"dar_ref.llm.{module}" for module, names in llm._HOMES.items() for name in names}
    assert lent == {name: homes[name] for name in llm.__all__}  # type checkers see the same names
    for name, module in lent.items():
        assert getattr(llm, name).__module__ == module


def test_another_name_is_refused():
    with pytest.raises(AttributeError, match=r"module 'dar_ref.llm' has no attribute 'DARConfg'"):
        _ = llm.DARConfg


def test_options_and_plan_load_no_torch():
    code = (
        "import sys; from dar_ref.llm import load_options; from dar_ref.llm.plan import plan;"
        "print([m for m in ('torch', 'transformers', 'trl') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
