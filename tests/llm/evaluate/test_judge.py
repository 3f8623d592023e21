"""`dar-ref evaluate judge`: what each kind of judge says, and what becomes of pairs without a verdict."""

import shutil

import numpy as np
import pytest
import torch
from scipy.special import expit

from dar_ref.llm.evaluate.judge import paired
from dar_ref.llm.evaluate.statistics import compared
from dar_ref.toy.policy import encode
from tests.llm.evaluate.setting import TINY, evaluate, function, gold, rows


@pytest.fixture
def out(generated, tmp_path):
    return shutil.copytree(generated, tmp_path / "out")


def judged(out, config, name, *words):
    """The verdicts of a judge on `other` against pi_0."""
    assert evaluate("judge", "--config", config, "--out", out, "--judge", name, *words) == 0
    return rows(out / "verdicts" / name / "other.vs.pi_0.jsonl")


def completions(out):
    ours, theirs = (rows(out / "completions" / f"{name}.jsonl") for name in ("other", "pi_0"))
    return list(zip(ours, theirs, strict=True))


def test_a_reward_model_says_the_sigmoid_of_the_difference(out, config, exported, start):
    """Its scores are those of the toy engine's own reward model."""
    model = f'reward={{kind: model, name: {exported / "reward_model"}, separator: " ", dtype: float32}}'
    verdicts = judged(out, config, "rm", model)

    def scores(side):
        words = [pair[side]["completion"].split() for pair in completions(out)]
        prompts = [pair[side]["prompt"].split() for pair in completions(out)]
        each = encode(TINY, prompts, words, [pair[side]["finished"] for pair in completions(out)])
        with torch.no_grad():
            return start.proxy(each).double().numpy()

    expected = expit(scores(0) - scores(1))
    np.testing.assert_allclose([row["first"] for row in verdicts], expected, atol=1e-6)
    assert all(row["first"] == row["second"] for row in verdicts)


def test_a_reward_function_wins_by_the_higher_reward(out, config):
    verdicts = judged(out, config, "gold", function("gold"))
    for row, (ours, theirs) in zip(verdicts, completions(out), strict=True):
        a, b = (gold([r["prompt"]], [r["completion"]], [r["ids"]])[0] for r in (ours, theirs))
        assert row["first"] == (0.5 if a == b else float(a > b))


def test_a_function_that_compares_is_asked_in_both_orders(out, config):
    verdicts = judged(out, config, "longer", function("longer"))
    for row, (ours, theirs) in zip(verdicts, completions(out), strict=True):
        lengths = [len(r["completion"]) for r in (ours, theirs)]
        if not all(r["completion"] for r in (ours, theirs)):
            assert (row["first"], row["reason"]) == (None, "empty")
        else:
            assert row["first"] == row["second"] == (np.sign(lengths[0] - lengths[1]) + 1) / 2


def test_a_judge_of_places_gives_ties_and_its_bias_is_shown(out, config):
    found = compared(judged(out, config, "place", function("first_place")), 0)
    assert (found["win_rate"], found["ties"], found["first_share"]) == (0.5, found["judged"], 1.0)
    assert found["agreement"] == 0.0


@pytest.mark.parametrize(("name", "reason"), [("sometimes", "nonsense"), ("late", "no answer")])
def test_pairs_without_a_verdict_are_counted_and_are_no_loss(out, config, capsys, name, reason):
    verdicts = judged(out, config, name, function(name))
    known = {(r["id"], r["sample"]): r["first"] for r in judged(out, config, "longer", function("longer"))}
    count = 0
    for row, (ours, theirs) in zip(verdicts, completions(out), strict=True):
        texts = ours["completion"], theirs["completion"]
        if all(texts) and "a" in "".join(texts):
            assert (row["first"], row["second"], row["reason"]) == (None, None, reason)
            count += 1
        else:
            assert row["first"] == known[row["id"], row["sample"]]
    assert count > 3
    assert f"{count} {reason}" in capsys.readouterr().out
    found, kept = compared(verdicts, 0), [row["first"] for row in verdicts if row["reason"] is None]
    assert found["win_rate"] == np.mean(kept)
    assert found["not_judged"][reason] == count
    others = sum(found["not_judged"].values())
    total = len(kept) + others
    assert found["bounds"] == pytest.approx([sum(kept) / total, (sum(kept) + others) / total])


def test_what_had_no_answer_is_asked_again_and_nothing_else(out, config, monkeypatch):
    from tests.llm.evaluate import setting

    first = judged(out, config, "late", function("late"))
    asked = []
    monkeypatch.setattr(setting, "late", lambda _prompt, a, b: asked.append((a, b)) or 1.0)
    second = judged(out, config, "late", function("late"))
    again = [row for row in first if row["reason"] == "no answer"]
    assert len(asked) == 2 * len(again)
    for before, after in zip(first, second, strict=True):
        assert after == before if before["reason"] != "no answer" else after["first"] == 1.0


def test_a_stopped_judge_goes_on_and_asks_nothing_twice(out, config, monkeypatch):
    from dar_ref.llm.evaluate import judge
    from tests.llm.evaluate import setting

    monkeypatch.setattr(judge, "CHUNK", 4)
    expected = judged(out, config, "whole", function("longer"))
    asked = []

    def stops(prompt, a, b):
        asked.append((prompt, a, b))
        if len(asked) == 21:
            raise KeyboardInterrupt
        return setting.longer(prompt, a, b)

    monkeypatch.setattr(setting, "longer_but_stopped", stops, raising=False)
    words = ["--config", config, "--out", out, "--judge", "s", function("longer_but_stopped")]
    assert evaluate("judge", *words) == 130
    assert evaluate("judge", *words) == 0
    assert [(r["first"], r["second"]) for r in rows(out / "verdicts/s/other.vs.pi_0.jsonl")] == [
        (r["first"], r["second"]) for r in expected
    ]
    assert len(asked) <= 2 * len(expected) + 1 + 2 * 4  # the batch that was stopped, once more


def test_what_had_no_answer_before_a_stop_is_asked_again(out, config, monkeypatch):
    from dar_ref.llm.evaluate import judge
    from tests.llm.evaluate import setting

    monkeypatch.setattr(judge, "CHUNK", 4)
    asked = []

    def down_then_stopped(_prompt, _a, _b):
        asked.append(None)
        if len(asked) == 21:
            raise KeyboardInterrupt
        if len(asked) > 21:
            return 1.0
        raise TimeoutError

    monkeypatch.setattr(setting, "down", down_then_stopped, raising=False)
    words = ["--config", config, "--out", out, "--judge", "d", function("down")]
    assert evaluate("judge", *words) == 130
    assert evaluate("judge", *words) == 0
    reasons = {row["reason"] for row in rows(out / "verdicts/d/other.vs.pi_0.jsonl")}
    assert reasons <= {None, "empty"}


def test_missing_partners_are_counted():
    ours = [{"id": "a", "sample": 0}, {"id": "a", "sample": 1}, {"id": "b", "sample": 0}]
    theirs = [{"id": "a", "sample": 0}, {"id": "c", "sample": 0}]
    pairs, lacking = paired(ours, theirs)
    assert [(p.a["sample"], p.b["id"]) for p in pairs] == [(0, "a"), (1, "a")]  # one answer serves both samples
    assert lacking == 2
    assert compared([], lacking)["not_judged"] == {"missing": 2}


def test_no_verdict_at_all_is_no_success(out, config, capsys, monkeypatch):
    from tests.llm.evaluate import setting

    monkeypatch.setattr(setting, "mute", lambda *_: None, raising=False)
    assert evaluate("judge", "--config", config, "--out", out, function("mute")) == 1
    assert "none" in capsys.readouterr().out


REFUSED = {
    "broken": ([function("broken")], "judge tests.llm.evaluate.setting:broken failed with ZeroDivisionError"),
    "nobody": ([function("nobody")], "no nobody in it"),
    "a task": (["--task", "math"], "--task 'math' is none of tldr, helpful, harmless"),
    "a reference": (["--reference", "gpt"], "no completions of 'gpt'; there are other, pi_0"),
    "a policy": (["--policy", "gpt"], "no completions of 'gpt'"),
}


@pytest.mark.parametrize(("words", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(out, config, capsys, words, message):
    assert evaluate("judge", "--config", config, "--out", out, *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_folder_without_completions_names_the_command(config, tmp_path, capsys):
    assert evaluate("judge", "--config", config, "--out", tmp_path) == 2
    assert "holds no completions; run `dar-ref evaluate generate" in capsys.readouterr().err


def test_another_judge_or_other_completions_under_the_same_name_are_refused(out, config, capsys):
    judged(out, config, "j", function("longer"))
    assert evaluate("judge", "--config", config, "--out", out, "--judge", "j", function("first_place")) == 2
    assert "was made from something else: judge = " in capsys.readouterr().err
    file = out / "completions" / "other.jsonl"
    file.write_text(file.read_text().replace("true", "false", 1))
    assert evaluate("judge", "--config", config, "--out", out, "--judge", "j", function("longer")) == 2
    assert "other.jsonl is damaged" in capsys.readouterr().err


def test_a_file_beside_the_working_directory_is_a_judge(out, config, tmp_path):
    (tmp_path / "my_evaluation_judge.py").write_text("def best(prompt, a, b):\n    return 0.75\n")
    verdicts = judged(out, config, "f", f"reward={{kind: function, name: '{tmp_path}/my_evaluation_judge.py:best'}}")
    assert {(row["first"], row["second"]) for row in verdicts if row["reason"] is None} == {(0.75, 0.25)}
