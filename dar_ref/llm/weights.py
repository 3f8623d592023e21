"""What becomes of the weights that a run trains: whether they are numbers, and whether any was changed.

Neither shows in a log. After one gradient that is not finite all weights are NaN, and no loss is computed from them any
more if that was the last step. A learning rate of 1e-30, or a bound of that size on the gradient, changes none of them,
and loss, reward and gradient look as they should.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # integers by their size in bytes


@torch.no_grad()
def check_finite(model: Any, when: str) -> None:
    """Raise ValueError, which says `when`, if a weight is NaN or infinite. The sum tells, and is quick; it may also
    overflow."""
    for weight in _here(model.parameters()):
        total = weight.sum(dtype=torch.promote_types(weight.dtype, torch.float32))
        if not torch.isfinite(total) and not torch.isfinite(weight).all():
            raise ValueError(f"a weight of the policy is not finite {when}")


@torch.no_grad()
def fingerprint(model: Any) -> list[int]:
    """The sum of the bits, as integers, of each tensor that is trained: another one if a single weight was changed."""
    trained = _here(p for p in model.parameters() if p.requires_grad)
    return [int(weight.view(BITS[weight.element_size()]).sum(dtype=torch.int64)) for weight in trained]


def _here(parameters: Iterable[Any]) -> list[Tensor]:
    """The part of each weight that this process holds, under DDP, FSDP2 and ZeRO-3. Integers are frozen: left out."""
    parts = [getattr(parameter, "ds_tensor", parameter).detach() for parameter in parameters]
    return [part.to_local() if hasattr(part, "to_local") else part for part in parts if part.is_floating_point()]
