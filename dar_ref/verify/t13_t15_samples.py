"""T13 and T15 as statements to verify: what finitely many samples of `pi_t` can do.

Shares and errors span thousands of orders of magnitude, so a share is judged by its logarithm, and an error of a fit in
units of the closed form.
"""

from itertools import product

import numpy as np
from flint import arb, arb_series

from dar_ref import theory
from dar_ref.verify.arb import policies
from dar_ref.verify.arb.policies import Exact, Policy
from dar_ref.verify.arb.updates import ordered_batches
from dar_ref.verify.random_bandits import Case, draw_case, random_alpha, random_policy
from dar_ref.verify.statement import JUDGE_BITS, Error, Statement, distance, log_scale, shortfall

SMALLEST = float(np.finfo(np.float64).tiny)  # below, float64 loses digits
MOST_ARMS = 64  # of the product of T copies


def draw_fit(rng: np.random.Generator) -> Case:
    """Draw a bandit as for T1 to T4, but narrower: a second derivative in a probability of exp(-1000) costs thousands
    of digits. Up to five arms, policies of tens of nats, `A/beta` to about 60. The clip binds in about half of the
    cases.
    """
    arms = int(rng.integers(1, 6))
    kept = int(rng.integers(arms))
    log_pi, log_pi_0, log_pi_t = (random_policy(rng, arms, kept, widest=10.0) for _ in range(3))
    advantage, alpha = rng.standard_normal(arms), random_alpha(rng)
    beta = 10.0 ** rng.uniform(-1.5, 3.0)
    w = np.exp(alpha * (log_pi_0[kept] - log_pi_t[kept]) + advantage[kept] / beta)
    return Case(log_pi, advantage, log_pi_0, log_pi_t, alpha, beta, float(w * rng.uniform(0.5, 1.5)))


def errors_t13(case: Case) -> list[Error]:
    """Scale: the share times `4 (1 + max|log p|)`, for two sums over exponentials of `log pi_t + 2 log w`."""
    ours = theory.weight_ess(case.log_pi_0, case.log_pi_t, case.alpha)
    with policies.precision(JUDGE_BITS):
        true = _log_share(Exact.of(case)).exp()
        scale = float(true) * 4.0 * (1.0 + log_scale(case.log_pi_0, case.log_pi_t))
        return [Error(distance(ours, true), scale + SMALLEST)]


def _log_share(x: Exact) -> arb:
    """log of `E[w_reg]^2 / E[w_reg^2]` under `pi_t`."""
    log_w = policies.log_weights([arb(0)] * len(x.log_pi_t), x.log_pi_0, x.log_pi_t, x.alpha, arb(1), None)
    doubled = [None if w is None else 2 * w for w in log_w]
    return 2 * policies.regression_target(x.log_pi_t, log_w)[1] - policies.regression_target(x.log_pi_t, doubled)[1]


def log_power_sum(log_p: Policy, log_q: Policy, order: arb) -> arb:
    """log C(order): the sum of `p^order q^(1-order)` over supp q."""
    terms = [
        None if q is None or (p is None and order != 0) else (1 - order) * q + (0 if p is None else order * p)
        for p, q in zip(log_p, log_q, strict=True)
    ]
    return policies.normalize(terms)[1]


def residuals_t13(case: Case) -> list[arb]:
    """log share = `2 log C(alpha) - log C(2 alpha)`; that of T independent tokens, enumerated, is T times that of one;
    it is at most 0 and not larger than at half of alpha. For `2 alpha <= 1` it is at least `2 log C(alpha)`; above, it
    is at most `2 log C(alpha) - 2 alpha log pi_0(S)`.
    """
    x = Exact.of(case)
    share, log_c = _log_share(x), log_power_sum(x.log_pi_0, x.log_pi_t, x.alpha)
    balls = [share - (2 * log_c - log_power_sum(x.log_pi_0, x.log_pi_t, 2 * x.alpha))]
    for tokens in (2, 3):
        if len(x.log_pi_t) ** tokens <= MOST_ARMS:
            whole = x._replace(log_pi_0=_tokens(x.log_pi_0, tokens), log_pi_t=_tokens(x.log_pi_t, tokens))
            balls.append(_log_share(whole) - tokens * share)
    balls += [shortfall(arb(0), share), shortfall(_log_share(x._replace(alpha=x.alpha / 2)), share)]
    if case.alpha <= 0.5:
        return [*balls, shortfall(share, 2 * log_c)]
    common = log_power_sum(x.log_pi_0, x.log_pi_t, arb(1))
    return [*balls, shortfall(2 * log_c - 2 * x.alpha * common, share)]


def _tokens(log_p: Policy, tokens: int) -> Policy:
    """The policy of `tokens` independent tokens, over all sequences."""
    sequences = product(log_p, repeat=tokens)
    return [None if any(p is None for p in each) else sum(filter(None, each), arb(0)) for each in sequences]


def errors_t15(case: Case) -> list[Error]:
    """Scale: the error times `2 (1 + max|A|/beta + max|log p| + |log w_clip|)`, without and with the clip."""
    arguments = (case.advantage, case.log_pi_0, case.log_pi_t, case.alpha, case.beta)
    tilt = float(np.abs(case.advantage).max()) / case.beta
    errors = []
    with policies.precision(JUDGE_BITS):
        x = Exact.of(case)
        for w_clip, exact_clip in ((None, None), (case.w_clip, x.w_clip)):
            ours = theory.fit_error(*arguments, w_clip)
            true = _closed_form(*_target(x, exact_clip))
            logs = 1.0 + tilt + log_scale(case.log_pi_0, case.log_pi_t) + (abs(np.log(w_clip)) if w_clip else 0.0)
            beyond = true > float(np.finfo(np.float64).max)
            error = float(ours < np.inf) if beyond else distance(ours, true)
            errors.append(Error(error, 0.0 if beyond else 2.0 * float(true) * logs + SMALLEST))
    return errors


def _target(x: Exact, w_clip: arb | None) -> tuple[list[arb], list[arb], list[arb]]:
    """`pi_t`, `v/E[v]` and `pi'` on the arms that `pi_t` has."""
    log_v = policies.log_weights(x.advantage, x.log_pi_0, x.log_pi_t, x.alpha, x.beta, w_clip)
    target, log_mass = policies.regression_target(x.log_pi_t, log_v)
    drawn = [(q, v, p) for q, v, p in zip(x.log_pi_t, log_v, target, strict=True) if q is not None]
    q = [log_q.exp() for log_q, _, _ in drawn]
    ratio = [arb(0) if v is None else (v - log_mass).exp() for _, v, _ in drawn]
    return q, ratio, [arb(0) if p is None else p.exp() for _, _, p in drawn]


def _closed_form(q: list[arb], ratio: list[arb], target: list[arb]) -> arb:
    """`sum_a (pi'_a/pi_t_a) (1 - pi'_a)`; `1 - pi'_a` as the sum of the others, for targets next to a corner."""
    others = [sum(target[:a] + target[a + 1 :], arb(0)) for a in range(len(q))]
    return sum((r * other for r, other in zip(ratio, others, strict=True)), arb(0))


def residuals_t15(case: Case) -> list[arb]:
    """Without and with the clip, in units of the closed form:

    - `sum_a E[v^2 ([y = a] - pi'_a)^2] / (E[v]^2 pi'_a)`
    - the limit by the functional delta method: the mean over y of the second derivative of `KL(pi'‖fit)`, and of
      `KL(fit‖pi')`, as a little of the sampler moves to y; the fit and the KLs from their definitions, as power series.
      Values and slopes vanish
    - for two samples exactly: `2 E sum_a (mean_i v_i ([y_i = a] - pi'_a) / E[v])^2 / pi'_a`. Only the denominator of
      the fit is replaced by its mean here, which is what the limit adds
    """
    x = Exact.of(case)
    balls: list[arb] = []
    for w_clip in (None, x.w_clip):
        q, ratio, target = _target(x, w_clip)
        arms = [a for a, t in enumerate(target) if t != 0]
        if len(arms) < 2:
            balls.append(_closed_form(q, ratio, target))  # one arm: the fit is exact
            continue
        unit = _closed_form(q, ratio, target)
        pulls = [[r * ((y == a) - target[a]) for a in arms] for y, r in enumerate(ratio)]
        balls += [sum((p * row[i] for p, row in zip(q, pulls, strict=True)), arb(0)) for i in range(len(arms))]
        balls.append(_mean_square(q, pulls, [target[a] for a in arms]) / unit - 1)
        balls += _residuals_of_delta(q, ratio, target, unit)
        balls.append(_two_samples(q, pulls, [target[a] for a in arms]) / unit - 1)
    return balls


def _mean_square(q: list[arb], pulls: list[list[arb]], target: list[arb]) -> arb:
    rows = zip(q, pulls, strict=True)
    return sum((p * sum((u * u / t for u, t in zip(row, target, strict=True)), arb(0)) for p, row in rows), arb(0))


def _two_samples(q: list[arb], pulls: list[list[arb]], target: list[arb]) -> arb:
    total = arb(0)
    for probability, (pair,) in ordered_batches([[p.log() for p in q]], 2):
        means = [(pulls[pair[0]][i] + pulls[pair[1]][i]) / 2 for i in range(len(target))]
        total += probability * sum((m * m / t for m, t in zip(means, target, strict=True)), arb(0))
    return 2 * total


def _residuals_of_delta(q: list[arb], ratio: list[arb], target: list[arb], unit: arb) -> list[arb]:
    forward, backward, rest = arb(0), arb(0), []
    for y, p in enumerate(q):
        moved = [share + arb_series([0, (a == y) - share], prec=3) for a, share in enumerate(q)]
        mass = [m * r for m, r in zip(moved, ratio, strict=True)]
        total = sum(mass, arb(0))
        fit = [(m / total, t) for m, t in zip(mass, target, strict=True) if t != 0]
        kls = sum(((f / t).log() * -t for f, t in fit), arb(0)), sum(((f / t).log() * f for f, t in fit), arb(0))
        rest += [p * kl[order] / unit for kl in kls for order in (0, 1)]
        forward, backward = forward + 2 * p * kls[0][2], backward + 2 * p * kls[1][2]
    return [*rest, forward / unit - 1, backward / unit - 1]


STATEMENTS = (
    Statement("T13", "share of samples = C(a)^2/C(2a)", draw_case, errors_t13, residuals_t13, every=2),
    Statement("T15", "2n KL of a fit of n has a limit", draw_fit, errors_t15, residuals_t15, every=2),
)
