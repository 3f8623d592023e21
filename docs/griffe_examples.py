"""Extension of the API pages: `>>>` examples of a docstring are shown as code, wherever they stand in it.

Without it only examples under an "Examples:" heading are; the rest would be shown as quotations.
"""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"(?:^>>>.*\n?(?:^(?!\s*$|>>>).*\n?)*)+", flags=re.MULTILINE)


class FencedExamples(griffe.Extension):
    """Put fences around each example: from its first `>>>` to the next empty line."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of a module, class or function."""
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(_fenced, obj.docstring.value)


def _fenced(match: re.Match[str]) -> str:
    return "```python\n" + match.group().rstrip("\n") + "\n```\n"
