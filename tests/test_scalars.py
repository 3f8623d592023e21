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


@pytest.mark.parametrize("text", ["1_000", "٣", "½", "0x10", "010", " 5", "5 ", "5.0", "1e3", "", "-", "five"])
def test_whole_numbers_are_read_in_plain_decimal_digits(text):
    assert [scalars.read_integer(good) for good in ("0", "-7", "+12", "1000000000000")] == [0, -7, 12, 10**12]
    with pytest.raises(ValueError, match=f"^{re.escape(repr(text))} is not a whole number; write"):
        scalars.read_integer(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *(
            (text, "is not a number")
            for text in ("1_000", "٣", "0x10", "010", "1,5", "nan", "infinity", " 5", "1e", "")
        ),
        *((text, "is beyond the numbers of float64") for text in ("1e400", "-1e999")),
        *((text, "is too small for float64") for text in ("1e-400", "-0.1e-350")),
    ],
)
def test_numbers_are_read_as_they_are_written(text, reason):
    good = {"0.5": 0.5, "1e-6": 1e-6, "1E5": 1e5, ".5": 0.5, "2.": 2.0, "-0": 0.0, "inf": math.inf, "-inf": -math.inf}
    assert {text: scalars.read_number(text) for text in good} == good
    with pytest.raises(ValueError, match=f"^{re.escape(repr(text))} {reason}; write"):
        scalars.read_number(text)


def test_numbers_of_float32_and_seeds_have_ends():
    for good in (2.0**-126, 3.4e38, 0.0):
        assert scalars.non_negative("x", good, single=True) == good
    assert math.copysign(1.0, scalars.fraction("x", -0.0, single=True)) == 1.0
    for bad in (1e-320, 2.0**-127, 3.5e38):
        with pytest.raises(ValueError, match=r"^x = .* is outside the numbers of float32, .* pass one of them$"):
            scalars.positive("x", bad, single=True)
    assert scalars.seed("seed", scalars.LARGEST_SEED) == 2**32 - 2
    with pytest.raises(ValueError, match=r"^seed = 4294967295 is above 4294967294; pass seed <= 4294967294$"):
        scalars.seed("seed", 2**32 - 1)
    with pytest.raises(ValueError, match=r"^x = 1000.* is beyond the numbers of float64; pass a smaller one$"):
        scalars.positive("x", 10**400)
