"""Volumes of the feasible regions (T6, T9), against grids, rays from an inner point, and closed forms."""

import math
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import log_softmax

from dar_ref.theory import best_reward, chernoff, closest, feasible, interpolate, region_volume
from dar_ref.theory.divergence import expected_log_ratio
from dar_ref.theory.trust_regions import Stability
from tests.strategies import Array, policy_pairs
from tests.theory.test_region import LEFT, RIGHT
from tests.theory.test_trust_regions import KINDS, kinds, radii


def excess(pi: Array, log_pi_0: Array, log_pi_t: Array, eps_0: float, eps_t: float, stability: Stability) -> Array:
    """Largest violation of the two constraints at policies (n, A), `<= 0` inside; by definition."""
    with np.errstate(divide="ignore", invalid="ignore"):
        log_pi = np.log(pi)
        first = np.where(pi > 0.0, pi * (log_pi - log_pi_0), 0.0).sum(axis=-1) - eps_0
        if stability == "kl":
            second = np.where(pi > 0.0, pi * (log_pi - log_pi_t), 0.0).sum(axis=-1) - eps_t
        elif stability == "forward_kl":
            second = (np.exp(log_pi_t) * (log_pi_t - log_pi)).sum(axis=-1) - eps_t
        else:
            second = np.abs(pi * np.exp(-log_pi_t) - 1.0).max(axis=-1) - eps_t
    return np.maximum(first, second)


def rays(inner: Array, count: int, *region: object) -> float:
    """Share of the triangle by `1/2 r²` over rays from an inner point, ends by bisection; error falls as 1/count²."""
    angle = 2.0 * np.pi * np.arange(count) / count
    step = np.stack([np.cos(angle), np.sin(angle), -np.cos(angle) - np.sin(angle)], axis=-1)
    with np.errstate(divide="ignore"):
        far = np.where(step < 0.0, inner / -step, np.inf).min(axis=-1)
    near = np.zeros(count)
    for _ in range(55):
        middle = 0.5 * (near + far)
        inside = excess(np.maximum(inner + middle[:, None] * step, 0.0), *region) <= 0.0
        near, far = np.where(inside, middle, near), np.where(inside, far, middle)
    return float(np.pi / count * (near**2).sum() / 0.5)


def test_against_rays() -> None:
    rng = np.random.default_rng(3)
    for number in range(12):
        log_pi_0, log_pi_t = np.log(rng.dirichlet(np.full(3, 2.0), 2))
        stability, eps_t = KINDS[number % 3], float(rng.uniform(0.1, 0.8))
        nearest = closest(log_pi_0, log_pi_t, eps_t, stability=stability)
        region = (log_pi_0, log_pi_t, nearest.divergence + float(rng.uniform(0.1, 0.5)), eps_t, stability)
        corners = [
            np.exp(best_reward(sign * np.eye(3)[arm], *region[:4], stability=stability).log_pi)
            for arm in range(3)
            for sign in (1.0, -1.0)
        ]
        volume = region_volume(*region[:4], stability=stability)
        assert volume.fraction == pytest.approx(rays(np.mean(corners, axis=0), 8000, *region), rel=5e-5)
        assert volume.error < 1e-9


def test_against_more_rays() -> None:
    region = (LEFT, RIGHT, 0.5, 0.5, "kl")
    inner = np.exp(interpolate(LEFT, RIGHT, 0.5).log_pi_ref)
    few, many = rays(inner, 20_000, *region), rays(inner, 40_000, *region)
    assert region_volume(*region[:4]).fraction == pytest.approx(many + (many - few) / 3.0, abs=1e-8)


def test_a_corner_between_the_nodes_is_seen() -> None:
    """A constraint cuts off 1e-7 of the area between two nodes: panels and their halves agree on the wrong value."""
    log_pi_0 = np.array([-1.449478588, -1.5120712, -0.607236492])
    log_pi_t = np.array([-0.686002818, -1.175537866, -1.672579504])
    log_pi_0, log_pi_t = (x - np.logaddexp.reduce(x) for x in (log_pi_0, log_pi_t))
    region = (log_pi_0, log_pi_t, 0.24875237968, 0.31577972900, "forward_kl")
    inner = np.exp(closest(log_pi_0, log_pi_t, 0.1, stability="forward_kl").log_pi)
    volume = region_volume(*region[:4], stability="forward_kl")
    assert volume.fraction == pytest.approx(rays(inner, 32_000, *region), rel=2e-8)
    assert volume.error < 1e-9


@pytest.mark.parametrize("stability", KINDS)
def test_against_monte_carlo(stability: Stability) -> None:
    """Four arms against an independent sample; the same seed gives the same estimate, more samples a smaller error."""
    log_pi_0, log_pi_t = np.log([[0.4, 0.3, 0.2, 0.1], [0.25, 0.25, 0.25, 0.25]])
    one = region_volume(log_pi_0, log_pi_t, 0.2, 0.6, stability=stability, samples=40_000)
    pi = np.random.default_rng(11).dirichlet(np.ones(4), 200_000)
    exact = (excess(pi, log_pi_0, log_pi_t, 0.2, 0.6, stability) <= 0.0).mean()
    assert 0.0 < one.error < 0.003
    assert one.fraction == pytest.approx(float(exact), abs=5 * one.error)
    assert one == region_volume(log_pi_0, log_pi_t, 0.2, 0.6, stability=stability, samples=40_000)
    assert one != region_volume(log_pi_0, log_pi_t, 0.2, 0.6, stability=stability, samples=40_000, seed=1)
    assert one.error > region_volume(log_pi_0, log_pi_t, 0.2, 0.6, stability=stability, samples=160_000).error


def test_no_hits_are_no_certainty() -> None:
    log_pi = np.log(np.full(8, 0.125))
    nothing = region_volume(log_pi, log_pi, 1e-6, 1e-6, samples=100)
    assert nothing.fraction == 0.0
    assert nothing.error > 0.005


def test_closed_forms() -> None:
    half = np.log([0.5, 0.5])
    for eps in (0.01, 0.3, 0.6):
        width = math.sqrt(1.0 - math.exp(-2.0 * eps))  # -log(2 sqrt(x(1-x))) <= eps
        assert region_volume(half, half, math.inf, eps, stability="forward_kl").fraction == pytest.approx(
            width, abs=1e-14
        )
        assert region_volume(half, half, 5.0, eps, stability="ppo_box").fraction == pytest.approx(eps, abs=1e-14)
    assert region_volume(half, half, 0.7, 0.7).fraction == 1.0  # log 2 = 0.693: everything
    third = np.log(np.full(3, 1.0 / 3.0))
    # the box around the centre cuts the three corners of a triangle: a hexagon of area 3 t² (t = eps/3), out of 1/2
    assert region_volume(third, third, 9.0, 0.3, stability="ppo_box").fraction == pytest.approx(6 * 0.1**2, abs=1e-12)
    assert region_volume(third, third, 1.2, 1.2).fraction == pytest.approx(1.0, abs=1e-12)
    # one arm far below rounding: KL((y, 1-y)‖(e^-300, 1)) = 1e-6, solved by hand: y (log y + 300) = 1e-6 + y
    far = np.array([-300.0, 0.0])
    for order in ([0, 1], [1, 0]):
        assert region_volume(far[order], half, 1e-6, math.inf).fraction == pytest.approx(3.57716093e-9, rel=1e-6)
    # a small ball is an ellipse: sum z²/p <= 2 eps, area pi 2 eps sqrt(p1 p2 p3) in (x, y)
    eps, p = 1e-8, np.array([0.7, 0.2, 0.1])
    ellipse = 2.0 * math.pi * 2.0 * eps * math.sqrt(p.prod())
    assert region_volume(LEFT, LEFT, eps, math.inf).fraction == pytest.approx(ellipse, rel=1e-6)


def test_area_vanishes_at_the_chernoff_information() -> None:
    threshold = float(chernoff(LEFT, RIGHT).information)
    areas = [
        region_volume(LEFT, RIGHT, threshold + more, threshold + more).fraction for more in (-1e-6, 1e-6, 1e-4, 1e-2)
    ]
    assert areas[0] == 0.0
    assert 0.0 < areas[1] < areas[2] < areas[3]
    # the lens is `margin` deep between two arcs: its area falls as margin^(3/2)
    assert areas[2] / areas[1] == pytest.approx(1000.0, rel=0.02)


@pytest.mark.parametrize("least", [-600.0, -712.0, -740.0, -800.0, -5000.0])
@pytest.mark.parametrize("radius", [50.0, 400.0])
def test_an_anchor_that_hardly_has_an_arm(least: float, radius: float) -> None:
    """Three arms, two of them alike, the third too rare for float64: its length at each x by bisection, integrated."""
    log_q = log_softmax([0.0, 0.0, least])

    def length(x: float) -> float:
        def excess(y: float) -> float:  # y: share of the second arm in what x leaves
            parts = np.array([y * (1 - x), (1 - y) * (1 - x), x])
            return float(np.sum(np.where(parts > 0, parts * (np.log(np.maximum(parts, 1e-320)) - log_q), 0.0)) - radius)

        if excess(0.5) > 0.0:
            return 0.0
        return (1 - x) * (1.0 if excess(1.0) <= 0.0 else 2 * brentq(excess, 0.5, 1.0, xtol=1e-15) - 1)

    ends = [0.0, *(min(1.0, part * (radius + 1.0) / -least) for part in (0.9, 1.0, 1.1))]  # corners lie near the end
    expected = 2 * sum(quad(length, low, high, epsabs=1e-9, limit=200)[0] for low, high in pairwise(ends))
    found = region_volume(log_q, log_q, radius, radius)
    assert found.fraction == pytest.approx(expected, abs=1e-7)
    assert found.error < 1e-9
    two = log_softmax([0.0, least])
    x = brentq(lambda x: x * (math.log(x) - two[1]) + (1 - x) * math.log1p(-x) - radius, 1e-9, 1 - 1e-12)
    assert region_volume(two, two, radius, radius).fraction == pytest.approx(x, rel=1e-9)
    four = log_softmax([0.0, -1.0, -2.0, least])
    draws = np.random.default_rng(1).dirichlet(np.ones(4), 50_000)
    share = float((expected_log_ratio(np.log(draws), four) <= radius).mean())
    assert region_volume(four, four, radius, radius).fraction == pytest.approx(share, abs=0.015)


def test_flat_regions_have_no_area() -> None:
    edge = np.array([math.log(0.5), math.log(0.5), -np.inf])
    assert region_volume(edge, LEFT, 9.0, 9.0) == (0.0, 0.0)
    assert region_volume(LEFT, edge, 9.0, 9.0, stability="ppo_box") == (0.0, 0.0)
    assert region_volume(LEFT, RIGHT, 0.0, 9.0) == (0.0, 0.0)
    assert region_volume(LEFT, edge, math.inf, 0.5, stability="forward_kl").fraction > 0.1  # pi_t may lack an arm here
    assert region_volume(edge, LEFT, math.inf, 0.5).fraction > 0.1
    assert region_volume(LEFT, RIGHT, math.inf, math.inf) == (1.0, 0.0)
    assert region_volume(np.zeros(1), np.zeros(1), 0.0, 0.0) == (1.0, 0.0)
    far = np.log([1e-6, 1.0 - 2e-6, 1e-6])
    assert region_volume(LEFT, far, 0.01, 0.01).fraction == 0.0  # not even one arm's range in common


@given(policy_pairs(), radii, radii, kinds)
def test_range_emptiness_and_monotonicity(
    pair: tuple[Array, Array], eps_0: float, eps_t: float, stability: Stability
) -> None:
    if pair[0].size > 3:
        pair = tuple(x[:3] - np.logaddexp.reduce(x[:3]) if (x[:3] > -np.inf).any() else LEFT for x in pair)  # type: ignore[assignment]
    volume = region_volume(*pair, eps_0, eps_t, stability=stability)
    assert -1e-15 <= volume.fraction <= 1.0 + 1e-9
    assert 0.0 <= volume.error < 1e-6
    if stability == "kl" and not feasible(*pair, eps_0, eps_t).nonempty:
        assert volume.fraction <= volume.error
    wider = region_volume(*pair, 1.5 * eps_0, eps_t, stability=stability)
    assert wider.fraction >= volume.fraction - volume.error - wider.error
    order = np.arange(pair[0].size)[::-1]
    permuted = region_volume(pair[0][order], pair[1][order], eps_0, eps_t, stability=stability)
    assert permuted.fraction == pytest.approx(volume.fraction, abs=volume.error + permuted.error + 1e-12)


def test_rounding_stays_in_the_error() -> None:
    third = np.log(np.full(3, 1.0 / 3.0))
    size = 2e-12  # of the box: its sides have only four correct digits
    volume = region_volume(third, third, 1e-3, size, stability="ppo_box")
    assert volume.fraction == pytest.approx(6.0 * (size / 3.0) ** 2, rel=1e-2)
    assert volume.error < 1e-14


def test_a_call_is_fast() -> None:
    start = time.perf_counter()
    for eps in np.linspace(0.33, 1.0, 5):
        region_volume(LEFT, RIGHT, float(eps), float(eps))
    assert (time.perf_counter() - start) / 5 < 0.5  # ten times the time on an idle core


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stability": "box"}, "stability = 'box' is unknown; choose one of kl, ppo_box"),
        ({"samples": 0}, "samples = 0.*pass samples >= 1"),
        ({"eps_0": -0.5}, "eps_0 = -0.5"),
        ({"log_pi_0": np.stack([LEFT, LEFT])}, "one bandit"),
    ],
)
def test_bad_input(change: dict[str, object], message: str) -> None:
    good = {"log_pi_0": LEFT, "log_pi_t": RIGHT, "eps_0": 0.2, "eps_t": 0.2}
    with pytest.raises(ValueError, match=message):
        region_volume(**(good | change))  # type: ignore[arg-type]
