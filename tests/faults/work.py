"""The work that faults are put into: each begins anew or goes on in its folder, and ends with files to compare."""

import contextlib
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dar_ref import cli
from dar_ref.llm import train
from dar_ref.llm.evaluate import judge, statistics
from dar_ref.llm.options import RewardOptions, options_as_json
from dar_ref.llm.rewards.endpoint import Endpoint
from dar_ref.llm.rewards.function import make_reward
from dar_ref.toy import commands
from dar_ref.toy.config import RunConfig
from dar_ref.toy.experiments import runner
from dar_ref.toy.experiments.runner import Job
from dar_ref.toy.start import load_start
from tests.llm.evaluate.setting import moved
from tests.llm.rewards.test_annotator import Stub, completion
from tests.llm.training import options
from tests.small_start import SMALL

SHORT = RunConfig(steps=4, batch_prompts=4, evaluate_every=2, updates_per_rollout=1)
SAVED = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 1, "max_steps": 4}
ASKED = 6  # completions that the endpoint scores


class Work(NamedTuple):
    """`prepare(folder)`: what is there before it begins; `do(folder)`: begin or go on, returns the exit status;
    `ended(folder)`: what the seed determines of its result, by name."""

    name: str
    prepare: Callable[[Path], None]
    do: Callable[[Path], int]
    ended: Callable[[Path], dict[str, Any]]


def files(folder: Path, *patterns: str) -> dict[str, Any]:
    """The bytes of the files that the seed determines; what a killed process left under a hidden name is never read."""
    found = sorted(path for pattern in patterns for path in folder.rglob(pattern) if path.is_file())
    names = {path: path.relative_to(folder) for path in found}
    return {
        str(name): path.read_bytes() for path, name in names.items() if not any(p.startswith(".") for p in name.parts)
    }


@contextlib.contextmanager
def small_starts():
    """The toy commands begin from the small start."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (commands, runner):
            patch.setattr(module, "start_config", lambda _task, _seed: SMALL)
        yield


# --- toy --------------------------------------------------------------------------------------------------------------


def _nothing(_folder: Path) -> None:
    pass


def _with_start(folder: Path) -> None:
    load_start(SMALL, folder / "cache")


def _toy_start(folder: Path) -> int:
    load_start(SMALL, folder / "cache")
    return 0


def _toy_run(folder: Path) -> int:
    with small_starts():
        return commands.run("tiny", SHORT, folder / "cache", folder / "out")


def _toy_export(folder: Path) -> int:
    with small_starts():
        return commands.export("tiny", 0, folder / "cache", folder / "out")


def _toy_job(folder: Path) -> int:
    with small_starts():
        runner.run_job(folder / "cache", Job("tiny", SHORT))
    return 0


# --- train ------------------------------------------------------------------------------------------------------------


def _run_file(lora: dict[str, int] | None) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        _with_start(folder)
        with small_starts():
            commands.export("tiny", 0, folder / "cache", folder / "exported")
        chosen = options_as_json(options(folder / "exported", lora=lora, training=SAVED))
        (folder / "run.yaml").write_text(json.dumps(chosen), encoding="utf-8")

    return prepare


def _train(folder: Path) -> int:
    return train.main(["--config", str(folder / "run.yaml"), "--out", str(folder / "out"), "--resume"])


# --- endpoint ---------------------------------------------------------------------------------------------------------


def _ask(folder: Path) -> int:
    """Score completions with a cache, and note what was paid for."""
    stub = Stub(lambda _number, request: (200, completion(str(1 + len(request["messages"][0]["content"]) % 5))))
    threading.Thread(target=stub.serve_forever, args=(0.01,), daemon=True).start()
    chosen = RewardOptions(
        kind="annotator",
        name="judge",
        base_url="http://127.0.0.1/v1",
        cache=str(folder / "cache"),
        logprobs=False,
        concurrency=1,
    )
    reward = make_reward(chosen, device="cpu", eos_token_ids=[9])
    client = reward._scorer.endpoint.client
    client.base_url = stub.address  # the port changes; the cache knows the address that was given
    prompts, answers = [f"question {i}" for i in range(ASKED)], ["word " * (i + 1) for i in range(ASKED)]
    scores = reward(prompts=prompts, completions=answers, completion_ids=[[1, 9]] * ASKED)
    with (folder / "paid").open("a", encoding="utf-8") as file:
        file.write(f"{len(stub.requests)}\n")
    (folder / "scores.json").write_text(json.dumps(scores), encoding="utf-8")
    stub.shutdown()
    return 0


# --- evaluate ---------------------------------------------------------------------------------------------------------


def _two_policies(folder: Path) -> None:
    _run_file(None)(folder)
    shutil.rmtree(folder / "cache")  # what the export was made from is damaged in works of its own
    moved(folder / "exported", folder / "other")
    stub = "http://127.0.0.1/v1"
    chosen = {"kind": "annotator", "name": "judge", "base_url": stub, "logprobs": False, "concurrency": 1}
    (folder / "judge").write_text(f"reward={json.dumps(chosen)}", encoding="utf-8")


def _evaluate(folder: Path) -> int:
    """Sample, judge by a language model and by a function, report; each step only if the one before it succeeded."""
    common = ["--config", folder / "run.yaml", "--out", folder / "out"]
    stub = Stub(_prefers_the_longer)
    threading.Thread(target=stub.serve_forever, args=(0.01,), daemon=True).start()
    steps = (
        ["generate", *common, "--policy", f"other={folder / 'other'}", "--batch-size", "2", "data.limit=6"],
        ["judge", *common, "--judge", "model", (folder / "judge").read_text(encoding="utf-8")],
        ["judge", *common, "--judge", "longer", "reward={kind: function, name: tests.llm.evaluate.setting:longer}"],
        ["report", folder / "out", "--out", folder / "report"],
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "RESAMPLES", 50)
        patch.setattr(judge, "CHUNK", 2)
        real = Endpoint.replies

        def answers(endpoint: Endpoint, *arguments: Any, **options: Any) -> Any:
            endpoint.client.base_url = stub.address  # the port changes; the cache knows the address that was given
            return real(endpoint, *arguments, **options)

        patch.setattr(Endpoint, "replies", answers)
        statuses = (cli.main(["evaluate", *map(str, step)]) for step in steps)
        status = next((status for status in statuses if status), 0)
    stub.shutdown()
    stub.server_close()
    return status


def _prefers_the_longer(_number: int, request: dict[str, Any]) -> tuple[int, Any]:
    text = request["messages"][0]["content"]
    a, b = (len(text.split(f"<<< answer {letter}\n")[1].split("\n>>>")[0]) for letter in "AB")
    return 200, completion("C" if a == b else "A" if a > b else "B")


def _evaluated(folder: Path) -> dict[str, Any]:
    rows = files(folder / "out", "completions/*.jsonl", "verdicts/*/*.jsonl")
    return rows | files(folder / "report", "results.json", "report.md", "*/*.json")


WORKS = (
    Work(
        "toy start", _nothing, _toy_start, lambda folder: files(folder / "cache", "*.safetensors", "comparisons.json")
    ),
    Work("toy run", _with_start, _toy_run, lambda folder: files(folder / "out", "results.json", "*.safetensors")),
    Work("toy export", _with_start, _toy_export, lambda folder: files(folder / "out", "*.jsonl", "*.safetensors")),
    Work(
        "one job of an experiment", _with_start, _toy_job, lambda folder: files(folder / "cache/runs", "results.json")
    ),
    Work("train", _run_file(None), _train, lambda folder: _of_train(folder / "out")),
    Work("train, LoRA", _run_file({"r": 2, "alpha": 4}), _train, lambda folder: _of_train(folder / "out")),
    Work("evaluate", _two_policies, _evaluate, _evaluated),
    Work("the endpoint", _nothing, _ask, lambda folder: files(folder, "scores.json")),
)


def _of_train(out: Path) -> dict[str, Any]:
    content = json.loads((out / "results.json").read_text(encoding="utf-8"))
    return {"log": content["log"], "steps": content["steps"], **files(out / "policy", "*.safetensors")}
