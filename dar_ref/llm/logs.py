"""What a run prints, and which file keeps which part of its log.

As everywhere in this package, `results.json` holds what the seed determines. `run.json` holds the times and the summary
that transformers writes at the end of a log.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import ProgressCallback
from transformers.trainer_callback import PrinterCallback

SHOWN = {  # metrics that are printed, and their short names; each method logs some of them
    "loss": "loss",
    "reward": "reward",
    "objective/scores": "reward",
    "rewards/accuracies": "accuracy",
    "rewards/margins": "margin",
    "weight/ess": "ESS",
    "weight/clipped": "clipped",
    "kl/pi_0_k1": "KL",
    "kl": "KL a token",
    "entropy": "entropy",
    "completions/mean_length": "length",
    "completions/clipped_ratio": "no EOS",
    "val/contain_eos_token": "EOS",
    "tokens_per_second": "tok/s",
}
TIMES = ("seconds/", "tokens_per_second", "step_time")
USELESS = (  # figure, its value if a step teaches nothing, what that means
    ("learning_rate", 0.0, "the learning rate was 0"),
    ("completions/excluded", 1.0, "no completion counted, for want of a reward or of an end"),
    ("frac_reward_zero_std", 1.0, "all completions of a prompt had the same reward"),
    ("objective/scores_margin", 0.0, "both completions of each prompt had the same reward"),  # TRL's online DPO
)
OF_SUMMARY = "train_runtime"


def split_log(history: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows that the seed determines, and the rest: times per step, and the summary."""
    rows, times, summary = [], [], {}
    for row in history:
        kept = {name: _finite(value) for name, value in row.items()}
        if OF_SUMMARY in row:
            summary = kept
            continue
        is_time = {name: name.startswith(TIMES) or name.endswith(("_runtime", "_per_second")) for name in kept}
        rows.append({name: value for name, value in kept.items() if not is_time[name]})
        if any(is_time.values()):
            times.append({name: value for name, value in kept.items() if is_time[name] or name == "step"})
    return rows, {"times": times, "summary": summary}


def nothing_learned(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Why a run cannot have learned anything, from the rows of its log; None if it may have."""
    for name, useless, reason in USELESS:
        logged = [row[name] for row in rows if name in row]
        if logged and all(value == useless for value in logged):
            return f"{reason} ({name} = {useless:g}) in each of the {len(logged)} logged steps"
    return None


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def short_line(step: int, logs: Mapping[str, Any] | None) -> str | None:
    """The few metrics of a log that tell whether a run is healthy; None if it has none of them."""
    shown = [f"{title} {logs[name]:.4g}" for name, title in SHOWN.items() if logs and logs.get(name) is not None]
    return f"step {step}: " + ", ".join(shown) if shown else None


class Bar(ProgressCallback):  # type: ignore[misc]
    """A progress bar, with a short line above it for every log."""

    def on_log(self, _args: Any, state: Any, _control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Write the line."""
        if self.training_bar is not None and (line := short_line(state.global_step, logs)):
            self.training_bar.write(line)


class Lines(PrinterCallback):  # type: ignore[misc]
    """A short line for every log, without a bar: for `training.disable_tqdm`."""

    def on_log(self, _args: Any, state: Any, _control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """Print the line."""
        if state.is_world_process_zero and (line := short_line(state.global_step, logs)):
            print(line, flush=True)


def show_short_lines(trainer: Any) -> None:
    """Let `Bar` or `Lines` replace what transformers prints, which is every metric in one line."""
    usual, ours = (PrinterCallback, Lines) if trainer.args.disable_tqdm else (ProgressCallback, Bar)
    trainer.remove_callback(usual)
    trainer.add_callback(ours())
