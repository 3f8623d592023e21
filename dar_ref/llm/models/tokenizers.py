"""Load a tokenizer that does what its own `tokenizer.json` says.

transformers picks a tokenizer class by the type of the model in the folder, and builds the pipeline of that class with
the vocabulary of `tokenizer.json`. If the file holds another kind of tokenizer, for example a word-level one beside a
Qwen2 model, `AutoTokenizer` silently splits texts in another way than the tokenizer that the model was trained with.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils import cached_file

PROBE = "The 1st line, it's 20.5 % – naïve (x_1 != y)\n\n  indented\tby tabs: 東京 👍 "  # pipelines differ on this


def load_tokenizer(name: str, revision: str | None = None, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or hub name: `AutoTokenizer`, or `PreTrainedTokenizerFast` if the first one deviates.

    `AutoTokenizer` deviates if its model (BPE, WordLevel, Unigram, WordPiece) is not that of `tokenizer.json`, if a
    token of the file is missing or has another id, or if it gives other ids for `PROBE`. It is always taken if there is
    no `tokenizer.json`, or if the tokenizer class is trusted remote code.

    Args:
        name: folder, or name on the hub.
        revision: on the hub.
        trust_remote_code: run Python code of the tokenizer's folder.

    Returns:
        A transformers tokenizer. Its padding token is the folder's, which may be None.

    Raises:
        OSError: no tokenizer can be read.
    """
    file = cached_file(name, "tokenizer.json", revision=revision, _raise_exceptions_for_missing_entries=False)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)
    except Exception as error:  # of transformers, tokenizers and json: they have no base in common
        words = f"{type(error).__name__}: {error}"
        raise OSError(f"no tokenizer can be read from {name!r}, {words}; pass a folder or hub name with one") from error
    is_remote = trust_remote_code and type(tokenizer).__module__.startswith("transformers_modules.")
    if file is None or is_remote or _agrees(tokenizer, Path(file)):
        return tokenizer
    return PreTrainedTokenizerFast.from_pretrained(name, revision=revision)


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of what a tokenizer makes of a text: its pipeline or vocabulary, special tokens and chat template."""
    pipeline = _content(tokenizer.backend_tokenizer) if tokenizer.is_fast else sorted(tokenizer.get_vocab().items())
    if isinstance(pipeline, dict):  # these two are of its last call
        pipeline |= {"padding": None, "truncation": None}
    parts = [pipeline, tokenizer.chat_template, tokenizer.special_tokens_map, tokenizer.model_max_length]
    parts.append(getattr(tokenizer, "clean_up_tokenization_spaces", None))  # what a reward reads
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def by_template(tokenizer: Any, messages: Any, of: str, generation_prompt: bool = False, **variables: Any) -> Any:
    """Messages, or a list of them, as the tokenizer's chat template writes them.

    Args:
        tokenizer: with a chat template.
        messages: of one chat, or of several.
        of: whose template it is, for the message.
        generation_prompt: the beginning of the assistant's turn follows.
        variables: of the template, its own.

    Raises:
        ValueError: the template refuses them, in its own words.
    """
    try:
        return tokenizer.apply_chat_template(
            messages, add_generation_prompt=generation_prompt, tokenize=False, **variables
        )
    except (TemplateError, TypeError, ValueError, KeyError) as error:
        raise ValueError(
            f"the chat template of {of} refuses {_roles(messages)}: {error}; change the data or data.system_prompt to"
            " what it takes, or take another model"
        ) from error


def _roles(messages: Any) -> str:
    if isinstance(messages[0], list):
        return _roles(messages[0]) if len(messages) == 1 else "a conversation"
    return " ".join(str(message.get("role")) for message in messages)


def unknown_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Id of the token for unknown text; None if the tokenizer has a token for every text."""
    if tokenizer.unk_token_id is not None or not tokenizer.is_fast:
        return tokenizer.unk_token_id
    token = _content(tokenizer.backend_tokenizer)["model"].get("unk_token")
    return None if token is None else tokenizer.convert_tokens_to_ids(token)


def _agrees(tokenizer: Any, file: Path) -> bool:
    if not tokenizer.is_fast:
        return False
    wanted = Tokenizer.from_file(str(file))
    wanted.no_padding()  # some files keep the padding of the run that wrote them
    wanted.no_truncation()
    if _content(tokenizer.backend_tokenizer)["model"]["type"] != _content(wanted)["model"]["type"]:
        return False
    if not wanted.get_vocab().items() <= tokenizer.get_vocab().items():
        return False
    return wanted.encode(PROBE, add_special_tokens=False).ids == tokenizer(PROBE, add_special_tokens=False)["input_ids"]


def _content(tokenizer: Tokenizer) -> dict[str, Any]:
    return json.loads(tokenizer.to_str())
