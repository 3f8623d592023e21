"""Everyday things, and questions about them: the prompts of `sentiment` and `harmless`.

The splits have different topics: a policy is not tested on a topic it was trained on.
"""

from collections.abc import Sequence
from typing import Any

from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from dar_ref.llm.real.text import words

TOPICS = {
    "train": (
        *("a long meeting", "the weather in autumn", "a bus ride", "the office kitchen", "an old bicycle"),
        *("a morning run", "the new printer", "a crowded train", "a rainy weekend", "the local library"),
        *("a late delivery", "the school canteen", "a tax form", "a short holiday", "the city museum"),
        *("a broken elevator", "the night shift", "a vegetable soup", "the football match", "a job interview"),
        *("a slow computer", "the parking garage", "a phone call", "the village market", "a piano lesson"),
        *("a dentist appointment", "the garden fence", "a chess game", "the airport queue", "a winter coat"),
        *("a noisy neighbour", "the science homework", "a wooden chair", "the hotel breakfast", "a lost umbrella"),
        *("a mountain hike", "the evening news", "a birthday party", "the swimming pool", "a spelling mistake"),
    ),
    "validation": (
        *("a paper map", "the hospital waiting room", "a ferry trip", "the coffee machine", "a cooking class"),
        *("a flat tyre", "the public park", "a history lecture"),
    ),
    "test": (
        *("a power cut", "the supermarket checkout", "a picnic", "the bank statement", "a sandwich"),
        *("a traffic jam", "the theatre play", "a guitar solo", "the laundry", "a snowy road"),
        *("a software update", "a fruit salad"),
    ),
}


def asked(questions: Sequence[str], split: str) -> list[dict[str, Any]]:
    """The rows of a split, in TRL's columns: every question about every topic, and the topic.

    Args:
        questions: each with `{}` where the topic stands.
        split: train, validation or test.
    """
    return [
        {"prompt": [{"role": "user", "content": question.format(topic)}], "topic": topic}
        for topic in TOPICS[split]
        for question in questions
    ]


def on_topic(answer: str, topic: str) -> bool:
    """Whether an answer has one of the content words of the topic.

    >>> on_topic("The queue was long.", "the airport queue"), on_topic("A wonderful day!", "the airport queue")
    (True, False)
    """
    return bool(set(words(answer)) & (set(words(topic)) - ENGLISH_STOP_WORDS))


def judged(proxy: float, **parts: bool) -> dict[str, float]:
    """Proxy, gold and its parts as numbers: gold is 1 if every part holds, else 0.

    >>> judged(0.9, kind=True, on_topic=False)
    {'proxy': 0.9, 'gold': 0.0, 'kind': 1.0, 'on_topic': 0.0}
    """
    return {"proxy": proxy, "gold": float(all(parts.values()))} | {name: float(held) for name, held in parts.items()}
