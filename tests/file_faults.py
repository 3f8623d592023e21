"""Stop code at its n-th file operation, as a kill or a full disk does.

Python reports every file that it opens, renames or removes to audit hooks, and a hook may raise instead. What is
written by C++ or Rust is not reported; the operations before and after it are.
"""

import contextlib
import os
import sys

WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}  # os.replace and os.unlink are reported by these names


class KilledError(BaseException):
    """No `except Exception` holds it."""


class Armed:
    """Calls `stop` at operation number `at` and at every later one: a process that is dead does nothing more."""

    def __init__(self, at, stop):
        self.at, self.stop, self.seen = at, stop, 0

    def __call__(self):
        self.seen += 1
        if self.seen >= self.at:
            self.stop()


_armed: list[Armed] = []


def _hook(event, arguments):
    if _armed and (event in WRITES or (event == "open" and _is_written(arguments))):
        _armed[0]()


def _is_written(arguments):
    _, mode, flags = arguments
    return any(letter in (mode or "") for letter in "wax+") or bool(flags & (os.O_WRONLY | os.O_RDWR))


def _kill():
    raise KilledError


sys.addaudithook(_hook)


def arm(at, stop=_kill):
    """From now on; returns what counts the operations."""
    _armed[:] = [Armed(at, stop)]
    return _armed[0]


@contextlib.contextmanager
def stopped_at(at, stop=_kill):
    """Raise `KilledError`, or what `stop` raises, at file operation number `at` of the block, and end the block then;
    gives a list that holds whether that happened."""
    happened = []
    arm(at, stop)
    try:
        yield happened
    except KilledError:
        happened.append(True)
    finally:
        disarm()


def disarm():
    """From now on nothing is stopped."""
    _armed.clear()
