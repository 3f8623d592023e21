"""False statements about budgets, lengths, zero-sum weights and finite samples, each with a small counterexample."""

import math
from itertools import product

import numpy as np
import pytest

from dar_ref.theory import (
    budgeted_path,
    constrained_optimum,
    estimator_moments,
    fit_error,
    interpolate,
    iterate,
    kl,
    optimum,
    regression_loss,
    weight_ess,
)

EVEN = np.log([0.5, 0.5])
FIRST = np.array([1.0, 0.0])


def test_false_budgets_that_restart_at_the_last_policy_end_in_the_same_ball():
    """Take each new policy as the next pi_0: every step keeps 0.1 nats, and the run ends in the corner, at log 2."""
    kept = budgeted_path(FIRST, EVEN, 0.1, 0.1, 12)
    restarted = EVEN
    for _ in range(12):
        restarted = constrained_optimum(FIRST, restarted, restarted, 0.1, 0.1).log_pi
    assert kl(kept[-1], EVEN) == pytest.approx(0.1, rel=1e-12)
    assert kl(restarted, EVEN) == pytest.approx(math.log(2.0), rel=1e-12)


def test_false_steps_spend_e0_as_their_sum():
    """KLs of steps do not add up: two steps of 0.05 nats from even arms are 0.193 nats from pi_0."""
    path = budgeted_path(FIRST, EVEN, 1.0, 0.05, 2)
    assert kl(path[1:], path[:-1]) == pytest.approx([0.05, 0.05], rel=1e-9)
    assert kl(path[2], EVEN) == pytest.approx(0.1931, abs=1e-4)


def test_false_hard_budgets_mix_both_anchors():
    """On the path alpha is 0 until e0 is met, then 1. It may be between where pi_t is off the curve of A from pi_0."""
    path = budgeted_path(FIRST, EVEN, 0.2, 0.05, 4)
    alphas = [constrained_optimum(FIRST, EVEN, now, 0.2, 0.05).alpha for now in path[:-1]]
    assert alphas == [0.0, 0.0, 1.0, 1.0]
    off_curve = constrained_optimum(
        np.array([0.0, 1.0, 0.0]), np.log([0.7, 0.2, 0.1]), np.log([0.1, 0.2, 0.7]), 0.4, 0.4
    )
    assert off_curve.alpha == pytest.approx(0.5)


def test_false_the_budget_is_kept_by_the_multiplier_of_a_few_samples():
    """The dual of two samples with A = 1 and 0.9 (of arms 1, 0.9, 0) sees a tenth of the spread: its beta for 0.05 nats
    takes the population far past them."""
    log_pi_t, gain = np.log(np.full(3, 1 / 3)), np.array([1.0, 0.9, 0.0])
    beta = constrained_optimum(gain[:2], EVEN, EVEN, np.inf, 0.05).beta
    assert kl(optimum(gain, log_pi_t, log_pi_t, 0.0, beta).log_pi, log_pi_t) > 8 * 0.05


def test_false_every_step_has_multipliers_though_the_advantage_changes():
    """Three even arms, A = (1, 1, 0), e0 = log 3/2: the first step ends at (1/2, 1/2, 0), on the edge of the ball. With
    A = (1, 0, 0) no other policy on its two arms is in the ball, so the limit costs reward; and every DAR step on them
    leaves the ball, here at alpha 0 and 1/2."""
    even, eps_0 = np.log(np.full(3, 1 / 3)), math.log(1.5)
    path = budgeted_path(np.array([1.0, 1.0, 0.0]), even, eps_0, 1.0, 3)
    np.testing.assert_allclose(np.exp(path[-1]), [0.5, 0.5, 0.0], atol=1e-12)
    halves = np.array([math.log(0.5), math.log(0.5), -np.inf])
    steps = [
        optimum(np.array([1.0, 0.0, 0.0]), even, halves, a, b).log_pi for a in (0.0, 0.5) for b in (0.1, 10.0, 1e3)
    ]
    assert all(kl(step, even) > eps_0 + 1e-8 for step in steps)


@pytest.mark.parametrize("alpha", [0.6, 0.75, 1.0])
def test_false_c_squared_bounds_the_share_from_below_at_every_alpha(alpha):
    """pi_t gives one arm 1e-9, pi_0 gives it 1e-2: heavier tailed. C(alpha)^2 does not see it, the share falls."""
    heavy, light = np.log([0.99, 0.01]), np.array([math.log1p(-1e-9), math.log(1e-9)])
    shares = {a: float(weight_ess(heavy, light, a)) for a in (0.4, alpha)}
    assert shares[0.4] > np.exp(2 * interpolate(heavy, light, 0.4).log_c)
    assert shares[alpha] < (0.81 if alpha < 0.7 else 0.04) * np.exp(2 * interpolate(heavy, light, alpha).log_c)


def test_false_dependent_tokens_multiply_their_shares_too():
    """The second token copies the first: two tokens carry the ratio of one, and the share is that of one."""
    log_pi_0, log_pi_t = np.log([0.5, 0.5]), np.log([0.8, 0.2])
    pairs = list(product(range(2), repeat=2))
    copied = [np.array([p[a] if a == b else -np.inf for a, b in pairs]) for p in (log_pi_0, log_pi_t)]
    one = weight_ess(log_pi_0, log_pi_t, 0.5)
    assert weight_ess(*copied, 0.5) == pytest.approx(one, rel=1e-13)
    assert one**2 == pytest.approx(0.81, rel=1e-12)


def test_false_a_smaller_alpha_needs_more_samples():
    """The share rises to 1 as alpha falls to 0: there w_reg is constant."""
    shares = [weight_ess(np.log([0.5, 0.5]), np.log([0.8, 0.2]), alpha) for alpha in (0.0, 0.1, 0.5, 1.0)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1.0


def test_false_a_larger_alpha_always_makes_the_whole_weight_less_alike():
    """One step of T5 away from pi_0, A fixed: w_reg and exp(A/beta) pull against each other. The share of w_reg falls
    from alpha 1/10 to 1, that of w rises, to 1 at alpha 1, where the step before has reached the end."""
    advantage, log_pi_0, beta = np.array([1.0, 0.2, -0.5]), np.log([0.2, 0.3, 0.5]), 0.5
    alone, whole = [], []
    for alpha in (0.1, 0.5, 1.0):
        log_pi_t = optimum(advantage, log_pi_0, log_pi_0, alpha, beta).log_pi
        weight, pi_t = np.exp(alpha * (log_pi_0 - log_pi_t) + advantage / beta), np.exp(log_pi_t)
        alone.append(float(weight_ess(log_pi_0, log_pi_t, alpha)))
        whole.append(float((pi_t @ weight) ** 2 / (pi_t @ weight**2)))
    assert alone == sorted(alone, reverse=True)
    assert whole == sorted(whole)
    assert whole[0] < 0.9
    assert whole[-1] == pytest.approx(1.0, rel=1e-12)
    assert alone[-1] < 0.5


@pytest.mark.parametrize(
    ("steps", "shares"), [(5, [0.997328, 0.996894, 0.996759]), (10, [0.999982, 0.999934, 0.999872])]
)
def test_false_after_equally_many_steps_a_larger_alpha_leaves_more_samples(steps, shares):
    """Each alpha is then at a pi_t of its own, and the share of the whole weight under it falls as alpha rises; the
    range of the log-weights falls as well. In closed form, against the package."""
    advantage, even, ranges = np.array([1.0, 0.0]), np.log([0.5, 0.5]), []
    for alpha, share in zip((0.0, 0.05, 0.1), shares, strict=True):
        tilt = steps if alpha == 0.0 else (1 - (1 - alpha) ** steps) / alpha
        pi_t = np.exp(tilt * advantage) / np.exp(tilt * advantage).sum()
        np.testing.assert_allclose(np.exp(iterate(advantage, even, alpha, 1.0, steps)[-1]), pi_t, rtol=1e-12)
        log_weight = (1 - alpha * tilt) * advantage
        ranges.append(np.ptp(log_weight))
        weight = np.exp(log_weight)
        assert (pi_t @ weight) ** 2 / (pi_t @ weight**2) == pytest.approx(share, abs=1e-6)
    assert ranges == sorted(ranges, reverse=True)


def zero_sum(advantage, log_pi_theta, log_pi_t, **options):
    """One sample with the exact advantage, alpha 0, beta 1: with zero-sum weights, and with those of DAR."""
    policies = (log_pi_theta, log_pi_t, log_pi_t)
    exact = {"alpha": 0.0, "beta": 1.0, "baseline": "none"} | options
    return tuple(
        estimator_moments("dar", advantage, *policies, 1, weights=weights, **exact) for weights in ("zero_sum", "dar")
    )


def test_false_zero_sum_weights_keep_the_mean_off_the_sampler():
    """Even sampler, A = +-log 2, pi* = (4/5, 1/5). At pi_theta = pi* DAR rests; zero-sum moves on by (3/10, -3/10)."""
    advantage = math.log(2.0) * np.array([1.0, -1.0])
    star = np.log([0.8, 0.2])
    moved, dar = zero_sum(advantage, star, EVEN)
    np.testing.assert_allclose(dar.mean, 0.0, atol=1e-15)
    np.testing.assert_allclose(moved.mean, [0.3, -0.3], rtol=1e-12)
    at_sampler, dar = zero_sum(advantage, EVEN, EVEN)
    np.testing.assert_allclose(at_sampler.mean, dar.mean / 1.25, rtol=1e-12)


def test_false_zero_sum_weights_are_a_regression_with_a_minimum():
    """The loss is linear in the logits: s nats more on the better arm take 3/10 s off it, for every s."""
    advantage = math.log(2.0) * np.array([1.0, -1.0])

    def loss(shift):
        logits = np.array([shift, 0.0])
        log_pi = logits - np.logaddexp(*logits)
        weighted = regression_loss(log_pi, advantage, EVEN, EVEN, 0.0, 1.0) / 1.25
        return weighted - regression_loss(log_pi, np.zeros(2), EVEN, EVEN, 0.0, 1.0)  # w/E[w] - 1

    assert [loss(shift) - loss(0.0) for shift in (1.0, 10.0, 700.0)] == pytest.approx([-0.3, -3.0, -210.0])


def test_false_zero_sum_weights_always_have_less_variance():
    """Sampler (9/10, 1/10) and a target of almost all on the first arm: the trace is 0.14 larger."""
    log_pi_t = np.log([0.9, 0.1])
    moments = zero_sum(np.array([30.0, 0.0]), log_pi_t, log_pi_t)
    mass = 0.9 * math.exp(30.0) + 0.1
    zero, dar = (np.trace(m.covariance) for m in moments)
    assert zero - dar / mass**2 == pytest.approx(4 * 0.9 - 3 * (0.81 + 0.01) - 1, rel=1e-9)
    zero, dar = (np.trace(m.covariance) for m in zero_sum(np.array([0.1, 0.0]), EVEN, EVEN))
    assert zero < dar / 1000


def test_false_the_mean_weight_of_the_batch_itself_leaves_the_expected_update():
    """K = 1: the weight over its own mean is 1, the update always 0. K = 2, even arms, weights 2 and 1/2: only mixed
    pairs move, by (3/10, -3/10), so the mean is half of the exact (3/10, -3/10)."""
    weights, arms = np.array([2.0, 0.5]), np.eye(2)
    means = {}
    for completions in (1, 2):
        total = np.zeros(2)
        for drawn in product(range(2), repeat=completions):
            w = weights[list(drawn)]
            total += 0.5**completions * ((w / w.mean() - 1.0) @ (arms[list(drawn)] - 0.5)) / completions
        means[completions] = total
    assert means[1].tolist() == [0.0, 0.0]
    np.testing.assert_allclose(means[2], [0.15, -0.15], rtol=1e-12)
    exact = zero_sum(math.log(2.0) * np.array([1.0, -1.0]), EVEN, EVEN)[0].mean
    np.testing.assert_allclose(exact, [0.3, -0.3], rtol=1e-12)


def test_false_weights_cost_no_samples():
    """Unsquared weights in the formula give the arms less one, whatever the target. Sampler (1/10, 9/10), target even:
    5/2 + 5/18 and not 1."""
    log_pi_t = np.log([0.1, 0.9])
    tilt = np.log([9.0, 1.0])
    q, t = np.array([0.1, 0.9]), np.array([0.5, 0.5])
    unsquared = sum(q[y] * (t[y] / q[y]) * ((y == a) - t[a]) ** 2 / t[a] for y in range(2) for a in range(2))
    assert unsquared == pytest.approx(1.0)
    assert fit_error(tilt, log_pi_t, log_pi_t, 0.0, 1.0) == pytest.approx(5 / 2 + 5 / 18, rel=1e-12)


def test_false_the_expected_kl_of_a_fit_is_finite():
    """n samples of even arms miss one with probability 2^(1-n): there KL(pi*‖fit) is infinite. KL(fit‖pi*) is log 2."""
    missing = np.array([0.0, -np.inf])
    assert kl(EVEN, missing) == math.inf
    assert kl(missing, EVEN) == pytest.approx(math.log(2.0))


def test_false_a_small_limit_means_that_few_samples_are_enough():
    """pi_t = (1/1000, 999/1000), pi* almost all on the first arm: the limit is below 1e-3, but nine in ten fits of 100
    samples do not have the first arm at all."""
    log_pi_t = np.log([0.001, 0.999])
    limit = float(fit_error(np.array([1.0, 0.0]), log_pi_t, log_pi_t, 0.0, 0.04))
    assert limit < 1e-3
    assert 0.999**100 > 0.9


def test_false_a_clip_always_lowers_the_error_of_the_fit():
    """Even arms, A = (log 4, log 2, -9): unclipped the target is (2/3, 1/3, 0); with all good weights at the clip it is
    even on the two, and its error the largest."""
    even = np.log(np.full(3, 1 / 3))
    errors = [
        float(fit_error(np.array([math.log(4.0), math.log(2.0), -9.0]), even, even, 0.0, 1.0, c)) for c in (None, 2.0)
    ]
    assert errors[0] == pytest.approx(3 * (1 - 5 / 9), rel=1e-3)
    assert errors[1] == pytest.approx(3 * (1 - 1 / 2), rel=1e-3)
