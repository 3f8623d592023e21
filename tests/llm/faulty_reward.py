"""Reward functions with which process 1 of several fails at its second call, and says when."""

import os
import signal
import time

from tests.llm.training import score

_calls = [0]


def _scores(prompts, completion_ids, fault):
    _calls[0] += 1
    if _calls[0] == 2 and os.environ["RANK"] == "1":
        print(f"fault at {time.time()}", flush=True)
        fault()
    return [score(prompt, ids) for prompt, ids in zip(prompts, completion_ids, strict=True)]


def raises(prompts, completion_ids, **_):
    return _scores(prompts, completion_ids, lambda: 1 / 0)


def memory(prompts, completion_ids, **_):
    return _scores(prompts, completion_ids, lambda: bytearray(2**62))


def exits(prompts, completion_ids, **_):
    return _scores(prompts, completion_ids, lambda: exit(0))


def killed(prompts, completion_ids, **_):
    return _scores(prompts, completion_ids, lambda: os.kill(os.getpid(), signal.SIGKILL))


def hangs(prompts, completion_ids, **_):
    return _scores(prompts, completion_ids, lambda: time.sleep(10_000))


def frozen(prompts, completion_ids, **_):
    return _scores(prompts, completion_ids, lambda: os.kill(os.getpid(), signal.SIGSTOP))
