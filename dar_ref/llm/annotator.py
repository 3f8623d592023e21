"""The annotator under its first address; it lives in `dar_ref.llm.rewards.annotator`."""

from dar_ref.llm.rewards.annotator import Annotator

__all__ = ["Annotator"]
