"""What a user may write for an option, and what it means: `Written(text, meaning)`, drawn by the option's type.

The meaning is stated here by hand, not read by the package's readers. `WRONG` marks a text that no option may take as
a number, a truth value or a name; an option that takes text may take it as the text that it is.
"""

import math
import random
from typing import Any, NamedTuple


class Written(NamedTuple):
    """A text on the command line, and the value that it stands for."""

    text: str
    meaning: Any


class Wrong(NamedTuple):
    """The meaning of a text that is no value at all."""


WRONG = Wrong()
WHOLE = [Written(str(n), n) for n in (0, 1, 2, 4, 8, 64, -1, -0, 10**12, 2**63, 10**30)] + [Written("+3", 3)]
REAL = [
    *(
        Written(t, float(t))
        for t in ("0.5", "1e-6", "1E-3", ".25", "2.", "1e5", "-0.5", "1e-30", "1e18", "3e38", "1e39")
    ),
    *(Written(t, float(t)) for t in ("-0.0", "1e-320", "1e300", "0.0")),
]
INFINITE = {"yaml": [Written(".inf", math.inf), Written("-.inf", -math.inf), Written(".nan", math.nan)]}
INFINITE["plain"] = [Written("inf", math.inf), Written("-inf", -math.inf), Written("nan", WRONG)]
TRUTH = [Written("true", True), Written("false", False)]
NO_NUMBER = [  # texts that look like numbers to some readers
    *(
        "1_000",
        "٣",
        "\uff13",
        "½",
        "0x10",
        "0o7",
        "0b1",
        "010",
        "1e",
        "--1",
        "1,5",
        "1 000",
        "five",
        "5%",
        "+-1",
        "1:30",
    ),
    *("2021-03-01", "NaN", "Infinity", "1.2.3", "on", "yes", "no", "off", "True ", "~~", "=", "a=b", "a b", "\t", "🦊"),
]
TOO_MUCH = ["1e400", "-1e999", "1e-400"]  # float() makes them inf, -inf and 0
NOTHING = [Written("null", None), Written("~", None), Written("", None)]
STRUCTURES = [
    Written("[1, 2]", [1, 2]),
    Written("{a: 1}", {"a": 1}),
    Written("[]", []),
    Written("{}", {}),
    Written("[true, 10]", [True, 10]),
    Written("'5'", "5"),
    Written('"0.5"', "0.5"),
]
BROKEN = [  # no YAML
    *("[", "{a: 1", "'", '"', "*a", "&a [*a]", "!!python/object/apply:os.system [true]", "{a: 1, a: 2}", "a: b: c"),
    *(
        "%",
        "@x",
        "`",
        "\x00",
        "!!binary aGk=",
        "- 1\n- 2",
        "? [",
        "[" * 2000,
        "!!set {1}",
        "!!timestamp 2021-01-01",
    ),
]
NAMES = [
    "",
    " ",
    ".",
    "..",
    "/",
    "no-such",
    "no/such/file",
    "a\x00b",
    "x" * 300,
    "~",
    "%s",
    "[red]x[/]",
    "{0}",
    "-",
    "é",
]


def yaml_value(draw: random.Random, valid: list[Written]) -> Written:
    """A value of a KEY=VALUE pair that is read as YAML."""
    pools: list[list[Written]] = [
        valid,
        valid,
        WHOLE,
        REAL,
        INFINITE["yaml"],
        TRUTH,
        NOTHING,
        STRUCTURES,
        [Written(text, text.strip(" \t")) for text in NO_NUMBER if text.strip() and not _reads(text)],
        [Written(text, WRONG) for text in [*TOO_MUCH, *BROKEN]],
    ]
    return draw.choice(valid if valid and draw.random() < 0.5 else draw.choice([pool for pool in pools if pool]))


def plain_value(draw: random.Random, valid: list[Written]) -> Written:
    """A value that is read as the type of the option, as `dar-ref toy run` and the flags do."""
    pools = [valid, valid, WHOLE, REAL, INFINITE["plain"], TRUTH]
    pools.append([Written(text, WRONG) for text in (*NO_NUMBER, *TOO_MUCH, "null", "None", "[1]", "'5'", " 5", "5 ")])
    return draw.choice(valid if valid and draw.random() < 0.5 else draw.choice([pool for pool in pools if pool]))


def name_value(draw: random.Random, valid: list[str]) -> Written:
    """A path or a name."""
    text = draw.choice([*valid, *valid, *NAMES])
    return Written(text, text)


def _reads(text: str) -> bool:
    """Whether a text is something else than text in YAML."""
    return text in ("~~", "\t", "a=b")


def same(given: Any, found: Any) -> bool:
    """Whether an option holds what was written; a whole number may become the equal real one."""
    if isinstance(found, tuple):
        found = list(found)
    if isinstance(given, float) and isinstance(found, float) and math.isnan(given):
        return math.isnan(found)
    if isinstance(given, bool) or isinstance(found, bool):
        return given is found
    if isinstance(given, list) and isinstance(found, list):
        return len(given) == len(found) and all(map(same, given, found))
    if isinstance(given, int) and isinstance(found, float):
        given = float(given)
    return bool(given == found) and isinstance(given, str) == isinstance(found, str)
