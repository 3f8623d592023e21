"""T9 as a statement to verify: nearest and best policies in PPO's box and the forward ball, and two-arm regions.

Box: the nearest policy is computed, `clip(scale base, low, high)`. Forward ball: a policy and a multiplier are drawn,
and the base to which this policy is nearest follows. A tilted base gives the best policy (see `theory.trust_regions`),
so one nearest policy tests both. Scales as in `t06_region`.
"""

from typing import NamedTuple

import numpy as np
from flint import arb

from dar_ref import theory
from dar_ref.theory.checks import Array
from dar_ref.theory.dual_kl import log_normalize
from dar_ref.theory.trust_regions import INFINITE_TILT, Stability
from dar_ref.verify.arb import policies, region
from dar_ref.verify.arb.policies import Exact, Policy
from dar_ref.verify.arb.region import Nearest
from dar_ref.verify.random_bandits import Case, draw_case, random_policy
from dar_ref.verify.statement import JUDGE_BITS, LIMIT, Error, Statement, distance, shortfall
from dar_ref.verify.t06_region import floats
from dar_ref.verify.t07_best_policy import excess, expected_advantage, rounded_up

FORMS: tuple[Stability, ...] = ("ppo_box", "forward_kl")
LEAST = -700.0
"""Lowest log-probability for a box or an interval of two arms; float64 underflows not far below."""


class Trust(NamedTuple):
    """A bandit, a trust region around its `pi_t`, and two arms to measure.

    size: half-width of the box, or multiplier of the forward ball; its nearest policy is then `bandit.log_pi_0`.
    """

    bandit: Case
    stability: Stability
    size: float
    pair: tuple[Array, Array]
    radii: tuple[float, float]


class Inside(NamedTuple):
    """The policies of T9: `log_p` is `pi_0`, `log_base ∝ pi_0 exp(A/beta)`, `nearest` the region's nearest to it."""

    log_p: Policy
    log_base: Policy
    log_q: Policy
    eps: arb
    arms: list[int]
    nearest: Nearest

    @property
    def log_best(self) -> Policy:
        """The nearest policy on all arms."""
        log_best: Policy = [None] * len(self.log_q)
        for arm, value in zip(self.arms, self.nearest.log_pi, strict=True):
            log_best[arm] = value
        return log_best


def draw_trust(rng: np.random.Generator) -> Trust:
    """Draw a bandit as for T1 to T4, with a box of 1e-6 to 10, or a forward ball whose multiplier moves by 1e-3 to 1e3
    nats (one in five is slack, by `w_clip`); and two arms with radii of 1e-6 to 10.

    For a forward ball no probability is below about exp(-20), A/beta is at most 1000 and the radius at least 1e-9. The
    ball bounds a mean under `pi_t`, which is known to an ulp of 1 only, so much smaller radii have no correct digits.
    """
    bandit, stability = draw_case(rng), FORMS[rng.integers(2)]
    size = 10.0 ** rng.uniform(-6.0, 1.0)
    if stability == "ppo_box":
        bandit = bandit._replace(log_pi_t=np.where(bandit.log_pi_t < LEAST, -np.inf, bandit.log_pi_t))
    else:
        log_best = log_normalize(np.where(bandit.log_pi_0 > -np.inf, np.maximum(bandit.log_pi_0, -20.0), -np.inf))[0]
        allowed = (log_best > -np.inf) & (bandit.log_pi_t > -np.inf)
        log_q = log_normalize(np.where(allowed, np.maximum(bandit.log_pi_t, -20.0), -np.inf))[0]
        beta = max(bandit.beta, float(np.abs(bandit.advantage).max()) / 1000.0)
        bandit = bandit._replace(log_pi_0=log_best, log_pi_t=log_q, beta=beta, w_clip=10.0 ** rng.uniform(-6.0, 1.0))
        log_most = (log_q[allowed] - log_best[allowed]).max()
        binds = rng.random() < 0.8 and theory.kl(log_q, log_best) > 1e-9
        size = float(np.exp(rng.uniform(-7.0, 7.0) - log_most)) if binds else 0.0
    one, other = (np.maximum(random_policy(rng, 2, 0), LEAST) for _ in range(2))
    eps_0, eps_t = (10.0 ** rng.uniform(-6.0, 1.0) for _ in range(2))
    return Trust(bandit, stability, size, (one, other), (eps_0, eps_t))


def _inside(case: Trust) -> Inside | None:
    """The nearest policy, or None if there is none. It is computed for the box, and drawn for the forward ball."""
    x = Exact.of(case.bandit)
    tilt = [a / x.beta for a in x.advantage]
    if case.stability == "forward_kl":
        arms = [arm for arm, p in enumerate(x.log_pi_0) if p is not None]
        log_best = [x.log_pi_0[arm] for arm in arms]
        nearest, base = region.from_forward_ball(log_best, [x.log_pi_t[arm] for arm in arms], arb(case.size))
        log_base: Policy = [None] * len(tilt)
        for arm, b in zip(arms, base, strict=True):
            log_base[arm] = b
        log_p = policies.normalize([None if b is None else b - t for b, t in zip(log_base, tilt, strict=True)])[0]
        eps = policies.kl(x.log_pi_t, x.log_pi_0) + (0 if case.size else x.w_clip)
        return Inside(log_p, log_base, x.log_pi_t, eps, arms, nearest)
    log_base = policies.normalize([None if p is None else p + t for p, t in zip(x.log_pi_0, tilt, strict=True)])[0]
    arms = region.common(log_base, x.log_pi_t)
    must = [arm for arm, q in enumerate(x.log_pi_t) if q is not None]
    if case.size < 1.0 and arms != must:
        return None
    found = region.into_box([log_base[arm] for arm in arms], [x.log_pi_t[arm] for arm in arms], arb(case.size))
    return found and Inside(x.log_pi_0, log_base, x.log_pi_t, arb(case.size), arms, found)


def errors_t9(case: Trust) -> list[Error]:
    """Scales, with `W = 1 + |log base| + |log pi_t| + |log pi|` per arm at the nearest policy pi and D = `KL(pi‖base)`.

    - D: `E_pi[(1 + |log(pi/base) - D|) W]`, plus that of its constraints: for the box `E_pi[|slope| W]`, for the
      forward ball its multiplier times the scale of the excess
    - its excess: for the box `(1+eps) max W`, for the forward ball `e + E_{pi_t}[(1 + |log(pi_t/pi) - KL|) W]`
    - the best reward, where e0 is `KL(pi‖pi_0)` plus a quarter of its scale: `E_pi[|A| (1 + |log pi|)]`, plus beta
      times the scale of `KL(pi‖pi_0)`, constraints included. Its excesses are as before. Here W also has `|log pi_0|`
      and `|A - max A|/beta`, and for the forward excess the log of the largest tilt, which is reached if only the ball
      binds. The forward ball's surface is known to the scale of its excess. So the result may lie a share `scale/e` of
      the way towards `pi_t`. The reward lost on this way is added, since multipliers need not be unique. The change of
      `KL(pi‖pi_0)` on it is part of the scale of `KL(pi‖pi_0)`, and so of e0
    - emptiness: at four scales below D the region is empty
    - two arms: the returned error
    """
    with policies.precision(JUDGE_BITS):
        errors, x = [_error_of_volume(case)], _inside(case)
        if x is None:
            nearest = theory.closest(*case.bandit[2:4], case.size, stability=case.stability)
            return [*errors, Error(float(nearest.divergence < np.inf), 0.0)]
        return errors + _errors_of_nearest(case, x)


def _errors_of_nearest(case: Trust, x: Inside) -> list[Error]:
    advantage, log_q, form = case.bandit.advantage, case.bandit.log_pi_t, {"stability": case.stability}
    log_p, log_base = (log_normalize(floats(log))[0] for log in (x.log_p, x.log_base))
    eps = case.size if case.stability == "ppo_box" else rounded_up(x.eps)
    sizes = [np.abs(np.nan_to_num(floats(log), neginf=0.0)) for log in (x.log_base, x.log_q, x.log_best)]
    terms = 1.0 + np.sum(sizes, axis=0)
    sides = _weight_of_sides(case, x, terms)
    true, scale = excess(x.log_best, x.log_base, arb(0), terms)
    nearest = theory.closest(log_base, log_q, eps, **form)
    below = true - 4.0 * LIMIT * (scale + sides)
    empty = below <= 0.0 or np.isnan(theory.best_reward(advantage, log_base, log_q, below, eps, **form).value)
    errors = [
        Error(distance(nearest.divergence, true), scale + sides),
        _error_of_region(case, x, nearest.log_pi, eps, terms),
        Error(float(not empty), 0.0),
    ]
    return errors + _errors_of_best_reward(case, x, log_p, eps, terms)


def _errors_of_best_reward(case: Trust, x: Inside, log_p: Array, eps: float, terms: Array) -> list[Error]:
    advantage, beta = case.bandit.advantage, case.bandit.beta
    terms = terms + np.abs(np.nan_to_num(log_p, neginf=0.0)) + (advantage.max() - advantage) / beta
    needed = policies.kl(x.log_best, x.log_p)
    _, scale = excess(x.log_best, x.log_p, needed, terms)
    forward = case.stability == "forward_kl"
    tilted = terms + (np.log(INFINITE_TILT) if forward else 0.0)
    share = excess(x.log_q, x.log_best, x.eps, tilted)[1] / eps if forward else 0.0
    fall = policies.kl(x.log_q, x.log_p) - needed - policies.kl(x.log_q, x.log_best) if forward else arb(0)
    unsure = share * abs(float(fall))
    scale += _weight_of_sides(case, x, terms) + unsure
    eps_0 = rounded_up(needed) + 0.25 * LIMIT * scale
    best = theory.best_reward(advantage, log_p, case.bandit.log_pi_t, eps_0, eps, stability=case.stability)
    exact_advantage = [arb(float(a)) for a in advantage]
    value, size = expected_advantage(x.log_best, exact_advantage)
    size += beta * scale + share * abs(float(value - expected_advantage(x.log_q, exact_advantage)[0]))
    errors = [
        Error(distance(best.value, value), size),
        _error_of_region(case, x, best.log_pi, eps, tilted),
    ]
    if np.isfinite(best.value):
        over, scale = excess(policies.exact_policy(best.log_pi), x.log_p, arb(eps_0), terms)
        errors.append(Error(max(over, 0.0), scale + unsure))
    return errors


def _weight_of_sides(case: Trust, x: Inside, terms: Array) -> float:
    if case.stability == "forward_kl":
        return case.size * excess(x.log_q, x.log_best, x.eps, terms)[1]
    pairs = zip(x.nearest.log_pi, x.nearest.slope, strict=True)
    return float(np.array([float(p.exp() * abs(s)) for p, s in pairs]) @ terms[x.arms])


def _error_of_region(case: Trust, x: Inside, log_pi: Array, eps: float, terms: Array) -> Error:
    """Distance of a policy outside the trust region, and its scale."""
    if np.isnan(log_pi).any():
        return Error(np.inf, 0.0)
    pi = policies.exact_policy(log_pi)
    if case.stability == "forward_kl":
        over, scale = excess(x.log_q, pi, arb(eps), terms)
        return Error(max(over, 0.0), scale)
    off = [
        float(abs((policies.INF if q is None else (p - q).exp()) - 1))
        for p, q in zip(pi, x.log_q, strict=True)
        if p is not None
    ]
    return Error(max(0.0, *(o - eps for o in off)), (1.0 + eps) * float(terms.max()))


def _error_of_volume(case: Trust) -> Error:
    """Two arms: the error of the length of the interval in both constraints; its scale is the returned error."""
    eps_0, eps_t = case.radii
    ours = theory.region_volume(*case.pair, eps_0, eps_t, stability=case.stability)
    p, q = (policies.exact_policy(log_p) for log_p in case.pair)
    low_0, high_0 = region.first_arm_bounds(p, arb(eps_0), "kl")
    low_t, high_t = region.first_arm_bounds(q, arb(eps_t), case.stability)
    true = (high_0.min(high_t) - low_0.max(low_t)).max(arb(0))
    return Error(distance(ours.fraction, true), ours.error / LIMIT)


def residuals_t9(case: Trust) -> list[arb]:
    """For every policy, with the nearest policy n and the slopes of its constraints: `KL(pi‖base) - KL(n‖base) =
    KL(pi‖n) + sum (pi - n) slope`. So with `base ∝ pi_0 exp(A/beta)` and `e0 = KL(n‖pi_0)`

        E_n[A] - E_pi[A] = beta (KL(pi‖n) + e0 - KL(pi‖pi_0) + sum (pi - n) slope)

    Inside the trust region the last sum is not negative. For the box this holds arm by arm. For the forward ball, whose
    slope is `c pi_t/n`, it follows from Jensen: `log sum pi pi_t/n >= KL(pi_t‖n) - KL(pi_t‖pi)`. The competitor inside
    is a mixture of `pi_t` and another policy of share s; `s = 1 - exp(-e)` is inside the forward ball.
    """
    x = _inside(case)
    if x is None:
        return _residuals_of_emptiness(case)
    log_n, slope = x.nearest
    beta, advantage = arb(case.bandit.beta), [arb(float(case.bandit.advantage[arm])) for arm in x.arms]
    log_p, log_base, log_q = ([log[arm] for arm in x.arms] for log in (x.log_p, x.log_base, x.log_q))
    log_pi = _competitor(case, x)
    masses = zip(_probabilities(log_pi), _probabilities(log_n), slope, strict=True)
    pulls = [(p - n) * s for p, n, s in masses]
    pull, apart = sum(pulls, arb(0)), policies.kl(log_pi, log_n)
    reached, other = expected_advantage(log_n, advantage)[0], expected_advantage(log_pi, advantage)[0]
    spare = policies.kl(log_n, log_p) - policies.kl(log_pi, log_p)
    balls = [
        policies.kl(log_pi, log_base) - policies.kl(log_n, log_base) - apart - pull,
        reached - other - beta * (apart + spare + pull),
        shortfall(policies.kl(log_pi, log_base), policies.kl(log_n, log_base)),
    ]
    if case.stability == "ppo_box":
        return balls + [shortfall(one, arb(0)) for one in pulls]
    ratio = [(p + q - n).exp() for p, q, n in zip(log_pi, log_q, log_n, strict=True) if p is not None and q is not None]
    return [*balls, shortfall(sum(ratio, arb(0)).log(), policies.kl(log_q, log_n) - policies.kl(log_q, log_pi))]


def _residuals_of_emptiness(case: Trust) -> list[arb]:
    """No policy on supp pi_0 is in the box: an arm of `pi_t` that it lacks is off by 1, which is more than eps, or the
    upper sides of its arms sum to less than 1. And the competitor, given supp pi_0, is off by more than eps."""
    x, eps = Exact.of(case.bandit), arb(case.size)
    log_pi = [None if base is None else p for p, base in zip(x.log_pi, x.log_pi_0, strict=True)]
    if all(p is None for p in log_pi):
        log_pi = x.log_pi_0
    probabilities = zip(*map(_probabilities, (policies.normalize(log_pi)[0], x.log_pi_t)), strict=True)
    off = arb(0)
    for p, q in probabilities:
        off = off.max(abs(p / q - 1) if q > 0 else policies.INF if p > 0 else arb(0))
    lost = any(q is not None and base is None for q, base in zip(x.log_pi_t, x.log_pi_0, strict=True))
    sides = [q.exp() for q, base in zip(x.log_pi_t, x.log_pi_0, strict=True) if q is not None and base is not None]
    proof = shortfall(arb(1), eps) if lost and eps < 1 else shortfall(arb(1), (1 + eps) * sum(sides, arb(0)))
    return [proof, shortfall(off, eps)]


def _competitor(case: Trust, x: Inside) -> Policy:
    """`(1-s) pi_t + s pi` on the arms of the region, where s is the largest that the box allows, or `1 - exp(-e)`."""
    drawn, log_q = policies.exact_policy(case.bandit.log_pi), [x.log_q[arm] for arm in x.arms]
    log_pi = [drawn[arm] for arm in x.arms]
    if all(p is None for p in log_pi):
        log_pi = log_q
    end, start = (_probabilities(policies.normalize(log)[0]) for log in (log_pi, log_q))
    share = 1 - (-x.eps.min(arb(1))).exp()
    if case.stability == "ppo_box":
        share = arb(1)
        for e, s, q in zip(end, start, _probabilities(log_q), strict=True):
            high, low = (1 + x.eps) * q, (1 - x.eps).max(arb(0)) * q
            share = share.min((high - s) / (e - s)) if e > high else share
            share = share.min((s - low) / (s - e)) if e < low else share
    mass = [(1 - share) * s + share * e for e, s in zip(end, start, strict=True)]
    return policies.normalize([m.log() if m > 0 else None for m in mass])[0]


def _probabilities(log_p: Policy) -> list[arb]:
    return [arb(0) if p is None else p.exp() for p in log_p]


STATEMENTS = (Statement("T9", "best in PPO's box, forward ball", draw_trust, errors_t9, residuals_t9, every=25),)
