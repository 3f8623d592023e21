"""Checks of single options: an accepted value comes back unchanged, and each error message is one full line."""

import math
import re

import numpy as np
import pytest

from dar_ref import scalars


@pytest.mark.parametrize("value", [3, 4, 10**30])
def test_whole_numbers_come_back(value):
    assert scalars.integer("steps", value, 3) == value


def test_integers_of_numpy_come_back_as_ints():
    assert type(scalars.integer("steps", np.int32(4), 3)) is int


@pytest.mark.parametrize(
    ("bad", "error", "line"),
    [
        (2, ValueError, "steps = 2 is below 3; pass steps >= 3"),
        (-1, ValueError, "steps = -1 is below 3; pass steps >= 3"),
        (True, TypeError, "steps = True is a bool, not a whole number; pass an int"),
        (3.0, TypeError, "steps = 3.0 is a float, not a whole number; pass an int"),
        ("3", TypeError, "steps = '3' is a str, not a whole number; pass an int"),
        (None, TypeError, "steps = None is a NoneType, not a whole number; pass an int"),
    ],
)
def test_other_than_whole_numbers_are_refused(bad, error, line):
    with pytest.raises(error, match=f"^{re.escape(line)}$"):
        scalars.integer("steps", bad, 3)


def test_one_of_the_choices_comes_back_and_others_are_refused_with_the_list():
    assert scalars.choice("method", "dar", ("dar", "dao")) == "dar"
    assert scalars.choice("method", "dao", iter({"dar": 1, "dao": 2})) == "dao"  # an iterator can be read only once
    for bad in ("DAR", "", None):
        with pytest.raises(ValueError, match=f"^method = {bad!r} is unknown; choose one of dar, dao$"):
            scalars.choice("method", bad, iter(("dar", "dao")))


ABOVE = "is not a finite number above 0; pass x > 0"
AT_LEAST = "is not a finite number of at least 0; pass x >= 0"


@pytest.mark.parametrize(
    ("check", "good", "bad", "line"),
    [
        (
            scalars.fraction,
            (0.0, 0.5, 1.0),
            (-5e-324, 1.0 + 2e-16, math.nan),
            "is outside [0, 1]; pass a number inside it",
        ),
        (scalars.positive, (5e-324, 1e308), (0.0, -0.0, -1.0, math.inf, math.nan), ABOVE),
        (scalars.non_negative, (0.0, 5e-324, 1e308), (-5e-324, math.inf, -math.inf, math.nan), AT_LEAST),
    ],
)
def test_ends_of_the_ranges_of_real_numbers(check, good, bad, line):
    for value in good:
        assert check("x", value) == value
        assert type(check("x", np.float64(value))) is float
    for value in bad:
        with pytest.raises(ValueError, match=f"^x = {re.escape(repr(value))} {re.escape(line)}$"):
            check("x", value)
    for value in (True, None, "1", [0.5], np.array([0.5]), 1j):
        with pytest.raises(
            TypeError, match=rf"^x = .* is a {type(value).__name__}, not a real number; pass one float$"
        ):
            check("x", value)


@pytest.mark.parametrize("check", [scalars.positive, scalars.non_negative])
def test_infinity_is_let_through_on_request(check):
    assert check("x", math.inf, or_infinite=True) == math.inf
    for bad in (-math.inf, -1.0, math.nan):
        with pytest.raises(ValueError, match=r"^x = .* is not a number (above|of at least) 0; pass x >=? 0$"):
            check("x", bad, or_infinite=True)
