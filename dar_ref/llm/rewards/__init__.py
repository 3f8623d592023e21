"""Where the reward of a completion comes from: a Python function, a reward model, an annotator behind an endpoint."""

from collections.abc import Mapping, Sequence
from typing import Any

Text = str | Sequence[Mapping[str, Any]]  # a plain prompt or completion, or the messages of a chat
