"""Checks of scalar options, shared by all layers. Each error gives value, reason and remedy in one line."""

import math
from collections.abc import Iterable
from numbers import Integral, Real

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


def integer(name: str, value: int, least: int) -> int:
    """Return the option `name`, an int or an integer of numpy, as an int of at least `least`.

    Raises:
        TypeError: not an integer (booleans included).
        ValueError: below `least`.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} = {value!r} is a {type(value).__name__}, not a whole number; pass an int")
    if value < least:
        raise ValueError(f"{name} = {value} is below {least}; pass {name} >= {least}")
    return int(value)


def choice(name: str, value: str, choices: Iterable[str]) -> str:
    """Return the option `name` if it is one of `choices`; ValueError that lists them otherwise."""
    choices = tuple(choices)
    if value not in choices:
        raise ValueError(f"{name} = {value!r} is unknown; choose one of {', '.join(choices)}")
    return value


def _real(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} = {value!r} is a {type(value).__name__}, not a real number; pass one float")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} = {value!r:.20}... is beyond the numbers of float64; pass a smaller one") from None


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
