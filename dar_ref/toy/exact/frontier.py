"""The highest reward that a policy can have at each KL to pi_0, by enumeration. No method on `tiny` can pass it.

By T7 with only the constraint on pi_0, the best policy within `mean KL(pi‖pi_0) <= eps` is `pi_0 exp(r / lambda)`,
normalised per prompt, with one multiplier lambda for all prompts. A sweep over lambda gives the frontier.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import Qwen2ForCausalLM

from dar_ref.theory import kl, optimum
from dar_ref.theory.checks import Array
from dar_ref.toy.exact.enumerate import Tables, log_probs, tables
from dar_ref.toy.start import Start

MULTIPLIERS = tuple(np.geomspace(100.0, 0.02, 41).tolist())  # lambda, in units of the reward per nat


def frontier(table: Tables, reward: Array) -> dict[str, list[float]]:
    """`{"kl", "reward"}`: mean KL(pi‖pi_0) and mean reward of pi_0, and of the best policy at each of `MULTIPLIERS`.

    Args:
        table: pi_0, enumerated.
        reward: (N, R), the reward to maximise.
    """
    pi_0 = table.log_pi_0
    best = [pi_0, *(optimum(reward, pi_0, pi_0, 1.0, multiplier).log_pi for multiplier in MULTIPLIERS)]
    return {
        "kl": [float(kl(log_pi, pi_0).mean()) for log_pi in best],
        "reward": [float((np.exp(log_pi) * reward).sum(axis=1).mean()) for log_pi in best],
    }


def exact_end(start: Start, policy: Qwen2ForCausalLM, prompts: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Exact metrics of a trained policy, and the frontiers to compare them with.

    Returns:
        `metrics`: proxy, gold, kl, missing_eos, length, exact in place of their estimates; `frontier`: of each reward.

    Raises:
        ValueError: the task has too many responses.
    """
    table = tables(start, prompts)
    log_pi = log_probs(policy, table.prompt_ids, start.task.max_new_tokens)
    pi = np.exp(log_pi)
    metrics = {
        "proxy": float((pi * table.proxy).sum(axis=1).mean()),
        "gold": float((pi * table.gold).sum(axis=1).mean()),
        "kl": float(kl(log_pi, table.log_pi_0).mean()),
        "missing_eos": float(pi[:, ~table.finished].sum(axis=1).mean()),
        "length": float((pi @ table.length).mean()),
    }
    rewards = {"proxy": table.proxy, "gold": table.gold}
    return {"metrics": metrics, "frontier": {name: frontier(table, reward) for name, reward in rewards.items()}}
