"""T8 and T10 as statements to verify: moments and means of the updates, and the own sample in the baseline.

Float64 is compared with an enumeration of ordered batches in ball arithmetic (`dar_ref.verify.arb.updates`). Gradients
come from the definitions of J and of the loss by power series, `f(logits + x e_a)` to first order in x. So no chain
rule is written by hand.
"""

from collections.abc import Callable
from itertools import product
from typing import Literal, NamedTuple

import numpy as np
from flint import arb, arb_series

from dar_ref import theory
from dar_ref.theory.batches import Baseline, Normalize
from dar_ref.theory.checks import Array
from dar_ref.theory.dual_kl import log_normalize
from dar_ref.theory.updates import Method
from dar_ref.verify.arb import policies
from dar_ref.verify.arb.policies import Exact, Policy
from dar_ref.verify.arb.updates import EstimatorCase, Updates, ordered_batches, sampled_advantages
from dar_ref.verify.random_bandits import Case, draw_case, random_alpha
from dar_ref.verify.statement import (
    JUDGE_BITS,
    Error,
    Statement,
    distance,
    log_scale,
    policy_distance,
    policy_residuals,
    shortfall,
)

SHAPES = ((1, 2), (1, 3), (2, 2))  # prompts and completions
NONE: Literal["none"] = "none"
ADVANTAGES: tuple[tuple[Baseline, Normalize], ...] = (
    ("group", NONE),
    ("group", "group"),
    ("group", "batch"),
    ("leave_one_out", NONE),
    ("leave_one_out", "group"),
    ("leave_one_out", "batch"),
    (NONE, NONE),
)


def draw_batch(rng: np.random.Generator) -> EstimatorCase:
    """Draw one or two bandits of up to three arms and the options of the updates.

    Narrower than T1 to T4, since moments are not logs: `A/beta` to about 60 and policies to tens of nats, so that
    squares of weights stay in float64. Rewards from 1e-6 to 1e6, ties among them; arms that `pi_t` or `pi_0` lack; no
    std without a baseline, where `A/std` has no bound.
    """
    prompts, completions = SHAPES[rng.integers(len(SHAPES))]
    arms = int(rng.integers(1, 4))
    reward = 10.0 ** rng.uniform(-6.0, 6.0) * rng.standard_normal((prompts, arms))
    if rng.random() < 0.2:
        reward[:, -1] = reward[0, 0]
    baseline, normalize = ADVANTAGES[rng.integers(len(ADVANTAGES))]
    unit = float(np.abs(reward).max()) if normalize == NONE else 1.0
    return EstimatorCase(
        reward,
        _policies(rng, prompts, arms, 0.0),
        _policies(rng, prompts, arms, 0.2),
        _policies(rng, prompts, arms, 0.2),
        completions,
        random_alpha(rng),
        unit * 10.0 ** rng.uniform(-1.5, 3.0),
        None if rng.random() < 0.5 else 10.0 ** rng.uniform(-2.0, 2.0),
        10.0 ** rng.uniform(-3.0, 0.0),
        baseline,
        normalize,
    )


def _policies(rng: np.random.Generator, prompts: int, arms: int, dropped: float) -> Array:
    logits = 10.0 ** rng.uniform(-3.0, 1.0) * rng.standard_normal((prompts, arms))
    logits[:, 1:][rng.random((prompts, arms - 1)) < dropped] = -np.inf  # the first arm stays
    return log_normalize(logits)[0]


class GroupCase(NamedTuple):
    """A case of T10: a bandit whose `advantage` is the reward, and K."""

    bandit: Case
    num_generations: int


def draw_group(rng: np.random.Generator) -> GroupCase:
    """Draw a bandit as for T1 to T4, with K = 2, or up to 4 for at most three arms."""
    case = draw_case(rng)
    return GroupCase(case, int(rng.integers(2, 5)) if len(case.advantage) <= 3 else 2)


def errors_t8(case: EstimatorCase) -> list[Error]:
    """Means and covariances of the four updates, scale as in `Updates.moments`; an update that takes the log of a
    probability zero is left out, since `estimator_moments` refuses it."""
    options: dict[Method, dict[str, float | None]] = {
        "dar": {"alpha": case.alpha, "w_clip": case.w_clip},
        "grpo": {"epsilon": case.epsilon},
    }
    if not ((case.log_pi_0 == -np.inf) & (case.log_pi_t > -np.inf)).any():
        options["dao"] = {"alpha": case.alpha}
        if case.normalize == NONE:
            options["rloo"] = {}
    errors: list[Error] = []
    with policies.precision(JUDGE_BITS):
        updates = Updates(case)
        for method, own in options.items():
            ours = theory.estimator_moments(
                method,
                case.reward,
                case.log_pi_theta,
                case.log_pi_0,
                case.log_pi_t,
                case.num_generations,
                alpha=own.get("alpha"),
                beta=case.beta,
                w_clip=own.get("w_clip"),
                epsilon=own.get("epsilon"),
                baseline=case.baseline,
                normalize=case.normalize,
            )
            true = updates.moments(method)
            errors += map(Error, map(distance, ours.mean, true.mean), map(float, true.mean_scale))
            for row, true_row, scales in zip(ours.covariance, true.covariance, true.covariance_scale, strict=True):
                errors += map(Error, map(distance, row, true_row), map(float, scales))
    return errors


def residuals_t8(case: EstimatorCase) -> list[arb]:
    """With the exact advantage, prompt by prompt: the expected DAO update is the gradient of J where `pi_t` covers
    `pi_theta`, and elsewhere lacks the terms of the arms that `pi_t` never draws; the expected DAR update per unit of
    `sum pi_t v` is minus the gradient of the regression loss, and `target - pi_theta`, clipped or not; `beta` DAR - DAO
    vanishes to first order in h, `A, log pi_0/pi_t, log pi_theta/pi_t` all taken times h; and one clipped DAR sample
    has `E|U|^2 <= 2 w_clip^2`.

    J is finite for a `pi_theta` on the arms of the anchors that count: it is conditioned on both, and at alpha = 1 once
    more on those of `pi_0` alone. All policies of the first order are on the arms that both anchors have.
    """
    balls: list[arb] = []
    for bandit in case.bandits():
        balls += _dar_residuals(bandit, None if case.w_clip is None else bandit.w_clip)
        shared = [p is not None and q is not None for p, q in zip(bandit.log_pi_0, bandit.log_pi_t, strict=True)]
        balls += _dao_residuals(_conditioned(bandit, shared))
        if case.alpha == 1.0:
            balls += _uncovered_residuals(_conditioned(bandit, [p is not None for p in bandit.log_pi_0]))
    return balls


def _conditioned(x: Exact, arms: list[bool]) -> Exact:
    """The bandit on some of its arms, with each policy conditioned on them."""
    log_pi, log_pi_0, log_pi_t = (
        policies.normalize([p for p, kept in zip(policy, arms, strict=True) if kept])[0]
        for policy in (x.log_pi, x.log_pi_0, x.log_pi_t)
    )
    advantage = [a for a, kept in zip(x.advantage, arms, strict=True) if kept]
    return x._replace(log_pi=log_pi, log_pi_0=log_pi_0, log_pi_t=log_pi_t, advantage=advantage)


def _dar_residuals(x: Exact, w_clip: arb | None) -> list[arb]:
    log_v = policies.log_weights(x.advantage, x.log_pi_0, x.log_pi_t, x.alpha, x.beta, w_clip)
    target, log_mass = policies.regression_target(x.log_pi_t, log_v)
    update = expected_update(x.log_pi, x.log_pi_t, [None if v is None else (v - log_mass).exp() for v in log_v])
    slope = gradient(x.log_pi, lambda log_pi: policies.regression_loss(log_pi, x.log_pi_t, log_v, log_mass))
    reached = [_probability(q) - _probability(p) for q, p in zip(target, x.log_pi, strict=True)]
    balls = [u + g for u, g in zip(update, slope, strict=True)] + [u - r for u, r in zip(update, reached, strict=True)]
    return balls if w_clip is None else [*balls, shortfall(arb(2), second_moment(x.log_pi, x.log_pi_t, log_v, w_clip))]


def _dao_residuals(x: Exact) -> list[arb]:
    """The gradient of J, and the first order in h, for policies of full support."""
    bandit = (x.advantage, x.log_pi_0, x.log_pi_t, x.alpha, x.beta)
    update = expected_update(x.log_pi, x.log_pi_t, dao_coefficients(x))
    slope = gradient(x.log_pi, lambda log_pi: policies.objective(log_pi, *bandit))
    near = _near(x)
    log_w = policies.log_weights(near.advantage, near.log_pi_0, near.log_pi_t, near.alpha, near.beta, None)
    dar = expected_update(near.log_pi, near.log_pi_t, [None if w is None else w.exp() for w in log_w])
    dao = expected_update(near.log_pi, near.log_pi_t, dao_coefficients(near))
    gaps = [x.beta * u - v for u, v in zip(dar, dao, strict=True)]
    return [u - g for u, g in zip(update, slope, strict=True)] + [gap[order] for gap in gaps for order in (0, 1)]


def _uncovered_residuals(x: Exact) -> list[arb]:
    """alpha = 1, where J does not see `pi_t`: its gradient is the mean DAO update and the terms of the arms that `pi_t`
    lacks, `sum pi_theta (A - beta log(pi_theta/pi_0)) (e_y - pi_theta)` over them."""
    bandit = (x.advantage, x.log_pi_0, x.log_pi_t, x.alpha, x.beta)
    slope = gradient(x.log_pi, lambda log_pi: policies.objective(log_pi, *bandit))
    update = expected_update(x.log_pi, x.log_pi_t, dao_coefficients(x))
    never = [p if q is None else None for p, q in zip(x.log_pi, x.log_pi_t, strict=True)]
    logs = zip(x.advantage, _full(x.log_pi), _full(x.log_pi_0), strict=True)
    missing = expected_update(x.log_pi, never, [a - x.beta * (p - o) for a, p, o in logs])
    return [u + m - g for u, m, g in zip(update, missing, slope, strict=True)]


def second_moment(log_pi: Policy, log_pi_t: Policy, log_v: Policy, w_clip: arb) -> arb:
    """`sum_y pi_t v^2 |e_y - pi|^2 / w_clip^2`."""
    total = arb(0)
    for y, (q, v) in enumerate(zip(log_pi_t, log_v, strict=True)):
        if q is not None and v is not None:
            pull = [(y == a) - _probability(p) for a, p in enumerate(log_pi)]
            total += (q + 2 * (v - w_clip.log())).exp() * sum((x * x for x in pull), arb(0))
    return total


def _near(x: Exact) -> Exact:
    """`A`, `log pi_0/pi_t` and `log pi_theta/pi_t` times h, as power series in h up to h^1."""
    h = arb_series([0, 1], prec=2)
    log_pi, log_pi_0 = (
        log_softmax([q + h * (p - q) for p, q in zip(_full(policy), _full(x.log_pi_t), strict=True)])
        for policy in (x.log_pi, x.log_pi_0)
    )
    return x._replace(log_pi=log_pi, log_pi_0=log_pi_0, advantage=[a * h for a in x.advantage])


def gradient(log_pi: Policy, function: Callable[[Policy], arb_series]) -> list[arb]:
    """Derivatives of a function of a policy with respect to its logits, from `f(logits + x e_a)` as a power series."""
    logits = _full(log_pi)
    steps = [[p + arb_series([0, int(y == a)], prec=2) for y, p in enumerate(logits)] for a in range(len(logits))]
    return [function(log_softmax(step))[1] for step in steps]


def log_softmax(logits: list[arb_series]) -> Policy:
    """`policies.normalize` for power series, which have no maximum."""
    log_total = sum((x.exp() for x in logits), arb(0)).log()
    return [x - log_total for x in logits]


def expected_update(log_pi: Policy, log_pi_t: Policy, coefficients: Policy) -> list[arb]:
    """`sum_y pi_t(y) c(y) (e_y - pi)`; numbers or power series."""
    update = [arb(0)] * len(log_pi)
    for y, (q, c) in enumerate(zip(log_pi_t, coefficients, strict=True)):
        if q is not None and c is not None:
            pull = q.exp() * c
            update = [
                u + pull * ((y == a) - _probability(p)) for a, (u, p) in enumerate(zip(update, log_pi, strict=True))
            ]
    return update


def dao_coefficients(x: Exact) -> Policy:
    """`rho (A - beta (alpha log(pi/pi_0) + (1-alpha) log(pi/pi_t)))`; numbers or power series, all arms of pi and pi_0
    alive; None where `pi_t` draws nothing."""
    logs = zip(x.advantage, _full(x.log_pi), _full(x.log_pi_0), x.log_pi_t, strict=True)
    return [
        None if q is None else (p - q).exp() * (a - x.beta * (x.alpha * (p - o) + (1 - x.alpha) * (p - q)))
        for a, p, o, q in logs
    ]


def _full(policy: Policy) -> list[arb]:
    return [p for p in policy if p is not None]


def _probability(log_p: arb | None) -> arb:
    return arb(0) if log_p is None else log_p.exp()


def errors_t10(case: GroupCase) -> list[Error]:
    """Log-probabilities of the target. Their terms are `K log pi_t`, log w and `log w_clip`.

    Scale: `2 max|r|/beta + K max|log p| + |log w_clip|`. Normalised advantages and their errors are at most about
    `sqrt(2K)`, which replaces `2 max|r|`.
    """
    x, completions = case
    arguments = (x.advantage, x.log_pi_0, x.log_pi_t, x.alpha, x.beta, completions)
    reach = 2.0 * float(np.abs(x.advantage).max()) / x.beta
    logs = completions * log_scale(x.log_pi_0, x.log_pi_t)
    log_clip = abs(float(np.log(x.w_clip)))
    tries: tuple[tuple[Baseline, Normalize, float | None, float], ...] = (
        ("group", NONE, None, reach + logs),
        ("leave_one_out", NONE, None, reach + logs),
        (NONE, NONE, x.w_clip, reach + logs + log_clip),
        ("group", "group", x.w_clip, np.sqrt(2.0 * completions) / x.beta + logs + log_clip),
    )
    errors = []
    with policies.precision(JUDGE_BITS):
        for baseline, normalize, w_clip, scale in tries:
            ours = theory.sampled_target(*arguments, w_clip, baseline=baseline, normalize=normalize)
            true = sampled_target(
                Exact.of(x), completions, baseline, normalize, None if w_clip is None else arb(w_clip)
            )
            errors.append(Error(policy_distance(ours, true), float(scale)))
    return errors


def sampled_target(
    x: Exact, completions: int, baseline: str, normalize: str = NONE, w_clip: arb | None = None
) -> Policy:
    """`pi'(y) ∝ E[sum_i v_i (y_i = y)]`: the minimiser of the expected loss, by enumeration of the ordered groups."""
    mass = [arb(0)] * len(x.advantage)
    for probability, (group,) in ordered_batches([x.log_pi_t], completions):
        (advantage,) = sampled_advantages([[x.advantage[y] for y in group]], baseline, normalize)
        for y, a in zip(group, advantage, strict=True):
            (log_v,) = policies.log_weights([a], [x.log_pi_0[y]], [x.log_pi_t[y]], x.alpha, x.beta, w_clip)
            mass[y] += probability * _probability(log_v)
    return policies.normalize([None if m == 0 else m.log() for m in mass])[0]


def residuals_t10(case: GroupCase) -> list[arb]:
    """`A_i - (K-1)/K (r_i - mean of the others)` in every group. The target of K samples minus `pi*`: at `beta K/(K-1)`
    with the group mean, at beta with the mean of the others. At K = 1, the target minus `pi_ref`."""
    x, completions = Exact.of(case.bandit), case.num_generations
    balls: list[arb] = []
    for group in product(x.advantage, repeat=completions):
        (own,) = sampled_advantages([list(group)], "group", NONE)
        (others,) = sampled_advantages([list(group)], "leave_one_out", NONE)
        balls += [a - b * (completions - 1) / completions for a, b in zip(own, others, strict=True)]
    weaker = x.beta * completions / (completions - 1)
    balls += policy_residuals(sampled_target(x, completions, "group"), _sampled_optimum(x, weaker))
    balls += policy_residuals(sampled_target(x, completions, "leave_one_out"), _sampled_optimum(x, x.beta))
    ignorant = x._replace(advantage=[arb(0)] * len(x.advantage))
    return balls + policy_residuals(sampled_target(x, 1, "group"), _sampled_optimum(ignorant, x.beta))


def _sampled_optimum(x: Exact, beta: arb) -> Policy:
    """`pi*` at beta on supp pi_t: an arm that is never sampled is never fitted (T3)."""
    best, _ = policies.optimum(x.advantage, x.log_pi_0, x.log_pi_t, x.alpha, beta)
    return policies.normalize([None if q is None else b for b, q in zip(best, x.log_pi_t, strict=True)])[0]


STATEMENTS = (
    Statement("T8", "mean updates are the gradients", draw_batch, errors_t8, residuals_t8, every=10),
    Statement("T10", "own sample: beta -> beta K/(K-1)", draw_group, errors_t10, residuals_t10, every=10),
)
