"""The optimisers of the two training loops that are read: Adam or SGD, torch's defaults beside the learning rate."""

from collections.abc import Iterable
from typing import Literal

import torch

Optimizer = Literal["adam", "sgd"]


def make_optimizer(
    name: Optimizer, parameters: Iterable[torch.Tensor], learning_rate: float, *, fused: bool = False
) -> torch.optim.Optimizer:
    """The optimiser called `name`. `fused` gives Adam one kernel for all tensors: faster, with other roundings."""
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=learning_rate)
    return torch.optim.Adam(parameters, lr=learning_rate, fused=fused)
