"""The one way out of every command: what stops it is one line, and an exit status. And the types of arguments, which
refuse in our words what cannot be meant.

0    done                          2    refused: bad usage or input, or a place that fails
1    it ran and did not succeed    130  Ctrl-C
"""

import argparse
import re
import sys
import traceback
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from dar_ref import scalars

HIDDEN = "***"
HERE = Path(__file__).parent
T = TypeVar("T")
OTHER_NAMES = {"yaml": "pyyaml"}  # packages that are installed by another name than they are imported by


def exit_status(command: str, work: Callable[[], int], debug: bool = False) -> int:
    """Do `work` and return its exit status; say in one line on stderr what stops it.

    Our own errors give value, reason and remedy. Of any other the type is said too, and the last line of this package
    that it came through.

    Args:
        command: that the line begins with.
        work: returns the exit status.
        debug: raise what stops it, for the traceback.
    """
    try:
        return work()
    except KeyboardInterrupt:
        if debug:
            raise
        print(f"{command}: stopped by Ctrl-C", file=sys.stderr)
        return 130
    except (Exception, SystemExit) as error:  # code that a user names may call sys.exit(0): no success of ours
        if debug:
            raise
        print(f"{command}: {without_passwords(in_one_line(error))}", file=sys.stderr)
        return 2


def without_passwords(text: str) -> str:
    """`text` with `HIDDEN` in the place of user and password in an address.

    >>> without_passwords("https://me:p@ss@host/x is no file")
    'https://***@host/x is no file'
    """
    return re.sub(r"(?<=://)[^/\s]+(?=@)", HIDDEN, text)


def in_one_line(error: BaseException) -> str:
    """The words of an error; its type and place as well unless it was raised here as ValueError, TypeError or OSError.

    >>> in_one_line(ValueError("alpha = 2 is outside [0, 1]; pass a number inside it"))
    'alpha = 2 is outside [0, 1]; pass a number inside it'
    """
    words = str(error).strip()
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    ours = [frame for frame in frames if HERE in Path(frame.filename).parents]
    raised_here = not frames or frames[-1] in ours
    if isinstance(error, ModuleNotFoundError) and error.name:
        return missing(error.name)
    if words and (
        isinstance(error, OSError) or (raised_here and isinstance(error, ValueError | TypeError | RuntimeError))
    ):
        return words
    place = f" ({Path(ours[-1].filename).relative_to(HERE.parent)}, line {ours[-1].lineno})" if ours else ""
    return f"{type(error).__name__}: {words or 'no more is said'}{place}; --debug shows the traceback"


def whole(text: str) -> int:
    """Type of an argument: a whole number, see `scalars.read_integer`."""
    return _argument(scalars.read_integer, text)


def number(text: str) -> float:
    """Type of an argument: a number, see `scalars.read_number`."""
    return _argument(scalars.read_number, text)


def path(text: str) -> Path:
    """Type of an argument: a file or folder. An empty one would be the working directory.

    Raises:
        argparse.ArgumentTypeError: the text names none.
    """
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} names no file or folder; write . for this folder")
    return Path(text)


def refuse_file(folder: Path) -> None:
    """Raise NotADirectoryError if a file is where a folder is to be; it need not exist."""
    if file := next((place for place in (folder, *folder.parents) if place.is_file()), None):
        raise NotADirectoryError(f"{str(file)!r} is a file; pass a folder")


def _argument(read: Callable[[str], T], text: str) -> T:
    try:
        return read(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def missing(module: str) -> str:
    """What to say of a module that cannot be imported: which package, and the command that installs it.

    >>> print(missing("yaml"))
    the package 'pyyaml' is missing; pip install "dar-ref[llm]"
    """
    top = module.partition(".")[0]
    package = OTHER_NAMES.get(top, top)
    try:
        required = metadata.requires("dar-ref") or []
    except metadata.PackageNotFoundError:  # a source tree that is not installed
        required = []
    extras = [
        re.match(rf"{re.escape(package)}(?![\w-]).*extra == ['\"]([\w-]+)", line, re.IGNORECASE) for line in required
    ]
    extra = next((found.group(1) for found in extras if found), None)
    return f"the package {package!r} is missing; pip install " + (f'"dar-ref[{extra}]"' if extra else package)
