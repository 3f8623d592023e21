"""AlpacaEval 2: its rows, and its length-controlled win rate in the minimal form, `length_controlled_minimal`.

The form needs no data of theirs, so it serves any set of prompts:

    P(win_i) = sigmoid(c + s x_i),   x_i = tanh(d_i / std(d)),   d_i = length_i - reference length_i, in characters
    (c, s) minimises  |c| + |s| + C sum_i -[y_i log P_i + (1 - y_i) log(1 - P_i)],   result: sigmoid(c)

C is the one of ten values from 1e-4 to 1e4 with the least log-loss on held-out fifths of the rows. The standard
deviation is that of a sample, with n - 1. Differences from `length_controlled_win_rate`: this penalty, which also holds
the constant and pulls the rate to 1/2, the cross-validation, characters for tokens, and n - 1. Take that function for
an estimate, and this one to stand beside figures that were made with alpaca_eval.

Theirs stops its solver early, at a tolerance of 1e-4, which moves its rate by up to 1e-4; this is the optimum.
"""

import math
from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from dar_ref.evaluation import checks
from dar_ref.evaluation.checks import Array
from dar_ref.evaluation.length_control import MAX_STEPS, TOLERANCE

STRENGTHS = np.logspace(-4, 4, 10)  # C
FOLDS = 5
SMALLEST_CURVATURE = 1e-12  # keeps the step finite where all differences of a fold are equal


def alpaca_eval_win_rate(outcomes: ArrayLike, lengths: ArrayLike, reference_lengths: ArrayLike) -> float:
    """The length-controlled win rate in [0, 1], as alpaca_eval's minimal form has it.

    Args:
        outcomes: (N,), N >= 5, of the policy against the reference, in [0, 1].
        lengths: (N,), characters of the policy's completions, >= 0.
        reference_lengths: (N,), those of the reference, >= 0.

    Raises:
        TypeError, ValueError: bad input, see `checks.vectors`; fewer than five rows; a negative length; equal
            differences of length.

    Source: Dubois et al., arXiv 2404.04475, and the package alpaca_eval 0.6.6, whose figures it gives (a test's
    docstring says how that was tried).
    """
    y, lengths, reference_lengths = checks.vectors(
        outcomes=outcomes, lengths=lengths, reference_lengths=reference_lengths
    )
    checks.between("outcomes", y, 0.0, 1.0, "an outcome lies in [0, 1]; pass the policy's share of the win")
    for name, array in (("lengths", lengths), ("reference_lengths", reference_lengths)):
        checks.between(name, array, 0.0, np.inf, "a length is at least 0; count characters")
    if y.size < FOLDS:
        raise ValueError(f"{y.size} rows are too few for {FOLDS} folds; judge more pairs")
    difference = lengths - reference_lengths
    std = float(difference.std(ddof=1))
    if std == 0.0:
        raise ValueError(f"all lengths differ by {difference[0]:g}: no scale; take length_controlled_win_rate")
    x = np.tanh(difference / std)
    fold = (y.size - 1 - np.arange(y.size)) % FOLDS  # as GroupKFold deals rows out
    losses = [sum(_held_out(y, x, fold == k, strength) for k in range(FOLDS)) for strength in STRENGTHS]
    return float(expit(_fit(y, x, float(STRENGTHS[int(np.argmin(losses))]))[0]))


def alpaca_eval_rows(
    rows: Iterable[Mapping[str, Any]], *, policy: str, reference: str, annotator: str
) -> list[dict[str, Any]]:
    """Verdicts as alpaca_eval's annotations: `preference` is 1 where the reference won, 2 where the policy did.

    Args:
        rows: `prompt`, `reference_completion`, `completion` (texts) and `outcome` in [0, 1] of each pair.
        policy: its name.
        reference: its name.
        annotator: its name.

    Raises:
        ValueError: an outcome outside [0, 1].
    """
    rows = list(rows)
    if rows:
        (outcomes,) = checks.vectors(outcome=[row["outcome"] for row in rows])
        checks.between("outcome", outcomes, 0.0, 1.0, "an outcome lies in [0, 1]; pass the policy's share of the win")
    return [
        {
            "index": index,
            "instruction": row["prompt"],
            "output_1": row["reference_completion"],
            "generator_1": reference,
            "output_2": row["completion"],
            "generator_2": policy,
            "annotator": annotator,
            "preference": 1.0 + row["outcome"],
        }
        for index, row in enumerate(rows)
    ]


def _fit(y: Array, x: Array, strength: float) -> Array:
    """The minimiser (c, s), by proximal Newton steps of the length that `length_control` explains."""
    rows, found = np.stack([np.ones_like(x), x]), np.zeros(2)  # (2, N)
    for _ in range(MAX_STEPS):
        logits = found @ rows
        p, q = expit(logits), expit(-logits)
        gradient = strength * rows @ (p - y)
        curvature = strength * (rows * p * q) @ rows.T + SMALLEST_CURVATURE * np.eye(2)
        step = _least(curvature, curvature @ found - gradient) - found
        size = float(np.abs(step @ rows).max())
        found = found + step * (math.log1p(size) / size if size > 0.0 else 1.0)
        if size <= TOLERANCE * (1.0 + float(np.abs(logits).max())):
            return found
    raise RuntimeError(f"no convergence in {MAX_STEPS} Newton steps, last step {size!r}, at C = {strength!r}")


def _least(curvature: Array, pull: Array) -> Array:
    """The minimiser w of `w'Hw/2 - pull'w + |w_1| + |w_2|`: each part is positive, negative or 0, so nine are tried."""

    def value(w: Array) -> float:
        return float(w @ curvature @ w / 2.0 - pull @ w + np.abs(w).sum())

    tried = []
    for signs in product((-1.0, 0.0, 1.0), repeat=2):
        free, w = np.array(signs) != 0.0, np.zeros(2)
        w[free] = np.linalg.solve(curvature[np.ix_(free, free)], (pull - np.array(signs))[free])
        tried.append(w)
    return min(tried, key=value)


def _held_out(y: Array, x: Array, out: NDArray[np.bool_], strength: float) -> float:
    """Mean log-loss of the rows of a fold under the fit to the others."""
    constant, slope = _fit(y[~out], x[~out], strength)
    logits = constant + slope * x[out]
    return float((np.logaddexp(0.0, logits) - y[out] * logits).mean())
