"""Input checks of the theory layer. Every error names the value, the reason and the remedy.

A policy is an array of log-probabilities over its last axis (the arms). `-inf` is probability zero. Nothing is
normalised silently: a row whose probabilities do not sum to 1 within `ROW_TOLERANCE` is refused.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dar_ref import scalars

Array = NDArray[np.float64]

EPS = float(np.finfo(np.float64).eps)  # 2^-52, the distance from 1 to the next float64
LARGEST_TILT = 1e300  # nats: larger exponents are cut here, so that sums of a few stay inside float64
ROW_TOLERANCE = 1e-8


def arrays(**named: ArrayLike) -> list[Array]:
    """Return the named inputs as float64 arrays that share their last axis and broadcast over the leading ones.

    A name that begins with `log_` is checked as a policy, any other (`advantage`) as an array of finite numbers.

    Raises:
        TypeError: integer, boolean, complex or object values.
        ValueError: empty or 0-d array, NaN, infinite advantage, a log-probability of +inf, rows that do not sum to one,
            different numbers of arms, leading axes that do not broadcast.
    """
    checked = [
        _policy(name, value) if name.startswith("log_") else _finite(name, value) for name, value in named.items()
    ]
    shapes = [array.shape for array in checked]
    if any(shape != shapes[0] for shape in shapes):
        _check_shapes(dict(zip(named, shapes, strict=True)))
    return checked


def single(**named: ArrayLike) -> list[Array]:
    """Return the named inputs as `arrays` does, each (A,); ValueError for leading axes (more than one bandit)."""
    checked = arrays(**named)
    for name, array in zip(named, checked, strict=True):
        if array.ndim > 1:
            raise ValueError(f"{name} has shape {array.shape}: one bandit (A,) at a time; loop over the leading axes")
    return checked


def alpha(value: float) -> float:
    """Return `alpha`, the weight of `pi_0` against `pi_t`, as a float in [0, 1]; TypeError or ValueError otherwise."""
    return scalars.fraction("alpha", value)


def positive(name: str, value: float) -> float:
    """Return the parameter `name` (`beta`) as a finite float above 0; TypeError or ValueError otherwise."""
    return scalars.positive(name, value)


def non_negative(name: str, value: float) -> float:
    """Return the parameter `name` (an order, a radius) as a float in [0, inf]; TypeError or ValueError otherwise."""
    return scalars.non_negative(name, value, or_infinite=True)


def common_support(logits: Array) -> None:
    """Raise ValueError where a row of `logits` (..., A) is -inf on every arm: the two policies have no common arm."""
    empty = (logits == -np.inf).all(axis=-1)
    if empty.any():
        raise ValueError(
            f"log_pi_0 and log_pi_t have no arm in common{_first_row(empty)}: pi_0^alpha pi_t^(1-alpha) is zero"
            " everywhere and no policy has a finite dual KL; give both policies some common support"
        )


def over_beta(advantage: Array, beta: float) -> Array:
    """Return `advantage / beta`; raise ValueError where a quotient, or a difference of two in a row, leaves the range
    of float64."""
    with np.errstate(over="ignore"):
        quotient = advantage / beta
    if not within_float64(quotient):
        raise ValueError(
            f"advantage / beta overflows float64: max |advantage| = {np.abs(advantage).max()!r}, beta = {beta!r};"
            " raise beta or scale the advantage down"
        )
    return quotient


def within_float64(logits: Array) -> bool:
    """Whether all of `logits` (..., A), and the differences in a row that a softmax takes, are finite in float64."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(logits.max(axis=-1) - logits.min(axis=-1)).all())


def span(**named: Array) -> None:
    """Raise ValueError where a difference of two values of the named array leaves the range of float64."""
    for name, array in named.items():
        with np.errstate(over="ignore"):
            difference = array.max() - array.min()
        if not np.isfinite(difference):
            raise ValueError(
                f"{name} spans {float(array.min())!r} to {float(array.max())!r}: the difference overflows float64 and"
                f" cannot be centred; scale the {name} down"
            )


def _floating(name: str, value: ArrayLike) -> Array:
    array = np.asarray(value)
    if not np.issubdtype(array.dtype, np.floating):
        raise TypeError(
            f"{name} has dtype {array.dtype}, not a floating type; pass floats, for example np.asarray(x, dtype=float)"
        )
    if array.ndim == 0 or array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}: at least one arm on the last axis and one row are needed")
    return array.astype(np.float64, copy=False)


def _finite(name: str, value: ArrayLike) -> Array:
    array = _floating(name, value)
    if not np.isfinite(array).all():
        where = np.argwhere(~np.isfinite(array))[0]
        raise ValueError(
            f"{name}{_index(where)} = {array[tuple(where)]}: every value must be finite;"
            " drop the arm or give it a number"
        )
    return array


def _policy(name: str, value: ArrayLike) -> Array:
    array = _floating(name, value)
    with np.errstate(over="ignore"):  # wrong input may overflow; the test of the total then refuses it
        total = np.exp(array).sum(axis=-1)
    if not (np.abs(total - 1.0) <= ROW_TOLERANCE).all():  # also False for NaN and +inf
        _refuse_policy(name, array, np.asarray(total))
    return array


def _refuse_policy(name: str, array: Array, total: Array) -> None:
    """Raise the ValueError for a policy that failed its row sum. NaN comes first, since it hides other faults."""
    for bad, what in ((np.isnan(array), "NaN"), (array == np.inf, "+inf")):
        if bad.any():
            where = np.argwhere(bad)[0]
            raise ValueError(f"{name}{_index(where)} is {what}: a log-probability lies in [-inf, 0]; correct the input")
    if (array >= 0).all() and (np.abs(array.sum(axis=-1) - 1.0) <= ROW_TOLERANCE).all():
        raise ValueError(
            f"{name} holds probabilities (its rows sum to 1), but log-probabilities are needed; pass np.log({name})"
        )
    row = np.unravel_index(int(np.argmax(np.abs(total - 1.0))), total.shape)
    raise ValueError(
        f"{name}{_index(row)}: probabilities sum to {float(total[row])!r}, more than {ROW_TOLERANCE} away from 1;"
        f" normalise it in float64, for example with scipy.special.log_softmax(np.asarray({name}, dtype=float),"
        " axis=-1)"
    )


def _check_shapes(shapes: dict[str, tuple[int, ...]]) -> None:
    listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    if len({shape[-1] for shape in shapes.values()}) > 1:
        raise ValueError(f"different numbers of arms on the last axis: {listed}; give every array the same last axis")
    try:
        np.broadcast_shapes(*shapes.values())
    except ValueError:
        raise ValueError(
            f"leading axes do not broadcast: {listed}; insert axes of length 1 where they should"
        ) from None


def _index(where: ArrayLike) -> str:
    indices = ", ".join(str(int(i)) for i in np.asarray(where))
    return f"[{indices}]" if indices else ""


def _first_row(flags: NDArray[np.bool_]) -> str:
    return f" in row {_index(np.argwhere(flags)[0])}" if flags.ndim else ""
