"""A function that a user names: "module:function", of a module that is installed or in the working directory, or
"folder/file.py:function"."""

import importlib
import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dar_ref.llm.rewards.reads import watched

_STANDARD = sysconfig.get_path("stdlib")


def module_name(name: str) -> str:
    """The module that "module:function" or "folder/file.py:function" is imported from."""
    module = name.rpartition(":")[0]
    return Path(module).stem if module.endswith(".py") else module


def imported(name: str) -> Callable[..., Any]:
    """Import the function.

    Raises:
        ValueError: it cannot be imported, is no plain function, or another module has the name of the file.
    """
    place, _, attribute = name.rpartition(":")
    file = Path(place).resolve() if place.endswith(".py") else None
    folder = os.getcwd() if file is None else str(file.parent)
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        with watched():
            module = importlib.import_module(module_name(name))
    except (Exception, SystemExit) as error:  # ImportError, or whatever the module's own code raises
        raise ValueError(
            f"reward.name = {name!r} cannot be imported, {described(error)}; pass a module that is installed or in the"
            " working directory"
        ) from error
    if file is not None and Path(getattr(module, "__file__", None) or "").resolve() != file:
        raise ValueError(
            f"reward.name = {name!r}: {module.__name__!r} is already the name of another module; rename the file"
        )
    function = getattr(module, attribute, None)
    if not callable(function):
        what = f"{attribute} is a {type(function).__name__}" if hasattr(module, attribute) else f"no {attribute} in it"
        raise ValueError(f"reward.name = {name!r}: {what}; pass a function (prompts, completions, **columns)")
    if inspect.iscoroutinefunction(function):
        raise ValueError(f"reward.name = {name!r} is a coroutine; pass a plain function")
    return function


def described(error: BaseException) -> str:
    """An error of a user's code: its type, its words, and the last line of theirs that it came through."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<")][1:]
    own = [f for f in frames if "site-packages" not in f.filename and not f.filename.startswith(_STANDARD)]
    place = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {error}{place}"
