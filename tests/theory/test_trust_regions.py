"""Other trust regions (T9): projection, emptiness and best reward, against a primal solver and inequalities."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from dar_ref import theory
from dar_ref.theory import best_reward, closest
from dar_ref.theory.trust_regions import Stability
from tests.strategies import Array, advantages, policy_pairs
from tests.theory.test_region import LEFT, RIGHT, kl

KINDS: tuple[Stability, ...] = ("kl", "ppo_box", "forward_kl")
radii = st.sampled_from([0.0, 1e-6, 0.1, 0.9, 1.0, 3.0, 300.0, math.inf]) | st.floats(1e-3, 3.0)
kinds = st.sampled_from(KINDS)


def slack(stability: Stability, log_pi: Array, log_pi_t: Array, eps_t: float) -> float:
    """Distance to the border of the trust region by its definition, positive inside."""
    if eps_t == math.inf:
        return math.inf
    if stability == "ppo_box":
        return float((eps_t * np.exp(log_pi_t) - np.abs(np.exp(log_pi) - np.exp(log_pi_t))).min())
    pair = (log_pi, log_pi_t) if stability == "kl" else (log_pi_t, log_pi)
    if (np.isinf(pair[1]) & ~np.isinf(pair[0])).any():
        return -math.inf
    return eps_t - float(kl(*pair))


def primal(
    objective: Array,
    log_pi_0: Array,
    log_pi_t: Array,
    eps_0: float | None,
    eps_t: float,
    stability: Stability,
    start: Array,
) -> float:
    """max E_pi[objective] (eps_0 given) or min KL(pi‖pi_0) (eps_0 None), by sequential quadratic programming."""
    p, q, tiny = np.exp(log_pi_0), np.exp(log_pi_t), 1e-300

    def towards(anchor: Array, radius: float) -> dict[str, object]:
        return {
            "type": "ineq",
            "fun": lambda x: radius - (x * np.log(np.maximum(x, tiny) / anchor)).sum(),
            "jac": lambda x: -(np.log(np.maximum(x, tiny) / anchor) + 1.0),
        }

    constraints: list[dict[str, object]] = [{"type": "eq", "fun": lambda x: x.sum() - 1.0, "jac": np.ones_like}]
    bounds = np.array([np.full(p.size, 1e-13), np.ones(p.size)])
    if stability == "ppo_box":
        bounds = np.array([np.maximum(1e-13, (1.0 - eps_t) * q), (1.0 + eps_t) * q])
    elif stability == "kl":
        constraints.append(towards(q, eps_t))
    else:
        forward = {"fun": lambda x: eps_t - (q * np.log(q / np.maximum(x, tiny))).sum()}
        constraints.append({"type": "ineq", "jac": lambda x: q / np.maximum(x, tiny)} | forward)
    if eps_0 is not None:
        constraints.append(towards(p, eps_0))
    from_p = towards(p, 0.0)
    solved = minimize(
        (lambda x: -(objective @ x)) if eps_0 is not None else (lambda x: -from_p["fun"](x)),  # type: ignore[operator]
        np.clip(start, *bounds),
        jac=(lambda _: -objective) if eps_0 is not None else (lambda x: -from_p["jac"](x)),  # type: ignore[operator]
        bounds=bounds.T,
        constraints=constraints,
        method="SLSQP",
        options={"ftol": 1e-16, "maxiter": 1000},
    )
    broken = [abs(solved.x.sum() - 1.0)] + [-one["fun"](solved.x) for one in constraints[1:]]  # type: ignore[operator]
    return -float(solved.fun) if max(broken) < 1e-8 else math.nan


@pytest.mark.parametrize("stability", KINDS)
def test_against_a_primal_solver(stability: Stability) -> None:
    rng, solved = np.random.default_rng(5), 0
    for _ in range(15):
        arms = int(rng.integers(2, 7))
        log_pi_0, log_pi_t = np.log(rng.dirichlet(np.full(arms, 2.0), 2) * 0.99 + 0.01 / arms)
        advantage, eps_t = rng.normal(size=arms), float(rng.choice([0.05, 0.3, 1.5]) * rng.uniform(0.3, 1.0))
        nearest = closest(log_pi_0, log_pi_t, eps_t, stability=stability)
        found = -primal(advantage, log_pi_0, log_pi_t, None, eps_t, stability, np.exp(log_pi_t))
        assert nearest.divergence == pytest.approx(found, abs=1e-8)
        eps_0 = nearest.divergence + float(rng.choice([0.01, 0.1, 1.0]))
        best = best_reward(advantage, log_pi_0, log_pi_t, eps_0, eps_t, stability=stability)
        starts = [np.exp(nearest.log_pi), 0.5 * (np.exp(nearest.log_pi) + np.exp(best.log_pi)), np.exp(best.log_pi)]
        values = [primal(advantage, log_pi_0, log_pi_t, eps_0, eps_t, stability, start) for start in starts]
        values = [value for value in values if not math.isnan(value)]
        solved += bool(values)
        if values:
            assert best.value == pytest.approx(max(values), abs=1e-8 * np.ptp(advantage) + 1e-8)
    assert solved >= 14


@given(policy_pairs(), radii, radii, kinds, st.data())
def test_best_policy_is_inside_and_nan_means_empty(
    pair: tuple[Array, Array], eps_0: float, eps_t: float, stability: Stability, data: st.DataObject
) -> None:
    advantage = data.draw(advantages(pair[0].size))
    nearest = closest(*pair, eps_t, stability=stability)
    best = best_reward(advantage, *pair, eps_0, eps_t, stability=stability)
    size = 1.0 + max(np.abs(x[np.isfinite(x)]).max() for x in pair)
    near = abs(nearest.divergence - eps_0) <= 1e-9 * size
    if stability == "kl":  # the margin is exact at an end point, `closest` to a few ulp
        near = near or abs(float(theory.feasible(*pair, eps_0, eps_t).margin)) <= 1e-12 * size
    if eps_0 < math.inf and not near:
        assert math.isnan(best.value) == (nearest.divergence > eps_0)
    if nearest.divergence < math.inf:
        assert slack(stability, nearest.log_pi, pair[1], eps_t) >= -1e-11 * size
        assert nearest.divergence == pytest.approx(float(kl(nearest.log_pi, pair[0])), abs=1e-12 * size)
    if not math.isnan(best.value):
        assert slack(stability, best.log_pi, pair[1], eps_t) >= -1e-11 * size
        if eps_0 < math.inf:
            assert float(kl(best.log_pi, pair[0])) <= eps_0 + 1e-11 * size * (1.0 + eps_0)
            if not near:
                reached = float(np.exp(nearest.log_pi) @ advantage)
                assert best.value >= reached - 1e-11 * (1.0 + np.abs(advantage).max())
        wider = best_reward(advantage, *pair, 2.0 * eps_0 + 0.1, eps_t, stability=stability)
        rounding = 1e-6 if near else 1e-9  # balls that almost only touch: diameter of the region
        assert wider.value >= best.value - rounding * np.abs(advantage).max()


@given(policy_pairs(zeros=False), st.sampled_from([0.01, 0.3, 2.0]))
def test_closest_of_the_ball_agrees_with_the_certificate(pair: tuple[Array, Array], eps_t: float) -> None:
    needed = closest(*pair, eps_t, stability="kl").divergence
    size = 1.0 + max(np.abs(x).max() for x in pair)
    margin = float(theory.feasible(*pair, needed, eps_t).margin)
    assert margin == pytest.approx(0.0, abs=1e-10 * size) or theory.kl(*pair) <= eps_t


@given(policy_pairs(zeros=False), st.sampled_from([0.05, 0.5, 2.0]), kinds)
def test_projection_minimises(pair: tuple[Array, Array], eps_t: float, stability: Stability) -> None:
    """No policy of the region on the segment towards `pi_t`, or near the result, is closer to `pi_0`."""
    nearest = closest(*pair, eps_t, stability=stability)
    rng = np.random.default_rng(0)
    for _ in range(20):
        share = rng.choice([1e-4, 1e-2, 0.5])
        other = np.log((1 - share) * np.exp(nearest.log_pi) + share * rng.dirichlet(np.ones(pair[0].size)) + 1e-320)
        if slack(stability, other, pair[1], eps_t) >= 0.0:
            assert float(kl(other, pair[0])) >= nearest.divergence - 1e-10 * (1.0 + np.abs(pair[0]).max())


def test_each_region_by_hand() -> None:
    box = closest(LEFT, RIGHT, 0.2, stability="ppo_box")
    assert np.exp(box.log_pi) == pytest.approx([0.12, 0.24, 0.64], abs=1e-15)
    assert best_reward(np.array([0.0, 0.0, 1.0]), LEFT, RIGHT, 9.0, 0.2, stability="ppo_box").value == pytest.approx(
        0.76
    )
    # two arms: KL(pi_t‖pi) = log 2 + ... at pi = (x, 1-x), pi_t uniform: -log(2 sqrt(x(1-x))) = eps
    half, eps = np.log([0.5, 0.5]), 0.3
    top = 0.5 * (1.0 + math.sqrt(1.0 - math.exp(-2.0 * eps)))
    best = best_reward(np.array([1.0, 0.0]), half, half, math.inf, eps, stability="forward_kl")
    assert best.value == pytest.approx(top, abs=1e-13)
    values = [best_reward(np.array([0.0, 1.0, 0.3]), LEFT, RIGHT, 1.1, 0.2, stability=kind).value for kind in KINDS]
    assert len({round(value, 6) for value in values}) == 3  # the switch changes the result


def test_box_that_the_best_policy_fills_exactly() -> None:
    flat = np.log(np.full(4, 0.25))
    skewed = np.log([0.0012, 0.4985, 0.4985, 0.0018])
    for advantage in ([0.4, 0.6, -0.4, -0.3], [0.0, 1.0, 1.0, 0.5], [1.0, 1.0, 0.0, 0.0]):
        for eps in (0.3, 0.1, 1e-3, 1.2985e-6):
            best = best_reward(np.array(advantage), skewed, flat, 50.0, eps, stability="ppo_box")
            full = 0.25 * (1.0 + eps * np.array([1.0, 1.0, -1.0, -1.0]))
            assert best.value == pytest.approx(float(np.sort(advantage)[::-1] @ full), abs=1e-15)
            assert slack("ppo_box", best.log_pi, flat, eps) >= -1e-15


@pytest.mark.parametrize("least", [-700.0, -800.0])
@pytest.mark.parametrize("stability", ["forward_kl", "ppo_box"])
def test_an_arm_of_the_sampler_is_not_lost_because_it_is_rare(least: float, stability: Stability) -> None:
    found = closest(np.array([0.0, -np.inf]), np.array([0.0, least]), 0.1, stability=stability)
    assert found.divergence == np.inf


def test_supports() -> None:
    one, other = np.array([0.0, -np.inf]), np.log([0.5, 0.5])
    advantage = np.array([0.0, 1.0])
    assert closest(one, other, 0.9, stability="ppo_box").divergence == math.inf  # the box keeps mass on the second arm
    assert closest(one, other, 1.0, stability="ppo_box").divergence == 0.0
    assert closest(one, np.log([0.1, 0.9]), 1.5, stability="ppo_box").divergence == math.inf  # at most 0.25 there
    assert closest(one, other, 9.0, stability="forward_kl").divergence == math.inf
    assert closest(one, other, 0.0, stability="ppo_box").divergence == math.inf
    assert closest(other, one, 0.0, stability="forward_kl").divergence == pytest.approx(math.log(2.0))
    assert closest(one, np.array([-np.inf, 0.0]), 1.0, stability="kl").divergence == math.inf
    assert closest(one, other, 0.1, stability="kl").divergence == math.inf
    assert best_reward(advantage, other, one, 9.0, 5.0, stability="ppo_box").value == 0.0
    assert best_reward(advantage, other, one, math.inf, 1.0, stability="forward_kl").value == pytest.approx(
        1 - math.exp(-1.0)
    )
    for kind in KINDS:
        assert math.isnan(best_reward(advantage, one, np.array([-np.inf, 0.0]), 9.0, 0.5, stability=kind).value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stability": "box"}, "stability = 'box' is unknown; choose one of kl, ppo_box"),
        ({"eps_t": -0.5}, "eps_t = -0.5"),
        ({"log_pi_0": np.stack([LEFT, LEFT])}, "one bandit"),
    ],
)
def test_bad_input(change: dict[str, object], message: str) -> None:
    good = {"log_pi_0": LEFT, "log_pi_t": RIGHT, "eps_t": 0.2, "stability": "kl"}
    with pytest.raises(ValueError, match=message):
        closest(**(good | change))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        best_reward(np.zeros(3), eps_0=1.0, **(good | change))  # type: ignore[arg-type]
