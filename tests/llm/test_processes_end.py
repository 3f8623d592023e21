"""One of two processes fails while the other waits for it: both end, with the message, within a stated time.

Those that are still there end at once, because their connection breaks; a process that hangs ends the others after
`training.ddp_timeout`, and torchrun ends itself 30 s later.
"""

import json
import os
import subprocess
import sys
import time

import pytest

from dar_ref import results
from dar_ref.llm.options import options_as_json
from tests.llm.training import options

TIMEOUT = 15  # seconds that a process waits for another
AT_ONCE, TORCHRUN = 30.0, 30.0  # seconds: on a busy machine; and until torchrun kills what does not end
LOST = "process 0 of 2: another process of this run ended, which says why itself, or did not answer within"


def two_processes(folder):
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone", "--master_port", "0"]
    script = ["-m", "dar_ref.llm.train", "--config", str(folder / "run.yaml"), "--out", str(folder / "out")]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, *launcher, *script]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize(
    ("fault", "within", "said"),
    [
        ("raises", AT_ONCE, "process 1 of 2: reward function tests.llm.faulty_reward:raises failed with ZeroDivision"),
        pytest.param("memory", AT_ONCE, "failed with MemoryError", marks=pytest.mark.slow),
        pytest.param("exits", AT_ONCE, "failed with SystemExit: 0", marks=pytest.mark.slow),
        pytest.param("killed", AT_ONCE, "Signal 9 (SIGKILL)", marks=pytest.mark.slow),
        pytest.param("hangs", AT_ONCE + TORCHRUN + TIMEOUT, LOST, marks=pytest.mark.slow),
        pytest.param("frozen", AT_ONCE + TORCHRUN + TIMEOUT, LOST, marks=pytest.mark.slow),
    ],
)
def test_one_of_two_processes_ends_both(exported, tmp_path, fault, within, said):
    content = options_as_json(options(exported, training={"max_steps": 8, "ddp_timeout": TIMEOUT}))
    content["reward"]["name"] = f"tests.llm.faulty_reward:{fault}"
    (tmp_path / "run.yaml").write_text(json.dumps(content))
    done = two_processes(tmp_path)
    took = time.time() - float(done.stdout.partition("fault at ")[2].split()[0])
    assert done.returncode != 0
    assert said in done.stderr
    assert took < within, f"{took:.1f} s"
    print(f"{fault}: both ended {took:.1f} s after it")
    assert not (tmp_path / "out" / "policy").exists()


@pytest.mark.slow
def test_both_processes_are_refused_in_a_folder_in_use(exported, tmp_path):
    (tmp_path / "run.yaml").write_text(json.dumps(options_as_json(options(exported, training={"max_steps": 1}))))
    with results.locked(tmp_path / "out"):
        done = two_processes(tmp_path)
    assert done.returncode != 0
    assert done.stderr.count("wait until it ends, or pass another --out") == 2
