"""Baselines with a policy ratio or a score-function gradient: DAO, GRPO, RLOO, PPO and dual PPO.

Each is the loss of its own paper; its KL weight and KL estimator are arguments. Shapes: `B = N*K` completions, `T`
tokens. Bare names are sums per sequence (B,), `per_token_` names are (B, T), `completion_mask` 1 = keep. Only `logps`
or `per_token_logps` gets a gradient.

Estimators of KL(pi_theta‖q) per token, with `d = log q - log pi_theta` and samples of pi_theta (Schulman,
"Approximating KL divergence"): k1 `-d`, k2 `d^2 / 2`, k3 `exp(d) - 1 - d`. The papers use them on samples of pi_t,
where they are biased.
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from dar_ref import scalars
from dar_ref.losses import checks
from dar_ref.losses.advantages import finite_rewards
from dar_ref.losses.logps import counted, masked_sum, sequence_mean

KLEstimator = Literal["k1", "k2", "k3"]


def dao_loss(
    logps: Tensor,
    ref_logps: Tensor,
    old_logps: Tensor,
    advantages: Tensor,
    *,
    alpha: float = 0.1,
    beta: float = 0.05,
    sample_weight: Tensor | None = None,
) -> Tensor:
    """DAO: the dual-KL objective by policy gradient instead of regression.

    `loss = -mean_i rho_i (A_i - beta (alpha log(pi/pi_0) + (1-alpha) log(pi/pi_t)))`, `rho = pi/pi_t`, with the bracket
    constant. Its expected gradient over samples of pi_t is the gradient of `-J` for every pi whose support pi_t covers.

    Args:
        logps: (B,), log pi_theta of each completion, summed over its tokens.
        ref_logps: (B,), log pi_0.
        old_logps: (B,), log pi_t, the distribution that was sampled.
        advantages: (B,), finite.
        alpha: weight of pi_0 against pi_t, in [0, 1].
        beta: strength of the regulariser, > 0, in units of the advantage per nat.
        sample_weight: (B,), >= 0, what each sequence counts for in the mean, as in `dar_loss`.

    Returns:
        Scalar, float32 or the widest input type.

    Raises:
        TypeError, ValueError: wrong types, shapes or options.

    Source: arXiv 2602.11523, the ablation "dual KL without regression".
    """
    checks.per_sequence(logps=logps, ref_logps=ref_logps, old_logps=old_logps, advantages=advantages)
    alpha, beta = scalars.fraction("alpha", alpha, single=True), scalars.positive("beta", beta, single=True)
    policies = (checks.at_least_float32(x) for x in (logps, ref_logps, old_logps))
    logps, ref_logps, old_logps, advantages = counted(sample_weight, *policies, advantages)
    constant = logps.detach()  # stop-gradient: the bracket is the reward of the score-function estimator
    bracket = advantages - beta * (1.0 - alpha) * (constant - old_logps)  # (B,)
    if alpha > 0.0:  # at alpha 0 a completion that pi_0 excludes would give 0 * inf, which is NaN
        bracket = bracket - beta * alpha * (constant - ref_logps)
    return -sequence_mean((logps - old_logps).exp() * bracket, sample_weight)


def grpo_loss(
    per_token_logps: Tensor,
    ref_per_token_logps: Tensor,
    old_per_token_logps: Tensor,
    advantages: Tensor,
    completion_mask: Tensor,
    *,
    epsilon: float = 0.2,
    beta: float = 0.04,
    kl_estimator: KLEstimator = "k3",
) -> Tensor:
    """GRPO: PPO's clipped surrogate with group-relative advantages, and a KL to pi_0 inside the loss.

    `loss = -mean_i (1/|y_i|) sum_t [min(rho_it A_i, clip(rho_it, 1-eps, 1+eps) A_i) - beta kl_it]`. `kl_it` estimates
    KL(pi‖pi_0) at token t.

    Args:
        per_token_logps: (B, T), log pi_theta of each token.
        ref_per_token_logps: (B, T), log pi_0.
        old_per_token_logps: (B, T), log pi_t.
        advantages: (B,); the paper's are `(r_i - mean_K(r)) / std_K(r)`.
        completion_mask: (B, T), 1 = keep.
        epsilon: half-width of the clip, >= 0.
        beta: weight of the KL term, >= 0, in units of the advantage per nat.
        kl_estimator: the paper uses "k3".

    Returns:
        Scalar, float32 or the widest input type. A completion without kept tokens adds 0 to the mean.

    Raises:
        TypeError, ValueError: wrong types, shapes or options.

    Source: DeepSeekMath, arXiv 2402.03300, Equations 3 and 4.
    """
    surrogate, mask, per_token_logps = _clipped_surrogate(
        per_token_logps, old_per_token_logps, advantages, completion_mask, epsilon
    )
    beta = scalars.non_negative("beta", beta, single=True)
    penalty = _kl_penalty(beta, per_token_logps, ref_per_token_logps, mask, kl_estimator)
    return -(masked_sum(surrogate - penalty, mask) / mask.sum(dim=-1).clamp(min=1)).mean()


def rloo_loss(
    logps: Tensor, ref_logps: Tensor, old_logps: Tensor, rewards: Tensor, num_generations: int, *, beta: float = 0.05
) -> Tensor:
    """RLOO: REINFORCE with the mean of the other completions as baseline, and the KL to pi_0 (k1) inside the reward.

    `R_i = r_i - beta (logp_t - logp_0)_i`, `A_i = R_i - mean_{j != i in the group} R_j`, `loss = -mean_i A_i log
    pi_theta(y_i)`. As in the paper there is no ratio, so the gradient is biased on samples of an older pi_t.

    Args:
        logps: (B,), log pi_theta of each completion, summed over its tokens.
        ref_logps: (B,), log pi_0.
        old_logps: (B,), log pi_t, the distribution that was sampled.
        rewards: (B,), finite, the K completions of each prompt side by side.
        num_generations: K >= 2.
        beta: weight of the KL in the reward, >= 0, in units of the reward per nat.

    Returns:
        Scalar, float32 or the widest input type.

    Raises:
        TypeError, ValueError: wrong types, shapes or options, or a reward that is not finite.

    Source: Ahmadian et al., arXiv 2402.14740, Equations 1 and 7.
    """
    checks.per_sequence(logps=logps, ref_logps=ref_logps, old_logps=old_logps, rewards=rewards)
    finite_rewards(rewards)
    beta = scalars.non_negative("beta", beta, single=True)
    num_groups = checks.groups(len(rewards), num_generations)
    returns = checks.at_least_float32(rewards)
    if beta > 0.0:  # at 0 pi_0 has no say, even where it is 0: 0 * inf would be NaN
        returns = returns - beta * (checks.at_least_float32(old_logps) - ref_logps)  # (B,)
    returns = returns.detach().view(num_groups, num_generations)  # (N, K)
    others = (returns.sum(dim=1, keepdim=True) - returns) / (num_generations - 1)  # (N, K), leave-one-out mean
    return -((returns - others).view(-1) * checks.at_least_float32(logps)).mean()


def ppo_loss(
    per_token_logps: Tensor,
    old_per_token_logps: Tensor,
    advantages: Tensor,
    completion_mask: Tensor,
    *,
    epsilon: float = 0.2,
) -> Tensor:
    """PPO: the clipped surrogate, mean over all kept tokens of the batch.

    `loss = -mean_{i,t} min(rho_it A_it, clip(rho_it, 1-eps, 1+eps) A_it)`. A KL to pi_0 is part of the reward, and so
    of the advantages.

    Args:
        per_token_logps: (B, T), log pi_theta of each token.
        old_per_token_logps: (B, T), log pi_t.
        advantages: (B, T) from a value function, or (B,), one for all tokens of a completion.
        completion_mask: (B, T), 1 = keep.
        epsilon: half-width of the clip, >= 0.

    Returns:
        Scalar, float32 or the widest input type.

    Raises:
        TypeError, ValueError: wrong types, shapes or options.

    Source: Schulman et al., arXiv 1707.06347, Equation 7.
    """
    surrogate, mask, _ = _clipped_surrogate(per_token_logps, old_per_token_logps, advantages, completion_mask, epsilon)
    return -_token_mean(surrogate, mask)


def dual_ppo_loss(
    per_token_logps: Tensor,
    ref_per_token_logps: Tensor,
    old_per_token_logps: Tensor,
    advantages: Tensor,
    completion_mask: Tensor,
    *,
    epsilon: float = 0.2,
    alpha: float = 0.1,
    beta: float = 0.05,
    kl_estimator: KLEstimator = "k3",
) -> Tensor:
    """Dual PPO: PPO's clipped surrogate with the dual KL as a penalty in the loss, mean over all kept tokens.

    `loss = -mean_{i,t} [min(rho A, clip(rho) A) - beta (alpha kl(pi‖pi_0) + (1-alpha) kl(pi‖pi_t))]`.

    Args:
        per_token_logps: (B, T), log pi_theta of each token.
        ref_per_token_logps: (B, T), log pi_0.
        old_per_token_logps: (B, T), log pi_t.
        advantages: (B, T) from a value function, or (B,), one for all tokens of a completion.
        completion_mask: (B, T), 1 = keep.
        epsilon: half-width of the clip, >= 0.
        alpha: weight of pi_0 against pi_t, in [0, 1].
        beta: weight of the dual KL, >= 0, in units of the advantage per nat.
        kl_estimator: per-token estimator of both KLs.

    Returns:
        Scalar, float32 or the widest input type.

    Raises:
        TypeError, ValueError: wrong types, shapes or options.

    Source: arXiv 2602.11523, the baseline "dual PPO". The paper does not name an estimator; k3 is our choice.
    """
    surrogate, mask, per_token_logps = _clipped_surrogate(
        per_token_logps, old_per_token_logps, advantages, completion_mask, epsilon
    )
    alpha, beta = scalars.fraction("alpha", alpha, single=True), scalars.non_negative("beta", beta, single=True)
    to_pi_0 = _kl_penalty(beta * alpha, per_token_logps, ref_per_token_logps, mask, kl_estimator)
    to_pi_t = _kl_penalty(beta * (1.0 - alpha), per_token_logps, old_per_token_logps, mask, kl_estimator)
    return -_token_mean(surrogate - to_pi_0 - to_pi_t, mask)


def _clipped_surrogate(
    per_token_logps: Tensor, old_per_token_logps: Tensor, advantages: Tensor, completion_mask: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Check the input. Return `min(rho A, clip(rho) A)`, the mask as booleans, and the log-probs in float32 or better,
    all (B, T); masked tokens give 0. A loss of several terms reads these log-probs, so that their gradients are added
    before they are rounded to the type of the input."""
    checks.per_token(completion_mask, per_token_logps=per_token_logps, old_per_token_logps=old_per_token_logps)
    epsilon = scalars.non_negative("epsilon", epsilon, single=True)
    if isinstance(advantages, Tensor) and advantages.shape == per_token_logps.shape[:1]:
        advantages = advantages[:, None].expand(per_token_logps.shape)  # (B,) -> (B, T)
    checks.per_token(completion_mask, advantages=advantages)
    mask = completion_mask.bool()
    # Masked entries are replaced before `exp`: a NaN there would reach the gradient through any later `where`.
    per_token_logps = checks.at_least_float32(per_token_logps)
    log_ratio = torch.where(mask, per_token_logps - old_per_token_logps, 0.0)
    advantages = torch.where(mask, advantages, 0.0)
    # min(rho A, clip(rho) A) bounds rho above where A >= 0 and below where A < 0. The bound is put on log rho: an rho
    # that overflows and is clipped afterwards has the gradient 0 * inf.
    least = math.log1p(-epsilon) if epsilon < 1.0 else -math.inf
    bounded = torch.where(advantages < 0.0, log_ratio.clamp(min=least), log_ratio.clamp(max=math.log1p(epsilon)))
    return bounded.exp() * advantages, mask, per_token_logps


def _kl_penalty(weight: float, logps: Tensor, other_logps: Tensor, mask: Tensor, estimator: KLEstimator) -> Tensor:
    """`weight` times the estimate of KL(pi_theta‖other) at each kept token, (B, T), 0 elsewhere."""
    scalars.choice("kl_estimator", estimator, get_args(KLEstimator))
    checks.per_token(mask, ref_per_token_logps=other_logps)
    log_ratio = torch.where(mask, other_logps - logps, 0.0)
    if weight < scalars.SINGLE[0]:  # 0 in float32, and 0 * inf is not a number
        return torch.zeros_like(log_ratio)
    if estimator == "k1":
        return -weight * log_ratio
    return weight * (0.5 * log_ratio**2 if estimator == "k2" else torch.expm1(log_ratio) - log_ratio)


def _token_mean(per_token: Tensor, mask: Tensor) -> Tensor:
    return masked_sum(per_token, mask).sum() / mask.sum().clamp(min=1)
