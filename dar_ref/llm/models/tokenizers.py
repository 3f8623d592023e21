"""Load a tokenizer that does what its own `tokenizer.json` says.

transformers picks a tokenizer class by the type of the model in the folder and rebuilds the class's own pipeline around
the words of `tokenizer.json`. Where that file holds another kind of tokenizer, a word-level one beside a Qwen2 model
for example, `AutoTokenizer` splits texts differently from the tokenizer that the model was trained with, and says
nothing.
"""

import json
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils import cached_file

PROBE = "The 1st line, it's 20.5 % – naïve (x_1 != y)\n\n  indented\tby tabs: 東京 👍 "  # where pipelines differ


def load_tokenizer(name: str, revision: str | None = None, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder or hub name: `AutoTokenizer`'s, or `PreTrainedTokenizerFast` where that one deviates.

    Deviates: another kind of model (BPE, WordLevel, Unigram, WordPiece) than `tokenizer.json` holds, a token of the
    file missing or under another id, or other ids for `PROBE`. Without a `tokenizer.json`, or with a tokenizer class
    that comes as remote code and is trusted, `AutoTokenizer` has the say.

    Args:
        name: folder, or name on the hub.
        revision: of the hub.
        trust_remote_code: run Python that comes with the tokenizer.

    Returns:
        A transformers tokenizer; its padding token is whatever the folder says, None included.

    Raises:
        OSError: nothing there that is a tokenizer.
    """
    file = cached_file(name, "tokenizer.json", revision=revision, _raise_exceptions_for_missing_entries=False)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision, trust_remote_code=trust_remote_code)
    except ValueError as error:
        raise OSError(f"no tokenizer can be read from {name!r}: {error}; pass a folder or hub name with one") from error
    is_remote = trust_remote_code and type(tokenizer).__module__.startswith("transformers_modules.")
    if file is None or is_remote or _agrees(tokenizer, Path(file)):
        return tokenizer
    return PreTrainedTokenizerFast.from_pretrained(name, revision=revision)


def by_template(tokenizer: Any, messages: Any, of: str, generation_prompt: bool = False) -> Any:
    """Messages, or a list of them, as the tokenizer's chat template writes them.

    Args:
        tokenizer: with a chat template.
        messages: of one chat, or of several.
        of: whose template it is, for the message.
        generation_prompt: the beginning of the assistant's turn follows.

    Raises:
        ValueError: the template refuses them, in its own words.
    """
    try:
        return tokenizer.apply_chat_template(messages, add_generation_prompt=generation_prompt, tokenize=False)
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
    """Id that stands for whatever the tokenizer has no token for, None if it has one for everything."""
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
