"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner, for the exact fits. Training itself uses Adam or SGD.

A full-batch fit of 1365 probabilities a prompt is badly conditioned: on two prompts of `tiny`, 600 steps of Adam or
L-BFGS leave at least five times the KL to the target that 400 steps of SOAP leave.

    G = dL/dW,   L <- EMA(G G^T),   R <- EMA(G^T G),   W <- W - rate * Q_L Adam(Q_L^T G Q_R) Q_R^T

where Q_L and Q_R are the eigenvectors of L and R. Deviations from the published method: eigenvectors by `eigh` every
`EVERY` steps instead of one QR step; the second moment is not rotated along with the basis; no weight decay; a first
step is taken at once. Vectors (norms, biases) get plain Adam.

Source: Vyas et al., arXiv 2409.11321.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

BETA_1, BETA_2, EPSILON, EVERY = 0.9, 0.95, 1e-12, 10


class Soap:
    """Optimiser of the tensors `parameters`, each a vector or a matrix with a gradient."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.parameters = list(parameters)
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in self.parameters]
        self.factors = [[p.new_zeros(n, n) for n in p.shape] if p.ndim == 2 else [] for p in self.parameters]
        self.bases: list[list[Tensor]] = [[] for _ in self.parameters]
        self.steps = 0

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One step at learning rate `rate` along the gradients that the parameters hold."""
        self.steps += 1
        renew = self.steps % EVERY == 1
        for i, parameter in enumerate(self.parameters):
            gradient = parameter.grad
            if gradient is None:
                raise ValueError(f"parameter {i} of shape {tuple(parameter.shape)} has no gradient: call backward")
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
            parameter -= rate * _out_of(mean / scale, self.bases[i])
            parameter.grad = None


def _into(x: Tensor, bases: list[Tensor]) -> Tensor:
    return bases[0].T @ x @ bases[1] if bases else x


def _out_of(x: Tensor, bases: list[Tensor]) -> Tensor:
    return bases[0] @ x @ bases[1].T if bases else x
