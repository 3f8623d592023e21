"""A small exported policy, and no hub."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before transformers is imported

from tests.small_start import exported, start, toy_cache

__all__ = ["exported", "start", "toy_cache"]
