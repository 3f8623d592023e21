"""Read the score in an annotator's answer: the expected score if the probabilities of its tokens are known, otherwise
the written one.

An answer has a score if it contains exactly one number, and this is a whole number within the range. "7", "Score: 7"
and "7/10" have one; "7.5", "between 6 and 7" and "no" do not. What stands in <think> ... </think> is not read. With
log-probs, the reward is

    sum_s s P(s) / sum_s P(s),   P(s) the probability that the number at that place is s.

Numbers of several tokens, 10 as "1" "0": the tokens that were sampled are followed. Behind each, the alternatives are
known, so "1" and "10" are told apart where the answer began with "1". Where it did not, the mass on "1" may be either's
and counts for 1 if "10" is listed as one token beside it (then that is how 10 is written); otherwise it counts for
neither. An answer that stops after "1" is 1. If less than `LEAST_MASS` of the probability is on scores that can be told
apart, the written score is the reward.
"""

import math
import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import NamedTuple

LEAST_MASS = 0.5  # probability of all scores; with less, their expectation says little about the answer
LONGEST = 100  # digits; Python refuses to read numbers of thousands of them
_NUMBER = re.compile(r"[-−+]?\w*\d+(?:[.,]\d+)*\w*")  # with what is written onto it: "7th" and "v7" are not 7
THOUGHTS = re.compile(r"\s*<think>.*?(</think>|\Z)", re.DOTALL)
_DIGITS = re.compile(r"(\d*)(.*)", re.DOTALL)


class TokenChoice(NamedTuple):
    """A token of an answer: its text, and the log-probs of the alternatives at its place, itself included."""

    text: str
    alternatives: dict[str, float]  # text -> log-prob


class Score(NamedTuple):
    """A score; `expected`: True for an expectation, False for the written number."""

    value: float
    expected: bool


def read_score(text: str, tokens: Sequence[TokenChoice], lowest: int, highest: int) -> Score | None:
    """The score of an answer; None if it has none.

    Args:
        text: the answer.
        tokens: its tokens in order, with log-probs; empty if the endpoint does not offer log-probs.
        lowest: the lowest score, a whole number from 0.
        highest: the highest score.

    >>> read_score("Score: 7/10", [], 1, 10)
    Score(value=7.0, expected=False)
    >>> read_score("4", [TokenChoice("4", {"4": math.log(0.75), "5": math.log(0.25)})], 1, 5)
    Score(value=4.25, expected=True)
    """
    text = THOUGHTS.sub("", text, count=1)
    without_range = re.sub(rf"(?<=\d)(\s*/\s*|\s+out\s+of\s+){highest}(?![\d/])", "", text)
    numbers = list(_NUMBER.finditer(without_range))
    number = numbers[0].group() if len(numbers) == 1 else ""
    if not number.isdecimal() or len(number) > LONGEST or not lowest <= int(number) <= highest:
        return None
    written = Score(float(number), expected=False)
    begin = "".join(token.text for token in tokens).find(text)
    place = _token_at(tokens, begin + numbers[0].start())  # what was removed stood after the number
    if begin < 0 or place is None:
        return written
    mass = _masses(tokens[place:], [str(s) for s in range(lowest, highest + 1)])
    total = math.fsum(mass.values())
    if total < LEAST_MASS:
        return written
    return Score(math.fsum(int(s) * p for s, p in mass.items()) / total, expected=True)


def _token_at(tokens: Sequence[TokenChoice], offset: int) -> int | None:
    """Index of the token that begins with the number at `offset` of the text; None if no token begins with it."""
    begin = 0
    for i, token in enumerate(tokens):
        if begin <= offset < begin + len(token.text):
            return i if not token.text[: offset - begin].strip() else None
        begin += len(token.text)
    return None


def _masses(tokens: Sequence[TokenChoice], scores: Collection[str]) -> dict[str, float]:
    """Probability of each score that can be told apart; the first of `tokens` begins the number."""
    mass: dict[str, float] = defaultdict(float)
    prefix, reached = "", 1.0  # the sampled digits so far, and their probability
    for token in tokens:
        parts = {text: _continued(prefix, text) for text in token.alternatives}
        numbers = {number for number, _ in parts.values()}
        for text, (number, is_closed) in parts.items():
            longer = _longer(number, scores)
            is_told = is_closed or not longer or not numbers.isdisjoint(longer)
            if text != token.text and number in scores and is_told:
                mass[number] += reached * math.exp(token.alternatives[text])
        reached *= math.exp(token.alternatives[token.text])
        prefix, is_closed = parts[token.text]
        if is_closed or not _longer(prefix, scores):
            break
    if prefix in scores:
        mass[prefix] += reached
    return mass


def _continued(prefix: str, text: str) -> tuple[str, bool]:
    """The number after one more token, and whether it ends there; empty if the token does not begin with digits."""
    digits, rest = _DIGITS.fullmatch(text if prefix else text.lstrip()).groups()  # type: ignore[union-attr]
    return prefix + digits, bool(rest) or not digits


def _longer(number: str, scores: Collection[str]) -> list[str]:
    return [score for score in scores if score != number and score.startswith(number)]
