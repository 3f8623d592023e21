"""What the tasks look at in a text."""

import re

from dar_ref.llm.rewards import Text

WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")


def of_answer(completion: Text) -> str:
    """The text of a completion: plain, or a chat with one message."""
    return completion if isinstance(completion, str) else str(completion[-1]["content"])


def words(text: str) -> list[str]:
    """The words of a text in lower case, in order.

    >>> words("It's 2 tests: test, TEST.")
    ["it's", 'tests', 'test', 'test']
    """
    return WORD.findall(text.lower())
