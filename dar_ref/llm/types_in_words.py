"""What is wrong with a value of a wrong type, in the words of a YAML file instead of pydantic's."""

from collections.abc import Iterable, Mapping
from typing import Any

from dar_ref import scalars

KINDS = {  # pydantic's type of error: what was expected, and how it is written
    "string_type": ("text", "'text' in quotes"),
    "int_type": ("a whole number", "5"),
    "int_from_float": ("a whole number", "5"),
    "float_type": ("a number", "0.5"),
    "bool_type": ("a truth value", "true or false"),
    "list_type": ("a list", "[a, b]"),
    "tuple_type": ("a list", "[a, b]"),
    "dict_type": ("a mapping", "{key: value}"),
    "dataclass_type": ("a section", "{key: value}"),
    "none_required": ("null", "null"),
}


def why(errors: Iterable[Mapping[str, Any]], value: Any) -> str:
    """The end of a message that begins with `key = value `: what is expected, and how to write it.

    Args:
        errors: pydantic's, of one value: for a union one for each of its types.
        value: it.

    >>> why([{"type": "int_type"}, {"type": "none_required"}], "many")
    'is not a whole number or null; for example 5 or null'
    """
    found = list(errors)
    if expected := next((e["ctx"]["expected"] for e in found if e["type"] in ("literal_error", "enum")), None):
        choices = [word.strip("'") for word in expected.replace(" or ", ", ").split(", ")]
        close = scalars.did_you_mean(scalars.close(str(value), choices))
        return f"is unknown; choose one of {', '.join(choices)}{close}"
    kinds = dict.fromkeys(KINDS[e["type"]] for e in found if e["type"] in KINDS)
    if not kinds:
        return "is refused: " + "; ".join(e["msg"] for e in found)
    names, examples = zip(*kinds, strict=True)
    return f"is not {' or '.join(names)}; for example {' or '.join(examples)}"
