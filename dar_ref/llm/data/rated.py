"""Rated completions as offline DAR needs them: checked, with advantages, as token ids, in micro-batches.

Shapes: `n` rows; `B` of a micro-batch, `T` tokens of prompt and completion, padded on the right.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor

from dar_ref import scalars
from dar_ref.llm.models.prompts import PromptReader
from dar_ref.losses import normalize_advantages

IGNORED = -100  # label of what is not scored
FIXED = ("ref_logps", "old_logps", "advantages")  # what the weight of a row is made of


def check_rows(dataset: Dataset, alpha: float | None, sampler: str | None) -> list[dict[str, Any]]:
    """The rows; ValueError where one cannot be learned from, or what is known of pi_t does not fit the options."""
    rows = [{name: value for name, value in row.items() if value is not None} for row in dataset]
    for number, row in enumerate(rows, start=1):
        for name in ("prompt", "completion", "reward"):
            if name not in row:
                raise ValueError(f"row {number} has no {name}; offline DAR learns from prompt, completion and reward")
        scalars.finite(f"row {number}, reward", row["reward"])
        if "old_logps" in row and not scalars.finite(f"row {number}, old_logps", row["old_logps"]) <= 0:
            raise ValueError(f"row {number}, old_logps = {row['old_logps']}: a log-probability is at most 0")
    known = [number for number, row in enumerate(rows, start=1) if "old_logps" in row]
    if known and len(known) < len(rows):
        raise ValueError(f"{len(known)} of {len(rows)} rows have old_logps; give them to all rows, or to none")
    if known and sampler:
        raise ValueError(f"sampler = {sampler!r}, and the rows have old_logps of their own; leave one of them out")
    if alpha is not None and not known and not sampler:
        raise ValueError(
            f"alpha = {alpha} has no effect: who wrote the rows is not known, so pi_t is taken for pi_0; give the"
            " rows old_logps, name the policy by sampler, or leave alpha out"
        )
    return rows


def offline_advantages(rows: Sequence[Mapping[str, Any]], baseline: str) -> tuple[Tensor, Tensor]:
    """Advantages (n,), normalised over the rows that count, 0 where one does not; and (n,) bool, which count.

    Raises:
        ValueError: no row counts, or all of them are equally good.
    """
    rewards = torch.tensor([row["reward"] for row in rows], dtype=torch.float64)
    keys = [json.dumps(row["prompt"], sort_keys=True) if baseline == "prompt" else "" for row in rows]
    index = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    group = torch.tensor([index[key] for key in keys])
    count = torch.bincount(group)
    lowest = torch.full((len(count),), torch.inf, dtype=torch.float64).scatter_reduce(0, group, rewards, "amin")
    above = rewards - lowest[group]  # of equal rewards exactly 0, and so is what is left without their mean
    mean = torch.zeros(len(count), dtype=torch.float64).index_add(0, group, above) / count
    keep = count[group] > 1
    advantages = torch.where(keep, above - mean[group], 0.0)
    if not advantages.abs().max() > 0:
        raise ValueError(
            "no prompt has two completions with different rewards, so all advantages are 0; set baseline to all, or"
            " bring other completions of the same prompts"
            if baseline == "prompt"
            else "all rewards are equal, so all advantages are 0 and there is nothing to learn"
        )
    return advantages.masked_scatter(keep, normalize_advantages(advantages[keep])), keep


def encode_row(tokenizer: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    """Ids of prompt and completion, and the prompt's length. A completion ends in EOS, which is scored.

    Raises:
        ValueError: the chat template writes the prompt otherwise where an answer follows.
    """
    prompt, answer = row["prompt"], row["completion"]
    chat = not isinstance(prompt, str)
    reader = PromptReader(tokenizer)
    opened, start = reader.read([prompt])[0]
    if chat:
        answered = reader.write([[*prompt, *answer]], answered=True)[0]
        if not answered.startswith(opened):
            raise ValueError(
                f"the chat template writes {opened[-30:]!r} before an answer and something else where it is given; take"
                " a template that keeps what it has written"
            )
        answer, eos, rest = answered.removeprefix(opened).rpartition(tokenizer.eos_token)
        answer = answer if eos else rest  # the EOS comes back below
    end = tokenizer(answer, add_special_tokens=False)["input_ids"]
    return {"input_ids": [*start, *end, tokenizer.eos_token_id], "prompt_length": len(start)}


def collate(pad: int, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """A micro-batch: `input_ids`, `attention_mask`, `labels` (B, T), and what else the rows have (B,)."""
    longest = max(len(row["input_ids"]) for row in rows)
    ids = torch.full((len(rows), longest), pad)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for i, row in enumerate(rows):
        length = len(row["input_ids"])
        ids[i, :length] = torch.tensor(row["input_ids"])
        mask[i, :length] = 1
        labels[i, row["prompt_length"] : length] = ids[i, row["prompt_length"] : length]
    fixed = {name: torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in FIXED if name in rows[0]}
    return {"input_ids": ids, "attention_mask": mask, "labels": labels, **fixed}
