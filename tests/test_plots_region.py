"""Borders of sets on the simplex: every point on the border, areas as the quadrature has them."""

import numpy as np
import pytest

from dar_ref import theory
from dar_ref.plots import trust_gap
from dar_ref.plots_border import border

LOG_PI_0, LOG_PI_T = np.log([[0.6, 0.3, 0.1], [0.1, 0.5, 0.4]])


def area(ring):
    """Share of the triangle inside a polygon of policies, by the shoelace formula in the first two probabilities."""
    x, y = ring[:, 0], ring[:, 1]
    return abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))


@pytest.mark.parametrize(("stability", "eps_t"), [("kl", 0.3), ("kl", 0.001), ("forward_kl", 0.2), ("ppo_box", 0.2)])
def test_border_encloses_the_area_of_the_set(stability, eps_t):
    ring = border(lambda log_pi: trust_gap(log_pi, LOG_PI_T, eps_t, stability), LOG_PI_T, 2001)
    volume = theory.region_volume(LOG_PI_0, LOG_PI_T, np.inf, eps_t, stability=stability)
    assert area(ring) == pytest.approx(volume.fraction, rel=1e-3)


@pytest.mark.parametrize("excess", [1e-1, 1e-3, 1e-6])
def test_border_of_a_region_that_is_nearly_a_point(excess):
    """The lens between two balls that hardly meet is far smaller than any pixel, and still has its area."""
    touch = theory.chernoff(LOG_PI_0, LOG_PI_T)
    eps = float(touch.information) + excess
    middle = theory.interpolate(LOG_PI_0, LOG_PI_T, float(touch.alpha)).log_pi_ref
    ring = border(
        lambda log_pi: np.maximum(theory.kl(log_pi, LOG_PI_0), theory.kl(log_pi, LOG_PI_T)) - eps, middle, 2001
    )
    assert area(ring) == pytest.approx(theory.region_volume(LOG_PI_0, LOG_PI_T, eps, eps).fraction, rel=1e-3)


def test_border_of_everything_is_the_triangle():
    ring = border(lambda log_pi: np.full(len(log_pi), -1.0), LOG_PI_0, 2001)
    assert area(ring) == pytest.approx(1.0, rel=5e-3)  # the corners lie between the points
    assert np.abs(ring.min(axis=-1)).max() < 1e-12
