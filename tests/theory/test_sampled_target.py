"""T10: the target of the K-sample loss, against ordered enumeration and the closed form where it exists."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dar_ref.theory import estimator_moments, kl, optimum, prompt_mass, sampled_target
from tests.strategies import Array, Setting, log_normalized, settings

EPS = 2.0**-52


def oracle_mass(
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
    """`pi_t(y) E[v_1 | y_1 = y]` over every ordered batch of (N, A) inputs; rewards without ties."""
    prompts, arms = reward.shape
    mass = np.zeros((prompts, arms))
    rows = np.arange(prompts)[:, None]
    for flat in product(range(arms), repeat=prompts * completions):
        drawn = np.reshape(flat, (prompts, completions))
        r = reward[rows, drawn]
        others = (r.sum(1, keepdims=True) - r) / max(completions - 1, 1)
        means = {"group": r.mean(1, keepdims=True), "batch": r.mean(), "leave_one_out": others, "none": 0.0}
        advantage = r - means[baseline]
        if normalize != "none":
            std = advantage.std(1, keepdims=True) if normalize == "group" else advantage.std()
            advantage = np.divide(advantage, std, out=np.zeros_like(advantage), where=std > 1e-12)
        log_reg = alpha * (log_pi_0 - log_pi_t)[rows, drawn]
        weight = np.minimum(np.exp(log_reg + advantage / beta), w_clip)
        probability = np.exp(log_pi_t[rows, drawn].sum())
        for row in range(prompts):
            mass[row, drawn[row, 0]] += probability * weight[row, 0]
    return mass


def three_prompts(prompts: int, arms: int) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(11)
    reward = rng.normal(size=(prompts, arms))
    return reward, *(log_normalized(rng.normal(size=(prompts, arms))) for _ in range(2))


STATISTICS = list(product(["group", "batch", "leave_one_out", "none"], ["none", "group", "batch"]))
OF_ONE_SAMPLE = list(product(["batch", "none"], ["none", "batch"]))  # a group of one has no statistics


@pytest.mark.parametrize("w_clip", [None, 1.3])
@pytest.mark.parametrize(
    ("prompts", "completions", "arms", "baseline", "normalize"),
    [(*shape, *one) for shape in ((1, 3, 4), (2, 2, 3)) for one in STATISTICS]
    + [(3, 1, 3, *one) for one in OF_ONE_SAMPLE],
)
def test_equals_the_sum_over_every_ordered_batch(
    prompts: int, completions: int, arms: int, baseline: str, normalize: str, w_clip: float | None
) -> None:
    inputs, options = three_prompts(prompts, arms), {"baseline": baseline, "normalize": normalize}
    mass = oracle_mass(*inputs, 0.3, 0.6, completions, np.inf if w_clip is None else w_clip, **options)
    target = sampled_target(*inputs, 0.3, 0.6, completions, w_clip, **options)
    np.testing.assert_allclose(target, np.log(mass / mass.sum(1, keepdims=True)), rtol=0, atol=1e-12)
    log_m = prompt_mass(*inputs, 0.3, 0.6, completions, w_clip, **options)
    np.testing.assert_allclose(log_m, np.log(mass.sum(1)), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("prompts", "completions"), [(2, 1), (4, 1), (3, 2)])
def test_the_batch_mean_moves_the_target_to_beta_b_over_b_minus_one_and_weighs_the_prompts(
    prompts: int, completions: int
) -> None:
    """The mass: `log m_n = V_n/beta' - log M_n(-1/(B beta))` up to a constant; `V_n` is the value of `pi*` at
    `beta' = beta B/(B-1)` (T2), and `M_n` the moment generating function of the prompt's reward under pi_t."""
    reward, log_pi_0, log_pi_t = three_prompts(prompts, 3)
    batch = prompts * completions
    weaker = 0.6 * batch / (batch - 1)
    best = optimum(reward, log_pi_0, log_pi_t, 0.3, weaker)
    target = sampled_target(reward, log_pi_0, log_pi_t, 0.3, 0.6, completions, baseline="batch")
    np.testing.assert_allclose(target, best.log_pi, rtol=0, atol=1e-12)
    assert (kl(target, optimum(reward, log_pi_0, log_pi_t, 0.3, 0.6).log_pi) > 1e-4).all()
    log_m = prompt_mass(reward, log_pi_0, log_pi_t, 0.3, 0.6, completions, baseline="batch")
    others = np.log((np.exp(log_pi_t) * np.exp(-reward / (batch * 0.6))).sum(1))
    closed_form = best.value / weaker - others + completions * others.sum()
    np.testing.assert_allclose(log_m, closed_form, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("baseline", "power"), [("batch", 1.0), ("none", 1.0), ("group", 0.0), ("leave_one_out", 0.0)])
def test_a_prompt_that_pays_c_more_has_a_mass_exp_c_over_beta_times_as_large_unless_its_own_mean_is_taken(
    baseline: str, power: float
) -> None:
    reward, log_pi_0, log_pi_t = three_prompts(2, 3)
    louder = reward + np.array([[0.0], [1.7]])
    log_m, log_louder = (prompt_mass(r, log_pi_0, log_pi_t, 0.3, 0.6, 2, baseline=baseline) for r in (reward, louder))
    assert np.diff(log_louder)[0] - np.diff(log_m)[0] == pytest.approx(power * 1.7 / 0.6, abs=1e-12)


def test_with_a_clip_a_prompt_far_above_the_mean_of_the_batch_asks_for_the_sampler_and_one_far_below_for_nothing() -> (
    None
):
    reward, log_pi_0, log_pi_t = three_prompts(2, 3)
    apart = reward + np.array([[-20.0], [20.0]])
    target = sampled_target(apart, log_pi_0, log_pi_t, 0.3, 0.6, 1, 20.0, baseline="batch")
    log_m = prompt_mass(apart, log_pi_0, log_pi_t, 0.3, 0.6, 1, 20.0, baseline="batch")
    np.testing.assert_allclose(target[1], log_pi_t[1], rtol=0, atol=1e-14)
    assert kl(target[0], log_pi_t[0]) > 0.1
    assert log_m[1] == pytest.approx(np.log(20.0), rel=1e-14)
    assert log_m[0] < -20.0


def test_the_masses_weigh_what_a_policy_loses_on_each_prompt() -> None:
    """`E L(pi) - E L(pi') = 1/N sum_n m_n KL(pi'_n‖pi_n)`, the loss summed over every ordered batch."""
    reward, log_pi_0, log_pi_t = three_prompts(3, 2)
    arguments = (reward, log_pi_0, log_pi_t, 0.3, 0.6, 1, 1.3)
    mass = oracle_mass(*arguments, baseline="batch")
    target = sampled_target(*arguments, baseline="batch")
    log_pi = log_normalized(np.random.default_rng(5).normal(size=(3, 2)))
    lost = -(mass * (log_pi - target)).sum() / 3
    m = np.exp(prompt_mass(*arguments, baseline="batch"))
    assert lost == pytest.approx(float((m * kl(target, log_pi)).sum()) / 3, rel=1e-12)


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


def test_prompts_matter_to_each_other_under_the_std_of_the_batch_and_under_its_mean_with_a_clip() -> None:
    reward, log_pi_0, log_pi_t = three_prompts(2, 3)
    louder = np.stack([reward[0], 10.0 * reward[1]])
    for normalize, moved in (("none", False), ("group", False), ("batch", True)):
        before, after = (
            sampled_target(r, log_pi_0, log_pi_t, 0.3, 0.6, 3, normalize=normalize)[0] for r in (reward, louder)
        )
        assert (kl(before, after) > 1e-3) == moved
    before, after = (
        sampled_target(r, log_pi_0, log_pi_t, 0.3, 0.6, 3, 1.3, baseline="batch")[0] for r in (reward, louder)
    )
    assert kl(before, after) > 1e-3


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
    with pytest.raises(ValueError, match=r"num_generations = 1 with baseline = 'batch' and 1 prompt\(s\)"):
        sampled_target(reward, log_pi_0, log_pi_t, 0.3, 0.6, 1, baseline="batch")
    with pytest.raises(
        ValueError, match="baseline = 'own' is unknown; choose one of group, batch, leave_one_out, none"
    ):
        sampled_target(reward, log_pi_0, log_pi_t, 0.3, 0.6, 2, baseline="own")
    apart = np.array([0.0, -np.inf, -np.inf]), np.array([-np.inf, 0.0, -np.inf])
    with pytest.raises(ValueError, match="no arm in common"):
        sampled_target(reward, *apart, 0.3, 0.6, 2)
