"""The enumerated loss, and a fit of the network to it, for `study`.

    L(pi) = -mean_x sum_y pi_t(y) w(y) log pi(y),   w = min((pi_0/pi_t)^alpha exp(A/beta), w_clip)

A fit of 1365 probabilities per prompt is badly conditioned. In trials on two prompts of `tiny`, 600 steps of Adam or of
L-BFGS left several times the KL to the target that 400 steps of SOAP left. SOAP is Adam in the eigenbasis of Shampoo's
preconditioner:

    G = dL/dW,   F_l <- EMA(G G^T),   F_r <- EMA(G^T G),   W <- W - rate * Q_l Adam(Q_l^T G Q_r) Q_r^T

where Q_l and Q_r are the eigenvectors of F_l and F_r. Deviations from the published method: eigenvectors come from
`eigh` every `EVERY` steps, not from one QR step; the first step already updates the weights; no weight decay; no entry
of Adam's step is larger than the rate. The bound is needed because after a change of basis the second moments still
belong to the old one; without it some fits jump back. Vectors (norms, biases) get Adam with the same bound. Training
itself uses Adam or SGD.

Source: Vyas et al., arXiv 2409.11321.
"""

import copy
import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor
from transformers import Qwen2ForCausalLM

from dar_ref.losses import dar_weights
from dar_ref.theory.checks import Array
from dar_ref.toy.exact.enumerate import Tables, response_logps

RATE, WARM_UP = 1e-2, 10  # of a fit: peak learning rate, and the steps to reach it
BETA_1, BETA_2, EPSILON, EVERY = 0.9, 0.95, 1e-12, 10


class Soap:
    """SOAP for the tensors `parameters`; each is a vector or a matrix with a gradient."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.parameters = list(parameters)
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in self.parameters]
        self.factors = [[p.new_zeros(n, n) for n in p.shape] if p.ndim == 2 else [] for p in self.parameters]
        self.bases: list[list[Tensor]] = [[] for _ in self.parameters]
        self.steps = 0

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One step at learning rate `rate` with the gradients in the parameters, which are then cleared."""
        self.steps += 1
        renew = self.steps % EVERY == 1
        for i, parameter in enumerate(self.parameters):
            gradient = parameter.grad
            if gradient is None:
                raise ValueError(f"parameter {i} of shape {tuple(parameter.shape)} has no gradient; call backward")
            if gradient.ndim == 2:
                for factor, sides in zip(self.factors[i], (gradient @ gradient.T, gradient.T @ gradient), strict=True):
                    factor.lerp_(sides, 1.0 - BETA_2)
                if renew:
                    self.bases[i] = [torch.linalg.eigh(factor)[1] for factor in self.factors[i]]
            first, second = self.moments[i]
            first.lerp_(gradient, 1.0 - BETA_1)
            second.lerp_(_into(gradient, self.bases[i]) ** 2, 1.0 - BETA_2)
            mean = _into(first, self.bases[i]) / (1.0 - BETA_1**self.steps)
            scale = (second / (1.0 - BETA_2**self.steps)).sqrt() + EPSILON
            parameter -= rate * _out_of((mean / scale).clamp(-1.0, 1.0), self.bases[i])
            parameter.grad = None


def _into(x: Tensor, bases: list[Tensor]) -> Tensor:
    return bases[0].T @ x @ bases[1] if bases else x


def _out_of(x: Tensor, bases: list[Tensor]) -> Tensor:
    return bases[0] @ x @ bases[1].T if bases else x


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
    """A copy of `policy` after `steps` steps of SOAP on `-mean_x sum_y weights(x, y) log pi(y | x)`."""
    policy = copy.deepcopy(policy).requires_grad_(True)
    optimizer = Soap(policy.parameters())
    for step in range(steps):
        torch.autograd.backward(enumerated_loss(response_logps(policy, table.prompt_ids), weights / weights.sum()))
        warmed = min(1.0, (step + 1) / WARM_UP)
        optimizer.step(rate * warmed * 0.5 * (1.0 + math.cos(math.pi * step / steps)))
        on_step()
    return policy


def enumerated_loss(logps: Tensor, weights: Array) -> Tensor:
    """`-mean_x sum_y weights(x, y) log pi(y | x)`, a scalar with gradient, from `response_logps` (N, R)."""
    return -(torch.from_numpy(weights) * logps).sum(dim=1).mean()
