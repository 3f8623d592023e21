"""Two corrections to how TRL scores completions: positions of padded prompts, and float64."""

import inspect
from typing import Any

from torch import Tensor


def number_positions(model: Any) -> None:
    """Make `model` count positions from the first token of each row that is not padding, whenever it scores.

    A call with `fused_lm_head` is a scoring call; generation sets positions itself. A model that takes no positions is
    left as it is.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else getattr(model, "module", model)
    if "position_ids" not in inspect.signature(type(inner).forward).parameters:
        return

    def add_positions(_model: Any, positional: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        if "fused_lm_head" in named:
            named = {**named, "position_ids": positions(named["attention_mask"])}
        return positional, named

    model.register_forward_pre_hook(add_positions, with_kwargs=True)


def positions(attention_mask: Tensor) -> Tensor:
    """Position of each token, (B, T): 0 at the first token that is not padding, and 0 on the padding before it."""
    return (attention_mask.cumsum(dim=-1) - 1).clamp(min=0)


def whole_logps(
    model: Any, ids: Tensor, mask: Tensor, logits_to_keep: int, temperature: float
) -> tuple[Tensor, Tensor]:
    """Log-probs of the last `logits_to_keep` tokens and entropies, (B, T) each, from the full logits in their dtype."""
    inputs = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
    logits = model(**inputs, logits_to_keep=logits_to_keep + 1, fused_lm_head=False).logits  # (B, T + 1, vocabulary)
    log_probs = (logits[:, :-1] / temperature).log_softmax(dim=-1)  # the last logits predict beyond the completion
    logps = log_probs.gather(-1, ids[:, -logits_to_keep:, None])[..., 0]
    return logps, -(log_probs.exp() * log_probs).sum(dim=-1)
