"""The digits bandit: real images, ten arms, and a policy and a proxy reward that saw 80 labels each.

A context is one of the 1797 8 x 8 images bundled with scikit-learn (nothing is downloaded); an arm is a digit.

    gold reward   1 if the arm is the label, else 0; its expectation is the accuracy of an arm sampled from the policy
    proxy reward  probability of the arm under a reward model
    pi_0          a 64-32-10 network fitted on few labels and stopped early, so that its probabilities stay spread out

The reward model plays the part of one learned from human preferences: right most of the time, and wrong in ways that a
policy can learn. It is a linear softmax model fitted on 80 labels that pi_0 did not see. So each of the two knows
something that the other does not. Nothing was made worse on purpose: the labels are drawn uniformly.

The splits are disjoint and redrawn for every seed: 80 labels for pi_0, 80 for the proxy, 1000 training images whose
labels no method reads, 637 held-out images for evaluation.
"""

from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from dar_ref import scalars
from dar_ref.bandit.config import Method, TrainConfig
from dar_ref.bandit.problem import Bandit, Contexts, log_probs

INITIAL_LABELS = 80
PROXY_LABELS = 80
TRAIN_IMAGES = 1000
FEATURES, ARMS, HIDDEN = 64, 10, 32

# Chosen by `python -m dar_ref.bandit.tune` on seeds that no reported run uses: the highest final proxy reward, with one
# grid and one sampling budget for all methods. The gold reward is not used for the choice.
LEARNING_RATES: Mapping[Method, float] = MappingProxyType({"dar": 3e-3, "grpo": 3e-3, "dao": 3e-3, "rloo": 3e-3})


class Splits(NamedTuple):
    """Row numbers of the images, disjoint: `initial` (80,), `proxy` (80,), `train` (1000,), `held_out` (637,)."""

    initial: Tensor
    proxy: Tensor
    train: Tensor
    held_out: Tensor


def digits_bandit(seed: int) -> Bandit:
    """The digits bandit. The seed sets the splits and the initial weights, and so `pi_0` and the proxy.

    Args:
        seed: at least 0. Each seed is another problem of the same kind.

    Returns:
        `Bandit` with 1000 training and 637 held-out contexts of 64 features in [0, 1], and 10 arms.

    Raises:
        TypeError, ValueError: a seed that is not a whole number of at least 0.
    """
    generator = torch.Generator().manual_seed(scalars.seed("seed", seed))
    pixels, labels = load_digits(return_X_y=True)
    images, digits = torch.tensor(pixels / 16.0), torch.tensor(labels)
    splits = digits_splits(len(images), generator)

    pi_0 = _network((FEATURES, HIDDEN, ARMS), generator)
    _fit(pi_0, images[splits.initial], digits[splits.initial], steps=30)  # stopped early: pi_0 must explore
    reward_model = _network((FEATURES, ARMS), generator)
    _fit(reward_model, images[splits.proxy], digits[splits.proxy], steps=200)

    proxy = log_probs(reward_model, images).detach().exp()
    gold = nn.functional.one_hot(digits, ARMS).double()
    train, held_out = (Contexts(images[rows], proxy[rows], gold[rows]) for rows in (splits.train, splits.held_out))
    return Bandit(train, held_out, pi_0)


def digits_config(method: Method) -> TrainConfig:
    """The setting of the reported runs: the paper's alpha, beta and w_clip, 400 iterations, the tuned learning rate."""
    scalars.choice("method", method, LEARNING_RATES)
    return TrainConfig(method=method, steps=400, learning_rate=LEARNING_RATES[method])


def digits_splits(num_images: int, generator: torch.Generator) -> Splits:
    """Split the row numbers of `num_images` images at random into four disjoint parts."""
    order = torch.randperm(num_images, generator=generator)
    ends = np.cumsum([INITIAL_LABELS, PROXY_LABELS, TRAIN_IMAGES]).tolist()
    return Splits(*torch.tensor_split(order, ends))


def _network(widths: tuple[int, ...], generator: torch.Generator) -> nn.Sequential:
    """A float64 tanh network with torch's usual initial weights, drawn from `generator`."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        # Made without values: torch would draw them from the global generator and change its state.
        linear = nn.Linear(fan_in, fan_out, dtype=torch.float64, device="meta").to_empty(device="cpu")
        bound = fan_in**-0.5
        nn.init.uniform_(linear.weight, -bound, bound, generator=generator)
        nn.init.uniform_(linear.bias, -bound, bound, generator=generator)
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def _fit(network: nn.Module, images: Tensor, labels: Tensor, steps: int) -> None:
    """Fit `network` to labels by full-batch Adam on the cross-entropy."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(network(images), labels))
        optimizer.step()
