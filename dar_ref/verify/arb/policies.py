"""The quantities of T1 to T4 in ball arithmetic (python-flint's `arb`), to test the float64 functions.

Every number is a ball (midpoint and radius) that provably contains the true value. The float64 inputs are taken as
exact binary numbers. A policy is the exactly normalised `exp(log_p) / sum exp(log_p)`, as a list of log-probabilities
in which None is probability zero. The names are those of `dar_ref.theory`. The precision is python-flint's global
setting.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from flint import arb, ctx

from dar_ref.theory.checks import Array
from dar_ref.verify.random_bandits import Case

Policy = list[arb | None]  # log-probabilities; None is probability zero
INF = arb("inf")


@contextmanager
def precision(bits: int) -> Iterator[None]:
    """Set python-flint's global precision to `bits` bits inside the block and restore it after."""
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
    """log softmax and log sum exp of logits, at least one of them not None."""
    finite = [x for x in logits if x is not None]
    top = finite[0]
    for x in finite:
        top = top.max(x)
    log_total = top + sum(((x - top).exp() for x in finite), arb(0)).log()
    return [None if x is None else x - log_total for x in logits], log_total


def kl(log_p: Policy, log_q: Policy) -> arb:
    """KL(p‖q); `+inf` if p has mass on an arm that q lacks."""
    total = arb(0)
    for p, q in zip(log_p, log_q, strict=True):
        if p is not None:
            if q is None:
                return INF
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
    """`-sum pi_t v log pi / exp(log_scale)`; `+inf` if `pi` lacks an arm of positive weight."""
    total = arb(0)
    for p, q, v in zip(log_pi, log_pi_t, log_v, strict=True):
        if q is not None and v is not None:
            if p is None:
                return INF
            total -= (q + v - log_scale).exp() * p
    return total


class Exact(NamedTuple):
    """A case in ball arithmetic, at the precision that is set when it is created."""

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
