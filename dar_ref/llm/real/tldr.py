"""The task `tldr`: say in one sentence what a function does, from the text of its documentation.

    post       the description in a docstring of an installed package, without its first line
    reference  that first line
    proxy      share of one half of the reference's words that the summary has: what is trained on
    gold       the same for the other half, which no reward has seen; length, copying and fluency are measured beside it

Recall has no price for a wrong word, so a heap of words that first lines often have scores higher than a summary. The
halves are drawn by a hash of each word: a word is on the same side wherever it stands, and what is learned about words
of the proxy's half says nothing about the others. The splits have different source files.
"""

import ast
import hashlib
import re
import textwrap
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from dar_ref.llm.real.text import of_answer, words
from dar_ref.llm.rewards import Text

PACKAGES = ("numpy", "scipy", "sklearn", "matplotlib")  # this package needs them all, so they are there
INSTRUCTION = "Say in one sentence what this function does.\n\n"
SECTION = re.compile(  # what ends a description: a heading with a line under it, "Args:", an example, a directive
    r"^\s*(\w[\w ]*\n\s*[-=~]{3,}|(args|arguments|parameters|returns|raises|examples?|notes?)\s*:|>>>|\.\. )",
    re.I | re.M,
)
MARKUP = re.compile(r"[`*$\\{}|]|\[\d+\]")
FIRST_WORDS, POST_WORDS = (4, 16), (25, 80)  # least and most
SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}
TOGETHER = 1  # test rows about one thing, which a bootstrap draws together


class Post(NamedTuple):
    """A docstring of a function or class: where it stands, its first line, and its description."""

    place: str
    reference: str
    text: str


def prompts(split: str) -> list[dict[str, Any]]:
    """The rows of a split, in TRL's columns: prompt, `reference` and `place`. They follow from the installed versions
    of `PACKAGES`."""
    return [
        {
            "prompt": [{"role": "user", "content": INSTRUCTION + post.text}],
            "reference": post.reference,
            "place": post.place,
        }
        for post in posts()
        if split_of(post.place) == split
    ]


@cache
def posts() -> tuple[Post, ...]:
    """Every usable docstring of `PACKAGES`, sorted by place, no reference and no text twice."""
    found: list[Post] = []
    seen: set[str] = set()
    for package in PACKAGES:
        root = Path(str(find_spec(package).origin)).parent  # type: ignore[union-attr]  # we depend on them
        for file in sorted(root.rglob("*.py")):
            if "tests" not in file.parts:
                for post in of_file(file, str(file.relative_to(root.parent))):
                    if not seen & {post.reference, post.text}:
                        seen |= {post.reference, post.text}
                        found.append(post)
    return tuple(found)


def of_file(file: Path, name: str) -> Iterator[Post]:
    """The usable docstrings of one source file; it is parsed, not run."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and (docstring := ast.get_docstring(node)):
            reference, _, rest = docstring.partition("\n\n")
            text = _description(rest)
            usable = _usable(reference, FIRST_WORDS) and reference.endswith(".") and _usable(text, POST_WORDS)
            if usable and all(_half(reference, held_out) for held_out in (False, True)):
                yield Post(f"{name}:{node.name}", reference, text)


def split_of(place: str) -> str:
    """The split of a docstring, drawn by a hash of its file."""
    drawn, bound = _drawn(place.partition(":")[0]), 0.0
    for split, share in SHARES.items():
        bound += share
        if drawn < bound:
            return split
    return split


def reward(prompts: Sequence[Text], completions: Sequence[Text], reference: Sequence[str], **_: Any) -> list[float]:  # noqa: ARG001
    """The proxy: `recall` on the words of the proxy's half."""
    return [recall(of_answer(c), r, held_out=False) for c, r in zip(completions, reference, strict=True)]


def judge(row: dict[str, Any], answer: str) -> dict[str, float]:
    """Proxy and gold of a summary, and how much of it is copied.

    Args:
        row: of the prompt, see `prompts`.
        answer: the summary.
    """
    proxy, gold = (recall(answer, row["reference"], held_out=half) for half in (False, True))
    return {"proxy": proxy, "gold": gold, "copied": copied(answer, row["prompt"][-1]["content"])}


def recall(summary: str, reference: str, *, held_out: bool) -> float:
    """Share of the reference's distinct content words, of one half, that a summary has, in [0, 1]; 0 if the reference
    has no word of this half.

    >>> [recall("Sorts the array.", "Sort an array in place.", held_out=half) for half in (False, True)]
    [0.5, 1.0]
    """
    wanted = _half(reference, held_out)
    return len(wanted & set(_stems(summary))) / len(wanted) if wanted else 0.0


def copied(summary: str, post: str, n: int = 4) -> float:
    """Share of a summary's n-grams of words that stand in the post; 0 for a shorter summary.

    >>> copied("it sorts the array in place", "This sorts the array in one pass.")
    0.3333333333333333
    """
    ours, theirs = (list(zip(*(words(text)[i:] for i in range(n)), strict=False)) for text in (summary, post))
    return sum(gram in set(theirs) for gram in ours) / len(ours) if ours else 0.0


def _half(reference: str, held_out: bool) -> set[str]:
    return {word for word in _stems(reference) if (_drawn(word) < 0.5) == held_out}


def _stems(text: str) -> list[str]:
    """Content words without the plural or verb ending s."""
    return [word.removesuffix("s") for word in words(text) if word not in ENGLISH_STOP_WORDS and len(word) > 2]


def _description(rest: str) -> str:
    section = SECTION.search(rest)
    text = rest[: section.start()] if section else rest
    return " ".join(textwrap.dedent(text).split())


def _usable(text: str, bounds: tuple[int, int]) -> bool:
    return (
        bounds[0] <= len(text.split()) <= bounds[1] and text.isascii() and "\n" not in text and not MARKUP.search(text)
    )


def _drawn(text: str) -> float:
    """A number in [0, 1) that a text decides."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48
