"""What `--policy NAME=SOURCE` may be: a trained model, an adapter, a column of the data, or a file of answers.

    FOLDER         a model in Hugging Face's format, or an adapter (LoRA) on the configuration's model
    column:NAME    answers that the data has: references of people, `chosen`
    FILE.jsonl     answers from elsewhere: `completion`, and `id` or `prompt` that says to what

`pi_0` is the configuration's model and always one of them. An answer that a source lacks is counted, and so is one that
answers no prompt, or a prompt that has one already; the first is taken.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from peft import PeftModel

from dar_ref.llm.checkpoint import content_hash
from dar_ref.llm.data.json_rows import json_rows
from dar_ref.llm.data.sources import check_response, kind
from dar_ref.llm.evaluate.store import Row
from dar_ref.llm.models.policy import load_policy, model_folder, policy_tokenizer
from dar_ref.llm.options import ModelOptions

PI_0 = "pi_0"
COLUMN = "column:"
NAME = re.compile(r"[\w.-]+")


class Model(NamedTuple):
    """A policy to sample from. base: folder of a whole model; adapter: folder of one on it, or None; sha256: of its
    weights."""

    base: Path
    adapter: Path | None
    sha256: str


class Given(NamedTuple):
    """Answers that are there already: by prompt id, and how many were left out, by reason; sha256: of them."""

    by_id: dict[str, str]
    left_out: Counter[str]
    sha256: str


def read_names(texts: Sequence[str]) -> dict[str, str]:
    """NAME=SOURCE texts as a mapping, after pi_0.

    Raises:
        ValueError: no such form, a name that is no file name, or one that stands twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, source = text.partition("=")
        if not equals or not source or not NAME.fullmatch(name) or name.startswith("."):
            raise ValueError(f"{text!r} is not NAME=SOURCE with a name of letters, digits, _, - and .")
        if name in found or name == PI_0:
            why = "is the configuration's model" if name == PI_0 else "stands twice"
            raise ValueError(f"{text!r}: the name {name} {why}; take another name")
        found[name] = source
    return found


def find_model(options: ModelOptions, source: str | None) -> Model:
    """The model or adapter in a folder; pi_0 for None.

    Raises:
        OSError: no such folder, or no weights in it.
        ValueError: weights that are not safetensors, a quantised model, or a pi_0 that is drawn anew.
    """
    if options.random_init:
        raise ValueError(
            "model.random_init = True draws pi_0 anew; pass the folder pi_0 that the run wrote as model.name, and"
            " model.random_init=false"
        )
    base = model_folder(options)
    if source is None:
        return Model(base, None, content_hash(base))
    folder = Path(source)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{source!r} is no folder, no .jsonl file and no column:NAME; pass a checkpoint, a policy or an adapter"
        )
    if not (folder / "adapter_config.json").is_file():
        model_folder(replace(options, name=source))
        return Model(folder, None, content_hash(folder))
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        raise FileNotFoundError(f"{folder} holds no adapter_model.safetensors; save the adapter as safetensors")
    parts = [content_hash(base), *(_sha256(folder / name) for name in ("adapter_config.json", weights.name))]
    return Model(base, folder, hashlib.sha256(" ".join(parts).encode()).hexdigest())


def load_model(options: ModelOptions, model: Model) -> tuple[Any, Any]:
    """The policy without dropout and gradients, and its tokenizer; an adapter has that of its base.

    Raises:
        ValueError: an adapter that does not fit its base.
    """
    tokenizer = policy_tokenizer(options, model.base)
    policy = load_policy(replace(options, name=str(model.base)), model.base)
    if model.adapter is not None:
        try:
            policy = PeftModel.from_pretrained(policy, model.adapter)
        except (RuntimeError, ValueError, KeyError) as error:
            first = " ".join(str(error).split())[:200]
            raise ValueError(
                f"the adapter in {model.adapter} does not fit {model.base}: {first}; pass the model it was trained on"
                " as model.name"
            ) from error
    return policy.eval().requires_grad_(False), tokenizer


def find_given(source: str, prompts: Sequence[Row]) -> Given:
    """Answers from a column of the prompts' rows or from a file.

    Raises:
        OSError: no such file.
        ValueError, TypeError: no such column, or an answer that is no text.
    """
    if source.startswith(COLUMN):
        column = source.removeprefix(COLUMN)
        rows = [{"id": row["id"], "completion": row["columns"].get(column)} for row in prompts]
        if all(row["completion"] is None for row in rows):
            raise ValueError(f"no row of the prompts has an answer in the column {column!r}; name another column")
        return _by_id(rows, prompts, source)
    given = _by_id(list(json_rows(Path(source))), prompts, source)
    if not given.by_id:
        raise ValueError(
            f"{source} has no answer to any of the {len(prompts)} prompts; take the file that belongs to them, or the"
            " same data options as for the other policies"
        )
    return given


def _by_id(rows: Sequence[Mapping[str, Any]], prompts: Sequence[Row], source: str) -> Given:
    ids = {str(row["id"]): row["id"] for row in prompts}
    ids_of_prompts = {_text(row["prompt"]): row["id"] for row in prompts}
    found: dict[str, str] = {}
    left_out = Counter[str]()
    for number, row in enumerate(rows, start=1):
        place = f"{source}, row {number}"
        if "completion" not in row or not ("id" in row or "prompt" in row):
            raise ValueError(f"{place} has the columns {', '.join(row)}; it needs completion, and id or prompt")
        to = ids.get(str(row["id"])) if "id" in row else ids_of_prompts.get(_text(row["prompt"]))
        if to is None:
            left_out["answers no prompt"] += 1
        elif row["completion"] is None:
            left_out["no answer"] += 1
        elif to in found:
            left_out["answers a prompt again"] += 1
        else:
            found[to] = check_response(row["completion"], place)
    digest = hashlib.sha256(repr(sorted(found.items())).encode(errors="surrogatepass")).hexdigest()
    return Given(found, left_out, digest)


def is_given(source: str) -> bool:
    """Whether a source gives answers and is no model."""
    return source.startswith(COLUMN) or (kind(source) == "json" and Path(source).is_file())


def _text(prompt: Any) -> str:
    return prompt if isinstance(prompt, str) else repr([(m["role"], m["content"]) for m in prompt])


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
