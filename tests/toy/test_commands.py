"""`dar-ref toy` end to end on a very small start: which files it writes, what it refuses, what it does only once."""

import importlib
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast, Qwen2ForCausalLM

from dar_ref import cli, results
from dar_ref.toy import commands
from dar_ref.toy.config import RunConfig
from dar_ref.toy.exact.enumerate import log_probs, tables
from dar_ref.toy.experiments import runner
from dar_ref.toy.experiments.runner import Job, run_job
from dar_ref.toy.policy import completion_logits, encode
from dar_ref.toy.start import load_start
from tests.small_start import SMALL
from tests.toy.test_experiments import made_up

SHORT = {"steps": 4, "batch_prompts": 4, "evaluate_every": 2}
OPTIONS = [f"{name}={value}" for name, value in SHORT.items()]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Every task and seed starts from `SMALL`."""
    for module in (commands, runner):
        monkeypatch.setattr(module, "start_config", lambda _task, _seed: SMALL)
    runner._start.cache_clear()
    yield
    runner._start.cache_clear()


def toy(folder, *arguments):
    return cli.main(["toy", "--cache", str(folder), *map(str, arguments)])


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_run_writes_its_result_its_samples_and_a_policy_that_loads(folder, start, tmp_path, capsys):
    assert toy(folder, "run", "--task", "tiny", "--method", "grpo", "--out", tmp_path, *OPTIONS, "kl_coef=0.5") == 0
    result = read(tmp_path / "results.json")
    assert [row["step"] for row in result["evaluations"]] == [0, 2, 4]
    assert result["config"]["kl_coef"] == 0.5
    assert result["config"]["method"] == "grpo"
    loaded = Qwen2ForCausalLM.from_pretrained(tmp_path / "policy")
    prompt = start.prompts.test[0]
    one = encode(start.task, [prompt], [["a", "b"]], [True])
    assert not torch.equal(completion_logits(loaded, one), completion_logits(start.pi_0, one))  # it was trained
    assert [row["step"] for row in result["exact"]] == [0, 2, 4]
    table = tables(start, start.prompts.validation)
    log_pi = log_probs(loaded, table.prompt_ids)
    exact = (np.exp(log_pi) * (log_pi - table.log_pi_0)).sum(axis=1).mean()
    assert result["exact"][-1]["kl_to_pi_0"] == pytest.approx(exact, rel=1e-4)  # of the saved policy
    samples = read(tmp_path / "samples.json")["samples"]
    assert [row["prompt"].split() for row in samples] == start.prompts.test[:5]
    assert all(row["ideal"].split() == row["prompt"].split()[::-1] for row in samples)
    assert not (tmp_path / "checkpoint.pt").exists()
    shown = capsys.readouterr().out
    assert "gold" in shown
    assert samples[0]["prompt"].split()[0] in shown
    assert read(tmp_path / "run.json")["packages"]["torch"]


def test_a_run_twice_has_the_same_bytes(folder, tmp_path):
    for name in ("one", "two"):
        assert toy(folder, "run", "--task", "tiny", "--out", tmp_path / name, *OPTIONS) == 0
    for file in ("results.json", "samples.json", "policy/model.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_folder_belongs_to_one_run(folder, tmp_path, capsys):
    run = ("run", "--task", "tiny", "--out", tmp_path, *OPTIONS)
    assert toy(folder, *run, "reward=gold", "self_normalize=true") == 0
    written = {path: path.read_bytes() for path in tmp_path.glob("*.json")}
    command = "dar-ref toy run --task tiny --method dar --seed 0 steps=4 batch_prompts=4"
    for other in (["--method", "grpo"], ["--seed", "1"], ["alpha=0.3"], []):
        assert toy(folder, *run, *other) == 2
        said = capsys.readouterr().err
        assert f"{tmp_path} holds what `{command}" in said
        assert "reward=gold self_normalize=true evaluate_every=2` has written; remove it, or pass another --out" in said
    assert written == {path: path.read_bytes() for path in tmp_path.glob("*.json")}
    there = read(tmp_path / "run.json")["command"].split()[3:]
    assert toy(folder, "run", "--out", tmp_path, *there) == 0  # the same run
    assert (tmp_path / "results.json").read_bytes() == written[tmp_path / "results.json"]


def test_a_run_that_was_killed_is_not_replaced_by_another(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.import_module("dar_ref.toy.train"), "SAVE_EVERY", 1)
    monkeypatch.setattr(commands, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert toy(folder, "run", "--task", "tiny", "--out", tmp_path, *OPTIONS) == 130
    before = (tmp_path / "checkpoint.pt").read_bytes()
    assert toy(folder, "run", "--task", "tiny", "--method", "grpo", "--out", tmp_path, *OPTIONS) == 2
    assert "holds what `dar-ref toy run --task tiny --method dar" in capsys.readouterr().err
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize(
    "job", [["run", "--task", "tiny", *OPTIONS, "--out"], ["export", "--task", "tiny"], ["clip", "--out"]]
)
def test_two_commands_in_one_folder(folder, tmp_path, capsys, job):
    with results.locked(tmp_path):
        assert toy(folder, *job, tmp_path) == 2
    assert "writes to" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_export_is_not_mixed_with_another(folder, tmp_path, capsys):
    assert toy(folder, "export", tmp_path, "--task", "tiny") == 0
    assert toy(folder, "export", tmp_path, "--task", "tiny") == 0
    assert toy(folder, "export", tmp_path, "--task", "tldr") == 2
    assert "holds what `dar-ref toy export --task tiny --seed 0` has written" in capsys.readouterr().err


def test_a_job_that_another_process_does_is_waited_for(tmp_path, monkeypatch):
    job = Job("tiny", RunConfig(**SHORT))
    lock, done = tmp_path / "locks" / job.key, tmp_path / "runs" / job.key
    lock.parent.mkdir()
    code = "import os, sys, time, filelock\nwith filelock.FileLock(sys.argv[1]):\n    print('held', flush=True)\n"
    code += "    time.sleep(1); os.makedirs(sys.argv[2])"
    other = subprocess.Popen([sys.executable, "-c", code, str(lock), str(done)], stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    monkeypatch.setattr(runner, "train", pytest.fail)  # the other process has done it
    run_job(tmp_path, job)
    assert done.is_dir()
    assert other.wait() == 0
    other.stdout.close()


def test_a_run_that_diverges_says_so_and_exits_with_1(folder, tmp_path, capsys):
    steep = ["learning_rate=1e12", "optimizer=sgd"]
    assert toy(folder, "run", "--task", "tiny", "--out", tmp_path, *OPTIONS, *steep) == 1
    assert read(tmp_path / "results.json")["diverged"] is not None
    said = capsys.readouterr()
    assert "lower learning_rate" in said.out
    assert "raise learning_rate" not in said.err


def test_a_run_whose_first_update_diverges_is_not_said_to_have_learned_nothing(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.import_module("dar_ref.toy.train"), "_finite_step", lambda *_: False)
    assert toy(folder, "run", "--task", "tiny", "--out", tmp_path, *OPTIONS) == 1
    assert read(tmp_path / "results.json")["diverged"] == 0
    said = capsys.readouterr()
    assert "lower learning_rate" in said.out
    assert "nothing was learned" not in said.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["alfa=1"],
            "'alfa=1' is not an option; did you mean alpha=...[?]; pass key=value with a key of method, steps",
        ),
        (["alpha"], "'alpha' is not an option"),
        (["alpha=big"], "alpha: 'big' is not a number; write it in decimal digits"),
        (["steps=1.5"], "steps: '1.5' is not a whole number; write decimal digits"),
        (["self_normalize=yes"], "self_normalize = 'yes' is not a truth value; pass true or false"),
        (["steps=1_000"], "steps: '1_000' is not a whole number"),
        (["w_clip=1e400"], "w_clip: '1e400' is beyond the numbers of float64"),
        (["beta=1e-320"], "beta = 1e-320 is outside the numbers of float32"),
        (["seed=4294967295"], "seed = 4294967295 is above 4294967294"),
        (["--seed", "1", "seed=1"], "'seed=1': seed is set twice, also to 1; leave one of them out"),
        (["alpha=0.1", "alpha=0.2"], "'alpha=0.2': alpha is set twice"),
        (["alpha=2"], r"alpha = 2.0 is outside \[0, 1\]"),
        (["--method", "reinforce"], "method = 'reinforce' is unknown; choose one of dar, dao"),
        (["steps=10", "updates_per_rollout=3"], "steps = 10 is not a multiple of the 3 minibatches of a rollout"),
        (["train_on=harmless"], "train_on = 'harmless': tldr has no such part; pass it with the task mixed"),
    ],
)
def test_bad_options_are_refused_before_any_work(options, message, tmp_path, capsys):
    assert toy(tmp_path / "cache", "run", "--out", tmp_path / "out", *options) == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("method", "option"),
    [
        *(("grpo", option) for option in ("alpha=0.3", "beta=0.1", "w_clip=5", "dpo_beta=0.2", "gae_lambda=0.9")),
        *(("dar", option) for option in ("epsilon=0.1", "kl_coef=0.1")),
        ("dpo", "alpha=0.1"),  # also at its default
    ],
)
def test_an_option_of_another_method_is_refused(tmp_path, capsys, method, option):
    assert cli.main(["toy", "run", "--method", method, option, "--out", str(tmp_path / "out")]) == 2
    assert f"{option.partition('=')[0]} has no effect on {method}, only on" in capsys.readouterr().err


def test_a_run_that_changed_no_weight_says_so(folder, tmp_path, capsys):
    options = ["--task", "tiny", "--out", tmp_path, *OPTIONS, "learning_rate=1e-30"]
    assert toy(folder, "run", *options) == 1
    assert "nothing was learned: no weight was changed; raise learning_rate" in capsys.readouterr().err


def test_the_wrong_task_names_the_choices(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        toy(tmp_path, "run", "--task", "poems")
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert all(task in error for task in ("tldr", "helpful", "harmless", "tiny"))


def test_options_are_read_by_the_type_of_their_field():
    config = commands.run_config(
        ["w_clip=inf", "self_normalize=true", "steps=7", "optimizer=sgd"], method="dar", seed=3
    )
    assert config == RunConfig(w_clip=float("inf"), self_normalize=True, steps=7, optimizer="sgd", seed=3)


def test_the_export_is_what_hugging_face_loads(folder, start, tmp_path):
    assert toy(folder, "export", tmp_path, "--task", "tiny") == 0
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path / "reward_model")
    reward_model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "reward_model").eval()
    rows = [json.loads(line) for line in (tmp_path / "preferences.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == start.comparisons.labels
    assert set(rows[0]) == {"prompt", "chosen", "rejected"}
    row = next(row for row in rows if 0 < len(row["chosen"].split()) < 4)
    words = row["chosen"].split()
    batch = tokenizer([row["prompt"] + row["chosen"] + " <eos>"], return_tensors="pt")
    scored = start.proxy(encode(start.task, [row["prompt"].split()], [words], [True]))
    torch.testing.assert_close(reward_model(batch["input_ids"]).logits[:, 0], scored, rtol=1e-5, atol=1e-5)
    for split, prompts in start.prompts._asdict().items():
        lines = (tmp_path / "prompts" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        assert [json.loads(line)["prompt"].split() for line in lines] == prompts
    ids = PreTrainedTokenizerFast.from_pretrained(tmp_path / "policy")("a d <eos>")["input_ids"]
    assert ids == [start.task.vocabulary.index(word) for word in ("a", "d", "<eos>")]


def test_a_job_is_done_once_and_its_folder_is_the_whole_result(start, tmp_path):
    job = Job("tiny", RunConfig(**SHORT))
    load_start(SMALL, tmp_path)
    run_job(tmp_path, job)
    folder = tmp_path / "runs" / job.key
    before = (folder / "results.json").stat().st_mtime_ns
    run_job(tmp_path, job)
    assert (folder / "results.json").stat().st_mtime_ns == before
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [job.key]  # no checkpoint is left
    content = read(folder / "results.json")
    assert content["exact"]["metrics"]["kl"] > 0.0
    assert content["start"] == start.metrics


def test_an_experiment_writes_its_folder(folder, tmp_path, monkeypatch, capsys):
    asked = []

    def run_jobs(jobs, where, processes):
        asked.append((where, processes))
        return [{**row, "seconds": 2.0} for row in made_up(jobs)]

    monkeypatch.setattr(commands, "run_jobs", run_jobs)
    assert toy(folder, "clip", "--seeds", 2, "--processes", 3, "--out", tmp_path) == 0
    assert asked == [(folder, 3)]
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"results.json", "run.json", "table.md", "clip.png"}
    assert read(tmp_path / "results.json")["seeds"] == [0, 1]
    assert read(tmp_path / "run.json")["command"] == "dar-ref toy clip --seeds 2"
    assert "w_clip inf" in capsys.readouterr().out
    assert toy(folder, "samples", "--tasks", "helpful", "--seeds", 2, "--out", tmp_path / "part") == 0
    assert {setting["task"] for setting in read(tmp_path / "part" / "results.json")["settings"]} == {"helpful"}
    assert read(tmp_path / "part" / "run.json")["command"] == "dar-ref toy samples --tasks helpful --seeds 2"


@pytest.mark.parametrize("option", ["--seeds", "--processes"])
def test_too_few_are_refused(option, tmp_path, capsys):
    assert toy(tmp_path, "clip", option, 0, "--out", tmp_path / "out") == 2
    assert f"{option} = 0 is below" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_two_processes_give_the_bytes_of_one(tmp_path):
    """In new processes, without monkeypatching: real starts of `tiny`."""
    jobs = [Job("tiny", RunConfig(**SHORT, seed=seed)) for seed in (0, 1)]
    for processes in (1, 2):
        runner.run_jobs(jobs, tmp_path / str(processes), processes)
    for job in jobs:
        one, two = ((tmp_path / str(n) / "runs" / job.key / "results.json").read_bytes() for n in (1, 2))
        assert one == two
