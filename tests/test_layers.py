"""The layers of the design, read from the imports: arrows point down, there are no cycles, and importing the package
does not load torch."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import dar_ref

ROOT = Path(dar_ref.__file__).parent
SHARED = {
    "scalars",
    "arithmetic",
    "results",
    "errors",
    "field_names",
    "parser",
    "progress",
}  # every layer may use them, except ALONE
ALONE = {"minimal"}  # the method in one file each: they import nothing of ours
MAY_IMPORT = {  # from the ground up: each folder and each single file, and the layers below that it may use
    "scalars": set(),
    "arithmetic": set(),
    "results": {"arithmetic"},
    "errors": {"scalars"},
    "field_names": set(),
    "parser": {"scalars"},
    "progress": set(),
    "theory": set(),
    "minimal": set(),
    "optimizers": set(),
    "losses": set(),
    "evaluation": set(),
    "__init__": {"theory"},
    "verify": {"theory"},
    "plots": {"theory"},
    "exercises": {"theory"},
    "bandit": {"theory", "losses", "evaluation", "plots", "optimizers"},
    "toy": {"theory", "losses", "evaluation", "plots", "optimizers"},
    "llm": {"losses", "evaluation"},
    "real_model": {"llm", "evaluation", "plots"},
    "demo": {"verify", "plots", "bandit"},
    "cli": {"__init__", "verify", "toy", "llm", "demo", "plots"},
}
PATHS = sorted(ROOT.rglob("*.py"))
MODULES = {".".join(p.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): p for p in PATHS}


def imported_names(path):
    """Dotted names that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_modules(path):
    """Modules of the package that a file imports: `from dar_ref.theory import kl` is the module `dar_ref.theory`."""
    for name in imported_names(path):
        if name.split(".")[0] == "dar_ref":
            yield name if name in MODULES else name.rpartition(".")[0]


def layer_of(module):
    return module.split(".")[1] if "." in module else "__init__"


def test_every_folder_and_file_is_a_layer_above_those_it_may_use():
    assert {layer_of(module) for module in MODULES} == set(MAY_IMPORT)
    layers = list(MAY_IMPORT)
    for i, layer in enumerate(layers):
        assert MAY_IMPORT[layer] <= set(layers[:i])


@pytest.mark.parametrize("module", MODULES)
def test_arrows_point_down(module):
    layer, path = layer_of(module), MODULES[module]
    for other in imported_modules(path):
        allowed = MAY_IMPORT[layer] | (set() if layer in SHARED | ALONE else SHARED) | {layer}
        assert layer_of(other) in allowed, f"{module} imports {other}"
    if layer in ("theory", "verify"):
        assert "torch" not in {name.split(".")[0] for name in imported_names(path)}, f"{layer} works without torch"


def test_no_circles():
    arrows = {module: set(imported_modules(path)) - {module} for module, path in MODULES.items()}
    list(TopologicalSorter(arrows).static_order())  # raises CycleError


@pytest.mark.parametrize("module", ["dar_ref", "dar_ref.theory", "dar_ref.verify", "dar_ref.cli"])
def test_import_loads_no_torch(module):
    heavy = ("torch", "matplotlib", "sklearn", "scipy.optimize")
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
