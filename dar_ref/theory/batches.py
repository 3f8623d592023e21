"""Every sample of a small batch, exactly once: N prompts with K completions each, drawn from `pi_t`.

Batch statistics do not depend on the order of the K completions, only on how often each arm was drawn. So the
enumeration runs over the `C(A+K-1, K)` count vectors of a group with their multinomial probabilities, instead of the
`A^K` ordered groups. Coupled prompts (a baseline or a std over the batch) multiply to `C(A+K-1, K)^N` states.

Shapes: `N` prompts, `K` completions per prompt, `A` arms, `S` states (a chunk of the enumeration).
"""

import math
from collections.abc import Iterator
from itertools import combinations
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from dar_ref import scalars
from dar_ref.theory import checks
from dar_ref.theory.checks import Array

Baseline = Literal["group", "batch", "leave_one_out", "none"]
Normalize = Literal["none", "group", "batch"]

MAX_STATES = 2_000_000
CHUNK = 16_384


class Batches(NamedTuple):
    """A chunk of batches: `log_probability` (S,), and `counts` (S, N, A), the draws of each arm for each prompt."""

    log_probability: Array
    counts: NDArray[np.int64]


def batches(log_pi_t: Array, num_generations: int) -> Iterator[Batches]:
    """Yield every batch of K completions for each of N prompts, in chunks; probabilities sum to one over all chunks.

    Args:
        log_pi_t: valid sampler (N, A). Arms of probability zero are never drawn and cost nothing.
        num_generations: K, `>= 1`.

    Yields:
        `Batches(log_probability, counts)`.

    Raises:
        ValueError: more than `MAX_STATES` states.
    """
    drawn = log_pi_t > -np.inf
    sizes = [math.comb(int(arms) + num_generations - 1, num_generations) for arms in drawn.sum(axis=-1)]
    total = math.prod(sizes)
    if total > MAX_STATES:
        prompts, arms = log_pi_t.shape
        raise ValueError(
            f"num_generations = {num_generations} with {arms} arms and {prompts} coupled prompt(s) makes {total}"
            f" batches, more than the {MAX_STATES} that are enumerated; lower num_generations, the arms or the prompts"
            " (only baseline = 'batch' and normalize = 'batch' couple prompts)"
        )
    groups = [_group_counts(drawn[row], num_generations) for row in range(len(drawn))]
    log_group = [_log_multinomial(counts, log_pi_t[row]) for row, counts in enumerate(groups)]
    for start in range(0, total, CHUNK):
        pick = np.unravel_index(np.arange(start, min(start + CHUNK, total)), sizes)
        yield Batches(
            log_probability=np.sum([log_group[row][chosen] for row, chosen in enumerate(pick)], axis=0),
            counts=np.stack([groups[row][chosen] for row, chosen in enumerate(pick)], axis=1),
        )


def sampled_advantages(
    reward: Array, counts: NDArray[np.int64], num_generations: int, baseline: Baseline, normalize: Normalize
) -> Array:
    """Monte Carlo advantage of each drawn arm: `(r - baseline) / std`.

    Baselines: "group" is `mean_K(r)`, own sample included; "batch" is the mean over all N*K; "leave_one_out" is the
    mean of the K-1 others, so that `A = K/(K-1) (r - mean_K(r))`; "none" is 0: the reward is the advantage. `std` is
    the population std of the group's K or the batch's N*K advantages. If these are all equal, the advantage is 0.

    Args:
        reward: r (N, A), finite.
        counts: (S, N, A).
        num_generations: K.
        baseline: see above.
        normalize: "none", "group" or "batch".

    Returns:
        A (S, N, A); 0 on arms that were not drawn.
    """
    drawn = counts > 0
    advantage = np.where(drawn, reward, 0.0)
    if baseline != "none":
        advantage = _centred(advantage, counts, axes=(-2, -1) if baseline == "batch" else (-1,))
    if baseline == "leave_one_out":
        advantage = advantage * (num_generations / (num_generations - 1))
    if normalize == "none":
        return advantage
    pool = (-1,) if normalize == "group" else (-2, -1)
    deviation = _centred(advantage, counts, pool)
    size = np.abs(deviation).max(axis=pool, keepdims=True)
    unit = np.where(size > 0.0, size, 1.0)  # squares of deviations beyond 1e154 would overflow
    std = np.sqrt(_mean((deviation / unit) ** 2, counts, pool))
    return np.where(size > 0.0, advantage / unit / np.where(std > 0.0, std, 1.0), 0.0)


def independent_rows(prompts: int, baseline: Baseline, normalize: Normalize) -> list[slice]:
    """The prompts one by one; all together if the batch's mean or std couples them."""
    if "batch" in (baseline, normalize):
        return [slice(None)]
    return [slice(row, row + 1) for row in range(prompts)]


def one_row_per_prompt(**named: ArrayLike) -> list[Array]:
    """Return the named inputs checked as `checks.arrays` does and broadcast to one shape (N, A); (A,) is one prompt.

    Raises:
        TypeError, ValueError: as `checks.arrays` and `checks.span`, or more than two axes.
    """
    checked = dict(zip(named, checks.arrays(**named), strict=True))
    checks.span(**{name: array for name, array in checked.items() if not name.startswith("log_")})
    arrays = np.broadcast_arrays(*checked.values())
    if arrays[0].ndim > 2:
        raise ValueError(
            f"the inputs broadcast to shape {arrays[0].shape}: a batch is (N, A), prompts by arms; call once per batch"
        )
    return [np.atleast_2d(array) for array in arrays]


def sample_size(num_generations: int, baseline: Baseline, normalize: Normalize, prompts: int) -> int:
    """Return K after checking that it is large enough for the baseline and the normalisation.

    Raises:
        TypeError: K that is not an integer.
        ValueError: `K < 1`, an unknown baseline or normalisation, or statistics of a single sample.
    """
    scalars.choice("baseline", baseline, get_args(Baseline))
    scalars.choice("normalize", normalize, get_args(Normalize))
    num_generations = scalars.integer("num_generations", num_generations, 1)
    if num_generations == 1 and baseline != "none" and not (baseline == "batch" and prompts > 1):
        raise ValueError(
            f"num_generations = 1 with baseline = {baseline!r} and {prompts} prompt(s): one sample is its own mean and"
            " has no others, so the advantage is 0 or undefined whatever the reward; pass num_generations >= 2,"
            " baseline = 'batch' with several prompts, or baseline = 'none' with advantages as reward"
        )
    if num_generations == 1 and (normalize == "group" or (normalize == "batch" and prompts == 1)):
        raise ValueError(
            f"num_generations = 1 with normalize = {normalize!r}: the std of one advantage is 0; pass"
            " num_generations >= 2 or normalize = 'none'"
        )
    return num_generations


def _centred(value: Array, counts: NDArray[np.int64], axes: tuple[int, ...]) -> Array:
    """`value` minus its mean over the draws. The largest value is subtracted first, so equal draws give exactly 0."""
    drawn = counts > 0
    shifted = np.where(drawn, value - np.where(drawn, value, -np.inf).max(axis=axes, keepdims=True), 0.0)
    return np.where(drawn, shifted - _mean(shifted, counts, axes), 0.0)


def _mean(value: Array, counts: NDArray[np.int64], axes: tuple[int, ...]) -> Array:
    total: Array = (counts * value).sum(axis=axes, keepdims=True) / counts.sum(axis=axes, keepdims=True)
    return total


def _group_counts(drawn: NDArray[np.bool_], num_generations: int) -> NDArray[np.int64]:
    """All count vectors (S, A) of K draws from the arms `drawn`, by stars and bars."""
    arms = int(drawn.sum())
    places = num_generations + arms - 1
    bars = np.array(list(combinations(range(places), arms - 1)), dtype=np.int64)
    bars = bars.reshape(math.comb(places, arms - 1), arms - 1)  # with one arm: one row without bars
    edges = np.pad(bars, ((0, 0), (1, 1)), constant_values=((0, 0), (-1, places)))
    counts = np.zeros((len(bars), drawn.size), dtype=np.int64)
    counts[:, drawn] = np.diff(edges, axis=1) - 1
    return counts


def _log_multinomial(counts: NDArray[np.int64], log_pi_t: Array) -> Array:
    """log probability (S,) of count vectors (S, A) under K independent draws."""
    log_draws = np.where(counts > 0, counts * np.where(counts > 0, log_pi_t, 0.0), 0.0).sum(axis=-1)
    result: Array = gammaln(counts.sum(axis=-1) + 1.0) - gammaln(counts + 1.0).sum(axis=-1) + log_draws
    return result
