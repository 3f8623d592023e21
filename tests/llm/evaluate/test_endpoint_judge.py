"""A language model as a judge, at a stub endpoint: both orders, what it costs, and how it fails."""

import json
import shutil
import time

import pytest

from dar_ref.llm.evaluate import TASKS
from dar_ref.llm.evaluate.endpoint_judge import EndpointJudge
from dar_ref.llm.evaluate.judges import Pair
from dar_ref.llm.evaluate.statistics import compared, graded
from dar_ref.llm.options import RewardOptions
from tests.llm.evaluate.setting import evaluate, rows
from tests.llm.models.small_lm import save_small_lm
from tests.llm.rewards.test_annotator import SECRET, completion, error, serve  # noqa: F401 - the fixture

USAGE = {"prompt_tokens": 100, "completion_tokens": 3, "total_tokens": 103}


def answers(request):
    """What stands in both places of our words."""
    text = request["messages"][0]["content"]
    return tuple(text.split(f"<<< answer {letter}\n")[1].split("\n>>>")[0] for letter in "AB")


def longest(_number, request):
    a, b = map(len, answers(request))
    return 200, completion("C" if a == b else "A" if a > b else "B") | {"usage": USAGE}


@pytest.fixture
def at(serve, generated, config, tmp_path):  # noqa: F811 - the fixture
    """A function that judges `other` at an endpoint with this reply; returns stub, exit status and folder."""
    out = shutil.copytree(generated, tmp_path / "out")

    def run(reply, stub=None, **options):
        stub = stub or serve(reply)
        stub.reply = reply
        chosen = {"kind": "annotator", "name": "judge", "base_url": stub.address, "timeout": 5.0, "retries": 2}
        section = json.dumps({**chosen, "logprobs": False, "concurrency": 4} | options)
        return stub, evaluate("judge", "--config", config, "--out", out, "--judge", "j", f"reward={section}"), out

    return run


def verdicts(out):
    return rows(out / "verdicts" / "j" / "other.vs.pi_0.jsonl")


def pair(a, b, prompt="2 + 2 ="):
    return Pair({"prompt": prompt, "completion": a}, {"prompt": prompt, "completion": b})


@pytest.fixture
def judge_at(serve):  # noqa: F811 - the fixture
    """A function that gives the stub and the judge for a reply."""
    made = []

    def make(reply, task="helpful", **options):
        stub = serve(reply)
        chosen = {"kind": "annotator", "name": "judge", "base_url": stub.address, "logprobs": False, "retries": 0}
        made.append(EndpointJudge(RewardOptions(**chosen | options), task))
        return stub, made[-1]

    yield make
    for judge in made:
        judge.close()


# --- what is asked and read -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_each_task_has_words_of_its_own_that_hold_the_material(judge_at, task):
    _, judge = judge_at(longest, task)
    text = judge.render([{"role": "user", "content": "{a}"}], "one {b}", "two")
    assert "<<< prompt\nuser: {a}\n>>>\n<<< answer A\none {b}\n>>>\n<<< answer B\ntwo\n>>>" in text
    others = [judge_at(longest, other)[1].content() for other in TASKS]
    assert others.count(judge.content()) == 1


def test_both_orders_are_asked_and_disagreement_is_a_tie(judge_at):
    stub, judge = judge_at(lambda _n, r: (200, completion("B" if "bad" in answers(r)[0] else "A")))
    good, same = judge([pair("good", "bad"), pair("same 1", "same 2")])
    assert (good.first, good.second) == (1.0, 1.0)
    assert (same.first, same.second) == (1.0, 0.0)
    assert len(stub.requests) == 4
    found = compared([{"reason": None, "first": 1.0, "second": 0.0, "tokens": [0, 0], "lengths": [1, 1]}], 0)
    assert (found["ties"], found["first_share"], found["agreement"]) == (1, 1.0, 0.0)


@pytest.mark.parametrize(
    ("text", "first"),
    [("A", 1.0), ("b.", 0.0), ("**C**", 0.5), ("Answer: B", 0.0), ("The better answer is A.", 1.0), ("[[A]]", 1.0)]
    + [("<think>B or A? B!</think>\n\nA", 1.0)]
    + [(nonsense, None) for nonsense in ("", "A or B", "neither", "Both are good answers.", "AB", "7", "<think>A")],
)
def test_one_letter_is_a_verdict_and_anything_else_is_nonsense(judge_at, text, first):
    (verdict,) = judge_at(lambda *_: (200, completion(text)))[1]([pair("x", "y")])
    assert (verdict.first, verdict.reason) == (first, None if first is not None else "nonsense")


def test_your_own_words_need_the_three_places(judge_at, tmp_path):
    (tmp_path / "words").write_text("{prompt}|{a}|{b}")
    assert judge_at(longest, rubric=str(tmp_path / "words"))[1].render("p", "x", "y") == "p|x|y"
    (tmp_path / "words").write_text("{prompt}|{a}")
    with pytest.raises(ValueError, match=r"has no place for \{b\}"):
        judge_at(longest, rubric=str(tmp_path / "words"))


def test_an_empty_answer_is_not_asked_about(judge_at):
    stub, judge = judge_at(longest)
    empty, whole = judge([pair(" ", "y"), pair("x", "yy")])
    assert (empty.reason, whole.first, len(stub.requests)) == ("empty", 0.0, 2)


# --- what it costs ----------------------------------------------------------------------------------------------------


def test_tokens_are_counted_once_for_each_request(at):
    stub, status, out = at(longest)
    assert status == 0
    found = compared(verdicts(out), 0)
    assert found["tokens"] == [100 * len(stub.requests), 3 * len(stub.requests)]
    assert SECRET not in "".join(file.read_text() for file in out.rglob("*.json*"))


def test_a_second_judging_pays_nothing(at):
    stub, _, out = at(longest)
    before, asked = verdicts(out), len(stub.requests)
    assert at(longest, stub)[1] == 0
    shutil.rmtree(out / "verdicts")  # and without the verdicts, the answers are still there
    assert at(longest, stub)[1] == 0
    assert (verdicts(out), len(stub.requests)) == (before, asked)


# --- how it fails -----------------------------------------------------------------------------------------------------


def test_an_endpoint_that_fails_stalls_and_limits_its_rate_loses_nothing(at):
    """Every third request fails, some stall beyond the timeout: all are asked again, and the verdicts are the same."""
    _, _, out = at(longest)
    expected = verdicts(out)
    shutil.rmtree(out / "verdicts")
    shutil.rmtree(out / "cache")

    def trouble(number, request):
        if number % 7 == 0:
            time.sleep(1.2)
        return {0: error(500), 1: error(429)}.get(number % 5, longest(number, request))

    stub, status, _ = at(trouble, timeout=0.6, retries=8)
    assert status == 0
    assert verdicts(out) == expected
    assert len(stub.requests) > 2 * len(expected) / 2


def test_what_times_out_is_counted_and_asked_again_later_and_paid_once(at):
    def slow(number, request):
        if "a" in "".join(answers(request)):
            time.sleep(0.6)
        return longest(number, request)

    stub, status, out = at(slow, timeout=0.3, retries=0)
    assert status == 0
    first = verdicts(out)
    unanswered = [row for row in first if row["reason"] == "no answer"]
    assert unanswered
    assert compared(first, 0)["not_judged"]["no answer"] == len(unanswered)
    asked = len(stub.requests)
    _, status, _ = at(longest, stub, timeout=0.3, retries=0)
    second = verdicts(out)
    assert status == 0
    assert {row["reason"] for row in second} <= {None, "empty"}
    assert len(stub.requests) - asked <= 2 * len(unanswered)
    for before, after in zip(first, second, strict=True):
        assert after == before or before["reason"] == "no answer"


def test_an_endpoint_that_is_down_stops_at_once_and_is_resumed(at, capsys):
    stub, status, out = at(lambda *_: error(500), retries=0)
    assert status == 2
    assert "did not answer after 0 retries" in capsys.readouterr().err
    assert len(stub.requests) <= 64
    assert at(longest, stub)[1] == 0
    assert all(row["reason"] in (None, "empty") for row in verdicts(out))


def test_a_refusal_stops_at_once_without_the_key(at, capsys):
    stub, status, _ = at(lambda *_: error(401, f"bad key {SECRET}"))
    message = capsys.readouterr().err
    assert (status, SECRET in message, "status 401" in message) == (2, False, True)
    assert len(stub.requests) <= 64


def test_a_judge_of_nonsense_is_counted_and_then_given_up(at, capsys, monkeypatch):
    from dar_ref.llm.evaluate import judge

    assert at(lambda *_: (200, completion("I cannot say.")))[1] == 1
    assert "nonsense" in capsys.readouterr().out
    shutil.rmtree(at(longest)[2] / "verdicts")
    monkeypatch.setattr(judge, "GIVE_UP", 8)
    monkeypatch.setattr(judge, "CHUNK", 4)
    body = completion("Well")
    body["choices"][0]["finish_reason"] = "length"
    stub, status, _ = at(lambda *_: (200, body))
    assert status == 2
    assert "not one of the first 8 has a verdict" in (message := capsys.readouterr().err)
    assert "ended at reward.max_tokens, raise it" in message
    assert len(stub.requests) <= 16


# --- questions of two turns -------------------------------------------------------------------------------------------

TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
QUESTIONS = "tests/llm/evaluate/questions.jsonl"


@pytest.fixture
def chat(tmp_path):
    """The words of a command for a chat model with random weights."""
    save_small_lm(tmp_path / "policy", template=TEMPLATE)
    content = {
        "model": {"name": str(tmp_path / "policy"), "dtype": "float32"},
        "data": {"prompts": "none"},
        "reward": {"kind": "function", "name": "tests.llm.evaluate.setting:grade"},
        "training": {"use_cpu": True, "bf16": False},
        "generation": {"max_completion_length": 8},
    }
    (tmp_path / "run.yaml").write_text(json.dumps(content))
    return ["--config", tmp_path / "run.yaml", "--out", tmp_path / "out"]


def test_both_turns_are_answered_in_one_conversation_and_graded(chat, tmp_path, monkeypatch):
    from dar_ref.llm.evaluate import sampling

    seen, real = [], sampling.sample
    monkeypatch.setattr(sampling, "sample", lambda *a, **k: seen.append(a[1]) or real(*a, **k))
    assert evaluate("generate", *chat, "--questions", QUESTIONS) == 0
    found = rows(tmp_path / "out" / "dialogues" / "pi_0.jsonl")
    assert [row["id"] for row in found] == ["1", "2", "3", "4"]
    assert (len(seen), [len(batch) for batch in seen]) == (2, [4, 4])
    for row in found:
        (second,) = (ids for ids in seen[1] if bytes_of(row["turns"][1]) in text_of(ids))
        conversation = (
            f"user: {row['turns'][0]}<eos>assistant: {row['completions'][0]}<eos>user: {row['turns'][1]}<eos>"
        )
        assert text_of(second) == bytes_of(conversation + "assistant: ")
    assert evaluate("judge", *chat, "--judge", "g") == 0
    grades = rows(tmp_path / "out" / "grades" / "g" / "pi_0.jsonl")
    for row, graded_row in zip(found, grades, strict=True):
        reference = row["columns"]["reference"] or ["", ""]
        for turn in (0, 1):
            length = len(row["turns"][turn]) + len(row["completions"][turn]) + len(reference[turn])
            assert graded_row["grades"][turn] in ([None] if not row["completions"][turn].strip() else [1 + length % 10])


def text_of(ids):
    """The text of byte tokens, with the end written out; what a random model wrote may be no UTF-8."""
    from tests.llm.models.small_lm import bytes_tokenizer

    return bytes_of(bytes_tokenizer().decode([i for i in ids if i != 0]))


def bytes_of(text):
    return text.encode("utf-8", errors="replace")


def test_the_grader_sees_the_reference_and_nonsense_is_counted(serve, chat, tmp_path):  # noqa: F811
    assert evaluate("generate", *chat, "--questions", QUESTIONS) == 0
    asked = rows(QUESTIONS)

    def reply(_number, request):
        text = request["messages"][0]["content"]
        turn = "second" if "second question only" in text else "first"
        (row,) = (row for row in asked if row["turns"][0] in text)
        reference = row.get("reference", [None, None])[turn == "second"]
        expected = "" if reference is None else f"<<< reference answer, which is right\n{reference}\n>>>"
        assert expected in text
        assert text.count("<<< reference answer") == (reference is not None)
        return 200, completion({"first": "4", "second": "second: 7"}[turn] if row["question_id"] > 1 else "no idea")

    stub = serve(reply)
    section = json.dumps({"kind": "annotator", "name": "m", "base_url": stub.address, "logprobs": False})
    assert evaluate("judge", *chat, "--judge", "m", f"reward={section}") == 0
    found = graded(rows(tmp_path / "out" / "grades" / "m" / "pi_0.jsonl"))
    reasons = found["not_judged"]
    assert reasons.keys() <= {"nonsense", "empty"}
    assert sum(reasons.values()) + found["judged"] == 8
    assert {round(turn, 6) for turn in found["turns"]} == {4.0, 7.0}
    assert found["not_judged"]["nonsense"] >= 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question_id": 1, "turns": ["only one"]}, "question 1: turns = \\['only one'\\] are not 2 texts"),
        ({"question_id": 1}, "turns = None are not 2 texts"),
        ({"turns": ["a", "b"], "reference": ["c"]}, "reference = \\['c'\\] are not 2 texts"),
    ],
)
def test_a_row_that_is_no_question_is_refused(chat, tmp_path, capsys, row, message):
    (tmp_path / "q.jsonl").write_text(json.dumps(row) + "\n")
    assert evaluate("generate", *chat, "--questions", tmp_path / "q.jsonl") == 2
    import re

    assert re.search(message, capsys.readouterr().err)
