"""One very small start of the toy engine: `tiny` with two layers of width 16. A folder of tests that needs it imports
the fixtures into its conftest. It is made once per folder."""

import pytest

from dar_ref.toy import commands
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
def toy_cache(tmp_path_factory):
    """The cache folder of `start`."""
    return tmp_path_factory.mktemp("toy-cache")


@pytest.fixture(scope="session")
def start(toy_cache):
    """pi_0, comparisons and reward model of `SMALL`."""
    return load_start(SMALL, toy_cache)


@pytest.fixture(scope="session")
def exported(toy_cache, tmp_path_factory):
    """The output of `dar-ref toy export` for `SMALL`: policy/, reward_model/, prompts/*.jsonl, preferences.jsonl."""
    out = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "start_config", lambda _task, _seed: SMALL)
        commands.export("tiny", 0, toy_cache, out)
    return out
