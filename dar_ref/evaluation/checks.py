"""Input checks of the evaluation layer. Every error names the value, the reason and the remedy.

Scores, lengths and log-probs come from judges and models, one number per completion. A NaN would silently become a lost
prompt or a NaN mean, so every value is checked.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dar_ref import scalars

Array = NDArray[np.float64]


def aligned(**named: ArrayLike) -> list[Array]:
    """Return the named inputs as float64 arrays of one shape, at least one axis, every value finite.

    Raises:
        TypeError: values that are not real numbers (booleans, None, strings included).
        ValueError: empty, ragged, NaN, infinite, or different shapes.
    """
    arrays = [_finite(name, value) for name, value in named.items()]
    if any(array.shape != arrays[0].shape for array in arrays):
        listed = ", ".join(f"{name} {array.shape}" for name, array in zip(named, arrays, strict=True))
        raise ValueError(f"different shapes: {listed}; pass one value of each for every prompt, in the same order")
    return arrays


def vectors(**named: ArrayLike) -> list[Array]:
    """Return the named inputs as float64 vectors of one length, every value finite.

    Raises:
        TypeError, ValueError: as in `aligned`, and more than one axis.
    """
    arrays = aligned(**named)
    if arrays[0].ndim != 1:
        raise ValueError(f"{next(iter(named))} has shape {arrays[0].shape}: one axis is needed; pass a vector (N,)")
    return arrays


def between(name: str, array: Array, low: float, high: float, what: str) -> None:
    """Raise ValueError at the first value of `array` outside [low, high]; `what` says why it must be inside."""
    outside = ~((array >= low) & (array <= high))
    if outside.any():
        where = tuple(int(i) for i in np.argwhere(outside)[0])
        index = ", ".join(map(str, where))
        raise ValueError(f"{name}[{index}] = {float(array[where])!r}: {what}")


def flags(name: str, value: ArrayLike) -> NDArray[np.bool_]:
    """Return `value` as a boolean vector.

    Raises:
        TypeError: a type other than boolean, since 0/1 might be lengths or token ids.
        ValueError: empty, or not one axis.
    """
    array = _array(name, value)
    if array.dtype != np.bool_:
        raise TypeError(f"{name} has dtype {array.dtype}, not bool; pass True or False per completion")
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}: one axis is needed; pass a vector (B,)")
    return array


def level(value: float) -> float:
    """Return the confidence `level` as a float strictly between 0 and 1; TypeError or ValueError otherwise."""
    number = scalars.fraction("level", value)
    if number in (0.0, 1.0):
        raise ValueError(f"level = {value!r} gives a point or the whole line; pass a level inside (0, 1)")
    return number


def _array(name: str, value: ArrayLike) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError:
        raise ValueError(f"{name} is ragged: its rows differ in length; pass a rectangular array") from None
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}: at least one value is needed; pass a non-empty array")
    return array


def _finite(name: str, value: ArrayLike) -> Array:
    array = _array(name, value)
    if not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
        raise TypeError(f"{name} has dtype {array.dtype}, not a real number type; pass ints or floats, not None")
    array = array.astype(np.float64)
    between(name, array, -np.finfo(float).max, np.finfo(float).max, "every value must be finite; correct or drop it")
    return array
