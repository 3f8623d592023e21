"""The task `tiny` by enumeration: the probability of every response, hence every metric of a policy as a finite sum.

The responses are all results of sampling: some words and EOS, or `max_new_tokens` words without EOS. With `W` words
there are `1 + W + ... + W^(T-1)` of the first kind and `W^T` of the second, together 1365 on `tiny`. The network reads
the tree of their prefixes, each node once.

All metrics are float64. Logits are those of the policy; the softmax over them is taken in float64, so that the
probabilities of all responses sum to 1 to the last digits, with a float32 policy too.

Shape letters: `N` prompts of `P` tokens, `R` responses, `T` tokens of the longest.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import Qwen2ForCausalLM

from dar_ref.theory import exact_advantage, kl, objective, optimum, regression_target
from dar_ref.theory.checks import Array
from dar_ref.toy.config import Baseline, Reward, RunConfig
from dar_ref.toy.policy import EOS_ID, Completions, block, encode, encode_prompts, pack, repeat
from dar_ref.toy.rewards import rewards_of
from dar_ref.toy.start import Start
from dar_ref.toy.tasks import TINY, Task

MOST = 100_000  # the largest number of responses that is enumerated


class Tables(NamedTuple):
    """What training does not change: both rewards and pi_0, for N prompts and R responses.

    prompt_ids: (N, P); proxy, gold, log_pi_0: (N, R) float64; length: (R,) tokens, EOS included; finished: (R,) bool.
    """

    prompt_ids: Tensor
    proxy: Array
    gold: Array
    log_pi_0: Array
    length: Array
    finished: NDArray[np.bool_]


class ExactMetrics(NamedTuple):
    """One update from pi_t to pi, exactly; each metric a mean over prompts.

    J uses the exact advantage under pi_t. `pi*` is the optimum of J, `pi'` the target of the clipped regression.
    """

    proxy: float  # E_pi[proxy reward]
    gold: float  # E_pi[gold reward]
    kl_to_pi_0: float  # KL(pi‖pi_0), nats
    kl_to_pi_t: float  # KL(pi‖pi_t), nats
    objective: float  # J(pi)
    objective_optimum: float  # J(pi*)
    kl_optimum_to_pi: float  # KL(pi*‖pi), nats
    kl_target_to_pi: float  # KL(pi'‖pi), nats
    missing_eos: float  # chance of a response that is cut off
    length: float  # E_pi[tokens, EOS included]


def responses(task: Task) -> tuple[list[list[str]], list[bool]]:
    """Every response in words, and whether it ends by itself, in the order of `response_logps`.

    Raises:
        ValueError: there are more than `MOST`.

    >>> words, finished = responses(TINY)
    >>> len(words), words[1], words[-1], sum(finished)
    (1365, ['a'], ['d', 'd', 'd', 'd', 'd'], 341)
    """
    words, longest = task.vocabulary[1:], task.max_new_tokens
    count = sum(len(words) ** length for length in range(longest + 1))
    if count > MOST:
        raise ValueError(f"{task.name} has {count} responses, more than the {MOST} that are enumerated; use 'tiny'")
    rows = [list(row) for length in range(longest + 1) for row in itertools.product(words, repeat=length)]
    return rows, [len(row) < longest for row in rows]


def response_logps(policy: Qwen2ForCausalLM, prompt_ids: Tensor, max_new_tokens: int = TINY.max_new_tokens) -> Tensor:
    """log pi(y | x) of every response y, with gradient, by one forward pass over the tree of prefixes.

    Args:
        policy: of any dtype; the softmax is float64.
        prompt_ids: (N, P).
        max_new_tokens: T.

    Returns:
        (N, R) float64. First the finished responses by length, within a length in the order of the token ids; then the
        responses that are cut off.
    """
    layers, count = pack(policy.model), len(prompt_ids)
    words = torch.tensor([i for i in range(policy.config.vocab_size) if i != EOS_ID])
    states, cache = block(policy.model, layers, prompt_ids, [])
    before = torch.zeros(count, 1, dtype=torch.float64)  # log-probs of all prefixes of one length, (N, W^length)
    ended = []
    for left in reversed(range(max_new_tokens)):
        following = policy.lm_head(states[:, -1]).double().log_softmax(dim=-1)
        longer = before[..., None] + following.view(count, before.shape[1], -1)  # (N, W^length, V)
        ended.append(longer[..., EOS_ID])
        before = longer[..., words].flatten(1)
        if left:
            states, cache = repeat(states, cache, len(words))
            states, cache = block(policy.model, layers, words.repeat(len(states) // len(words))[:, None], cache)
    return torch.cat([*ended, before], dim=1)


@torch.no_grad()
def log_probs(policy: Qwen2ForCausalLM, prompt_ids: Tensor, max_new_tokens: int = TINY.max_new_tokens) -> Array:
    """`response_logps` without gradient, as an array (N, R)."""
    return response_logps(policy, prompt_ids, max_new_tokens).numpy()


def all_completions(task: Task, prompts: Sequence[Sequence[str]]) -> Completions:
    """Every response to every prompt as `Completions`, R per prompt."""
    words, finished = responses(task)
    return encode(task, prompts, words * len(prompts), finished * len(prompts))


def rewards(
    start: Start, prompts: Sequence[Sequence[str]], reward: Reward, proxy_quality: float | None = None
) -> Array:
    """Reward of every response to every prompt, (N, R) float64; see `rewards_of`."""
    values = rewards_of(start, all_completions(start.task, prompts), reward, proxy_quality)
    return values.double().view(len(prompts), -1).numpy()


def tables(start: Start, prompts: Sequence[Sequence[str]]) -> Tables:
    """Both rewards and pi_0 on `prompts`, enumerated.

    Raises:
        ValueError: the task has too many responses.
    """
    words, finished = responses(start.task)
    prompt_ids = encode_prompts(start.task, prompts)
    return Tables(
        prompt_ids=prompt_ids,
        proxy=rewards(start, prompts, "proxy"),
        gold=rewards(start, prompts, "gold"),
        log_pi_0=log_probs(start.pi_0, prompt_ids, start.task.max_new_tokens),
        length=np.array([len(row) + ended for row, ended in zip(words, finished, strict=True)], dtype=float),
        finished=np.array(finished),
    )


def exact_metrics(
    table: Tables, log_pi: Array, log_pi_t: Array, config: RunConfig, trained: Array | None = None
) -> ExactMetrics:
    """Every metric of the update from pi_t to pi.

    Args:
        table: rewards and pi_0.
        log_pi: the policy after the update, (N, R).
        log_pi_t: the policy before the update, which was sampled, (N, R).
        config: alpha, beta, w_clip and the baseline of the advantage. Other methods, and zero-sum weights, do not
            optimise J or aim at DAR's clipped target; for them these numbers only serve for comparison.
        trained: the reward of training, (N, R); None for gold or the proxy, as `config.reward` says.

    Returns:
        `ExactMetrics`, means over the N prompts.
    """
    if trained is None:
        trained = table.gold if config.reward == "gold" else table.proxy
    advantage = _advantage(trained, log_pi_t, config.baseline)
    setting = (advantage, table.log_pi_0, log_pi_t, config.alpha, config.beta)
    best, target, pi = optimum(*setting), regression_target(*setting, w_clip=config.w_clip), np.exp(log_pi)
    return ExactMetrics(
        proxy=float((pi * table.proxy).sum(axis=1).mean()),
        gold=float((pi * table.gold).sum(axis=1).mean()),
        kl_to_pi_0=float(kl(log_pi, table.log_pi_0).mean()),
        kl_to_pi_t=float(kl(log_pi, log_pi_t).mean()),
        objective=float(objective(log_pi, *setting).mean()),
        objective_optimum=float(best.value.mean()),
        kl_optimum_to_pi=float(kl(best.log_pi, log_pi).mean()),
        kl_target_to_pi=float(kl(target, log_pi).mean()),
        missing_eos=float(pi[:, ~table.finished].sum(axis=1).mean()),
        length=float((pi @ table.length).mean()),
    )


def _advantage(reward: Array, log_pi_t: Array, baseline: Baseline) -> Array:
    """The advantage (N, R) that samples of `pi_t` estimate. With the batch's mean as baseline all prompts are one."""
    if baseline == "group":
        return exact_advantage(reward, log_pi_t).advantage
    of_all = log_pi_t.reshape(1, -1) - np.log(len(log_pi_t))
    return exact_advantage(reward.reshape(1, -1), of_all).advantage.reshape(reward.shape)


def exact_observer(
    start: Start, config: RunConfig, prompts: Sequence[Sequence[str]] | None = None
) -> Callable[[Qwen2ForCausalLM, Qwen2ForCausalLM, RunConfig], dict[str, Any]]:
    """An observer for `train.train` that measures updates exactly: it returns the fields of `ExactMetrics`.

    Args:
        start: of a task that enumerates.
        config: of the run.
        prompts: to take means over; None for those that `train` evaluates on.

    Raises:
        ValueError: a task whose responses are too many.
    """
    prompts = getattr(start.prompts, config.evaluate_on) if prompts is None else prompts
    table, trained = tables(start, prompts), rewards(start, prompts, config.reward, config.proxy_quality)

    def observe(pi_t: Qwen2ForCausalLM, pi: Qwen2ForCausalLM, used: RunConfig) -> dict[str, Any]:
        log_pi_t, log_pi = (log_probs(p, table.prompt_ids, start.task.max_new_tokens) for p in (pi_t, pi))
        return exact_metrics(table, log_pi, log_pi_t, used, trained)._asdict()

    return observe
