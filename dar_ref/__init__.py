"""The executable reference for DAR, Dual-regularized Advantage Regression (arXiv 2602.11523).

`dar_ref.theory` is exact numpy, `dar_ref.losses` the same loss in torch, `dar_ref.bandit` trains with it where
everything enumerates. Importing `dar_ref` loads the theory, which is numpy only; torch is loaded by the layers that
need it, when they are imported.
"""

__version__ = "0.1.0"

from dar_ref import theory

__all__ = ["__version__", "theory"]
