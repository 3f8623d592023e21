"""The script that the page for users of TRL shows."""

import runpy
from pathlib import Path

import pytest
from safetensors.torch import load_file

SCRIPT = Path(__file__).parents[2] / "docs" / "llm" / "from_trl.py"


@pytest.mark.filterwarnings("ignore")
def test_the_script_of_the_page_runs(exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out" / "toy").mkdir(parents=True)
    (tmp_path / "out" / "toy" / "export").symlink_to(exported, target_is_directory=True)
    trainer = runpy.run_path(str(SCRIPT))["trainer"]
    assert trainer.state.global_step == 20
    rewards = [row["reward"] for row in trainer.state.log_history if "reward" in row]
    assert rewards[-1] > rewards[0]  # shorter answers
    before = load_file(exported / "policy" / "model.safetensors")
    assert any((trainer.model.get_parameter(name) != tensor).any() for name, tensor in before.items())
