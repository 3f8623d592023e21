"""The feasible region and its best policy (T6, T7), against grids, a primal solver, and the KKT conditions."""

import math
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.optimize import minimize

from dar_ref import theory
from dar_ref.theory import chernoff, constrained_optimum, feasible, matched_radius
from dar_ref.theory.region import TOUCH_ULP
from tests.strategies import Array, advantages, log_normalized, policies, policy_pairs

EPS = float(np.finfo(float).eps)
LEFT, RIGHT = np.log([0.7, 0.2, 0.1]), np.log([0.1, 0.2, 0.7])
radii = st.sampled_from([0.0, 1e-9, 1e-3, 0.1, 1.0, 10.0, 500.0, math.inf]) | st.floats(0.0, 5.0)


class Case(NamedTuple):
    """One bandit with two radii."""

    advantage: Array
    log_pi_0: Array
    log_pi_t: Array
    eps_0: float
    eps_t: float


@st.composite
def cases(draw: st.DrawFn) -> Case:
    log_pi_0, log_pi_t = draw(policy_pairs())
    return Case(draw(advantages(log_pi_0.size)), log_pi_0, log_pi_t, draw(radii), draw(radii))


@st.composite
def meeting_cases(draw: st.DrawFn) -> Case:
    """Radii close to where the balls touch: both constraints matter."""
    log_pi_0, log_pi_t = draw(policy_pairs())
    advantage = draw(advantages(log_pi_0.size))
    tilt = draw(st.sampled_from([0.0, 0.0, 0.3, -0.3]))
    over = draw(st.sampled_from([1e-6, 1e-3, 0.1, 1.0]))
    base = -float(feasible(log_pi_0, log_pi_t, max(tilt, 0.0), max(-tilt, 0.0)).margin)
    base = max(base, 0.0) + over
    return Case(advantage, log_pi_0, log_pi_t, base + max(tilt, 0.0), base + max(-tilt, 0.0))


def kl(log_p: Array, log_q: Array) -> Array:
    """KL by its definition, independent of the package; the caller checks the supports."""
    with np.errstate(invalid="ignore"):
        return np.where(np.exp(log_p) > 0.0, np.exp(log_p) * (log_p - log_q), 0.0).sum(axis=-1)


def simplex_grid(steps: int) -> Array:
    """All policies over three arms whose probabilities are multiples of 1/steps, edges included."""
    first, second = np.meshgrid(np.arange(steps + 1), np.arange(steps + 1), indexing="ij")
    inside = first + second <= steps
    return np.stack([first[inside], second[inside], steps - first[inside] - second[inside]], axis=1) / steps


def grid_divergences(grid: Array, log_pi: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(grid > 0.0, grid * (np.log(grid) - log_pi), 0.0).sum(axis=-1)


def primal_best(case: Case, start: Array) -> float:
    """max E_pi[A] by sequential quadratic programming on the policy itself, started inside the region."""
    p, q, scale = np.exp(case.log_pi_0), np.exp(case.log_pi_t), float(np.ptp(case.advantage))
    tiny = 1e-300
    constraints = [{"type": "eq", "fun": lambda x: x.sum() - 1.0, "jac": lambda x: np.ones_like(x)}]
    for anchor, radius in ((p, case.eps_0), (q, case.eps_t)):
        constraints.append(
            {
                "type": "ineq",
                "fun": lambda x, a=anchor, r=radius: r - (x * np.log(np.maximum(x, tiny) / a)).sum(),
                "jac": lambda x, a=anchor: -(np.log(np.maximum(x, tiny) / a) + 1.0),
            }
        )
    solved = minimize(
        lambda x: -(case.advantage @ x) / scale,
        start,
        jac=lambda _: -case.advantage / scale,
        bounds=[(1e-12, 1.0)] * p.size,
        constraints=constraints,
        method="SLSQP",
        options={"ftol": 1e-16, "maxiter": 1000},
    )
    broken = max(-constraints[1]["fun"](solved.x), -constraints[2]["fun"](solved.x), abs(solved.x.sum() - 1.0))
    return float(case.advantage @ solved.x) if broken < 1e-8 else math.nan


# -- T6: feasible ------------------------------------------------------------------------------------------------------


def test_the_number_of_the_design() -> None:
    threshold = 0.315875447
    for radius, expected in ((threshold - 1e-8, False), (threshold + 1e-8, True)):
        nonempty, alpha, margin = feasible(LEFT, RIGHT, radius, radius)
        assert bool(nonempty) is expected
        assert float(alpha) == pytest.approx(0.5, abs=1e-12)
        assert float(margin) == pytest.approx(radius + math.log(2 * math.sqrt(0.07) + 0.2), abs=1e-15)


def test_feasible_against_a_grid() -> None:
    rng, grid = np.random.default_rng(1), simplex_grid(400)
    worst = 0.0
    for _ in range(60):
        log_pi_0, log_pi_t = np.log(rng.dirichlet(np.ones(3), 2))
        eps_0, eps_t = rng.uniform(0.0, 1.0, 2)
        slack = np.minimum(eps_0 - grid_divergences(grid, log_pi_0), eps_t - grid_divergences(grid, log_pi_t)).max()
        margin = float(feasible(log_pi_0, log_pi_t, eps_0, eps_t).margin)
        assert slack <= margin + 1e-12  # the margin is the best of the smaller slack, by duality
        worst = max(worst, margin - slack)
    assert worst < 2e-2  # the error of a grid of this step


@given(cases())
def test_certificate(case: Case) -> None:
    nonempty, alpha, margin = (x.item() for x in feasible(*case[1:]))
    assert nonempty == (margin >= 0.0)
    if math.isinf(case.eps_0) or math.isinf(case.eps_t):
        assert (nonempty, margin) == (True, min(case.eps_0, case.eps_t))
        return
    shared = (case.log_pi_0 > -np.inf) & (case.log_pi_t > -np.inf)
    p, q = case.log_pi_0[shared], case.log_pi_t[shared]
    size = 1.0 + case.eps_0 + case.eps_t + np.abs(p).max() + np.abs(q).max()

    def line(weight: float) -> float:
        return (
            weight * case.eps_0 + (1 - weight) * case.eps_t + float(np.logaddexp.reduce(weight * p + (1 - weight) * q))
        )

    assert line(alpha) == pytest.approx(margin, abs=2 * TOUCH_ULP * EPS * size)
    for weight in np.linspace(0.0, 1.0, 21):
        assert line(float(weight)) >= margin - 2 * TOUCH_ULP * EPS * size
    log_ref = log_normalized(alpha * p + (1 - alpha) * q)  # the policy whose smaller slack is the margin
    smaller = min(case.eps_0 - kl(log_ref, p), case.eps_t - kl(log_ref, q))
    assert smaller == pytest.approx(margin, abs=1e-12 * size)


@given(policy_pairs(), st.sampled_from([1e-13, 1e-9, 1e-3, 1.0]), radii, radii)
def test_margin_grows_with_the_radii(pair: tuple[Array, Array], more: float, eps_0: float, eps_t: float) -> None:
    before, after = feasible(*pair, eps_0, eps_t).margin, feasible(*pair, eps_0 + more, eps_t + more).margin
    if np.isinf(after):
        assert np.isinf(before)
        return
    size = 1e3 * (1.0 + min(eps_0, eps_t))
    if np.isfinite(before):
        assert float(after - before) == pytest.approx(more, abs=TOUCH_ULP * EPS * size)
    assert feasible(*pair, eps_0 + more, eps_t).margin >= before - TOUCH_ULP * EPS * size


@given(cases())
def test_swapping_the_anchors(case: Case) -> None:
    one = feasible(case.log_pi_0, case.log_pi_t, case.eps_0, case.eps_t)
    other = feasible(case.log_pi_t, case.log_pi_0, case.eps_t, case.eps_0)
    assert float(other.margin) == pytest.approx(float(one.margin), abs=1e-12, rel=1e-14)


@given(policy_pairs(zeros=False))
def test_touching_point_lies_on_both_spheres(pair: tuple[Array, Array]) -> None:
    information, weight = (float(x) for x in chernoff(*pair))
    nonempty, alpha, margin = feasible(*pair, information, information)
    assert nonempty
    assert 0.0 <= float(margin) <= 4 * EPS
    if margin > 0.0:  # (almost) equal policies: the margin is the radius itself
        assert information <= 4 * EPS
        return
    best = constrained_optimum(np.arange(float(pair[0].size)), *pair, information, information)
    assert best.beta == math.inf
    assert best.alpha == float(alpha)
    size = 1.0 + max(np.abs(log_pi).max() for log_pi in pair)
    if 0.0 < weight < 1.0 and information > 0.0:
        for anchor in pair:
            assert float(kl(best.log_pi, anchor)) == pytest.approx(information, abs=1e-7 * size)


@pytest.mark.parametrize(("ulps", "expected"), [(-200, False), (-1, True), (0, True), (1, True), (200, True)])
def test_a_few_ulp_count_as_touching(ulps: int, expected: bool) -> None:
    radius = -math.log(2 * math.sqrt(0.07) + 0.2) + ulps * EPS
    nonempty, _, margin = feasible(LEFT, RIGHT, radius, radius)
    assert bool(nonempty) is expected
    assert (float(margin) == 0.0) is (abs(ulps) == 1 or ulps == 0)


def test_special_cases_of_the_region() -> None:
    apart = np.log([0.5, 0.5, 1.0])
    one, other = np.array([apart[0], apart[1], -np.inf]), np.array([-np.inf, -np.inf, 0.0])
    wide = np.log([0.25, 0.25, 0.5])

    def plain(*arguments: object) -> tuple[object, ...]:
        return tuple(x.item() for x in feasible(*arguments))  # type: ignore[arg-type]

    assert plain(one, other, 5.0, 5.0) == (False, 0.5, -math.inf)
    assert plain(one, other, math.inf, 5.0) == (True, 0.0, 5.0)
    assert plain(one, other, 5.0, math.inf) == (True, 1.0, 5.0)
    assert plain(one, other, math.inf, math.inf) == (True, 0.5, math.inf)
    assert plain(LEFT, LEFT, 0.25, 0.25) == (True, 0.5, 0.25)
    assert plain(LEFT, LEFT, 0.0, 0.0) == (True, 0.5, 0.0)
    assert plain(LEFT, LEFT, 1e-30, 1e-30) == (True, 0.5, 1e-30)  # no digit is lost between equal policies
    assert plain(LEFT, RIGHT, 0.0, 2.0) == (True, 1.0, 0.0)  # KL(LEFT‖RIGHT) = 1.17
    assert plain(LEFT, RIGHT, 0.0, 1.0)[0] is False
    # wide loses half its mass on supp one: its own ball alone must reach down to it
    assert plain(one, wide, 0.0, math.log(2.0) + 1e-9)[0] is True
    assert plain(one, wide, 5.0, math.log(2.0) - 1e-9) == pytest.approx((False, 0.0, -1e-9), abs=1e-15)


def test_leading_axes_broadcast() -> None:
    stack = np.stack([LEFT, RIGHT, np.array([-np.inf, -np.inf, 0.0])])
    together = feasible(stack[:, None], stack[None], 0.4, 0.2)
    assert together.margin.shape == (3, 3)
    for i in range(3):
        for j in range(3):
            for field, expected in zip(together, feasible(stack[i], stack[j], 0.4, 0.2), strict=True):
                assert field[i, j] == pytest.approx(float(expected), abs=1e-15)
    assert feasible(stack[:, None], stack[None], math.inf, 0.2).nonempty.shape == (3, 3)


# -- T7: constrained_optimum -------------------------------------------------------------------------------------------


def check_optimum(case: Case) -> None:
    """Feasible, stationary, complementary (KKT): for a convex problem this proves optimality."""
    best = constrained_optimum(*case)
    kept = np.ones(best.log_pi.shape, bool)
    for anchor, radius in ((case.log_pi_0, case.eps_0), (case.log_pi_t, case.eps_t)):
        kept &= (anchor > -np.inf) | (radius == math.inf)
    assert (best.log_pi[~kept] == -np.inf).all()
    assert best.value == pytest.approx(float(np.exp(best.log_pi) @ case.advantage), rel=1e-15)
    spread = 1.0 + max(np.abs(x[kept & (x > -np.inf)]).max(initial=0.0) for x in (case.log_pi_0, case.log_pi_t))
    weights = {0: best.alpha, 1: 1.0 - best.alpha}
    margin = float(feasible(*case[1:]).margin)
    allowed = 1e-12 * spread * (1.0 + 1.0 / math.sqrt(margin)) if margin > 0.0 else 1e-7 * spread
    for which, (anchor, radius) in enumerate(((case.log_pi_0, case.eps_0), (case.log_pi_t, case.eps_t))):
        if radius == math.inf:
            continue
        slack = radius - float(kl(best.log_pi[kept], anchor[kept]))
        assert slack >= -allowed * (1.0 + radius)
        if 0.0 < best.beta < math.inf and weights[which] > 0.0:
            assert abs(slack) <= allowed * (1.0 + radius)
    if best.beta == 0.0:
        assert math.isnan(best.alpha)
        assert best.value == pytest.approx(case.advantage[kept].max(), rel=1e-14)
    elif best.beta < math.inf:
        anchors = [np.where(kept, x, -np.inf) for x in (case.log_pi_0, case.log_pi_t)]
        on = [
            log_normalized(x[kept]) if w > 0.0 else np.zeros(kept.sum())
            for x, w in zip(anchors, weights.values(), strict=True)
        ]
        logits = best.alpha * on[0] + (1.0 - best.alpha) * on[1] + case.advantage[kept] / best.beta
        error = 64 * EPS * (1.0 + np.abs(case.advantage).max() / best.beta + spread)
        assert log_normalized(logits) == pytest.approx(best.log_pi[kept], abs=error)


@given(cases())
@example(Case(np.array([0.0, 1.0]), np.log([0.5, 0.5]), np.log([0.5, 0.5]), 1e-18, 3.0))
@example(Case(np.array([0.0, 1e3, 1e3]), np.log(np.ones(3) / 3), np.log(np.ones(3) / 3), 1e-9, 5e-324))
@example(Case(np.array([1.0, 0.0]), np.log([0.5, 0.5]), log_normalized(np.array([-160.0, 0.0])), 1.98, 2.7))
@example(Case(np.array([0.0, -5e-324, -1.0]), LEFT, RIGHT, 0.5, 0.5))
@example(Case(np.array([0.0, 1e-300, -1.0]), LEFT, RIGHT, 0.5, 0.5))
@example(
    Case(np.array([-1.0, 0.0, 0.0]), np.log(np.ones(3) / 3), log_normalized(np.array([-300.0, 0.0, 0.0])), 1.0, 1e-222)
)
@example(Case(np.array([1.7e308, -1.7e308, 0.0]), LEFT, RIGHT, 0.5, 0.5))
def test_optimum_satisfies_kkt(case: Case) -> None:
    if feasible(*case[1:]).nonempty:
        check_optimum(case)
    else:
        with pytest.raises(ValueError, match="region is empty"):
            constrained_optimum(*case)


@given(meeting_cases())
def test_optimum_satisfies_kkt_near_touching(case: Case) -> None:
    check_optimum(case)


def test_optimum_is_the_package_optimum_at_its_alpha_and_beta() -> None:
    advantage = np.array([0.0, 1.0, 0.3])
    best = constrained_optimum(advantage, LEFT, RIGHT, 0.4, 0.35)
    assert 0.0 < best.alpha < 1.0
    expected = theory.optimum(advantage, LEFT, RIGHT, best.alpha, best.beta).log_pi
    assert best.log_pi == pytest.approx(expected, abs=1e-14)
    assert theory.kl(best.log_pi, LEFT) == pytest.approx(0.4, abs=1e-14)
    assert theory.kl(best.log_pi, RIGHT) == pytest.approx(0.35, abs=1e-14)


def random_case(rng: np.random.Generator, arms: int) -> Case:
    """A non-empty region of moderate size, from nearly touching to slack."""
    log_pi_0, log_pi_t = np.log(rng.dirichlet(np.full(arms, 1.5), 2) * 0.999 + 0.001 / arms)
    tilt = rng.choice([0.0, 0.2, -0.2]) * rng.uniform()
    base = max(-float(feasible(log_pi_0, log_pi_t, max(tilt, 0.0), max(-tilt, 0.0)).margin), 0.0)
    base += rng.choice([1e-3, 0.03, 0.3, 3.0]) * rng.uniform(0.2, 1.0)
    return Case(rng.normal(size=arms), log_pi_0, log_pi_t, base + max(tilt, 0.0), base + max(-tilt, 0.0))


def worst_disagreement(pairs: int, seed: int, steps: int) -> dict[str, float]:
    """Compare with a grid of three-arm policies and with a primal solver (up to eight arms) on random pairs."""
    rng, grid = np.random.default_rng(seed), simplex_grid(steps)
    worst = {"grid above": -np.inf, "grid below": -np.inf, "margin above": -np.inf, "primal": 0.0, "unsolved": 0.0}
    for number in range(pairs):
        arms = 3 if number % 2 else int(rng.integers(2, 9))
        case = random_case(rng, arms)
        best, scale = constrained_optimum(*case), float(np.ptp(case.advantage))
        if arms == 3:
            inside = np.stack([grid_divergences(grid, case.log_pi_0), grid_divergences(grid, case.log_pi_t)])
            slack = np.array([[case.eps_0], [case.eps_t]]) - inside
            worst["margin above"] = max(
                worst["margin above"], float((slack.min(axis=0)).max() - feasible(*case[1:]).margin)
            )
            allowed = (slack >= 0.0).all(axis=0)
            if allowed.any():
                gap = (best.value - float((grid[allowed] @ case.advantage).max())) / scale
                worst["grid above"], worst["grid below"] = max(worst["grid above"], -gap), max(worst["grid below"], gap)
        inner = feasible(*case[1:])
        start = np.exp(theory.interpolate(case.log_pi_0, case.log_pi_t, float(inner.alpha)).log_pi_ref)
        found = primal_best(case, start)
        if math.isnan(found) or abs(found - best.value) > 1e-8 * scale:  # a stalled solver is started once more
            again = primal_best(case, 0.1 * start + 0.9 * np.exp(best.log_pi))
            found = max((x for x in (found, again) if not math.isnan(x)), default=math.nan)
        worst["unsolved"] += math.isnan(found)
        worst["primal"] = max(worst["primal"], 0.0 if math.isnan(found) else abs(found - best.value) / scale)
    return worst


def test_against_grid_and_primal_solver() -> None:
    worst = worst_disagreement(pairs=80, seed=0, steps=200)
    assert worst["grid above"] <= 1e-12
    assert worst["margin above"] <= 1e-12
    assert worst["grid below"] < 0.2
    assert worst["primal"] < 1e-8
    assert worst["unsolved"] <= 1


@pytest.mark.slow
def test_against_grid_and_primal_solver_on_ten_thousand_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    worst = worst_disagreement(pairs=10_000, seed=1, steps=200)
    with capsys.disabled():
        print("\nworst disagreement on 10,000 pairs:", {name: float(f"{x:.3g}") for name, x in worst.items()})
    assert worst["grid above"] <= 1e-12
    assert worst["margin above"] <= 1e-12
    assert worst["primal"] < 1e-8
    assert worst["unsolved"] <= 10


@pytest.mark.parametrize(
    ("advantage", "eps_0", "eps_t", "alpha", "beta"),
    [
        ([1.0, 0.0, 0.0], 5.0, 0.4, 0.0, "between"),  # only the ball of pi_t binds
        ([0.0, 0.0, 1.0], 0.4, 5.0, 1.0, "between"),  # only that of pi_0
        ([1.0, 0.0, 0.0], math.inf, 0.4, 0.0, "between"),
        ([0.0, 0.0, 1.0], 0.4, math.inf, 1.0, "between"),
        ([0.0, 1.0, 0.0], 3.0, 3.0, math.nan, 0.0),  # both slack
        ([2.0, 2.0, 2.0], 0.4, 0.4, math.nan, 0.0),  # constant A
        ([0.0, 1.0, 0.0], math.inf, math.inf, math.nan, 0.0),
        ([0.0, 1.0, 0.0], 0.0, 5.0, 1.0, math.inf),
        ([0.0, 1.0, 0.0], 5.0, 0.0, 0.0, math.inf),
        ([0.0, 1.0, 0.0], 0.0, math.inf, 1.0, math.inf),
        ([0.0, 1.0, 0.0], math.inf, 0.0, 0.0, math.inf),
    ],
)
def test_special_cases_of_the_optimum(
    advantage: list[float], eps_0: float, eps_t: float, alpha: float, beta: float | str
) -> None:
    best = constrained_optimum(np.array(advantage), LEFT, RIGHT, eps_0, eps_t)
    assert best.alpha == pytest.approx(alpha, nan_ok=True, abs=0.0)
    if beta == "between":
        assert 0.0 < best.beta < math.inf
    else:
        assert best.beta == beta
    if beta == math.inf:
        assert best.log_pi == pytest.approx(LEFT if alpha == 1.0 else RIGHT, abs=1e-15)


def test_which_maximiser_when_both_are_slack() -> None:
    best = constrained_optimum(np.array([1.0, 1.0, 0.0]), LEFT, RIGHT, 2.0, 2.0)
    shares = np.linspace(1e-6, 1.0 - 1e-6, 200_001)
    policy = np.log(np.stack([shares, 1.0 - shares], axis=-1))
    slack = 2.0 - np.maximum(kl(policy, LEFT[:2]), kl(policy, RIGHT[:2]))
    assert float(np.exp(best.log_pi[0])) == pytest.approx(float(shares[slack.argmax()]), abs=1e-5)
    unbounded = constrained_optimum(np.array([1.0, 1.0, 0.0]), LEFT, RIGHT, math.inf, math.inf)
    assert np.exp(unbounded.log_pi).tolist() == [0.5, 0.5, 0.0]


def test_an_infinite_radius_drops_the_support_too() -> None:
    narrow, wide = np.array([0.0, -np.inf, -np.inf]), np.log([0.2, 0.5, 0.3])
    advantage = np.array([0.0, 1.0, 2.0])
    assert constrained_optimum(advantage, narrow, wide, 1.0, 2.0).value == 0.0
    free = constrained_optimum(advantage, narrow, wide, math.inf, 0.1)
    assert free.alpha == 0.0
    assert free.value > 1.1  # E_wide[A], impossible on the support of `narrow`
    assert theory.kl(free.log_pi, wide) == pytest.approx(0.1, abs=1e-14)


@given(meeting_cases(), st.randoms(use_true_random=False))
def test_relations_of_the_optimum(case: Case, random: object) -> None:
    best, scale = constrained_optimum(*case), float(np.ptp(case.advantage)) + float(np.abs(case.advantage).max())
    error = 1e-9 * scale
    swapped = constrained_optimum(case.advantage, case.log_pi_t, case.log_pi_0, case.eps_t, case.eps_0)
    assert swapped.value == pytest.approx(best.value, abs=error)
    order = list(range(case.advantage.size))
    random.shuffle(order)  # type: ignore[attr-defined]
    permuted = constrained_optimum(case.advantage[order], case.log_pi_0[order], case.log_pi_t[order], *case[3:])
    assert permuted.value == pytest.approx(best.value, abs=error)
    for more_0, more_t in ((0.1, 0.0), (0.0, 0.1), (math.inf, 0.0)):
        wider = constrained_optimum(*case[:3], case.eps_0 + more_0, case.eps_t + more_t)
        assert wider.value >= best.value - error


def test_swapping_the_anchors_swaps_alpha() -> None:
    advantage = np.array([0.0, 1.0, 0.3])
    best = constrained_optimum(advantage, LEFT, RIGHT, 0.4, 0.35)
    swapped = constrained_optimum(advantage, RIGHT, LEFT, 0.35, 0.4)
    assert swapped.alpha == pytest.approx(1.0 - best.alpha, abs=1e-13)
    assert swapped.beta == pytest.approx(best.beta, rel=1e-13)


def test_empty_region_is_refused_with_its_certificate() -> None:
    advantage = np.array([0.0, 1.0, 0.0])
    with pytest.raises(ValueError, match=r"certificate alpha = 0\.5.*-0\.01587544.*raise both radii by 0\.01587544"):
        constrained_optimum(advantage, LEFT, RIGHT, 0.3, 0.3)
    apart = np.array([-np.inf, -np.inf, 0.0])
    with pytest.raises(ValueError, match=r"no arm in common.*margin = -inf.*common support"):
        constrained_optimum(advantage, np.array([0.0, -np.inf, -np.inf]), apart, 9.0, 9.0)


# -- the true radius ---------------------------------------------------------------------------------------------------


@given(cases(), st.sampled_from([0.0, 1.0, 0.5, 0.1]), st.data())
def test_matched_ball_contains_what_the_budgets_allow(case: Case, alpha: float, data: st.DataObject) -> None:
    shared = np.flatnonzero((case.log_pi_0 > -np.inf) & (case.log_pi_t > -np.inf))
    log_pi = np.full(case.log_pi_0.shape, -np.inf)
    log_pi[shared] = data.draw(policies(shared.size, zeros=False))
    radius = float(matched_radius(case.log_pi_0, case.log_pi_t, alpha, case.eps_0, case.eps_t))
    budget = sum(w * e for w, e in ((alpha, case.eps_0), (1.0 - alpha, case.eps_t)) if w > 0.0)
    spent = alpha * kl(log_pi[shared], case.log_pi_0[shared]) + (1.0 - alpha) * kl(
        log_pi[shared], case.log_pi_t[shared]
    )
    log_ref = theory.interpolate(case.log_pi_0, case.log_pi_t, alpha).log_pi_ref[shared]
    if math.isfinite(budget):  # T1: the slack of the weighted budget is the slack of the ball
        assert radius - float(kl(log_pi[shared], log_ref)) == pytest.approx(budget - float(spent), abs=1e-11, rel=1e-12)
    else:
        assert radius == math.inf


def test_matched_radius_is_smallest_at_the_certificate() -> None:
    nonempty, alpha, margin = feasible(LEFT, RIGHT, 0.3, 0.25)
    assert not nonempty
    assert float(matched_radius(LEFT, RIGHT, float(alpha), 0.3, 0.25)) == pytest.approx(float(margin), abs=1e-15)
    assert float(matched_radius(LEFT, RIGHT, 0.9, 0.3, 0.25)) > 0.0  # a ball, although the region is empty


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"eps_0": -1.0}, ValueError, r"eps_0 = -1\.0 .*pass eps_0"),
        ({"eps_t": math.nan}, ValueError, r"eps_t = nan"),
        ({"eps_t": "1"}, TypeError, "eps_t = '1' is a str"),
        ({"log_pi_0": np.exp(LEFT)}, ValueError, "log-probabilities are needed"),
        ({"log_pi_t": np.stack([LEFT, RIGHT])}, ValueError, r"log_pi_t has shape \(2, 3\): one bandit.*loop"),
        ({"advantage": np.array([1.0, np.nan, 0.0])}, ValueError, "must be finite"),
        ({"advantage": np.zeros(2)}, ValueError, "different numbers of arms"),
    ],
)
def test_bad_input(change: dict[str, object], error: type[Exception], message: str) -> None:
    good = {"advantage": np.zeros(3), "log_pi_0": LEFT, "log_pi_t": RIGHT, "eps_0": 1.0, "eps_t": 1.0}
    with pytest.raises(error, match=message):
        constrained_optimum(**(good | change))  # type: ignore[arg-type]
    if "advantage" not in change and np.ndim(change.get("log_pi_t", 0)) < 2:
        del good["advantage"]
        for function, more in ((feasible, {}), (matched_radius, {"alpha": 0.5})):
            with pytest.raises(error, match=message):
                function(**(good | change | more))  # type: ignore[operator]


def test_matched_radius_refuses_a_reference_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="no arm in common"):
        matched_radius(np.array([0.0, -np.inf]), np.array([-np.inf, 0.0]), 0.5, 1.0, 1.0)


def test_radii_whose_sum_overflows_are_two_finite_radii():
    log_pi_0, log_pi_t, advantage = np.array([0.0, -np.inf]), np.log([0.5, 0.5]), np.array([0.0, 1.0])
    best = constrained_optimum(advantage, log_pi_0, log_pi_t, 1e308, 1e308)
    assert best.log_pi.tolist() == [0.0, -np.inf]  # pi_0 lacks the better arm
    with pytest.raises(ValueError, match="no arm in common"):
        constrained_optimum(advantage, log_pi_0, log_pi_0[::-1], 1e308, 1e308)


def test_numbers_of_one_bandit_go_into_other_functions_as_they_are():
    log_p, log_q = np.log([0.7, 0.2, 0.1]), np.log([0.1, 0.2, 0.7])
    meets, meeting = feasible(log_p, log_q, 0.4, 0.4), chernoff(log_p, log_q)
    assert theory.interpolate(log_p, log_q, meets.alpha).log_c == pytest.approx(-meeting.information, rel=1e-14)
    assert theory.interpolate(log_p, log_q, meeting.alpha).log_c == pytest.approx(-meeting.information, rel=1e-14)
    assert feasible(log_p, log_q, matched_radius(log_p, log_q, 0.5, 1.0, 1.0), math.inf).margin > 0.0
    assert feasible(log_p, log_q, feasible(log_p, log_q, math.inf, 0.5).margin, math.inf).margin == 0.5
