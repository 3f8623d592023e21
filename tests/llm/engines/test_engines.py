"""Sharded training equals plain DDP on two CPU processes, resumes exactly, and saves what pi_0 has and nothing twice.

Slow: each run starts two processes. `make engines` measures the same and writes the table of the docs.
"""

import pytest

from tests.llm.engines.measure import DEEPSPEED, ENGINES, compared, export, saved, trained

pytestmark = pytest.mark.slow
LIMIT = 1e-5  # float32, four steps of Adam
COARSE = 0.2  # bf16, as a share of how far the weights moved: DDP rounds products alone, the others weights as well


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("engines")
    export(out)
    return out


@pytest.fixture(scope="module")
def run(folder):
    """A function: the row of an engine; each engine is run once."""
    found = {}

    def once(name):
        if name not in found:
            if ENGINES[name].file == "zero3" and not DEEPSPEED.is_dir():
                pytest.skip("DeepSpeed is not installed; `make engines` installs it")
            found[name] = trained(ENGINES[name], folder / "run.yaml", folder / name)
        return found[name]

    def row(name):
        return compared(name, {n: once(n) for n in {name, ENGINES[name].like}}, saved(folder / "exported" / "policy"))

    return row


@pytest.mark.parametrize("name", list(ENGINES))
def test_an_engine_trains_the_weights_of_ddp(run, name):
    row = run(name)
    assert row["saved"] == row["of_pi_0"]
    assert not row["second_head"]  # the head is tied to the embedding
    assert row["moved"] > 100 * LIMIT  # the weights were trained
    assert row["weights_difference"] <= (COARSE * row["moved"] if name.endswith("bf16") else LIMIT)
    assert row["resume_difference"] in (None, 0.0)
