"""Exact theory of DAR on finite sets of arms, in float64 numpy: the statements of the paper as functions.

Policies are log-probabilities over the last axis; leading axes broadcast; `-inf` is probability zero. The names follow
the paper: `log_pi_0` is the initial policy, `log_pi_t` the current policy (the sampler), `log_pi` the policy that is
evaluated; `advantage`, `alpha` and `beta` are as in the objective.
"""

from dar_ref.theory.advantage import ExactAdvantage, exact_advantage
from dar_ref.theory.budgets import budgeted_path
from dar_ref.theory.constrained import ConstrainedOptimum, constrained_optimum
from dar_ref.theory.divergence import Chernoff, chernoff, kl, renyi
from dar_ref.theory.dual_kl import Interpolation, Optimum, dual_kl, interpolate, objective, optimum
from dar_ref.theory.estimators import Moments, efficiency, estimator_moments, noise_to_signal
from dar_ref.theory.finite_samples import fit_error, weight_ess
from dar_ref.theory.iteration import coverage, fixed_point, iterate, log_fixed_weight
from dar_ref.theory.kl_estimators import KLMoments, kl_estimate, kl_estimator_moments, kl_loss_gradient
from dar_ref.theory.normalization import (
    NormalizedFixedPoints,
    log_ratio_std,
    normalized_fixed_points,
    normalized_threshold,
)
from dar_ref.theory.region import Feasibility, feasible, matched_radius
from dar_ref.theory.regression import RegressionWeights, regression_loss, regression_target, regression_weights
from dar_ref.theory.sampled_target import prompt_mass, sampled_target
from dar_ref.theory.translation import Strengths, Weighting, from_strengths, to_strengths
from dar_ref.theory.trust_regions import BestReward, Closest, best_reward, closest
from dar_ref.theory.volume import Volume, region_volume

__all__ = [
    "BestReward",
    "Chernoff",
    "Closest",
    "ConstrainedOptimum",
    "ExactAdvantage",
    "Feasibility",
    "Interpolation",
    "KLMoments",
    "Moments",
    "NormalizedFixedPoints",
    "Optimum",
    "RegressionWeights",
    "Strengths",
    "Volume",
    "Weighting",
    "best_reward",
    "budgeted_path",
    "chernoff",
    "closest",
    "constrained_optimum",
    "coverage",
    "dual_kl",
    "efficiency",
    "estimator_moments",
    "exact_advantage",
    "feasible",
    "fit_error",
    "fixed_point",
    "from_strengths",
    "interpolate",
    "iterate",
    "kl",
    "kl_estimate",
    "kl_estimator_moments",
    "kl_loss_gradient",
    "log_fixed_weight",
    "log_ratio_std",
    "matched_radius",
    "noise_to_signal",
    "normalized_fixed_points",
    "normalized_threshold",
    "objective",
    "optimum",
    "prompt_mass",
    "region_volume",
    "regression_loss",
    "regression_target",
    "regression_weights",
    "renyi",
    "sampled_target",
    "to_strengths",
    "weight_ess",
]
