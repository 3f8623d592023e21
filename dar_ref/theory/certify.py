"""Proofs of T1 to T4 on given bandits, by ball arithmetic (python-flint's `arb`).

Every number is a ball, midpoint and radius, that provably contains the true value. Both sides of an identity are
computed from their definitions, in arbitrary precision, and subtracted: a residual whose ball contains 0 with a radius
below 10^-D proves that the identity holds on this bandit to D digits; a ball that excludes 0 disproves it.

The float64 inputs are taken as exact binary numbers. A policy stands for the exactly normalised `exp(log_p) / sum
exp(log_p)`; an arm of probability zero is None. T3 and T4 are divided by `sum pi_t v`, which runs up to exp(1e12).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from flint import arb, ctx

from dar_ref.theory.cases import Case
from dar_ref.theory.checks import Array

Policy = list[arb | None]  # log-probabilities; None is probability zero
INFINITY = arb("inf")


class Certificate(NamedTuple):
    """`passed`: every residual's ball contains 0; `radius`: the largest of `|midpoint| + radius`, as a float."""

    passed: bool
    radius: float


def certify(statement: str, case: Case, digits: int = 100) -> Certificate:
    """Enclose every residual of a statement on one bandit within 10^-digits, or disprove it.

    The working precision is doubled until all balls are small enough or one of them excludes 0.

    Args:
        statement: "T1", "T2", "T3" or "T4".
        case: the bandit; arrays (A,).
        digits: D >= 1, decimal digits after the point.

    Returns:
        `Certificate(passed, radius)`; `radius < 10^-digits` if passed (as a float it is 0 from about 308 digits on).

    Raises:
        ValueError: unknown statement, fewer than 1 digit, or a residual that stays undecided at 2^20 bits.

    Source: Johansson, "Arb: efficient arbitrary-precision midpoint-radius interval arithmetic", IEEE Trans. Computers
        2017.
    """
    if statement not in RESIDUALS:
        raise ValueError(f"statement = {statement!r} has no certificate; choose one of {', '.join(RESIDUALS)}")
    if digits < 1:
        raise ValueError(f"digits = {digits} proves nothing; ask for 1 or more")
    bits = int(3.33 * digits) + 128
    while bits <= 2**20:
        with precision(bits):
            residuals = RESIDUALS[statement](case)
            largest = max((r.abs_upper() for r in residuals), default=arb(0))
            if not all(r.contains(0) for r in residuals):
                return Certificate(False, float(largest))
            if largest < arb(10) ** -digits:
                return Certificate(True, float(largest))
        bits *= 2
    raise ValueError(
        f"{statement} is undecided at {bits // 2} bits: a ball around 0 does not shrink below 10^-{digits}"
    )


@contextmanager
def precision(bits: int) -> Iterator[None]:
    """Work with `bits` bits inside the block; the setting of python-flint is global, so it is put back after."""
    before = ctx.prec
    ctx.prec = bits
    try:
        yield
    finally:
        ctx.prec = before


def exact_policy(log_p: Array) -> Policy:
    """Log-probabilities of the exactly normalised policy, from float64 logits (A,)."""
    return normalize([None if x == -np.inf else arb(float(x)) for x in log_p])[0]


def normalize(logits: Policy) -> tuple[Policy, arb]:
    """log softmax and log sum exp of logits of which at least one is not None."""
    finite = [x for x in logits if x is not None]
    top = finite[0]
    for x in finite:
        top = top.max(x)
    log_total = top + sum(((x - top).exp() for x in finite), arb(0)).log()
    return [None if x is None else x - log_total for x in logits], log_total


def kl(log_p: Policy, log_q: Policy) -> arb:
    """KL(p‖q), `+inf` where p has mass and q none."""
    total = arb(0)
    for p, q in zip(log_p, log_q, strict=True):
        if p is not None:
            if q is None:
                return INFINITY
            total += p.exp() * (p - q)
    return total


def mixture(log_pi_0: Policy, log_pi_t: Policy, alpha: arb) -> Policy:
    """`alpha log pi_0 + (1-alpha) log pi_t`, with `0^0 = 1` at the end points."""
    if alpha == 0:
        return log_pi_t
    if alpha == 1:
        return log_pi_0
    return [
        None if p is None or q is None else alpha * p + (1 - alpha) * q for p, q in zip(log_pi_0, log_pi_t, strict=True)
    ]


def dual_kl(log_pi: Policy, log_pi_0: Policy, log_pi_t: Policy, alpha: arb) -> arb:
    """`alpha KL(pi‖pi_0) + (1-alpha) KL(pi‖pi_t)`, with `0 * inf = 0`."""
    total = arb(0)
    for weight, anchor in ((alpha, log_pi_0), (1 - alpha, log_pi_t)):
        if weight != 0:
            total += weight * kl(log_pi, anchor)
    return total


def objective(log_pi: Policy, advantage: list[arb], log_pi_0: Policy, log_pi_t: Policy, alpha: arb, beta: arb) -> arb:
    """`J(pi) = E_pi[A] - beta dual_kl(pi)`."""
    mean = sum((p.exp() * a for p, a in zip(log_pi, advantage, strict=True) if p is not None), arb(0))
    return mean - beta * dual_kl(log_pi, log_pi_0, log_pi_t, alpha)


def optimum(advantage: list[arb], log_pi_0: Policy, log_pi_t: Policy, alpha: arb, beta: arb) -> tuple[Policy, arb]:
    """`pi* ∝ pi_0^alpha pi_t^(1-alpha) exp(A/beta)` and `beta log sum pi_0^alpha pi_t^(1-alpha) exp(A/beta)`."""
    mixed = mixture(log_pi_0, log_pi_t, alpha)
    logits = [None if m is None else m + a / beta for m, a in zip(mixed, advantage, strict=True)]
    log_pi, log_total = normalize(logits)
    return log_pi, beta * log_total


def log_weights(
    advantage: list[arb], log_pi_0: Policy, log_pi_t: Policy, alpha: arb, beta: arb, w_clip: arb | None
) -> Policy:
    """log min(w, w_clip) on supp pi_t, `w = (pi_0/pi_t)^alpha exp(A/beta)`; None where the weight is zero."""
    weights: Policy = []
    for a, p0, pt in zip(advantage, log_pi_0, log_pi_t, strict=True):
        if pt is None or (p0 is None and alpha != 0):
            weights.append(None)
            continue
        log_w = a / beta + (0 if p0 is None else alpha * (p0 - pt))
        weights.append(log_w if w_clip is None else log_w.min(w_clip.log()))
    return weights


def regression_target(log_pi_t: Policy, log_v: Policy) -> tuple[Policy, arb]:
    """The minimiser `pi' ∝ pi_t v` of the regression, and `log sum pi_t v`."""
    return normalize([None if q is None or v is None else q + v for q, v in zip(log_pi_t, log_v, strict=True)])


def regression_loss(log_pi: Policy, log_pi_t: Policy, log_v: Policy, log_scale: arb) -> arb:
    """`-sum pi_t v log pi / exp(log_scale)`; `+inf` where `pi` lacks an arm that carries weight."""
    total = arb(0)
    for p, q, v in zip(log_pi, log_pi_t, log_v, strict=True):
        if q is not None and v is not None:
            if p is None:
                return INFINITY
            total -= (q + v - log_scale).exp() * p
    return total


class Exact(NamedTuple):
    """A case in ball arithmetic, at the precision that is set when it is made."""

    log_pi: Policy
    advantage: list[arb]
    log_pi_0: Policy
    log_pi_t: Policy
    alpha: arb
    beta: arb
    w_clip: arb

    @classmethod
    def of(cls, case: Case) -> "Exact":
        """Take the floats of a case as exact numbers and normalise its policies exactly."""
        return cls(
            exact_policy(case.log_pi),
            [arb(float(a)) for a in case.advantage],
            exact_policy(case.log_pi_0),
            exact_policy(case.log_pi_t),
            arb(case.alpha),
            arb(case.beta),
            arb(case.w_clip),
        )


def residual(left: arb, right: arb) -> arb:
    """`left - right`, and 0 where both are `+inf`."""
    return arb(0) if left == INFINITY and right == INFINITY else left - right


def residuals_t1(case: Case) -> list[arb]:
    """Proposition 4.1: `dual_kl(pi) - (KL(pi‖pi_ref) - log C)`."""
    x = Exact.of(case)
    log_pi_ref, log_c = normalize(mixture(x.log_pi_0, x.log_pi_t, x.alpha))
    return [residual(dual_kl(x.log_pi, x.log_pi_0, x.log_pi_t, x.alpha), kl(x.log_pi, log_pi_ref) - log_c)]


def residuals_t2(case: Case) -> list[arb]:
    """Theorem 4.2: `J(pi*) - beta log sum ...`, and the gap `J(pi*) - J(pi) - beta KL(pi‖pi*)`."""
    x = Exact.of(case)
    bandit = (x.advantage, x.log_pi_0, x.log_pi_t, x.alpha, x.beta)
    best, value = optimum(*bandit)
    j_best = objective(best, *bandit)
    return [j_best - value, residual(j_best - objective(x.log_pi, *bandit), x.beta * kl(x.log_pi, best))]


def residuals_t3(case: Case) -> list[arb]:
    """Regression: `(L(pi) - L(pi*)) / sum pi_t w - KL(pi*‖pi)`; and its minimiser against Theorem 4.2's, arm by arm."""
    x = Exact.of(case)
    gap, target = _regression_gap(x, None)
    best, _ = optimum(x.advantage, x.log_pi_0, x.log_pi_t, x.alpha, x.beta)
    reachable = [None if q is None else b for b, q in zip(best, x.log_pi_t, strict=True)]  # never sampled, never fitted
    best_sampled, _ = normalize(reachable)
    return [gap, *_policy_residuals(target, best_sampled)]


def residuals_t4(case: Case) -> list[arb]:
    """The clip: `(L(pi) - L(pi')) / sum pi_t v - KL(pi'‖pi)` with `v = min(w, w_clip)`, `pi' ∝ pi_t v`."""
    x = Exact.of(case)
    return [_regression_gap(x, x.w_clip)[0]]


def _regression_gap(x: Exact, w_clip: arb | None) -> tuple[arb, Policy]:
    log_v = log_weights(x.advantage, x.log_pi_0, x.log_pi_t, x.alpha, x.beta, w_clip)
    target, log_mass = regression_target(x.log_pi_t, log_v)
    at_pi = regression_loss(x.log_pi, x.log_pi_t, log_v, log_mass)
    at_target = regression_loss(target, x.log_pi_t, log_v, log_mass)
    return residual(at_pi - at_target, kl(target, x.log_pi)), target


def _policy_residuals(log_p: Policy, log_q: Policy) -> list[arb]:
    """Differences arm by arm; an arm that only one of them has counts as infinite."""
    pairs = [(p, q) for p, q in zip(log_p, log_q, strict=True) if p is not None or q is not None]
    return [INFINITY if p is None or q is None else p - q for p, q in pairs]


RESIDUALS: dict[str, Callable[[Case], list[arb]]] = {
    "T1": residuals_t1,
    "T2": residuals_t2,
    "T3": residuals_t3,
    "T4": residuals_t4,
}
