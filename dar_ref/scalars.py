"""Checks of scalar options, shared by all layers. Each error gives value, reason and remedy in one line."""

import difflib
import math
import re
from collections.abc import Iterable
from numbers import Integral, Real

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"[-+]?(inf|((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?)")
LARGEST_SEED = 2**32 - 2  # of numpy; the toy engine also uses the next one
SINGLE = (2.0**-126, (2.0 - 2.0**-23) * 2.0**127)  # the normal numbers of float32


def fraction(name: str, value: float, *, single: bool = False) -> float:
    """Return the option `name` as a float in [0, 1].

    Args:
        name: for the message.
        value: a real number.
        single: it is used in float32, which must be able to hold it.

    Raises:
        TypeError: not a real number (arrays, tensors and booleans included).
        ValueError: outside [0, 1] or NaN.
    """
    number = _real(name, value)
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"{name} = {value!r} is outside [0, 1]; pass a number inside it")
    return _of_float32(name, number) if single else number


def positive(name: str, value: float, *, or_infinite: bool = False, single: bool = False) -> float:
    """Return the option `name` as a float above 0, finite unless `or_infinite`; `single` as in `fraction`.

    Raises:
        TypeError: not a real number (arrays, tensors and booleans included).
        ValueError: zero, negative, NaN, or infinite where that is not allowed.
    """
    number = _real(name, value)
    if not number > 0.0 or (number == math.inf and not or_infinite):
        raise ValueError(f"{name} = {value!r} is not a {_kind(or_infinite)} above 0; pass {name} > 0")
    return _of_float32(name, number) if single else number


def non_negative(name: str, value: float, *, or_infinite: bool = False, single: bool = False) -> float:
    """Return the option `name` as a float of at least 0, finite unless `or_infinite`; `single` as in `fraction`.

    Raises:
        TypeError: not a real number (arrays, tensors and booleans included).
        ValueError: negative, NaN, or infinite where that is not allowed.
    """
    number = _real(name, value)
    if not number >= 0.0 or (number == math.inf and not or_infinite):
        raise ValueError(f"{name} = {value!r} is not a {_kind(or_infinite)} of at least 0; pass {name} >= 0")
    return _of_float32(name, number) if single else number


def integer(name: str, value: int, least: int, most: int | None = None) -> int:
    """Return the option `name`, an int or an integer of numpy, as an int from `least` to `most`.

    Raises:
        TypeError: not an integer (booleans included).
        ValueError: below `least` or above `most`.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} = {value!r} is a {type(value).__name__}, not a whole number; pass an int")
    if value < least:
        raise ValueError(f"{name} = {value} is below {least}; pass {name} >= {least}")
    if most is not None and value > most:
        raise ValueError(f"{name} = {value} is above {most}; pass {name} <= {most}")
    return int(value)


def seed(name: str, value: int) -> int:
    """Return the option `name` as a seed that every random generator in use takes, 0 to `LARGEST_SEED`."""
    return integer(name, value, 0, LARGEST_SEED)


def choice(name: str, value: str, choices: Iterable[str]) -> str:
    """Return the option `name` if it is one of `choices`; ValueError that lists them otherwise."""
    choices = tuple(choices)
    if value not in choices:
        meant = did_you_mean(close(str(value), choices))
        raise ValueError(f"{name} = {value!r} is unknown; choose one of {', '.join(choices)}{meant}")
    return value


def close(word: str, choices: Iterable[str]) -> list[str]:
    """The choices that `word` may stand for, at most three: spelt alike, its initials, or with it as a part.

    >>> close("lr", ["alpha", "learning_rate"]), close("clip", ["w_clip"]), close("alfa", ["alpha"]), close("x", ["y"])
    (['learning_rate'], ['w_clip'], ['alpha'], [])
    """
    choices = list(choices)
    pieces = {choice: choice.split("_") for choice in choices if len(word) > 1}
    initials = [choice for choice, parts in pieces.items() if word == "".join(part[:1] for part in parts)]
    with_it = [choice for choice, parts in pieces.items() if word in parts]
    return list(dict.fromkeys([*initials, *difflib.get_close_matches(word, choices, 3), *with_it]))[:3]


def did_you_mean(words: Iterable[str]) -> str:
    """The end of a message about an unknown word; empty if no word is close to it.

    >>> did_you_mean(["alpha", "alpha_0"]), did_you_mean([])
    ('; did you mean alpha or alpha_0?', '')
    """
    text = " or ".join(words)
    return f"; did you mean {text}?" if text else ""


def finite(name: str, value: float) -> float:
    """Return `value` as a finite float; TypeError or ValueError otherwise."""
    number = _real(name, value)
    if not math.isfinite(number):
        raise ValueError(f"{name} = {value!r} is not finite; pass a finite number")
    return number


def _real(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} = {value!r} is a {type(value).__name__}, not a real number; pass one float")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} = {value!r:.20}... is beyond the numbers of float64; pass a smaller one") from None


def read_integer(text: str) -> int:
    """The whole number that is written, in plain decimal digits; ValueError otherwise: `int` also reads 1_000 and ٣."""
    if not _INTEGER.fullmatch(text):
        raise ValueError(f"{text!r} is not a whole number; write decimal digits, for example 100")
    return int(text)


def read_number(text: str) -> float:
    """The number that is written, in plain decimal digits, or inf; ValueError if it is none, or beyond float64."""
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{text!r} is not a number; write it in decimal digits, for example 0.05, 1e-3 or inf")
    number = float(text)
    if math.isinf(number) and not text.endswith("inf"):
        raise ValueError(f"{text!r} is beyond the numbers of float64; write inf if that is meant")
    if number == 0.0 and re.search("[1-9]", text.lower().partition("e")[0]):
        raise ValueError(f"{text!r} is too small for float64; write 0 if that is meant")
    return number


def _of_float32(name: str, number: float) -> float:
    """The number, 0 without its sign; ValueError if float32 has no such number, or none with full precision."""
    if number and not SINGLE[0] <= number <= SINGLE[1] and number != math.inf:
        raise ValueError(
            f"{name} = {number!r} is outside the numbers of float32, {SINGLE[0]:.2g} to {SINGLE[1]:.2g}; pass one of"
            " them"
        )
    return number + 0.0


def _kind(or_infinite: bool) -> str:
    return "number" if or_infinite else "finite number"
