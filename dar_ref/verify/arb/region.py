"""The feasible region in ball arithmetic: certificate (T6), best policy (T7) and other trust regions (T9).

Policies here are lists of log-probabilities over the arms that matter: the common support `S`, or the arms that a trust
region allows. They need not sum to one: an anchor restricted to `S` is not renormalised.
"""

from collections.abc import Callable
from typing import NamedTuple

from flint import arb, ctx

from dar_ref.verify.arb import policies
from dar_ref.verify.arb.policies import Policy

Slope = Callable[[arb], tuple[arb, arb]]


class Anchors(NamedTuple):
    """Both anchors on their common support `S`, and the radii of the balls around them."""

    log_p: list[arb]
    log_q: list[arb]
    eps_0: arb
    eps_t: arb


class Meeting(NamedTuple):
    """The alpha with the lowest `alpha e0 + (1-alpha) et + log C(alpha)`, this value, and `pi_ref(alpha)` on `S`."""

    alpha: arb
    margin: arb
    log_ref: Policy


class Nearest(NamedTuple):
    """The policy of a trust region nearest to `base`: `log(pi/base) = slope + const`; the constraints give `slope`."""

    log_pi: list[arb]
    slope: list[arb]


def common(log_pi_0: Policy, log_pi_t: Policy) -> list[int]:
    """The common support, as indices of arms."""
    pairs = enumerate(zip(log_pi_0, log_pi_t, strict=True))
    return [arm for arm, (p, q) in pairs if p is not None and q is not None]


def ball(x: Anchors, alpha: arb) -> tuple[Policy, arb]:
    """`pi_ref(alpha)` on `S`, and the radius `alpha e0 + (1-alpha) et + log C` of the ball around it (T1)."""
    log_ref, log_c = policies.normalize(policies.mixture(x.log_p, x.log_q, alpha))
    return log_ref, alpha * x.eps_0 + (1 - alpha) * x.eps_t + log_c


def slope(x: Anchors, alpha: arb) -> tuple[arb, arb]:
    """First and second derivative of the radius: `e0 - et + E_ref[log pi_0/pi_t]` and `Var_ref[log pi_0/pi_t]`."""
    ratio = [p - q for p, q in zip(x.log_p, x.log_q, strict=True)]
    logits = [q + alpha * r for q, r in zip(x.log_q, ratio, strict=True)]
    top = max(logits, key=lambda logit: float(logit.mid()))
    weights = [(logit - top).exp() for logit in logits]
    total = sum(weights, arb(0))
    mean = sum((w * r for w, r in zip(weights, ratio, strict=True)), arb(0)) / total
    off = [r - mean for r in ratio]
    spread = (
        sum((w * o * o for w, o in zip(weights, off, strict=True)), arb(0)) / total
    )  # a power of a ball around 0: nan
    return x.eps_0 - x.eps_t + mean, spread


def meeting(x: Anchors) -> Meeting:
    """The lowest radius over alpha in [0, 1]: at an end, at the zero of the slope, or everywhere (then alpha = 1/2)."""
    falls, rises = slope(x, arb(0))[0] < 0, slope(x, arb(1))[0] > 0
    if falls and rises:
        alpha = enclosed_root(lambda a: slope(x, a), arb(0), arb(1))
    else:
        alpha = arb(1) if falls else arb(0) if rises else arb(1) / 2
    log_ref, margin = ball(x, alpha)
    return Meeting(alpha, margin, log_ref)


def enclosed_root(function: Slope, low: arb, high: arb) -> arb:
    """Enclose the zero of an increasing function (value, derivative) that is negative at `low`, positive at `high`.

    A bracketed Newton iteration finds it. The signs at both ends of the result prove it.
    """
    left, right, at, before = low, high, ((low + high) / 2).mid(), arb("inf")
    while True:
        value, rate = function(at)
        if not (value < 0 or value > 0):
            break
        left, right = (at, right) if value < 0 else (left, at)
        newton = (at - value / rate).mid()
        halves = abs(value) < before / 2 and left < newton and newton < right
        following = newton if halves else ((left + right) / 2).mid()
        if abs(following - at) < arb(2) ** (20 - ctx.prec):
            break
        at, before = following, abs(value).mid()
    reach = arb(2) ** (24 - ctx.prec)
    while True:
        left, right = (at - reach).max(low), (at + reach).min(high)
        if (left == low or function(left)[0] < 0) and (right == high or function(right)[0] > 0):
            return left.union(right)
        reach *= 2**16


def into_box(log_base: Policy, log_q: Policy, eps: arb) -> Nearest | None:
    """Nearest policy with `|pi/q - 1| <= eps`: `clip(scale base, low, high)`; None if the upper sides sum below 1.

    The scale lies between two corners of the sum. There it is known which arms are clipped; the others share the rest.
    The upper side of an arm is `(1+eps) q`, the lower side `(1-eps) q` or 0.
    """
    high = [q + (1 + eps).log() for q in log_q]
    low = [q + (1 - eps).log() if eps < 1 else None for q in log_q]
    if not _mass(high) >= 1:
        return None
    sides = [*zip(low, log_base, strict=True), *zip(high, log_base, strict=True)]
    corners = sorted((side - base for side, base in sides if side is not None), key=arb.mid)

    def clipped(log_scale: arb) -> Policy:
        bounds = zip(log_base, low, high, strict=True)
        return [(b + log_scale if lo is None else (b + log_scale).max(lo)).min(hi) for b, lo, hi in bounds]

    first, last = 0, len(corners) - 1  # the first corner at which the sum reaches 1
    while first < last:
        middle = (first + last) // 2
        first, last = (first, middle) if _mass(clipped(corners[middle])) > 1 else (middle + 1, last)
    between = (corners[first] + (corners[first - 1] if first else corners[0] - 2)) / 2
    scaled = [b + between for b in log_base]
    side = [
        lo if lo is not None and s < lo else hi if s > hi else None for s, lo, hi in zip(scaled, low, high, strict=True)
    ]
    free = _mass([b if s is None else None for b, s in zip(log_base, side, strict=True)])
    log_scale = ((1 - _mass(side)) / free).log()
    log_pi = [b + log_scale if s is None else s for b, s in zip(log_base, side, strict=True)]
    return Nearest(log_pi, [arb(0) if s is None else s - b - log_scale for b, s in zip(log_base, side, strict=True)])


def _mass(logits: Policy) -> arb:
    """Sum of the probabilities."""
    return sum((x.exp() for x in logits if x is not None), arb(0))


def from_forward_ball(log_pi: list[arb], log_q: Policy, multiplier: arb) -> tuple[Nearest, Policy]:
    """`log_pi` as a nearest policy with `KL(q‖pi) <= e`, and the base it is nearest to: `pi exp(-multiplier q/pi)`.

    This is the stationarity of `KL(pi‖base) + multiplier KL(q‖pi)`, solved for the base. e is `KL(q‖pi)`, or larger at
    multiplier 0.
    """
    pairs = zip(log_pi, log_q, strict=True)
    slopes = [arb(0) if q is None else multiplier * (q - p).exp() for p, q in pairs]
    base, _ = policies.normalize([p - s for p, s in zip(log_pi, slopes, strict=True)])
    return Nearest(log_pi, slopes), base


def first_arm_bounds(log_m: list[arb], eps: arb, stability: str) -> tuple[arb, arb]:
    """Least and largest probability of the first of two arms in the ball, forward ball or box around m."""
    m, rest = (x.exp() for x in log_m)
    if stability == "ppo_box":
        sides = [((1 - eps).max(arb(0)) * x, (1 + eps) * x) for x in (m, rest)]
        return sides[0][0].max(1 - sides[1][1]), sides[0][1].min(1 - sides[1][0])
    return _least(log_m[0], log_m[1], eps, stability), 1 - _least(log_m[1], log_m[0], eps, stability)


def _least(log_m: arb, log_rest: arb, eps: arb, stability: str) -> arb:
    """Smallest y with `KL((y, 1-y)‖m) <= eps`, or `KL(m‖(y, 1-y)) <= eps`; 0 if it is below 2^-1000."""
    m, rest = log_m.exp(), log_rest.exp()

    def spare(y: arb) -> tuple[arb, arb]:
        up, down = y.log() - log_m, (1 - y).log() - log_rest
        if stability == "kl":
            return eps - y * up - (1 - y) * down, down - up
        return eps + m * up + rest * down, (m - y) / (y * (1 - y))

    tiny = arb(2) ** -1000
    return enclosed_root(spare, tiny, m.mid()) if m > tiny and spare(tiny)[0] < 0 else arb(0)
