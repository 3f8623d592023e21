"""T14 as a statement to verify: zero-sum weights `v/E[v] - 1` in the place of the weights v of DAR.

Float64 moments are compared with an enumeration of ordered batches, as in T8. The statement is about one sample of one
prompt with the exact advantage; n samples divide both variances by n.
"""

from flint import arb

from dar_ref import theory
from dar_ref.verify.arb import policies
from dar_ref.verify.arb.policies import Exact, Policy
from dar_ref.verify.arb.updates import EstimatorCase, Updates
from dar_ref.verify.statement import JUDGE_BITS, Error, Statement, distance
from dar_ref.verify.t08_t10_estimators import draw_batch, expected_update

SHIFTS = (1, -100)


def errors_t14(case: EstimatorCase) -> list[Error]:
    """Mean and covariance of the update with zero-sum weights. Scale as in `Updates.moments`; of a coefficient it is
    `w/E[w] + 1` times twice the logs of w."""
    ours = theory.estimator_moments(
        "dar",
        case.reward,
        case.log_pi_theta,
        case.log_pi_0,
        case.log_pi_t,
        case.num_generations,
        alpha=case.alpha,
        beta=case.beta,
        w_clip=case.w_clip,
        baseline=case.baseline,
        normalize=case.normalize,
        weights="zero_sum",
    )
    with policies.precision(JUDGE_BITS):
        true = Updates(case).moments("zero_sum")
        errors = [*map(Error, map(distance, ours.mean, true.mean), map(float, true.mean_scale))]
        for row, true_row, scales in zip(ours.covariance, true.covariance, true.covariance_scale, strict=True):
            errors += map(Error, map(distance, row, true_row), map(float, scales))
        return errors


def residuals_t14(case: EstimatorCase) -> list[arb]:
    """Prompt by prompt, with `t` the target and `m = E[v]`:

    - at `pi_theta = pi_t` the mean update is that of DAR over m, `t - pi_t`; and it is `t - pi_t` at every `pi_theta`,
      where DAR has `t - pi_theta`
    - DAR's covariance over m^2 less that of the zero-sum weights is `sum_y pi_t (2 v/m - 1) g g^T`, `g = e_y - pi_t`;
      its trace is `1 - 4 sum t pi_t + 3 sum pi_t^2`
    - the loss is linear in the logits: s more on one logit adds `-(t - pi_t) s`, for any s
    """
    balls: list[arb] = []
    for x in case.bandits():
        log_v = policies.log_weights(
            x.advantage, x.log_pi_0, x.log_pi_t, x.alpha, x.beta, None if case.w_clip is None else x.w_clip
        )
        target, log_mass = policies.regression_target(x.log_pi_t, log_v)
        share = [arb(0) if v is None else (v - log_mass).exp() for v in log_v]
        balls += _residuals_of_mean(x, target, share) + _residuals_of_covariance(x.log_pi_t, target, share)
        balls += _residuals_of_loss(x, target, [s - 1 for s in share])
    return balls


def _residuals_of_mean(x: Exact, target: Policy, share: list[arb]) -> list[arb]:
    zero = [s - 1 for s in share]
    at_sampler = expected_update(x.log_pi_t, x.log_pi_t, zero)
    balls = [u - v for u, v in zip(at_sampler, expected_update(x.log_pi_t, x.log_pi_t, share), strict=True)]
    wanted = [t - q for t, q in zip(_probabilities(target), _probabilities(x.log_pi_t), strict=True)]
    for log_pi in (x.log_pi_t, x.log_pi):
        balls += [u - w for u, w in zip(expected_update(log_pi, x.log_pi_t, zero), wanted, strict=True)]
    dar = expected_update(x.log_pi, x.log_pi_t, share)
    return balls + [u - (t - p) for u, t, p in zip(dar, *map(_probabilities, (target, x.log_pi)), strict=True)]


def _residuals_of_covariance(log_pi_t: Policy, target: Policy, share: list[arb]) -> list[arb]:
    q, t = _probabilities(log_pi_t), _probabilities(target)
    arms = range(len(q))
    pulls = [[(y == a) - q[a] for a in arms] for y in arms]

    def second(weights: list[arb], a: int, b: int) -> arb:
        return sum((q[y] * weights[y] * pulls[y][a] * pulls[y][b] for y in arms), arb(0))

    def covariance(coefficients: list[arb], a: int, b: int) -> arb:
        means = [sum((q[y] * coefficients[y] * pulls[y][arm] for y in arms), arb(0)) for arm in (a, b)]
        return second([c * c for c in coefficients], a, b) - means[0] * means[1]

    zero, gap = [s - 1 for s in share], [2 * s - 1 for s in share]
    saved = {(a, b): covariance(share, a, b) - covariance(zero, a, b) for a in arms for b in arms}
    both, own = sum((x * y for x, y in zip(t, q, strict=True)), arb(0)), sum((x * x for x in q), arb(0))
    trace = sum((saved[a, a] for a in arms), arb(0))
    return [saved[a, b] - second(gap, a, b) for a, b in saved] + [trace - (1 - 4 * both + 3 * own)]


def _residuals_of_loss(x: Exact, target: Policy, zero: list[arb]) -> list[arb]:
    q, t = _probabilities(x.log_pi_t), _probabilities(target)

    def loss(log_pi: Policy) -> arb:
        terms = zip(q, zero, log_pi, strict=True)
        return -sum((p * c * log_p for p, c, log_p in terms if log_p is not None), arb(0))

    balls = []
    for arm in range(len(q)):
        for shift in SHIFTS:
            moved, _ = policies.normalize(
                [None if p is None else p + shift * (y == arm) for y, p in enumerate(x.log_pi)]
            )
            balls.append(loss(moved) - loss(x.log_pi) + (t[arm] - q[arm]) * shift)
    return balls


def _probabilities(log_p: Policy) -> list[arb]:
    return [arb(0) if p is None else p.exp() for p in log_p]


STATEMENTS = (Statement("T14", "zero-sum: same mean at pi_t", draw_batch, errors_t14, residuals_t14, every=10),)
