"""The updates of T8 in ball arithmetic, over every **ordered** batch, to test the enumeration of the theory.

`dar_ref.theory.batches` enumerates count vectors with multinomial probabilities. Here each of the A^(N K) ordered
batches is one term, with its advantages computed sample by sample. Each value has the scale of its float64 error.

Shapes: `N` prompts, `K` completions per prompt, `A` arms, `S` ordered batches.
"""

import math
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
from flint import arb, arb_mat

from dar_ref.theory.batches import Baseline, Normalize
from dar_ref.theory.checks import Array
from dar_ref.verify.arb.policies import Exact, Policy, exact_policy
from dar_ref.verify.random_bandits import Case


class EstimatorCase(NamedTuple):
    """A case of T8: N bandits and all options of the updates. Reward and policies are (N, A), policies log."""

    reward: Array
    log_pi_theta: Array
    log_pi_0: Array
    log_pi_t: Array
    num_generations: int
    alpha: float
    beta: float
    w_clip: float | None
    epsilon: float
    baseline: Baseline
    normalize: Normalize

    def bandits(self) -> Iterator[Exact]:
        """Its N bandits in ball arithmetic, with the reward as advantage; no clip is an infinite one."""
        w_clip = math.inf if self.w_clip is None else self.w_clip
        for reward, *log_policies in zip(self.reward, self.log_pi_theta, self.log_pi_0, self.log_pi_t, strict=True):
            log_pi_theta, log_pi_0, log_pi_t = log_policies
            yield Exact.of(Case(log_pi_theta, reward, log_pi_0, log_pi_t, self.alpha, self.beta, w_clip))


class ExactMoments(NamedTuple):
    """Mean (N*A,) and covariance (N*A, N*A) as balls, each with the scale (same shape) of its float64 error."""

    mean: list[arb]
    covariance: list[list[arb]]
    mean_scale: Array
    covariance_scale: Array


def ordered_batches(log_pi_t: list[Policy], num_generations: int) -> Iterator[tuple[arb, list[tuple[int, ...]]]]:
    """Every ordered batch: its probability, and the drawn arms (N, K)."""
    groups = []
    for row in log_pi_t:
        p = {arm: log_p.exp() for arm, log_p in enumerate(row) if log_p is not None}
        groups.append(list(product(p.items(), repeat=num_generations)))
    for batch in product(*groups):
        probability = arb(1)
        for group in batch:
            for _, p_arm in group:
                probability *= p_arm
        yield probability, [tuple(arm for arm, _ in group) for group in batch]


def sampled_advantages(rewards: list[list[arb]], baseline: str, normalize: str) -> list[list[arb]]:
    """Advantages (N, K) of drawn rewards (N, K): minus the mean of the group or of the others, divided by the std.

    A deviation counts as zero if its ball contains 0. Rewards are float64 numbers, so at `JUDGE_BITS` bits this happens
    only for equal rewards.
    """
    advantage = [_less_baseline(group, baseline) for group in rewards]
    if normalize == "none":
        return advantage
    if normalize == "batch":
        flat = _over_std([a for group in advantage for a in group])
        size = len(advantage[0])
        return [flat[start : start + size] for start in range(0, len(flat), size)]
    return [_over_std(group) for group in advantage]


def _less_baseline(group: list[arb], baseline: str) -> list[arb]:
    if baseline == "none":
        return group
    if baseline == "group":
        mean = sum(group, arb(0)) / len(group)
        return [r - mean for r in group]
    others = [group[:i] + group[i + 1 :] for i in range(len(group))]
    return [r - sum(rest, arb(0)) / len(rest) for r, rest in zip(group, others, strict=True)]


def _over_std(values: list[arb]) -> list[arb]:
    mean = sum(values, arb(0)) / len(values)
    deviations = [a - mean for a in values]
    if all(d.contains(0) for d in deviations):
        return [arb(0)] * len(values)
    std = (sum((d * d for d in deviations), arb(0)) / len(values)).sqrt()
    return [a / std for a in values]


class Updates:
    """The four updates `1/(N K) sum_i c_i (e_{y_i} - pi_theta)` on one case; create it at `JUDGE_BITS` bits."""

    def __init__(self, case: EstimatorCase) -> None:
        self.case = case
        self.alpha, self.beta = arb(case.alpha), arb(case.beta)
        self.theta, self.zero, self.sampler = (
            [exact_policy(row) for row in rows] for rows in (case.log_pi_theta, case.log_pi_0, case.log_pi_t)
        )
        self.reward = [[arb(float(r)) for r in row] for row in case.reward]
        self.mean_weight: arb | None = None  # E[w], once zero-sum weights ask for it

    def moments(self, method: str) -> ExactMoments:
        """Mean and covariance over all ordered batches.

        Scales: a batch's probability and a coefficient are exponentials of logs. So the error of each is proportional
        to these logs and to the magnitude M of its terms. Let E = M (1 + logs), summed over the batch. The scale of the
        mean is the expectation of E. The scale of the covariance is that of `E_a M_b + M_a E_b`, for the deviations.
        """
        if method == "zero_sum":
            self.mean_weight = self._mean_weight()
        samples = [self._sample(method, *batch) for batch in ordered_batches(self.sampler, self.case.num_generations)]
        weights = [p for p, _, _, _ in samples]
        size = self.case.reward.size
        update = arb_mat(len(samples), size, [u for _, row, _, _ in samples for u in row])
        mean = (arb_mat(1, len(samples), weights) * update).entries()
        spread = arb_mat(
            len(samples), size, [u - m for _, row, _, _ in samples for u, m in zip(row, mean, strict=True)]
        )
        weighted = arb_mat(
            len(samples),
            size,
            [p * (u - m) for p, row, _, _ in samples for u, m in zip(row, mean, strict=True)],
        )
        covariance = (weighted.transpose() * spread).entries()
        p = np.array([float(w) for w in weights])
        magnitude, error = np.array([m for _, _, m, _ in samples]), np.array([e for _, _, _, e in samples])
        mean_scale = p @ error
        cross = ((error + mean_scale) * p[:, None]).T @ (magnitude + p @ magnitude)
        rows = [covariance[start : start + size] for start in range(0, size * size, size)]
        return ExactMoments(mean, rows, mean_scale, cross + cross.T)

    def _mean_weight(self) -> arb:
        """E[w] over all batches, prompts and completions."""
        total = arb(0)
        for probability, arms in ordered_batches(self.sampler, self.case.num_generations):
            rewards = [[self.reward[n][y] for y in group] for n, group in enumerate(arms)]
            advantage = sampled_advantages(rewards, self.case.baseline, self.case.normalize)
            weights = [
                self._coefficient("dar", n, y, a)[0]
                for n, group in enumerate(arms)
                for y, a in zip(group, advantage[n], strict=True)
            ]
            total += probability * sum(weights, arb(0)) / len(weights)
        return total

    def _sample(
        self, method: str, probability: arb, arms: list[tuple[int, ...]]
    ) -> tuple[arb, list[arb], list[float], list[float]]:
        """Probability, update (N*A,), and the magnitude and error scale of each entry."""
        penalised = method == "rloo"
        rewards = [[self._reward(n, y, penalised) for y in group] for n, group in enumerate(arms)]
        advantage = sampled_advantages(rewards, self.case.baseline, self.case.normalize)
        log_draws = sum(_log_size(self.sampler[n][y]) for n, group in enumerate(arms) for y in group)
        count = len(arms) * len(arms[0])
        update: list[arb] = []
        magnitudes: list[float] = []
        errors: list[float] = []
        for n, group in enumerate(arms):
            terms = [self._coefficient(method, n, y, a) for y, a in zip(group, advantage[n], strict=True)]
            for arm, log_pi in enumerate(self.theta[n]):
                pi = arb(0) if log_pi is None else log_pi.exp()
                pulls = [float(pi) + (y == arm) for y in group]
                entry = sum((c * ((y == arm) - pi) for (c, _, _), y in zip(terms, group, strict=True)), arb(0))
                update.append(entry / count)
                magnitudes.append(sum(m * d for (_, m, _), d in zip(terms, pulls, strict=True)) / count)
                errors.append(sum(m * (g + log_draws) * d for (_, m, g), d in zip(terms, pulls, strict=True)) / count)
        return probability, update, magnitudes, errors

    def _reward(self, n: int, y: int, penalised: bool) -> arb:
        """r, or `r - beta log(pi_t/pi_0)`."""
        zero, sampler = self.zero[n][y], self.sampler[n][y]
        if not penalised or zero is None or sampler is None:
            return self.reward[n][y]
        return self.reward[n][y] - self.beta * (sampler - zero)

    def _coefficient(self, method: str, n: int, y: int, a: arb) -> tuple[arb, float, float]:
        """The coefficient c, the magnitude of its terms, and 1 plus the logs whose exponential it is."""
        case = self.case
        zero = self.zero[n][y]
        theta: arb = self.theta[n][y]  # y was drawn: positive under both
        sampler: arb = self.sampler[n][y]
        log_theta, log_0, log_t = (_log_size(x) for x in (theta, zero, sampler))
        size = self._advantage_size()
        if method == "rloo":
            return a, size + 2.0 * case.beta * (log_0 + log_t), 1.0
        if method in ("dar", "zero_sum"):
            w, magnitude, logs = self._dar(a, zero, sampler, 1.0 + size / case.beta + case.alpha * (log_0 + log_t))
            if self.mean_weight is None:
                return w, magnitude, logs
            share = w / self.mean_weight
            return share - 1, float(share) + 1.0, 2.0 * logs  # the mean is an exponential of such logs too
        ratio = (theta - sampler).exp()
        if method == "dao":
            anchors = self.alpha * (theta - zero) if self.alpha != 0 else arb(0)
            c = ratio * (a - self.beta * (anchors + (1 - self.alpha) * (theta - sampler)))
            terms = size + case.beta * (log_theta + case.alpha * log_0 + (1.0 - case.alpha) * log_t)
            return c, float(ratio) * terms, 1.0 + log_theta + log_t
        inside = ratio <= 1 + arb(case.epsilon) if a > 0 else ratio >= 1 - arb(case.epsilon)
        kept = ratio * a if inside else arb(0)
        back = arb(0) if zero is None else (zero - theta).exp()
        magnitude = (float(ratio) * size if inside else 0.0) + case.beta * (float(back) + 1.0)
        return kept + self.beta * (back - 1), magnitude, 1.0 + log_theta + max(log_0, log_t)

    def _dar(self, a: arb, zero: arb | None, sampler: arb, logs: float) -> tuple[arb, float, float]:
        if zero is None and self.alpha != 0:
            return arb(0), 0.0, 1.0
        w = ((0 if zero is None else self.alpha * (zero - sampler)) + a / self.beta).exp()
        if self.case.w_clip is not None:
            w, logs = w.min(arb(self.case.w_clip)), logs + abs(np.log(self.case.w_clip))
        return w, float(w), logs

    def _advantage_size(self) -> float:
        """Scale of an advantage's error: the size of the rewards, divided by the std if there is one.

        The range of n numbers is at most `sqrt(2n)` times their std, and rounding errors are relative to the range.
        """
        if self.case.normalize == "none":
            return 2.0 * float(np.abs(self.case.reward).max())
        pool = self.case.num_generations * (len(self.case.reward) if self.case.normalize == "batch" else 1)
        return float(np.sqrt(2.0 * pool))


def _log_size(log_p: arb | None) -> float:
    """`1 + |log p|`: the rounding of the logarithm, plus that of a row that sums to one within a few ulp."""
    return 0.0 if log_p is None else 1.0 + abs(float(log_p))
