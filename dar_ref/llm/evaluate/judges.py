"""Judges: `judge(pairs) -> P(a is better)`, one number in [0, 1] for each pair, None where there is no verdict.

    reward.kind: model      sigmoid(score_a - score_b): what a Bradley-Terry reward model says of a pair
    reward.kind: function   `judge(prompt, a, b) -> P`, called in both orders; or the reward function of a run, told by
                            its parameter `completions`: the higher reward wins
    reward.kind: annotator  a language model that is shown both answers, in both orders (`endpoint_judge`)

A pair without a verdict has a reason instead, is counted, and is no loss. A judge that compares is not asked about an
empty answer, there is nothing to read; a reward scores it, as in training.
"""

import inspect
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from scipy.special import expit

from dar_ref.llm.evaluate.questions import HIGHEST, LOWEST
from dar_ref.llm.evaluate.store import Row
from dar_ref.llm.options import RewardOptions
from dar_ref.llm.rewards import Text
from dar_ref.llm.rewards.function import RewardFunction, make_reward, stand_ins
from dar_ref.llm.rewards.imported import described, imported, module_name
from dar_ref.llm.rewards.module_hash import module_hash

EMPTY, NONSENSE, NO_ANSWER, NO_SCORE = "empty", "nonsense", "no answer", "no score"
NO_EOS = -1  # no token has this id


class Pair(NamedTuple):
    """Two completions of one prompt, rows as `generate` writes them."""

    a: Row
    b: Row


class Verdict(NamedTuple):
    """first: P(a is better) with a shown first; second: the same with a shown second; None in both and a reason where
    there is none; tokens: paid for, of requests and of answers."""

    first: float | None
    second: float | None
    reason: str | None = None
    tokens: tuple[int, int] = (0, 0)


class Grade(NamedTuple):
    """value: of an answer by itself, 1 to 10, or None and a reason; tokens: as in `Verdict`."""

    value: float | None
    reason: str | None = None
    tokens: tuple[int, int] = (0, 0)


class Judge(Protocol):
    """Compares pairs. `counts`: how often each unusual event happened; `content()`: a hash of what judges."""

    @property
    def counts(self) -> Counter[str]: ...

    def __call__(self, pairs: Sequence[Pair]) -> list[Verdict]: ...

    def content(self) -> str: ...

    def close(self) -> None: ...


class RewardJudge:
    """A reward, which scores each completion by itself: no place to prefer, so both orders agree."""

    def __init__(self, options: RewardOptions, device: Any, rows: Sequence[Row]) -> None:
        ends = {row["ids"][-1] for row in rows if row["finished"] and row["ids"]} or {NO_EOS}
        self.reward: RewardFunction = make_reward(options, device=device, eos_token_ids=ends, weights=False)
        self.smooth = options.kind == "model"

    @property
    def counts(self) -> Counter[str]:
        """Those of the reward."""
        return self.reward.counts

    def content(self) -> str:
        """A hash of the reward."""
        return self.reward.content()

    def close(self) -> None:
        """Nothing is open."""

    def __call__(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """Score both completions of each pair."""
        scores = self._scores([row for pair in pairs for row in pair])
        return [self._verdict(a, b) for a, b in zip(scores[::2], scores[1::2], strict=True)]

    def _scores(self, rows: Sequence[Row]) -> list[float | None]:
        names = dict.fromkeys(name for row in rows for name in row["columns"])
        columns = {name: [row["columns"].get(name) for row in rows] for name in names}
        prompts, completions = [row["prompt"] for row in rows], [as_answer(row) for row in rows]
        return self.reward(prompts, completions, [row["ids"] for row in rows], **columns, **stand_ins())

    def _verdict(self, a: float | None, b: float | None) -> Verdict:
        if a is None or b is None:
            return Verdict(None, None, NO_SCORE)
        p = float(expit(a - b)) if self.smooth else 0.5 if a == b else float(a > b)
        return Verdict(p, p)


class FunctionJudge:
    """A user's `judge(prompt, a, b)`: prompt as in the data, both answers as text; returns P(a is better) or None.

    For questions of two turns it is `grade(turns, answers, turn, reference)`, turn 0 or 1; returns 1 to 10 or None.
    """

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.function, self.name, self.counts = function, name, Counter[str]()

    def content(self) -> str:
        """A hash of the function's module."""
        return module_hash(module_name(self.name))

    def close(self) -> None:
        """Nothing is open."""

    def __call__(self, pairs: Sequence[Pair]) -> list[Verdict]:
        """Ask about each pair in both orders."""
        return [self._verdict(pair) for pair in pairs]

    def grade(self, rows: Sequence[Row], turn: int) -> list[Grade]:
        """Grades of one turn, 0 or 1."""
        return [self._grade(row, turn) for row in rows]

    def _verdict(self, pair: Pair) -> Verdict:
        if is_empty(pair):
            return Verdict(None, None, EMPTY)
        prompt, a, b = pair.a["prompt"], pair.a["completion"], pair.b["completion"]
        first, second = self._asked(prompt, a, b), self._asked(prompt, b, a)
        if any(isinstance(value, str) and value == NO_ANSWER for value in (first, second)):
            return Verdict(None, None, NO_ANSWER)
        p, q = _number(first, 0.0, 1.0), _number(second, 0.0, 1.0)
        return Verdict(None, None, NONSENSE) if p is None or q is None else Verdict(p, 1.0 - q)

    def _grade(self, row: Row, turn: int) -> Grade:
        if not row["completions"][turn].strip():
            return Grade(None, EMPTY)
        returned = self._asked(row["turns"], row["completions"], turn, row["columns"]["reference"])
        if isinstance(returned, str) and returned == NO_ANSWER:
            return Grade(None, NO_ANSWER)
        value = _number(returned, LOWEST, HIGHEST)
        return Grade(value, NONSENSE if value is None else None)

    def _asked(self, *arguments: Any) -> Any:
        try:
            return self.function(*arguments)
        except (TimeoutError, ConnectionError):
            return NO_ANSWER
        except (Exception, SystemExit) as error:  # whatever a user's code raises
            raise ValueError(f"judge {self.name} failed with {described(error)}") from error


def compares(options: RewardOptions) -> Callable[..., Any] | None:
    """The user's function if it compares two answers; None for a reward.

    Raises:
        ValueError: it cannot be imported.
    """
    if options.kind != "function":
        return None
    function = imported(options.name)
    return None if "completions" in inspect.signature(function).parameters else function


def as_answer(row: Row) -> Text:
    """The completion in the form that training gives to rewards."""
    chat = not isinstance(row["prompt"], str)
    return [{"role": "assistant", "content": row["completion"]}] if chat else row["completion"]


def is_empty(pair: Pair) -> bool:
    """Whether one of both answers has no text."""
    return not pair.a["completion"].strip() or not pair.b["completion"].strip()


def _number(value: Any, lowest: float, highest: float) -> float | None:
    try:
        number = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        return None
    return number if lowest <= number <= highest else None
