"""What may be another when a run goes on changes nothing; what changes something is refused, or said."""

import json

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
