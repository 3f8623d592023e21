"""The hacking panel of a run, from the log that it wrote: one verdict, and what to draw.

Reads `results.json` of `dar-ref train` (the metrics of every logged step; the proxy is the reward, and there is no
gold) and of `dar-ref toy run` (evaluations with both rewards).
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from dar_ref.evaluation import HackingVerdict, hacking_verdict

OF_TRAIN = {  # name in the verdict -> name in the log
    "proxy": "reward",
    "proxy_std": "reward_std",
    "kl": "kl/pi_0_k1",
    "length": "completions/mean_length",
    "missing_eos": "completions/clipped_ratio",
}
OF_TOY = {
    name: name for name in ("proxy", "proxy_std", "gold", "gold_std", "kl", "length", "missing_eos", "repetition")
}
TITLES = {
    "proxy": "proxy reward",
    "gold": "gold reward",
    "kl": "KL to pi_0, nats",
    "length": "tokens",
    "missing_eos": "share without an end",
    "repetition": "share of repeated 4-grams",
}


class RunLog(NamedTuple):
    """steps, and the series by name; verdict: on them."""

    steps: list[int]
    series: dict[str, list[float]]
    verdict: HackingVerdict

    def content(self) -> dict[str, Any]:
        """For results.json."""
        signs = [sign._asdict() for sign in self.verdict.signs]
        return {"verdict": self.verdict.verdict, "reason": self.verdict.reason, "signs": signs}


def read_log(folder: Path) -> RunLog:
    """The log of the run that wrote `folder`; metrics that were not logged at every step are left out.

    Raises:
        OSError: no results.json.
        ValueError: it is not a run's, or lacks what the verdict needs.
    """
    file = folder / "results.json"
    if not file.is_file():
        raise FileNotFoundError(f"{folder} holds no results.json; pass the folder of a run that has finished")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        toy = "evaluations" in content
        rows = content["evaluations"] if toy else [row for row in content["log"] if "reward" in row]
        names = OF_TOY if toy else OF_TRAIN
        series = {name: [row[key] for row in rows] for name, key in names.items() if all(key in row for row in rows)}
        steps = [row["step"] for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is no log of a run ({error!r}); pass a folder of dar-ref train") from None
    if not rows:
        raise ValueError(f"{file}: no line of its log has a reward; dpo, dar_offline and online_dpo log none")
    try:
        return RunLog(steps, series, hacking_verdict(series))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file}: {error}") from None


class Panels(NamedTuple):
    """What to draw of a log, the arguments of `dar_ref.plots.panels_figure`: `levels` are the verdict's thresholds."""

    x: list[int]
    panels: dict[str, list[float]]
    xlabel: str
    title: str
    levels: dict[str, float]


def panels_of(log: RunLog, name: str) -> Panels:
    """The series of a run of that name, and what the verdict compares them with."""
    panels = {title: log.series[key] for key, title in TITLES.items() if key in log.series}
    heights = {TITLES[sign.name]: sign.level for sign in log.verdict.signs}
    title = f"{name}: {log.verdict.verdict} ({log.verdict.reason}); dashed: thresholds"
    return Panels(log.steps, panels, "step", title, heights)
