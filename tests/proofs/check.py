"""Check the proofs with Coq: compile every file, then ask Coq what each theorem rests on.

    python3 tests/proofs/check.py [--write] [--recheck]

Prints a line for each theorem: file, lines of statement and proof, number of axioms. Exits with 1 if a file does not
compile, if a proof is left open, or if a theorem rests on other axioms than `assumptions.txt` says. `--write` accepts
what was found: it writes that file and the table of the docs page. `--recheck` has the compiled files read again by
`coqchk`, the independent checker that comes with Coq (about two minutes).

Standard library only: this runs where nothing is installed but Python and Coq.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "out" / "proofs"
ASSUMPTIONS = HERE / "assumptions.txt"
TABLE = ROOT / "docs" / "theory" / "proved" / "table.md"

# In the order in which they are compiled and should be read. examples.v uses the theorems on small bandits.
FILES = ["sums", "bandit", "gibbs", "t1", "t2", "t3_t4", "t5_t11", "t6", "t7_t12", "t10", "normalised", "examples"]
LIBRARY = "ln"  # of the standard library of reals: what it rests on, the theorems may rest on
THEOREM = re.compile(
    r"^(?P<statement>Theorem (?P<name>\w+) : .*?\.)\nProof\.(?P<proof>.*?)Qed\.$", re.MULTILINE | re.DOTALL
)
AXIOM = re.compile(r"^([A-Za-z_][\w.]*)(?= :|$)", re.MULTILINE)


class Theorem(NamedTuple):
    """A theorem as it stands in its file."""

    name: str
    file: str
    statement: str
    lines: int  # of statement and proof, helping lemmas not counted


def theorems() -> list[Theorem]:
    """Every theorem, in reading order."""
    return [
        Theorem(match["name"], name, match["statement"], match[0].count("\n") + 1)
        for name in FILES
        for match in THEOREM.finditer((HERE / f"{name}.v").read_text(encoding="utf-8"))
    ]


def coqc(file: Path) -> subprocess.CompletedProcess[str]:
    """Compile one file beside the compiled files it needs."""
    return subprocess.run(["coqc", "-q", "-Q", ".", "DAR", file.name], cwd=file.parent, capture_output=True, text=True)


def compile_all(build: Path) -> None:
    """Compile all files in a folder of their own; SystemExit with Coq's message at the first that fails."""
    build.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        file = Path(shutil.copy(HERE / f"{name}.v", build))
        outcome = coqc(file)
        if outcome.returncode:
            raise SystemExit(f"{name}.v is not proved:\n{outcome.stdout}{outcome.stderr}")


def axioms(
    build: Path, names: list[str], files: list[str] = FILES, extra: str = "", label: str = ""
) -> list[frozenset[str]]:
    """For each name the axioms that Coq's `Print Assumptions` lists; `extra` may define names of one's own."""
    lines = ["From Coq Require Import Reals.", *(f"From DAR Require Import {name}." for name in files), extra]
    file = build / f"question{label}.v"
    file.write_text("\n".join([*lines, *(f"Print Assumptions {name}." for name in names)]), encoding="utf-8")
    outcome = coqc(file)
    if outcome.returncode:
        raise SystemExit(f"Coq does not answer:\n{outcome.stdout}{outcome.stderr}")
    answers = re.split(r"^(?:Axioms:|Closed under the global context)\n", outcome.stdout, flags=re.MULTILINE)[1:]
    if len(answers) != len(names):
        raise SystemExit(f"{len(names)} questions, {len(answers)} answers:\n{outcome.stdout}")
    return [frozenset(AXIOM.findall(answer)) for answer in answers]


def axioms_of_each(build: Path, names: list[str]) -> dict[str, frozenset[str]]:
    """The axioms by name. A question takes about a second, so the cores share them."""
    cores = os.cpu_count() or 1
    shares = [share for core in range(cores) if (share := names[core::cores])]
    with ThreadPoolExecutor(cores) as pool:
        answers = pool.map(lambda share: axioms(build, share, label=f"_{share[0]}"), shares)
    found = {
        name: answer
        for share, sets in zip(shares, answers, strict=True)
        for name, answer in zip(share, sets, strict=True)
    }
    return {name: found[name] for name in names}


def committed() -> dict[str, frozenset[str]]:
    """What `assumptions.txt` says: axioms by name of the theorem."""
    lines = [line for line in ASSUMPTIONS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return {name: frozenset(rest.split()) for name, rest in (line.split(":") for line in lines)}


def written(found: dict[str, frozenset[str]]) -> str:
    """The text of `assumptions.txt`."""
    head = (
        "# The axioms that each theorem rests on, as Coq's Print Assumptions lists them; first the library's own ln.\n"
    )
    return head + "".join(f"{name}: {' '.join(sorted(found[name]))}\n" for name in found)


def table(found: dict[str, frozenset[str]]) -> str:
    """The table of the docs page."""
    head = "| theorem | file | lines | axioms beyond the library's |\n| --- | --- | ---: | --- |\n"
    rows = [
        f"| `{t.name}` | `{t.file}.v` | {t.lines} | {', '.join(sorted(found[t.name] - found[LIBRARY])) or 'none'} |\n"
        for t in theorems()
    ]
    return head + "".join(rows)


def recheck(build: Path) -> None:
    """Have `coqchk` read all compiled files again; SystemExit if it objects."""
    outcome = subprocess.run(
        ["coqchk", "-silent", "-o", "-Q", ".", "DAR", *(f"DAR.{name}" for name in FILES)],
        cwd=build,
        capture_output=True,
        text=True,
    )
    print(outcome.stdout.strip())
    if outcome.returncode:
        raise SystemExit(f"coqchk objects:\n{outcome.stderr}")


def main() -> int:
    """Compile, ask, compare, print; 0 if all is proved from the axioms that are committed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="accept the axioms found, and write the table of the page")
    parser.add_argument("--recheck", action="store_true", help="also run coqchk on the compiled files")
    options = parser.parse_args()
    if not shutil.which("coqc"):
        raise SystemExit("coqc is not there: `make proofs` installs it on Debian and Ubuntu (apt-get install coq)")

    proved = theorems()
    print(f"{len(FILES)} files to compile, {len(proved)} theorems to ask about: a minute or two", flush=True)
    compile_all(BUILD)
    found = axioms_of_each(BUILD, [LIBRARY, *(t.name for t in proved)])
    for t in proved:
        count, beyond = len(found[t.name]), len(found[t.name] - found[LIBRARY])
        print(f"{t.name:24} {t.file + '.v':13} {t.lines:4} lines   {count} axioms, {beyond} beyond those of {LIBRARY}")
    print(f"{len(proved)} theorems. {LIBRARY} of the standard library rests on: {' '.join(sorted(found[LIBRARY]))}")
    if options.write:
        ASSUMPTIONS.write_text(written(found), encoding="utf-8")
        TABLE.parent.mkdir(exist_ok=True)
        TABLE.write_text(table(found), encoding="utf-8")
    if options.recheck:
        recheck(BUILD)
    more = [t.name for t in proved if not found[t.name] <= found[LIBRARY]]
    if more:
        print(f"rest on more than {LIBRARY}: {', '.join(more)}", file=sys.stderr)
        return 1
    changed = sorted(name for name in {*found, *committed()} if found.get(name) != committed().get(name))
    if changed:
        print(
            f"not as {ASSUMPTIONS.name} says: {', '.join(changed)}; `--write` accepts what was found", file=sys.stderr
        )
        return 1
    print(f"as {ASSUMPTIONS.name} says")
    return 0


if __name__ == "__main__":
    sys.exit(main())
