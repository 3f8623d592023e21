"""The lowest `alpha * slope + log C(alpha)`: what Chernoff information and the feasible region rest on.

`log C(alpha) = log sum_S p^alpha q^(1-alpha)` is convex in alpha. Its first three derivatives are the mean, the
variance and the third central moment of `log p/q` under the interpolated policy. So one pass over the arms gives a step
of Halley's method, and two to four passes give all digits of alpha. Rows are taken in blocks that stay in the
processor's cache, and rows that are done are left out of later passes.
"""

import copy

import numpy as np
from numpy.typing import NDArray

from dar_ref.theory.checks import EPS, Array

BLOCK = 2**16  # numbers in a block
FEW = 16  # so few arms lie along the first axis of a block: numpy is slow at sums over a short last axis
SMALL = 1e-250  # sums below it, or above its inverse, are taken again relative to their largest term
MOST_PASSES = 200  # at most 65 in 100,000 bandits


def lowest_log_c(log_p: Array, log_q: Array, slope: Array) -> tuple[Array, Array]:
    """Minimum over alpha in [0, 1] of `alpha * slope + log sum_S p^alpha q^(1-alpha)`, and the alpha that attains it.

    `S` is the common support, so the end points are limits, not the convention `0^0 = 1`. Where every alpha attains the
    minimum, alpha is 1/2.

    Args:
        log_p: valid policy (..., A).
        log_q: valid policy (..., A).
        slope: finite, broadcast against the leading axes (...).

    Returns:
        Minimum and alpha, each (...); `-inf` and 1/2 for rows without common support.
    """
    shape, arms = np.broadcast_shapes(log_p.shape[:-1], log_q.shape[:-1], np.shape(slope)), log_p.shape[-1]
    p, q = (np.broadcast_to(x, (*shape, arms)).reshape(-1, arms) for x in (log_p, log_q))
    slopes = np.broadcast_to(slope, shape).reshape(-1)
    lowest, alpha = np.full(len(slopes), -np.inf), np.full(len(slopes), 0.5)
    size, scratch = max(1, BLOCK // arms), np.empty(BLOCK)
    for first in range(0, len(slopes), size):
        rows = slice(first, first + size)
        _Search(p[rows], q[rows], slopes[rows], scratch).run(lowest[rows], alpha[rows])
    return lowest.reshape(shape), alpha.reshape(shape)


class _Search:
    """Rows whose minimum is looked for, n of them. `axis` is that of the arms, the first or the last.

    base: `log q`, `-inf` outside S; ratio: `log p/q + slope`, 0 outside S, whose mean is the derivative; span: largest
    minus smallest ratio; alpha: where to look next; low, high: bracket of the minimum, -1 and 2 for an end point that
    was not looked at; last: length of the last step; done: whether it is found.
    """

    def __init__(self, log_p: Array, log_q: Array, slope: Array, scratch: Array) -> None:
        self.scratch, self.axis = scratch, 0 if log_p.shape[1] <= FEW else 1
        if self.axis == 0:
            log_p, log_q = np.ascontiguousarray(log_p.T), np.ascontiguousarray(log_q.T)
        with np.errstate(invalid="ignore"):  # -inf - -inf, outside S
            ratio = log_p - log_q
        least, most = ratio.min(axis=self.axis), ratio.max(axis=self.axis)
        if not np.isfinite(most - least).all():
            shared = (log_p > -np.inf) & (log_q > -np.inf)
            least = np.where(shared, ratio, np.inf).min(axis=self.axis)
            most = np.where(shared, ratio, -np.inf).max(axis=self.axis)
            ratio, log_q = np.where(shared, ratio, 0.0), np.where(shared, log_q, -np.inf)
        ratio += np.expand_dims(slope, self.axis)
        self.base, self.ratio, self.slope, self.span = log_q, ratio, slope, most - least
        least, most = least + slope, most + slope
        self.alpha = np.where((least >= 0.0) & (most > 0.0), 0.0, np.where((most <= 0.0) & (least < 0.0), 1.0, 0.5))
        self.low, self.high, self.last = (np.full(len(slope), x) for x in (-1.0, 2.0, 1.0))
        self.rows, self.done = np.arange(len(slope)), most < least  # without a common arm

    def run(self, lowest: Array, alpha: Array) -> None:
        """Write the minimum of each row and its alpha."""
        for _ in range(MOST_PASSES):
            if 2 * np.count_nonzero(self.done) >= len(self.rows):
                self._keep(~self.done)
            if not len(self.rows):
                return
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # what is not finite is not trusted
                value, first, second, third = self._derivatives()
                newton = -first / second
                near = self.span * newton * newton <= 0.5 * EPS  # after this step alpha has all its digits
                at_end = ((self.alpha == 0.0) & (first >= 0.0)) | ((self.alpha == 1.0) & (first <= 0.0))
                step = np.where(near & ~at_end, newton, 0.0)
                proposal = self._proposal(first, newton, newton / (1.0 + 0.5 * newton * third / second))
            found = near | at_end | (proposal == self.alpha)
            found |= self._flat(first, second, ~(found | self.done))
            (found,) = np.nonzero(found & ~self.done)
            rows, step = self.rows[found], step[found]
            lowest[rows] = value[found] + 0.5 * first[found] * step
            alpha[rows] = np.clip(self.alpha[found] + step, 0.0, 1.0)
            self.done[found] = True
            self.last, self.alpha = np.abs(proposal - self.alpha), proposal

    def _derivatives(self) -> tuple[Array, Array, Array, Array]:
        """Value and three derivatives at `alpha`, each (n,)."""
        top = np.zeros(1)
        sums = self._sums(top)
        if not ((sums[0] > SMALL) & (sums[0] < 1.0 / SMALL)).all():
            top = self._logits().max(axis=self.axis)
            sums = self._sums(top)
        mean, square, cube = sums[1:] / sums[0]
        return top + np.log(sums[0]), mean, square - mean * mean, cube - mean * (3.0 * square - 2.0 * mean * mean)

    def _sums(self, top: Array) -> Array:
        """Sums of `exp(logits - top)` times 1, ratio, its square and its cube, (4, n)."""
        parts = []
        for i in range(
            0, self.ratio.shape[1], BLOCK
        ):  # more than one part if the arms of one row fill more than a block
            part = self.ratio[:, i : i + BLOCK]
            weights = self.scratch[: part.size].reshape(part.shape)
            np.multiply(part, np.expand_dims(self.alpha, self.axis), out=weights)
            weights += self.base[:, i : i + BLOCK]
            if top.any():
                weights -= np.expand_dims(top, self.axis)
            sums = [np.exp(weights, out=weights).sum(axis=self.axis)]
            for _ in range(3):
                weights *= part
                sums.append(weights.sum(axis=self.axis))
            parts.append(sums)
        return np.sum(parts, axis=0)

    def _flat(self, first: Array, second: Array, among: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Rows whose derivative is rounding: below 2 ulp of the terms in its sum, or what an ulp of alpha makes."""
        flat = np.abs(first) <= EPS * np.maximum(second, 4.0 * np.abs(self.slope) + 2.0 * self.span)  # a bound, cheap
        flat &= among
        if flat.any():
            few = copy.copy(self)
            few._keep(flat)
            logits = few._logits()
            weights = np.exp(logits - logits.max(axis=self.axis, keepdims=True))
            terms = np.abs(few.ratio - np.expand_dims(few.slope, self.axis))
            size = np.abs(few.slope) + (weights * terms).sum(axis=self.axis) / weights.sum(axis=self.axis)
            flat[flat] = np.abs(first[flat]) <= EPS * np.maximum(second[flat], 2.0 * size)
        return flat

    def _logits(self) -> Array:
        return self.ratio * np.expand_dims(self.alpha, self.axis) + self.base

    def _proposal(self, first: Array, newton: Array, halley: Array) -> Array:
        """Halley's step where it halves the last step and stays in the bracket. Else Newton's; else an end point, if
        Newton's step leads beyond it and it was not looked at; else the middle of the bracket."""
        self.low = np.where(first < 0.0, self.alpha, self.low)
        self.high = np.where(first > 0.0, self.alpha, self.high)
        proposal = self.alpha + halley
        (other,) = np.nonzero(~self._trusted(halley, slice(None)))
        if len(other):
            there, low, high = (self.alpha + newton)[other], self.low[other], self.high[other]
            middle = 0.5 * (np.maximum(low, 0.0) + np.minimum(high, 1.0))
            beyond = [(there < 0.0) & (low < 0.0), (there > 1.0) & (high > 1.0)]
            proposal[other] = np.select([self._trusted(newton, other), *beyond], [there, 0.0, 1.0], middle)
        return proposal

    def _trusted(self, step: Array, rows: slice | NDArray[np.intp]) -> NDArray[np.bool_]:
        step, alpha = step[rows], self.alpha[rows]
        there = alpha + step
        inside = (there >= np.maximum(self.low[rows], 0.0)) & (there <= np.minimum(self.high[rows], 1.0))
        return inside & (np.abs(step) <= 0.5 * self.last[rows])

    def _keep(self, rows: NDArray[np.bool_]) -> None:
        """Leave the other rows out."""
        if rows.all():
            return
        for name in ("base", "ratio"):
            setattr(self, name, np.compress(rows, getattr(self, name), axis=1 - self.axis))
        for name in ("rows", "slope", "span", "alpha", "low", "high", "last", "done"):
            setattr(self, name, getattr(self, name)[rows])
