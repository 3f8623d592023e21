"""T8: exact moments of the updates, against an enumeration of ordered samples with gradients by torch."""

import math
from itertools import product
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dar_ref.theory import Moments, batches, efficiency, estimator_moments, kl, noise_to_signal, optimum
from tests.strategies import Array, log_normalized

METHODS = ("dar", "dao", "grpo", "rloo")
PAPER_LIKE = {
    "dar": {"alpha": 0.3, "beta": 0.7, "w_clip": 1.6},
    "dao": {"alpha": 0.3, "beta": 0.7},
    "grpo": {"beta": 0.3, "epsilon": 0.2},
    "rloo": {"beta": 0.3},
}


class Bandit(NamedTuple):
    """Reward and policies, each (N, A)."""

    reward: Array
    log_pi_theta: Array
    log_pi_0: Array
    log_pi_t: Array


def bandit(seed: int, prompts: int, arms: int, spread: float = 1.0) -> Bandit:
    rng = np.random.default_rng(seed)
    policies = [log_normalized(spread * rng.normal(size=(prompts, arms))) for _ in range(3)]
    return Bandit(rng.normal(size=(prompts, arms)), *policies)


# The oracle: every ordered batch, the loss by its definition, its gradient by autograd.


def oracle_advantage(reward: torch.Tensor, baseline: str, normalize: str) -> torch.Tensor:
    """(S, N, K) -> (S, N, K)."""
    completions = reward.shape[-1]
    others = (reward.sum(-1, keepdim=True) - reward) / max(completions - 1, 1)
    means = {"group": reward.mean(-1, keepdim=True), "batch": reward.mean((-2, -1), keepdim=True)}
    advantage = reward - {**means, "leave_one_out": others, "none": 0.0}[baseline]
    if normalize == "none":
        return advantage
    axes = {"group": (-1,), "batch": (-2, -1)}[normalize]
    std = advantage.std(axes, correction=0, keepdim=True)
    return torch.where(std > 1e-12, advantage / std, torch.zeros(()))


def oracle_loss(
    method: str,
    logp: torch.Tensor,
    logp_0: torch.Tensor,
    logp_t: torch.Tensor,
    reward: torch.Tensor,
    baseline: str,
    normalize: str,
    *,
    alpha: float = 0.1,
    beta: float = 0.05,
    w_clip: float | None = None,
    epsilon: float = 0.2,
) -> torch.Tensor:
    """Loss (S,) of ordered samples (S, N, K)."""
    if method == "rloo":
        penalised = reward - beta * (logp_t - logp_0)
        return -(oracle_advantage(penalised, baseline, normalize) * logp).mean((-2, -1))
    advantage = oracle_advantage(reward, baseline, normalize)
    ratio = torch.exp(logp - logp_t)
    if method == "dar":
        weight = torch.exp(alpha * (logp_0 - logp_t) + advantage / beta)
        weight = weight if w_clip is None else weight.clamp(max=w_clip)
        return -(weight * logp).mean((-2, -1))
    if method == "dao":
        bracket = advantage - beta * (alpha * (logp - logp_0) + (1 - alpha) * (logp - logp_t))
        return -(ratio * bracket.detach()).mean((-2, -1))
    surrogate = torch.minimum(ratio * advantage, ratio.clamp(1 - epsilon, 1 + epsilon) * advantage)
    k3 = torch.exp(logp_0 - logp) - 1 + logp - logp_0
    return -(surrogate - beta * k3).mean((-2, -1))


def oracle_samples(
    method: str, case: Bandit, completions: int, baseline: str, normalize: str, **options: float
) -> tuple[Array, Array]:
    """Probability (S,) and update (S, N*A) of every one of the A^(N*K) ordered batches."""
    prompts, arms = case.reward.shape
    drawn = torch.tensor(list(product(range(arms), repeat=prompts * completions))).reshape(-1, prompts, completions)

    def at_samples(table: torch.Tensor) -> torch.Tensor:
        return table.expand(len(drawn), prompts, arms).gather(-1, drawn)

    logits = torch.tensor(case.log_pi_theta).expand(len(drawn), prompts, arms).clone().requires_grad_()
    logp = torch.log_softmax(logits, -1).gather(-1, drawn)
    logp_0, logp_t, reward = (at_samples(torch.tensor(x)) for x in (case.log_pi_0, case.log_pi_t, case.reward))
    loss = oracle_loss(method, logp, logp_0, logp_t, reward, baseline, normalize, **options)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    return logp_t.sum((-2, -1)).exp().numpy(), -gradient.reshape(len(drawn), -1).numpy()


def oracle_moments(*args: object, **options: object) -> Moments:
    probability, update = oracle_samples(*args, **options)
    mean = probability @ update
    return Moments(mean, np.einsum("s,si,sj->ij", probability, update, update) - np.outer(mean, mean))


def assert_same(ours: Moments, theirs: Moments) -> None:
    np.testing.assert_allclose(ours.mean, theirs.mean, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(ours.covariance, theirs.covariance, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("normalize", ["none", "group", "batch"])
@pytest.mark.parametrize("baseline", ["group", "batch", "leave_one_out", "none"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("prompts", "completions", "arms"), [(1, 3, 4), (2, 2, 3), (3, 2, 2)])
def test_equals_autograd_of_the_loss_over_every_ordered_batch(
    method: str, baseline: str, normalize: str, prompts: int, completions: int, arms: int
) -> None:
    case = bandit(17, prompts, arms)
    options = PAPER_LIKE[method]
    ours = estimator_moments(method, *case, completions, baseline=baseline, normalize=normalize, **options)
    assert_same(ours, oracle_moments(method, case, completions, baseline, normalize, **options))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_oracle_far_from_the_sampler(method: str, seed: int) -> None:
    case = bandit(seed, 1, 3, spread=2.5)
    options = PAPER_LIKE[method]
    ours = estimator_moments(method, *case, 3, baseline="group", normalize="group", **options)
    assert_same(ours, oracle_moments(method, case, 3, "group", "group", **options))


@pytest.mark.parametrize(
    ("method", "baseline", "normalize", "options"),
    [
        ("dar", "group", "none", {"alpha": 0.1, "beta": 0.05}),
        ("dao", "group", "none", {"alpha": 0.1, "beta": 0.05}),
        ("grpo", "group", "group", {"beta": 0.05, "epsilon": 0.2}),
        ("rloo", "leave_one_out", "none", {"beta": 0.05}),
    ],
)
def test_defaults_are_the_ones_documented(
    method: str, baseline: str, normalize: str, options: dict[str, float]
) -> None:
    case = bandit(5, 1, 3)
    assert_same(
        estimator_moments(method, *case, 2),
        oracle_moments(method, case, 2, baseline, normalize, **options),
    )


@pytest.mark.parametrize(
    ("method", "option", "first", "second"),
    [
        ("dar", "alpha", 0.1, 0.9),
        ("dar", "beta", 0.5, 1.0),
        ("dar", "w_clip", None, 1.1),
        ("dao", "alpha", 0.1, 0.9),
        ("dao", "beta", 0.5, 1.0),
        ("grpo", "beta", 0.0, 1.0),
        ("grpo", "epsilon", 0.2, math.inf),
        ("rloo", "beta", 0.0, 1.0),
        *[(method, "baseline", "group", "leave_one_out") for method in METHODS],
        *[(method, "baseline", "group", "none") for method in METHODS],
        *[(method, "normalize", "none", "group") for method in METHODS],
        *[(method, "normalize", "group", "batch") for method in METHODS],
    ],
)
def test_every_switch_changes_the_result(method: str, option: str, first: object, second: object) -> None:
    case = bandit(3, 2, 3)
    plain = {"normalize": "none"}  # a std would cancel the K/(K-1) between two of the baselines
    one, other = (estimator_moments(method, *case, 2, **{**plain, option: value}) for value in (first, second))
    assert np.abs(one.covariance - other.covariance).max() > 1e-3 * np.abs(one.covariance).max()


# Relations that need no oracle.


def cases(arms: int = 1) -> st.SearchStrategy[Bandit]:
    """Bandits of at least `arms` arms, policies from flat to 3 nats apart: updates are not kept in log space."""
    return st.builds(
        bandit,
        st.integers(0, 2**32 - 1),
        st.integers(1, 2),
        st.integers(arms, 4),
        st.sampled_from([0.0, 0.1, 1.0, 3.0]),
    )


options_of = st.sampled_from(METHODS).map(lambda method: (method, PAPER_LIKE[method]))


@given(cases(), options_of, st.integers(2, 4), st.randoms(use_true_random=False))
def test_relabelling_arms_and_prompts_relabels_the_moments(
    case: Bandit, chosen: tuple[str, dict[str, float]], completions: int, random: object
) -> None:
    method, options = chosen
    prompts, arms = case.reward.shape
    rows = np.array(random.sample(range(prompts), prompts))
    columns = np.array(random.sample(range(arms), arms))
    moved = Bandit(*(x[rows][:, columns] for x in case))
    index = (rows[:, None] * arms + columns).ravel()
    before = estimator_moments(method, *case, completions, normalize="batch", **options)
    after = estimator_moments(method, *moved, completions, normalize="batch", **options)
    np.testing.assert_allclose(after.mean, before.mean[index], rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(after.covariance, before.covariance[np.ix_(index, index)], rtol=1e-9, atol=1e-9)


@given(cases(), options_of, st.integers(2, 4))
def test_each_prompts_update_sums_to_zero_and_the_covariance_is_symmetric_and_positive(
    case: Bandit, chosen: tuple[str, dict[str, float]], completions: int
) -> None:
    method, options = chosen
    moments = estimator_moments(method, *case, completions, **options)
    prompts, arms = case.reward.shape
    scale = 1.0 + np.abs(moments.covariance).max()
    assert np.abs(moments.mean.reshape(prompts, arms).sum(-1)).max() < 1e-13 * scale
    assert np.abs(moments.covariance.reshape(-1, prompts, arms).sum(-1)).max() < 1e-13 * scale
    assert (moments.covariance == moments.covariance.T).all()
    assert np.linalg.eigvalsh(moments.covariance).min() > -1e-13 * scale


@given(cases(), options_of, st.integers(1, 5))
def test_independent_samples_divide_the_covariance_by_their_number(
    case: Bandit, chosen: tuple[str, dict[str, float]], completions: int
) -> None:
    method, options = chosen
    setting = {"baseline": "none", "normalize": "none", **options}
    one = estimator_moments(method, *case, 1, **setting)
    many = estimator_moments(method, *case, completions, **setting)
    np.testing.assert_allclose(many.mean, one.mean, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(many.covariance * completions, one.covariance, rtol=1e-9, atol=1e-11)


@given(cases(), options_of, st.floats(-100.0, 100.0))
def test_a_baseline_removes_a_constant_reward(case: Bandit, chosen: tuple[str, dict[str, float]], shift: float) -> None:
    method, options = chosen
    before = estimator_moments(method, *case, 3, **options)
    after = estimator_moments(method, case.reward + shift, *case[1:], 3, **options)
    np.testing.assert_allclose(after.mean, before.mean, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_an_arm_that_is_never_drawn_is_no_arm(method: str) -> None:
    case = bandit(8, 2, 3)
    wider = Bandit(
        np.pad(case.reward, ((0, 0), (0, 1)), constant_values=7.0),
        *(np.pad(x, ((0, 0), (0, 1)), constant_values=-np.inf) for x in case[1:]),
    )
    narrow = estimator_moments(method, *case, 3, normalize="batch")
    wide = estimator_moments(method, *wider, 3, normalize="batch")
    kept = np.array([0, 1, 2, 4, 5, 6])
    np.testing.assert_allclose(wide.mean[kept], narrow.mean, rtol=1e-12)
    np.testing.assert_allclose(wide.covariance[np.ix_(kept, kept)], narrow.covariance, rtol=1e-12)
    assert not wide.mean[[3, 7]].any()


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    case = bandit(4, 2, 3)
    whole = estimator_moments("dar", *case, 3, normalize="batch")
    monkeypatch.setattr(batches, "CHUNK", 7)
    assert_same(estimator_moments("dar", *case, 3, normalize="batch"), whole)


def test_one_prompt_may_drop_its_axis_and_inputs_broadcast() -> None:
    case = bandit(6, 1, 4)
    assert_same(estimator_moments("dar", *(x[0] for x in case), 3), estimator_moments("dar", *case, 3))
    shared = [np.repeat(x, 2, axis=0) for x in case]
    assert_same(estimator_moments("dar", shared[0], *(x[0] for x in case[1:]), 3), estimator_moments("dar", *shared, 3))


def test_equal_rewards_make_a_normalised_advantage_of_zero_whatever_their_size() -> None:
    case = bandit(2, 2, 3)
    for reward in (np.full((2, 3), 0.1), np.full((2, 3), 1e300)):
        for normalize in ("group", "batch"):
            moments = estimator_moments("grpo", reward, *case[1:], 3, beta=0.0, normalize=normalize)
            assert not moments.mean.any()
            assert not moments.covariance.any()


def test_normalisation_removes_the_scale_of_the_reward() -> None:
    case = bandit(2, 2, 3)
    for scale in (1e-200, 1e200):  # squares would leave float64
        scaled = estimator_moments("dar", scale * case.reward, *case[1:], 3, normalize="batch")
        assert_same(scaled, estimator_moments("dar", *case, 3, normalize="batch"))


def test_the_std_is_taken_over_the_group_or_the_batch() -> None:
    """Two prompts drew (0, 1) and (0, 3): the stds are 1/2 and 3/2 per group, sqrt(5)/2 over the batch."""
    reward, counts = np.array([[0.0, 1.0], [0.0, 3.0]]), np.ones((1, 2, 2), dtype=np.int64)
    for normalize, half_ranges in (("none", [0.5, 1.5]), ("group", [1.0, 1.0]), ("batch", [5**-0.5, 3 * 5**-0.5])):
        advantage = batches.sampled_advantages(reward, counts, 2, "group", normalize)
        np.testing.assert_allclose(advantage[0], np.outer(half_ranges, [-1.0, 1.0]), rtol=1e-15)


def test_inputs_are_left_alone() -> None:
    case = bandit(2, 2, 3)
    copies = [x.copy() for x in case]
    estimator_moments("rloo", *case, 3, normalize="batch")
    assert all((x == y).all() for x, y in zip(case, copies, strict=True))


# T8: the relation of DAR and DAO.


def test_expected_gradients_of_dar_and_dao_agree_to_first_order_up_to_the_factor_one_over_beta() -> None:
    rng = np.random.default_rng(0)
    log_pi_t, toward_0, toward_theta = log_normalized(rng.normal(size=4)), rng.normal(size=4), rng.normal(size=4)
    reward, beta = rng.normal(size=4), 0.7
    sizes = 2.0 ** -np.arange(4, 10)
    gaps = []
    for size in sizes:
        log_pi_0, log_pi_theta = (log_normalized(log_pi_t + size * x) for x in (toward_0, toward_theta))
        policies = (log_pi_theta, log_pi_0, log_pi_t)
        dar = estimator_moments("dar", size * reward, *policies, 3, alpha=0.3, beta=beta).mean
        dao = estimator_moments("dao", size * reward, *policies, 3, alpha=0.3, beta=beta).mean / beta
        gaps.append(np.linalg.norm(dar - dao))
        assert np.linalg.norm(dao) > 0.1 * size  # the gradients themselves are of first order
    slope = np.polyfit(np.log(sizes), np.log(gaps), 1)[0]
    assert 1.95 < slope < 2.1


@given(cases(), st.floats(0.0, 1.0), st.floats(0.3, 3.0), st.integers(1, 3))
def test_the_mean_dao_update_is_the_gradient_of_the_objective(
    case: Bandit, alpha: float, beta: float, completions: int
) -> None:
    logits = torch.tensor(case.log_pi_theta, requires_grad=True)
    log_pi = torch.log_softmax(logits, -1)
    reward, log_pi_0, log_pi_t = (torch.tensor(x) for x in (case.reward, case.log_pi_0, case.log_pi_t))
    penalty = alpha * (log_pi - log_pi_0) + (1 - alpha) * (log_pi - log_pi_t)
    (log_pi.exp() * (reward - beta * penalty)).sum(-1).mean().backward()
    assert logits.grad is not None
    mean = estimator_moments("dao", *case, completions, alpha=alpha, beta=beta, baseline="none").mean
    np.testing.assert_allclose(mean, logits.grad.numpy().ravel(), rtol=1e-8, atol=1e-9)


# "Regression removes the variance of the policy ratio": where this is true, and where it is false.


def exact_advantage(reward: Array, log_pi_t: Array) -> Array:
    return reward - (np.exp(log_pi_t) * reward).sum(-1, keepdims=True)


@pytest.mark.parametrize("size", [0.01, 0.1, 1.0, 5.0])
def test_at_the_sampler_two_even_arms_cost_dar_coth_squared_and_dao_nothing(size: float) -> None:
    """A = +-size beta: DAO's two possible updates are equal; DAR's are `e^size` and `-e^-size` times one vector."""
    even = np.log([0.5, 0.5])
    advantage = 0.2 * size * np.array([1.0, -1.0])
    setting = {"alpha": 0.0, "beta": 0.2, "baseline": "none"}
    dar = estimator_moments("dar", advantage, even, even, even, 1, **setting)
    dao = estimator_moments("dao", advantage, even, even, even, 1, **setting)
    assert noise_to_signal(dar) == pytest.approx(1.0 / math.tanh(size) ** 2, rel=1e-12)
    assert noise_to_signal(dao) == pytest.approx(0.0, abs=1e-25)


def test_near_the_sampler_dars_noise_to_signal_grows_as_beta_squared_and_daos_does_not() -> None:
    """The positive weights contain a constant 1: no signal, since `E[grad log pi_t] = 0`, but all the noise of SFT."""
    case = bandit(1, 1, 4)
    reward = exact_advantage(case.reward, case.log_pi_t)
    pi_t = np.exp(case.log_pi_t[0])
    score = np.eye(4) - pi_t
    signal = np.sum((pi_t * reward[0]) ** 2)
    dar_limit = (pi_t @ (score**2).sum(1)) / signal
    dao_limit = (pi_t * reward[0] ** 2) @ (score**2).sum(1) / signal - 1
    policies = (case.log_pi_t, case.log_pi_t, case.log_pi_t)
    for beta in (1e3, 1e4):
        dar, dao = (
            noise_to_signal(estimator_moments(method, reward, *policies, 1, beta=beta, baseline="none"))
            for method in ("dar", "dao")
        )
        assert dar / beta**2 == pytest.approx(dar_limit, rel=3.0 / beta)
        assert dao == pytest.approx(dao_limit, rel=3.0 / beta)


@pytest.mark.parametrize("rare", [0.3, 0.1, 1e-3, 1e-6])
def test_off_the_sampler_dars_noise_stays_and_daos_grows_without_bound(rare: float) -> None:
    """No reward, and the policy has its two arms swapped: DAR pulls back with weight 1, DAO through the ratio."""
    log_pi_t, log_pi_theta = np.log([rare, 1.0 - rare]), np.log([1.0 - rare, rare])
    setting = {"alpha": 0.0, "beta": 1.0, "baseline": "none"}
    args = (np.zeros(2), log_pi_theta, log_pi_t, log_pi_t, 1)
    dar = noise_to_signal(estimator_moments("dar", *args, **setting))
    dao = noise_to_signal(estimator_moments("dao", *args, **setting))
    assert dar == pytest.approx((rare**3 + (1 - rare) ** 3) / (1 - 2 * rare) ** 2 - 1, rel=1e-9, abs=1e-12)
    assert dao == pytest.approx(1 / (4 * rare * (1 - rare)) - 1, rel=1e-9)
    assert (dar < dao) == (rare < 0.25)  # at 0.3 DAR is still noisier: 1.3125 against 0.190


@given(cases(), st.integers(2, 4), st.floats(0.1, 50.0), st.sampled_from(["none", "group"]))
def test_the_clip_bounds_dars_second_moment_for_every_policy(
    case: Bandit, completions: int, w_clip: float, normalize: str
) -> None:
    moments = estimator_moments("dar", *case, completions, w_clip=w_clip, normalize=normalize)
    assert np.trace(moments.covariance) + np.sum(moments.mean**2) <= 2.0 * w_clip**2 * (1 + 1e-12)


def test_no_clip_of_the_ratio_bounds_grpo_or_dao() -> None:
    """GRPO's clip keeps `rho A` where A < 0 and rho > 1 + eps: the rare arm that the policy wrongly moved to."""
    for rare in (1e-2, 1e-4, 1e-6):
        log_pi_t, log_pi_theta = np.log([rare, 1.0 - rare]), np.log([0.5, 0.5])
        args = (np.array([-1.0, 0.0]), log_pi_theta, log_pi_t, log_pi_t, 1)
        for method in ("grpo", "dao"):
            moments = estimator_moments(method, *args, beta=1e-9, baseline="none", normalize="none")
            assert np.trace(moments.covariance) > 0.1 / rare


@given(cases(), st.floats(0.0, 1.0), st.floats(0.3, 3.0))
def test_at_the_optimum_the_weight_is_the_ratio_itself(case: Bandit, alpha: float, beta: float) -> None:
    """At `pi_theta = pi*`, `w = Z rho` and DAO's bracket is `beta log Z`: the same noise up to a factor, no signal."""
    advantage = exact_advantage(case.reward, case.log_pi_t)
    log_pi, value = optimum(advantage, case.log_pi_0, case.log_pi_t, alpha, beta)
    dar, dao = (
        estimator_moments(
            method, advantage, log_pi, case.log_pi_0, case.log_pi_t, 1, alpha=alpha, beta=beta, baseline="none"
        )
        for method in ("dar", "dao")
    )
    blocks = np.kron(np.eye(len(value)), np.ones((case.reward.shape[-1],) * 2))
    size = np.repeat(np.exp(value / beta), case.reward.shape[-1])
    scale = 1.0 + np.abs(dar.covariance).max()
    np.testing.assert_allclose(dar.mean, 0.0, atol=1e-12 * scale)
    np.testing.assert_allclose(dao.mean, 0.0, atol=1e-12 * scale)
    lifted = np.repeat(value, case.reward.shape[-1])
    np.testing.assert_allclose(
        blocks * dar.covariance * np.outer(lifted, lifted),
        blocks * dao.covariance * np.outer(size, size),
        rtol=1e-8,
        atol=1e-10 * scale,
    )


def test_dars_own_weights_end_in_one_group_out_of_sixty_four_and_the_clip_prevents_it() -> None:
    """beta -> 0, four even arms, K = 4: one group (the best arm once, the worst three times) decides the update."""
    even = np.log(np.full(4, 0.25))
    reward = np.array([1.0, 0.0, -1.0, 0.5])
    free, clipped, dao = (
        noise_to_signal(estimator_moments(method, reward, even, even, even, 4, beta=0.01, **options))
        for method, options in (("dar", {}), ("dar", {"w_clip": 20.0}), ("dao", {}))
    )
    assert free == pytest.approx(1 / (4 / 4**4) - 1, rel=1e-9)
    assert clipped == pytest.approx(3.0, abs=0.3)
    assert dao == pytest.approx(5 / 6, rel=1e-9)


def noise_over_families(drift: float, size: float, w_clip: float | None) -> tuple[Array, Array]:
    """DAR's and DAO's `trace(covariance) / |part of the mean that is due to the reward|^2` on 40 bandits of 8 arms.

    Under `pi_t` the advantage has std 1, and beta is 1/size. Drift is the std in nats of `log pi_theta/pi_t` before
    normalisation. The pull towards the anchors grows with the drift; it does not count as signal here.
    """
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(40):
        log_pi_t = log_normalized(rng.normal(size=8))
        advantage = exact_advantage(rng.normal(size=8), log_pi_t)
        advantage /= np.sqrt(np.exp(log_pi_t) @ advantage**2)
        log_pi_0 = log_normalized(log_pi_t + 0.3 * rng.normal(size=8))
        log_pi_theta = log_normalized(log_pi_t + drift * rng.normal(size=8))
        for method, options in (("dar", {"w_clip": w_clip}), ("dao", {})):
            full, silent = (
                estimator_moments(
                    method, reward, log_pi_theta, log_pi_0, log_pi_t, 1, beta=1 / size, baseline="none", **options
                )
                for reward in (advantage, np.zeros(8))
            )
            ratios.append(np.trace(full.covariance) / np.sum((full.mean - silent.mean) ** 2))
    return np.array(ratios[::2]), np.array(ratios[1::2])


def test_dars_noise_does_not_move_with_the_policy_and_daos_does() -> None:
    near, far = noise_over_families(0.0, 0.3, None), noise_over_families(5.0, 0.3, None)
    medians = np.median([near, far], axis=-1)
    assert 0.8 < medians[1, 0] / medians[0, 0] < 1.25
    assert medians[1, 1] / medians[0, 1] > 50.0


@pytest.mark.parametrize(
    ("drift", "size", "w_clip", "low", "high"),
    [
        (0.0, 0.3, None, 0.0, 0.0),  # close to the sampler: never less noisy ...
        (0.0, 10.0, None, 0.2, 0.5),
        (0.0, 10.0, 20.0, 0.1, 0.4),  # ... and rarely with large weights, clipped or not
        (1.0, 0.3, None, 0.2, 0.5),
        (2.0, 0.3, None, 0.6, 0.9),  # the order changes between 1 and 2 nats of drift
        (5.0, 0.3, None, 0.8, 1.0),
        (5.0, 10.0, None, 0.4, 0.7),  # DAR's own weights undo half of it ...
        (5.0, 10.0, 20.0, 0.7, 1.0),  # ... and the clip restores it
    ],
)
def test_how_often_dar_is_the_quieter_one(
    drift: float, size: float, w_clip: float | None, low: float, high: float
) -> None:
    dar, dao = noise_over_families(drift, size, w_clip)
    assert low <= (dar < dao).mean() <= high


def test_the_clip_trades_direction_for_noise_and_the_best_one_is_in_between() -> None:
    even = np.log(np.full(4, 0.25))
    reward, beta = np.array([1.0, 0.0, -1.0, 0.5]), 0.25
    wanted = np.exp(optimum(exact_advantage(reward, even), even, even, 0.1, beta).log_pi) - 0.25
    moments = [
        estimator_moments("dar", reward, even, even, even, 4, beta=beta, w_clip=w_clip)
        for w_clip in (1.0, 3.0, 10.0, 30.0, 100.0, None)
    ]
    recovered = np.array([efficiency(m, wanted) for m in moments])
    aligned = recovered * (1 + np.array([noise_to_signal(m) for m in moments]))
    assert (np.diff(aligned) > 0).all()  # a looser clip points closer to the exact gradient ...
    assert 0 < recovered.argmax() < 5  # ... but the best single step has a clip
    assert recovered.max() > 1.5 * recovered[-1]


# The two summaries.


@given(cases(arms=2), options_of, st.integers(2, 3))
def test_efficiency_is_what_the_best_step_recovers(
    case: Bandit, chosen: tuple[str, dict[str, float]], completions: int
) -> None:
    method, options = chosen
    prompts, arms = case.reward.shape
    wanted = np.random.default_rng(0).normal(size=(prompts, arms))
    probability, update = oracle_samples(method, case, completions, "group", "none", **options)
    moments = estimator_moments(method, *case, completions, baseline="group", normalize="none", **options)
    step = (probability @ (update @ wanted.ravel())) / (probability @ (update**2).sum(1))
    error = probability @ ((step * update - wanted.ravel()) ** 2).sum(1)
    assert efficiency(moments, wanted) == pytest.approx(1 - error / np.sum(wanted**2), rel=1e-9, abs=1e-12)


def test_summaries_of_updates_without_signal() -> None:
    even = np.log([0.5, 0.5])
    noise = estimator_moments("dar", np.zeros(2), even, even, even, 1, baseline="none")
    assert noise_to_signal(noise) == math.inf
    assert efficiency(noise, np.array([1.0, -1.0])) == 0.0
    silence = estimator_moments("rloo", np.zeros(2), even, even, even, 2)
    assert math.isnan(noise_to_signal(silence))
    assert math.isnan(efficiency(silence, np.array([1.0, -1.0])))


@given(cases(), options_of, st.sampled_from([1e-3, 7.0, 1e4]))
def test_summaries_have_no_unit(case: Bandit, chosen: tuple[str, dict[str, float]], factor: float) -> None:
    method, options = chosen
    moments = estimator_moments(method, *case, 2, **options)
    scaled = Moments(factor * moments.mean, factor**2 * moments.covariance)
    wanted = np.arange(1.0, case.reward.size + 1.0)
    for first, second in (
        (noise_to_signal(moments), noise_to_signal(scaled)),
        (efficiency(moments, wanted), efficiency(scaled, 3.0 * wanted)),
    ):
        assert first == pytest.approx(second, rel=1e-9, nan_ok=True)


# Bad input.

EVEN = np.log([0.5, 0.5])
LACKING = np.array([0.0, -np.inf])
REWARD = np.array([1.0, 0.0])
PLAIN = (REWARD, EVEN, EVEN, EVEN)


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        (("ppo", *PLAIN, 2), {}, r"method = 'ppo' is unknown; choose one of dar, dao, grpo, rloo"),
        (("dar", *PLAIN, 2), {"baseline": "mean"}, "baseline = 'mean' is unknown; choose one of group"),
        (("dar", *PLAIN, 2), {"normalize": "std"}, "normalize = 'std' is unknown; choose one of none"),
        (("dar", *PLAIN, 2), {"epsilon": 0.2}, "epsilon = 0.2 is not an option of method 'dar'"),
        (("dao", *PLAIN, 2), {"w_clip": 20.0}, "w_clip = 20.0 is not an option of method 'dao'"),
        (("grpo", *PLAIN, 2), {"alpha": 0.0}, "alpha = 0.0 is not an option of method 'grpo'"),
        (("rloo", *PLAIN, 2), {"beta": -1.0}, "beta = -1.0 is not a finite number.* pass beta >= 0"),
        (("dar", *PLAIN, 2), {"beta": 0.0}, "beta = 0.0 is not .* pass beta > 0"),
        (("dar", *PLAIN, 2), {"w_clip": 0.0}, "w_clip = 0.0 is not .* pass w_clip > 0"),
        (("dar", *PLAIN, 0), {}, "num_generations = 0 is below 1; pass num_generations >= 1"),
        (("dar", *PLAIN, 1), {}, "num_generations = 1 with baseline = 'group'.*pass num_generations >= 2"),
        (("rloo", *PLAIN, 1), {}, "num_generations = 1 with baseline = 'leave_one_out'"),
        (("grpo", *PLAIN, 1), {"baseline": "none"}, "num_generations = 1 with normalize = 'group'"),
        (
            ("dar", *PLAIN, 1),
            {"baseline": "none", "normalize": "batch"},
            "num_generations = 1 with normalize = 'batch'",
        ),
        (("dar", REWARD[None, None], EVEN, EVEN, EVEN, 2), {}, r"broadcast to shape \(1, 1, 2\)"),
        (("dar", REWARD, LACKING, EVEN, EVEN, 2), {}, "log_pi_theta is -inf on arm 1 of prompt 0"),
        (("dao", REWARD, EVEN, LACKING, EVEN, 2), {}, "log_pi_0 is -inf on arm 1 of prompt 0.*'dao' takes its log"),
        (("rloo", REWARD, EVEN, LACKING, EVEN, 2), {}, "log_pi_0 is -inf on arm 1 of prompt 0.*'rloo' takes its log"),
        (
            ("rloo", REWARD, EVEN, EVEN, np.log([0.9, 0.1]), 2),
            {"beta": 1e306},
            r"lower beta or bring the policies closer",
        ),
        (("grpo", *PLAIN, 2), {"beta": np.inf}, "beta = inf is not a finite number of at least 0"),
        (("dar", *PLAIN, 2), {"beta": 1e-3}, r"leave the range of float64 \(beta = 0.001, w_clip = None\)"),
        (("dar", *[np.log(np.full(10, 0.1))] * 4, 20), {}, "num_generations = 20 with 10 arms .* 10015005 batches"),
        (
            ("dar", *[np.log(np.full((5, 4), 0.25))] * 4, 4),
            {"normalize": "batch"},
            "5 coupled prompt.* makes 52521875 batches",
        ),
    ],
)
def test_bad_input_is_refused(args: tuple[object, ...], options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        estimator_moments(*args, **options)


@pytest.mark.parametrize("completions", [True, 2.0, "2"])
def test_a_number_of_completions_is_an_integer(completions: object) -> None:
    with pytest.raises(TypeError, match=f"num_generations = {completions!r} is a"):
        estimator_moments("dar", REWARD, EVEN, EVEN, EVEN, completions)


@pytest.mark.parametrize("gradient", [np.zeros(2), np.ones(3)])
def test_a_direction_wanted_has_one_entry_per_logit_and_is_not_zero(gradient: Array) -> None:
    with pytest.raises(ValueError, match=r"pass one entry per logit, not all zero"):
        efficiency(estimator_moments("dar", REWARD, EVEN, EVEN, EVEN, 2), gradient)


@pytest.mark.parametrize("least", [-709.0, -711.0, -2000.0])
def test_a_clipped_ratio_beyond_float64_has_slope_zero(least: float) -> None:
    """The arm that pi_t hardly ever draws has a huge ratio: with A above 0 it is clipped, with A 0 it adds 0."""
    found = estimator_moments("grpo", REWARD[::-1], EVEN, EVEN, np.array([0.0, least]), 2, beta=0.0)
    assert not found.mean.any()
    assert not found.covariance.any()


def test_supports_that_no_coefficient_needs_are_allowed() -> None:
    """`pi_0` may lack an arm: DAR's weight is 0, k3's gradient finite; DAO at alpha 0 and RLOO at beta 0 ignore it."""
    for method, options in (("dar", {}), ("dao", {"alpha": 0.0}), ("grpo", {}), ("rloo", {"beta": 0.0})):
        moments = estimator_moments(method, REWARD, EVEN, LACKING, EVEN, 2, **options)
        assert np.trace(moments.covariance) > 0.0
    assert kl(EVEN, LACKING) == np.inf
