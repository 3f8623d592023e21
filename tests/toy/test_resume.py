"""A run that was killed at any moment can be resumed, and ends with the same bytes as one that never stopped."""

import errno
import importlib
import itertools
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dar_ref.toy.config import RunConfig
from dar_ref.toy.train import train
from tests.file_faults import stopped_at
from tests.toy.killed import CONFIGS, write_result
from tests.toy.reference import perturbed

module = importlib.import_module("dar_ref.toy.train")  # the package's `train` is its function
ROOT = Path(__file__).parents[2]
SHORT = RunConfig(steps=6, batch_prompts=4, learning_rate=1e-3, evaluate_every=3)


def difference(pi_t, pi, _config):
    """An observer: the largest change of a weight in the updates of one rollout."""
    pairs = zip(pi_t.parameters(), pi.parameters(), strict=True)
    return {"difference": max((one - other).abs().max().item() for one, other in pairs)}


def test_three_kills_change_no_byte(start, folder, tmp_path):
    command = [sys.executable, "-m", "tests.toy.killed", folder, tmp_path, "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    for method, legs in json.loads(done.stdout).items():
        config = CONFIGS[method]
        assert [leg["killed"] for leg in legs] == [True, True, True, False]
        assert legs[-1]["exit"] == 0
        assert legs[-1]["last"] == config.steps
        for before, after in itertools.pairwise(legs):
            assert legs[0]["first"] < after["first"] <= before["last"] + 2 * config.minibatches  # it resumed
        write_result(train(start, config), tmp_path / f"{method}_whole")
        for suffix in ("json", "bin"):
            whole = (tmp_path / f"{method}_whole.{suffix}").read_bytes()
            assert (tmp_path / f"{method}.{suffix}").read_bytes() == whole
            assert len(whole) > 1000


@pytest.mark.parametrize("method", ["dar", "ppo", "dpo", "best_of_n"])
def test_a_run_cut_off_by_an_exception_goes_on(start, tmp_path, monkeypatch, method):
    monkeypatch.setattr(module, "SAVE_EVERY", 2)
    config, seen = replace(SHORT, method=method, optimizer="sgd"), []

    def stop(step):
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(start, config, tmp_path / "state", on_step=stop, observer=difference)
    resumed = train(start, config, tmp_path / "state", on_step=seen.append, observer=difference)
    whole = train(start, config, observer=difference)
    assert seen == [5, 6]
    assert [row["step"] for row in whole.observations] == [0, 3, 6]
    assert whole.observations[0]["difference"] == 0.0 < whole.observations[1]["difference"]
    assert resumed[1:] == whole[1:]
    for one, other in zip(resumed.policy.parameters(), whole.policy.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_finished_run_is_not_run_again(start, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SAVE_EVERY", 3)
    first = train(start, SHORT, tmp_path / "state")
    again = train(start, SHORT, tmp_path / "state", on_step=pytest.fail)
    assert again[1:] == first[1:]


def test_a_checkpoint_of_another_run_is_refused(start, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SAVE_EVERY", 1)
    path = tmp_path / "state"
    train(start, SHORT, path)
    other_start = replace(start, pi_0=perturbed(start.pi_0, 1e-3).requires_grad_(False))
    for other, config in ((start, replace(SHORT, beta=0.06)), (start, replace(SHORT, seed=1)), (other_start, SHORT)):
        with pytest.raises(ValueError, match=r"belongs to a run with another configuration, start, .*; pass"):
            train(other, config, path, on_step=pytest.fail)


def of_length(_prompts, responses, _ended):
    return [len(words) for words in responses]


def of_brevity(_prompts, responses, _ended):
    return [-len(words) for words in responses]


@pytest.mark.parametrize("other", [of_brevity, None, len])
def test_a_checkpoint_of_another_reward_function_is_refused(start, tmp_path, monkeypatch, other):
    monkeypatch.setattr(module, "SAVE_EVERY", 1)
    train(start, SHORT, tmp_path / "state", reward=of_length)
    with pytest.raises(ValueError, match="belongs to a run with another configuration, start"):
        train(start, SHORT, tmp_path / "state", reward=other, on_step=pytest.fail)
    assert train(start, SHORT, tmp_path / "state", reward=of_length).diverged is None


def test_a_half_written_checkpoint_is_not_read(start, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SAVE_EVERY", 2)
    path = tmp_path / "state"

    def half(content, target):
        torch_save(content, target)
        target.write_bytes(target.read_bytes()[:100])
        raise KeyboardInterrupt

    torch_save = torch.save
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", half)
        with pytest.raises(KeyboardInterrupt):
            train(start, SHORT, path)
    assert not path.exists()
    assert train(start, SHORT, path)[1:] == train(start, SHORT)[1:]
    assert [file.name for file in tmp_path.iterdir()] == ["state"]


@pytest.mark.parametrize("stop", ["kill", "full disk"])
def test_the_state_is_the_old_one_or_the_new_one_at_every_operation_of_a_save(start, tmp_path, stop):
    path, written = tmp_path / "state", []
    for at in itertools.count(1):
        state = module.State(start, SHORT)
        state.save(path)
        state.step = 3
        try:
            with stopped_at(at, *[full_disk] * (stop == "full disk")) as stopped:
                state.save(path)
        except OSError:
            stopped.append(True)
        state.load(path)
        written.append(state.step)
        if not stopped:
            break
    assert written == sorted(written)
    assert set(written) == {0, 3}


def full_disk():
    raise OSError(errno.ENOSPC, "No space left on device")


class Attack:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize("damage", ["empty", "cut", "garbage", "a list", "code", "a part is missing"])
def test_a_damaged_checkpoint_is_named_and_refused(start, tmp_path, monkeypatch, damage):
    monkeypatch.setattr(module, "SAVE_EVERY", 2)
    path = tmp_path / "state"
    train(start, SHORT, path)
    good = path.read_bytes()
    if damage in ("empty", "cut", "garbage"):
        path.write_bytes({"empty": b"", "cut": good[: len(good) // 2], "garbage": b"\x01" * 500}[damage])
    else:
        content = torch.load(path, weights_only=True)
        content.pop("optimizer")
        other = {"a list": [1], "code": {"run": Attack(tmp_path / "ran")}, "a part is missing": content}
        torch.save(other[damage], path)
    with pytest.raises(ValueError, match=r"state (is damaged or none|lacks a part).* delete this one to start again"):
        train(start, SHORT, path, on_step=pytest.fail)
    assert not (tmp_path / "ran").exists()
