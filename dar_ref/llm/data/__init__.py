"""Prompts and preference pairs: from a file, a folder or a hub name to what a trainer reads."""
