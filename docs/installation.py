"""How large an installation is: the packages that each command installs, as they lie in this environment.

    python docs/installation.py

Adds up the files of the packages that dar_ref and its extras ask for, and of those that these ask for. Writes
results.json and run.json to docs/results/installation. Run it in the environment that `make test` makes, on Linux; the
build of torch decides most of it and is written down.
"""

import time
import tomllib
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

from dar_ref import results

ROOT = Path(__file__).parents[1]
HERE = ROOT / "docs" / "results" / "installation"
COMMANDS = {  # what installs the extras
    "make demo": (),
    "the extra llm": ("llm",),
    "make test": ("dev", "llm", "notebooks", "real"),
}


def installed(wanted: Iterable[str]) -> dict[str, Distribution]:
    """The packages that requirements bring, by name; those that are not here (for other systems) are left out."""
    left = [Requirement(text) for text in wanted]
    seen: set[str] = set()
    found: dict[str, Distribution] = {}
    while left:
        requirement = left.pop()
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        try:
            package = distribution(requirement.name)
        except PackageNotFoundError:
            continue
        found[package.metadata["Name"]] = package
        for text in package.requires or ():
            needed = Requirement(text)
            extras = requirement.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                left.append(needed)
    return found


def size(packages: Iterable[Distribution]) -> int:
    """Bytes of the packages' files."""
    paths = (Path(package.locate_file(file)) for package in packages for file in package.files or ())
    return sum(path.stat().st_size for path in paths if path.is_file())


def main() -> None:
    """Write docs/results/installation."""
    started = time.time()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    content: dict[str, dict[str, int]] = {}
    for command, extras in COMMANDS.items():
        wanted = [text for extra in extras for text in project["optional-dependencies"][extra]]
        packages = installed(text for text in [*project["dependencies"], *wanted] if not text.startswith("dar-ref"))
        content[command] = {"packages": len(packages), "bytes": size(packages.values())}
    torch = distribution("torch")
    results.write_json(
        HERE / "results.json", {"torch": torch.version, "torch_bytes": size([torch]), "commands": content}
    )
    results.write_json(HERE / "run.json", results.run_info("python docs/installation.py", started))
    for command, row in content.items():
        print(f"{command:14} {row['packages']:4} packages {row['bytes'] / 1e9:5.1f} GB")


if __name__ == "__main__":
    main()
