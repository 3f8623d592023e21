"""T10: the target of the K-sample loss, against ordered enumeration and the closed form where it exists."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dar_ref.theory import estimator_moments, kl, optimum, sampled_target
from tests.strategies import Array, Setting, log_normalized, settings

EPS = 2.0**-52


def oracle_target(
    reward: Array,
    log_pi_0: Array,
    log_pi_t: Array,
    alpha: float,
    beta: float,
    completions: int,
    w_clip: float = np.inf,
    baseline: str = "group",
    normalize: str = "none",
) -> Array:
    """`pi_t(y) E[v_1 | y_1 = y]` over every ordered batch of (N, A) inputs, normalised; rewards without ties."""
    prompts, arms = reward.shape
    mass = np.zeros((prompts, arms))
    rows = np.arange(prompts)[:, None]
    for flat in product(range(arms), repeat=prompts * completions):
        drawn = np.reshape(flat, (prompts, completions))
        r = reward[rows, drawn]
        others = (r.sum(1, keepdims=True) - r) / (completions - 1)
        advantage = r - {"group": r.mean(1, keepdims=True), "leave_one_out": others, "none": 0.0}[baseline]
        if normalize != "none":
            std = advantage.std(1, keepdims=True) if normalize == "group" else advantage.std()
            advantage = np.divide(advantage, std, out=np.zeros_like(advantage), where=std > 1e-12)
        log_reg = alpha * (log_pi_0 - log_pi_t)[rows, drawn]
        weight = np.minimum(np.exp(log_reg + advantage / beta), w_clip)
        probability = np.exp(log_pi_t[rows, drawn].sum())
        for row in range(prompts):
            mass[row, drawn[row, 0]] += probability * weight[row, 0]
    return np.log(mass / mass.sum(1, keepdims=True))


def three_prompts(prompts: int, arms: int) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(11)
    reward = rng.normal(size=(prompts, arms))
    return reward, *(log_normalized(rng.normal(size=(prompts, arms))) for _ in range(2))


@pytest.mark.parametrize("w_clip", [None, 1.3])
@pytest.mark.parametrize("normalize", ["none", "group", "batch"])
@pytest.mark.parametrize("baseline", ["group", "leave_one_out", "none"])
@pytest.mark.parametrize(("prompts", "completions", "arms"), [(1, 3, 4), (2, 2, 3)])
def test_equals_the_sum_over_every_ordered_batch(
    baseline: str, normalize: str, w_clip: float | None, prompts: int, completions: int, arms: int
) -> None:
    inputs = three_prompts(prompts, arms)
    ours = sampled_target(*inputs, 0.3, 0.6, completions, w_clip, baseline=baseline, normalize=normalize)
    theirs = oracle_target(*inputs, 0.3, 0.6, completions, np.inf if w_clip is None else w_clip, baseline, normalize)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


@given(settings(), st.integers(2, 5))
def test_the_group_mean_moves_the_target_to_beta_k_over_k_minus_one_exactly(case: Setting, completions: int) -> None:
    _, reward, log_pi_0, log_pi_t, alpha, beta = case
    drawn = log_pi_t > -np.inf
    ours = sampled_target(reward, log_pi_0, log_pi_t, alpha, beta, completions)
    with np.errstate(invalid="ignore"):
        log_reg = np.where(drawn, alpha * (log_pi_0 - log_pi_t), 0.0) if alpha > 0.0 else np.zeros(len(reward))
        closed_form = log_normalized(
            np.where(drawn, log_pi_t + log_reg + reward * ((completions - 1) / (completions * beta)), -np.inf)
        )
    finite = closed_form > -np.inf
    assert ((ours > -np.inf) == finite).all()
    finite_logs = np.concatenate([log_pi_0, log_pi_t])[np.concatenate([log_pi_0, log_pi_t]) > -np.inf]
    bound = 64 * EPS * (1.0 + np.abs(reward).max() / beta + completions * np.abs(finite_logs).max())
    np.testing.assert_allclose(ours[finite], closed_form[finite], rtol=0, atol=bound)


@pytest.mark.parametrize("completions", [2, 4, 16])
def test_without_the_own_sample_the_target_is_the_optimum_at_beta(completions: int) -> None:
    reward, log_pi_0, log_pi_t = three_prompts(2, 3)
    own = sampled_target(reward, log_pi_0, log_pi_t, 0.3, 0.2, completions)
    others = sampled_target(reward, log_pi_0, log_pi_t, 0.3, 0.2, completions, baseline="leave_one_out")
    at = [
        optimum(reward, log_pi_0, log_pi_t, 0.3, beta).log_pi for beta in (0.2, 0.2 * completions / (completions - 1))
    ]
    np.testing.assert_allclose(others, at[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(own, at[1], rtol=0, atol=1e-12)
    assert (kl(own, at[0]) > 1e-4).all()


@pytest.mark.parametrize("normalize", ["none", "group", "batch"])
@pytest.mark.parametrize("w_clip", [None, 1.5])
def test_the_mean_dar_update_points_from_the_policy_to_the_sampled_target(normalize: str, w_clip: float | None) -> None:
    """`E[U] = E[v] (target - pi_theta) / N` per prompt, for every `pi_theta`: the mean is a positive multiple."""
    reward, log_pi_0, log_pi_t = three_prompts(2, 3)
    target = np.exp(sampled_target(reward, log_pi_0, log_pi_t, 0.3, 0.6, 3, w_clip, normalize=normalize))
    ratios = []
    for seed in range(3):
        log_pi_theta = log_normalized(np.random.default_rng(seed).normal(size=(2, 3)))
        mean = estimator_moments(
            "dar", reward, log_pi_theta, log_pi_0, log_pi_t, 3, alpha=0.3, beta=0.6, w_clip=w_clip, normalize=normalize
        ).mean.reshape(2, 3)
        ratio = mean / (target - np.exp(log_pi_theta))
        np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1], (2, 3)), rtol=1e-9)
        ratios.append(ratio[:, 0])
    assert (ratios[0] > 0).all()
    np.testing.assert_allclose(ratios, np.broadcast_to(ratios[0], (3, 2)), rtol=1e-9)


def test_prompts_matter_to_each_other_under_batch_normalisation_only() -> None:
    reward, log_pi_0, log_pi_t = three_prompts(2, 3)
    louder = np.stack([reward[0], 10.0 * reward[1]])
    for normalize, moved in (("none", False), ("group", False), ("batch", True)):
        before, after = (
            sampled_target(r, log_pi_0, log_pi_t, 0.3, 0.6, 3, normalize=normalize)[0] for r in (reward, louder)
        )
        assert (kl(before, after) > 1e-3) == moved


@pytest.mark.parametrize(
    "change", [{"w_clip": 1.1}, {"baseline": "none"}, {"baseline": "leave_one_out"}, {"normalize": "group"}]
)
def test_every_switch_changes_the_target(change: dict[str, object]) -> None:
    inputs = three_prompts(1, 3)
    plain = sampled_target(*inputs, 0.3, 0.6, 3)
    assert (kl(plain, sampled_target(*inputs, 0.3, 0.6, 3, **change)) > 1e-3).all()


def test_shapes_follow_the_inputs() -> None:
    reward, log_pi_0, log_pi_t = three_prompts(2, 3)
    rows = [sampled_target(reward[n], log_pi_0[n], log_pi_t[n], 0.3, 0.6, 3) for n in range(2)]
    assert rows[0].shape == (3,)
    np.testing.assert_allclose(sampled_target(reward, log_pi_0, log_pi_t, 0.3, 0.6, 3), rows, rtol=0, atol=1e-15)
    shared = sampled_target(reward[0], log_pi_0, log_pi_t[0], 0.3, 0.6, 3)
    np.testing.assert_allclose(shared[0], rows[0], rtol=0, atol=1e-15)


def test_bad_input_is_refused() -> None:
    reward, log_pi_0, log_pi_t = (x[0] for x in three_prompts(1, 3))
    with pytest.raises(ValueError, match=r"num_generations = 1 with baseline = 'group'.* pass num_generations >= 2"):
        sampled_target(reward, log_pi_0, log_pi_t, 0.3, 0.6, 1)
    with pytest.raises(ValueError, match="baseline = 'own' is unknown; choose one of group, leave_one_out, none"):
        sampled_target(reward, log_pi_0, log_pi_t, 0.3, 0.6, 2, baseline="own")
    apart = np.array([0.0, -np.inf, -np.inf]), np.array([-np.inf, 0.0, -np.inf])
    with pytest.raises(ValueError, match="no arm in common"):
        sampled_target(reward, *apart, 0.3, 0.6, 2)
