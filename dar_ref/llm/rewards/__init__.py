"""Where the reward of a completion comes from: a Python function, a reward model, an annotator behind an endpoint."""

from collections.abc import Mapping, Sequence
from typing import Any

Text = str | Sequence[Mapping[str, Any]]  # a plain prompt or completion, or the messages of a chat


def flat_text(text: Text) -> str:
    """A text, or the messages of a chat as lines `role: content`."""
    return text if isinstance(text, str) else "\n".join(f"{m['role']}: {m['content']}" for m in text)


def response_text(completion: Text) -> str:
    """The completion as text; a single message without its role."""
    if isinstance(completion, str) or len(completion) != 1:
        return flat_text(completion)
    return str(completion[0]["content"])
