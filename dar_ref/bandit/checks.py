"""Checks of whole-number and named options; those of real numbers are in `dar_ref.scalars`."""

from collections.abc import Iterable


def integer(name: str, value: int, least: int) -> int:
    """Return the option `name` as an int of at least `least`; TypeError or ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} = {value!r} is a {type(value).__name__}, not a whole number; pass an int")
    if value < least:
        raise ValueError(f"{name} = {value} is below {least}; pass {name} >= {least}")
    return value


def choice(name: str, value: str, choices: Iterable[str]) -> str:
    """Return the option `name` if it is one of `choices`; ValueError that lists them otherwise."""
    choices = tuple(choices)
    if value not in choices:
        raise ValueError(f"{name} = {value!r} is unknown; choose one of {', '.join(choices)}")
    return value
