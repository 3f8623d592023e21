"""What may be another when a run goes on changes nothing; what changes something is refused, or said."""

import json
import sys

import pytest
import torch

from dar_ref.llm import train
from dar_ref.llm.options import make_options, options_as_json
from tests.llm.test_resume import assert_same, weights
from tests.llm.training import options

SAVED = {"save_strategy": "steps", "save_steps": 2}


@pytest.mark.parametrize("method", ["dar", "grpo", "rloo"])
def test_an_evaluation_changes_no_training(exported, tmp_path, method):
    content = options_as_json(options(exported, method))
    content["data"]["eval_prompts"] = str(exported / "prompts" / "validation.jsonl")
    evaluated = {"eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 8}
    train.train(make_options(content), tmp_path / "without")
    train.train(make_options(content | {"training": content["training"] | evaluated}), tmp_path / "with")
    log = json.loads((tmp_path / "with" / "results.json").read_text())["log"]
    assert sum("eval_reward" in row for row in log) == 3
    first, second = (weights(tmp_path / name)["model.safetensors"] for name in ("without", "with"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_line_of_the_log_loses_no_step_at_a_checkpoint(exported, tmp_path):
    """Lines at every third step, checkpoints at every second one."""
    rest = {**SAVED, "logging_steps": 3}
    train.train(options(exported, training={**rest, "max_steps": 6}), tmp_path / "whole")
    for steps in (2, 6):
        train.train(options(exported, training={**rest, "max_steps": steps}), tmp_path / "two", resume=steps == 6)
    assert_same(tmp_path / "two", tmp_path / "whole")


@pytest.mark.parametrize("change", ["dataloader_drop_last", "ignore_data_skip"])
def test_options_that_change_the_steps_are_refused(exported, tmp_path, change):
    rest = {**SAVED, "per_device_train_batch_size": 32}
    train.train(options(exported, "dpo", training={**rest, "max_steps": 2}), tmp_path / "run")
    longer = options(exported, "dpo", training={**rest, "max_steps": 4, change: True})
    with pytest.raises(ValueError, match=rf"training\.{change} = "):
        train.train(longer, tmp_path / "run", resume=True)


@pytest.mark.parametrize(("schedule", "said"), [("linear", True), ("constant", False)])
def test_a_schedule_for_another_number_of_steps_is_said(exported, tmp_path, capsys, schedule, said):
    for steps in (2, 4):
        chosen = options(exported, training={**SAVED, "lr_scheduler_type": schedule, "max_steps": steps})
        train.train(chosen, tmp_path / "run", resume=steps == 4)
    words = f"the schedule of the learning rate ({schedule}) was made for 2 steps and is for 4 now"
    assert (words in capsys.readouterr().err) == said


def test_other_arithmetic_is_said(exported, tmp_path, capsys):
    threads = torch.get_num_threads()
    train.train(options(exported, training={**SAVED, "max_steps": 2}), tmp_path / "run")
    try:
        torch.set_num_threads(threads + 1)
        train.train(options(exported, training={**SAVED, "max_steps": 4}), tmp_path / "run", resume=True)
    finally:
        torch.set_num_threads(threads)
    assert f"the arithmetic changed: threads {threads} there and {threads + 1} here" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["rows", "reward", "tokenizer", "pi_0"])
def test_processes_that_read_different_files_are_refused(exported, tmp_path, monkeypatch, name):
    monkeypatch.setattr(train, "gather_object", lambda found: [*found, {**found[0], name: "another"}])
    with pytest.raises(ValueError, match=f"the processes have different {name}: bring the same files"):
        train.train(options(exported), tmp_path / "out")


def test_a_run_of_another_kind_that_was_killed_is_not_written_over(exported, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"")  # of `dar-ref toy run`
    with pytest.raises(ValueError, match="holds what a run has written, and no checkpoints"):
        train.train(options(exported), tmp_path)
    assert not (tmp_path / "policy").exists()


READS = """
import importlib, json
from pathlib import Path
numbers = importlib.import_module("own" + "_numbers")
AT_ONCE = json.loads(Path("at_once.json").read_text())

def score(completion_ids, **_):
    later = json.loads(Path("later.json").read_text())
    return [float(sum(ids) % 5) * AT_ONCE + later * len(ids) + numbers.NUMBER for ids in completion_ids]
"""


@pytest.mark.parametrize("file", ["at_once.json", "later.json", "own_numbers.py", None])
def test_files_that_a_reward_reads_are_compared_and_said(exported, tmp_path, monkeypatch, capsys, file):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    written = {"own_reads.py": READS, "at_once.json": "1", "later.json": "2", "own_numbers.py": "NUMBER = 3"}
    for name, text in written.items():
        (tmp_path / name).write_text(text)
    for steps in (2, 4):
        for module in ("own_reads", "own_numbers"):
            monkeypatch.delitem(sys.modules, module, raising=False)
        content = options_as_json(options(exported, training={**SAVED, "max_steps": steps}))
        content["reward"]["name"] = "own_reads:score"
        train.train(make_options(content), tmp_path / "run", resume=steps == 4)
        if file:
            (tmp_path / file).write_text(written[file] + "0")
    said = capsys.readouterr().err
    assert ("the reward reads other files than it did" in said) == (file is not None)
    assert file is None or f"than it did: {tmp_path / file}" in said
    read = json.loads((tmp_path / "run" / "checkpoints" / "checkpoint-4" / "pi_0.json").read_text())["read"]
    assert {str(tmp_path / name) for name in written} <= set(read)
