"""Test every statement on random cases: the work of `dar-ref verify`.

Each case is checked twice. In float64: the functions of `dar_ref.theory` against ball arithmetic, and the identity
between them; the error must stay within `LIMIT` times the scale stated beside each check. And exactly: `certify` proves
the identity on this very case to D digits. A statement passes if all its cases do, both times.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from dar_ref import scalars
from dar_ref.verify import (
    t01_t04_optimum,
    t05_t11_iteration,
    t06_region,
    t07_best_policy,
    t08_t10_estimators,
    t09_trust_regions,
    t12_budgets,
    t13_t15_samples,
    t14_zero_sum,
)
from dar_ref.verify.certify import MOST_DIGITS, certify
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
            *t12_budgets.STATEMENTS,
            *t13_t15_samples.STATEMENTS,
            *t14_zero_sum.STATEMENTS,
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
    seed: int = 0, cases: int = 1000, digits: int = 100, progress: Callable[[Sequence[int]], Iterable[int]] = iter
) -> list[Row]:
    """Test every statement on `cases` random bandits.

    Args:
        seed: case i is drawn from `numpy.random.default_rng([seed, i])`, so a failed case can be drawn again by itself.
        cases: number of bandits, >= 1.
        digits: decimal digits of the certificates, >= 1.
        progress: wrapper of the case numbers, for a progress bar.

    Returns:
        One `Row` per statement.

    Raises:
        TypeError, ValueError: fewer than one case or digit, a negative seed, or no whole number.
    """
    scalars.seed("seed", seed)
    scalars.integer("cases", cases, 1)
    scalars.integer("digits", digits, 1, MOST_DIGITS)
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


def rows_as_json(rows: list[Row]) -> dict[str, object]:
    """The rows as JSON can hold them: `passed`, and in `statements` `id, claim, cases, worst, bound, passed, failure`.

    An infinite error of a statement that failed becomes the text "inf".
    """
    statements = [{name: "inf" if value == np.inf else value for name, value in row._asdict().items()} for row in rows]
    return {"passed": all(row.passed for row in rows), "statements": statements}
