"""No test here uses a hub. A small start of the toy engine is exported in the form that a full-size run reads."""

import os

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # before transformers is imported
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tests.small_start import exported, start, toy_cache

__all__ = ["exported", "start", "toy_cache"]
