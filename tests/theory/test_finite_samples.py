"""T13 and T15: shares and errors against 60 digits, enumeration of tokens and of samples, and simulation."""

from itertools import product

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mpf
from scipy.special import gammaln

from dar_ref.theory import fit_error, kl, optimum, regression_target, regression_weights, weight_ess
from tests.strategies import Array, Setting, alphas, log_normalized, policy_pairs, settings
from tests.theory import reference

EVEN = np.log([0.5, 0.5])
clips = st.none() | st.floats(-3.0, 3.0).map(lambda power: 10.0**power)


def weights_in_60_digits(advantage, log_pi_0, log_pi_t, alpha, beta, w_clip=None):
    """`pi_t` and `pi_t v`, arm by arm."""
    return reference.probabilities(log_pi_t), reference.weights(advantage, log_pi_0, log_pi_t, alpha, beta, w_clip)


@given(policy_pairs(), alphas)
def test_the_share_is_that_of_its_definition(pair: tuple[Array, Array], alpha: float) -> None:
    log_pi_0, log_pi_t = pair
    q, mass = weights_in_60_digits(np.zeros(len(log_pi_t)), log_pi_0, log_pi_t, alpha, 1.0)
    square = mpmath.fsum(m * m / p for p, m in zip(q, mass, strict=True) if p > 0)
    expected = float(mpmath.fsum(mass) ** 2 / square)
    wide = np.abs(np.concatenate(pair)[np.isfinite(np.concatenate(pair))]).max()
    assert weight_ess(log_pi_0, log_pi_t, alpha) == pytest.approx(expected, rel=1e-14 * (1.0 + wide), abs=1e-300)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("tokens", [2, 4])
def test_independent_tokens_multiply_their_shares(alpha: float, tokens: int) -> None:
    log_pi_0, log_pi_t = np.log([0.5, 0.3, 0.2]), np.log([0.2, 0.2, 0.6])
    whole = [np.array([sum(each) for each in product(p, repeat=tokens)]) for p in (log_pi_0, log_pi_t)]
    assert weight_ess(*whole, alpha) == pytest.approx(weight_ess(log_pi_0, log_pi_t, alpha) ** tokens, rel=1e-13)


@given(policy_pairs(), st.floats(0.0, 1.0))
def test_the_share_falls_with_alpha_and_up_to_one_half_is_bounded_by_c(pair: tuple[Array, Array], alpha: float) -> None:
    share = weight_ess(*pair, alpha)
    assert 0.0 <= share <= 1.0
    assert share <= weight_ess(*pair, alpha / 2) * (1.0 + 1e-10)
    _, log_c = regression_weights(np.zeros(len(pair[0])), *pair, alpha, 1.0)
    if alpha <= 0.5:
        assert share >= np.exp(2.0 * log_c) * (1.0 - 1e-10)
    elif (pair[1][pair[0] > -np.inf] > -np.inf).all():
        assert share <= np.exp(2.0 * log_c) * (1.0 + 1e-10)


def test_shares_at_the_edges() -> None:
    lost, wide = np.array([-np.inf, 0.0]), np.array([0.0, -2000.0])
    assert weight_ess(EVEN, EVEN, 1.0) == 1.0
    assert weight_ess(np.zeros(1), np.zeros(1), 0.3) == 1.0
    assert weight_ess(np.log([0.9, 0.1]), lost, 0.0) == weight_ess(lost, np.log([0.9, 0.1]), 0.0) == 1.0
    assert weight_ess(lost, np.log([0.9, 0.1]), 1e-9) == pytest.approx(0.1)  # only the second arm has a weight
    assert weight_ess(EVEN, wide, 1.0) == 0.0  # 4 exp(-2000)
    with pytest.raises(ValueError, match="no arm in common"):
        weight_ess(lost, np.array([0.0, -np.inf]), 0.5)
    assert weight_ess(np.stack([EVEN, EVEN]), np.log([[0.9, 0.1]]), 0.5).shape == (2,)


@pytest.mark.parametrize(("alpha", "error"), [(-0.1, ValueError), (1.1, ValueError), ("0.5", TypeError)])
def test_a_bad_alpha_is_refused(alpha: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="alpha = "):
        weight_ess(EVEN, EVEN, alpha)


@given(settings(), clips)
def test_the_error_is_the_sum_of_squares_of_the_statement(bandit: Setting, w_clip: float | None) -> None:
    q, mass = weights_in_60_digits(*bandit[1:], w_clip)
    total = mpmath.fsum(mass)
    target = [m / total for m in mass]
    expected = mpf(0)
    for a, t in enumerate(target):
        if t > 0:
            others = mpmath.fsum(target[:a] + target[a + 1 :])  # 1 - t, also next to a corner
            squares = (
                (m * m / p) * (others if y == a else t) ** 2 for y, (p, m) in enumerate(zip(q, mass, strict=True)) if p
            )
            expected += mpmath.fsum(squares) / (total**2 * t)
    logs = np.concatenate([bandit.log_pi_0, bandit.log_pi_t])
    wide = np.abs(logs[np.isfinite(logs)]).max() + np.abs(bandit.advantage).max() / bandit.beta + 10.0
    found = fit_error(*bandit[1:], w_clip)
    assert (
        found == np.inf if expected > 1e308 else found == pytest.approx(float(expected), rel=1e-14 * wide, abs=1e-290)
    )


def exact_errors(log_pi_t: Array, log_weight: Array, target: Array, n: int) -> tuple[float, float]:
    """`2 n E[KL(pi'‖fit); every arm drawn]` and `2 n E KL(fit‖pi')` over all counts of n samples of three arms."""
    first, second = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
    counts = np.stack([first, second, n - first - second], axis=-1)[first + second <= n].astype(float)
    log_probability = gammaln(n + 1) - gammaln(counts + 1).sum(-1) + counts @ log_pi_t
    fit = log_normalized(np.where(counts > 0, np.log(np.maximum(counts, 1.0)) + log_weight, -np.inf))
    whole = (counts > 0).all(-1)
    forward = np.exp(log_probability[whole]) @ kl(np.log(target), fit[whole])
    backward = np.exp(log_probability) @ kl(fit, np.log(target))
    return 2 * n * forward, 2 * n * backward


@pytest.mark.parametrize("w_clip", [None, 1.2])
def test_the_limit_is_that_of_every_sample_of_n_enumerated(w_clip: float | None) -> None:
    """n = 80, 160, 320, extrapolated to 1/n = 0 by the parabola through the three."""
    log_pi_0, log_pi_t = np.log([0.3, 0.3, 0.4]), np.log([0.4, 0.35, 0.25])
    bandit = (np.array([0.6, -0.4, 0.2]), log_pi_0, log_pi_t, 0.3, 0.8, w_clip)
    log_weight, target = regression_weights(*bandit).log_weight, np.exp(regression_target(*bandit))
    values = np.array([exact_errors(log_pi_t, log_weight, target, n) for n in (80, 160, 320)])
    limits = (values[0] - 6.0 * values[1] + 8.0 * values[2]) / 3.0
    assert limits == pytest.approx([fit_error(*bandit)] * 2, rel=2e-4)
    assert abs(values[0, 0] - fit_error(*bandit)) > 10 * abs(limits[0] - fit_error(*bandit))


@pytest.mark.slow
def test_the_limit_is_that_of_simulated_fits() -> None:
    """Eight arms at beta 1/4, 4,000 samples, 20,000 fits: the limit lies in the interval of five standard errors, plus
    the 1/n term that the enumeration above shows."""
    rng = np.random.default_rng(3)
    log_pi_t = log_normalized(0.5 * rng.standard_normal(8))
    bandit = (rng.standard_normal(8), np.log(np.full(8, 0.125)), log_pi_t, 0.1, 0.25, 20.0)
    log_weight, target = regression_weights(*bandit).log_weight, regression_target(*bandit)
    counts = rng.multinomial(4000, np.exp(log_pi_t), size=20_000)
    assert (counts > 0).all()
    found = 2 * 4000 * kl(target, log_normalized(np.log(counts) + log_weight))
    limit = float(fit_error(*bandit))
    assert abs(found.mean() - limit) < 5.0 * found.std() / np.sqrt(found.size) + 0.01 * limit


def test_errors_by_hand() -> None:
    three = np.log([0.2, 0.3, 0.5])
    assert fit_error(np.zeros(3), three, three, 0.4, 1.0) == pytest.approx(2.0, rel=1e-14)  # arms less one
    assert fit_error(np.array([5.0]), np.zeros(1), np.zeros(1), 0.5, 1e-6) == 0.0
    # target (3/4, 1/4), sampler (1/4, 3/4): 3 * 1/4 + 1/3 * 3/4
    assert fit_error(np.log([9.0, 1.0]), np.log([0.25, 0.75]), np.log([0.25, 0.75]), 0.0, 1.0) == pytest.approx(1.0)
    assert fit_error(np.log([27.0, 1.0]), EVEN, np.log([0.1, 0.9]), 0.0, 1.0) == pytest.approx(7.5 / 4 + 0.75 / 3.6)


def test_extreme_settings_give_the_limits() -> None:
    log_pi_t = np.log([0.5, 0.3, 0.2])
    gain = np.array([0.0, 1.0, 2.0])
    assert fit_error(gain, log_pi_t, log_pi_t, 0.5, 1e12) == pytest.approx(2.0, rel=1e-10)
    assert fit_error(gain, log_pi_t, log_pi_t, 0.5, 1e-6) == 0.0  # one arm is all there is to fit
    assert fit_error(gain, log_pi_t, log_pi_t, 0.5, 1e-6, 1e-9) == pytest.approx(2.0)  # every weight at the clip
    lost = np.array([-np.inf, *EVEN])
    assert fit_error(np.array([9.0, 0.0, 0.0]), log_pi_t, lost, 1.0, 1.0) == pytest.approx(
        fit_error(np.zeros(2), np.log([0.6, 0.4]), EVEN, 1.0, 1.0), rel=1e-14
    )  # the arm that pi_t lacks is in no fit
    assert fit_error(np.zeros(2), EVEN, np.array([0.0, -2000.0]), 1.0, 1.0) == np.inf
    assert fit_error(np.zeros((3, 1, 2)), EVEN, np.stack([EVEN, EVEN]), 0.5, 1.0).shape == (3, 2)


def test_bad_input_of_the_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"beta = 0\.0"):
        fit_error(np.zeros(2), EVEN, EVEN, 0.1, 0.0)
    with pytest.raises(ValueError, match=r"w_clip = -1"):
        fit_error(np.zeros(2), EVEN, EVEN, 0.1, 1.0, -1)
    with pytest.raises(ValueError, match="no arm in common"):
        fit_error(np.zeros(2), np.array([0.0, -np.inf]), np.array([-np.inf, 0.0]), 0.5, 1.0)


def test_with_a_clip_the_fit_ends_at_the_clipped_target() -> None:
    """So its distance to `pi*` tends to KL(pi*‖pi'), which no number of samples lowers."""
    bandit = (np.array([2.0, 0.0]), EVEN, EVEN, 0.1, 0.5)
    clipped, best = regression_target(*bandit, 3.0), optimum(*bandit).log_pi
    log_weight = regression_weights(*bandit, 3.0).log_weight
    counts = np.array([50_000_000, 50_000_000])
    fit = log_normalized(np.log(counts) + log_weight)
    assert kl(clipped, fit) == pytest.approx(0.0, abs=1e-15)
    share = np.exp(4.0) / (1.0 + np.exp(4.0))  # pi' is (3, 1)/4, pi* is (e^4, 1) normalised
    by_hand = share * np.log(share / 0.75) + (1.0 - share) * np.log((1.0 - share) / 0.25)
    assert kl(best, fit) == pytest.approx(by_hand) == pytest.approx(kl(best, clipped))
