"""Exact theory of DAR on finite sets of arms, in float64 numpy: what the paper states, as functions.

Policies are log-probabilities over the last axis; leading axes broadcast; `-inf` is probability zero. Names are the paper's:
`log_pi_0` initial policy, `log_pi_t` current policy (the sampler), `log_pi` the policy being judged, `advantage`, `alpha`, `beta`.
"""

from dar_ref.theory.divergence import Chernoff, chernoff, kl, renyi
from dar_ref.theory.dual_kl import Interpolation, Optimum, dual_kl, interpolate, objective, optimum
from dar_ref.theory.regression import RegressionWeights, regression_loss, regression_target, regression_weights

__all__ = [
    "Chernoff",
    "Interpolation",
    "Optimum",
    "RegressionWeights",
    "chernoff",
    "dual_kl",
    "interpolate",
    "kl",
    "objective",
    "optimum",
    "regression_loss",
    "regression_target",
    "regression_weights",
    "renyi",
]
