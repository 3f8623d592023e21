"""The fields of a dataclass, read from its source: a misspelt option is found without importing torch and TRL."""

import ast
import functools
from importlib.util import find_spec
from pathlib import Path


@functools.cache
def field_names(module: str, name: str) -> tuple[str, ...]:
    """Names that the constructor of a dataclass takes, those of its bases first.

    Args:
        module: where the class is defined, or a module that imports it, also one that does so for type checkers only.
        name: of the class.

    Raises:
        ModuleNotFoundError: the package is not installed.
        LookupError: the module does not have this class.

    >>> field_names("dar_ref.llm.options", "LoraOptions")
    ('r', 'alpha', 'target_modules')
    """
    tree, package = _parsed(module)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            inherited = [field for base in node.bases for field in field_names(module, ast.unparse(base))]
            own = [s.target.id for s in node.body if isinstance(s, ast.AnnAssign) and _is_field(s)]  # type: ignore[union-attr]
            return tuple(dict.fromkeys([*inherited, *own]))
    for line in ast.walk(tree):
        if isinstance(line, ast.ImportFrom) and name in {alias.name for alias in line.names}:
            parents = package.split(".")[: 1 - line.level or None] if line.level else []
            return field_names(".".join([*parents, *([line.module] if line.module else [])]), name)
    raise LookupError(f"{module} has no class {name}")


def _parsed(module: str) -> tuple[ast.Module, str]:
    """The source of a module, and the package that its relative imports start from."""
    top, *rest = module.split(".")
    spec = find_spec(top)  # of a module below it, find_spec would import the package
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"No module named {top!r}", name=top)
    place = Path(spec.submodule_search_locations[0], *rest)
    package = module if place.is_dir() else module.rpartition(".")[0]
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8")), package


def _is_field(statement: ast.AnnAssign) -> bool:
    text = ast.unparse(statement)
    return isinstance(statement.target, ast.Name) and "ClassVar[" not in text and "init=False" not in text
