"""Every statement on one ordinary bandit: proved to any number of digits, and within the limit in float64."""

import pytest

from dar_ref.verify import run
from dar_ref.verify.certify import certify
from dar_ref.verify.statement import LIMIT, relative
from tests.verify import test_certify, test_t05_t08_t10_t11, test_t06_t07_t09, test_t12_t15

WITNESS = dict.fromkeys(("T1", "T2", "T3", "T4"), test_certify.ORDINARY)
WITNESS |= test_t05_t08_t10_t11.WITNESS | test_t06_t07_t09.WITNESS | test_t12_t15.WITNESS


def test_there_is_a_witness_for_every_statement():
    assert {key.split()[0] for key in WITNESS} == set(run.STATEMENTS)


@pytest.mark.parametrize("key", WITNESS)
@pytest.mark.parametrize("digits", [1, 100, 1000])
def test_true_statements_are_proved_to_any_number_of_digits(key, digits):
    statement = run.STATEMENTS[key.split()[0]]
    certificate = certify(statement.residuals, WITNESS[key], digits)
    assert certificate.passed
    assert certificate.radius <= 10.0**-digits  # 0 <= 0 at 1000 digits: beyond float64
    assert 0.0 <= max(relative(error) for error in statement.errors(WITNESS[key])) <= LIMIT
