"""`make gpu` without a GPU: its rehearsal, and what it does with the minutes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dar_ref import results
from dar_ref.real_model import report
from dar_ref.real_model.runs import RUNS
from tests.benchmarks import gpu, gpu_pieces

ROOT = Path(__file__).parent.parent
PIECES = ("update", "step", "real")


def called(*words):
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.benchmarks.gpu", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_rehearsal_writes_every_piece_once_and_names_what_does_not_fit(tmp_path):
    words = ("--rehearse", "--out", tmp_path / "gpu", "--minutes")
    late = called(*words, 0)
    assert late.returncode == 0, late.stderr
    for piece in PIECES:
        assert f"  {piece:8}" in late.stdout.partition("/gpu:\n")[2]
        assert not (tmp_path / "gpu" / piece).exists()
    assert "s, and 0 s are left" in late.stdout
    assert "The same command goes on." in late.stdout

    done = called(*words, 60)
    assert done.returncode == 0, done.stdout + done.stderr
    for piece in PIECES:
        assert f"  {piece:8}complete" in done.stdout
        assert {file.name for file in (tmp_path / "gpu" / piece).iterdir()} >= {"results.json", "run.json", "table.md"}
        about = json.loads((tmp_path / "gpu" / piece / "run.json").read_text())
        assert {"commit", "machine", "packages"} <= set(about)
    content = json.loads((tmp_path / "gpu" / "real" / "results.json").read_text())
    assert [point["step"] for point in content["runs"][0]["checkpoints"]] == [1, 2]

    files = [file for piece in PIECES for file in (tmp_path / "gpu" / piece).iterdir()]
    before = {file: file.stat().st_mtime_ns for file in files}
    again = called(*words, 60)
    assert again.returncode == 0
    assert again.stdout.count("all there, nothing to do") == len(PIECES)
    assert {file: file.stat().st_mtime_ns for file in files} == before


class Fake:
    """A piece whose parts take no time, and say that they take `expected` seconds; one named "bad" fails."""

    title = "fake"

    def __init__(self, **expected):
        self.expected, self.there = expected, []

    def missing(self):
        return [part for part in self.expected if part not in self.there]

    def seconds(self, part):
        return self.expected[part]

    def do(self, part, left):
        if part == "bad":
            raise RuntimeError("no memory")
        self.there.append(part)
        return f"done with {left:.0f} s left"


def test_a_part_that_is_too_long_is_not_begun_and_a_shorter_one_is(capsys, tmp_path):
    piece = Fake(short=10.0, long=100.0, shorter=5.0)
    outcome = gpu.do_all([piece], time.time() + 50.0)
    assert piece.there == ["short", "shorter"]
    assert list(outcome.late) == ["fake: long"]
    assert gpu.say_end([piece], outcome, tmp_path) == 0
    assert "long: would take about 100 s, and 50 s are left" in capsys.readouterr().out


def test_a_part_that_fails_is_named_and_the_others_are_done(capsys, tmp_path):
    piece = Fake(bad=1.0, good=1.0)
    outcome = gpu.do_all([piece], time.time() + 50.0)
    assert piece.there == ["good"]
    assert gpu.say_end([piece], outcome, tmp_path) == 1
    assert "no memory" in capsys.readouterr().out.partition("1 parts are missing")[2]


def test_without_a_gpu_one_line_names_the_rehearsal(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert gpu.main(["--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "no NVIDIA GPU" in said
    assert "python -m tests.benchmarks.gpu --rehearse --out" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_results_of_another_device_are_not_mixed_with(capsys, monkeypatch, tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"device": "NVIDIA A100"}))
    monkeypatch.setattr(gpu, "gpu_name", lambda: "NVIDIA H200")
    assert gpu.main(["--out", str(tmp_path)]) == 2
    assert "results of 'NVIDIA A100' and this is 'NVIDIA H200'; pass another --out" in capsys.readouterr().err


def test_the_real_piece_is_left_out_where_there_is_no_model(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    pieces = gpu.full_size(tmp_path / "out", tmp_path / "work", "make gpu")
    assert [piece.title for piece in pieces] == ["update", "step"]
    assert "`make real-model` writes it" in capsys.readouterr().out


def test_answers_to_other_test_prompts_are_measured_again(tmp_path):
    prompts = tmp_path / "out" / "real-prompts" / "sentiment" / "test.jsonl"
    results.write_text(prompts, "{}\n")
    (run,) = (run._replace(seeds=1) for run in RUNS[:1])
    piece = gpu_pieces.Real(tmp_path, [run], [20], [], (1.0, 1.0), tmp_path / "results", tmp_path / "work")
    file = tmp_path / "work" / "real" / run.task / run.name / "seed-0" / "measured.json"
    assert len(piece.missing()) == 1
    for known, missing in (("of then", 1), (report.prompts_hash(prompts), 0)):
        results.write_json(file, {"prompts": known, "checkpoints": [{"step": 20}]})
        assert len(piece.missing()) == missing
