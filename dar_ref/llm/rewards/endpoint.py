"""A language model behind an OpenAI-compatible endpoint: what is asked, what it answers, and nothing paid for twice.

Each message is one request without streaming. Answers are kept in a folder, one file per request, named by the hash of
the whole request (address, model, messages, options). A resumed run asks nothing that was answered before, and several
processes may share the folder. The key comes from the environment variable OPENAI_API_KEY alone, and is in no file,
message or log.
"""

import hashlib
import json
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Literal, overload
from urllib.parse import urlsplit

import openai
from openai.types.chat import ChatCompletion
from openai.types.chat.chat_completion import Choice

from dar_ref import results
from dar_ref.llm.options import RewardOptions

KEY = "OPENAI_API_KEY"
SHORTEST_KEY = 8  # characters; a shorter one is a placeholder, and hiding it would tear words apart
TOP_LOGPROBS = 20  # the most that endpoints offer
LEAST_LOGPROB = -1e4  # JSON has no infinity
LONGEST_PAUSE = 60.0  # seconds: the longest that an endpoint can ask the client to wait before a retry
ROUNDING = 0.02  # of probabilities that sum to 1: some servers round log-probs to bfloat16
Answer = dict[str, Any]  # text; tokens, with their alternatives; cut, at max_tokens; usage, tokens in and out

REMEDIES = {  # a word in an endpoint's refusal, and what to do
    "logprobs": "set reward.logprobs=false if it does not offer them",
    "max_tokens": "set reward.max_tokens_name=max_completion_tokens",
    "temperature": "set reward.temperature=null",
}


class Endpoint:
    """Asks the model `options.name` and keeps what it answers.

    `counts`: asked, requests sent; cached, answers taken from the folder; no_answer, requests that failed after all
    retries and were passed over.

    Raises:
        ValueError: a key is needed and missing, or the address contains a key.
    """

    def __init__(self, options: RewardOptions) -> None:
        self.options, self.counts = options, Counter[str]()
        self._key = os.environ.get(KEY, "")
        if not self._key and options.base_url is None:
            raise ValueError(f"{KEY} is not set; set it, or reward.base_url to a server of your own that needs none")
        self.client = self._connected()
        self._limit = options.timeout * (options.retries + 1) + LONGEST_PAUSE * options.retries  # of one request
        self._began: dict[str, float] = {}  # when each request under way was begun
        self.address = str(self.client.base_url)
        if urlsplit(self.address).username or urlsplit(self.address).query:
            raise ValueError(f"reward.base_url holds a user or a query; leave the address bare and set {KEY}")
        self._cache = None if options.cache is None else Path(options.cache)

    def _connected(self) -> openai.OpenAI:
        return openai.OpenAI(
            api_key=self._key or "none",
            base_url=self.options.base_url,
            timeout=self.options.timeout,
            max_retries=self.options.retries,  # of refused connections, timeouts, 408, 409, 429, 5xx, ever longer apart
            http_client=openai.DefaultHttpxClient(follow_redirects=False),  # the prompts go where the user said
        )

    @overload
    def replies(self, messages: Sequence[str]) -> list[Answer]: ...
    @overload
    def replies(self, messages: Sequence[str], pass_over: Literal[True]) -> list[Answer | None]: ...
    def replies(self, messages: Sequence[str], pass_over: bool = False) -> Any:
        """The answer to each message, from the folder or from the model.

        Args:
            messages: equal ones are asked once.
            pass_over: a request that fails after all retries gives None and is counted, unless all of them fail and
                none was answered before: then the endpoint is down.

        Raises:
            ConnectionError: after all retries, the endpoint is down, too slow or faulty.
            ValueError: the endpoint refuses the request because of the key, the model's name or an option.
            OSError: the cache cannot be read or written.
        """
        requests = [self._request(message) for message in messages]
        keys = [_content_key(request) for request in requests]
        found: dict[str, Answer | None] = {
            key: answer for key in set(keys) if (answer := self._cached(key)) is not None
        }
        missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in found}
        self.counts.update(cached=len(found), asked=len(missing))
        pool = ThreadPoolExecutor(max_workers=self.options.concurrency)
        futures = {key: pool.submit(self._ask, key, request) for key, request in missing.items()}
        try:
            self._wait(set(futures.values()), pass_over)
        except BaseException:
            self._abandon(futures.values())
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        found |= {key: self._result(future, pass_over) for key, future in futures.items()}
        failed = [future.exception() for key, future in futures.items() if found[key] is None]
        self.counts["no_answer"] += len(failed)
        if failed and failed[0] and self.counts["no_answer"] == self.counts["asked"]:
            raise failed[0]
        return [found[key] for key in keys]

    def _result(self, future: Future[Answer], pass_over: bool) -> Answer | None:
        return None if pass_over and isinstance(future.exception(), ConnectionError) else future.result()

    def _wait(self, futures: set[Future[Answer]], pass_over: bool) -> None:
        """Return when all are done; raise what one has failed with. ConnectionError if a request takes longer than all
        its retries may: an answer that drips in, byte by byte, never reaches the timeout."""
        while futures:
            done, futures = wait(futures, min(1.0, self.options.timeout), FIRST_EXCEPTION)
            failures = [error for future in done if (error := future.exception())]
            for error in failures:
                if not (pass_over and isinstance(error, ConnectionError)):
                    raise error
            oldest = min(list(self._began.values()), default=math.inf)
            if time.monotonic() - oldest > self._limit + 1.0:
                self.close()  # or the request would go on in its thread
                raise ConnectionError(
                    f"{self.address} has not finished an answer after {self._limit:g} s; check the server, or raise"
                    " reward.timeout"
                )

    def _abandon(self, requests: Iterable[Future[Answer]]) -> None:
        """Do not wait for requests under way. They end by themselves, and are not tried again: their client is closed
        when they are through, or after one timeout."""
        client, self.client = self.client, self._connected()

        def close() -> None:
            wait(requests, self.options.timeout)
            client.close()

        threading.Thread(target=close, daemon=True).start()

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def _request(self, message: str) -> dict[str, Any]:
        asked: dict[str, Any] = {
            "model": self.options.name,
            "messages": [{"role": "user", "content": message}],
            self.options.max_tokens_name: self.options.max_tokens,
        }
        if self.options.temperature is not None:
            asked["temperature"] = self.options.temperature
        offered = {"logprobs": True, "top_logprobs": TOP_LOGPROBS} if self.options.logprobs else {}
        return {"base_url": self.address, "asked": asked | offered}

    def _cached(self, key: str) -> Answer | None:
        """The answer in the folder; None if there is none, if it cannot be read, or if it is to another request."""
        if self._cache is None:
            return None
        try:
            kept = json.loads((self._cache / f"{key}.json").read_text(encoding="utf-8"))
            _check(kept["answer"])
            whole = _content_key(kept["request"]) == key and _content_key(kept["answer"]) == kept["sha256"]
            return kept["answer"] if whole else None
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return None
        except OSError as error:
            raise _of_cache(error) from None

    def _ask(self, key: str, request: Mapping[str, Any]) -> Answer:
        self._began[key] = time.monotonic()
        try:
            answer = self._answer(request)
        finally:
            self._began.pop(key)
        if self._cache is not None:
            own = self._cache / f"{key}.{os.getpid()}"  # two processes with one request must not write one file at once
            try:
                kept = {"request": request, "answer": answer, "sha256": _content_key(answer)}
                results.write_text(own, json.dumps(kept, indent=1, allow_nan=False))
                os.replace(own, self._cache / f"{key}.json")
            except OSError as error:
                raise _of_cache(error) from None
        return answer

    def _answer(self, request: Mapping[str, Any]) -> Answer:
        try:
            response = self.client.chat.completions.create(**request["asked"])
        except openai.APIError as error:
            raise self._explained(error) from None  # the original holds the request, and so the key
        except ValueError as error:  # of json, or half a character
            raise ConnectionError(
                f"{self.address} answered with no JSON ({error}); see that it is a chat server"
            ) from None
        if not isinstance(response, ChatCompletion) or not response.choices:
            said = response if isinstance(response, str) else getattr(response, "model_extra", None)
            words = self._without_key(f": {said!r:.200}") if said else ""
            raise ConnectionError(
                f"{self.address} answered with no chat completion{words}; pass the address that ends in /v1"
            )
        try:
            answer = _content(response.choices[0]) | {"usage": _usage(response)}
            _check(answer)
        except (ValueError, TypeError, AttributeError) as error:
            raise ConnectionError(
                f"{self.address} answered out of order: {error}; nothing of it is kept. Mend the server, or set"
                " reward.logprobs=false if it is its log-probs"
            ) from None
        return answer

    def _explained(self, error: openai.APIError) -> Exception:
        reason = self._without_key(f"{type(error).__name__}: {error.message}")[:400]
        where = f"annotator {self.options.name!r} at {self.address}"
        status = error.status_code if isinstance(error, openai.APIStatusError) else None
        if status is None or status in (408, 409, 429) or status >= 500:
            return ConnectionError(
                f"{where} did not answer after {self.options.retries} retries: {reason}; check that it runs, lower"
                " reward.concurrency or raise reward.timeout, and start again: answers are kept in reward.cache"
            )
        remedy = f"check reward.name, reward.base_url and {KEY}"
        if status < 400 and isinstance(error, openai.APIStatusError):
            remedy = f"it sends on to {error.response.headers.get('location')!r:.200}: pass its address"
        for word, other in REMEDIES.items():
            remedy = other if word in reason else remedy
        return ValueError(f"{where} refuses the request, status {status}: {reason}; {remedy}")

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if len(self._key) >= SHORTEST_KEY else text


def _content(choice: Choice) -> dict[str, Any]:
    """The part of an answer that is kept: its text, and with log-probs its tokens and their alternatives."""
    listed = choice.logprobs.content if choice.logprobs is not None else None
    tokens = []
    for token in listed or ():
        alternatives = {other.token: max(other.logprob, LEAST_LOGPROB) for other in token.top_logprobs}
        tokens.append([token.token, alternatives | {token.token: max(token.logprob, LEAST_LOGPROB)}])
    return {"text": choice.message.content or "", "tokens": tokens, "cut": choice.finish_reason == "length"}


def _usage(response: ChatCompletion) -> list[int] | None:
    """Tokens of the request and of the answer, as the endpoint counts them; None if it does not."""
    counted = getattr(response, "usage", None)
    tokens = [getattr(counted, name, None) for name in ("prompt_tokens", "completion_tokens")]
    return tokens if all(isinstance(count, int) and count >= 0 for count in tokens) else None  # type: ignore[return-value]


def _check(answer: Mapping[str, Any]) -> None:
    """Raise ValueError or TypeError unless an answer is a text, and its log-probs those of a distribution."""
    if not isinstance(answer["text"], str):
        raise TypeError(f"the message is a {type(answer['text']).__name__} and no text")
    for token, alternatives in answer["tokens"]:
        if not isinstance(token, str) or not all(isinstance(other, str) for other in alternatives):
            raise TypeError(f"a token of its log-probs is no text: {token!r:.80}")
        total = math.fsum(math.exp(min(logprob, 1.0)) for logprob in alternatives.values())
        if not total <= 1.0 + ROUNDING:
            raise ValueError(f"the probabilities at {token!r:.80} sum to {total:.3g}")


def _of_cache(error: OSError) -> OSError:
    return OSError(f"reward.cache: {error}; make it a folder of your own with room, and remove what is in the way")


def _content_key(request: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
