"""What `dar-ref plan` refuses, and its command line; a slow test compares a plan with a run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dar_ref import cli
from dar_ref.llm.plan.architecture import read_architecture
from dar_ref.llm.plan.estimate import DEVICES, device_bytes, plan
from dar_ref.llm.plan.report import plan_as_json, size
from dar_ref.llm.plan.resident import GIB
from tests.benchmarks import plan_against_measured
from tests.benchmarks.plan_cases import CASES
from tests.llm.plan.plans import options, save_config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_config(tmp_path_factory.mktemp("model"))


# --- what is refused --------------------------------------------------------------------------------------------------

REFUSED = [
    ({"training": {"per_device_train_batch_size": 0}}, "per_device_train_batch_size = 0 is below 1"),
    ({"training": {"per_device_train_batch_size": -4}}, "per_device_train_batch_size = -4 is below 1"),
    ({"training": {"per_device_train_batch_size": 2.5}}, "not a whole number"),
    ({"training": {"gradient_accumulation_steps": 0}}, "gradient_accumulation_steps = 0 is below 1"),
    ({"training": {"max_steps": 0}}, "training.max_steps = 0 is below 1"),
    ({"training": {"optim": "lion_32bit"}}, "training.optim = 'lion_32bit' is unknown; choose one of"),
    ({"training": {"optim": "paged_adamw_8bit"}}, "training.optim = 'paged_adamw_8bit' is unknown; choose one of"),
    ({"training": {"fp16": True}}, "fp16 = True is not planned; set bf16"),
    ({"generation": {"num_generations": 3}}, "num_generations = 3 does not divide the 8 completions"),
    ({"generation": {"max_completion_length": 0}}, "max_completion_length = 0 is below 1"),
    ({"generation": {"max_completion_length": 600}}, "take 1112 positions, and .* has 1024"),
    ({"generation": {"temperature": 0}}, "temperature = 0 is not a finite number above 0"),
    (
        {"generation": {"generation_batch_size": 8}},
        "generation_batch_size = 8 is not planned; set steps_per_generation",
    ),
    ({"generation": {"ds3_gather_for_generation": False}}, "ds3_gather_for_generation = False is not planned"),
    ({"generation": {"use_transformers_continuous_batching": True}}, "is not planned"),
    ({"generation": {"use_vllm": True}}, "pass --device-memory"),
    ({"data": {"max_prompt_tokens": 0}}, "data.max_prompt_tokens = 0 is below 1"),
    ({"data": {"limit": 0}}, "data.limit = 0 is below 1"),
    ({"lora": {"r": 65}}, "lora.r = 65 is above the hidden size 64"),
    ({"lora": {"r": 0}}, "lora.r = 0 is below 1"),
    ({"lora": {"target_modules": ["query"]}}, "'query' is not a linear layer; choose from .*q_proj"),
    ({"lora": {"target_modules": ".*_proj"}}, "regular expressions are not planned; list the layers"),
    ({"model": {"dtype": "float64"}}, "float64 is for tests"),
    ({"model": {"name": "no/such-model"}}, "no such folder, not in the hub cache"),
    ({"method": "online_dpo"}, "online_dpo is not planned"),
]


@pytest.mark.parametrize(("sections", "reason"), REFUSED, ids=[str(r[0]) for r in REFUSED])
def test_refused(folder, sections, reason):
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=reason):
        plan(options(folder, **sections))


@pytest.mark.parametrize("kind", ["causal", "reward"])
def test_a_quantised_model_is_not_counted_as_a_whole_one(tmp_path, kind):
    file = save_config(tmp_path) / "config.json"
    quantised = {"quantization_config": {"quant_method": "awq", "bits": 4}}
    file.write_text(json.dumps(json.loads(file.read_text()) | quantised))
    for name in (tmp_path, file):
        with pytest.raises(ValueError, match=r"is quantised \(awq\).* pass the model that it was made from"):
            read_architecture(name, kind=kind)


def test_an_adapter_is_not_planned(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "base/model"}')
    with pytest.raises(ValueError, match=r"is an adapter of 'base/model'.* merge it"):
        read_architecture(tmp_path)


@pytest.mark.parametrize("name", ["./Qwen2-7B", "my/models/Qwen2-7B", "/tmp/none/Qwen2-7B"])
def test_a_mistyped_folder_is_not_replaced_by_a_model_that_comes_along(name):
    assert read_architecture("Qwen/Qwen2-7B").layers == 28
    with pytest.raises(FileNotFoundError, match="no such folder"):
        read_architecture(name)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"devices": 0}, "--devices = 0 is below 1"),
        ({"devices": 2}, "--sharding none uses one device, not 2"),
        ({"devices": 2, "sharding": "zero2"}, "--sharding = 'zero2' is unknown; choose one of none, ddp, fsdp, zero3"),
        ({"tokens_per_second": 0.0}, "--tokens-per-second = 0.0"),
        ({"tokens_per_second": -5.0}, "--tokens-per-second = -5.0"),
        ({"tokens_per_second": float("nan")}, "--tokens-per-second = nan"),
    ],
)
def test_refused_settings(folder, settings, reason):
    with pytest.raises(ValueError, match=reason):
        plan(options(folder), **settings)


def test_unknown_architectures_are_refused(tmp_path):
    for content, reason in (
        ({"model_type": "gpt2"}, "model_type = 'gpt2' is an architecture whose activations are not counted"),
        ({"model_type": "no-such-model"}, "no architecture that transformers knows"),
        ({}, "no architecture that transformers knows"),
        ({"model_type": "qwen2", "num_hidden_layers": 0}, "num_hidden_layers = 0 is below 1"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=reason):
            read_architecture(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"without a config\.json"):
        read_architecture(tmp_path)


@pytest.mark.parametrize(("text", "gib"), [("80", 80), ("23.5", 23.5), ("h100-80gb", 80), ("RTX4090-24GB", 24)])
def test_devices_by_name_or_size(text, gib):
    assert device_bytes(text) == gib * GIB


@pytest.mark.parametrize("text", ["H100", "0", "-1", "nan", "inf", ""])
def test_no_such_device(text):
    with pytest.raises(ValueError, match="--device-memory"):
        device_bytes(text)
    assert all(gib > 0 for gib in DEVICES.values())


# --- command line -----------------------------------------------------------------------------------------------------


def test_the_command_prints_and_writes(folder, tmp_path, capsys):
    file = tmp_path / "new" / "plan.json"
    command = ["plan", "--model", str(folder), "--device-memory", "RTX4090-24GB", "--json", str(file)]
    assert cli.main([*command, "training.max_steps=5", "--tokens-per-second", "100"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "fits in 24.00 GiB" in printed
    assert "generate" in printed
    written = json.loads(file.read_text())
    made = plan(
        options(folder, training={"max_steps": 5}), device_memory=device_bytes("RTX4090-24GB"), tokens_per_second=100.0
    )
    assert written == json.loads(json.dumps(plan_as_json(made)))
    assert written["peak_bytes"] == max(moment["total_bytes"] for moment in written["peaks"])
    assert written["parameters"]["total"] == read_architecture(folder).count


def test_the_command_says_what_would_fit(capsys):
    arguments = [
        "plan",
        "--config",
        "qwen2-7b-tldr",
        "lora=null",
        "training.optim=adamw_torch",
        "--device-memory",
        "80",
    ]
    assert cli.main(arguments) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "does not fit in 80.00 GiB" in printed
    assert "--devices" in printed


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "nothing to plan"),
        (["--config", "no-such-config"], "is not a file"),
        (["--model", "/no/such/folder"], "no such folder"),
        (["--config", "qwen2-7b-tldr", "--method", "sft"], "--method = 'sft' is unknown"),
        (["--config", "qwen2-7b-tldr", "lora.rank=3"], "unknown key"),
        (["--config", "qwen2-7b-tldr", "--device-memory", "big"], "--device-memory = 'big'"),
        (["--config", "qwen2-7b-tldr", "--reward-model", "/no/such/folder"], "no such folder"),
    ],
)
def test_the_command_refuses(arguments, reason, capsys):
    assert cli.main(["plan", *arguments]) == 2
    assert reason in capsys.readouterr().err


def test_help_loads_neither_torch_nor_trl():
    code = "import sys, contextlib\nfrom dar_ref import cli\n"
    code += "with contextlib.suppress(SystemExit):\n    cli.main(['plan', '--help'])\n"
    code += "print([m for m in ('torch', 'trl', 'transformers') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip().split("\n")[-1] == "[]"


def test_a_plan_of_a_model_alone_loads_no_trl(folder):
    code = "import sys\nfrom dar_ref import cli\n"
    code += f"cli.main(['plan', '--model', {str(folder)!r}])\nprint('trl' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip().split("\n")[-1] == "False"


def test_sizes_are_readable():
    assert [size(n) for n in (0, 2**20, GIB, 80 * GIB)] == ["·", "1.0 MiB", "1.00 GiB", "80.00 GiB"]


# --- against a run ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's mark of resident memory")
@pytest.mark.parametrize(
    "name", ["full, adamw, large tied vocabulary", "LoRA on q and v, sgd, no checkpointing, short"]
)
def test_the_peak_is_within_a_tenth_of_a_measured_one(name):
    row = plan_against_measured.run_case(next(case for case in CASES if case.name == name))
    assert row["weights"] >= 300e6
    assert row["ratio"] == pytest.approx(1.0, abs=plan_against_measured.LIMIT)
