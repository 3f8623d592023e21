"""YAML 1.2 as people read it: what is written is what comes out, or an error with its place.

PyYAML reads YAML 1.1, where no and on are booleans, 1e-6 is text, 010 is 8, 1:30 is 90 and 2021-03-01 is a date. Here
words are text, numbers are decimal, and true and false are the only truth values. A key that stands twice is an error
instead of the last one winning. So are aliases (`*name`): a short file of them can stand for terabytes.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from dar_ref.scalars import read_number


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is not YAML, or no mapping.
    """
    try:
        content = read_value(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not YAML: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}; write a mapping with model, data, reward, ...")
    return content


def read_one_value(text: str) -> Any:
    """The value of an option on a command line; ValueError if there is none, or if a part of it would be a comment."""
    value = read_value(text)
    if not text.strip():
        raise ValueError("no value; write null, or '' for an empty text")
    ends = [token.end_mark.index for token in yaml.scan(text) if not isinstance(token, _WITHOUT_TEXT)]
    if rest := text[max(ends) :].strip():
        raise ValueError(f"{rest!r} would be a comment; put the value in quotes")
    return value


def read_value(text: str) -> Any:
    """The value of a YAML text; ValueError with line and column if it is none."""
    try:
        return yaml.load(text, _Loader)  # a SafeLoader: it makes plain values only
    except yaml.MarkedYAMLError as error:  # its own text quotes the line, which may hold a password
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "no place is known"
        raise ValueError(f"{' '.join(filter(None, (error.context, error.problem)))} ({where})") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError("it is nested too deeply; no option is") from None


_WITHOUT_TEXT = (yaml.BlockEndToken, yaml.StreamEndToken)  # they end where the text does


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, regexp) for tag, regexp in resolvers if tag == "tag:yaml.org,2002:null"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        place: Any = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            words = f"*{event.anchor} stands for another value; write the value itself"
            raise yaml.composer.ComposerError(None, None, words, place)
        if mark := event.anchor or getattr(event, "tag", None):
            words = f"{mark!r} is no part of the value; leave it out, or quote the text"
            raise yaml.composer.ComposerError(None, None, words, place)
        return super().compose_node(parent, index)

    def construct_float(self, node: Any) -> float:
        try:
            return (
                float(node.value.lower().replace(".", "", 1)) if "n" in node.value.lower() else read_number(node.value)
            )
        except ValueError as error:
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from None

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice; remove one", key.start_mark
                )
            if isinstance(key.value, str):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^([-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_float)
