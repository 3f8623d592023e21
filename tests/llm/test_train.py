"""`dar-ref train` as a user runs it."""

import json
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from dar_ref.cli import main
from dar_ref.llm import train
from dar_ref.llm.logs import nothing_learned
from dar_ref.llm.options import options_as_json
from tests.llm.training import options


@pytest.fixture
def config(exported, tmp_path):
    """A configuration of the exported task as a file, with the exported reward model."""
    content = options_as_json(
        options(exported, training={"save_strategy": "steps", "save_steps": 2, "disable_tqdm": False})
    )
    content["reward"] |= {"kind": "model", "name": str(exported / "reward_model"), "dtype": "float32", "separator": " "}
    content["data"]["eval_prompts"] = str(exported / "prompts" / "validation.jsonl")
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def dar_ref(*arguments):
    return main(["train", *map(str, arguments)])


def test_a_run_from_the_command_line(config, exported, tmp_path, capsys):
    out = tmp_path / "out"
    assert dar_ref("--config", config, "--out", out, "training.max_steps=4", "methods.dar.alpha=0.3") == 0
    assert "4 steps; policy in" in capsys.readouterr().out
    result = json.loads((out / "results.json").read_text())
    assert result["options"]["methods"]["dar"]["alpha"] == 0.3
    assert result["steps"] == 4
    assert result["data"]["kept"] == result["data"]["rows"] == 24
    assert [row["step"] for row in result["log"] if "weight/ess" in row] == [1, 2, 3, 4]
    run = json.loads((out / "run.json").read_text())
    assert "methods.dar.alpha=0.3" in run["command"]
    assert run["packages"]["trl"]
    policy = AutoModelForCausalLM.from_pretrained(out / "policy")
    pi_0 = load_file(exported / "policy" / "model.safetensors")
    assert any(not torch.equal(p, pi_0[name]) for name, p in policy.named_parameters() if name in pi_0)
    assert PreTrainedTokenizerFast.from_pretrained(out / "policy").eos_token == "<eos>"
    assert sorted(p.name for p in (out / "checkpoints").glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]


@pytest.mark.parametrize("without_bar", ["true", "false"])
def test_it_says_how_a_run_goes(config, tmp_path, capsys, without_bar):
    options = ("training.max_steps=2", f"training.disable_tqdm={without_bar}")
    dar_ref("--config", config, "--out", tmp_path / "out", *options)
    shown = "".join(capsys.readouterr())
    assert "step 2: loss" in shown
    assert "24 of 24 rows kept" in shown
    assert "frac_reward_zero_std" not in shown  # the whole row is in results.json


def test_resume_on_the_command_line(config, tmp_path, capsys):
    arguments = ("--config", config, "--out", tmp_path / "out")
    assert dar_ref(*arguments, "training.max_steps=2") == 0
    assert dar_ref(*arguments, "training.max_steps=4") == 2
    assert "pass --resume" in capsys.readouterr().err
    assert dar_ref(*arguments, "training.max_steps=4", "--resume") == 0
    log = json.loads((tmp_path / "out" / "results.json").read_text())["log"]
    assert [row["step"] for row in log if "weight/ess" in row] == [1, 2, 3, 4]


def test_a_dry_run_into_a_folder_with_checkpoints_is_refused_as_the_run_would_be(config, tmp_path, capsys):
    arguments = ("--config", config, "--out", tmp_path / "out", "training.max_steps=2")
    assert dar_ref(*arguments) == 0
    assert dar_ref(*arguments, "--dry-run") == 2
    assert "holds checkpoints of a run" in capsys.readouterr().err
    assert dar_ref(*arguments, "--dry-run", "--resume") == 0


def test_evaluation_on_other_prompts(config, tmp_path):
    evaluate = ["training.eval_strategy=steps", "training.eval_steps=2", "training.per_device_eval_batch_size=8"]
    assert dar_ref("--config", config, "--out", tmp_path / "out", "training.max_steps=2", *evaluate) == 0
    log = json.loads((tmp_path / "out" / "results.json").read_text())["log"]
    assert any("eval_reward" in row for row in log)


def test_a_dry_run_reads_no_weights_and_writes_nothing(config, exported, tmp_path, monkeypatch, capsys):
    def refuse(*_args, **_kwargs):
        raise AssertionError("weights were read")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", refuse)
    monkeypatch.setattr("safetensors.safe_open", refuse)
    assert dar_ref("--config", config, "--dry-run", "--out", tmp_path / "out") == 0
    shown = capsys.readouterr().out
    first = json.loads((exported / "prompts" / "train.jsonl").read_text().splitlines()[0])["prompt"]
    assert first in shown
    assert "<eos>" in shown  # as the reward model reads it
    assert "nothing was trained" in shown
    assert not (tmp_path / "out").exists()


def test_a_dry_run_of_a_gpu_s_configuration_needs_no_gpu(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    gpu = ["training.use_cpu=false", "training.bf16=true", "model.dtype=bfloat16"]
    assert dar_ref("--config", config, "--dry-run", "--out", tmp_path / "out", *gpu) == 0
    shown = capsys.readouterr().out
    assert "checked for a CPU" in shown
    assert "use_cpu: false" in shown


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.prompts=no-such.jsonl", "no-such.jsonl"),
        ("data.prompt_column=question", "question"),
        ("data.eval_prompts=no-such-either.jsonl", "no-such-either.jsonl"),
        ("reward.name=no-such-model", "no-such-model"),
        ("model.name=no-such-model", "no-such-model"),
        ("training.save_steps=2.5", "save_steps"),
        ("generation.top_p=0.9", "top_p = 0.9 has no meaning"),
        ("generation.num_generations=3", "num_generations"),
        ("methods.dar.beta=-1", "beta = -1"),
    ],
)
@pytest.mark.parametrize("dry", [True, False], ids=["dry", "real"])
def test_what_is_wrong_is_said_before_anything_is_trained(config, tmp_path, capsys, override, message, dry):
    out = tmp_path / "out"
    assert dar_ref("--config", config, "--out", out, override, *["--dry-run"] * dry) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_drawn_weights(config, exported, tmp_path):
    assert dar_ref("--config", config, "--random-init", "--out", tmp_path / "out", "training.max_steps=1") == 0
    drawn, pi_0 = (load_file(f / "model.safetensors") for f in (tmp_path / "out" / "pi_0", exported / "policy"))
    assert drawn.keys() == pi_0.keys()
    assert all(drawn[name].shape == pi_0[name].shape for name in pi_0)
    assert any(not torch.equal(drawn[name], pi_0[name]) for name in pi_0)


class Attack:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (Path.touch, (self.file,))


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"])
def test_a_checkpoint_runs_no_code(exported, tmp_path, name):
    chosen = options(exported, training={"save_strategy": "steps", "save_steps": 2, "max_steps": 2})
    train.train(chosen, tmp_path / "out")
    (file,) = (tmp_path / "out" / "checkpoints" / "checkpoint-2").glob(name)
    torch.save(Attack(tmp_path / "ran"), file) if name != "training_args.bin" else file.write_bytes(
        pickle.dumps(Attack(tmp_path / "ran"))
    )
    longer = options(exported, training={"save_strategy": "steps", "save_steps": 2, "max_steps": 4})
    with pytest.raises(ValueError, match=f"{name} was changed"):
        train.train(longer, tmp_path / "out", resume=True)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("rows", "training", "message"),
    [
        (1, {}, r"1 rows .* one batch needs 2: 8 completions are sampled at once, 4 for each prompt"),
        (3, {"per_device_train_batch_size": 16}, r"3 rows .* needs 4"),
        (24, {"max_steps": -1, "num_train_epochs": 0}, r"num_train_epochs = 0 .* make 0 steps"),
        (24, {"max_steps": 0}, r"max_steps = 0 is no number of steps"),  # transformers would take three epochs
        (24, {"learning_rate": 0.0}, r"learning_rate = 0 changes no weight"),
    ],
)
def test_a_run_of_no_steps_is_refused_before_the_weights_are_read(
    config, exported, tmp_path, monkeypatch, capsys, rows, training, message
):
    prompts = (exported / "prompts" / "train.jsonl").read_text().splitlines(keepends=True)[:rows]
    (tmp_path / "few.jsonl").write_text("".join(prompts * 2))  # equal rows are one
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", pytest.fail)
    changes = [f"training.{name}={value}" for name, value in training.items()]
    arguments = ("--config", config, "--out", tmp_path / "out", f"data.prompts={tmp_path / 'few.jsonl'}", *changes)
    assert dar_ref(*arguments) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("reward", "reason"),
    [("constant", "all completions of a prompt had the same"), ("no_reward", "no completion count")],
)
def test_a_run_that_learned_nothing_says_so_and_does_not_succeed(exported, tmp_path, capsys, reward, reason):
    content = options_as_json(options(exported, training={"max_steps": 2}))
    content["reward"]["name"] = f"tests.llm.training:{reward}"
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content))
    assert dar_ref("--config", tmp_path / "run.yaml", "--out", tmp_path / "out") == 1
    assert f"nothing was learned: {reason}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([{"grad_norm": 0.0, "frac_reward_zero_std": 0.4}], None),  # grad_norm is that of the last step of a row
        ([{"grad_norm": 1.0, "frac_reward_zero_std": 1.0}], "had the same reward"),
        ([{"frac_reward_zero_std": 1.0}, {"frac_reward_zero_std": 0.5}], None),
        ([{"completions/excluded": 1.0}], "no completion counted"),
        ([{"learning_rate": 0.0}, {"learning_rate": 1e-7}], None),
        ([], None),
    ],
)
def test_what_teaches_nothing(rows, reason):
    found = nothing_learned(rows)
    assert (reason is None) == (found is None)
    assert reason is None or reason in found


@pytest.mark.parametrize("when", ["at the import", "in the reward"])
def test_a_user_s_code_that_exits_with_0_is_no_success(config, tmp_path, monkeypatch, capsys, when):
    body = "raise SystemExit(0)" if when == "at the import" else "def score(**_):\n    raise SystemExit(0)"
    (tmp_path / "leaves.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "leaves", raising=False)
    reward = ("reward.kind=function", "reward.name=leaves:score")
    assert dar_ref("--config", config, "--out", tmp_path / "out", *reward, "training.max_steps=1") == 2
    assert f"SystemExit: 0 ({tmp_path / 'leaves.py'}, line" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["model.name", "reward.name"])
@pytest.mark.parametrize("dry", [True, False], ids=["dry", "real"])
def test_the_folder_of_an_adapter_is_refused_in_words(config, exported, tmp_path, capsys, option, dry):
    lora = options(exported, lora={"r": 2, "alpha": 4}, training={"max_steps": 1})
    train.train(lora, tmp_path / "lora")
    adapter = tmp_path / "lora" / "policy"
    out = ("--out", tmp_path / "out")
    assert dar_ref("--config", config, *out, f"{option}={adapter}", *["--dry-run"] * dry) == 2
    said = capsys.readouterr().err
    assert f"{option} = {str(adapter)!r} is an adapter of {str(exported / 'policy')!r}" in said
    assert "merge_and_unload" in said


@pytest.mark.parametrize("option", ["model.name", "reward.name"])
def test_a_quantised_model_is_refused_in_words(config, exported, tmp_path, capsys, option):
    shutil.copytree(exported / ("policy" if option == "model.name" else "reward_model"), tmp_path / "awq")
    file = tmp_path / "awq" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"quantization_config": {"quant_method": "awq"}}))
    assert dar_ref("--config", config, "--out", tmp_path / "out", f"{option}={tmp_path / 'awq'}") == 2
    assert f"{option} = {str(tmp_path / 'awq')!r} is quantised (awq)" in capsys.readouterr().err


@pytest.mark.parametrize("dry", [True, False], ids=["dry", "real"])
def test_the_reward_model_s_template_is_tried_before_the_policy_is_read(
    config, exported, tmp_path, monkeypatch, capsys, dry
):
    chat = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    refuses = "{{ raise_exception('System role not supported') }}"
    for name, template in (("policy", chat), ("reward_model", refuses)):
        shutil.copytree(exported / name, tmp_path / name)
        (tmp_path / name / "chat_template.jinja").write_text(template)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", pytest.fail)
    folders = (f"model.name={tmp_path / 'policy'}", f"reward.name={tmp_path / 'reward_model'}")
    arguments = ("--config", config, "--out", tmp_path / "out", *folders, "data.format=chat", *["--dry-run"] * dry)
    assert dar_ref(*arguments) == 2
    said = capsys.readouterr().err
    name = f"reward.name = {str(tmp_path / 'reward_model')!r}"
    assert f"the chat template of {name} refuses user assistant: System role not supported" in said


def test_the_module_is_the_command():
    command = [sys.executable, "-m", "dar_ref.llm.train", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "methods.NAME" in done.stdout
