"""Micro-batches made anew: rows sorted by length, so that none is padded to a length that only others have.

A batch is TRL's dictionary: tensors whose first axis is the rows, and scalars of the whole batch. Prompts are padded on
the left and completions on the right, up to the longest of all that was sampled. A micro-batch needs its own longest
row, and no padding between a prompt and the batch's left edge.

Shapes: `B` rows, `P` prompt tokens, `T` completion tokens.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

OF_PROMPT = ("prompt_ids", "prompt_mask")  # (B, P)
OF_COMPLETION = (  # (B, T)
    *("completion_ids", "completion_mask", "tool_mask"),
    *("ref_per_token_logps", "old_per_token_logps", "sampling_per_token_logps"),
)
Batch = dict[str, Any]


def concatenated(batches: Sequence[Batch]) -> Batch:
    """One batch of all rows, in order. Scalars are the same in all."""
    return {
        name: torch.cat([batch[name] for batch in batches]) if isinstance(x, Tensor) and x.ndim else x
        for name, x in batches[0].items()
    }


def rows(batch: Batch, index: Tensor) -> Batch:
    """These rows (n,)."""
    return {name: x[index] if isinstance(x, Tensor) and x.ndim else x for name, x in batch.items()}


def cut(batch: Batch, multiple: int | None = None) -> Batch:
    """The batch without the columns that are padding in all rows; lengths rounded up to a `multiple`."""
    found = dict(batch)
    prompt, completion = (_longest(batch[name], multiple) for name in ("prompt_mask", "completion_mask"))
    found |= {name: found[name][:, -prompt:] for name in OF_PROMPT}
    return found | {name: found[name][:, :completion] for name in OF_COMPLETION if found.get(name) is not None}


def _longest(mask: Tensor, multiple: int | None) -> int:
    """Columns that the longest row needs, at least one."""
    longest = max(1, int(mask.sum(dim=1).max())) if len(mask) else 1
    return min(mask.shape[1], longest if multiple is None else -(-longest // multiple) * multiple)


def moved_left(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Ids and mask (B, L) of prompt and completion without padding on the left, L the longest of the rows; and in which
    column each completion token stands, (B, T)."""
    ids, mask = (torch.cat([batch[f"prompt_{x}"], batch[f"completion_{x}"]], dim=1) for x in ("ids", "mask"))
    lengths = batch["prompt_mask"].sum(dim=1, keepdim=True)  # (B, 1)
    index = torch.arange(max(1, int(mask.sum(dim=1).max())), device=ids.device)  # (L,)
    index = index + batch["prompt_mask"].shape[1] - lengths  # (B, L)
    inside = index < ids.shape[1]
    index = index.clamp(max=ids.shape[1] - 1)
    columns = lengths + torch.arange(batch["completion_ids"].shape[1], device=ids.device)
    return ids.gather(1, index), mask.gather(1, index) * inside, columns.clamp(max=index.shape[1] - 1)


def by_length(batch: Batch, index: Tensor) -> Tensor:
    """The rows `index` (n,), longest first: what does not fit into memory is seen at once."""
    lengths = batch["prompt_mask"].sum(dim=1) + batch["completion_mask"].sum(dim=1)
    return index[lengths[index].argsort(descending=True, stable=True)]


def parts(index: Tensor, size: int, least: int) -> list[Tensor]:
    """`index` (n,) in at most `size` rows each, full ones where no more parts are asked for: `least` parts or more."""
    count = max(least, -(-len(index) // size))
    full = count * size - len(index) < size
    return list(torch.split(index, size) if full else torch.tensor_split(index, count))
