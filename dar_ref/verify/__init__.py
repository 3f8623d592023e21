"""The certificates: every statement of the theory tried on random bandits, in float64 and in ball arithmetic.

`dar-ref verify` calls `run`. The modules `t01_t04_optimum` to `t14_zero_sum` contain the statements. `arb`
contains the same formulas in ball arithmetic, written from their definitions.
"""

from dar_ref.verify.certify import Certificate, certify
from dar_ref.verify.run import STATEMENTS, Row, rows_as_json, verify

__all__ = ["STATEMENTS", "Certificate", "Row", "certify", "rows_as_json", "verify"]
