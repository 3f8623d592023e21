"""Training runs in child processes that are killed with SIGKILL; the last child runs to its end. For `test_resume`.

Prints the first and the last step that each child reported, as JSON by method. The last child writes the result.
"""

import importlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from dar_ref.toy.config import RunConfig
from dar_ref.toy.start import load_start
from tests.small_start import SMALL

module = importlib.import_module("dar_ref.toy.train")  # the package's `train` is its function
SAVE_EVERY = 2
CONFIGS = {
    "dar": RunConfig(
        method="dar",
        steps=30,
        batch_prompts=4,
        learning_rate=1e-3,
        evaluate_every=5,
        updates_per_rollout=2,
        epochs_per_rollout=2,
    ),
    "ppo": RunConfig(
        method="ppo", steps=60, batch_prompts=4, learning_rate=1e-3, evaluate_every=10, updates_per_rollout=2
    ),
}


def write_result(run, out):
    """The result of a run: its records as text, its weights as bytes."""
    out.with_suffix(".json").write_text(json.dumps([run.rollouts, run.evaluations, run.diverged]))
    out.with_suffix(".bin").write_bytes(b"".join(x.detach().numpy().tobytes() for x in run.policy.parameters()))


def child(start, config, checkpoint, out, pipe):
    """Train, report every step, write the result."""
    run = module.train(start, config, checkpoint, on_step=lambda step: os.write(pipe, f"{step}\n".encode()))
    write_result(run, out)


def leg(start, config, checkpoint, out, reports, delay):
    """Run one child and kill it `delay` seconds after report number `reports`, or never. Return its reported steps."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        child(start, config, checkpoint, out, writer)
        os._exit(0)
    os.close(writer)
    steps = []
    with os.fdopen(reader) as lines:
        for line in lines:
            steps.append(int(line))
            if len(steps) == reports:
                time.sleep(delay)
                os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    return {"first": steps[0], "last": steps[-1], "killed": killed, "exit": os.waitstatus_to_exitcode(status)}


def legs(start, method, rng, out):
    """Three kills at random points, then a run to the end."""
    points = [(rng.randint(3, 6), rng.uniform(0.0, 0.02)) for _ in range(3)]
    checkpoint = out.with_suffix(".checkpoint")
    return [leg(start, CONFIGS[method], checkpoint, out, *point) for point in [*points, (None, 0.0)]]


def main(folder, out, seed):
    """Run all configurations, one after the other."""
    module.SAVE_EVERY = SAVE_EVERY
    start, rng = load_start(SMALL, folder), random.Random(seed)
    print(json.dumps({method: legs(start, method, rng, out / method) for method in CONFIGS}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
