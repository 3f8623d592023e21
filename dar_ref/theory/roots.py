"""Where a function of one number changes sign: the only root finder of the package."""

from collections.abc import Callable

from dar_ref.theory.checks import EPS


def crossing(function: Callable[[float], float], low: float, start: float, high: float) -> float:
    """The point between `low` and `high` where a monotone function changes sign, to a few units in the last place.

    If it does not change sign there, the end with the smaller absolute value. The search begins at `start` and widens,
    since far from the root a function may be slow to compute, or flat.

    >>> round(crossing(lambda x: x * x - 2.0, 0.0, 1.0, 10.0), 12)
    1.414213562373
    """
    from scipy.optimize import brentq  # here, since the import of the package has a time budget

    start = min(max(start, low), high)
    left, right, reach = start, start, 1.0
    values = [function(start)] * 2
    while values[0] * values[1] > 0.0 and (left > low or right < high):
        left, right, reach = max(start - reach, low), min(start + reach, high), 4.0 * reach
        values = [function(left), function(right)]
    if values[0] * values[1] >= 0.0:
        return left if abs(values[0]) <= abs(values[1]) else right
    return float(brentq(function, left, right, xtol=1e-300, rtol=4 * EPS, maxiter=300))
