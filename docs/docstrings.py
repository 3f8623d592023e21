"""Extension of the API pages: docstrings are shown as they are meant.

`>>>` examples become code, wherever they stand; otherwise only those under an "Examples:" heading would. The star of
`pi*` is a star; two of them on a line would otherwise begin and end emphasis.
"""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"(?:^>>>.*\n?(?:^(?!\s*$|>>>).*\n?)*)+", flags=re.MULTILINE)


STAR = re.compile(r"(`[^`]*`)|(?<=\w)\*(?!\*)")  # after a letter, outside backticks


class Docstrings(griffe.Extension):
    """Put fences around each example, from its first `>>>` to the next empty line, and escape stars after a letter."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of a module, class or function."""
        if obj.docstring:
            lines = (_starred(line) for line in obj.docstring.value.split("\n"))
            obj.docstring.value = EXAMPLE.sub(_fenced, "\n".join(lines))


def _starred(line: str) -> str:
    """The line with its stars escaped, unless it is code or has emphasis of its own."""
    if line.startswith((" ", ">>>")) or re.search(r"(?<![\w`])\*\w", line):
        return line
    return STAR.sub(lambda match: match.group(1) or r"\*", line)


def _fenced(match: re.Match[str]) -> str:
    return "```python\n" + match.group().rstrip("\n") + "\n```\n"
