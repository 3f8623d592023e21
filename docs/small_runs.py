"""Two small tables of pages: the first command of the toy engine, and what helps against a missing EOS.

    dar-ref toy run --task tldr --method dar --out out/small/proxy
    dar-ref toy run --task tldr --method dar --out out/small/gold reward=gold
    dar-ref toy export out/toy/export
    dar-ref train --config toy_cpu --out out/small/as-it-is
    dar-ref train --config toy_cpu --out out/small/penalty reward.missing_eos_penalty=1
    dar-ref train --config toy_cpu --out out/small/masked generation.mask_truncated_completions=true
    python docs/small_runs.py out/small

One seed each. Writes results.json, run.json and table.md to docs/results/one-run and docs/results/missing-eos.
"""

import json
import sys
from pathlib import Path
from typing import Any

from dar_ref import results

HERE = Path(__file__).parent / "results"
ONE_RUN = {"proxy": "as it stands", "gold": "`reward=gold`"}
MISSING_EOS = {
    "as-it-is": "`toy_cpu` as it stands",
    "penalty": "`reward.missing_eos_penalty=1`",
    "masked": "`generation.mask_truncated_completions=true`",
}
EVALUATED = {
    "proxy": "proxy",
    "gold": "gold",
    "win_rate": "win rate",
    "length": "length",
    "missing_eos": "no EOS",
    "kl": "KL to pi_0",
}
LOGGED = {
    "completions/clipped_ratio": "no EOS",
    "completions/mean_length": "length",
    "kl/pi_0_k1": "KL to pi_0",
}


def read(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def one_run_table(content: dict[str, Any]) -> str:
    """The figures of the two toy runs, before and after, in Markdown."""
    columns = {"before": content["proxy"][0]}
    columns |= {f"after, {title}": content[name][-1] for name, title in ONE_RUN.items()}
    lines = ["| | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for key, title in EVALUATED.items():
        lines += [f"| {title} | " + " | ".join(f"{figures[key]:.3f}" for figures in columns.values()) + " |"]
    return "\n".join(lines) + "\n"


def missing_eos_table(content: dict[str, Any]) -> str:
    """The last line of the log of the three runs, in Markdown."""
    lines = ["| run | " + " | ".join(LOGGED.values()) + " |", "| --- |" + " ---: |" * len(LOGGED)]
    for name, title in MISSING_EOS.items():
        last = content[name][-1]
        lines += [f"| {title} | " + " | ".join(f"{last[key]:.3f}" for key in LOGGED) + " |"]
    return "\n".join(lines) + "\n"


def main(folder: Path) -> None:
    """Write both folders of docs/results from the folders of the runs."""
    evaluated = {name: read(folder / name / "results.json")["evaluations"] for name in ONE_RUN}
    kept = {name: [{key: row[key] for key in ("step", *EVALUATED)} for row in rows] for name, rows in evaluated.items()}
    logs = {name: read(folder / name / "results.json")["log"] for name in MISSING_EOS}
    rows = {name: [{k: r[k] for k in ("step", *LOGGED)} for r in log if "loss" in r] for name, log in logs.items()}
    for name, content, table in (
        ("one-run", kept, one_run_table(kept)),
        ("missing-eos", rows, missing_eos_table(rows)),
    ):
        infos = {one: read(folder / one / "run.json") for one in content}
        infos = {one: {k: v for k, v in info.items() if k not in ("times", "summary")} for one, info in infos.items()}
        results.write_json(HERE / name / "results.json", content)
        results.write_json(HERE / name / "run.json", infos)
        results.write_text(HERE / name / "table.md", table)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
