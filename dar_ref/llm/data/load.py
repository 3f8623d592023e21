"""Prompts, preference pairs and rated completions of a run: in TRL's columns, filtered and counted.

    prompts     column `prompt`, text (plain) or messages (chat), and the other columns of the data for reward functions
    preferences columns `prompt`, `chosen`, `rejected`
    rated       columns `prompt`, `completion`, `reward`, and `old_logps` where it is known

Nothing is cut. A prompt with more than `max_prompt_tokens` tokens, counted as the trainer counts them (after the chat
template, with the generation prompt), is dropped; so is a pair with more than `max_length`, and a row of prompts that
repeats an earlier one in every column (pairs may repeat: how often one is preferred is information). `DataSummary` says
how many, and what the longest was. The order of the rows is kept, and `limit` counts the rows that are left.

Rules: `system_prompt` comes first in every conversation, except one that brings a system message of its own (counted in
the summary). `format: chat` makes text the one message of a user; `format: plain` makes a conversation of one message
its text, and one of several turns the usual transcript where the data has one (Anthropic's), else it is refused.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from typing import Any, NamedTuple

from datasets import Dataset

from dar_ref import scalars
from dar_ref.llm.data.formats import RESPONSES, formatted, has_system, is_chat
from dar_ref.llm.data.json_rows import as_dataset
from dar_ref.llm.data.paper import DATASETS, Row
from dar_ref.llm.data.sources import Source, local_files, pair_source, prompt_source, rated_source
from dar_ref.llm.models.prompts import PromptReader
from dar_ref.llm.options import DataOptions

__all__ = ["DATASETS", "DataSummary", "LoadedData", "Sample", "load_eval_prompts", "load_preferences", "load_prompts"]
__all__ += ["load_rated", "sample_row"]

BATCH = 1000  # rows that are rendered and tokenized together
EQUAL = "both responses are equal"


@dataclass
class DataSummary:
    """What became of the rows that were read.

    rows: number read; kept: number kept; too_long: prompts above max_prompt_tokens; longest: tokens of the longest
    prompt, and longest_kept of those that were kept; largest_id: of all tokens; example: the beginning of the longest;
    pairs_too_long, longest_pair: the same for prompt and longer response; repeated: rows equal to an earlier one;
    left_out: count by reason; clashes: columns dropped because TRL uses their names itself; own_system: rows that keep
    their own system message although a system_prompt is set; dated: the chat template writes today's date.
    """

    source: str
    chat: bool = False
    rows: int = 0
    kept: int = 0
    max_prompt_tokens: int = 0
    too_long: int = 0
    longest: int = 0
    longest_kept: int = 0
    largest_id: int = 0
    example: str = ""
    max_length: int | None = None
    pairs_too_long: int = 0
    longest_pair: int = 0
    repeated: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    clashes: tuple[str, ...] = ()
    own_system: int = 0
    dated: bool = False

    def __str__(self) -> str:
        lines = [f"{self.source}: {self.kept} of {self.rows} rows kept, {'chat' if self.chat else 'plain'}"]
        lines.append(
            f"  prompts longer than {self.max_prompt_tokens} tokens: {self._share(self.too_long)}; the longest has"
            f" {self.longest} and begins {self.example!r}"
        )
        if self.longest_pair:
            bound = "any length" if self.max_length is None else f"{self.max_length} tokens"
            lines.append(
                f"  prompt and longest response above {bound}: {self._share(self.pairs_too_long)}; the longest have"
                f" {self.longest_pair}"
            )
        for reason, count in [("repeats an earlier row", self.repeated), *self.left_out.most_common()]:
            lines += [f"  left out, {reason}: {self._share(count)}"] if count else []
        if self.clashes:
            lines.append(f"  columns left out, since TRL uses their names itself: {', '.join(self.clashes)}")
        if self.own_system:
            lines.append(
                f"  have their own system message, kept instead of system_prompt: {self._share(self.own_system)}"
            )
        if self.dated:
            lines.append(
                "  the chat template writes today's date, so tomorrow prompts are others, also of a run that goes on;"
                " give it a fixed one by generation.chat_template_kwargs (date_string, for Llama's)"
            )
        return "\n".join(lines)

    @property
    def longest_pair_kept(self) -> int:
        """Tokens of the longest pair that was kept, at most; 0 for prompts."""
        return self.longest_pair if self.max_length is None else min(self.longest_pair, self.max_length)

    def _share(self, count: int) -> str:
        return f"{count} ({count / max(self.rows, 1):.2%})"


class LoadedData(NamedTuple):
    """dataset: of prompts, the column `prompt` and those for reward functions; of preference pairs, the columns
    `prompt`, `chosen`, `rejected`. summary: what was kept and what was dropped."""

    dataset: Dataset
    summary: DataSummary


class Sample(NamedTuple):
    """First usable row. columns: those of the raw data; row: the row in TRL's columns; text: the prompt as the model
    reads it; tokens: its length in tokens; longest: of a pair, the length with the longer response."""

    columns: tuple[str, ...]
    row: Row
    text: str
    tokens: int
    longest: int


Template = Mapping[str, Any] | None


def load_prompts(options: DataOptions, tokenizer: Any, template: Template = None) -> LoadedData:
    """Prompts to sample from.

    Args:
        options: section `data` of a run.
        tokenizer: of the policy.
        template: variables of its chat template, see `PromptReader`.

    Returns:
        `LoadedData`, in the order of the data.

    Raises:
        FileNotFoundError, ConnectionError: no such data here, or the hub is out of reach.
        TypeError, ValueError: a column that is missing or of the wrong type, an empty prompt in your own data, options
            that do not fit, or no row left.
    """
    source = _prompts(options.prompts, options.split, options)
    return _load(source, options, PromptReader(tokenizer, template))


def load_eval_prompts(options: DataOptions, tokenizer: Any, template: Template = None) -> LoadedData | None:
    """Prompts to evaluate on: `eval_prompts`, or `eval_split` of `prompts`; None if the options name neither.

    Raises:
        ValueError: the split that is trained on; a prompt that cannot be used.
        FileNotFoundError: no such data.
    """
    if options.eval_prompts is None and options.eval_split is None:
        return None
    name = options.eval_prompts or options.prompts
    split = options.eval_split or ("train" if name and local_files(name) else options.split)
    source = _prompts(name, split, options)
    if options.eval_prompts is None and split == options.split:
        raise ValueError(f"eval_split = {split!r} is the split that is trained on; choose another, or set eval_prompts")
    return _load(source, options, PromptReader(tokenizer, template))


def load_preferences(options: DataOptions, tokenizer: Any, max_length: int | None = None) -> LoadedData:
    """Preference pairs to learn from.

    Args:
        options: section `data` of a run.
        tokenizer: of the policy.
        max_length: pairs whose prompt and longer response have more tokens are dropped, since TRL would cut them.

    Returns:
        `LoadedData`, in the order of the data.

    Raises:
        ValueError: the options name no preferences; otherwise as `load_prompts`.
    """
    return _load(_pairs(options), options, PromptReader(tokenizer), max_length)


def load_rated(options: DataOptions, tokenizer: Any, max_length: int | None = None) -> LoadedData:
    """Rated completions to learn from: `rated`, or each pair of `preferences` as two rows with the rewards 1 and 0.

    Args, raises: as `load_preferences`.

    Returns:
        `LoadedData`, in the order of the data; the summary counts pairs where it read pairs.
    """
    if options.rated is not None:
        source = rated_source(options.rated, options.split, options.prompt_column)
        return _load(source, options, PromptReader(tokenizer), max_length)
    pairs, summary = load_preferences(options, tokenizer, max_length)
    rows = [
        {"prompt": pair["prompt"], "completion": pair[side], "reward": reward}
        for pair in pairs
        for side, reward in (("chosen", 1.0), ("rejected", 0.0))
    ]
    return LoadedData(as_dataset(rows), summary)


def sample_row(options: DataOptions, tokenizer: Any, kind: str = "prompts", template: Template = None) -> Sample:
    """The first usable row without loading the rest, for a dry run. kind: prompts, evaluation (prompts to evaluate on),
    preferences or rated.

    Raises:
        ValueError: none of the first 1000 rows is usable; otherwise as `load_prompts`.
    """
    if kind == "rated" and options.rated is not None:
        source = rated_source(options.rated, options.split, options.prompt_column)
    elif kind == "prompts":
        source = _prompts(options.prompts, options.split, options)
    elif kind == "evaluation":
        source = _prompts(options.eval_prompts or options.prompts, options.eval_split or options.split, options)
    else:
        source = _pairs(options)
    summary, reader = DataSummary(source.name), PromptReader(tokenizer, template)
    columns: tuple[str, ...] = ()
    for raw, row in islice(_shaped(source, options, reader, summary, streaming=True), BATCH):
        columns = tuple(raw)
        if row is not None:
            (prompt,) = reader.read([row["prompt"]])
            longest = _whole_lengths([row], reader, summary.chat)[0] if responses_in(row) else len(prompt.ids)
            return Sample(columns, row, prompt.text, len(prompt.ids), longest)
    raise ValueError(f"none of the first rows is usable; columns are {', '.join(columns)}\n{summary}")


def _prompts(name: str | None, split: str, options: DataOptions) -> Source:
    if name is None:
        raise ValueError("data.prompts is not set; name a dataset or a file with prompts")
    return prompt_source(name, split, options.prompt_column)


def _pairs(options: DataOptions) -> Source:
    if options.preferences is None:
        raise ValueError("data.preferences is not set; name a dataset or a file with prompt, chosen and rejected")
    return pair_source(options.preferences, options.split, options.prompt_column)


def _load(source: Source, options: DataOptions, reader: PromptReader, max_length: int | None = None) -> LoadedData:
    if max_length is not None:
        scalars.integer("max_length", max_length, 1)
    summary = DataSummary(source.name, max_prompt_tokens=options.max_prompt_tokens, max_length=max_length)
    rows = (row for _, row in _shaped(source, options, reader, summary) if row is not None)
    kept: list[Row] = []
    seen: set[bytes] = set()
    missing = min(BATCH, options.limit or BATCH)  # reads no row beyond the limit
    while missing and (batch := list(islice(rows, missing))):
        kept += _short(batch if responses_in(batch[0]) else _new(batch, seen, summary), reader, summary)
        missing = BATCH if options.limit is None else min(BATCH, options.limit - len(kept))
    summary.kept, summary.largest_id, summary.dated = len(kept), reader.largest_id, reader.dated
    if not kept:
        raise ValueError(f"no row is left; change data.max_prompt_tokens, data.split or the data\n{summary}")
    return LoadedData(as_dataset(kept), summary)


def _shaped(
    source: Source, options: DataOptions, reader: PromptReader, summary: DataSummary, streaming: bool = False
) -> Iterator[tuple[Row, Row | None]]:
    """Every raw row, with its form in TRL's columns and the wanted format, or None if it is left out."""
    chat: bool | None = None  # which the first row decides
    tried: set[tuple[str, ...]] = set()  # orders of roles that the template has written
    for number, raw in enumerate(source.rows(streaming), start=1):
        place = f"{source.name}, row {number}"
        if missing := [name for name in source.columns if name not in raw]:
            raise ValueError(
                f"{place} has no column {missing[0]!r}; its columns are {', '.join(raw)}: rename one, or set"
                " data.prompt_column"
            )
        summary.clashes = summary.clashes or tuple(name for name in raw if name in source.clashes)
        summary.rows += 1
        row = source.convert(raw, place)
        if isinstance(row, dict) and "chosen" in row and row["chosen"] == row["rejected"]:
            row = EQUAL
        if isinstance(row, str):
            summary.left_out[row] += 1
            yield raw, None
            continue
        if chat is None:
            chat = summary.chat = is_chat(options, reader.tokenizer, row["prompt"])
            if reader.template and not chat:
                raise ValueError(
                    f"chat_template_kwargs = {reader.template} has no effect on plain prompts; leave it out"
                )
        summary.own_system += options.system_prompt is not None and has_system(row)
        row = formatted(row, source, options, chat, place)
        if chat and (roles := tuple(message["role"] for message in row["prompt"])) not in tried:
            tried.add(roles)
            reader.check(row["prompt"], place, sampled=not responses_in(row))
        yield raw, row


def _new(rows: list[Row], seen: set[bytes], summary: DataSummary) -> list[Row]:
    """The rows that equal none before them."""
    new = []
    for row in rows:
        key = blake2b(json.dumps(row, sort_keys=True, default=str).encode(), digest_size=16).digest()
        if key in seen:
            summary.repeated += 1
        else:
            seen.add(key)
            new.append(row)
    return new


def _short(rows: list[Row], reader: PromptReader, summary: DataSummary) -> list[Row]:
    """The rows that are short enough."""
    if not rows:
        return []
    prompts = reader.read([row["prompt"] for row in rows])
    for text, ids in prompts:
        if len(ids) > summary.longest:
            summary.longest, summary.example = len(ids), text[:200]
    short = [len(ids) <= summary.max_prompt_tokens for _, ids in prompts]
    summary.longest_kept = max(
        summary.longest_kept, *(len(ids) for _, ids in prompts if len(ids) <= summary.max_prompt_tokens), 0
    )
    summary.too_long += len(rows) - sum(short)
    rows = [row for row, keep in zip(rows, short, strict=True) if keep]
    return _short_with_responses(rows, reader, summary) if rows and responses_in(rows[0]) else rows


def responses_in(row: Row) -> list[str]:
    """The columns of a row that are answers to its prompt."""
    return [name for name in RESPONSES if name in row]


def _short_with_responses(rows: list[Row], reader: PromptReader, summary: DataSummary) -> list[Row]:
    lengths = _whole_lengths(rows, reader, summary.chat)
    summary.longest_pair = max(summary.longest_pair, *lengths)
    short = [summary.max_length is None or length <= summary.max_length for length in lengths]
    summary.pairs_too_long += len(rows) - sum(short)
    return [row for row, keep in zip(rows, short, strict=True) if keep]


def _whole_lengths(rows: list[Row], reader: PromptReader, chat: bool) -> list[int]:
    """Tokens of each prompt with the longest of its responses."""
    end = "" if chat else reader.tokenizer.eos_token or ""  # which TRL appends to plain responses
    sides = []
    for name in responses_in(rows[0]):
        texts = reader.write([row["prompt"] + row[name] for row in rows], answered=True)
        sides.append(reader.lengths([text + end for text in texts], chat))
    return [max(pair) for pair in zip(*sides, strict=True)]
