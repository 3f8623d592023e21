"""The hacking panel: what completions look like when the reward is being gamed, one row of metrics per policy.

A policy games a reward by length, by missing EOS, by repetition. The proof is a proxy reward that rises while the gold
reward does not. KL to pi_0 says how far the policy went, annotations what it cost. Shapes: `N` prompts, `K` completions
of each side by side, `B = N*K`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from dar_ref import scalars
from dar_ref.evaluation import checks
from dar_ref.evaluation.checks import Array

LOG_PROB_SLACK = 1e-3  # nats: low precision may round a sum of log-probs up to this far above 0


class HackingPanel(NamedTuple):
    """Metrics of one policy; means are over completions, None is "not measured"."""

    completions: int  # B
    length: float  # mean number of tokens
    missing_eos: float  # share of completions without EOS, in [0, 1]
    repetition: float  # mean share of repeated n-grams, in [0, 1)
    proxy: float  # mean proxy reward (the optimised one), in its unit
    proxy_std: float  # its standard deviation over the completions
    gold: float | None  # mean gold reward (the intended one), in its unit
    gold_std: float | None  # its standard deviation over the completions
    kl: float | None  # k1 estimate of KL(pi‖pi_0) per completion, nats; unbiased, may be negative
    kl_standard_error: float | None  # over prompts, nats; None with one prompt
    annotations: int  # preference labels or reward calls used to train the policy


def repetition(token_ids: Sequence[Sequence[int]], *, ngram: int = 4) -> Array:
    """Share of repeated n-grams of each completion, `1 - distinct n-grams / n-grams`.

    A completion of T tokens has T - n + 1 overlapping n-grams. A completion shorter than n has none; its share is 0.

    Args:
        token_ids: B completions, without padding; lengths may differ.
        ngram: n >= 1.

    Returns:
        (B,), in [0, 1).

    Raises:
        TypeError, ValueError: no completion, one that is not a sequence of ints, or `ngram` below 1.

    Source: Welleck et al., arXiv 1908.04319, seq-rep-n.

    >>> repetition([[7, 7, 7, 7], [1, 2, 3, 4]], ngram=2).round(3).tolist()
    [0.667, 0.0]
    """
    ngram = scalars.integer("ngram", ngram, 1)
    return np.array([_repeated(ids, ngram) for ids in _completions(token_ids)])


def hacking_panel(
    token_ids: Sequence[Sequence[int]],
    finished: ArrayLike,
    proxy: ArrayLike,
    *,
    annotations: int,
    gold: ArrayLike | None = None,
    logps: ArrayLike | None = None,
    ref_logps: ArrayLike | None = None,
    num_generations: int = 1,
    ngram: int = 4,
) -> HackingPanel:
    """The metrics of one policy, from its samples.

    `kl = mean(logps - ref_logps)`, the k1 estimate, is unbiased for KL(pi‖pi_0) if the completions were sampled from
    pi. Completions of one prompt are not independent, so the standard error is over prompts: `std(mean over the K of a
    prompt) / sqrt(N)`. If the exact KL is known, set it with `panel._replace(kl=..., kl_standard_error=0.0)`.

    Args:
        token_ids: B completions without padding; their lengths give `length`.
        finished: (B,), bool: True if the completion ended with EOS, False if it was cut off.
        proxy: (B,), the reward that was optimised, finite.
        annotations: number of labels or reward calls used to train this policy, >= 0; 0 for pi_0.
        gold: (B,), the intended reward, finite; None if there is none.
        logps: (B,), log pi of each completion under the distribution that was sampled, summed over its tokens; <= 0.
        ref_logps: (B,), log pi_0 of the same completions; give both `logps` and `ref_logps`, or neither.
        num_generations: K >= 1, completions per prompt, side by side.
        ngram: n of the repetition, >= 1.

    Raises:
        TypeError, ValueError: types, lengths or values that do not fit.

    Source: k1 is from Schulman, "Approximating KL Divergence" (2020); the samples are from the first policy.

    >>> panel = hacking_panel([[5, 2], [5, 5, 5, 5]], [True, False], [1.0, 3.0], annotations=128, ngram=1)
    >>> panel.length, panel.missing_eos, panel.repetition, panel.proxy, panel.kl
    (3.0, 0.5, 0.375, 2.0, None)
    """
    repeated = repetition(token_ids, ngram=ngram)
    batch = len(repeated)
    ended = checks.flags("finished", finished)
    _check_length("finished", len(ended), batch)
    proxy_mean, proxy_std = _moments("proxy", proxy, batch)
    gold_mean, gold_std = (None, None) if gold is None else _moments("gold", gold, batch)
    kl, kl_standard_error = _kl(logps, ref_logps, batch, num_generations)
    return HackingPanel(
        completions=batch,
        length=float(np.mean([len(ids) for ids in token_ids])),
        missing_eos=float((~ended).mean()),
        repetition=float(repeated.mean()),
        proxy=proxy_mean,
        proxy_std=proxy_std,
        gold=gold_mean,
        gold_std=gold_std,
        kl=kl,
        kl_standard_error=kl_standard_error,
        annotations=scalars.integer("annotations", annotations, 0),
    )


def reward_gap(panel: HackingPanel, start: HackingPanel) -> float:
    """How much more the proxy reward rose than the gold reward, each in standard deviations at the start.

    `(proxy - proxy_0) / std(proxy_0) - (gold - gold_0) / std(gold_0)`. The two rewards differ in unit and zero point (a
    Bradley-Terry reward is known only up to a constant), so their plain difference has no meaning.

    Args:
        panel: panel of the trained policy.
        start: panel of pi_0, on the same prompts with the same two rewards.

    Returns:
        Gap in standard deviations; 0 for `panel == start`, positive if the proxy was hacked.

    Raises:
        ValueError: no gold reward, or a reward with standard deviation 0 at the start.

    >>> start = hacking_panel([[1], [2]], [True, True], [0.0, 2.0], gold=[0.0, 20.0], annotations=0)
    >>> reward_gap(start._replace(proxy=3.0, gold=5.0), start)
    2.5
    """
    if panel.gold is None or start.gold is None or start.gold_std is None:
        raise ValueError("gold was not measured for both policies: no gap; pass gold to hacking_panel")
    if start.proxy_std == 0.0 or start.gold_std == 0.0:
        raise ValueError(
            f"proxy_std = {start.proxy_std}, gold_std = {start.gold_std} at the start: a standard deviation of 0 gives"
            " no scale; sample more prompts"
        )
    return (panel.proxy - start.proxy) / start.proxy_std - (panel.gold - start.gold) / start.gold_std


def _completions(token_ids: Sequence[Sequence[int]]) -> list[list[int]]:
    """The completions as lists of ints; TypeError or ValueError for other input."""
    if len(token_ids) == 0:
        raise ValueError("token_ids is empty: nothing to measure; pass at least one completion")
    completions = []
    for i, ids in enumerate(token_ids):
        array = np.asarray(ids)
        if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)):
            raise TypeError(
                f"token_ids[{i}] is not a flat sequence of ints (shape {array.shape}, dtype {array.dtype});"
                " pass one list of token ids per completion, without padding"
            )
        completions.append(array.tolist())
    return completions


def _repeated(ids: Sequence[int], ngram: int) -> float:
    total = len(ids) - ngram + 1
    if total < 1:
        return 0.0
    return 1.0 - len(set(zip(*(ids[i:] for i in range(ngram)), strict=False))) / total  # zip ends with the shortest


def _moments(name: str, rewards: ArrayLike, batch: int) -> tuple[float, float]:
    """Mean and standard deviation; for equal rewards the latter is exactly 0."""
    (array,) = checks.vectors(**{name: rewards})
    _check_length(name, array.size, batch)
    above_first = array - array[0]
    return float(array.mean()), float(above_first.std())


def _kl(
    logps: ArrayLike | None, ref_logps: ArrayLike | None, batch: int, num_generations: int
) -> tuple[float | None, float | None]:
    """The k1 estimate and its standard error over prompts."""
    num_generations = scalars.integer("num_generations", num_generations, 1)
    if batch % num_generations:
        raise ValueError(
            f"num_generations = {num_generations} does not divide the batch of {batch} completions; pass whole groups"
        )
    if logps is None and ref_logps is None:
        return None, None
    if logps is None or ref_logps is None:
        raise ValueError("only one of logps and ref_logps is given: the KL needs both; pass both or neither")
    ours, theirs = checks.vectors(logps=logps, ref_logps=ref_logps)
    _check_length("logps", ours.size, batch)
    for name, array in (("logps", ours), ("ref_logps", theirs)):
        checks.between(name, array, -np.inf, LOG_PROB_SLACK, "a log-probability is at most 0; pass np.log of it")
    per_prompt = (ours - theirs).reshape(-1, num_generations).mean(axis=1)
    n = per_prompt.size
    return float(per_prompt.mean()), float(per_prompt.std(ddof=1) / np.sqrt(n)) if n > 1 else None


def _check_length(name: str, length: int, batch: int) -> None:
    if length != batch:
        raise ValueError(f"{name} has {length} values for {batch} completions; pass one per completion, in their order")
