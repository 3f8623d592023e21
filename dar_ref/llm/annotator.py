"""Old name, kept for programs that import it: the annotator is in `dar_ref.llm.rewards.annotator`."""

from dar_ref.llm.rewards.annotator import Annotator

__all__ = ["Annotator"]
