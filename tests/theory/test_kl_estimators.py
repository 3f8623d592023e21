"""k1, k2, k3: moments against 60-digit sums, values and losses against their definitions and autograd."""

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dar_ref.theory import kl, kl_estimate, kl_estimator_moments, kl_loss_gradient
from tests.strategies import Array, log_normalized, policy_pairs

ESTIMATORS = ("k1", "k2", "k3")


def exact_moments(estimator: str, log_p: Array, log_q: Array) -> tuple[float, float]:
    """Mean and variance over y ~ p in 60 digits; the mean is inf if p has mass on an arm that q lacks."""
    with mpmath.workdps(60):
        total, square = mpmath.mpf(0), mpmath.mpf(0)
        for lp, lq in zip(log_p, log_q, strict=True):
            if lp == -np.inf:
                continue
            if lq == -np.inf:
                return np.inf, np.nan
            p, x = mpmath.exp(mpmath.mpf(float(lp))), mpmath.mpf(float(lp)) - mpmath.mpf(float(lq))
            value = {"k1": x, "k2": x**2 / 2, "k3": mpmath.exp(-x) - 1 + x}[estimator]
            total += p * value
            square += p * value**2
        mass = sum((mpmath.exp(mpmath.mpf(float(lp))) for lp in log_p if lp > -np.inf), mpmath.mpf(0))
        return float(total), float(square - (2 - mass) * total**2)  # sum p (k - mean)^2; mass is 1 up to rounding


@given(st.sampled_from(ESTIMATORS), policy_pairs())
def test_moments_equal_the_sixty_digit_sums(estimator: str, pair: tuple[Array, Array]) -> None:
    log_p, log_q = pair
    mean, variance = kl_estimator_moments(estimator, log_p, log_q)
    exact_mean, exact_variance = exact_moments(estimator, log_p, log_q)
    if exact_mean == np.inf:
        assert mean == np.inf
        assert np.isnan(variance)
        return
    finite = np.abs(np.concatenate([log_p, log_q])[np.isfinite(np.concatenate([log_p, log_q]))])
    rounding = 2.0**-52 * (1.0 + finite.max())  # of the log-probabilities themselves
    assert mean == pytest.approx(exact_mean, rel=64 * rounding, abs=64 * rounding)
    assert variance == pytest.approx(exact_variance, rel=1e3 * rounding, abs=1e3 * rounding * (1.0 + finite.max() ** 2))


@given(policy_pairs())
def test_k1_and_k3_are_unbiased_for_kl_p_q_up_to_qs_mass_outside_p(pair: tuple[Array, Array]) -> None:
    log_p, log_q = pair
    outside = np.exp(log_q[log_p == -np.inf]).sum()
    divergence = kl(log_p, log_q)
    bound = 1e-13 * (1.0 + np.abs(log_q[np.isfinite(log_q)]).max())
    assert kl_estimator_moments("k1", log_p, log_q).mean == pytest.approx(divergence, rel=1e-13, abs=bound)
    assert kl_estimator_moments("k3", log_p, log_q).mean == pytest.approx(divergence - outside, rel=1e-13, abs=bound)


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_the_direction_is_kl_of_the_sampled_policy_against_the_other(estimator: str) -> None:
    """Far apart, where KL(p‖q) = 1.14 and KL(q‖p) = 2.98 cannot be confused."""
    log_p, log_q = np.log([0.98, 0.01, 0.01]), np.log([0.3, 0.2, 0.5])
    mean = float(kl_estimator_moments(estimator, log_p, log_q).mean)
    assert mean == pytest.approx(float(kl(log_p, log_q)), rel=1e-14)
    assert abs(mean - float(kl(log_q, log_p))) > 1.0


@given(st.sampled_from(ESTIMATORS), st.lists(st.floats(-300.0, 300.0), min_size=1, max_size=5))
def test_an_estimate_is_its_formula_sample_by_sample(estimator: str, log_ratio: list[float]) -> None:
    values = kl_estimate(estimator, np.array(log_ratio))
    for x, value in zip(map(mpmath.mpf, log_ratio), values, strict=True):
        with mpmath.workdps(400):
            exact = {"k1": x, "k2": x**2 / 2, "k3": mpmath.exp(-x) - 1 + x}[estimator]
        assert value == pytest.approx(float(exact), rel=1e-12, abs=1e-15 * (1.0 + abs(float(x))))
        assert estimator == "k1" or value >= 0.0


def test_leading_axes_broadcast_and_rows_do_not_mix() -> None:
    log_p = np.log([[0.5, 0.5], [1.0 - 1e-9, 1e-9]])
    log_q = np.array([[np.log(0.25), np.log(0.75)], [0.0, -np.inf]])
    for estimator in ESTIMATORS:
        mean, variance = kl_estimator_moments(estimator, log_p[:, None], log_q)
        assert mean.shape == variance.shape == (2, 2)
        for i in range(2):
            for j in range(2):
                alone = kl_estimator_moments(estimator, log_p[i], log_q[j])
                np.testing.assert_array_equal([mean[i, j], variance[i, j]], alone)
    assert kl_loss_gradient("k1", log_p[:, None], log_q[:1]).shape == (2, 1, 2)


def test_equal_policies_have_no_divergence_and_no_variance() -> None:
    log_p = np.log([0.2, 0.3, 0.5])
    for estimator in ESTIMATORS:
        assert kl_estimator_moments(estimator, log_p, log_p) == (0.0, 0.0)


def test_an_estimate_beyond_float64_is_infinite_and_its_mean_is_not() -> None:
    log_p, log_q = log_normalized(np.array([0.0, -800.0])), np.log([0.5, 0.5])
    assert kl_estimate("k3", np.array([-800.0])) == np.inf
    mean, variance = kl_estimator_moments("k3", log_p, log_q)
    assert mean == pytest.approx(np.log(2.0), rel=1e-15)
    assert variance == np.inf


# As losses.


@given(policy_pairs(zeros=False), st.sampled_from(ESTIMATORS))
def test_the_loss_gradient_is_autograds_expectation(pair: tuple[Array, Array], estimator: str) -> None:
    log_p, log_q = (log_normalized(np.clip(x, -20.0, 0.0)) for x in pair)
    arms = len(log_p)
    logits = torch.tensor(log_p).expand(arms, arms).clone().requires_grad_()  # one copy for each sample
    x = torch.log_softmax(logits, -1).diagonal() - torch.tensor(log_q)
    loss = {"k1": x, "k2": x**2 / 2, "k3": torch.exp(-x) - 1 + x}[estimator]
    (gradient,) = torch.autograd.grad((torch.tensor(log_p).exp() * loss).sum(), logits)
    ours = kl_loss_gradient(estimator, log_p, log_q)
    np.testing.assert_allclose(ours, gradient.sum(0).numpy(), rtol=1e-9, atol=1e-12)


def gradient_of_kl(log_p: Array, log_q: Array, forward: bool) -> Array:
    """Gradient of KL(p‖q) (forward False) or KL(q‖p) with respect to the logits of p, by autograd of the exact sum."""
    logits, fixed = torch.tensor(log_p, requires_grad=True), torch.tensor(log_q)
    log_p_again = torch.log_softmax(logits, -1)
    gap = log_p_again - fixed
    (-(fixed.exp() * gap).sum() if forward else (log_p_again.exp() * gap).sum()).backward()
    assert logits.grad is not None
    return np.asarray(logits.grad.numpy())


@given(policy_pairs(zeros=False))
def test_as_a_loss_k1_does_nothing_k2_is_right_and_k3_is_the_other_direction(pair: tuple[Array, Array]) -> None:
    log_p, log_q = (log_normalized(np.clip(x, -30.0, 0.0)) for x in pair)
    np.testing.assert_allclose(kl_loss_gradient("k1", log_p, log_q), 0.0, atol=1e-15)
    np.testing.assert_allclose(kl_loss_gradient("k2", log_p, log_q), gradient_of_kl(log_p, log_q, False), atol=1e-12)
    np.testing.assert_allclose(kl_loss_gradient("k3", log_p, log_q), gradient_of_kl(log_p, log_q, True), atol=1e-12)
    np.testing.assert_allclose(kl_loss_gradient("k3", log_p, log_q), np.exp(log_p) - np.exp(log_q), atol=1e-13)


def test_the_k3_gradient_sees_q_only_where_p_samples() -> None:
    log_p, log_q = np.log([0.5, 0.5]), np.log([0.2, 0.3, 0.5])
    with_zero = np.append(log_p, -np.inf)
    expected = np.array([0.5 * 0.5 - 0.2, 0.5 * 0.5 - 0.3, 0.0])
    np.testing.assert_allclose(kl_loss_gradient("k3", with_zero, log_q), expected, atol=1e-15)


# Bad input.


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kl_estimate("k4", np.zeros(1)), "estimator = 'k4' is unknown; choose one of k1, k2, k3"),
        (lambda: kl_estimator_moments("K1", np.zeros(1), np.zeros(1)), "estimator = 'K1' is unknown"),
        (lambda: kl_loss_gradient("", np.zeros(1), np.zeros(1)), "estimator = '' is unknown"),
        (lambda: kl_estimate("k1", np.array([np.inf])), r"log_ratio\[0\] = inf"),
        (lambda: kl_estimator_moments("k1", np.zeros(2), np.zeros(2)), r"log_p.*probabilities sum to 2"),
        (lambda: kl_loss_gradient("k2", np.log([0.5, 0.5]), np.array([0.0, -np.inf])), "an arm that log_q lacks"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
