"""The paper's four datasets on the hub: which copy, which split, and how a row becomes TRL's columns.

**Paper silent** on the copies, their splits, and how prompts were made. We take the copies that TRL's documentation and
most reward models use; each entry of `DATASETS` says what was chosen. If no prompt can be made from a row (Anthropic's
data have some), the row is left out and counted by its reason.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

Messages = list[dict[str, str]]
Row = dict[str, Any]


@dataclass(frozen=True)
class Hub:
    """A dataset on the hub and how one of its rows becomes TRL's columns.

    path, data_dir: as for `datasets.load_dataset`; columns: those that `convert` reads; splits: those that exist;
    convert: gives TRL's columns of a row, or the reason to leave it out; remark: our choice where the paper is silent;
    plain: makes the usual text form of a conversation, None if there is none; split_column: column that holds the
    split, if all splits are in one file.
    """

    path: str
    columns: tuple[str, ...]
    splits: tuple[str, ...]
    convert: Callable[[Row], Row | str]
    licence: str
    remark: str
    data_dir: str | None = None
    plain: Callable[[Messages], str] | None = None
    split_column: str | None = None


class PaperDataset(NamedTuple):
    """One of the paper's datasets: prompts for methods that sample, pairs for dpo."""

    prompts: Hub
    preferences: Hub


def tldr_prompt(row: Row) -> Row | str:
    """A post that ends in "TL;DR:"; its author's summary becomes the column `reference`."""
    if not (row["prompt"] or "").strip():
        return "no post"
    return {"prompt": row["prompt"], "reference": row["completion"]}


def tldr_pair(row: Row) -> Row | str:
    """A post and two summaries."""
    if not (row["prompt"] or "").strip():
        return "no post"
    return {name: row[name] for name in ("prompt", "chosen", "rejected")}


_TURN = re.compile(r"\n\n(Human|Assistant):")


def split_transcript(text: str) -> tuple[Messages, str] | str:
    """Split a transcript of Anthropic's data at its last answer.

    Args:
        text: turns that begin with "\\n\\nHuman:" and "\\n\\nAssistant:".

    Returns:
        The messages before the last answer, and the answer; or the reason why the text is not such a transcript.

    >>> split_transcript("\\n\\nHuman: Hi\\n\\nAssistant: Hello")
    ([{'role': 'user', 'content': 'Hi'}], 'Hello')
    >>> split_transcript("\\n\\nHuman: Hi")
    'it does not end with an answer'
    """
    start, *parts = _TURN.split(text)
    turns = [(speaker, content.strip()) for speaker, content in zip(parts[::2], parts[1::2], strict=True)]
    if start.strip() or not turns or turns[0][0] != "Human":
        return "it does not begin with a question"
    if turns[-1][0] != "Assistant":
        return "it does not end with an answer"
    if any(one == two for (one, _), (two, _) in pairwise(turns)):
        return "its turns do not alternate"
    if not all(content for _, content in turns[:-1]):
        return "a turn before the last is empty"
    roles = {"Human": "user", "Assistant": "assistant"}
    return [{"role": roles[speaker], "content": content} for speaker, content in turns[:-1]], turns[-1][1]


def transcript(messages: Messages) -> str:
    """A conversation as text in the style of Anthropic's data, ready for an answer: inverse of `split_transcript`."""
    names = {"user": "Human", "assistant": "Assistant"}
    return "".join(f"\n\n{names[m['role']]}: {m['content']}" for m in messages) + "\n\nAssistant:"


def hh_prompt(row: Row) -> Row | str:
    """The conversation before the chosen answer; that answer becomes the column `reference`."""
    parts = split_transcript(row["chosen"])
    return parts if isinstance(parts, str) else {"prompt": parts[0], "reference": parts[1]}


def hh_pair(row: Row) -> Row | str:
    """A conversation and two answers to it."""
    chosen, rejected = split_transcript(row["chosen"]), split_transcript(row["rejected"])
    if isinstance(chosen, str) or isinstance(rejected, str):
        return chosen if isinstance(chosen, str) else str(rejected)
    if chosen[0] != rejected[0]:
        return "the two answers belong to different conversations"
    return {"prompt": chosen[0], "chosen": chosen[1], "rejected": rejected[1]}


_EXTRA_TURN = re.compile(r"\n?<extra_id_1>(User|Assistant)\n")


def helpsteer2_messages(prompt: str) -> Messages | str:
    """Messages of a HelpSteer2 prompt, in which `<extra_id_1>User` and `<extra_id_1>Assistant` begin a new turn.

    >>> helpsteer2_messages("Hi\\n<extra_id_1>Assistant\\nHello\\n<extra_id_1>User\\nWho?")[1:]
    [{'role': 'assistant', 'content': 'Hello'}, {'role': 'user', 'content': 'Who?'}]
    """
    first, *parts = _EXTRA_TURN.split(prompt)
    turns = [("User", first), *zip(parts[::2], parts[1::2], strict=True)]
    if any(speaker != ("Assistant" if i % 2 else "User") for i, (speaker, _) in enumerate(turns)):
        return "its turns do not alternate"
    if turns[-1][0] != "User":
        return "it does not end with a question"
    if not all(content.strip() for _, content in turns):
        return "a turn is empty"
    return [{"role": speaker.lower(), "content": content.strip()} for speaker, content in turns]


def helpsteer2_prompt(row: Row) -> Row | str:
    """The prompt alone. The data repeat it for each response; repetitions are dropped later."""
    messages = helpsteer2_messages(row["prompt"])
    return messages if isinstance(messages, str) else {"prompt": messages}


def helpsteer2_pair(row: Row) -> Row | str:
    """A prompt and two responses; a positive `preference_strength`, from -3 to 3, prefers the second."""
    messages, strength = helpsteer2_messages(row["prompt"]), row["preference_strength"]
    if isinstance(messages, str):
        return messages
    if strength == 0:
        return "annotators prefer neither response"
    first, second = row["response_1"], row["response_2"]
    chosen, rejected = (second, first) if strength > 0 else (first, second)
    return {"prompt": messages, "chosen": chosen, "rejected": rejected}


def _hh(folder: str) -> PaperDataset:
    path, columns, splits = "Anthropic/hh-rlhf", ("chosen", "rejected"), ("train", "test")
    remark = f"paper silent: `{folder}`, the tranche of the base models, the only one that both tasks have"
    rest: dict[str, Any] = {"licence": "MIT", "remark": remark, "data_dir": folder, "plain": transcript}
    return PaperDataset(Hub(path, columns, splits, hh_prompt, **rest), Hub(path, columns, splits, hh_pair, **rest))


DATASETS: dict[str, PaperDataset] = {
    "tldr": PaperDataset(
        Hub(
            "trl-lib/tldr", ("prompt", "completion"), ("train", "validation", "test"), tldr_prompt,
            licence="none stated on its card", remark="paper silent: TRL's copy of the filtered Reddit posts",
        ),
        Hub(
            "trl-lib/tldr-preference", ("prompt", "chosen", "rejected"), ("train", "validation"), tldr_pair,
            licence="none stated on its card", remark="paper silent: TRL's copy of the comparisons of summaries",
        ),
    ),
    "helpful": _hh("helpful-base"),
    "harmless": _hh("harmless-base"),
    "helpsteer2": PaperDataset(
        Hub(
            "nvidia/HelpSteer2", ("prompt",), ("train", "validation"), helpsteer2_prompt,
            licence="CC-BY-4.0", remark="paper silent: every prompt once, its scores unused",
        ),
        Hub(
            "nvidia/HelpSteer2", ("prompt", "response_1", "response_2", "preference_strength", "split"),
            ("train", "validation"), helpsteer2_pair, licence="CC-BY-4.0",
            remark="paper silent: the direct comparisons, not differences of scores",
            data_dir="preference", split_column="split",
        ),
    ),
}  # fmt: skip
