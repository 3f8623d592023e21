"""What helps against a missing EOS: the toy run as it stands and with two options, five seeds each.

    dar-ref toy export out/toy/export
    python docs/missing_eos.py out/missing-eos

Does the runs that are missing in the folder, then writes results.json, run.json and table.md to
docs/results/missing-eos.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from dar_ref import results
from dar_ref.evaluation import student

HERE = Path(__file__).parent / "results" / "missing-eos"
SEEDS = range(5)
SETTINGS: dict[str, list[str]] = {
    "as-it-is": [],
    "penalty": ["reward.missing_eos_penalty=1"],
    "masked": ["generation.mask_truncated_completions=true"],
}
LOGGED = {
    "completions/clipped_ratio": "no EOS",
    "completions/mean_length": "length",
    "kl/pi_0_k1": "KL to pi_0",
}


def train(folder: Path, name: str, seed: int) -> Path:
    """The folder of one run, done now if it is missing."""
    out = folder / f"{name}-{seed}"
    if not (out / "policy").is_dir():
        options = [f"training.seed={seed}", *SETTINGS[name]]
        command = [sys.executable, "-m", "dar_ref.llm.train", "--config", "toy_cpu", "--out", str(out), *options]
        subprocess.run(command, check=True)
    return out


def last_logged(out: Path) -> dict[str, float]:
    """The last line of a run's log."""
    log = json.loads((out / "results.json").read_text(encoding="utf-8"))["log"]
    last = [row for row in log if "loss" in row][-1]
    return {key: last[key] for key in ("step", *LOGGED)}


def table(content: dict[str, Any]) -> str:
    """Mean over seeds and Student's interval, in Markdown."""
    lines = ["| run | " + " | ".join(LOGGED.values()) + " |", "| --- |" + " ---: |" * len(LOGGED)]
    for name, rows in content.items():
        title = f"`{SETTINGS[name][0]}`" if SETTINGS[name] else "`toy_cpu` as it stands"
        intervals = [student([row[key] for row in rows]) for key in LOGGED]
        lines.append(
            f"| {title} | " + " | ".join(f"{i.estimate:.2f} [{i.low:.2f}, {i.high:.2f}]" for i in intervals) + " |"
        )
    return "\n".join(lines) + "\n"


def main(folder: Path) -> None:
    """Write docs/results/missing-eos."""
    outs = {name: [train(folder, name, seed) for seed in SEEDS] for name in SETTINGS}
    content = {name: [last_logged(out) for out in runs] for name, runs in outs.items()}
    info = json.loads((outs["as-it-is"][0] / "run.json").read_text(encoding="utf-8"))
    results.write_json(HERE / "results.json", content)
    results.write_json(HERE / "run.json", {k: v for k, v in info.items() if k not in ("times", "summary")})
    results.write_text(HERE / "table.md", table(content))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
