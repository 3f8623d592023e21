"""The head alone, for `update`: loss and gradients by the fused loss, by TRL's kernel, from whole logits."""

from tests.benchmarks.meters import Processor
from tests.benchmarks.update_model import HIDDEN
from tests.benchmarks.update_step import Measured

HEAD_SHAPE = (4, 512, HIDDEN, 150_000)  # B, T, H, V
HEADS_OF = ("fused loss", "TRL's kernel", "whole logits")


def measure_head(kind: str) -> Measured:
    """Loss and gradients of the head alone."""
    import torch
    from trl.kernels import ChunkedLogProbFunction

    from dar_ref.losses import linear_cross_entropy

    torch.set_num_threads(1)
    torch.manual_seed(0)
    b, t, h, v = HEAD_SHAPE
    hidden = torch.randn(b, t, h, requires_grad=True)
    head = (torch.randn(v, h) * 0.05).requires_grad_()
    ids, weights = torch.randint(v, (b, t)), torch.rand(b)
    meter = Processor()
    meter.restart()
    began = meter.now()
    if kind == "fused loss":
        loss = linear_cross_entropy(hidden, head, ids, torch.ones(b, t), weights).loss
    else:
        if kind == "TRL's kernel":
            flat = (hidden.view(-1, h), head, None, ids.view(-1), 1.0, 32768, None, 1.0, ("entropy",))
            logps = ChunkedLogProbFunction.apply(*flat)[0].view(b, t)  # type: ignore[no-untyped-call]
        else:
            logps = torch.log_softmax(hidden @ head.t(), dim=-1).gather(-1, ids[..., None])[..., 0]
        loss = -(weights * logps.sum(dim=1)).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    seconds = meter.now() - began
    return Measured(0.0, seconds, seconds, meter.before, meter.peak() - meter.before, [], {})
