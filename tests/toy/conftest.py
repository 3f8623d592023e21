"""The small start, and the folder of its cache."""

import pytest

from tests.small_start import start, toy_cache

__all__ = ["folder", "start", "toy_cache"]


@pytest.fixture(scope="session")
def folder(toy_cache):
    """The cache folder of `start`."""
    return toy_cache
