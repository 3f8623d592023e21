"""Bytes of DAR's fused loss, `dar_ref.losses.linear`: what it takes, and what it keeps for the backward.

`tests/llm/plan/test_tensors.py` compares it with that code.
"""

from dar_ref.llm.plan.architecture import Architecture
from dar_ref.llm.plan.tensors import F32, INT64, Types

CHUNK = 256  # tokens at a time


def head(a: Architecture, t: Types, tokens: int, *, trained: bool | None) -> int:
    """Two float32 buffers of a chunk's logits, a third where logits are soft-capped, and where types are narrow, one of
    those; copies of hidden states and head in autocast's type; float32 gradients of the hidden states and, if it is
    `trained`, of the head. None: log-probs only."""
    narrow, chunk = t.compute != F32, min(tokens, CHUNK)
    buffers = chunk * a.vocab_size * ((2 + a.capped) * F32 + (t.compute if narrow else 0))
    copies = t.compute * (chunk * a.hidden_size + a.vocab_size * a.hidden_size) if t.compute != t.weights else 0
    numbers = tokens * (a.hidden_size * t.weights + INT64 + 2 * F32)
    if trained is None:
        return buffers + copies + numbers
    return buffers + copies + numbers + F32 * (tokens * a.hidden_size + trained * a.vocabulary_count)


def saved(a: Architecture, t: Types, tokens: int, *, trained: bool) -> int:
    """What the fused loss keeps: the gradients of the hidden states and, if it is `trained`, of the head."""
    return t.weights * (tokens * a.hidden_size + trained * a.vocabulary_count)
