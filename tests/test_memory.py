"""Memory stays flat: no step of a long run keeps what it made.

The slope of the resident memory over the second half of a run, by least squares, in bytes per step. A leaked tensor of
the smallest batch here, 128 completions of 6 tokens in float32, would be 3 kB per step.
"""

from pathlib import Path

import numpy as np
import pytest
from transformers import TrainerCallback

from dar_ref.toy.config import RunConfig
from dar_ref.toy.train import train
from tests.llm.training import make_trainer
from tests.small_start import exported, start, toy_cache

__all__ = ["exported", "start", "toy_cache"]

TOY, SCRIPT = 1024, 64 * 1024  # bytes per step; the script logs every step to its state, about 5 kB


def resident():
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def slope(sizes):
    """Bytes per step over the second half."""
    half = np.asarray(sizes[len(sizes) // 2 :], dtype=float)
    return float(np.polyfit(np.arange(len(half)), half, 1)[0])


def test_a_leak_would_be_seen():
    assert slope([0] * 100 + [2 * TOY * step for step in range(100)]) == pytest.approx(2 * TOY)


@pytest.mark.slow
def test_2000_steps_of_the_toy_engine_keep_nothing(start):
    sizes = []
    config = RunConfig(steps=2000, batch_prompts=8, evaluate_every=2000)
    done = train(start, config, on_step=lambda _: sizes.append(resident()))
    assert len(sizes) == len(done.rollouts) == 2000
    assert slope(sizes) < TOY


@pytest.mark.slow
def test_200_steps_of_the_script_keep_nothing(exported, tmp_path):
    sizes = []

    class Watch(TrainerCallback):
        def on_step_end(self, *_args, **_named):
            sizes.append(resident())

    make_trainer(exported, tmp_path, training={"max_steps": 200}, callbacks=[Watch()]).train()
    assert len(sizes) == 200
    assert slope(sizes) < SCRIPT
