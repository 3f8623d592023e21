"""Plain text or chat: convert a row to the wanted format."""

from typing import Any

from dar_ref.llm.data.paper import Messages, Row
from dar_ref.llm.data.sources import Source
from dar_ref.llm.options import DataOptions

RESPONSES = ("chosen", "rejected", "completion")  # columns that are answers to the prompt


def is_chat(options: DataOptions, tokenizer: Any, prompt: str | Messages) -> bool:
    """Whether rows become conversations; `prompt` is the first prompt of the data.

    Raises:
        ValueError: conversations and a tokenizer without a chat template, or plain text and a system prompt.
    """
    chat = isinstance(prompt, list) if options.format == "auto" else options.format == "chat"
    if chat and not getattr(tokenizer, "chat_template", None):
        raise ValueError(
            "prompts are conversations and the tokenizer has no chat template; set data.format=plain, or take a model"
            " that was tuned on conversations"
        )
    if not chat and options.system_prompt is not None:
        raise ValueError(
            f"system_prompt = {options.system_prompt!r} needs conversations and the prompts are plain text; set"
            " data.format=chat, or leave it out"
        )
    return chat


def has_system(row: Row) -> bool:
    """Whether the prompt has its own system message."""
    return isinstance(row["prompt"], list) and row["prompt"][0]["role"] == "system"


def formatted(row: Row, source: Source, options: DataOptions, chat: bool, place: str) -> Row:
    """A row of a source as a conversation or as plain text.

    Raises:
        TypeError: format is auto, and this row is text where the first one is a conversation, or the reverse.
        ValueError: a conversation of several turns that has no usual text form.
    """
    prompt: Any = row["prompt"]
    if options.format == "auto" and isinstance(prompt, list) != chat:
        raise TypeError(f"{place}: text and conversations are mixed; set data.format to chat or plain")
    responses: Row = {name: row[name] for name in RESPONSES if name in row}
    if not chat:
        if isinstance(prompt, list):
            prompt, responses = _plain(prompt, responses, source, place)
        return {**row, "prompt": prompt, **responses}
    messages: Messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if options.system_prompt is not None and not has_system(row):
        messages = [{"role": "system", "content": options.system_prompt}, *messages]
    answers: Row = {name: [{"role": "assistant", "content": text}] for name, text in responses.items()}
    return {**row, "prompt": messages, **answers}


def _plain(messages: Messages, responses: Row, source: Source, place: str) -> tuple[str, Row]:
    if source.plain is not None:
        return source.plain(messages), {name: f" {text}" for name, text in responses.items()}
    if len(messages) > 1:
        raise ValueError(f"{place} has {len(messages)} messages and no usual form as plain text; set data.format=chat")
    return messages[0]["content"], responses
