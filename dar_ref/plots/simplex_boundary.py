"""The boundary of a convex set of policies over three arms, to float64 precision, for the simplex figures.

A grid over the triangle misses a region that is smaller than its cells. So the boundary is found along rays.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from dar_ref.theory.checks import Array

Gap = Callable[[Array], Array]
"""Distance (n,) of log-policies (n, 3) outside a convex set: negative inside, 0 on the boundary."""


def boundary(gap: Gap, log_inside: ArrayLike, resolution: int = 181) -> Array:
    """Points (resolution, 3) around the boundary of a convex set of policies over three arms, `gap <= 0`.

    Rays from a point inside end where the gap changes sign, or at the edge of the triangle. A first ring finds the
    centre and the stretch of the set. With these, the points of the second ring are even for small and thin sets too.

    Args:
        gap: function of log-policies (n, 3) -> (n,), convex, negative inside.
        log_inside: a policy (3,) of the set, log-probabilities.
        resolution: number of points.

    Returns:
        Policies (not their logarithms), in order around the set.

    >>> from dar_ref import theory
    >>> center = np.log([0.2, 0.3, 0.5])
    >>> ring = boundary(lambda log_pi: theory.kl(log_pi, center) - 0.1, center)
    >>> bool(np.allclose(theory.kl(np.log(ring), center), 0.1, rtol=1e-9))
    True
    """
    plane = np.array([[2.0, -1.0, -1.0], [0.0, 1.7320508075688772, -1.7320508075688772]]) / 6.0**0.5
    angle = np.linspace(0.0, 2.0 * np.pi, resolution, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    center, stretch = np.exp(np.asarray(log_inside, dtype=float)), np.eye(2)
    ring = np.empty(0)
    for halvings in (16, 56):
        way = circle @ stretch @ plane  # (n, 3), rows sum to 0
        with np.errstate(divide="ignore", invalid="ignore"):
            edge = np.where(way < 0.0, center / -way, np.inf).min(axis=-1)
        low, high = np.zeros(resolution), edge
        for _ in range(halvings):
            middle = 0.5 * (low + high)
            inside = gap(_log_on_ray(center, way, middle)) <= 0.0
            low, high = np.where(inside, middle, low), np.where(inside, high, middle)
        ring = np.exp(_log_on_ray(center, way, np.where(high == edge, edge, low)))
        center = ring.mean(axis=0)
        values, vectors = np.linalg.eigh(np.cov((ring - center) @ plane.T, rowvar=False))
        stretch = np.diag(np.sqrt(np.maximum(values, 1e-30))) @ vectors.T
    return ring


def _log_on_ray(center: Array, way: Array, distance: Array) -> Array:
    points = np.maximum(center + distance[:, None] * way, 0.0)
    with np.errstate(divide="ignore"):  # the edges have probability zero
        return np.log(points / points.sum(axis=-1, keepdims=True))
