"""The training loop that all methods share: sample, score, update, measure. Read this file first, then `methods`.

Where it differs from the paper's training of a 7B model:

1. The policy is a two-layer Qwen2 over two dozen words, trained in full, in float32, without gradient clipping.
2. pi_t is not a copy of the network: its log-probs are kept as the tokens are drawn, and nothing else of it is needed.
3. The reward model is trained on labels of simulated annotators with a known flaw, and a gold reward is known.
4. A constant learning rate, no warm-up.

A run is a function of its start and its configuration. Its randomness comes from one generator, and its state is saved
every `SAVE_EVERY` rollouts, so a run that was killed goes on and ends with the same bytes.
"""

import copy
import hashlib
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import Qwen2ForCausalLM

from dar_ref.toy import cache
from dar_ref.toy.config import CRITIC, OFFLINE, RunConfig
from dar_ref.toy.critic import Critic
from dar_ref.toy.measure import Evaluator, rollout_figures
from dar_ref.toy.methods import Rollout, make_rollout, method_loss
from dar_ref.toy.policy import encode_prompts
from dar_ref.toy.rewards import RewardFunction, rewards_of
from dar_ref.toy.sampling import sample
from dar_ref.toy.start import Start

SAVE_EVERY = 20  # rollouts
_BEGIN_AGAIN = "pass another file, or remove this one to begin again"
MEASURED = ("step", "annotations", "sampled_tokens", "rollouts", "evaluations", "diverged")  # of `State`, in JSON


class Run(NamedTuple):
    """A finished run.

    policy: the trained policy; rollouts: figures of each rollout (`measure.rollout_figures`); evaluations: figures on
    held-out prompts (`measure.Evaluator`), the first of pi_0; diverged: the step at which a loss, its gradient, the
    policy's probabilities or its figures were not finite, and training stopped; None where it ran to its end.
    """

    policy: Qwen2ForCausalLM
    rollouts: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]
    diverged: int | None


def train(
    start: Start,
    config: RunConfig,
    checkpoint: Path | None = None,
    reward: RewardFunction | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Run:
    """Train a copy of `pi_0`.

    Args:
        start: pi_0, prompts, pairs and rewards.
        config: method and options.
        checkpoint: file to save the state to and to go on from if it is there; removed by nobody here. None saves
            nothing.
        reward: a reward of the reader's own in place of `config.reward`, see `rewards.rewards_of`.
        on_step: called with the number of steps done, for progress bars.

    Returns:
        `Run`.

    Raises:
        ValueError: more prompts or pairs a rollout than there are, a checkpoint of another run, or a reward that is
            missing or not finite.
        OSError: the checkpoint cannot be written.
    """
    state = State(start, config)
    if checkpoint is not None and checkpoint.exists():
        state.load(checkpoint)
    evaluator = Evaluator(start, getattr(start.prompts, config.evaluate_on))
    if not state.evaluations:
        state.evaluations.append({"step": 0, "sampled_tokens": 0, **evaluator.evaluate(state.policy, 0)})
    while state.step < config.steps and state.diverged is None:
        try:
            _advance(state, start, config, reward, evaluator)
        except FloatingPointError:
            state.diverged = state.step
        if checkpoint is not None and len(state.rollouts) % SAVE_EVERY == 0:
            state.save(checkpoint)
        if on_step is not None:
            on_step(state.step)
    return Run(state.policy, state.rollouts, state.evaluations, state.diverged)


def _advance(
    state: "State", start: Start, config: RunConfig, reward: RewardFunction | None, evaluator: Evaluator
) -> None:
    """One rollout, its updates and, where one is due, an evaluation."""
    before = state.step
    rollout = state.next_rollout(start, config, reward)
    state.rollouts.append({"step": before, **_finite(rollout_figures(config, rollout))})
    state.update(config, rollout)
    ended = state.step == config.steps
    if state.diverged is None and (ended or state.step // config.evaluate_every > before // config.evaluate_every):
        figures = _finite(evaluator.evaluate(state.policy, state.annotations))
        state.evaluations.append({"step": state.step, "sampled_tokens": state.sampled_tokens, **figures})


class State:
    """Everything that a run changes: networks, optimisers, generator, and what has been measured."""

    def __init__(self, start: Start, config: RunConfig) -> None:
        self.run = _identity(start, config)
        self.policy = copy.deepcopy(start.pi_0).requires_grad_(True)
        self.critic = Critic(start.pi_0) if config.method in CRITIC else None
        self.optimizer = _optimizer(self.policy, config)
        self.critic_optimizer = (
            None if self.critic is None else torch.optim.Adam(self.critic.parameters(), lr=1e-3, fused=True)
        )
        self.generator = torch.Generator().manual_seed(config.seed)
        self.step = 0
        self.annotations = start.comparisons.labels  # the labels behind the reward model: every method uses them
        self.sampled_tokens = 0  # during training
        self.rollouts: list[dict[str, Any]] = []
        self.evaluations: list[dict[str, Any]] = []
        self.diverged: int | None = None
        wanted, there = config.batch_prompts * config.minibatches, len(start.prompts.train)
        if wanted > there:
            raise ValueError(
                f"batch_prompts = {config.batch_prompts} times minibatches = {config.minibatches} are {wanted}"
                f" prompts a rollout, and there are {there}; pass smaller ones"
            )
        pairs = config.batch_prompts * config.num_generations // 2
        if config.method in OFFLINE and pairs > self.annotations:
            raise ValueError(
                f"batch_prompts = {config.batch_prompts} times num_generations = {config.num_generations} take {pairs}"
                f" pairs a step, and there are {self.annotations}; pass smaller ones"
            )

    def next_rollout(self, start: Start, config: RunConfig, reward: RewardFunction | None) -> Rollout:
        """Samples of `minibatches` updates, scored; for offline methods pairs, as many sequences."""
        if config.method in OFFLINE:
            count = config.batch_prompts * config.num_generations // 2
            completions = start.comparisons.pairs(self._draw(start.comparisons.labels, count))
            return make_rollout(config, start, None, completions, torch.tensor([1.0, 0.0]).repeat(count))
        rows = self._draw(len(start.prompts.train), config.batch_prompts * config.minibatches)
        prompt_ids = encode_prompts(start.task, [start.prompts.train[row] for row in rows.tolist()])
        of_pi_0, longest = config.method == "best_of_n", start.task.max_new_tokens
        sampler = start.pi_0 if of_pi_0 else self.policy
        completions, old = sample(sampler, prompt_ids, config.num_generations, longest, self.generator)
        rewards = rewards_of(start, completions, reward or config.reward)
        self.annotations += len(rewards)
        self.sampled_tokens += int(completions.mask.sum())
        return make_rollout(config, start, self.critic, completions, rewards, None if of_pi_0 else old)

    def update(self, config: RunConfig, rollout: Rollout) -> None:
        """One step of the policy, and of the critic, for every minibatch and inner epoch."""
        prompts = len(rollout.completions.prompt_ids)
        for _ in range(config.inner_epochs):
            for rows in torch.randperm(prompts, generator=self.generator).chunk(config.minibatches):
                part = rollout.minibatch(rows) if config.minibatches > 1 else rollout
                if not _finite_step(self.optimizer, method_loss(config, self.policy, part)):
                    self.diverged = self.step
                    return
                if self.critic is not None and self.critic_optimizer is not None and part.returns is not None:
                    mask = part.completions.mask
                    errors = torch.where(mask, self.critic(part.completions) - part.returns, 0.0)
                    if not _finite_step(self.critic_optimizer, (errors**2).sum() / mask.sum()):
                        self.diverged = self.step
                        return
        self.step += config.minibatches

    def save(self, path: Path) -> None:
        """Write the state to `path`, whole or not at all."""
        content = {
            "run": self.run,
            "policy": self.policy.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "critic": None if self.critic is None else self.critic.state_dict(),
            "critic_optimizer": None if self.critic_optimizer is None else self.critic_optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "measured": json.dumps({name: getattr(self, name) for name in MEASURED}),
        }
        partial = path.with_name(path.name + ".partial")
        torch.save(content, partial)
        os.replace(partial, path)

    def load(self, path: Path) -> None:
        """Go on from what `save` wrote.

        Raises:
            ValueError: it cannot be read, or is the state of a run with another configuration or another pi_0.
        """
        try:
            content = torch.load(path, weights_only=True)
            run = content["run"]
        except Exception as error:  # of torch, zipfile and pickle: they have no base in common
            raise ValueError(f"checkpoint {path} is damaged or none ({error!r:.200}); {_BEGIN_AGAIN}") from error
        if run != self.run:
            raise ValueError(
                f"checkpoint {path} is of a run with another configuration or another pi_0; {_BEGIN_AGAIN}"
            )
        try:
            self._restore(content)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise ValueError(f"checkpoint {path} lacks a part ({error!r:.200}); {_BEGIN_AGAIN}") from error

    def _restore(self, content: dict[str, Any]) -> None:
        self.policy.load_state_dict(content["policy"])
        self.optimizer.load_state_dict(content["optimizer"])
        if self.critic is not None and self.critic_optimizer is not None:
            self.critic.load_state_dict(content["critic"])
            self.critic_optimizer.load_state_dict(content["critic_optimizer"])
        self.generator.set_state(content["generator"])
        for name, value in json.loads(content["measured"]).items():
            setattr(self, name, value)

    def _draw(self, there: int, count: int) -> Tensor:
        return torch.randperm(there, generator=self.generator)[:count]


def _finite(figures: dict[str, Any]) -> dict[str, Any]:
    """The figures; those of a policy that broke are no numbers, and no result."""
    if not all(value is None or math.isfinite(value) for value in figures.values()):
        raise FloatingPointError(f"the policy's figures are not finite: {figures}")
    return figures


def _identity(start: Start, config: RunConfig) -> str:
    """Name of a run by its configuration and by the weights it starts from."""
    weights = hashlib.sha256()
    for model in (start.pi_0, start.reward_model):
        for name, tensor in model.state_dict().items():
            weights.update(name.encode() + tensor.numpy().tobytes())
    return cache.content_key({"config": cache.plain(config), "weights": weights.hexdigest()})


def _finite_step(optimizer: torch.optim.Optimizer, loss: Tensor) -> bool:
    """Take one step on `loss`, unless it or its gradient is not finite; say whether it was taken."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if not torch.isfinite(norm) or not torch.isfinite(loss):
        return False
    optimizer.step()
    return True


def _optimizer(policy: Qwen2ForCausalLM, config: RunConfig) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(policy.parameters(), lr=config.learning_rate)
    return torch.optim.Adam(policy.parameters(), lr=config.learning_rate, fused=True)
