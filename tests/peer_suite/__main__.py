"""TRL's own tests of its GRPO trainer, run on TRL's trainer and on ours: `make peer-suite TRL=FOLDER`.

The folder is a copy of TRL with its tests, which this project neither contains nor fetches. Models and data are
stand-ins made here. Only a test that passes on TRL's trainer says something about ours, so TRL's runs first.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

from dar_ref import results
from tests.peer_suite.stand_ins import make_all

TESTS = "test_grpo_trainer.py"
OURS = ("dar", "dao")
ROOT = Path(__file__).parents[2]


def run(tests, trainer, folder, selected):
    """Outcome and reason of each test, on one trainer."""
    found = folder / f"{trainer}.json"
    environment = os.environ | {
        "PEER_TRAINER": trainer,
        "PEER_RESULTS": str(found),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(ROOT)]),
        **dict.fromkeys(("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "TRL_EXPERIMENTAL_SILENCE"), "1"),
    }
    command = [sys.executable, "-m", "pytest", str(tests / TESTS), f"--rootdir={tests.parent}", "-q", "--tb=no"]
    command += ["-c", os.devnull]  # not the options of either project
    command += ["-p", "peer_plugin", "-p", "no:cacheprovider", "-W", "ignore", *selected]
    status = subprocess.run(command, cwd=folder, env=environment, check=False).returncode
    if status > 1:  # 0: all passed, 1: some did not
        raise RuntimeError(f"pytest ended with {status}: the tests could not be run; by hand: {' '.join(command)}")
    return json.loads(found.read_text(encoding="utf-8"))


def summary(outcomes):
    """What became of the tests on our trainers, by the outcome on TRL's.

    outcomes: {trainer: {test: {outcome, reason}}}, with TRL's trainer as `grpo`.
    """
    passed = [test for test, found in outcomes["grpo"].items() if found["outcome"] == "passed"]
    ours = {}
    for trainer in OURS:
        found = {test: outcomes[trainer][test] for test in passed}
        reasons = {}
        for test, what in found.items():
            if what["outcome"] != "passed":
                reasons.setdefault(what["outcome"], {}).setdefault(what["reason"], []).append(test)
        ours[trainer] = {"counts": dict(Counter(what["outcome"] for what in found.values())), "reasons": reasons}
    return {"grpo": dict(Counter(found["outcome"] for found in outcomes["grpo"].values())), **ours}


def table(found):
    """The summary as Markdown."""
    total = found["grpo"].get("passed", 0)
    lines = [
        f"Of {sum(found['grpo'].values())} tests, {total} pass on TRL's trainer here,"
        f" {found['grpo'].get('skipped', 0)} are skipped by themselves and"
        f" {found['grpo'].get('failed', 0)} fail there too. Of the {total}:",
        "",
        "| trainer | pass | refused, with a reason | fail |",
        "| --- | --- | --- | --- |",
    ]
    for trainer in OURS:
        counts = found[trainer]["counts"]
        cells = [str(counts.get(outcome, 0)) for outcome in ("passed", "refused", "failed")]
        lines.append(f"| `{trainer}` | {' | '.join(cells)} |")
    for outcome, title in (("refused", "Refused"), ("failed", "Failed")):
        rows = [(trainer, *row) for trainer in OURS for row in found[trainer]["reasons"].get(outcome, {}).items()]
        if rows:
            lines += ["", f"{title}, by reason:", "", "| trainer | tests | reason |", "| --- | --- | --- |"]
            lines += [f"| `{trainer}` | {len(tests)} | {reason.replace('|', ' ')} |" for trainer, reason, tests in rows]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.peer_suite", description=__doc__)
    parser.add_argument("trl", type=Path, help="a copy of TRL that has its folder `tests`")
    parser.add_argument("--out", type=Path, default=Path("out/peer-suite"), help="folder to write to")
    parser.add_argument("--version", required=True, help="version of that copy, for the record")
    parser.add_argument("-k", default=None, help="only tests that match, as in pytest")
    arguments = parser.parse_args()
    tests = arguments.trl.resolve() / "tests"
    if not (tests / TESTS).is_file():
        parser.error(f"{tests / TESTS} is no file; pass a copy of TRL's repository")
    began = time.time()
    selected = [] if arguments.k is None else ["-k", arguments.k]
    with tempfile.TemporaryDirectory() as folder:
        make_all(Path(folder))
        outcomes = {trainer: run(tests, trainer, Path(folder), selected) for trainer in ("grpo", *OURS)}
    found = summary(outcomes)
    arguments.out.mkdir(parents=True, exist_ok=True)
    versions = {"tests": arguments.version, "trl": version("trl")}
    results.write_json(arguments.out / "results.json", {"versions": versions, "summary": found, "outcomes": outcomes})
    results.write_json(arguments.out / "run.json", results.run_info("make peer-suite", began))
    (arguments.out / "table.md").write_text(table(found), encoding="utf-8")
    print(table(found))


if __name__ == "__main__":
    main()
