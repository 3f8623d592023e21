"""The annotator with a local stub server: what it sends, how it reads answers, and how it fails."""

import json
import logging
import math
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dar_ref.llm.options import RewardOptions
from dar_ref.llm.rewards.function import check_reward, make_reward

SECRET = "sk-the-key-that-nobody-may-see"
EOS = 9


class Stub(ThreadingHTTPServer):
    """An endpoint; `reply(number, request)` gives (status, body) or a token list of the answer."""

    daemon_threads = True

    def __init__(self, reply):
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply, self.requests, self.keys, self.lock = reply, [], [], threading.Lock()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append(request)
            self.server.keys.append(self.headers["Authorization"])
            number = len(self.server.requests)
        status, body = self.server.reply(number, request)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            if status != 200:
                self.send_header("retry-after-ms", "1")
            self.end_headers()
            self.wfile.write(content)
        except ConnectionError:
            pass  # the client timed out, as it should

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def serve(monkeypatch):
    """A function that starts a stub and returns it; `OPENAI_API_KEY` is set."""
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    stubs = []

    def start(reply):
        stubs.append(Stub(reply))
        threading.Thread(target=stubs[-1].serve_forever, args=(0.01,), daemon=True).start()
        return stubs[-1]

    yield start
    for stub in stubs:
        stub.shutdown()
        stub.server_close()


@pytest.fixture
def reward_at(serve):
    """A function that gives (stub, reward) for a reply."""
    rewards = []

    def make(reply, **options):
        stub = serve(reply)
        defaults = {"kind": "annotator", "name": "judge", "base_url": stub.address, "timeout": 5.0, "retries": 2}
        rewards.append(make_reward(RewardOptions(**defaults | options), device="cpu", eos_token_ids=[EOS]))
        return stub, rewards[-1]

    yield make
    for reward in rewards:
        reward._scorer.close()


def completion(text, tokens=None):
    """A chat completion; `tokens`: (text, {alternative: probability}) for each token."""
    listed = [
        {
            "token": token,
            "logprob": math.log(alternatives[token]),
            "bytes": None,
            "top_logprobs": [{"token": t, "logprob": math.log(p), "bytes": None} for t, p in alternatives.items()],
        }
        for token, alternatives in tokens or ()
    ]
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": text},
        "logprobs": {"content": listed} if tokens else None,
    }
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "judge", "choices": [choice]}


def always(text, tokens=None):
    return lambda _number, _request: (200, completion(text, tokens))


def error(status, message="busy"):
    return status, {"error": {"message": message, "type": "error", "code": None}}


def ask(reward, *responses):
    return reward(
        prompts=["2 + 2 ="] * len(responses), completions=list(responses), completion_ids=[[EOS]] * len(responses)
    )


# --- what is asked and answered ---------------------------------------------------------------------------------------


def test_the_reward_is_the_expected_score_where_log_probs_are_offered(reward_at):
    tokens = [("4", {"4": 0.5, "5": 0.25, " 5": 0.05, "3": 0.1, "I": 0.1})]
    stub, reward = reward_at(always("4", tokens), scores=(1, 5))
    assert ask(reward, "4") == pytest.approx([(4 * 0.5 + 5 * 0.3 + 3 * 0.1) / 0.9])
    assert reward.counts == {"completions": 1, "asked": 1}
    request = stub.requests[0]
    assert (request["model"], request["temperature"], request["logprobs"]) == ("judge", 0.0, True)


def test_the_reward_is_the_written_score_where_they_are_not(reward_at):
    stub, reward = reward_at(always("Score: 7/10"), logprobs=False)
    assert ask(reward, "4") == [7.0]
    assert reward.counts["written"] == 1
    assert "logprobs" not in stub.requests[0]
    assert "top_logprobs" not in stub.requests[0]


def test_the_annotator_reads_rubric_prompt_and_response(reward_at, tmp_path):
    (tmp_path / "rubric").write_text("From {lowest} to {highest}, {how}: [{prompt}] [{response}]")
    stub, reward = reward_at(always("3"), rubric=str(tmp_path / "rubric"), scores=(0, 4))
    prompt = [{"role": "system", "content": "Be {response}"}, {"role": "user", "content": "2 + 2 ="}]
    checked = check_reward(reward, prompt, [{"role": "assistant", "content": "{prompt}"}], [1, EOS])
    assert checked.text == "From 0 to 4, {how}: [system: Be {response}\nuser: 2 + 2 =] [{prompt}]"
    assert checked.reward == 3.0
    assert stub.requests[0]["messages"] == [{"role": "user", "content": checked.text}]


def test_our_rubric_names_the_range_and_holds_the_material(reward_at):
    _, reward = reward_at(always("3"))
    text = reward.render("2 + 2 =", "five")
    assert "from 1 to 10" in text
    assert "<<< prompt\n2 + 2 =\n>>>\n<<< response\nfive\n>>>" in text


def test_an_answer_without_a_score_is_no_reward_and_is_counted(reward_at):
    _, reward = reward_at(
        lambda number, _: (200, completion("I would rather not." if number == 1 else "6")), concurrency=1
    )
    logged = {}
    rewards = reward(["a", "a"], ["b", "c"], [[EOS], [EOS]], log_metric=logged.__setitem__)
    assert rewards == [None, 6.0]
    assert (reward.counts["no_score"], reward.counts["unscored"]) == (1, 1)
    assert logged == {"reward/unscored": 0.5}


def test_equal_completions_are_asked_about_once_and_scores_keep_their_places(reward_at):
    def by_length(_number, request):
        response = request["messages"][0]["content"].split("<<< response\n")[1].split("\n>>>")[0]
        time.sleep(0.02 * (5 - len(response)))  # the last are answered first
        return 200, completion(str(len(response)))

    stub, reward = reward_at(by_length)
    assert ask(reward, "x", "xx", "x", "xxxx", "xx") == [1.0, 2.0, 1.0, 4.0, 2.0]
    assert len(stub.requests) == 3


def test_a_cut_off_completion_is_asked_about_alike_and_loses_the_penalty_alone(reward_at):
    stub, reward = reward_at(always("6"), missing_eos_penalty=1.5)
    assert reward(["p", "p"], ["b", "b"], [[1, EOS], [1, 2]]) == [6.0, 4.5]
    assert len(stub.requests) == 1


# --- the cache --------------------------------------------------------------------------------------------------------


def test_a_run_that_goes_on_asks_nothing_twice(reward_at, tmp_path):
    tokens = [("4", {"4": 0.5, "5": 0.5})]
    stub, reward = reward_at(always("4", tokens), cache=str(tmp_path))
    first = ask(reward, "a", "b")
    assert len(list(tmp_path.iterdir())) == len(list(tmp_path.glob("*.json"))) == 2
    _, again = reward_at(always("1"), cache=str(tmp_path), base_url=stub.address)
    assert ask(again, "b", "a", "c") == [first[1], first[0], 4.5]
    assert len(stub.requests) == 3
    assert again.counts == {"completions": 3, "cached": 2, "asked": 1}


@pytest.mark.parametrize("change", [{"name": "other"}, {"scores": (1, 9)}, {"logprobs": False}])
def test_another_request_is_another_answer(reward_at, tmp_path, change):
    stub, reward = reward_at(always("4"), cache=str(tmp_path))
    ask(reward, "a")
    _, other = reward_at(always("4"), cache=str(tmp_path), base_url=stub.address, **change)
    ask(other, "a")
    assert len(stub.requests) == 2
    elsewhere, third = reward_at(always("4"), cache=str(tmp_path))
    ask(third, "a")
    assert len(elsewhere.requests) == 1


def test_half_a_cache_file_is_asked_again(reward_at, tmp_path):
    stub, reward = reward_at(always("4"), cache=str(tmp_path))
    ask(reward, "a")
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text(encoding="utf-8")[:50], encoding="utf-8")
    assert ask(reward, "a") == ask(reward, "a") == [4.0]
    assert len(stub.requests) == 2


def test_log_probs_of_minus_infinity_can_be_cached(reward_at, tmp_path):
    body = completion("4", [("4", {"4": 1.0, "5": 1.0})])
    body["choices"][0]["logprobs"]["content"][0]["top_logprobs"][1]["logprob"] = -math.inf
    _, reward = reward_at(lambda *_: (200, body), cache=str(tmp_path))
    assert ask(reward, "a") == ask(reward, "a") == [4.0]


# --- failures ---------------------------------------------------------------------------------------------------------


def test_a_busy_endpoint_is_asked_again(reward_at):
    stub, reward = reward_at(lambda number, _: (200, completion("8")) if number > 2 else error(429))
    assert ask(reward, "a") == [8.0]
    assert len(stub.requests) == 3


def test_an_endpoint_that_stays_out_of_order_stops_the_run(reward_at, tmp_path):
    def broken_later(number, _request):
        return (200, completion("8")) if number == 1 else error(500, "out of memory")

    stub, reward = reward_at(broken_later, concurrency=1, cache=str(tmp_path))
    with pytest.raises(ConnectionError, match=f"{stub.address}.*2 retries.*out of memory.*start again"):
        ask(reward, "a", "b", "c")
    assert len(stub.requests) <= 1 + 2 * 3
    assert len(list(tmp_path.glob("*.json"))) == 1  # the answer that came is kept


def test_a_slow_endpoint_stops_the_run(reward_at):
    stub, reward = reward_at(lambda *_: time.sleep(0.5) or (200, completion("8")), timeout=0.05, retries=0)
    with pytest.raises(ConnectionError, match=f"{stub.address}.*timed out.*reward.timeout"):
        ask(reward, "a")


def test_an_endpoint_that_is_not_there_stops_the_run(serve):
    stub = serve(always("1"))
    options = RewardOptions(kind="annotator", name="judge", base_url=stub.address, retries=0)
    stub.shutdown()
    stub.server_close()
    reward = make_reward(options, device="cpu", eos_token_ids=[EOS])
    with pytest.raises(ConnectionError, match=stub.address):
        ask(reward, "a")
    reward._scorer.close()


@pytest.mark.parametrize(
    ("status", "message", "remedy"),
    [(404, "no model judge", "reward.name"), (400, "logprobs is not supported", "reward.logprobs=false")],
)
def test_a_request_that_is_refused_says_what_to_change(reward_at, status, message, remedy):
    stub, reward = reward_at(lambda *_: error(status, message))
    with pytest.raises(ValueError, match=f"{message}.*{remedy}"):
        ask(reward, "a")
    assert len(stub.requests) == 1


def test_an_answer_that_is_no_chat_completion_stops_the_run(reward_at):
    stub, reward = reward_at(lambda *_: (200, {"hello": "world"}))
    with pytest.raises(ConnectionError, match=f"{stub.address}.*no chat completion"):
        ask(reward, "a")


def test_an_error_with_status_200_is_said_without_the_key(reward_at, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-" + "0123456789")
    _, reward = reward_at(lambda *_: (200, {"error": {"message": "sk-0123456789 is over its budget"}}))
    with pytest.raises(ConnectionError, match=r"no chat completion: .*\*\*\* is over its budget"):
        ask(reward, "a")


def log_probs(*alternatives, own=-0.1):
    """An answer "7" whose one token has these log-probs beside its own."""
    body = completion("7")
    listed = [{"token": token, "logprob": value, "bytes": None} for token, value in alternatives]
    body["choices"][0]["logprobs"] = {
        "content": [{"token": "7", "logprob": own, "bytes": None, "top_logprobs": listed}]
    }
    return body


def with_message(message):
    body = completion("7")
    body["choices"][0]["message"] = message
    return body


OUT_OF_ORDER = {
    "cut JSON": b'{"choices": [',
    "nothing": b"",
    "binary": b"\x87\x01",
    "a number": b"5",
    "no message": with_message(None),
    "a list as message": with_message([1]),
    "a list as content": with_message({"role": "assistant", "content": [{"type": "text", "text": "7"}]}),
    "a number as content": with_message({"role": "assistant", "content": 7}),
    "log-prob null": log_probs(own=None),
    "log-prob a text": log_probs(("6", "much")),
    "log-prob no number": log_probs(("6", math.nan)),
    "log-prob 800": log_probs(("6", 800.0)),
    "probabilities that sum to 2.7": log_probs(("6", -0.1), ("5", -0.1)),
    "a token that is no text": log_probs((6, -3.0)),
}


@pytest.mark.parametrize("body", OUT_OF_ORDER.values(), ids=OUT_OF_ORDER)
def test_an_answer_out_of_order_names_the_endpoint_and_is_not_kept(reward_at, tmp_path, body):
    bodies = [body, completion("7")]
    stub, reward = reward_at(lambda number, _: (200, bodies[min(number, 2) - 1]), cache=str(tmp_path), retries=0)
    with pytest.raises(ConnectionError, match=stub.address):
        ask(reward, "a")
    assert not list(tmp_path.iterdir())
    assert ask(reward, "a") == [7.0]


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda kept: kept[: len(kept) // 2],
        lambda _: b"\x80\x04\xff",
        lambda _: b"[1]",
        lambda _: b'{"answer": {"text": "9", "tokens": []}}',  # of a version that kept no request
        lambda kept: kept.replace(b'"judge"', b'"other"'),  # of another request, under this one's name
        lambda kept: kept.replace(b'"text": "4"', b'"text": "5"'),  # another answer
    ],
)
def test_a_kept_answer_that_was_damaged_or_is_another_s_is_asked_again(reward_at, tmp_path, damage):
    stub, reward = reward_at(always("4"), cache=str(tmp_path))
    ask(reward, "a")
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert ask(reward, "a") == ask(reward, "a") == [4.0]
    assert len(stub.requests) == 2


def test_a_folder_in_the_place_of_a_kept_answer_is_named(reward_at, tmp_path):
    _, reward = reward_at(always("4"), cache=str(tmp_path))
    ask(reward, "a")
    (file,) = tmp_path.iterdir()
    file.unlink()
    file.mkdir()
    with pytest.raises(OSError, match=f"reward.cache: .*{file.name}.*remove what is in the way"):
        ask(reward, "a")


@pytest.mark.parametrize("text", [[1], None, 7])
def test_a_kept_answer_that_cannot_be_read_is_asked_again(reward_at, tmp_path, text):
    stub, reward = reward_at(always("4"), cache=str(tmp_path))
    ask(reward, "a")
    (file,) = tmp_path.iterdir()
    kept = json.loads(file.read_text(encoding="utf-8"))
    kept["answer"]["text"] = text
    file.write_text(json.dumps(kept), encoding="utf-8")
    assert ask(reward, "a") == ask(reward, "a") == [4.0]
    assert len(stub.requests) == 2


def in_pieces(pause, content, kind="application/json"):
    """An endpoint's reply that sends `content` byte by byte, with a pause before each."""

    class Drip(Handler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            try:
                for byte in content:
                    time.sleep(pause)
                    self.wfile.write(bytes([byte]))
            except OSError:
                pass  # the client hung up, as it should

    return Drip


def test_an_answer_that_drips_in_stops_the_run(reward_at):
    stub, reward = reward_at(always("8"), timeout=0.2, retries=0)
    stub.RequestHandlerClass = in_pieces(0.1, json.dumps(completion("8")).encode())
    began = time.monotonic()
    with pytest.raises(ConnectionError, match=f"{stub.address}/ has not finished an answer after 0.2 s"):
        ask(reward, "a")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"<html><title>Sign in</title></html>", "text/html"),
        (b'data: {"choices": []}\n\ndata: [DONE]\n\n', "text/event-stream"),
        (b'data: {"choices": []}\n\n', "application/json"),
    ],
    ids=["a page", "a stream", "a stream that says JSON"],
)
def test_a_page_or_a_stream_with_status_200_is_no_answer(reward_at, tmp_path, content, kind):
    stub, reward = reward_at(always("8"), cache=str(tmp_path), retries=0)
    stub.RequestHandlerClass = in_pieces(0.0, content, kind)
    with pytest.raises(ConnectionError, match=f"{stub.address}/ answered with no"):
        ask(reward, "a")
    assert not list(tmp_path.iterdir())


def test_prompts_are_not_sent_on_to_another_address(reward_at, serve):
    other = serve(always("8"))

    class Redirect(Handler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(307)
            self.send_header("Location", f"{other.address}/chat/completions")
            self.send_header("Content-Length", "0")
            self.end_headers()

    stub, reward = reward_at(always("8"))
    stub.RequestHandlerClass = Redirect
    with pytest.raises(ValueError, match=f"status 307.*it sends on to '{other.address}/chat/completions': pass"):
        ask(reward, "a")
    assert not other.requests


# --- a judge that thinks ----------------------------------------------------------------------------------------------


def cut_off(text, reasoning=None):
    body = completion(text)
    body["choices"][0]["finish_reason"] = "length"
    if reasoning:
        body["choices"][0]["message"] |= {"content": None, "reasoning_content": reasoning}
    return body


@pytest.mark.parametrize(
    "body", [cut_off("<think>The 3 reasons given"), cut_off(None, "Let me see: 3"), cut_off("Let me consider")]
)
def test_a_judge_that_thinks_past_its_limit_stops_the_run(reward_at, body):
    _, reward = reward_at(lambda *_: (200, body))
    with pytest.raises(ValueError, match=r"ended at reward\.max_tokens = 16 before a score; raise it"):
        ask(reward, "a", "b")


def test_one_answer_that_was_cut_off_is_left_out_and_counted(reward_at):
    _, reward = reward_at(lambda number, _: (200, cut_off("Let me") if number == 2 else completion("6")), concurrency=1)
    assert ask(reward, "a", "b") == [6.0, None]
    assert (reward.counts["cut"], reward.counts["no_score"]) == (1, 1)


def test_the_limit_has_the_name_and_the_size_that_the_endpoint_wants(reward_at):
    def wants_the_new_name(_number, request):
        for name in ("max_tokens", "temperature"):
            if name in request:
                return error(400, f"Unsupported parameter: {name!r}")
        return 200, completion("6")

    options = {"max_tokens": 4096}
    _, reward = reward_at(wants_the_new_name, **options)
    with pytest.raises(ValueError, match=r"set reward\.max_tokens_name=max_completion_tokens"):
        ask(reward, "a")
    options["max_tokens_name"] = "max_completion_tokens"
    _, reward = reward_at(wants_the_new_name, **options)
    with pytest.raises(ValueError, match=r"set reward\.temperature=null"):
        ask(reward, "a")
    stub, reward = reward_at(wants_the_new_name, **options, temperature=None)
    assert ask(reward, "a") == [6.0]
    assert stub.requests[0]["max_completion_tokens"] == 4096


# --- the key ----------------------------------------------------------------------------------------------------------


def test_the_key_is_sent_and_is_nowhere_else(reward_at, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)

    def leaky(number, _request):
        return (200, completion("8")) if number == 1 else error(401, f"wrong key {SECRET} provided")

    stub, reward = reward_at(leaky, cache=str(tmp_path))
    ask(reward, "a")
    with pytest.raises(ValueError, match=r"wrong key \*\*\*.*OPENAI_API_KEY") as caught:
        ask(reward, "b")
    assert stub.keys == [f"Bearer {SECRET}"] * 2
    captured = capfd.readouterr()
    files = "".join(file.read_text(encoding="utf-8") for file in tmp_path.rglob("*"))
    assert files
    for place in (str(caught.value), repr(caught.value), caplog.text, files, captured.out, captured.err, repr(reward)):
        assert SECRET not in place
    assert caught.value.__cause__ is None  # a traceback does not show the client's error, which holds the request
    assert caught.value.__suppress_context__


def test_without_a_key_only_a_server_of_ones_own_is_asked(reward_at, monkeypatch):
    stub, _ = reward_at(always("8"))
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ValueError, match="OPENAI_API_KEY is not set"):
        make_reward(RewardOptions(kind="annotator", name="judge"), device="cpu", eos_token_ids=[EOS])
    _, reward = reward_at(always("1"), base_url=stub.address)
    assert ask(reward, "a") == [8.0]
    assert os.environ.get("OPENAI_API_KEY") is None


@pytest.mark.parametrize("address", ["http://me:secret@127.0.0.1/v1", "http://127.0.0.1/v1?key=secret"])
def test_an_address_with_a_secret_is_refused_without_repeating_it(reward_at, address):
    with pytest.raises(ValueError, match="base_url holds") as caught:
        reward_at(always("1"), base_url=address)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["only {prompt}", "only {response}"])
def test_a_rubric_without_a_place_for_the_material_is_refused(reward_at, tmp_path, text):
    (tmp_path / "rubric").write_text(text)
    with pytest.raises(ValueError, match="has no place for"):
        reward_at(always("1"), rubric=str(tmp_path / "rubric"))


def test_a_rubric_that_is_no_text_is_refused_by_the_option(reward_at, tmp_path):
    (tmp_path / "rubric").write_bytes("bewerte die Güte: {prompt} {response}".encode("latin-1"))
    for place in (tmp_path / "rubric", tmp_path, tmp_path / "none"):
        with pytest.raises(ValueError, match=r"reward\.rubric = .* cannot be read: .*; pass a text file in UTF-8"):
            reward_at(always("1"), rubric=str(place))


def test_a_refusal_stops_the_run_and_does_not_wait_for_the_others(reward_at):
    """One request takes long, one is refused, and the rest is not sent."""

    def reply(_number, request):
        if "first" in request["messages"][0]["content"]:
            time.sleep(20.0)
        return error(401, "no such key")

    stub, reward = reward_at(reply, timeout=60.0, retries=0, concurrency=2)
    began = time.monotonic()
    with pytest.raises(ValueError, match="no such key"):
        ask(reward, "first", *(f"other {i}" for i in range(20)))
    assert time.monotonic() - began < 10.0
    assert len(stub.requests) < 10
