"""Every statement tried on random bandits: what `dar-ref verify` runs.

Each case is judged twice. In float64: the functions of `dar_ref.theory` against ball arithmetic, and the identity
between them; the error must stay within `LIMIT` times the scale stated beside each check. And exactly: `certify` proves
the identity on this very bandit to D digits. A statement passes if all its cases do, both times.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from flint import arb

from dar_ref import theory
from dar_ref.theory import certify
from dar_ref.theory.cases import Case, draw_case
from dar_ref.theory.checks import Array

EPS = float(np.finfo(np.float64).eps)
LIMIT = 8 * EPS  # error allowed per unit of scale; the bound that the modules state
JUDGE_BITS = 256  # precision of the values that float64 is compared with: 40 bits are lost at A/beta = 1e12


class Error(NamedTuple):
    """A float64 error and the scale it is measured by; `0 <= error <= LIMIT * scale` is a pass."""

    error: float
    scale: float


class Statement(NamedTuple):
    """A statement to verify: its identifier, the claim in one line, and the float64 errors on a case."""

    id: str
    claim: str
    errors: Callable[[Case], list[Error]]


class Row(NamedTuple):
    """Outcome of one statement.

    worst: largest float64 error per unit of scale; bound: largest certified radius; failure: the first case that
    failed, with the reason, or None.
    """

    id: str
    claim: str
    cases: int
    worst: float
    bound: float
    passed: bool
    failure: str | None


def verify(
    seed: int = 0, cases: int = 1000, digits: int = 100, progress: Callable[[Iterable[int]], Iterable[int]] = iter
) -> list[Row]:
    """Try every statement on `cases` random bandits.

    Args:
        seed: case i is drawn from `numpy.random.default_rng([seed, i])`, so a failing case can be drawn again alone.
        cases: number of bandits, >= 1.
        digits: decimal digits of the certificates, >= 1.
        progress: wraps the iterable of case numbers, to show how far the work is.

    Returns:
        One `Row` a statement.

    Raises:
        ValueError: fewer than one case or digit, or a negative seed.
    """
    if cases < 1 or digits < 1:
        raise ValueError(f"cases = {cases}, digits = {digits}: nothing to verify; ask for at least 1 of each")
    if seed < 0:
        raise ValueError(f"seed = {seed} is negative; numpy's generators take seeds from 0 on")
    worst = dict.fromkeys(STATEMENTS, 0.0)
    bound = dict.fromkeys(STATEMENTS, 0.0)
    failures: dict[str, str] = {}
    for number in progress(range(cases)):
        case = draw_case(np.random.default_rng([seed, number]))
        for key, statement in STATEMENTS.items():
            error, radius, reason = _judge(statement, case, digits)
            worst[key], bound[key] = max(worst[key], error), max(bound[key], radius)
            if reason:
                failures.setdefault(key, f"case {number} of seed {seed}: {reason}")
    return [
        Row(key, s.claim, cases, worst[key], bound[key], key not in failures, failures.get(key))
        for key, s in STATEMENTS.items()
    ]


def _judge(statement: Statement, case: Case, digits: int) -> tuple[float, float, str | None]:
    """Float64 error per unit of scale, certified radius, and what failed, if anything did."""
    try:
        with np.errstate(invalid="ignore"):  # inf - inf of a wrong formula is nan, and nan fails
            relative = max(_relative(*error) for error in statement.errors(case))
        certificate = certify.certify(statement.id, case, digits)
    except (ValueError, ZeroDivisionError) as error:  # a formula that is wrong may also leave its domain
        return np.inf, np.inf, f"{type(error).__name__}: {error}"
    if not certificate.passed:
        return relative, certificate.radius, f"disproved: a residual of {certificate.radius:.3g} excludes 0"
    if not relative <= LIMIT:
        return relative, certificate.radius, f"float64 error is {relative:.3g} of the scale, allowed is {LIMIT:.3g}"
    return relative, certificate.radius, None


def _relative(error: float, scale: float) -> float:
    if np.isnan(error):
        return np.inf
    return float(error / scale) if scale > 0.0 else (0.0 if error == 0.0 else np.inf)


def errors_t1(case: Case) -> list[Error]:
    """Scale `max|log p|` over the finite entries of the policies involved."""
    log_pi_ref, log_c = theory.interpolate(case.log_pi_0, case.log_pi_t, case.alpha)
    left = theory.dual_kl(case.log_pi, case.log_pi_0, case.log_pi_t, case.alpha)
    right = theory.kl(case.log_pi, log_pi_ref) - log_c
    with certify.precision(JUDGE_BITS):
        x = certify.Exact.of(case)
        exact_ref, exact_c = certify.normalize(certify.mixture(x.log_pi_0, x.log_pi_t, x.alpha))
        exact = certify.dual_kl(x.log_pi, x.log_pi_0, x.log_pi_t, x.alpha)
        scale = _log_scale(case.log_pi, case.log_pi_0, case.log_pi_t)
        return [
            Error(_distance(left, right), scale),
            Error(_distance(left, exact), scale),
            Error(_distance(log_c, exact_c), scale),
            Error(_policy_distance(log_pi_ref, exact_ref), scale),
        ]


def errors_t2(case: Case) -> list[Error]:
    """Scale `max|A|/beta + max|log p|` for log-probabilities, beta times that for values."""
    bandit = (case.advantage, case.log_pi_0, case.log_pi_t, case.alpha, case.beta)
    best = theory.optimum(*bandit)
    j_pi, j_best = theory.objective(case.log_pi, *bandit), theory.objective(best.log_pi, *bandit)
    gap = case.beta * theory.kl(case.log_pi, best.log_pi)
    with certify.precision(JUDGE_BITS):
        x = certify.Exact.of(case)
        exact_best, exact_value = certify.optimum(*x[1:6])
        exact_j = certify.objective(*x[:6])
        scale = _tilted_scale(case)
        return [
            Error(_policy_distance(best.log_pi, exact_best), scale),
            Error(_distance(best.value, exact_value), case.beta * scale),
            Error(_distance(j_best, exact_value), case.beta * scale),
            Error(_distance(j_pi, exact_j), case.beta * scale),
            Error(_distance(j_best - j_pi, gap), case.beta * scale),
        ]


def errors_t3(case: Case) -> list[Error]:
    """Scale as in T2 for the target and for log mass; `max|log pi|` times that for the loss per unit of mass."""
    return _regression_errors(case, None)


def errors_t4(case: Case) -> list[Error]:
    """As T3, with `|log w_clip|` added to the scale."""
    return _regression_errors(case, case.w_clip)


def _regression_errors(case: Case, w_clip: float | None) -> list[Error]:
    arguments = (case.advantage, case.log_pi_0, case.log_pi_t, case.alpha, case.beta, w_clip)
    target = theory.regression_target(*arguments)
    log_mass = theory.regression_weights(*arguments).log_mass
    loss = theory.regression_loss(case.log_pi, *arguments)
    with certify.precision(JUDGE_BITS):
        x = certify.Exact.of(case)
        clip = None if w_clip is None else x.w_clip
        log_v = certify.log_weights(x.advantage, x.log_pi_0, x.log_pi_t, x.alpha, x.beta, clip)
        exact_target, exact_mass = certify.regression_target(x.log_pi_t, log_v)
        scale = _tilted_scale(case) + (0.0 if w_clip is None else abs(np.log(w_clip)))
        errors = [
            Error(_policy_distance(target, exact_target), scale),
            Error(_distance(log_mass, exact_mass), scale),
        ]
        if abs(log_mass) < 700.0:  # beyond, the loss itself leaves float64
            exact_loss = certify.regression_loss(x.log_pi, x.log_pi_t, log_v, exact_mass)
            per_mass = arb(float(loss)) / exact_mass.exp()
            errors.append(Error(_distance(per_mass, exact_loss), scale * _log_scale(case.log_pi)))
        return errors


def _tilted_scale(case: Case) -> float:
    return float(np.abs(case.advantage).max() / case.beta) + _log_scale(case.log_pi, case.log_pi_0, case.log_pi_t)


def _log_scale(*log_policies: Array) -> float:
    return max(float(np.abs(log_p[log_p > -np.inf]).max()) for log_p in log_policies)


def _distance(left: float | Array | arb, right: float | Array | arb) -> float:
    """|left - right| of numbers or balls; 0 where both are the same infinity."""
    left, right = (x if isinstance(x, arb) else arb(float(x)) for x in (left, right))
    return 0.0 if left == right and not left.is_finite() else float(abs(left - right))


def _policy_distance(log_p: Array, exact: certify.Policy) -> float:
    """Largest difference of log-probabilities; infinite where the supports differ."""
    differences = [
        (0.0 if p == -np.inf else np.inf) if q is None else _distance(p, q) for p, q in zip(log_p, exact, strict=True)
    ]
    return max(differences)


STATEMENTS = {
    s.id: s
    for s in (
        Statement("T1", "dual KL = KL(pi‖pi_ref) - log C", errors_t1),
        Statement("T2", "J(pi*) - J(pi) = beta KL(pi‖pi*)", errors_t2),
        Statement("T3", "pi* minimises the regression", errors_t3),
        Statement("T4", "the clip moves the target", errors_t4),
    )
}


def report(rows: list[Row]) -> dict[str, object]:
    """The outcome as plain values for JSON: `passed`, and `statements` with `id, claim, cases, worst, bound, passed`.

    A float that JSON lacks (an infinite error of a failed statement) becomes the string "inf".
    """
    statements = [
        {
            "id": row.id,
            "claim": row.claim,
            "cases": row.cases,
            "worst": row.worst if np.isfinite(row.worst) else "inf",
            "bound": row.bound if np.isfinite(row.bound) else "inf",
            "passed": row.passed,
            "failure": row.failure,
        }
        for row in rows
    ]
    return {"passed": all(row.passed for row in rows), "statements": statements}
