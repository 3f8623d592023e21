"""Extension of the API pages: shows examples and stars of docstrings correctly.

`>>>` examples become code everywhere; without this extension only those under an "Examples:" heading would. The star of
`pi*` stays a star; without it, two of them on a line would mark emphasis.
"""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"(?:^>>>.*\n?(?:^(?!\s*$|>>>).*\n?)*)+", flags=re.MULTILINE)


STAR = re.compile(r"(`[^`]*`)|(?<=\w)\*(?!\*)")  # after a letter, outside backticks


class Docstrings(griffe.Extension):
    """Fences each example, from its first `>>>` to the next empty line, and escapes stars after a letter."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of a module, class or function."""
        if obj.docstring:
            lines = (_starred(line) for line in obj.docstring.value.split("\n"))
            obj.docstring.value = EXAMPLE.sub(_fenced, "\n".join(lines))


def _starred(line: str) -> str:
    """The line with its stars escaped, unless it is code or contains emphasis."""
    if line.startswith((" ", ">>>")) or re.search(r"(?<![\w`])\*\w", line):
        return line
    return STAR.sub(lambda match: match.group(1) or r"\*", line)


def _fenced(match: re.Match[str]) -> str:
    return "```python\n" + match.group().rstrip("\n") + "\n```\n"
