"""A kill or a full disk at any operation of a save leaves a whole checkpoint, and no policy beside another run's
results."""

import errno
import itertools
import json
import resource
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file

from dar_ref.cli import main
from dar_ref.llm import folder as run_folder
from dar_ref.llm import train
from dar_ref.llm.checkpoint import MARK, last_checkpoint
from dar_ref.llm.keeper import Keeper
from dar_ref.llm.options import options_as_json
from tests.file_faults import stopped_at
from tests.llm.training import options

SAVED = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 1}


def full_disk():
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("lora", [None, {"r": 2, "alpha": 4}], ids=["full", "lora"])
@pytest.mark.parametrize("stop", ["kill", "full disk"])
def test_one_whole_checkpoint_is_always_left(exported, tmp_path, lora, stop):
    """The save of step 4 in a folder with the checkpoint of step 2, stopped at each of its operations in turn."""
    done = train.train(options(exported, lora=lora, training={**SAVED, "max_steps": 2}), tmp_path / "run")
    trainer, folder = done.trainer, tmp_path / "run" / "checkpoints"
    (keeper,) = (c for c in trainer.callback_handler.callbacks if isinstance(c, Keeper))
    trainer.state.global_step = 4
    shutil.copytree(folder, tmp_path / "before")
    newest = []
    for at in itertools.count(1):
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "before", folder)
        try:
            with stopped_at(at, *[full_disk] * (stop == "full disk")) as stopped:
                keeper.on_step_end(trainer.args, trainer.state, trainer.control)
                trainer._save_checkpoint(trainer.model, None)
                trainer.callback_handler.on_save(trainer.args, trainer.state, trainer.control)
        except OSError:
            stopped.append(True)
        last, where = last_checkpoint(folder, keeper.mark)
        newest.append(last.name)
        assert "goes on from" in where
        if not stopped:
            break
    assert sorted(newest) == newest  # first the old one, then the new one
    assert len(newest) > 20
    assert 3 < newest.count("checkpoint-2") < len(newest) - 3
    assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-4"]


def test_what_a_kill_left_of_an_old_checkpoint_goes_with_the_next_save(exported, tmp_path):
    done = train.train(options(exported, training={**SAVED, "max_steps": 2}), tmp_path)
    folder = tmp_path / "checkpoints"
    shutil.copytree(folder / "checkpoint-2", folder / "checkpoint-1.removed")
    shutil.copytree(folder / "checkpoint-2", folder / "checkpoint-4")
    (folder / "checkpoint-4" / MARK).unlink()  # cut off, with a file that no later run writes
    (folder / "checkpoint-4" / "adapter_model.safetensors").write_bytes(b"")
    train.train(options(exported, training={**SAVED, "max_steps": 4}), tmp_path, resume=True)
    assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-4"]
    assert not (folder / "checkpoint-4" / "adapter_model.safetensors").exists()
    assert done.trainer.state.global_step == 2


def test_a_full_disk_is_one_line_and_the_run_goes_on(exported, tmp_path, capsys, monkeypatch):
    """Every file of more than 20 kB fails, in whatever language it is written."""
    file = tmp_path / "run.yaml"
    file.write_text(json.dumps(options_as_json(options(exported, training={**SAVED, "max_steps": 4}))))
    arguments = ["train", "--config", str(file), "--out"]
    assert main([*arguments, str(tmp_path / "whole")]) == 0
    usual, limits = Keeper.on_step_end, resource.getrlimit(resource.RLIMIT_FSIZE)

    def fills(self, args, state, control, **rest):
        usual(self, args, state, control, **rest)
        if state.global_step == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "on_step_end", fills)
        try:
            assert main([*arguments, str(tmp_path / "run")]) == 2
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    said = capsys.readouterr().err.splitlines()
    assert "File too large" in said[-1]
    assert "a checkpoint or the policy cannot be written" in said[-1]
    assert main([*arguments, str(tmp_path / "run"), "--resume"]) == 0
    assert "goes on from" in capsys.readouterr().err
    files = [tmp_path / name / "policy" / "model.safetensors" for name in ("whole", "run")]
    assert files[0].read_bytes() == files[1].read_bytes()


class Written:
    """A trainer that is done: its policy is a text."""

    def __init__(self, steps, folder):
        self.state = SimpleNamespace(global_step=steps, log_history=[])
        self.args = SimpleNamespace(output_dir=str(folder))

    def is_world_process_zero(self):
        return True

    def save_model(self, folder):
        Path(folder).mkdir()
        (Path(folder) / "weights").write_text(str(self.state.global_step))

    def create_model_card(self, **_):
        (Path(self.args.output_dir) / "README.md").write_text("card")


def test_a_kill_leaves_no_policy_beside_the_results_of_another_run(exported, tmp_path):
    chosen, seen = options(exported), set()
    for at in itertools.count(1):
        out = tmp_path / str(at)
        out.mkdir()
        for steps in (2, 4):
            with stopped_at(at if steps == 4 else 10**6) as killed:
                keeper = SimpleNamespace(stopped=False, mark={"sha256": "0"})
                summary = SimpleNamespace(left_out={})
                train._write(Written(steps, tmp_path), chosen, out, summary, keeper, (f"{steps} steps", 0.0))
        results, policy, run = (out / name for name in ("results.json", "policy/weights", "run.json"))
        trio = (
            json.loads(results.read_text())["steps"] if results.exists() else None,
            int(policy.read_text()) if policy.exists() else None,
            json.loads(run.read_text())["command"],
        )
        assert trio[0] in (None, trio[1])
        assert trio[0] is None or trio[2].startswith(str(trio[0]))
        seen.add(trio)
        if not killed:
            break
    assert {(2, 2, "2 steps"), (4, 4, "4 steps")} < seen


def test_a_run_that_is_stopped_keeps_what_a_shorter_one_has_finished(exported, tmp_path, monkeypatch, capsys):
    train.train(options(exported, training={**SAVED, "max_steps": 2}), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.glob("*.json")} | {"w": weights(tmp_path)}
    usual = Keeper.on_step_begin

    def stops(self, *rest, **others):
        self.stopped = True  # as SIGTERM does
        return usual(self, *rest, **others)

    monkeypatch.setattr(Keeper, "on_step_begin", stops)
    longer = options(exported, training={**SAVED, "max_steps": 6})
    assert train.train(longer, tmp_path, resume=True).stopped
    assert "keeps the policy and the results of the shorter run" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in tmp_path.glob("*.json")} | {"w": weights(tmp_path)}
    assert [path.name for path in tmp_path.glob("checkpoints/checkpoint-*")] == ["checkpoint-3"]


def weights(out):
    return {name: tensor.sum().item() for name, tensor in load_file(out / "policy" / "model.safetensors").items()}


def test_two_runs_in_one_folder(exported, tmp_path):
    chosen = options(exported, training={**SAVED, "max_steps": 2})
    with run_folder.held(tmp_path, resume=False), pytest.raises(ValueError, match=r"process \d+ on .* wait until it"):
        train.train(chosen, tmp_path)
    train.train(chosen, tmp_path)
    assert not (tmp_path / ".lock").exists()


def test_weights_that_a_killed_run_had_drawn_are_not_those_of_another_seed(exported, tmp_path):
    def pi_0(out, seed):
        chosen = options(exported, model={"random_init": True}, training={"max_steps": 1, "seed": seed})
        train.train(chosen, out)
        return (out / "pi_0" / "model.safetensors").read_bytes()

    first, other = (pi_0(tmp_path / str(seed), seed) for seed in (1, 2))
    shutil.copytree(tmp_path / "1" / "pi_0", tmp_path / "again" / "pi_0")  # killed before its first checkpoint
    assert pi_0(tmp_path / "again", 2) == other != first
