"""Test every statement on random cases: the work of `dar-ref verify`.

Each case has two tests. In float64, the functions of `dar_ref.theory` are compared with ball arithmetic, and with each
other through the identity. The error must be within `LIMIT` times the scale stated with each check. In ball arithmetic,
`certify` proves the identity on the same case to D digits. A statement passes if all its cases pass both tests.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from dar_ref.verify import (
    t01_t04_optimum,
    t05_t11_iteration,
    t06_region,
    t07_best_policy,
    t08_t10_estimators,
    t09_trust_regions,
)
from dar_ref.verify.certify import certify
from dar_ref.verify.statement import LIMIT, Statement, relative

STATEMENTS = {
    statement.id: statement
    for statement in sorted(
        (
            *t01_t04_optimum.STATEMENTS,
            *t05_t11_iteration.STATEMENTS,
            *t06_region.STATEMENTS,
            *t07_best_policy.STATEMENTS,
            *t09_trust_regions.STATEMENTS,
            *t08_t10_estimators.STATEMENTS,
        ),
        key=lambda statement: int(statement.id.removeprefix("T")),
    )
}


class Row(NamedTuple):
    """Outcome of one statement.

    worst: largest float64 error per unit of scale; bound: largest certified radius; failure: the first failed case with
    the reason, or None.
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
    """Test every statement on `cases` random bandits.

    Args:
        seed: case i is drawn from `numpy.random.default_rng([seed, i])`, so a failed case can be drawn again by itself.
        cases: number of bandits, >= 1.
        digits: decimal digits of the certificates, >= 1.
        progress: wrapper of the iterable of case numbers, for a progress bar.

    Returns:
        One `Row` per statement.

    Raises:
        ValueError: fewer than one case or digit, or a negative seed.
    """
    if cases < 1 or digits < 1:
        raise ValueError(f"cases = {cases}, digits = {digits}: nothing to verify; ask for at least 1 of each")
    if seed < 0:
        raise ValueError(f"seed = {seed} is negative; numpy's generators take seeds from 0 on")
    worst = dict.fromkeys(STATEMENTS, 0.0)
    bound = dict.fromkeys(STATEMENTS, 0.0)
    tried = dict.fromkeys(STATEMENTS, 0)
    failures: dict[str, str] = {}
    for number in progress(range(cases)):
        for key, statement in STATEMENTS.items():
            if number % statement.every:
                continue
            error, radius, reason = _judge(statement, np.random.default_rng([seed, number]), digits)
            tried[key] += 1
            worst[key], bound[key] = max(worst[key], error), max(bound[key], radius)
            if reason:
                failures.setdefault(key, f"case {number} of seed {seed}: {reason}")
    return [
        Row(key, s.claim, tried[key], worst[key], bound[key], key not in failures, failures.get(key))
        for key, s in STATEMENTS.items()
    ]


def _judge(statement: Statement, rng: np.random.Generator, digits: int) -> tuple[float, float, str | None]:
    """Float64 error per unit of scale, certified radius, and the reason of a failure or None."""
    case = statement.draw(rng)
    try:
        with np.errstate(invalid="ignore"):  # a wrong formula may give inf - inf; nan fails
            worst = max(relative(error) for error in statement.errors(case))
        certificate = certify(statement.residuals, case, digits)
    except (ValueError, ZeroDivisionError) as error:  # a wrong formula may leave its domain
        return np.inf, np.inf, f"{type(error).__name__}: {error}"
    if not certificate.passed:
        return worst, certificate.radius, f"disproved: a residual of {certificate.radius:.3g} excludes 0"
    if not worst <= LIMIT:
        return worst, certificate.radius, f"float64 error is {worst:.3g} of the scale, allowed is {LIMIT:.3g}"
    return worst, certificate.radius, None


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
