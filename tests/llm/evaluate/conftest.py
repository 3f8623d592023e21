"""One evaluation of the toy export, made once: pi_0 and another policy on the test prompts, two answers to each."""

import pytest

from tests.llm.evaluate.setting import evaluate, moved, run_file


@pytest.fixture(scope="session")
def other(exported, tmp_path_factory):
    """The folder of another policy."""
    return moved(exported, tmp_path_factory.mktemp("other"))


@pytest.fixture(scope="session")
def config(exported, tmp_path_factory):
    """The configuration of a run on the exported task."""
    return run_file(tmp_path_factory.mktemp("config"), exported)


@pytest.fixture(scope="session")
def generated(config, other, tmp_path_factory):
    """A folder with the completions of pi_0 and of `other`; tests copy it before they write to it."""
    out = tmp_path_factory.mktemp("generated")
    assert evaluate("generate", "--config", config, "--policy", f"other={other}", "--samples", 2, "--out", out) == 0
    return out
