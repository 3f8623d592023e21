"""The small start, and the cache that it lies in as `folder`."""

import pytest

from tests.small_start import start, toy_cache

__all__ = ["folder", "start", "toy_cache"]


@pytest.fixture(scope="session")
def folder(toy_cache):
    """The cache that `start` lies in."""
    return toy_cache
