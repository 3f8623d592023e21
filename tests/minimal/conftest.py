"""No test here asks a hub. The small start of the toy engine serves as a model of one's own."""

import os

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # before transformers is imported
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tests.small_start import exported, start, toy_cache

__all__ = ["exported", "start", "toy_cache"]
