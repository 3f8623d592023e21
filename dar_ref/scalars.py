"""Checks of scalar options, shared by all layers. Each error gives value, reason and remedy in one line."""

import math
from collections.abc import Iterable
from numbers import Integral, Real


def fraction(name: str, value: float) -> float:
    """Return the option `name` as a float in [0, 1].

    Raises:
        TypeError: not a real number (arrays, tensors and booleans included).
        ValueError: outside [0, 1] or NaN.
    """
    number = _real(name, value)
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"{name} = {value!r} is outside [0, 1]; pass a number inside it")
    return number


def positive(name: str, value: float, *, or_infinite: bool = False) -> float:
    """Return the option `name` as a float above 0, finite unless `or_infinite`.

    Raises:
        TypeError: not a real number (arrays, tensors and booleans included).
        ValueError: zero, negative, NaN, or infinite where that is not allowed.
    """
    number = _real(name, value)
    if not number > 0.0 or (number == math.inf and not or_infinite):
        raise ValueError(f"{name} = {value!r} is not a {_kind(or_infinite)} above 0; pass {name} > 0")
    return number


def non_negative(name: str, value: float, *, or_infinite: bool = False) -> float:
    """Return the option `name` as a float of at least 0, finite unless `or_infinite`.

    Raises:
        TypeError: not a real number (arrays, tensors and booleans included).
        ValueError: negative, NaN, or infinite where that is not allowed.
    """
    number = _real(name, value)
    if not number >= 0.0 or (number == math.inf and not or_infinite):
        raise ValueError(f"{name} = {value!r} is not a {_kind(or_infinite)} of at least 0; pass {name} >= 0")
    return number


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


def finite(name: str, value: float) -> float:
    """Return `value` as a finite float; TypeError or ValueError otherwise."""
    number = _real(name, value)
    if not math.isfinite(number):
        raise ValueError(f"{name} = {value!r} is not finite; pass a finite number")
    return number


def _real(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} = {value!r} is a {type(value).__name__}, not a real number; pass one float")
    return float(value)


def _kind(or_infinite: bool) -> str:
    return "number" if or_infinite else "finite number"
