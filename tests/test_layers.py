"""The layers of the design, read off the imports: arrows point down, and importing the package loads no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dar_ref

ROOT = Path(dar_ref.__file__).parent
MAY_IMPORT = {
    "theory": set(),
    "minimal": set(),
    "losses": set(),
    "evaluation": set(),
    "plots": {"theory"},
    "bandit": {"theory", "losses", "evaluation", "plots"},
    "toy": {"theory", "losses", "evaluation", "plots"},
    "llm": {"losses", "evaluation"},
}
SHARED = {"scalars", "results"}  # modules beside the layers that every layer may use; they import no layer


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_point_down(path):
    layer = path.relative_to(ROOT).parts[0].removesuffix(".py")
    allowed = MAY_IMPORT.get(layer)
    for module in imported_modules(path):
        parts = module.split(".")
        if parts[0] == "dar_ref" and len(parts) > 1 and allowed is not None:
            assert parts[1] in allowed | SHARED | {layer}, f"{layer} imports {module}"
        if layer in SHARED:
            assert parts[0] != "dar_ref", f"{layer} is for all layers and imports {module}"
        if layer == "theory":
            assert parts[0] != "torch", f"theory is numpy only, {path.name} imports {module}"


def test_every_layer_is_named_here():
    folders = {p.name for p in ROOT.iterdir() if p.is_dir() and (p / "__init__.py").exists()}
    assert folders <= set(MAY_IMPORT)


@pytest.mark.parametrize("module", ["dar_ref", "dar_ref.theory", "dar_ref.cli"])
def test_import_loads_no_torch(module):
    heavy = ("torch", "matplotlib", "sklearn", "scipy.optimize")
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
