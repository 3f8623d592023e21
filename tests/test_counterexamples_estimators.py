"""False statements about the updates, the K-sample target and the KL estimators, each with a small counterexample."""

import math

import numpy as np
import pytest

from dar_ref.theory import (
    estimator_moments,
    kl,
    kl_estimator_moments,
    kl_loss_gradient,
    noise_to_signal,
    objective,
    optimum,
    prompt_mass,
    regression_target,
    sampled_target,
)
from dar_ref.theory.checks import Array

EVEN = np.log([0.5, 0.5])
EXACT = {"alpha": 0.0, "beta": 1.0, "baseline": "none"}  # the reward is the advantage, no pull toward pi_0


def test_false_regression_is_never_noisier_than_the_ratio_it_replaces() -> None:
    """Two arms of equal probability, weights 2 and 1/2, pi_theta = pi_t: DAO's two updates are equal, DAR's are not."""
    advantage = math.log(2.0) * np.array([1.0, -1.0])
    assert noise_to_signal(estimator_moments("dao", advantage, EVEN, EVEN, EVEN, 1, **EXACT)) < 1e-25
    dar = noise_to_signal(estimator_moments("dar", advantage, EVEN, EVEN, EVEN, 1, **EXACT))
    assert dar == pytest.approx(25 / 9, rel=1e-14)


def test_false_regression_is_never_quieter_than_the_ratio() -> None:
    """No reward, pi_t (1/10, 9/10), pi_theta (9/10, 1/10): 9/64 against 16/9."""
    log_pi_t, log_pi_theta = np.log([0.1, 0.9]), np.log([0.9, 0.1])
    dar, dao = (
        noise_to_signal(estimator_moments(method, np.zeros(2), log_pi_theta, log_pi_t, log_pi_t, 1, **EXACT))
        for method in ("dar", "dao")
    )
    assert dar == pytest.approx(9 / 64, rel=1e-12)
    assert dao == pytest.approx(16 / 9, rel=1e-12)


def test_false_dar_and_dao_share_their_expected_gradient() -> None:
    """Only to first order: at pi_theta = pi_t the gap is `pi_t (A^2 - E A^2) / 2`, here (1, -1)/3 times the size^2."""
    log_pi = np.log([1 / 3, 2 / 3])
    for size in (1e-2, 1e-3):
        dar, dao = (
            estimator_moments(method, size * np.array([2.0, -1.0]), log_pi, log_pi, log_pi, 1, **EXACT).mean
            for method in ("dar", "dao")
        )
        np.testing.assert_allclose((dar - dao) / size**2, [1 / 3, -1 / 3], rtol=2 * size)


def test_false_the_mean_dao_update_is_the_gradient_of_j_at_alpha_one_too() -> None:
    """pi_t (1, 0) never draws the arm that pi_theta has and J wants: the mean update is 0, the gradient (-1/4, 1/4).

    With alpha 1 J does not see pi_t, so that it stays finite. The gradient by central differences of J itself.
    """
    log_pi_t, advantage, step = np.array([0.0, -np.inf]), np.array([0.0, 1.0]), 1e-6
    dao = estimator_moments("dao", advantage, EVEN, EVEN, log_pi_t, 1, alpha=1.0, beta=1.0, baseline="none")
    assert dao.mean.tolist() == [0.0, 0.0]
    assert dao.covariance.tolist() == [[0.0, 0.0], [0.0, 0.0]]

    def j(logits: Array) -> float:
        log_pi = logits - np.log(np.exp(logits).sum())
        return float(objective(log_pi, advantage, EVEN, log_pi_t, 1.0, 1.0))

    slope = [(j(EVEN + step * arm) - j(EVEN - step * arm)) / (2 * step) for arm in np.eye(2)]
    assert slope == pytest.approx([-0.25, 0.25], abs=1e-9)


def test_false_at_alpha_one_k_samples_fit_the_whole_optimum() -> None:
    """Uniform pi_0, pi_t (1, 0): pi* at alpha 1 has both arms, the target only the one that is drawn."""
    reward, log_pi_t = np.array([0.0, 1.0]), np.array([0.0, -np.inf])
    target = sampled_target(reward, EVEN, log_pi_t, 1.0, 1.0, 2)
    star = optimum(reward, EVEN, log_pi_t, 1.0, 2.0).log_pi
    assert target.tolist() == [0.0, -np.inf]
    assert star[1] - star[0] == pytest.approx(0.5, rel=1e-14)


def test_false_no_update_is_left_at_the_optimum() -> None:
    """The means are 0 there, the noise is not: DAR's weights are `Z rho`, DAO's bracket is `beta log Z`, Z = 5/4."""
    advantage = math.log(2.0) * np.array([1.0, -1.0])
    log_pi = optimum(advantage, EVEN, EVEN, 0.0, 1.0).log_pi
    z = 1.25
    for method, height in (("dar", z), ("dao", math.log(z))):
        moments = estimator_moments(method, advantage, log_pi, EVEN, EVEN, 1, **EXACT)
        np.testing.assert_allclose(moments.mean, 0.0, atol=1e-15)
        # pi* = (4/5, 1/5): both arms give height * (8/25) (1, -1) up to the sign
        assert np.trace(moments.covariance) == pytest.approx(2 * (height * 8 / 25) ** 2, rel=1e-12)


def test_false_the_clip_leaves_the_expected_direction() -> None:
    """Three arms (with two, all directions are parallel): the clip at 1 makes the two good arms equal."""
    even = np.log(np.full(3, 1 / 3))
    advantage = np.array([2.0, 1.0, -3.0])
    free, clipped = (
        estimator_moments("dar", advantage, even, even, even, 1, **EXACT, w_clip=w_clip).mean for w_clip in (None, 1.0)
    )
    assert clipped[0] == pytest.approx(clipped[1], rel=1e-14)
    assert free[0] > 0.0 > free[1]


def test_false_a_tighter_clip_always_means_less_noise_for_the_signal() -> None:
    """Equal arms with weights a and b: ((a + b)/(a - b))^2. Weights 2 and 1/2 clipped at 3/5 leave almost no signal."""
    advantage = math.log(2.0) * np.array([1.0, -1.0])
    free, clipped = (
        noise_to_signal(estimator_moments("dar", advantage, EVEN, EVEN, EVEN, 1, **EXACT, w_clip=w_clip))
        for w_clip in (None, 0.6)
    )
    assert free == pytest.approx(25 / 9, rel=1e-13)
    assert clipped == pytest.approx(121.0, rel=1e-12)


def test_false_grpos_clip_bounds_the_update() -> None:
    """`min` keeps `rho A` where A < 0 and rho > 1 + eps: 1 in 1000 draws moves the logits by 250."""
    log_pi_t = np.log([1e-3, 1 - 1e-3])
    moments = estimator_moments(
        "grpo", np.array([-1.0, 0.0]), EVEN, EVEN, log_pi_t, 1, beta=0.0, baseline="none", normalize="none"
    )
    np.testing.assert_allclose(moments.mean, [-0.25, 0.25], rtol=1e-12)
    np.testing.assert_allclose(np.diag(moments.covariance), 1e-3 * 250**2 - 0.25**2, rtol=1e-12)


def test_false_rloo_stays_unbiased_on_stale_samples() -> None:
    """pi_t (1/10, 9/10), pi_theta even, reward (1, 0): 0.09 where the policy gradient is 0.25."""
    args = (np.array([1.0, 0.0]), EVEN, EVEN, np.log([0.1, 0.9]), 2)
    rloo = estimator_moments("rloo", *args, beta=0.0).mean
    with_ratio = estimator_moments(
        "grpo", *args, beta=0.0, epsilon=math.inf, baseline="leave_one_out", normalize="none"
    ).mean
    np.testing.assert_allclose(rloo, [0.09, -0.09], rtol=1e-13)
    np.testing.assert_allclose(with_ratio, [0.25, -0.25], rtol=1e-13)


def test_false_the_group_mean_leaves_the_policy_gradient_unbiased() -> None:
    """It shrinks it by (K-1)/K: at K = 2 by one half."""
    plain = {"beta": 0.0, "epsilon": math.inf, "normalize": "none"}
    args = (np.array([1.0, 0.0]), EVEN, EVEN, EVEN, 2)
    np.testing.assert_allclose(estimator_moments("grpo", *args, **plain).mean, [0.125, -0.125], rtol=1e-14)
    np.testing.assert_allclose(estimator_moments("rloo", *args, beta=0.0).mean, [0.25, -0.25], rtol=1e-14)


def test_false_k_samples_with_their_group_mean_fit_the_optimum_at_beta() -> None:
    """K = 2, even arms, reward (1, 0): log odds 1/2 where pi* has 1."""
    reward = np.array([1.0, 0.0])
    target, star = sampled_target(reward, EVEN, EVEN, 0.1, 1.0, 2), optimum(reward, EVEN, EVEN, 0.1, 1.0).log_pi
    assert target[0] - target[1] == pytest.approx(0.5, rel=1e-14)
    assert star[0] - star[1] == pytest.approx(1.0, rel=1e-14)


def test_false_beta_k_over_k_minus_one_also_describes_the_clipped_target() -> None:
    """K = 2, w_clip 1: a group of two equal arms gives both weight 1. Only the worse arm can get a lower weight."""
    reward = np.array([1.0, 0.0])
    sampled = sampled_target(reward, EVEN, EVEN, 0.0, 1.0, 2, w_clip=1.0)
    claimed = regression_target(reward - 0.5, EVEN, EVEN, 0.0, 2.0, w_clip=1.0)
    assert sampled[0] - sampled[1] == pytest.approx(-math.log((1 + math.exp(-0.5)) / 2), rel=1e-13)
    assert claimed[0] - claimed[1] == pytest.approx(0.25, rel=1e-13)


def test_false_the_batch_mean_as_baseline_changes_nothing_but_beta() -> None:
    """K = 1, two prompts with one reward turned round, the second pays 1 more; a policy that does not see the prompt.

    Both prompts ask for as much, in opposite directions. With their own means the best such policy is even; with the
    batch's mean the second counts e^2 times as much at beta 1/2, and the policy leans to its arm.
    """
    reward, even = np.array([[1.0, 0.0], [1.0, 2.0]]), np.tile(EVEN, (2, 1))
    shared = {}
    for baseline, completions in (("leave_one_out", 2), ("batch", 1)):
        options = {"baseline": baseline}
        target = np.exp(sampled_target(reward, even, even, 0.1, 0.5, completions, **options))
        log_m = prompt_mass(reward, even, even, 0.1, 0.5, completions, **options)
        shared[baseline] = np.exp(log_m - log_m.max()) @ target / np.exp(log_m - log_m.max()).sum()
    np.testing.assert_allclose(shared["leave_one_out"], [0.5, 0.5], rtol=1e-13)
    leaning = (1.0 / (1.0 + math.e) * math.exp(2.0) + math.e / (1.0 + math.e)) / (1.0 + math.exp(2.0))  # beta' = 1
    assert shared["batch"][0] == pytest.approx(leaning, rel=1e-13)


def test_false_a_normalised_group_still_knows_how_much_better_an_arm_is() -> None:
    """K = 2: A is +1, -1 or 0, so only the order of the rewards matters."""
    even = np.log(np.full(3, 1 / 3))
    near, far = (
        sampled_target(np.array([0.0, 1.0, top]), even, even, 0.1, 0.5, 2, normalize="group") for top in (2.0, 1e6)
    )
    np.testing.assert_allclose(near, far, rtol=1e-13)


def test_false_k3_is_unbiased_for_every_pair_of_policies() -> None:
    """Samples of p (1, 0) never reach the half of q that p lacks: log 2 - 1/2, but the KL is log 2."""
    log_p = np.array([0.0, -np.inf])
    assert kl(log_p, EVEN) == pytest.approx(math.log(2), rel=1e-15)
    assert kl_estimator_moments("k3", log_p, EVEN).mean == pytest.approx(math.log(2) - 0.5, rel=1e-15)


def test_false_k2_is_unbiased() -> None:
    log_p, log_q = EVEN, np.log([0.25, 0.75])
    assert kl_estimator_moments("k2", log_p, log_q).mean == pytest.approx(
        (math.log(2) ** 2 + math.log(1.5) ** 2) / 4, rel=1e-14
    )
    assert kl(log_p, log_q) == pytest.approx(math.log(4 / 3) / 2, rel=1e-14)


def test_false_k3_always_has_less_variance_than_k1() -> None:
    """`q/p` is an importance ratio: p (0.99, 0.01), q (0.01, 0.99) has 0.84 for k1 and 80 for k3."""
    log_p, log_q = np.log([0.99, 0.01]), np.log([0.01, 0.99])
    assert kl_estimator_moments("k1", log_p, log_q).variance == pytest.approx(
        0.99 * 0.01 * (2 * math.log(99)) ** 2, rel=1e-13
    )
    spread = 99 - 1 / 99 - 2 * math.log(99)
    assert kl_estimator_moments("k3", log_p, log_q).variance == pytest.approx(0.99 * 0.01 * spread**2, rel=1e-13)


def test_false_an_unbiased_estimate_makes_an_unbiased_loss() -> None:
    """p even, q (1/4, 3/4): KL(p‖q) has gradient +-log(3)/4; k1 gives 0, k3 1/4, and biased k2 gives it exactly."""
    log_q = np.log([0.25, 0.75])
    true = math.log(3) / 4
    np.testing.assert_allclose(kl_loss_gradient("k1", EVEN, log_q), [0.0, 0.0], atol=1e-16)
    np.testing.assert_allclose(kl_loss_gradient("k2", EVEN, log_q), [true, -true], rtol=1e-14)
    np.testing.assert_allclose(kl_loss_gradient("k3", EVEN, log_q), [0.25, -0.25], rtol=1e-14)
