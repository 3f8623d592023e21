"""A hacked run of the full-size script, and two remedies for a missing EOS: five seeds each, on the task `harmless`.

    python docs/missing_eos.py out/missing-eos

Exports the task, does the runs that are not in the folder yet, then writes results.json, run.json and table.md to
docs/results/missing-eos.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from dar_ref import results
from dar_ref.evaluation import student
from dar_ref.toy.tasks import TASKS

HERE = Path(__file__).parent / "results" / "missing-eos"
SEEDS = range(5)
SETTINGS: dict[str, list[str]] = {
    "as-it-is": [],
    "penalty": ["reward.missing_eos_penalty=1"],
    "masked": ["generation.mask_truncated_completions=true"],
}
LOGGED = {
    "reward": "reward",
    "completions/clipped_ratio": "no EOS",
    "completions/mean_length": "length",
    "kl/pi_0_k1": "KL to pi_0",
}


def command(export: Path, out: Path, name: str, seed: int) -> list[str]:
    """The arguments of `dar-ref` for one run."""
    paths = [
        f"model.name={export}/policy",
        f"reward.name={export}/reward_model",
        f"data.prompts={export}/prompts/train.jsonl",
        f"data.eval_prompts={export}/prompts/validation.jsonl",
        f"data.max_prompt_tokens={TASKS['harmless'].prompt_length}",  # the policy has no more positions
    ]
    return ["train", "--config", "toy_cpu", "--out", str(out), *paths, f"training.seed={seed}", *SETTINGS[name]]


def dar_ref(words: list[str]) -> None:
    """Call the command line.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    subprocess.run([sys.executable, "-m", "dar_ref.cli", *words], check=True)


def logged(out: Path) -> list[dict[str, float]]:
    """The logged metrics of each step of a run."""
    log = json.loads((out / "results.json").read_text(encoding="utf-8"))["log"]
    return [{key: row[key] for key in ("step", *LOGGED)} for row in log if "loss" in row]


def table(content: dict[str, Any]) -> str:
    """The last line of the log, mean over seeds and Student's interval, in Markdown."""
    lines = ["| run | " + " | ".join(LOGGED.values()) + " |", "| --- |" + " ---: |" * len(LOGGED)]
    for name in SETTINGS:
        title = f"`{SETTINGS[name][0]}`" if SETTINGS[name] else "`toy_cpu` as it stands"
        intervals = [student([rows[-1][key] for rows in content[name]]) for key in LOGGED]
        cells = [f"{i.estimate:z.2f} [{i.low:z.2f}, {i.high:z.2f}]" for i in intervals]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(folder: Path) -> None:
    """Write docs/results/missing-eos.

    Raises:
        ValueError: a run that was done before has other options.
    """
    export = folder / "export"
    if not (export / "start.json").exists():
        dar_ref(["toy", "export", str(export), "--task", "harmless"])
    outs = {name: [folder / f"{name}-{seed}" for seed in SEEDS] for name in SETTINGS}
    for name, runs in outs.items():
        for seed, out in zip(SEEDS, runs, strict=True):
            words = command(export, out, name, seed)
            if not (out / "policy").is_dir():
                dar_ref(words)
            done = json.loads((out / "run.json").read_text(encoding="utf-8"))["command"]
            if done.split()[4:] != [word for word in words if "=" in word]:
                raise ValueError(f"{out} is of another command ({done}); remove it, and it is made again")
    content = {name: [logged(out) for out in runs] for name, runs in outs.items()}
    info = json.loads((outs["as-it-is"][0] / "run.json").read_text(encoding="utf-8"))
    results.write_json(HERE / "results.json", content)
    results.write_json(HERE / "run.json", {k: v for k, v in info.items() if k not in ("times", "summary")})
    results.write_text(HERE / "table.md", table(content))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
