"""Two processes that keep unequal numbers of completions run equally many forwards, and train the weights of one."""

import json
import os
import subprocess
import sys

import pytest
from safetensors.torch import load_file

from tests.llm.test_two_processes import distance

STEPS, LIMIT = 3, 1e-5


@pytest.fixture(scope="module")
def written(exported, tmp_path_factory):
    """The folder that one process and two processes have written to."""
    out = tmp_path_factory.mktemp("lean")
    script = ["-m", "tests.llm.two_lean", str(exported)]
    several = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0", "--standalone"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    for command in ([*script, str(out / "one"), str(STEPS)], [*several, *script, str(out / "two"), str(STEPS)]):
        done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, done.stderr[-3000:]
    return out


def read(written, name):
    return json.loads((written / f"{name}.json").read_text(encoding="utf-8"))


def test_both_run_the_same_number_of_forwards(written):
    ranks = [read(written, "two.0"), read(written, "two.1")]
    for kind in ("score", "update"):
        assert len(ranks[0][kind]) == len(ranks[1][kind]) > 0
        assert sum(ranks[0][kind]) > 1.5 * sum(ranks[1][kind])


def test_they_train_the_weights_of_one(written, exported):
    one, two = (load_file(written / name) for name in ("one", "two"))
    pi_0 = load_file(exported / "policy" / "model.safetensors")
    assert distance(one, {name: pi_0[name] for name in one}) > 100 * LIMIT
    assert distance(one, two) <= LIMIT


def test_they_leave_out_what_one_leaves_out_and_log_the_same(written):
    logs = [read(written, name)["log"] for name in ("one.0", "two.0")]
    names = [name for name in logs[0][0] if name.startswith(("skipped/", "weight/", "kl/", "entropy"))]
    assert {"skipped/update", "weight/ess", "kl/pi_0_k1", "entropy"} <= set(names)
    for one, two in zip(*logs, strict=True):
        expected = {name: one[name] for name in names}
        assert {name: two[name] for name in names} == pytest.approx(expected, rel=1e-3, abs=1e-5)
        assert 0.2 < one["skipped/update"] < 0.5
