"""Weighted cross-entropy from hidden states and LM head, without the logits: the last layer and DAR's loss in one.

    loss = -sum_i w_i sum_t mask_it log pi(y_it),    log pi = log softmax(cap(h W' + b) / temperature)

DAR's weight is a constant that is known before the backward, so a chunk of tokens gives its gradients at once: logits,
softmax, then the gradients of hidden states and head, and the next chunk takes the same memory. Two buffers of
`chunk_size` x V are all that is ever held of the logits. The head costs three matrix products per token; four where the
logits are made again in the backward, and then B x T x V numbers or tiles with their copies. A policy gradient's weight
depends on the log-probs themselves, so a loss with a ratio cannot do this.

Kernels that exist, and why this is our own (read in the versions named):

- TRL 1.16, `trl.kernels.chunked_logprob`: per-token log-probs with an ordinary backward, so any loss fits. It makes the
  logits again in the backward and has eight copies of a tile there where there is no Triton. The trainer uses it for
  all other methods, and where this one does not fit the model.
- Liger 0.8, `fused_linear_cross_entropy`: gradients in the forward, as here. It takes weights per class and none per
  token, returns no log-probs, and needs Triton.
- cut-cross-entropy 25.1: never writes the logits to memory at all, which on a GPU may win. It needs Triton, has no bias
  and no temperature, makes the logits again in the backward, and leaves out small gradients by default.

Not measured on a GPU.

Shapes: `B` sequences of `T` tokens, `H` hidden size, `V` vocabulary, `n` tokens that count; mask 1 = keep.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dar_ref import scalars
from dar_ref.losses import checks


class LinearCrossEntropy(NamedTuple):
    """`loss`: scalar, float32 or better; `per_token_logps`, `entropy`: (B, T), 0 under the mask, without gradient.
    Without weights there is no entropy."""

    loss: Tensor
    per_token_logps: Tensor
    entropy: Tensor | None


def linear_cross_entropy(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    completion_mask: Tensor,
    weights: Tensor | None = None,
    *,
    bias: Tensor | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    chunk_size: int = 256,
) -> LinearCrossEntropy:
    """Weighted cross-entropy of a causal LM's last layer, `-sum_i w_i sum_t mask_it log pi(y_it)`, chunk by chunk.

    Args:
        hidden: (B, T, H), what the head reads at the position before each token; gets a gradient.
        head: (V, H), the output embedding; gets a gradient if it requires one. May be tied to the input embedding.
        targets: (B, T), ids of the tokens; under the mask anything.
        completion_mask: (B, T), bool or 0/1, 1 = keep. Only these tokens are projected.
        weights: (B,), constants, `>= 0`: what each sequence counts for. None: log-probs only, loss 0.
        bias: (V,) of the head; gets a gradient if it requires one.
        temperature: `> 0`, divides the logits. A model's own factor of the logits goes into it, and into `softcap`.
        softcap: `cap * tanh(logits / cap)` before the temperature, `> 0`; None for none.
        chunk_size: tokens at a time, `>= 1`. It changes memory and speed, and the result by rounding only.

    Returns:
        `LinearCrossEntropy(loss, per_token_logps, entropy)`. Products are made in the inputs' type (or autocast's);
        softmax, sums and the head's gradient in float32, or float64 where the inputs are.

    Raises:
        TypeError, ValueError: wrong types, shapes or options.

    Source: arXiv 2602.11523, the practical loss; `dar_loss` is the same from log-probs.

    >>> import torch
    >>> hidden, head = torch.zeros(1, 2, 3, requires_grad=True), torch.ones(4, 3)
    >>> result = linear_cross_entropy(hidden, head, torch.tensor([[0, 3]]), torch.ones(1, 2), torch.tensor([0.5]))
    >>> result.loss.item() == result.per_token_logps.sum().item() * -0.5  # log 4 for each token
    True
    """
    _check(hidden, head, targets, completion_mask, weights, bias)
    temperature = scalars.positive("temperature", temperature, single=True)
    softcap = None if softcap is None else scalars.positive("softcap", softcap, single=True)
    scalars.integer("chunk_size", chunk_size, 1)
    mask = completion_mask.bool()
    per_token = None if weights is None else weights.detach()[:, None].expand(mask.shape)[mask]  # (n,)
    options = (temperature, softcap, chunk_size, weights is not None and torch.is_grad_enabled())
    tokens = (hidden[mask], head, bias, targets[mask], per_token)
    loss, logps, entropy = _Chunked.apply(*tokens, *options)  # type: ignore[no-untyped-call]

    def placed(of_tokens: Tensor) -> Tensor:
        return of_tokens.new_zeros(mask.shape).masked_scatter(mask, of_tokens)

    return LinearCrossEntropy(loss, placed(logps), None if entropy is None else placed(entropy))


class _Chunked(torch.autograd.Function):
    """The loss of `n` tokens with its gradients, made in the forward. Hidden states are (n, H)."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        head: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        weights: Tensor | None,
        temperature: float,
        softcap: float | None,
        chunk_size: int,
        with_gradients: bool,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        wide = torch.promote_types(torch.promote_types(hidden.dtype, head.dtype), torch.float32)
        narrow = torch.promote_types(hidden.dtype, head.dtype)
        device = hidden.device.type
        if torch.is_autocast_enabled(device):
            narrow = torch.get_autocast_dtype(device)
        inputs = (hidden, head, bias)
        wanted = [with_gradients and needed for needed in ctx.needs_input_grad[:3]]
        gradients = [
            x.new_zeros(x.shape, dtype=wide) if x is not None and want else None
            for x, want in zip(inputs, wanted, strict=True)
        ]
        logps = hidden.new_empty(len(hidden), dtype=wide)
        entropy = None if weights is None else torch.empty_like(logps)
        with torch.autocast(device, enabled=False):
            matrix = head.to(narrow)
            buffers = hidden.new_empty((2, min(chunk_size, len(hidden)), len(head)), dtype=wide)
            for first in range(0, len(hidden), chunk_size):
                part = slice(first, first + chunk_size)
                rows, ids = hidden[part].to(narrow), targets[part, None]
                z, log_p = buffers[:, : len(rows)]  # (chunk, V)
                z.copy_(rows @ matrix.t()) if narrow != wide else torch.mm(rows, matrix.t(), out=z)
                if bias is not None:
                    z += bias
                slope = _capped(z, softcap) if softcap else None
                torch.log_softmax(z.div_(temperature), dim=-1, out=log_p)
                logps[part] = log_p.gather(1, ids)[:, 0]
                if weights is None or entropy is None:
                    continue
                p = torch.exp(log_p, out=z)
                if bias is not None:
                    log_p.clamp_(min=torch.finfo(wide).min)  # a token that the bias forbids adds 0
                entropy[part] = -torch.bmm(p[:, None], log_p[:, :, None])[:, 0, 0]
                if any(wanted):
                    factor = (weights[part, None] / temperature).to(wide)
                    of_logits = p.mul_(factor).scatter_add_(1, ids, -factor)  # of -w log p(y), by the logits
                    if slope is not None:
                        of_logits *= slope
                    _add_gradients(gradients, part, of_logits, rows, matrix)
        ctx.mark_non_differentiable(*(x for x in (logps, entropy) if x is not None))
        ctx.set_materialize_grads(False)
        made = (None if x is None or g is None else g.to(x.dtype) for g, x in zip(gradients, inputs, strict=True))
        ctx.save_for_backward(*made)
        if weights is None:
            return logps.new_zeros(()), logps, entropy
        return -torch.where(weights != 0, weights.to(wide) * logps, 0.0).sum(), logps, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_loss: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        nothing = (None,) * 6
        if of_loss is None:
            return (None, None, None, *nothing)
        return (*(None if g is None else g * of_loss for g in ctx.saved_tensors), *nothing)


def _capped(logits: Tensor, softcap: float) -> Tensor:
    """Cap the logits in place; the derivative of the cap, of the same shape."""
    logits.div_(softcap).tanh_()
    slope = logits.square().neg_().add_(1.0)
    logits.mul_(softcap)
    return slope


def _add_gradients(
    gradients: list[Tensor | None], part: slice, of_logits: Tensor, rows: Tensor, matrix: Tensor
) -> None:
    """Add what a chunk of tokens gives to the gradients of hidden states, head and bias, from that of its logits."""
    of_hidden, of_head, of_bias = gradients
    narrow = of_logits.to(matrix.dtype)
    if of_hidden is not None:
        of_hidden[part] = narrow @ matrix
    if of_head is not None:
        if narrow.is_cuda and narrow.dtype != of_head.dtype:  # pragma: no cover, a sum of rounded chunks would drift
            torch.addmm(of_head, narrow.t(), rows, out_dtype=of_head.dtype, out=of_head)
        else:
            of_head.addmm_(of_logits.t(), rows.to(of_head.dtype))
    if of_bias is not None:
        of_bias += of_logits.sum(dim=0)


def _check(
    hidden: Tensor, head: Tensor, targets: Tensor, mask: Tensor, weights: Tensor | None, bias: Tensor | None
) -> None:
    """Raise unless types and shapes fit together."""
    floating = {"hidden": hidden, "head": head, "weights": weights, "bias": bias}
    for name, x in floating.items():
        if x is not None and not (isinstance(x, Tensor) and x.is_floating_point()):
            raise TypeError(f"{name} is {checks.shown_type(x)}; pass a floating-point tensor")
    checks.mask_type(mask)
    if not isinstance(targets, Tensor) or targets.dtype != torch.long:
        raise TypeError(f"targets is {checks.shown_type(targets)}; pass token ids, a tensor of torch.int64")
    if hidden.ndim != 3 or hidden.numel() == 0:
        raise ValueError(f"hidden has shape {tuple(hidden.shape)}; pass a non-empty tensor (B, T, H)")
    (b, t, h), v = hidden.shape, len(head)
    wanted: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {
        "targets": (targets, (b, t)),
        "completion_mask": (mask, (b, t)),
        "head": (head, (v, h)),
        "weights": (weights, (b,)),
        "bias": (bias, (v,)),
    }
    for name, (x, shape) in wanted.items():
        if x is not None and x.shape != shape:
            raise ValueError(f"{name} has shape {tuple(x.shape)}; with these hidden states and head it is {shape}")
