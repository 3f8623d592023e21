"""The mathematics of the interactive simplex (docs/assets/simplex) against `dar_ref.theory`, on 100 states.

The JavaScript runs in QuickJS, so no browser and no node is needed. Expected values come from `dar_ref.theory` alone.
Among the states: pi_t at a vertex, alpha 0 and 1, beta 1e-6 and 1e6, radii at which nothing is left.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import quickjs

from dar_ref import theory

MODULE = Path(__file__).parent.parent / "docs" / "assets" / "simplex" / "simplex-math.js"
STATES = 100
EPS = np.finfo(float).eps
AREA_TOLERANCE = 2e-4
"""Relative; the page shows three digits. It counts rays, the package integrates slices to 1e-9."""


class State(NamedTuple):
    """The inputs that a reader of the page can set."""

    log_pi_0: list[float]
    log_pi_t: list[float]
    advantage: list[float]
    alpha: float
    beta: float
    eps_0: float
    eps_t: float

    @property
    def rounding(self):
        """Ulps of the largest term in a log-probability: the unit of the errors of both sides."""
        largest = np.abs([*self.log_pi_0, *self.log_pi_t]).max() + np.abs(self.advantage).max() / self.beta
        return 16 * EPS * (1.0 + largest)


def log_policy(rng, vertex):
    pi = rng.dirichlet(np.full(3, rng.choice([0.3, 1.0, 5.0]))) + 1e-9
    if vertex:
        pi = rng.permutation([1.0, 1e-6, 1e-6])
    return np.log(pi / pi.sum()).tolist()


def draw(number):
    rng = np.random.default_rng([6, number])
    log_pi_0, log_pi_t = log_policy(rng, vertex=False), log_policy(rng, vertex=number % 5 == 0)
    eps_0, eps_t = np.exp(rng.uniform(-4.0, 1.0, size=2)).tolist()
    if number % 2:  # equal radii near the value at which the balls touch
        touching = theory.chernoff(log_pi_0, log_pi_t).information
        eps_0 = eps_t = float(touching * rng.choice([0.5, 0.999, 1.001, 1.1, 3.0]))
    alpha = (0.0, 1.0, rng.uniform())[min(number % 6, 2)]
    beta = (1e-6, 1e6, 10.0 ** rng.uniform(-2.0, 2.0))[min(number % 7, 2)]
    return State(log_pi_0, log_pi_t, rng.normal(size=3).tolist(), float(alpha), float(beta), eps_0, eps_t)


ALL = [draw(number) for number in range(STATES)]


@pytest.fixture(scope="module")
def simplex():
    """Call a function of the module for each of the argument lists."""
    context = quickjs.Context()
    exported = "{ kl, interpolate, optimum, feasible, chernoff, matchedRadius, regionVolume, sharedRegion, ball }"
    context.module(MODULE.read_text(encoding="utf-8") + f"\nglobalThis.simplex = {exported};")

    def call(function, calls):
        return json.loads(context.eval(f"JSON.stringify({json.dumps(calls)}.map((a) => simplex.{function}(...a)))"))

    return call


def test_the_states_are_of_every_kind():
    empty = [not theory.feasible(s.log_pi_0, s.log_pi_t, s.eps_0, s.eps_t).nonempty for s in ALL]
    assert 20 <= sum(empty) <= 80
    assert {0.0, 1.0} < {s.alpha for s in ALL}
    assert {1e-6, 1e6} < {s.beta for s in ALL}
    assert sum(min(s.log_pi_t) < -13.8 and max(s.log_pi_t) > -1e-5 for s in ALL) >= 20


def test_kl(simplex):
    found = simplex("kl", [[s.log_pi_0, s.log_pi_t] for s in ALL])
    for s, value in zip(ALL, found, strict=True):
        assert abs(value - theory.kl(s.log_pi_0, s.log_pi_t)) <= s.rounding


def test_interpolate(simplex):
    found = simplex("interpolate", [[s.log_pi_0, s.log_pi_t, s.alpha] for s in ALL])
    for s, value in zip(ALL, found, strict=True):
        log_pi_ref, log_c = theory.interpolate(s.log_pi_0, s.log_pi_t, s.alpha)
        assert np.abs(value["logPiRef"] - log_pi_ref).max() <= s.rounding
        assert abs(value["logC"] - log_c) <= s.rounding


def test_optimum(simplex):
    found = simplex("optimum", [[s.advantage, s.log_pi_0, s.log_pi_t, s.alpha, s.beta] for s in ALL])
    for s, value in zip(ALL, found, strict=True):
        log_pi, best = theory.optimum(s.advantage, s.log_pi_0, s.log_pi_t, s.alpha, s.beta)
        assert np.abs(value["logPi"] - log_pi).max() <= s.rounding
        assert abs(value["value"] - best) <= s.beta * s.rounding


def test_feasible(simplex):
    found = simplex("feasible", [[s.log_pi_0, s.log_pi_t, s.eps_0, s.eps_t] for s in ALL])
    for s, value in zip(ALL, found, strict=True):
        nonempty, alpha, margin = theory.feasible(s.log_pi_0, s.log_pi_t, s.eps_0, s.eps_t)
        assert value["nonempty"] == bool(nonempty)
        assert abs(value["margin"] - margin) <= s.rounding + 16 * EPS * (s.eps_0 + s.eps_t)
        assert abs(value["alpha"] - alpha) <= 1e-9


def test_chernoff(simplex):
    found = simplex("chernoff", [[s.log_pi_0, s.log_pi_t] for s in ALL])
    for s, value in zip(ALL, found, strict=True):
        information, alpha = theory.chernoff(s.log_pi_0, s.log_pi_t)
        assert abs(value["information"] - information) <= s.rounding
        assert abs(value["alpha"] - alpha) <= 1e-9


def test_chernoff_of_equal_policies_is_zero_at_one_half(simplex):
    assert simplex("feasible", [[ALL[1].log_pi_0, ALL[1].log_pi_0, 0.1, 0.1]])[0]["alpha"] == 0.5
    assert simplex("chernoff", [[ALL[1].log_pi_0, ALL[1].log_pi_0]])[0]["information"] <= ALL[1].rounding


def test_matched_radius(simplex):
    found = simplex("matchedRadius", [[s.log_pi_0, s.log_pi_t, s.alpha, s.eps_0, s.eps_t] for s in ALL])
    for s, value in zip(ALL, found, strict=True):
        radius = theory.matched_radius(s.log_pi_0, s.log_pi_t, s.alpha, s.eps_0, s.eps_t)
        assert abs(value - radius) <= s.rounding + 16 * EPS * (s.eps_0 + s.eps_t)


def test_region_volume(simplex):
    found = simplex("regionVolume", [[s.log_pi_0, s.log_pi_t, s.eps_0, s.eps_t] for s in ALL])
    for s, share in zip(ALL, found, strict=True):
        volume = theory.region_volume(s.log_pi_0, s.log_pi_t, s.eps_0, s.eps_t)
        assert abs(share - volume.fraction) <= AREA_TOLERANCE * volume.fraction + volume.error


def test_borders_are_where_a_budget_is_used_up_or_at_an_edge(simplex):
    states = ALL[:30]
    shared = simplex("sharedRegion", [[s.log_pi_0, s.log_pi_t, s.eps_0, s.eps_t] for s in states])
    for s, region in zip(states, shared, strict=True):
        if region:
            ring = np.array(region["ring"])
            log_ring = np.log(np.maximum(ring, 1e-300))
            log_ring -= np.log(ring.sum(axis=-1, keepdims=True))
            left = np.minimum(s.eps_0 - theory.kl(log_ring, s.log_pi_0), s.eps_t - theory.kl(log_ring, s.log_pi_t))
            assert left.min() >= -1e-9
            assert np.minimum(left, ring.min(axis=-1)).max() <= 1e-9


def test_a_ball_of_negative_radius_is_empty(simplex):
    assert simplex("ball", [[ALL[1].log_pi_0, -0.1], [ALL[1].log_pi_0, 0.0]]) == [None, None]
