"""One very small start for the whole folder, made once: `tiny`, two layers of width 16."""

import pytest

from dar_ref.toy.config import StartConfig
from dar_ref.toy.start import load_start

SMALL = StartConfig(
    task="tiny",
    hidden_size=16,
    num_heads=2,
    train_prompts=24,
    validation_prompts=12,
    test_prompts=12,
    sft_steps=60,
    sft_batch=32,
    groups=4,
    reward_steps=60,
    reward_batch=16,
    sft_learning_rate=1e-2,
)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """The cache that `start` lies in."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def start(folder):
    """pi_0, comparisons and reward model of `SMALL`."""
    return load_start(SMALL, folder)
