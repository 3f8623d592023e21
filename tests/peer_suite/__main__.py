"""TRL's own tests of its GRPO trainer, run on TRL's trainer and on ours: `make peer-suite TRL=FOLDER`.

The folder is a copy of TRL with its tests, which this project neither contains nor fetches. Models and data are
stand-ins made here. A test that fails on ours runs on TRL's trainer as well: one that fails there too, for want of a
stand-in or since it is of another version, says nothing about ours.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from dar_ref import results
from tests.peer_suite.stand_ins import make_all

TESTS = "test_grpo_trainer.py"
OURS = ("dar", "dao")
ROOT = Path(__file__).parents[2]


def run(tests, trainer, folder, selected):
    """Outcome and reason of each test, on one trainer. selected: arguments of pytest, the tests among them."""
    found = folder / f"{trainer}.json"
    environment = os.environ | {
        "PEER_TRAINER": trainer,
        "PEER_RESULTS": str(found),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(ROOT)]),
        **dict.fromkeys(("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "TRL_EXPERIMENTAL_SILENCE"), "1"),
    }
    command = [sys.executable, "-m", "pytest", f"--rootdir={tests.parent}", "-q", "--tb=no"]
    command += ["-c", os.devnull]  # not the options of either project
    command += ["-p", "peer_plugin", "-p", "no:cacheprovider", "-W", "ignore", *selected]
    status = subprocess.run(command, cwd=folder, env=environment, check=False).returncode
    if status > 1:  # 0: all passed, 1: some did not
        raise RuntimeError(f"pytest ended with {status}: the tests could not be run; by hand: {' '.join(command)}")
    return json.loads(found.read_text(encoding="utf-8"))


def outcomes_of(trainers, tests, folder, selected):
    """Outcome and reason of each test, by trainer; TRL's, `grpo`, runs those that failed on ours."""
    outcomes = {trainer: run(tests, trainer, folder, selected) for trainer in trainers}
    failed = sorted({test for of in outcomes.values() for test, what in of.items() if what["outcome"] == "failed"})
    again = [f"{tests / TESTS}::{test}" for test in failed]
    return {**outcomes, "grpo": run(tests, "grpo", folder, again) if again else {}}


def summary(outcomes):
    """What became of the tests on our trainers: counts, and the tests by outcome and reason.

    outcomes: {trainer: {test: {outcome, reason}}}, with TRL's trainer as `grpo`, which ran those that failed on ours.
    """
    found = {}
    for trainer in set(OURS) & set(outcomes):
        reasons = {}
        for test, what in outcomes[trainer].items():
            there = outcomes["grpo"].get(test, what)["outcome"]
            nowhere = what["outcome"] == "failed" and there != "passed"
            outcome = "not run" if nowhere else what["outcome"]
            reasons.setdefault(outcome, {}).setdefault(what["reason"], []).append(test)
        counts = {outcome: sum(map(len, of.values())) for outcome, of in reasons.items()}
        found[trainer] = {"counts": counts, "reasons": {k: of for k, of in reasons.items() if k != "passed"}}
    return found


def table(found):
    """The summary as Markdown."""
    titles = {"passed": "pass", "refused": "refused, with a reason", "failed": "fail", "skipped": "skip themselves"}
    titles["not run"] = "fail on TRL's trainer too"
    lines = [f"| trainer | {' | '.join(titles.values())} |", "| --- " * (1 + len(titles)) + "|"]
    ours = [trainer for trainer in OURS if trainer in found]
    for trainer in ours:
        cells = [str(found[trainer]["counts"].get(outcome, 0)) for outcome in titles]
        lines.append(f"| `{trainer}` | {' | '.join(cells)} |")
    for outcome in ("refused", "failed", "not run", "skipped"):
        rows = {}
        for trainer in ours:
            for reason, tests in found[trainer]["reasons"].get(outcome, {}).items():
                common = re.sub(r"D(AR|AO)(?=Config|Trainer)", "", reason)  # one row for both trainers
                rows.setdefault(common, {})[trainer] = len(tests)
        if rows:
            title = titles[outcome]
            lines += [
                "",
                f"{title[0].upper()}{title[1:]}:",
                "",
                f"| {' | '.join(ours)} | reason |",
                "| --- " * (1 + len(ours)) + "|",
            ]
            shown = {reason: reason.replace("|", " ").replace("<", "&lt;") for reason in rows}
            for reason, of in rows.items():
                lines.append(f"| {' | '.join(str(of.get(trainer, 0)) for trainer in ours)} | {shown[reason]} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.peer_suite", description=__doc__)
    parser.add_argument("trl", type=Path, help="a copy of TRL that has its folder `tests`")
    parser.add_argument("--out", type=Path, default=Path("out/peer-suite"), help="folder to write to")
    parser.add_argument("--version", required=True, help="version of that copy, for the record")
    parser.add_argument("--trainers", nargs="+", choices=OURS, default=list(OURS), help="which of ours")
    parser.add_argument("-k", default=None, help="only tests that match, as in pytest")
    arguments = parser.parse_args()
    tests = arguments.trl.resolve() / "tests"
    if not (tests / TESTS).is_file():
        parser.error(f"{tests / TESTS} is no file; pass a copy of TRL's repository")
    began = time.time()
    selected = [str(tests / TESTS)] if arguments.k is None else [str(tests / TESTS), "-k", arguments.k]
    with tempfile.TemporaryDirectory() as folder:
        make_all(Path(folder))
        outcomes = outcomes_of(arguments.trainers, tests, Path(folder), selected)
    found = summary(outcomes)
    arguments.out.mkdir(parents=True, exist_ok=True)
    versions = {"tests": arguments.version, "trl": version("trl")}
    results.write_json(arguments.out / "results.json", {"versions": versions, "summary": found, "outcomes": outcomes})
    results.write_json(arguments.out / "run.json", results.run_info("make peer-suite", began))
    (arguments.out / "table.md").write_text(table(found), encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
