"""At least 300 faults in toy, train, cache and endpoint: `make faults`.

    python -m tests.faults [--out docs/results/faults] [--stops 12] [--works "toy run" ...]

Each work is stopped, by SIGKILL and by a full disk, at operations on files that are spread over its whole length, and
goes on afterwards. What a kill at two thirds leaves is damaged file by file, and goes on. Every fault runs in a process
of its own. Writes results.json, run.json and table.md; exit status 1 if one ended otherwise, or without explanation.
"""

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from rich.progress import Progress

from dar_ref import results
from dar_ref.evaluation import Table, markdown
from tests.faults.inject import DAMAGES, GOOD, STOPS, VERDICTS, Outcome, damaged, half_done, spread, stopped, untouched
from tests.faults.work import WORKS, Work


def inject(work: Work, folder: Path, stops: int) -> list[Outcome]:
    """All faults of one work."""
    operations = untouched(work, folder)
    found = []
    with Progress() as progress:
        bar = progress.add_task(work.name, total=None)
        for fault in STOPS:
            for at in spread(operations, stops):
                found.append(stopped(work, folder, fault, at))
                progress.advance(bar)
        for file in half_done(work, folder, 1 + 2 * operations // 3):
            for damage in DAMAGES:
                found.append(damaged(work, folder, damage, file))
                progress.advance(bar)
    return found


def measured(folder: Path, anew: list[str]) -> list[Outcome]:
    """The outcomes in `folder` of works that are not injected anew."""
    file = folder / "results.json"
    rows = json.loads(file.read_text(encoding="utf-8"))["outcomes"] if file.exists() else []
    return [Outcome(**row, said="") for row in rows if row["work"] not in anew]


def table(outcomes: list[Outcome]) -> str:
    """Work and fault, times, and how they ended, in Markdown."""
    rows = []
    for work, fault in dict.fromkeys((o.work, o.fault) for o in outcomes):
        ends = Counter(o.verdict for o in outcomes if (o.work, o.fault) == (work, fault))
        rows.append((work, fault, str(ends.total()), *(str(ends[verdict] or "") for verdict in VERDICTS)))
    ends = Counter(o.verdict for o in outcomes)
    rows.append(("all", "", str(len(outcomes)), *(str(ends[verdict] or "") for verdict in VERDICTS)))
    return markdown(Table(("work", "fault", "times", *VERDICTS), tuple(rows), ()))


def main() -> int:
    """Inject, and write the table. Return 1 if a fault ended badly, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results/faults"), help="default: %(default)s")
    parser.add_argument("--stops", type=int, default=12, help="operations at which each work is stopped: %(default)s")
    parser.add_argument(
        "--works",
        nargs="*",
        default=[work.name for work in WORKS],
        help="names; what was measured of others in OUT stays (default: all)",
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # a process that forks has no other threads
    began, outcomes = time.time(), []
    for work in (work for work in WORKS if work.name in arguments.works):
        with tempfile.TemporaryDirectory() as name:
            outcomes += inject(work, Path(name), arguments.stops)
    names = [work.name for work in WORKS]
    outcomes = sorted(measured(arguments.out, arguments.works) + outcomes, key=lambda o: names.index(o.work))
    bad = [o for o in outcomes if o.verdict not in GOOD]
    rows = [{name: value for name, value in o._asdict().items() if name != "said"} for o in outcomes]
    results.write_json(arguments.out / "results.json", {"outcomes": rows})
    command = shlex.join(["python", "-m", "tests.faults", *sys.argv[1:]])
    results.write_json(arguments.out / "run.json", results.run_info(command, began))
    results.write_text(arguments.out / "table.md", table(outcomes))
    print(table(outcomes))
    for outcome in bad:
        print(f"{outcome.work}, {outcome.fault}, {outcome.place}: {outcome.verdict}: {outcome.said}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
