"""The training loop that all methods share: sample, score, update, measure. Read this file first, then `methods`.

Where it differs from the paper's training of a 7B model:

1. The policy is a two-layer Qwen2 with a vocabulary of a few dozen words. All weights are trained, in float32, without
   gradient clipping.
2. pi_t is not a copy of the network. Its log-probs are stored when the tokens are sampled; nothing else is needed.
3. The reward model is trained on labels of simulated annotators with a known flaw. The gold reward is known.
4. The learning rate is constant, without warm-up.

A run depends only on its start and its configuration. Its random numbers come from one generator, and its state is
saved every `SAVE_EVERY` rollouts. So a run that was killed can be resumed, and ends with the same bytes.
"""

import contextlib
import copy
import hashlib
import inspect
import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import Qwen2ForCausalLM

from dar_ref import results
from dar_ref.losses import sequence_logps
from dar_ref.optimizers import make_optimizer
from dar_ref.toy import cache
from dar_ref.toy.budgets import multipliers, next_anchor
from dar_ref.toy.config import CRITIC, OFFLINE, RunConfig
from dar_ref.toy.critic import Critic
from dar_ref.toy.measure import Evaluator, rollout_metrics
from dar_ref.toy.methods import Rollout, make_rollout, method_loss
from dar_ref.toy.null_space import NullSpace
from dar_ref.toy.policy import encode_prompts
from dar_ref.toy.rewards import RewardFunction, rewards_of
from dar_ref.toy.sampling import sample
from dar_ref.toy.start import Start
from dar_ref.toy.tasks import Task

CRITIC_RATE = 1e-3  # learning rate of the critic's Adam
SAVE_EVERY = 20  # rollouts
_BEGIN_AGAIN = "pass another file, or delete this one to start again"
MEASURED = ("step", "annotations", "sampled_tokens", "rollouts", "evaluations", "observations", "diverged", "anchor")
"""Fields of `State` that a checkpoint holds as JSON."""

Observer = Callable[[Qwen2ForCausalLM, Qwen2ForCausalLM, RunConfig], dict[str, Any]]
"""Called with pi_t, which sampled a rollout, and pi, the policy after its updates; returns metrics."""


class Run(NamedTuple):
    """A finished run.

    policy: the trained policy; rollouts: metrics of each rollout (`measure.rollout_metrics`); evaluations: metrics on
    held-out prompts (`measure.Evaluator`), the first of pi_0; diverged: the first step of the rollout in which a loss,
    its gradient or the policy's probabilities were not finite, or the step whose evaluation was not, and training
    stopped; None where it ran to its end;
    observations: what the observer returned at each evaluation, empty without one.
    """

    policy: Qwen2ForCausalLM
    rollouts: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]
    diverged: int | None
    observations: list[dict[str, Any]]


def train(
    start: Start,
    config: RunConfig,
    checkpoint: Path | None = None,
    reward: RewardFunction | None = None,
    on_step: Callable[[int], None] | None = None,
    observer: Observer | None = None,
) -> Run:
    """Train a copy of `pi_0`.

    Args:
        start: pi_0, prompts, pairs and rewards.
        config: method and options.
        checkpoint: file to save the state to, and to go on from if it is there; the caller removes it. None saves
            nothing.
        reward: a reward of the reader's own in place of `config.reward`, see `rewards.rewards_of`.
        on_step: called with the number of steps done, for progress bars.
        observer: called where the policy is evaluated, with the policy before and after the updates of a rollout and
            the options of these updates (budgets give alpha and beta anew); at the start with pi_0 twice. What it
            returns (JSON) is kept in `Run.observations`, `step` added.

    Returns:
        `Run`.

    Raises:
        ValueError: more prompts or pairs per rollout than there are, a checkpoint of another run, or a reward that is
            missing or not finite.
        OSError: the checkpoint cannot be written.
    """
    state = State(start, config, reward)
    if checkpoint is not None and checkpoint.exists():
        state.load(checkpoint)
    evaluator = Evaluator(start, getattr(start.prompts, config.evaluate_on), config.evaluation_samples)
    if not state.evaluations:
        state.evaluations.append({"step": 0, "sampled_tokens": 0, **evaluator.evaluate(state.policy, 0)})
        if observer is not None:
            state.observations.append({"step": 0, **observer(state.policy, state.policy, config)})
    while state.step < config.steps and state.diverged is None:
        try:
            _advance(state, start, config, reward, evaluator, observer)
        except FloatingPointError:
            state.diverged = state.step
        if checkpoint is not None and len(state.rollouts) % SAVE_EVERY == 0:
            state.save(checkpoint)
        if on_step is not None:
            on_step(state.step)
    return Run(state.policy, state.rollouts, state.evaluations, state.diverged, state.observations)


def _advance(
    state: "State",
    start: Start,
    config: RunConfig,
    reward: RewardFunction | None,
    evaluator: Evaluator,
    observer: Observer | None,
) -> None:
    """One rollout, its updates and, where one is due, an evaluation."""
    before, after = state.step, state.step + config.minibatches
    due = after == config.steps or after // config.evaluate_every > before // config.evaluate_every
    pi_t = copy.deepcopy(state.policy) if due and observer is not None else None
    rollout = state.next_rollout(start, config, reward)
    config, solved = state.within_budgets(config, rollout)
    state.rollouts.append({"step": before, **_finite(rollout_metrics(config, rollout)), **solved})
    state.update(config, rollout)
    if not due or state.diverged is not None:
        return
    metrics = _finite(evaluator.evaluate(state.policy, state.annotations))
    state.evaluations.append({"step": after, "sampled_tokens": state.sampled_tokens, **metrics})
    if observer is not None and pi_t is not None:
        state.observations.append({"step": after, **observer(pi_t, state.policy, config)})


def trained_part(task: Task, config: RunConfig) -> str | None:
    """The last word of the prompts that `config` trains on; None for all prompts.

    Raises:
        ValueError: the task has no such part.
    """
    if not config.train_on:
        return None
    for marker, part in task.parts.items():
        if part.name == config.train_on:
            return marker
    raise ValueError(
        f"train_on = {config.train_on!r}: {task.name} has no such part; pass it with the task mixed, or leave it out"
    )


class State:
    """Everything that a run changes: networks, optimisers, random generator and measurements."""

    def __init__(self, start: Start, config: RunConfig, reward: RewardFunction | None = None) -> None:
        self.run = _identity(start, config, reward)
        self.policy = copy.deepcopy(start.pi_0).requires_grad_(True)
        self.critic = Critic(start.pi_0) if config.method in CRITIC else None
        self.optimizer = make_optimizer(config.optimizer, self.policy.parameters(), config.learning_rate, fused=True)
        self.critic_optimizer = (
            None if self.critic is None else make_optimizer("adam", self.critic.parameters(), CRITIC_RATE, fused=True)
        )
        self.generator = torch.Generator().manual_seed(config.seed)
        self.step = 0
        # The labels of pi_0's completions count for every method, also where no reward model that learned from them is
        # used: runs with different rewards then have one scale.
        self.annotations = start.comparisons.labels
        self.sampled_tokens = 0  # in training; evaluations do not count
        self.rollouts: list[dict[str, Any]] = []
        self.evaluations: list[dict[str, Any]] = []
        self.observations: list[dict[str, Any]] = []
        self.diverged: int | None = None
        self.anchor = 1.0  # see `budgets`
        marker = trained_part(start.task, config)
        self.prompts = [prompt for prompt in start.prompts.train if marker in (None, prompt[-1])]
        self.guard = None if config.null_space is None else NullSpace(start, config.train_on, config.null_space)
        wanted, there = config.batch_prompts * config.minibatches, len(self.prompts)
        if wanted > there:
            raise ValueError(
                f"batch_prompts = {config.batch_prompts} in each of the {config.minibatches} minibatches of a rollout"
                f" make {wanted} prompts, and there are {there}; lower batch_prompts or updates_per_rollout"
            )
        pairs = config.batch_prompts * config.num_generations // 2
        if config.method in OFFLINE and pairs > self.annotations:
            raise ValueError(
                f"batch_prompts = {config.batch_prompts} times num_generations = {config.num_generations} take {pairs}"
                f" pairs per step, and there are {self.annotations}; pass smaller ones"
            )

    def next_rollout(self, start: Start, config: RunConfig, reward: RewardFunction | None) -> Rollout:
        """Samples for all minibatches of a rollout, scored; for offline methods pairs, as many sequences."""
        if config.method in OFFLINE:
            count = config.batch_prompts * config.num_generations // 2
            # Chosen and rejected alternate, so the rewards 1, 0, 1, 0, ... say which one is preferred.
            completions = start.comparisons.pairs(self._draw(start.comparisons.labels, count))
            return make_rollout(config, start, None, completions, torch.tensor([1.0, 0.0]).repeat(count))
        rows = self._draw(len(self.prompts), config.batch_prompts * config.minibatches)
        prompt_ids = encode_prompts(start.task, [self.prompts[row] for row in rows.tolist()])  # (N, P)
        of_pi_0, longest = config.method == "best_of_n", start.task.max_new_tokens
        sampler = start.pi_0 if of_pi_0 else self.policy
        completions, old = sample(sampler, prompt_ids, config.num_generations, longest, self.generator)
        rewards = rewards_of(start, completions, reward or config.reward, config.proxy_quality)  # (B,)
        self.annotations += len(rewards)
        self.sampled_tokens += int(completions.mask.sum())
        return make_rollout(config, start, self.critic, completions, rewards, None if of_pi_0 else old)

    def within_budgets(self, config: RunConfig, rollout: Rollout) -> tuple[RunConfig, dict[str, float]]:
        """The configuration with the alpha and beta that spend its budgets on this rollout, and both with the margin as
        metrics; without budgets, the configuration and no metrics."""
        if config.eps_0 is None or config.eps_t is None:
            return config, {}
        mask = rollout.completions.mask
        ref, old = (sequence_logps(x, mask) for x in (rollout.ref_per_token_logps, rollout.old_per_token_logps))  # (B,)
        shape = (-1, config.num_generations)
        advantage, log_ratio = (x.double().view(shape).numpy() for x in (rollout.advantages, ref - old))  # (N, K)
        self.anchor = next_anchor(self.anchor, -float(log_ratio.mean()), config.eps_0)
        solved = multipliers(advantage, log_ratio, config.eps_0, config.eps_t, self.anchor)
        return replace(config, alpha=solved.alpha, beta=solved.beta, eps_0=None, eps_t=None), solved._asdict()

    def update(self, config: RunConfig, rollout: Rollout) -> None:
        """One step of the policy, and of the critic, on every minibatch in every epoch."""
        prompts = len(rollout.completions.prompt_ids)
        for _ in range(config.epochs_per_rollout):
            for rows in torch.randperm(prompts, generator=self.generator).chunk(config.minibatches):
                part = rollout.minibatch(rows) if config.minibatches > 1 else rollout
                if not _finite_step(self.optimizer, method_loss(config, self.policy, part)):
                    self.diverged = self.step
                    return
                if self.guard is not None:
                    self.guard.project(self.policy)
                if self.critic is not None and self.critic_optimizer is not None and part.returns is not None:
                    mask = part.completions.mask
                    errors = torch.where(mask, self.critic(part.completions) - part.returns, 0.0)  # (B, T)
                    if not _finite_step(self.critic_optimizer, (errors**2).sum() / mask.sum()):
                        self.diverged = self.step
                        return
        self.step += config.minibatches

    def save(self, path: Path) -> None:
        """Write the state to `path`. A killed process leaves the old file, never half a new one.

        Raises:
            OSError: it cannot be written.
        """
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
        try:
            torch.save(content, partial)
        except RuntimeError as error:  # of torch's writer, which has no other for a full disk
            raise OSError(
                f"{path} cannot be written ({str(error).splitlines()[0]:.100}); make room, and the same command goes on"
                " from the state before"
            ) from error
        os.replace(partial, path)

    def load(self, path: Path) -> None:
        """Resume from what `save` wrote.

        Raises:
            ValueError: it cannot be read, or belongs to a run with another configuration or another start.
        """
        try:
            content = torch.load(path, weights_only=True)
            run = content["run"]
        except Exception as error:  # of torch, zipfile and pickle: they have no base in common
            raise ValueError(f"checkpoint {path} is damaged or none ({error!r:.200}); {_BEGIN_AGAIN}") from error
        if run != self.run:
            raise ValueError(
                f"checkpoint {path} belongs to a run with another configuration, start, arithmetic (--portable) or"
                f" version of the libraries; {_BEGIN_AGAIN}"
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


def _finite(metrics: dict[str, Any]) -> dict[str, Any]:
    """The metrics, or FloatingPointError if one is not finite: then the policy is broken, and training has diverged."""
    if not all(value is None or math.isfinite(value) for value in metrics.values()):
        raise FloatingPointError(f"the policy's metrics are not finite: {metrics}")
    return metrics


def _identity(start: Start, config: RunConfig, reward: RewardFunction | None) -> str:
    """Hash of a run's configuration, of the weights it starts from, and of the source of a reward of the reader's own
    (not of what that calls)."""
    weights = hashlib.sha256()
    for model in (start.pi_0, start.reward_model):
        for name, tensor in model.state_dict().items():
            weights.update(name.encode() + tensor.numpy().tobytes())
    source = None
    if reward is not None:
        with contextlib.suppress(OSError, TypeError):  # typed into a shell, or no function
            source = inspect.getsource(reward)
        source = source or getattr(reward, "__qualname__", type(reward).__qualname__)
    return cache.content_key({"config": results.plain(config), "weights": weights.hexdigest(), "reward": source})


def _finite_step(optimizer: torch.optim.Optimizer, loss: Tensor) -> bool:
    """Take one step on `loss` if it and its gradient are finite. Return whether the step was taken."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if not torch.isfinite(norm) or not torch.isfinite(loss):
        return False
    optimizer.step()
    return True
