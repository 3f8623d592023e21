"""DAR on `tiny` against its theory, as exactly as a network can follow it. Four parts, one seed, all by enumeration.

1. `one_iteration`: the enumerated loss is minimised; how near the policy comes to T3's and T4's target.
2. `iterations`: the same again and again with A fixed; how near it stays to T5's iterates and their fixed point.
3. `samples`: the loss of n samples per prompt instead of the enumerated one; the error against n.
4. `optimizers`: one gradient step an iteration, as in training, without sampling noise: what Adam does with the common
   scale of the weights.

The fits (1 to 3) use Adam from pi_t; the learning rate decays to 0 along a cosine. Unless stated otherwise, A is the
exact normalised advantage of the proxy reward. The results depend only on the start and a seed.
"""

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import Qwen2ForCausalLM

from dar_ref.optimizers import Optimizer, make_optimizer
from dar_ref.theory import exact_advantage, fixed_point, iterate, kl, regression_loss, regression_target
from dar_ref.theory.checks import Array
from dar_ref.toy.config import RunConfig
from dar_ref.toy.exact.enumerate import Tables, log_probs, response_logps, tables
from dar_ref.toy.exact.fit import enumerated_loss, fit, loss_weights
from dar_ref.toy.start import Start
from dar_ref.toy.train import train

PROMPTS = 3  # the first training prompts
MOVED = 20  # steps of ordinary training from pi_0 to the pi_t of parts 1 and 3, so that the two differ
MOVED_RATE = 1e-3  # learning rate of these steps

SETTINGS = {  # of part 1: alpha, beta, w_clip
    "the paper's, clip 20": (0.1, 0.05, 20.0),
    "no clip, beta 1": (0.1, 1.0, math.inf),
    "no clip, beta 0.05": (0.1, 0.05, math.inf),
}
FIT_STEPS = 1200

ALPHAS = {0.3: 7, 1.0: 2}  # of part 2: alpha, iterations
ITERATION_STEPS = 300

COUNTS = (100, 1_000, 10_000, 100_000)  # of part 3: samples per prompt
REPEATS = 3
CLEAR = 1.25  # an error above this many times the network's limit is clearly above it
SAMPLE_STEPS = 300

OPTIMIZER_STEPS = 40  # of part 4
RATES: dict[Optimizer, float] = {"adam": 3e-4, "sgd": 1e-3}
FACTORS = (1.0, 0.1)

Progress = Callable[[int], None]


def run(start: Start, seed: int = 0, on_step: Progress | None = None) -> dict[str, Any]:
    """All four parts.

    Args:
        start: of `tiny`.
        seed: for the samples of part 3 and the training steps that lead to pi_t.
        on_step: called with the number of gradient steps done, out of `total_steps()`.

    Returns:
        What `results.json` holds: finite numbers, and "inf" for a clip that is infinite.
    """
    table = tables(start, start.prompts.train[:PROMPTS])
    pi_t = train(start, RunConfig(steps=MOVED, learning_rate=MOVED_RATE, seed=seed)).policy.requires_grad_(True)
    steps = itertools.count(1)

    def count() -> None:
        if on_step is not None:
            on_step(next(steps))

    return {
        "seed": seed,
        "prompts": [" ".join(prompt) for prompt in start.prompts.train[:PROMPTS]],
        "responses": table.proxy.shape[1],
        "one_iteration": one_iteration(table, pi_t, FIT_STEPS, count),
        "iterations": [iterations(table, start.pi_0, alpha, n, ITERATION_STEPS, count) for alpha, n in ALPHAS.items()],
        "samples": samples(table, pi_t, seed, SAMPLE_STEPS, count),
        "optimizers": optimizers(table, start.pi_0, OPTIMIZER_STEPS, count),
    }


def total_steps() -> int:
    """Number of gradient steps of `run`."""
    fits = len(SETTINGS) * FIT_STEPS + sum(ALPHAS.values()) * ITERATION_STEPS
    return fits + (len(COUNTS) * REPEATS + 1) * SAMPLE_STEPS + 2 * len(RATES) * len(FACTORS) * OPTIMIZER_STEPS


# --- the parts --------------------------------------------------------------------------------------------------------


def one_iteration(
    table: Tables, pi_t: Qwen2ForCausalLM, steps: int, on_step: Callable[[], None] = lambda: None
) -> list[dict[str, Any]]:
    """Part 1: minimise the enumerated loss of each of `SETTINGS`, from pi_t.

    Returns:
        One row per setting. kl_before, kl_after: mean of KL(target‖pi) over prompts, nats; kl_of_prompts: each of them;
        log_mass: log E_{pi_t}[w] of each prompt; clipped: share of the samples of pi_t at the clip, expected;
        gap_residual: the largest |L(pi) - L(target) - E_{pi_t}[w] KL(target‖pi)| over prompts (T3, T4), in units of
        E_{pi_t}[w].
    """
    log_pi_t = log_probs(pi_t, table.prompt_ids)
    advantage, rows = exact_advantage(table.proxy, log_pi_t).advantage, []
    for name, (alpha, beta, w_clip) in SETTINGS.items():
        setting = (advantage, table.log_pi_0, log_pi_t, alpha, beta, w_clip)
        target = regression_target(*setting)
        weights = loss_weights(table, advantage, log_pi_t, alpha, beta, w_clip)
        log_pi = log_probs(fit(pi_t, table, weights, steps, on_step), table.prompt_ids)
        mass, after = weights.sum(axis=1), kl(target, log_pi)
        gap = regression_loss(log_pi, *setting) - regression_loss(target, *setting)
        log_weight = alpha * (table.log_pi_0 - log_pi_t) + advantage / beta
        rows.append(
            {
                "setting": name,
                "alpha": alpha,
                "beta": beta,
                "w_clip": "inf" if w_clip == math.inf else w_clip,
                "steps": steps,
                "kl_before": float(kl(target, log_pi_t).mean()),
                "kl_after": float(after.mean()),
                "kl_of_prompts": after.tolist(),
                "log_mass": np.log(mass).tolist(),
                "clipped": float((np.exp(log_pi_t) * (log_weight > math.log(w_clip))).sum(axis=1).mean()),
                "gap_residual": float(np.abs(gap / mass - after).max()),
            }
        )
    return rows


def iterations(
    table: Tables,
    pi_0: Qwen2ForCausalLM,
    alpha: float,
    count: int,
    steps: int,
    on_step: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Part 2: `count` iterations from pi_0 on the enumerated loss, without clip. A is that of pi_0 in all of them.

    Returns:
        For t = 0, 1, ..., nats, means over prompts: kl_iterate: KL(pi_t of T5‖network); kl_end: KL(pi_inf‖network);
        kl_end_exact: KL(pi_inf‖pi_t of T5).
    """
    beta, advantage = 1.0, exact_advantage(table.proxy, table.log_pi_0).advantage
    path = iterate(advantage, table.log_pi_0, alpha, beta, count)
    end = fixed_point(advantage, table.log_pi_0, alpha, beta)
    policy, log_path = pi_0, [table.log_pi_0]
    for _ in range(count):
        policy = fit(policy, table, loss_weights(table, advantage, log_path[-1], alpha, beta, math.inf), steps, on_step)
        log_path.append(log_probs(policy, table.prompt_ids))
    return {
        "alpha": alpha,
        "beta": beta,
        "steps": steps,
        "kl_iterate": kl(path, np.array(log_path)).mean(axis=1).tolist(),
        "kl_end": kl(end, np.array(log_path)).mean(axis=1).tolist(),
        "kl_end_exact": kl(end, path).mean(axis=1).tolist(),
    }


def samples(
    table: Tables,
    pi_t: Qwen2ForCausalLM,
    seed: int,
    steps: int,
    on_step: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Part 3: the loss of n samples of pi_t per prompt, `-1/n sum_i w_i log pi(y_i)`, no clip, A exact.

    Returns:
        counts: n; kl: KL(pi*‖pi) of each repeat, for each n, nats, mean over prompts; kl_enumerated: the same after a
        fit to the enumerated loss, the network's limit; tabular: `frequency_error`; slope: of log mean kl against
        log n, by least squares; slopes: between neighbouring n; above_limit: mean kl minus kl_enumerated, None unless
        mean kl is above `CLEAR` times the limit; slope_above_limit: slope of its log, None for fewer than two values.
    """
    alpha, beta, log_pi_t = 0.1, 1.0, log_probs(pi_t, table.prompt_ids)
    advantage = exact_advantage(table.proxy, log_pi_t).advantage
    target = regression_target(advantage, table.log_pi_0, log_pi_t, alpha, beta)
    weights = loss_weights(table, advantage, log_pi_t, alpha, beta, math.inf)
    chances = np.exp(log_pi_t)
    chances /= chances.sum(axis=1, keepdims=True)

    def error(weights: Array) -> float:
        return float(kl(target, log_probs(fit(pi_t, table, weights, steps, on_step), table.prompt_ids)).mean())

    errors = []
    for n in COUNTS:
        rng = np.random.default_rng([seed, n])
        drawn = [np.stack([rng.multinomial(n, row) for row in chances]) for _ in range(REPEATS)]
        errors.append([error(weights / chances * counts / n) for counts in drawn])
    means, log_n, limit = np.mean(errors, axis=1), np.log(COUNTS), error(weights)
    above = means > CLEAR * limit
    slope_above = np.polyfit(log_n[above], np.log(means[above] - limit), 1)[0] if above.sum() > 1 else None
    return {
        "alpha": alpha,
        "beta": beta,
        "steps": steps,
        "counts": list(COUNTS),
        "kl": errors,
        "kl_enumerated": limit,
        "tabular": [frequency_error(target, chances, n) for n in COUNTS],
        "slope": float(np.polyfit(log_n, np.log(means), 1)[0]),
        "slopes": (np.diff(np.log(means)) / np.diff(log_n)).tolist(),
        "above_limit": [float(mean - limit) if clear else None for mean, clear in zip(means, above, strict=True)],
        "slope_above_limit": None if slope_above is None else float(slope_above),
    }


def frequency_error(log_target: Array, pi_t: Array, n: int) -> float:
    """Expected KL(pi*‖weighted frequencies of n samples) to first order in 1/n: the error without a network.

        E[KL(pi*‖pi)] = sum_y pi*(y) (1 - pi*(y)) / pi_t(y) / (2n),   mean over prompts

    Both policies are (N, R); the result is in nats. For small n the true error is infinite: a response that was not
    sampled has frequency 0.
    """
    chance = np.exp(log_target)
    return float((chance * (1.0 - chance) / pi_t).sum(axis=1).mean() / (2 * n))


def optimizers(
    table: Tables, pi_0: Qwen2ForCausalLM, steps: int, on_step: Callable[[], None] = lambda: None
) -> list[dict[str, Any]]:
    """Part 4: single steps on the enumerated loss. pi_t is the policy before each step; A and the weights follow it.

    The paper's beta and clip; alpha 0.1 and 1; Adam and SGD; the weights unchanged, and multiplied by 0.1.

    Returns:
        One row per run: kl: KL(pi‖pi_0) after each step, nats, first 0; weight: E_{pi_t}[w] at each step, as it is;
        both means over prompts.
    """
    return [
        _on_policy(table, pi_0, optimizer, alpha, factor, steps, on_step)
        for optimizer in RATES
        for factor in FACTORS
        for alpha in (0.1, 1.0)
    ]


def _on_policy(
    table: Tables,
    pi_0: Qwen2ForCausalLM,
    optimizer: Optimizer,
    alpha: float,
    factor: float,
    steps: int,
    on_step: Callable[[], None],
) -> dict[str, Any]:
    policy = copy.deepcopy(pi_0).requires_grad_(True)
    stepper = make_optimizer(optimizer, policy.parameters(), RATES[optimizer])
    distances, scales = [0.0], []
    for _ in range(steps):
        logps = response_logps(policy, table.prompt_ids)
        log_pi_t = logps.detach().numpy()
        advantage = exact_advantage(table.proxy, log_pi_t).advantage
        weights = loss_weights(table, advantage, log_pi_t, alpha, 0.05, 20.0)
        scales.append(float(weights.sum(axis=1).mean()))
        stepper.zero_grad()
        torch.autograd.backward(enumerated_loss(logps, factor * weights))
        stepper.step()
        distances.append(float(kl(log_probs(policy, table.prompt_ids), table.log_pi_0).mean()))
        on_step()
    return {
        "optimizer": optimizer,
        "learning_rate": RATES[optimizer],
        "alpha": alpha,
        "factor": factor,
        "kl": distances,
        "weight": scales,
    }
