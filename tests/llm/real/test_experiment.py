"""The comparison from training to table, with a tiny model of random weights in the place of the real one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import Qwen2Config

from dar_ref import results
from dar_ref.llm.real import prompts
from dar_ref.real_model import experiment, report
from tests.llm.models.small_lm import HEADS, SIZES, save_small_lm

ROOT = str(Path(experiment.__file__).parents[3])
PYTHONPATH = os.pathsep.join([ROOT, os.environ.get("PYTHONPATH", "")])
CHATML = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SMALLER = (
    *("generation.max_completion_length=4", "data.max_prompt_tokens=1000", "training.save_steps=1"),
    "reward.name=tests.llm.training:reward",  # bytes at random are no words, and all rewards would be equal
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a tiny model and the prompts, where `make real-model` would write them."""
    folder = tmp_path_factory.mktemp("place")
    config = Qwen2Config(vocab_size=258, **SIZES | {"max_position_embeddings": 1024}, **HEADS)
    save_small_lm(folder / "out" / "real-model", config, template=CHATML)
    prompts.write_prompts(folder / "out" / "real-prompts")
    for file in folder.glob("out/real-prompts/*/test.jsonl"):
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:12]))
    return folder


def runs_of(*names):
    chosen = [run for run in experiment.RUNS if (run.task, run.name) in names]
    return tuple(run._replace(overrides=run.overrides + SMALLER, seeds=1) for run in chosen)


@pytest.fixture
def inside(place, monkeypatch):
    """The working directory is `place`, and the experiment has two short runs of ours and TRL's."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("PYTHONPATH", PYTHONPATH)
    monkeypatch.setattr(experiment, "RUNS", runs_of(("sentiment", "dar"), ("tldr", "grpo")))
    experiment._base.cache_clear()
    return place


@pytest.mark.slow
def test_runs_are_trained_measured_reported_and_prolonged(inside, capsys):
    assert experiment.main(["--updates", "1", "--report", "report"]) == 0
    content = json.loads((inside / "report" / "results.json").read_text())
    assert [(run["task"], run["run"]) for run in content["runs"]] == [("sentiment", "dar"), ("tldr", "grpo")]
    for run in content["runs"]:
        start, (end,) = content["pi_0"][run["task"]]["checkpoints"][0], run["checkpoints"]
        assert start["kl"] == 0.0
        assert end["step"] == 1
        assert end["kl"] != 0.0
        assert len(run["completions"]) == 12
    trained = inside / "out" / "real-experiment" / "sentiment" / "dar" / "seed-0"
    before = (trained / "results.json").stat().st_mtime_ns

    assert experiment.main(["--updates", "1", "--report", "report"]) == 0  # nothing is left to do
    assert (trained / "results.json").stat().st_mtime_ns == before
    assert json.loads((inside / "report" / "results.json").read_text()) == content

    assert experiment.main(["--updates", "2", "--task", "sentiment", "--report", "report"]) == 0
    longer = json.loads((inside / "report" / "results.json").read_text())
    assert longer["runs"][0]["checkpoints"][0] == content["runs"][0]["checkpoints"][0]
    assert [point["step"] for point in longer["runs"][0]["checkpoints"]] == [1, 2]
    assert json.loads((trained / "results.json").read_text())["steps"] == 2
    times = json.loads((inside / "report" / "run.json").read_text())["runs"]
    assert times["sentiment/dar/seed-0"]["mean"]["seconds/update"] > 0
    assert (inside / "report" / "sentiment-gold.png").read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()


def test_answers_to_other_prompts_are_not_judged_by_the_topics_of_today(tmp_path, monkeypatch):
    folder = tmp_path / "out" / "real-prompts" / "sentiment"
    folder.mkdir(parents=True)
    (folder / "test.jsonl").write_text("{}\n")
    monkeypatch.chdir(tmp_path)
    results.write_json(
        tmp_path / "sentiment" / "dar" / "seed-0" / "measured.json", {"prompts": "of then", "checkpoints": []}
    )
    with pytest.raises(ValueError, match=r"was measured on other test prompts than those of today; run .* without"):
        report.gathered(tmp_path, experiment.RUNS)


def test_without_the_model_the_message_says_how_to_get_it(tmp_path):
    """The command of the README, in a folder without the model and without a hub."""
    prompts_folder = tmp_path / "out" / "real-prompts" / "sentiment"
    prompts_folder.mkdir(parents=True)
    row = json.dumps({"prompt": [{"role": "user", "content": "hello"}]}) + "\n"
    for split in ("train", "validation"):
        (prompts_folder / f"{split}.jsonl").write_text(row)
    command = [sys.executable, "-m", "dar_ref.cli", "train", "--config", "smollm2-135m-sentiment"]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": PYTHONPATH}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "`make real-model` writes SmolLM2-135M-Instruct" in done.stderr
    assert done.stderr.count("\n") == 1
    shutil.rmtree(tmp_path)


def fake(answers, kl, labels=("dar",), tasks=("sentiment",)):
    """Contents of results.json with one run per label, whose answers have these values of proxy."""
    keys = ("gold", "positive", "on_topic", "fluency", "repetition", "length", "missing_eos")
    rows = [{"proxy": value, "kl": kl} | dict.fromkeys(keys, 0.5) for value in answers]
    point = {"step": 5} | {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}
    greedy = [{"prompt": "What is *it* like?", "answer": f"A {name}\nb"} for name in "xyz"]
    measured = {"checkpoints": [point], "completions": rows, "greedy": greedy}
    return {
        "planned": [
            {"task": task, "run": run.name, "label": run.label, "seeds": run.seeds}
            for task in tasks
            for run in experiment.RUNS
            if run.task == task
        ],
        "pi_0": dict.fromkeys(tasks, measured),
        "runs": [{"task": task, "run": name, "seed": 0} | measured for task in tasks for name in labels],
    }


def test_a_run_that_is_not_there_is_not_measured():
    lines = report.table(fake([0.0, 1.0] * 36, 3.0), "sentiment").splitlines()
    by_name = {line.split("|")[1].strip(): line for line in lines if line.startswith("|")}
    assert by_name["GRPO"].count("not measured") == len(report.COLUMNS["sentiment"])
    assert "not measured" not in by_name["DAR, the paper's values (1 of 3 seeds, 5 updates)"]


def test_answers_about_one_topic_are_drawn_together():
    """Answers that agree within a topic and differ between topics make a wide interval; else a narrow one."""
    between = [float(i >= 36) for i in range(72)]
    within = [float(i % 6 >= 3 - (i < 6) + (6 <= i < 12)) for i in range(72)]  # 4 of 6, 2 of 6, then 3 of 6
    wide, narrow = (
        report._intervals("sentiment", fake(values, 1.0)["runs"], 5)["proxy"] for values in (between, within)
    )
    assert wide.estimate == narrow.estimate == 0.5
    assert wide.high - wide.low > 0.4
    assert 0.0 < narrow.high - narrow.low < 0.15


def test_with_seeds_the_interval_is_over_them():
    content = fake([0.25] * 72, 1.0)
    other = fake([0.75] * 72, 1.0)["runs"][0] | {"seed": 1}
    interval = report._intervals("sentiment", [*content["runs"], other], 5)["proxy"]
    assert interval.estimate == 0.5
    assert interval.high - interval.low == pytest.approx(2 * 12.7062047 * 0.25, rel=1e-6)  # t(0.975, 1), std / sqrt(2)


def test_what_a_model_wrote_has_no_effect_as_markdown():
    text = report.sample_lines(fake([0.0] * 72, 1.0), "sentiment")
    assert "**What is \\*it\\* like?**" in text
    assert "- DAR, the paper's values: A x b" in text
    assert report._line("<b>[x](y)|`z`\n\n# t") == "\\<b\\>\\[x\\](y)\\|\\`z\\` \\# t"


def test_the_prompts_that_are_shown_are_chosen_before_the_runs():
    assert report.places_shown([str(i) for i in range(72)]) == [0, 24, 48]


def test_seeds_of_different_lengths_are_compared_at_the_last_step_of_all():
    content = fake([0.25] * 72, 1.0)
    longer = fake([0.75] * 72, 1.0)["runs"][0] | {"seed": 1}
    longer["checkpoints"] = [*longer["checkpoints"], longer["checkpoints"][0] | {"step": 10, "proxy": 9.0}]
    content["runs"].append(longer)
    (row,) = [line for line in report.table(content, "sentiment").splitlines() if "paper's values" in line]
    assert "(2 of 3 seeds, 5 updates)" in row
    assert "0.5 [" in row


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "0"], "--seeds = 0 is below 1"),
        (["--updates", "-5"], "--updates = -5 is below 1"),
        (["--updates", "7"], "pass a multiple of 5"),
        (
            ["--set", "training.learning_rate=1"],
            "is of a run with --set nothing, and here it is training.learning_rate",
        ),
    ],
)
def test_what_would_not_be_measured_or_is_there_otherwise_is_refused(tmp_path, capsys, words, message):
    for run in experiment.RUNS:
        results.write_json(
            tmp_path / run.task / run.name / "seed-0" / "measured.json", {"prompts": "", "checkpoints": []}
        )
    assert experiment.main(["--out", str(tmp_path), *words]) == 2
    assert message in capsys.readouterr().err


def test_a_run_that_was_trained_and_not_measured_keeps_its_options(tmp_path, capsys):
    """Its measurement was stopped, so no measured.json says what it was trained with."""
    results.write_json(tmp_path / experiment.SET, {"set": ["training.learning_rate=2"]})
    assert experiment.main(["--out", str(tmp_path), "--set", "training.learning_rate=1"]) == 2
    assert "is of a run with --set training.learning_rate=2, and here it is" in capsys.readouterr().err


def test_a_damaged_file_is_named(tmp_path, capsys):
    run = experiment.RUNS[0]
    file = tmp_path / run.task / run.name / "seed-0" / "measured.json"
    file.parent.mkdir(parents=True)
    file.write_text("{")
    assert experiment.main(["--out", str(tmp_path), "--task", run.task, "--runs", run.name]) == 2
    assert f"{file} is damaged" in capsys.readouterr().err
