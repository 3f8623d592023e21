"""The share of the simplex that the feasible region takes: `region_volume` (T6, T9), with its error.

Fix one arm's probability x. Each set is convex, so the next arm's probability is restricted to an interval. By the
chain rule `KL(pi‖pi_0) = kl2(x, pi_0) + (1-x) kl2(rest)` its ends are roots of a two-arm divergence. So the share is

    two arms      the length of the interval
    three arms    the integral of this length over x, by quadrature with adaptive panels
    more arms     a Monte Carlo estimate from uniform samples of the simplex, seeded

The length is concave in x (Brunn-Minkowski), so a region that is too small for the first grid is found by zooming in.
"""

from collections.abc import Callable
from itertools import combinations
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dar_ref import scalars
from dar_ref.theory import checks
from dar_ref.theory.checks import EPS, Array
from dar_ref.theory.divergence import expected_log_ratio, log_sum_exp
from dar_ref.theory.trust_regions import Stability

QUADRATURE_TOLERANCE = 1e-9
"""Relative error at which panels are no longer halved."""
MOST_PANELS = 128
"""With more disagreeing panels than this, halving stops: they come from rounding, since corners are few."""
LEAST = 1e-300
"""A probability below it has lost digits, or is 0, where its logarithm is still exact."""


class Volume(NamedTuple):
    """`fraction`: share of the simplex's area; `error`: its absolute error (from four arms on, one standard error)."""

    fraction: float
    error: float


class _Mass(NamedTuple):
    """A probability and its logarithm."""

    p: float
    log: float


class _Constraint(NamedTuple):
    """One set around the policy `log_pi` (A,): KL(.‖pi) <= radius, KL(pi‖.) <= radius, or the box."""

    kind: str
    log_pi: Array
    radius: float

    @property
    def pi(self) -> Array:
        """The policy (A,)."""
        return np.exp(self.log_pi)

    def mass(self, *arms: int) -> _Mass:
        """Of these arms together."""
        return _Mass(float(self.pi[list(arms)].sum()), float(log_sum_exp(self.log_pi[list(arms)])))


def region_volume(
    log_pi_0: ArrayLike,
    log_pi_t: ArrayLike,
    eps_0: float,
    eps_t: float,
    *,
    stability: Stability = "kl",
    samples: int = 200_000,
    seed: int = 0,
) -> Volume:
    """Share of the simplex's area in both `KL(pi‖pi_0) <= eps_0` and the trust region around `pi_t`.

    Args:
        log_pi_0: initial policy (A,), log-probabilities.
        log_pi_t: current policy (A,), log-probabilities.
        eps_0: radius of the ball around `pi_0`, in nats, in [0, inf].
        eps_t: size of the trust region, in [0, inf]; nats, for the box a relative change of the probability.
        stability: "kl" `KL(pi‖pi_t) <= eps_t`, "ppo_box" `|pi/pi_t - 1| <= eps_t`, "forward_kl" `KL(pi_t‖pi) <= eps_t`.
        samples: size of the Monte Carlo sample, for four or more arms.
        seed: seed of the Monte Carlo sample, for four or more arms.

    Returns:
        `Volume(fraction, error)`. Up to three arms `error` covers quadrature and rounding. For four or more it is the
        standard error, with one hit and one miss added so that it stays positive without hits. A flat region (an anchor
        lacks an arm, a radius is 0) has fraction 0 and error 0. An infinite radius drops its constraint.

    Raises:
        TypeError, ValueError: bad input, leading axes, another `stability`, or `samples` below 1.

    Source: T6 and T9.

    >>> import numpy as np
    >>> log_pi_0, log_pi_t = np.log([0.7, 0.2, 0.1]), np.log([0.1, 0.2, 0.7])
    >>> round(region_volume(log_pi_0, log_pi_t, 0.5, 0.5).fraction, 6)
    0.121226
    >>> region_volume(log_pi_0, log_pi_t, 0.3, 0.3).fraction  # below the Chernoff information 0.3159
    0.0
    """
    log_pi_0, log_pi_t = checks.single(log_pi_0=log_pi_0, log_pi_t=log_pi_t)
    scalars.choice("stability", stability, get_args(Stability))
    samples, seed = scalars.integer("samples", samples, 1), scalars.integer("seed", seed, 0)
    constraints = [
        _Constraint(kind, log_pi, checks.non_negative(name, radius))
        for kind, log_pi, name, radius in (("kl", log_pi_0, "eps_0", eps_0), (stability, log_pi_t, "eps_t", eps_t))
    ]
    constraints = [one for one in constraints if one.radius < np.inf]
    arms = log_pi_0.size
    if arms == 1 or not constraints:
        return Volume(1.0, 0.0)
    if any(one.radius == 0.0 or (one.kind != "forward_kl" and (one.log_pi == -np.inf).any()) for one in constraints):
        return Volume(0.0, 0.0)
    if arms == 2:
        ends = np.array([_range(one, 0) for one in constraints])
        return Volume(max(float(ends[:, 1].min() - ends[:, 0].max()), 0.0), 16 * EPS)
    return _quadrature(constraints) if arms == 3 else _monte_carlo(constraints, samples, seed)


def _range(one: _Constraint, arm: int) -> tuple[float, float]:
    """Smallest and largest probability of one arm within a constraint."""
    if one.kind == "ppo_box":
        low, high = _sides(one)
        rest = np.delete(low, arm).sum(), np.delete(high, arm).sum()
        return float(max(low[arm], 1.0 - rest[1])), float(min(high[arm], 1.0 - rest[0]))
    others = one.mass(*(other for other in range(one.log_pi.size) if other != arm))
    low, high = _two_arm_ball(one.kind == "forward_kl", one.mass(arm), others, np.array([one.radius]))
    return float(low[0]), float(high[0])


def _cut(one: _Constraint, order: list[int], x: Array) -> tuple[list[Array], list[Array], list[Array]]:
    """The bounds of a constraint on the second arm of `order`, given the probability x (n,) of the first.

    Returns lower bounds, upper bounds, and hinges (functions of x whose zeros are corners of a bound), each (n,).
    """
    first, second, third = (one.mass(arm) for arm in order)
    rest = np.maximum(1.0 - x, EPS)
    if one.kind == "ppo_box":
        low, high = (np.broadcast_to(side[order, None], (3, x.size)) for side in _sides(one))
        return [low[1], rest - high[2]], [high[1], rest - low[2]], []
    forward = one.kind == "forward_kl"
    scale = one.mass(*order[1:])
    spent = _two_arm_kl(forward, x, first, scale)
    with np.errstate(divide="ignore", invalid="ignore"):  # with nothing at stake on both arms every split is within
        left = np.maximum(one.radius - spent, 0.0) / (np.full_like(x, scale.p) if forward else rest)
    parts = _part(second, scale), _part(third, scale)
    y_low, y_high = _two_arm_ball(forward, *parts, left)
    hinges = [] if forward else [left + part.log for part in parts]  # reaches an edge or not
    return [rest * y_low], [rest * y_high], hinges


def _part(one: _Mass, of: _Mass) -> _Mass:
    """A share of a mass."""
    if of.p < LEAST:
        return _Mass(float(np.exp(one.log - of.log)), one.log - of.log)
    share = one.p / of.p
    return _Mass(share, float(np.log(share)) if share > LEAST else one.log - of.log)


def _sides(one: _Constraint) -> tuple[Array, Array]:
    return max(1.0 - one.radius, 0.0) * one.pi, (1.0 + one.radius) * one.pi


def _two_arm_kl(forward: bool, y: Array, m: _Mass, co_m: _Mass) -> Array:
    """`KL((y, 1-y)‖(m, co_m))`, or with `forward` the KL in the other direction.

    Each arm adds `p log(p/q) - p + q >= 0`, with log1p near p = q, so the arms do not cancel.
    """

    def term(y: Array, m: _Mass) -> Array:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            p, q = (np.asarray(m.p), y) if forward else (y, np.asarray(m.p))
            ratio = (p - q) / q
            log_y, log_m = np.log(y), m.log if m.p < LEAST else np.log(m.p)
            log_ratio = np.where(np.abs(ratio) < 0.5, np.log1p(ratio), log_m - log_y if forward else log_y - log_m)
            return np.where(p > 0.0, p * log_ratio - (p - q), q)

    return term(y, m) + term(1.0 - y, co_m)


def _two_arm_ball(forward: bool, m: _Mass, co_m: _Mass, radius: Array) -> tuple[Array, Array]:
    """Both ends, each (n,), of the interval of y with a two-arm divergence of at most `radius` (n,).

    The divergence is convex in y with minimum 0 at m. A bracketed Newton iteration runs on both sides at once.
    """
    if m.p > co_m.p:  # the rarer arm has more correct digits
        low, high = _two_arm_ball(forward, co_m, m, radius)
        return 1.0 - high, 1.0 - low
    edge = np.array([[0.0], [1.0]])
    radius = np.broadcast_to(radius, (2, radius.size))
    outer, inner = np.broadcast_to(edge, radius.shape), np.full(radius.shape, m.p)
    whole = _two_arm_kl(forward, edge, m, co_m) <= radius
    reach = np.sqrt(2.0 * m.p * co_m.p * radius)
    near = (reach < 0.5 * np.abs(edge - m.p)) & (m.p > LEAST)
    y = np.where(near, m.p + np.sign(edge - 0.5) * reach, 0.5 * (edge + m.p))
    for _ in range(80):  # pragma: no branch (the bracket shrinks to one ulp before)
        excess = _two_arm_kl(forward, y, m, co_m) - radius
        outer, inner = np.where(excess > 0.0, y, outer), np.where(excess > 0.0, inner, y)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            log_ratio = np.log(y / m.p) if m.p > LEAST else np.log(y) - m.log
            slope = (y - m.p) / (y * (1.0 - y)) if forward else log_ratio - np.log((1.0 - y) / co_m.p)
            newton = y - excess / slope
        between = (newton - outer) * (newton - inner) <= 0.0
        moved = np.where(between, newton, 0.5 * (outer + inner))
        settled = (np.abs(moved - y) <= 2.0 * EPS) | (np.abs(excess) <= 4.0 * EPS * (np.abs(y - m.p) + radius))
        y = np.where(settled & ~between, y, moved)
        if (settled | whole).all():
            break
    low, high = np.where(whole, edge, y)
    return low, high


def _quadrature(constraints: list[_Constraint]) -> Volume:
    """Area for three arms. `x = middle - half cos(phi)` removes the square-root singularities at the ends of x."""
    weight = np.sum([one.pi for one in constraints], axis=0)
    order = [int(arm) for arm in np.argsort(weight)]  # the rarest first: 1 - x keeps its digits
    ranges = np.array([_range(one, order[0]) for one in constraints])
    start, stop = float(ranges[:, 0].max()), float(ranges[:, 1].min())
    if start >= stop:
        return Volume(0.0, EPS)
    middle, half = 0.5 * (start + stop), 0.5 * (stop - start)

    def slices(phi: Array) -> Array:
        """Rows (k, n): the length of the interval (negative if empty), then others; its corners are zeros of a row."""
        x = np.clip(middle - half * np.cos(phi), start, stop)
        cuts = [_cut(one, order, x) for one in constraints]
        lows, highs, hinges = ([row for cut in cuts for row in cut[part]] for part in range(3))
        pairs = [one - other for ends in (lows, highs) for one, other in combinations(ends, 2)]
        return np.stack([np.min(highs, axis=0) - np.max(lows, axis=0), *pairs, *hinges])

    window = _window(lambda phi: slices(phi)[0])
    if window is None:
        return Volume(0.0, EPS)
    area, error = _integrate(slices, lambda phi: half * np.sin(phi), *window)
    return Volume(2.0 * area, 2.0 * error + 16 * EPS)  # the triangle x + y <= 1 has area 1/2


def _window(gap: Callable[[Array], Array]) -> tuple[float, float] | None:
    """An interval of phi that contains every point of positive gap; None if float64 resolves no such point."""
    phi = np.linspace(0.0, np.pi, 129)
    for _ in range(12):
        values = gap(phi)
        inside = np.flatnonzero(values > 0.0)
        peak = (inside[0], inside[-1]) if inside.size else (int(values.argmax()),) * 2
        low, high = float(phi[max(peak[0] - 1, 0)]), float(phi[min(peak[1] + 1, len(phi) - 1)])
        if inside.size > 2:
            return low, high
        phi = np.linspace(low, high, 65)
    return (low, high) if inside.size else None


def _integrate(
    slices: Callable[[Array], Array], speed: Callable[[Array], Array], low: float, high: float
) -> tuple[float, float]:
    """Integral of `max(length, 0) speed` and its error, with Gauss panels of 10 nodes that are halved while in doubt.

    A panel is in doubt if it disagrees with its two halves, or if a corner may lie between its nodes: a row is closer
    to 0 than it changes from node to node. The area of a missed corner is below this change times the step.
    """
    nodes, weights = np.polynomial.legendre.leggauss(10)

    def panels(left: Array, right: Array) -> tuple[Array, Array]:
        width = 0.5 * (right - left)
        points = 0.5 * (left + right)[:, None] + width[:, None] * nodes
        rows = slices(points.ravel()).reshape(-1, *points.shape)
        pace = speed(points)
        move = np.abs(np.diff(rows, axis=-1)).max(axis=-1)
        hidden = np.where(np.abs(rows).min(axis=-1) < move, move, 0.0).max(axis=0)
        return (np.maximum(rows[0], 0.0) * pace) @ weights * width, hidden * pace.max(axis=-1) * 0.2 * width

    edges = np.linspace(low, high, 9)
    left, right = edges[:-1], edges[1:]
    whole, _ = panels(left, right)
    total, error = 0.0, 0.0
    for depth in range(40):  # pragma: no branch (the last round accepts what is left)
        middle = 0.5 * (left + right)
        halves, hidden = panels(np.concatenate([left, middle]), np.concatenate([middle, right]))
        halves, hidden = halves.reshape(2, -1), hidden.reshape(2, -1)
        defect = np.abs(halves.sum(axis=0) - whole) + hidden.sum(axis=0)
        scale = abs(total) + float(halves.sum())
        done: NDArray[np.bool_] = defect <= 0.05 * QUADRATURE_TOLERANCE * scale
        if depth == 39 or done.size > MOST_PANELS:  # the remaining doubt is rounding: it is part of the error
            done = np.ones_like(done)
        total, error = total + float(halves[:, done].sum()), error + float(defect[done].sum())
        if done.all():
            break
        left, right = np.concatenate([left[~done], middle[~done]]), np.concatenate([middle[~done], right[~done]])
        whole = halves[:, ~done].ravel()
    return total, error


def _monte_carlo(constraints: list[_Constraint], samples: int, seed: int) -> Volume:
    rng, hits, rows = np.random.default_rng(seed), 0, 1 << 14
    for start in range(0, samples, rows):
        draws = rng.standard_exponential((min(rows, samples - start), constraints[0].log_pi.size))
        pi = np.maximum(draws, np.finfo(float).tiny)
        pi /= pi.sum(axis=-1, keepdims=True)
        hits += int(np.logical_and.reduce([_holds(one, pi) for one in constraints]).sum())
    smoothed = (hits + 1) / (samples + 2)
    return Volume(hits / samples, float(np.sqrt(smoothed * (1.0 - smoothed) / samples)))


def _holds(one: _Constraint, pi: Array) -> NDArray[np.bool_]:
    """Whether each policy of pi (n, A) satisfies the constraint, (n,)."""
    if one.kind == "ppo_box":
        low, high = _sides(one)
        return np.asarray(((pi >= low) & (pi <= high)).all(axis=-1))
    with np.errstate(divide="ignore"):
        log_pi = np.log(pi)
    pair = (one.log_pi, log_pi) if one.kind == "forward_kl" else (log_pi, one.log_pi)
    return np.asarray(expected_log_ratio(*pair) <= one.radius)
