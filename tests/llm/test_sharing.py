"""What leaves a run: metrics to a tracker, the policy with its card to a folder and to the hub."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from dar_ref.llm import train
from tests.llm.training import make_trainer, options


@pytest.fixture
def writer(monkeypatch):
    """TensorBoard's writer as a stub, with what was written in `.scalars`: {name: {step: value}}."""

    class Writer:
        scalars: dict = {}  # noqa: RUF012 - of the one run of a test

        def __init__(self, log_dir):
            self.log_dir = log_dir

        def add_scalar(self, name, value, step):
            self.scalars.setdefault(name, {})[step] = value

        def __getattr__(self, _name):  # text, flush, close
            return lambda *_args, **_named: None

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    monkeypatch.setattr("transformers.integrations.integration_utils.is_tensorboard_available", lambda: True)
    return Writer


def test_a_tracker_gets_what_results_json_gets(exported, tmp_path, writer):
    trainer = make_trainer(exported, tmp_path, training={"report_to": "tensorboard"})
    trainer.train()
    rows = [row for row in trainer.state.log_history if "loss" in row]
    assert {"weight/ess", "kl/pi_0_k1", "reward"} <= rows[0].keys()
    for name in rows[0].keys() - {"step"}:
        assert writer.scalars[f"train/{name}"] == {row["step"]: row[name] for row in rows}


@pytest.mark.parametrize(
    ("method", "says"), [("dar", "with DAR, by dar-ref"), ("dar_offline", "2602.11523"), ("rloo", "Back to Basics")]
)
def test_the_policy_s_folder_has_its_card(exported, tmp_path, method, says):
    train.train(options(exported, method=method, training={"max_steps": 1}), tmp_path / "my-run")
    card = (tmp_path / "my-run" / "policy" / "README.md").read_text()
    assert "my-run" in card
    assert says in card


def test_the_hub_gets_the_policy_and_its_card(exported, tmp_path, monkeypatch):
    got = {}

    def upload(folder_path, repo_id, **_):
        got.update({"repository": repo_id, **{f.name: f.read_bytes() for f in Path(folder_path).iterdir()}})

    hub = SimpleNamespace(create_repo=lambda name, **_: SimpleNamespace(repo_id=f"me/{name}"), upload_folder=upload)
    monkeypatch.setattr("transformers.trainer.hf_api", lambda: hub)
    trainer = make_trainer(exported, tmp_path / "run", training={"max_steps": 1, "hub_model_id": "my-policy"})
    trainer.train()
    trainer.push_to_hub()
    assert got["repository"] == "me/my-policy"
    assert b"with DAR, by dar-ref" in got["README.md"]
    assert b"2602.11523" in got["README.md"]
    assert got["model.safetensors"]


@pytest.mark.parametrize(
    ("option", "message"),
    [("push_to_hub", "push_to_hub = True would upload checkpoints"), ("use_liger_kernel", "Triton's, for GPUs")],
)
def test_what_the_script_refuses(exported, tmp_path, option, message):
    with pytest.raises(ValueError, match=message):
        make_trainer(exported, tmp_path, training={option: True})
