"""The instruction set is detected, is part of run.json and of cache names, and `--portable` fixes it."""

import json
import os
import subprocess
import sys

import pytest
import torch

from dar_ref import arithmetic, results
from dar_ref.toy import cache

TRAIN = """
import hashlib, sys
from dar_ref import arithmetic
if sys.argv[1] == "portable":
    arithmetic.make_portable()
import torch
torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Linear(48, 96), torch.nn.GELU(), torch.nn.LayerNorm(96), torch.nn.Linear(96, 48))
optimizer = torch.optim.Adam(network.parameters(), lr=1e-2, fused=True)
for _ in range(20):
    x = torch.randn(64, 48)
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(network(x), x.argmax(dim=1)).backward()
    optimizer.step()
print(hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in network.parameters())).hexdigest())
print(arithmetic.instruction_set())
"""


def trained(how, **environment):
    """Hash of a small network's weights after training in a process of its own, and the name of the kernels."""
    clean = {name: value for name, value in os.environ.items() if name not in arithmetic.PORTABLE}
    environment = clean | {"OMP_NUM_THREADS": "1"} | environment
    command = [sys.executable, "-c", TRAIN, how]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return done.stdout.split("\n")[:2]


def test_a_portable_run_does_not_replace_an_ordinary_one(monkeypatch, tmp_path):
    command = "dar-ref toy run --task tiny"
    with results.writing(tmp_path, command):
        results.write_json(tmp_path / "results.json", {})
        results.write_json(tmp_path / "run.json", results.run_info(command, 0.0))
    for name, value in arithmetic.PORTABLE.items():
        monkeypatch.setenv(name, value)
    assert results.run_info(command, 0.0)["command"] == "dar-ref --portable toy run --task tiny"
    refused = pytest.raises(ValueError, match="holds what `dar-ref toy run --task tiny` has written")
    with refused, results.writing(tmp_path, command):
        raise AssertionError("it wrote there")


def test_portable_is_the_same_bytes_whatever_the_processor_offers():
    weights, kernels = trained("portable")
    assert kernels == "portable"
    for environment in (
        {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX2,-FMA"},
        {"MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    ):
        assert trained("portable", **environment) == [weights, "portable"], environment


@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() == "DEFAULT", reason="this processor has one way only")
def test_without_it_the_instruction_set_changes_the_bytes():
    assert trained("as it is")[0] != trained("as it is", ATEN_CPU_CAPABILITY="default")[0]


def test_it_is_too_late_once_torch_is_loaded():
    with pytest.raises(RuntimeError, match="torch is loaded and has chosen its kernels; call make_portable"):
        arithmetic.make_portable()


def test_the_command_line_has_it(tmp_path):
    plain = tmp_path / "plain.py"
    plain.write_text(
        "import sys, torch\nfrom dar_ref import arithmetic\nprint(arithmetic.instruction_set())\n", encoding="utf-8"
    )
    code = (
        "import runpy, sys; from dar_ref import cli\n"
        "sys.modules['dar_ref.cli.main']._run_verify = lambda arguments: runpy.run_path(sys.argv[1]) and 0\n"
        "sys.exit(cli.main(['--portable', 'verify']))"
    )
    command = [sys.executable, "-c", code, str(plain)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "portable"


def test_a_start_made_with_other_kernels_is_not_taken_for_ones_own(monkeypatch):
    own = cache.content_key({"seed": 0})
    assert own == cache.content_key({"seed": 0})
    monkeypatch.setattr(arithmetic, "instruction_set", lambda: "another")
    assert cache.content_key({"seed": 0}) != own


def test_run_json_names_it():
    info = json.loads(json.dumps(results.run_info("a command", 0.0)))
    assert info["machine"]["instruction_set"] == arithmetic.instruction_set()


def test_settings_from_outside_are_named(monkeypatch):
    for name in arithmetic.PORTABLE:
        monkeypatch.delenv(name, raising=False)
    plain = arithmetic.instruction_set()
    assert plain == torch.backends.cpu.get_cpu_capability()
    monkeypatch.setenv("MKL_CBWR", "AVX2")
    assert arithmetic.instruction_set() == f"{plain}, MKL_CBWR=AVX2"
