"""The executable reference for DAR, Dual-regularized Advantage Regression (arXiv 2602.11523).

`dar_ref.theory` has the exact statements in numpy, `dar_ref.losses` the loss in torch. `dar_ref.bandit` trains with
this loss on tasks that can be enumerated. `import dar_ref` loads the theory, which needs numpy only. Torch is loaded
when a layer that needs it is imported.
"""

__version__ = "0.1.0"

from dar_ref import theory

__all__ = ["__version__", "theory"]
