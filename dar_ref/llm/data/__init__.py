"""Prompts and preference pairs: from a file, a folder or a hub name to what a trainer reads."""

from dar_ref.llm.data.load import load_eval_prompts, load_preferences, load_prompts

__all__ = ["load_eval_prompts", "load_preferences", "load_prompts"]
