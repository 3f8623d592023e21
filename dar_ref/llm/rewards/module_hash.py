"""What a user's module is, by content: a run that goes on must not get another reward."""

import contextlib
import hashlib
import os
import sys
import sysconfig
from modulefinder import ModuleFinder
from pathlib import Path

STANDARD = sysconfig.get_path("stdlib")


def module_hash(name: str) -> str:
    """SHA-256 over the file of an imported module and those of all that it imports, wherever in its code, from the
    user's own folders. Installed packages, this package and files that the code reads are not looked at."""
    file = getattr(sys.modules[name], "__file__", None)
    files = _own_imports(name) | ({name: Path(file)} if file else {})
    found = hashlib.sha256(name.encode())
    for module, path in sorted(files.items()):
        found.update(f"{module} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()


def _own_imports(module: str) -> dict[str, Path]:
    """The files of the modules that `module` imports, wherever in its code, by name; those of installed packages and
    of this package left out."""
    own = [p for p in sys.path if "site-packages" not in p and not os.path.abspath(p or ".").startswith(STANDARD)]
    finder = ModuleFinder(own, excludes=["dar_ref"])
    with contextlib.suppress(ImportError):  # it is an installed one
        finder.import_hook(module)
    files = {name: getattr(found, "__file__", None) for name, found in finder.modules.items()}
    return {name: Path(file) for name, file in files.items() if file}
