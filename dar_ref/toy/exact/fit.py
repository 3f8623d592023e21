"""The enumerated loss, and a fit of the network to it, for `study`.

    L(pi) = -mean_x sum_y pi_t(y) w(y) log pi(y),   w = min((pi_0/pi_t)^alpha exp(A/beta), w_clip)

A fit of 1365 probabilities per prompt is badly conditioned: Adam takes about a thousand steps from pi_t to a thousandth
of a nat, and more where the weights differ more. The learning rate warms up and decays to 0 along a cosine.
"""

import copy
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from transformers import Qwen2ForCausalLM

from dar_ref.losses import dar_weights
from dar_ref.theory.checks import Array
from dar_ref.toy.exact.enumerate import Tables, response_logps

RATE, WARM_UP = 5e-3, 10  # of a fit: peak learning rate, and the steps to reach it
BETAS, EPSILON = (0.9, 0.95), 1e-12  # of Adam: second moments that forget soon, and small gradients that count


def loss_weights(table: Tables, advantage: Array, log_pi_t: Array, alpha: float, beta: float, w_clip: float) -> Array:
    """`pi_t(y) w(y)` of every response, (N, R): its weight in the enumerated loss; w comes from `dar_ref.losses`."""
    flat = [torch.from_numpy(np.ascontiguousarray(x)).view(-1) for x in (table.log_pi_0, log_pi_t, advantage)]
    weight = dar_weights(*flat, alpha=alpha, beta=beta, w_clip=w_clip).weight.numpy()
    return np.exp(log_pi_t) * weight.reshape(log_pi_t.shape)


def fit(
    policy: Qwen2ForCausalLM,
    table: Tables,
    weights: Array,
    steps: int,
    on_step: Callable[[], None] = lambda: None,
    rate: float = RATE,
) -> Qwen2ForCausalLM:
    """A copy of `policy` after `steps` steps of Adam on `-mean_x sum_y weights(x, y) log pi(y | x)`."""
    policy = copy.deepcopy(policy).requires_grad_(True)
    optimizer = torch.optim.Adam(policy.parameters(), lr=rate, betas=BETAS, eps=EPSILON, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / WARM_UP) * 0.5 * (1.0 + math.cos(math.pi * step / steps))
    )
    for _ in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward(enumerated_loss(response_logps(policy, table.prompt_ids), weights / weights.sum()))
        optimizer.step()
        schedule.step()
        on_step()
    return policy


def enumerated_loss(logps: Tensor, weights: Array) -> Tensor:
    """`-mean_x sum_y weights(x, y) log pi(y | x)`, a scalar with gradient, from `response_logps` (N, R)."""
    return -(torch.from_numpy(weights) * logps).sum(dim=1).mean()
