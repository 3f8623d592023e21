"""The fused loss inside a model: a forward that ends in `linear_cross_entropy` and not in logits.

    model(input_ids, attention_mask, fused_lm_head=True, labels=(B, T), columns=(B, T), weigh=function)
        ->  LinearCrossEntropy

The loss is computed inside the model's forward, where DDP, FSDP and ZeRO have the head's weights at hand. `weigh` gives
the weights (B,) of a micro-batch. Where they depend on pi_theta's own log-probs (pi_t is pi_theta, and nobody has
scored it yet), it is given those: the head is then read once more, without gradient.

`why_not` names the models that this does not fit; for those the trainer falls back to TRL's fused head.
"""

import functools
import types
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from trl.trainer.utils import maybe_gather_lm_head_ctx

from dar_ref.losses import LinearCrossEntropy, linear_cross_entropy

IGNORED = -100
FACTORS = ("logit_scale", "logits_scaling", "output_multiplier", "lm_head_multiplier")  # of logits, by configuration
Weigh = Callable[[Tensor | None], Tensor | None]


def base_of(model: Any) -> Any:
    """The causal LM inside adapters, or inside what an engine wraps pi_0 in."""
    return model.get_base_model() if hasattr(model, "get_base_model") else getattr(model, "module", model)


def why_not(model: Any) -> str | None:
    """Why the fused loss does not fit a model, in words; None if it does."""
    inner = base_of(model)
    text = inner.config.get_text_config()
    if text is not inner.config:
        return "it takes images"
    if any(config.is_prompt_learning for config in getattr(model, "peft_config", {}).values()):
        return "its adapter puts tokens of its own before the prompt"
    if inner.base_model is inner:
        return "it has no base model apart from its head"
    head = inner.get_output_embeddings()
    if type(head) is not nn.Linear:
        return f"its output embedding is a {type(head).__name__} and not a plain nn.Linear"
    scaled = [name for name in FACTORS if getattr(text, name, None) not in (None, 1.0)]
    return f"it multiplies its logits ({scaled[0]} = {getattr(text, scaled[0])})" if scaled else None


def add_linear_head(model: Any, temperature: float, *, wide_head: bool = False) -> None:
    """Let `model(..., labels=, columns=, weigh=)` give a `LinearCrossEntropy`; every other call is as before.

    labels: (B, T), ids of completions, `IGNORED` for tokens that do not count; columns: (B, T), where in the input each
    of them stands, from 1. weigh: None for log-probs
    only. wide_head: compute the head in float32, TRL's `cast_lm_head_to_fp32`.
    """
    inner = base_of(model)
    before = inner.forward
    softcap = getattr(inner.config, "final_logit_softcapping", None)
    options = {"temperature": temperature, "softcap": softcap}

    @functools.wraps(before)
    def forward(self: Any, *positional: Any, **named: Any) -> Any:
        if "weigh" not in named:
            return before(*positional, **named)
        weigh, labels, columns = (named.pop(name) for name in ("weigh", "labels", "columns"))
        del named["fused_lm_head"]
        states = self.base_model(*positional, **named, use_cache=False).last_hidden_state
        head = self.get_output_embeddings()
        matrix, bias = (x.full_tensor() if isinstance(x, DTensor) else x for x in (head.weight, head.bias))
        before_each = (columns - 1)[:, :, None].expand(-1, -1, states.shape[-1])
        states = states.gather(1, before_each).to(matrix.device)  # (B, T, H)
        autocast: Any = nullcontext()
        if wide_head:
            states, autocast = states.float(), torch.autocast(states.device.type, enabled=False)
        with autocast, maybe_gather_lm_head_ctx(head.weight, head.bias):
            return _weighted(states, matrix, labels.to(matrix.device), weigh, bias=bias, **options)

    inner.forward = types.MethodType(forward, inner)


def _weighted(states: Tensor, head: Tensor, labels: Tensor, weigh: Weigh | None, **options: Any) -> LinearCrossEntropy:
    tokens = (states, head, labels, labels != IGNORED)
    weights = None if weigh is None else weigh(None)
    if weigh is not None and weights is None:
        with torch.no_grad():
            weights = weigh(linear_cross_entropy(*tokens, **options).per_token_logps)
    return linear_cross_entropy(*tokens, weights, **options)
