"""Scripts beside the package, such as those of docs/, loaded as modules."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

DOCS = Path(__file__).parent.parent / "docs"


def load_script(path: Path) -> ModuleType:
    """The module of a file that is part of no package; it may import its neighbours."""
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def docs_script(name: str) -> ModuleType:
    """A script of docs/."""
    return load_script(DOCS / f"{name}.py")
