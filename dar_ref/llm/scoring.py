"""Corrections to what TRL scores and how: positions of padded prompts, float64, and where a stop string ends."""

import inspect
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

IMAGES = (  # what TRL puts into a batch besides ids and masks where prompts have images, and takes back to score it
    *("pixel_values", "image_grid_thw", "num_images", "pixel_attention_mask", "spatial_shapes", "num_tiles"),
    *("image_sizes", "token_type_ids", "mm_token_type_ids", "image_position_ids"),
)


def number_positions(model: Any) -> None:
    """Make `model` count positions from the first token of each row that is not padding, whenever it scores.

    A call with `fused_lm_head` is a scoring call; generation sets positions itself. A model that takes no positions is
    left as it is, and so is one for images: its positions may have three coordinates, which it computes itself.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else getattr(model, "module", model)
    takes_images = inner.config.get_text_config() is not inner.config
    if takes_images or "position_ids" not in inspect.signature(type(inner).forward).parameters:
        return

    def add_positions(_model: Any, positional: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if "fused_lm_head" in named:
            named = {**named, "position_ids": positions(named["attention_mask"])}
        return positional, named

    model.register_forward_pre_hook(add_positions, with_kwargs=True)


def positions(attention_mask: Tensor) -> Tensor:
    """Position of each token, (B, T): 0 at the first token that is not padding, and 0 on the padding before it."""
    return (attention_mask.cumsum(dim=-1) - 1).clamp(min=0)


class Scores(NamedTuple):
    """What TRL reads of a scoring call: log_probs of the last T tokens, and entropies there, (B, T) each."""

    log_probs: Tensor
    entropy: Tensor


def in_float64(model: Any, temperature: float, length: int, **inputs: Any) -> Scores:
    """TRL's scoring call, `model(input_ids=, ..., labels=, fused_lm_head=True)`, from the full logits in their dtype.

    Only the last `length` tokens are scored: what has a label is among them, and TRL reads no others.
    """
    del inputs["labels"]
    logits = model(**inputs | {"fused_lm_head": False}, use_cache=False, logits_to_keep=length + 1).logits
    log_probs = (logits[:, :-1] / temperature).log_softmax(dim=-1)  # the last logits predict beyond the completion
    logps = log_probs.gather(-1, inputs["input_ids"][:, -length:, None])[..., 0]
    return Scores(logps, -(log_probs.exp() * log_probs).sum(dim=-1))


def until_stop(ids: list[int], stops: str | Sequence[str], tokenizer: Any) -> list[int]:
    """The shortest beginning of `ids` whose text holds one of `stops`; all of them if there is none."""
    stops = [stops] if isinstance(stops, str) else stops
    shorter = range(1, len(ids))
    end = bisect_left(shorter, True, key=lambda n: any(stop in tokenizer.decode(ids[:n]) for stop in stops))
    return ids[: end + 1]
