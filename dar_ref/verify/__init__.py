"""The certificates: every statement of the theory tried on random bandits, in float64 and in ball arithmetic.

`run` is what `dar-ref verify` runs. `t01_t04_optimum` to `t09_trust_regions` hold the statements, `arb` the same
formulas in ball arithmetic, written from their definitions alone.
"""

from dar_ref.verify.certify import Certificate, certify
from dar_ref.verify.run import STATEMENTS, Row, rows_as_json, verify

__all__ = ["STATEMENTS", "Certificate", "Row", "certify", "rows_as_json", "verify"]
