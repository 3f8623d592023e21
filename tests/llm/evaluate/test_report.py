"""`dar-ref evaluate report`: its rates are those of the toy engine, its tables those of the paper's layout."""

import json
import shutil

import numpy as np
import pytest
from transformers import Qwen2ForCausalLM

from dar_ref.evaluation import TABLE_1, alpaca_eval_win_rate, wilson
from dar_ref.llm.evaluate import run_log, statistics
from dar_ref.llm.evaluate.statistics import by_prompt, compared, intervals, mean_of_tasks, places_of_prompts
from dar_ref.toy.measure import Evaluator
from tests import file_faults
from tests.llm.evaluate.setting import evaluate, function, gold, moved, rows, run_file


def read(folder):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    """Enough for what is tested here."""
    monkeypatch.setattr(statistics, "RESAMPLES", 100)


@pytest.fixture
def judged(generated, config, tmp_path):
    """A folder with verdicts of two judges."""
    out = shutil.copytree(generated, tmp_path / "out")
    for name, word in (("gold", "gold"), ("longer", "longer")):
        assert evaluate("judge", "--config", config, "--out", out, "--judge", name, function(word)) == 0
    return out


def test_the_toy_engines_own_evaluation_of_the_same_samples(start, exported, other, tmp_path):
    """The engine samples from both policies and measures; its samples as a file give the same rates here."""
    policy = Qwen2ForCausalLM.from_pretrained(other)
    engine = Evaluator(start, start.prompts.test)
    measured = engine.evaluate(policy, annotations=0)
    vocabulary = start.task.vocabulary
    words = ["--config", run_file(tmp_path, exported), "--out", tmp_path / "out"]
    (tmp_path / "names").mkdir()
    for name, drawn in (("other", engine._sample(policy)), ("ref", engine.reference)):
        lengths = (drawn.mask.sum(dim=1) - drawn.finished.long()).tolist()
        texts = [" ".join(vocabulary[i] for i in ids[:n]) for ids, n in zip(drawn.ids.tolist(), lengths, strict=True)]
        file = tmp_path / "names" / f"{name}.jsonl"
        answers = [{"id": i, "completion": text} for i, text in enumerate(texts)]
        file.write_text("".join(json.dumps(row) + "\n" for row in answers))
        words += ["--policy", f"{name}={file}"]
    assert evaluate("generate", *words) == 0
    for name, drawn in (("other", engine._sample(policy)), ("ref", engine.reference)):
        cut_off(tmp_path / "out" / "completions" / name, drawn.finished.tolist())
    assert (
        evaluate("judge", *words[:4], "--policy", "other", "--reference", "ref", "--judge", "g", function("gold")) == 0
    )
    assert evaluate("report", tmp_path / "out", "--out", tmp_path / "report") == 0
    (found,) = read(tmp_path / "report")["comparisons"]
    assert found["win_rate"] == pytest.approx(measured["win_rate"], abs=1e-15)
    assert found["intervals"]["lc_win_rate"]["estimate"] == pytest.approx(measured["lc_win_rate"], abs=1e-12)
    assert found["length"] == pytest.approx(measured["length"], abs=1e-12)
    completions = read(tmp_path / "report")["completions"]["other"]["other"]
    for metric in ("length", "missing_eos", "repetition"):
        assert completions[metric] == pytest.approx(measured[metric], abs=1e-12)


def cut_off(path, finished):
    """Tell a file of answers, which count as ended, which of them the engine had cut off."""
    from dar_ref.llm.evaluate.store import RowFile, read_rows

    done = read_rows(path)
    changed = [
        {**row, "finished": end, "ids": row["ids"] if end else row["ids"][:-1]}
        for row, end in zip(done.rows, finished, strict=True)
    ]
    work = RowFile(path, done.head, ["id", "sample"])
    work.reopen([])
    work.add(changed)
    work.finish((row["id"], 0) for row in changed)


def test_our_samples_have_the_win_rate_that_enumeration_gives(start, exported, tmp_path):
    """100 answers to each prompt against 300: within four standard errors of the exact rate under the gold reward."""
    from dar_ref.toy.exact.enumerate import log_probs, tables

    worse = moved(exported, tmp_path / "worse", size=2.0)
    table = tables(start, start.prompts.test)
    ours = np.exp(log_probs(Qwen2ForCausalLM.from_pretrained(worse).requires_grad_(False), table.prompt_ids))
    theirs = np.exp(table.log_pi_0)
    beats = np.sign(table.gold[:, :, None] - table.gold[:, None, :]) / 2 + 0.5  # (N, R, R)
    per_prompt = np.einsum("na,nab,nb->n", ours, beats, theirs)
    words = ["--config", run_file(tmp_path, exported), "--out", tmp_path / "out"]
    assert evaluate("generate", *words, "--policy", f"worse={worse}", "--samples", 100, "--batch-size", 600) == 0
    assert evaluate("judge", *words, "--judge", "g", function("gold")) == 0
    verdicts = rows(tmp_path / "out" / "verdicts" / "g" / "worse.vs.pi_0.jsonl")
    found = compared(verdicts, 0)["win_rate"]
    assert abs(found - per_prompt.mean()) < 4 * 0.5 / np.sqrt(100 * len(per_prompt))
    assert abs(per_prompt.mean() - 0.5) > 0.08  # so that a rate of one half would not do


def test_every_rate_is_recomputed_from_the_files(judged, tmp_path):
    assert evaluate("report", judged, "--out", tmp_path / "report") == 0
    found = {row["judge"]: row for row in read(tmp_path / "report")["comparisons"]}
    ours, theirs = (rows(judged / "completions" / f"{name}.jsonl") for name in ("other", "pi_0"))
    outcomes = []
    for a, b in zip(ours, theirs, strict=True):
        score = [gold([r["prompt"]], [r["completion"]], [r["ids"]])[0] for r in (a, b)]
        outcomes.append((np.sign(score[0] - score[1]) + 1) / 2)
    row = found["gold"]
    assert row["win_rate"] == row["intervals"]["win_rate"]["estimate"] == np.mean(outcomes)
    assert (row["wins"], row["ties"], row["losses"]) == tuple(outcomes.count(value) for value in (1.0, 0.5, 0.0))
    assert row["intervals"]["wilson"] is None  # two answers a prompt are not independent
    assert "several answers a prompt: not independent" in (tmp_path / "report" / "report.md").read_text()
    chars = [[len(r["completion"]) for r in side] for side in (ours, theirs)]
    assert row["intervals"]["lc_alpaca_eval"] == alpaca_eval_win_rate(outcomes, *chars)
    empty = sum(not (a["completion"] and b["completion"]) for a, b in zip(ours, theirs, strict=True))
    assert found["longer"]["not_judged"] == {"empty": empty}
    assert row["prompts"] == len({r["id"] for r in ours})
    export = json.loads((tmp_path / "report/alpaca_eval/other/gold/other.vs.pi_0.json").read_text())
    assert [r["preference"] - 1 for r in export] == outcomes
    assert [(r["instruction"], r["output_2"], r["output_1"]) for r in export] == [
        (a["prompt"], a["completion"], b["completion"]) for a, b in zip(ours, theirs, strict=True)
    ]


def test_the_same_files_give_the_same_bytes_and_other_completions_are_refused(judged, tmp_path, capsys, config):
    for name in ("first", "second"):
        assert evaluate("report", judged, "--out", tmp_path / name) == 0
    first, second = ((tmp_path / name / "results.json").read_bytes() for name in ("first", "second"))
    assert first == second
    shutil.rmtree(judged / "completions")
    assert evaluate("generate", "--config", config, "--samples", 2, "--seed", 1, "--out", judged) == 0
    assert evaluate("report", judged, "--out", tmp_path / "third") == 2
    capsys.readouterr()


def test_a_report_that_is_killed_is_no_report_and_is_made_again(judged, tmp_path):
    assert evaluate("report", judged, "--out", tmp_path / "whole") == 0
    for at in (2, 5, 8):
        with file_faults.stopped_at(at) as happened:
            evaluate("report", judged, "--out", tmp_path / "out")
        assert happened
        assert evaluate("report", judged, "--out", tmp_path / "out") == 0
        assert read(tmp_path / "out") == read(tmp_path / "whole")


# --- tables -----------------------------------------------------------------------------------------------------------


def test_tables_have_the_papers_layout_and_its_figures_in_columns_of_their_own(generated, config, tmp_path):
    folders = []
    for task in ("tldr", "helpful", "harmless"):
        out = shutil.copytree(generated, tmp_path / task)
        (out / "completions").mkdir(exist_ok=True)
        for ending in (".json", ".jsonl"):
            (out / "completions" / f"other{ending}").rename(out / "completions" / f"dar{ending}")
        words = ["--config", config, "--out", out, "--judge", "g", "--task", task, function("gold")]
        assert evaluate("judge", *words) == 0
        folders.append(out)
    assert evaluate("report", *folders, "--out", tmp_path / "report") == 0
    text = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    first = next(block for block in text.split("\n\n") if "TL;DR, % (paper)" in block)
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in first.splitlines()]
    header, by_method = lines[0], {line[0]: line[1:] for line in lines[2:]}
    assert header[1:3] == ["TL;DR, %", "TL;DR, % (paper)"]
    assert [float(by_method["dar"][i]) for i in (1, 3, 5, 7)] == list(TABLE_1.values["dar"].values())
    assert by_method["dpo"][::2] == ["not measured"] * 4
    rates = [row["win_rate"] for row in read(tmp_path / "report")["comparisons"]]
    (mean,) = read(tmp_path / "report")["means"]
    assert mean["interval"]["estimate"] == pytest.approx(np.mean(rates))
    single = read(tmp_path / "report")["comparisons"][0]["intervals"]["win_rate"]
    assert mean["interval"]["high"] - mean["interval"]["low"] < single["high"] - single["low"]  # three sets of prompts
    assert "paper: arXiv 2602.11523, Table 1" in text
    assert "paper: arXiv 2602.11523, Table 2" in text


def test_prompts_and_not_answers_are_the_units():
    """Ten answers to one prompt that all agree are one observation."""
    ids = [str(i // 10) for i in range(100)]
    outcomes = np.repeat(np.arange(10) % 2, 10).astype(float)
    wide = by_prompt(places_of_prompts(ids), lambda drawn: float(outcomes[drawn].mean()))
    narrow = by_prompt(places_of_prompts([str(i) for i in range(100)]), lambda drawn: float(outcomes[drawn].mean()))
    assert wide.high - wide.low > 2.5 * (narrow.high - narrow.low)


def test_one_prompt_and_equal_outcomes_are_not_an_interval():
    row = {"id": "a", "sample": 0, "first": 1.0, "second": 1.0, "reason": None, "lengths": [3, 2], "tokens": [0, 0]}
    one = intervals([row], [(5, 4)])
    assert one["win_rate"].reason == "one unit: nothing varies"
    assert one["lc_alpaca_eval"] is None
    alike = intervals([{**row, "id": str(i), "lengths": [3 + i, 2]} for i in range(8)], [(5 + i, 4) for i in range(8)])
    assert "same in each of 100 resamples of 8 units" in alike["win_rate"].reason
    assert alike["wilson"] == wilson(8, 8)
    assert alike["wilson"].low < 0.7  # which is what eight wins say
    assert mean_of_tasks([(["a"], np.array([1.0])), ([], np.zeros(0))]) is None
    assert "is the same" in mean_of_tasks([(["a", "b"], np.ones(2))] * 3).reason


# --- runs -------------------------------------------------------------------------------------------------------------


def train_log(folder, proxy, **series):
    folder.mkdir(parents=True)
    log = [
        {"step": i, "reward": value, "reward_std": 1.0, **{name: values[i] for name, values in series.items()}}
        for i, value in enumerate(proxy)
    ]
    (folder / "results.json").write_text(json.dumps({"log": [*log, {"step": 9, "eval_loss": 1.0}]}))
    return folder


def test_a_runs_log_gives_one_figure_and_one_verdict(tmp_path, capsys):
    steps = np.arange(20) / 19
    series = {"kl/pi_0_k1": 40 * steps, "completions/mean_length": 10 + 20 * steps}
    hacked = train_log(tmp_path / "hacked", steps.tolist(), **{name: list(v) for name, v in series.items()})
    calm = train_log(tmp_path / "calm", steps.tolist())
    words = ["--run", f"hacked={hacked}", "--run", f"calm={calm}", "--out", tmp_path / "report"]
    assert evaluate("report", *words) == 0
    found = read(tmp_path / "report")["runs"]
    assert {name: run["verdict"] for name, run in found.items()} == {"hacked": "suspect", "calm": "no sign"}
    for name in found:
        assert (tmp_path / "report" / f"hacking-{name}.png").read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    assert "| kl |" in shown
    assert "| 5 nats | yes |" in shown


def test_the_figure_draws_the_thresholds_of_the_verdict(tmp_path):
    kl, length = [0.0] * 20 + [7.0] * 20, [10.0] * 40
    folder = train_log(tmp_path / "a", [0.0] * 40, **{"kl/pi_0_k1": kl, "completions/mean_length": length})
    content = json.loads((folder / "results.json").read_text())
    content["log"][0]["reward_std"] = 0.2  # one step says little: the scale is the mean of the first tenth, four steps
    (folder / "results.json").write_text(json.dumps(content))
    levels = run_log.panels_of(run_log.read_log(folder), "a").levels
    assert levels == pytest.approx({"proxy reward": 0.25 * (0.2 + 3) / 4, "KL to pi_0, nats": 5.0, "tokens": 13.0})


ONE_STEP = {"log": [{"reward": 1.0, "reward_std": 1.0, "step": 1}]}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        *((content, "is no log of a run") for content in ("{}", "[]", "{")),
        ('{"log": []}', "no line of its log has a reward"),
        ('{"log": [{"rewards/chosen": 1.0, "step": 1}]}', "no line of its log has a reward"),
        ('{"log": [{"reward": 1.0, "step": 1}]}', "the log has no proxy_std"),
        (json.dumps(ONE_STEP), "has one step: nothing to compare"),
        (json.dumps({"log": [{"reward": 1.0, "reward_std": 0.0, "step": i} for i in (1, 2)]}), "gives no scale"),
    ],
)
def test_a_folder_without_a_log_is_refused_for_its_reason(tmp_path, capsys, content, reason):
    (tmp_path / "results.json").write_text(content)
    assert evaluate("report", "--run", f"a={tmp_path}", "--out", tmp_path / "report") == 2
    assert reason in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_refused_by_name(judged, tmp_path, capsys):
    assert evaluate("report", judged, tmp_path / "misspelt", "--out", tmp_path / "report") == 2
    assert "misspelt is no folder" in capsys.readouterr().err


def test_a_report_lies_in_its_folder_and_is_made_anew_with_one_run_more(judged, tmp_path):
    assert evaluate("report", judged) == 0
    hacked = train_log(tmp_path / "hacked", [0.0, 1.0])
    assert evaluate("report", judged, "--run", f"old={hacked}") == 0
    assert evaluate("report", judged, "--run", f"new={hacked}") == 0
    assert list(read(judged / "report")["runs"]) == ["new"]
    assert [picture.name for picture in (judged / "report").glob("*.png")] == ["hacking-new.png"]


def test_prompts_of_your_own_stand_in_no_column_of_the_paper(judged):
    assert evaluate("report", judged) == 0
    assert {row["task"] for row in read(judged / "report")["comparisons"]} == {"other"}
    assert "paper's Table 1" not in (judged / "report" / "report.md").read_text()


def test_nothing_to_report_says_which_command_is_missing(tmp_path, capsys):
    assert evaluate("report", tmp_path, "--out", tmp_path / "report") == 2
    assert "run `dar-ref evaluate judge` first" in capsys.readouterr().err


def test_two_folders_with_one_task_are_refused_and_none_is_dropped(judged, tmp_path, capsys):
    assert evaluate("report", judged, judged, "--out", tmp_path / "report") == 2
    assert "on other by gold is in another of the folders too" in capsys.readouterr().err
    assert not (tmp_path / "report" / "results.json").exists()
