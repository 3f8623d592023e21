"""The reward that training sees: one finite number per completion, or the run stops and shows which one was wrong."""

from collections.abc import Callable, Iterable, Sequence
from numbers import Real

import torch
from torch import Tensor

from dar_ref.toy.policy import Completions, decode
from dar_ref.toy.start import Start

LARGEST = 1e18  # of a reward's size: its square is finite in float32
RewardFunction = Callable[[list[list[str]], list[list[str]], list[bool]], Sequence[float]]  # see `rewards_of`


def rewards_of(start: Start, completions: Completions, reward: str | RewardFunction) -> Tensor:
    """Reward of each completion, (B,) float32, without gradient.

    Args:
        start: has the reward model and the gold reward.
        completions: K per prompt.
        reward: "proxy", "gold", or a function of B prompts, B responses (words, without EOS) and B flags "has ended",
            that returns B numbers.

    Raises:
        ValueError: the number of rewards is wrong, or a reward is missing or not finite.
    """
    if reward == "proxy":
        values = start.proxy(completions)
    elif reward == "gold":
        values = start.gold(completions)
    elif callable(reward):
        values = _own(start, completions, reward)
    else:
        raise ValueError(f"reward = {reward!r} is unknown; pass 'proxy', 'gold' or a function")
    finite = torch.isfinite(values)
    if not finite.all():
        _refuse(start, completions, int((~finite).nonzero()[0]), values[~finite][0].item())
    return values


def _own(start: Start, completions: Completions, reward: RewardFunction) -> Tensor:
    responses, times = decode(start.task, completions), completions.num_generations
    prompts = [prompt for prompt in start.prompts_of(completions) for _ in range(times)]
    returned = reward(prompts, responses, completions.finished.tolist())
    if not isinstance(returned, Iterable):
        raise ValueError(f"the reward function returned {returned!r}; return a list of {len(responses)} rewards")
    values = list(returned)
    if len(values) != len(responses):
        raise ValueError(
            f"the reward function returned {len(values)} rewards for {len(responses)} completions; return one reward"
            " per completion, in the same order"
        )
    for i, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, Real) or not abs(value) <= LARGEST:
            _refuse(start, completions, i, value)
    return torch.tensor(values, dtype=torch.float32)


def _refuse(start: Start, completions: Completions, index: int, value: object) -> None:
    prompt = start.prompts_of(completions)[index // completions.num_generations]
    raise ValueError(
        f"reward {index} is {value!r}, for the prompt {' '.join(prompt)!r} and the completion"
        f" {' '.join(decode(start.task, completions)[index])!r}: every reward must be a finite number up to"
        f" {LARGEST:g}; fix the reward function"
    )
