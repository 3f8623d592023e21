"""What the policy reads: the one place where a prompt is written and turned into tokens.

    rows are counted and dropped by `PromptReader.read`      `data.load`
    a dry run shows `Prompt.text` and its number of tokens   `dry_run`
    the trainer samples behind `Prompt.ids`                  `build.make_trainer` puts it in the place of TRL's own
    lengths are held against the model's positions           `kinds.check_positions`, also of a plan

So a prompt that was counted is the prompt that is trained on. Special tokens are added to plain text; a chat template
writes its own.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jinja2 import Environment, TemplateError
from jinja2.meta import find_undeclared_variables

from dar_ref.llm.models.tokenizers import by_template

Messages = list[dict[str, str]]
NOT_A_USERS = {  # what a template reads and no user sets
    *("messages", "add_generation_prompt", "tools", "documents"),
    *("raise_exception", "strftime_now", "namespace", "dict", "range"),
}
_GENERATION = re.compile(r"{%-?\s*(end)?generation\s*-?%}")  # a tag of transformers' own
_PROBE = "An answer."  # no template leaves it out


class Prompt(NamedTuple):
    """text: as the model reads it; ids: its tokens."""

    text: str
    ids: list[int]


class PromptReader:
    """Writes and tokenizes the prompts of a policy.

    Args:
        tokenizer: of the policy.
        template: variables of the chat template, TRL's `chat_template_kwargs`, for example {"enable_thinking": False}.

    Raises:
        ValueError: a variable that the template does not have.
    """

    def __init__(self, tokenizer: Any, template: Mapping[str, Any] | None = None) -> None:
        self.tokenizer, self.template = tokenizer, dict(template or {})
        self.of = f"model.name = {tokenizer.name_or_path!r}"
        self.largest_id = 0  # of all tokens read so far
        self.dated = False  # whether the template was seen to write today's date
        if self.template:
            known = _variables(tokenizer) - NOT_A_USERS - set(tokenizer.special_tokens_map)
            for name in sorted(set(self.template) - known):
                raise ValueError(
                    f"chat_template_kwargs: {name} is not a variable of the chat template of {self.of}, which has"
                    f" {', '.join(sorted(known)) or 'none'}; leave it out"
                )

    def read(self, prompts: Sequence[str] | Sequence[Messages]) -> list[Prompt]:
        """Text and tokens of prompts, all plain or all chats.

        Raises:
            ValueError: the template refuses one, or a prompt begins with the BOS token twice.
        """
        return self._tokenized(self.write(prompts), chat=not isinstance(prompts[0], str))

    def write(self, prompts: Sequence[str] | Sequence[Messages], answered: bool = False, **more: Any) -> list[str]:
        """Plain text as it is; messages in the chat template, with the beginning of the answer unless `answered`.
        `more`: as in transformers."""
        if isinstance(prompts[0], str):
            return list(prompts)  # type: ignore[arg-type]
        return by_template(self.tokenizer, prompts, self.of, generation_prompt=not answered, **self.template, **more)

    def lengths(self, texts: list[str], chat: bool) -> list[int]:
        """Number of tokens of texts that are written."""
        return [len(prompt.ids) for prompt in self._tokenized(texts, chat)]

    def for_trl(self, prompts: Any) -> tuple[list[list[int]], None, dict[str, Any]]:
        """`read` in the form of `_tokenize_prompts` of TRL's trainers: ids, no images, nothing else."""
        return [prompt.ids for prompt in self.read(prompts)], None, {}

    def check(self, messages: Messages, place: str, sampled: bool) -> None:
        """Raise ValueError, with the row's place, unless the template takes a conversation, writes every message of it,
        and opens the answer.

        Args:
            messages: the prompt.
            place: of the row.
            sampled: an answer will be sampled behind the prompt.
        """
        answer = {"role": "assistant", "content": _PROBE}
        try:
            opened, closed = self.write([messages])[0], self.write([messages], answered=True)[0]
            timeless = self.tokenizer.get_chat_template().replace("strftime_now(", "(")
            self.dated |= self.write([messages], chat_template=timeless)[0] != opened
            answered = self.write([[*messages, answer]], answered=True)[0]
            for number, message in enumerate(messages):
                probed = [*messages[:number], {**message, "content": _PROBE}, *messages[number + 1 :]]
                if _PROBE not in self.write([probed], answered=not sampled)[0]:
                    raise ValueError(
                        f"the chat template of {self.of} leaves out message {number + 1} of {len(messages)}, the"
                        f" {message['role']}'s; remove it from the data, or take another model"
                    )
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
        header = answered.removeprefix(closed).partition(_PROBE)[0].strip() if answered.startswith(closed) else ""
        if sampled and opened == closed and header:
            raise ValueError(
                f"{place}: the chat template of {self.of} writes no generation prompt: prompts end in"
                f" {opened[-20:]!r} and answers begin with {header!r}, so a policy would go on in a closed turn; add"
                " add_generation_prompt to the template"
            )

    def _tokenized(self, texts: list[str], chat: bool) -> list[Prompt]:
        rows: list[list[int]] = self.tokenizer(text=texts, add_special_tokens=not chat, verbose=False)["input_ids"]
        bos = self.tokenizer.bos_token_id
        for text, ids in zip(texts, rows, strict=True):
            if not ids:
                raise ValueError(
                    f"the tokenizer of {self.of} reads no token in {text[:80]!r}; see that its vocabulary is there"
                    " (tokenizer.json), or remove the row"
                )
            self.largest_id = max(self.largest_id, *ids)
            if bos is not None and ids[:2] == [bos, bos]:
                raise ValueError(
                    f"{text[:80]!r} begins with the BOS token twice; remove it from the"
                    f" {'chat template' if chat else 'data: the tokenizer adds it'}"
                )
        return [Prompt(text, ids) for text, ids in zip(texts, rows, strict=True)]


def _variables(tokenizer: Any) -> set[str]:
    """Variables that the tokenizer's chat template reads."""
    if not getattr(tokenizer, "chat_template", None):
        return set()
    environment = Environment(extensions=["jinja2.ext.loopcontrols"], autoescape=True)  # it only parses
    try:
        return find_undeclared_variables(environment.parse(_GENERATION.sub("", tokenizer.get_chat_template())))
    except TemplateError as error:
        raise ValueError(f"the chat template of {tokenizer.name_or_path!r} is broken: {error}; mend it") from None
