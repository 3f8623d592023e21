"""Two processes equal one: the same global batch gives the same weights, since it is normalised as a whole."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

STEPS, LIMIT = 4, 1e-5


@pytest.fixture(scope="module")
def written(exported, tmp_path_factory):
    """The folder that one process and two processes have written to."""
    out = tmp_path_factory.mktemp("processes")
    script = ["-m", "tests.llm.two_processes", str(exported)]
    several = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0", "--standalone"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    for command in ([*script, str(out / "one"), str(STEPS)], [*several, *script, str(out / "two"), str(STEPS)]):
        done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.fixture(scope="module")
def weights(written):
    """Weights after `STEPS` steps of one process, of two, and of two that do not gather rewards."""
    return [load_file(written / name) for name in ("one", "two", "two.stubbed")]


def distance(first, second):
    return max((first[name] - second[name]).abs().max().item() for name in first)


def test_two_processes_train_the_weights_of_one(weights, exported):
    one, two, _ = weights
    assert distance(one, two) <= LIMIT
    pi_0 = load_file(exported / "policy" / "model.safetensors")
    assert distance(one, {name: pi_0[name] for name in one}) > 1000 * LIMIT


def test_without_the_gather_of_rewards_they_do_not(weights):
    one, _, stubbed = weights
    assert distance(one, stubbed) > 100 * LIMIT
    assert all(torch.isfinite(p).all() for p in stubbed.values())


@pytest.mark.parametrize("name", ["one", "two"])
def test_the_policy_is_saved_whole_and_its_tied_head_once(written, name):
    saved, weights = (load_file(written / file) for file in (f"{name}.policy/model.safetensors", name))
    assert set(saved) == set(weights)
    assert "lm_head.weight" not in saved
    assert all(torch.equal(saved[key], weights[key]) for key in weights)
