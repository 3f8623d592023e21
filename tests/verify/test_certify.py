"""Certificates prove true identities, refuse false ones, and agree with an independent 60-digit computation."""

import flint
import mpmath
import numpy as np
import pytest

from dar_ref.verify import t01_t04_optimum
from dar_ref.verify.arb import policies
from dar_ref.verify.certify import MAX_BITS, certify
from dar_ref.verify.random_bandits import Case, draw_case
from tests.theory import reference

INF = np.inf
RESIDUALS = {s.id: s.residuals for s in t01_t04_optimum.STATEMENTS}
STATEMENTS = list(RESIDUALS)
ORDINARY = Case(
    log_pi=np.log([0.2, 0.3, 0.5]),
    advantage=np.array([1.0, -0.5, 0.25]),
    log_pi_0=np.log([0.6, 0.3, 0.1]),
    log_pi_t=np.log([0.1, 0.3, 0.6]),
    alpha=0.25,
    beta=0.5,
    w_clip=2.0,
)


def as_mpf(ball):
    with mpmath.workdps(60):
        mantissa, exponent = ball.mid().man_exp()
        return mpmath.mpf(int(mantissa)) * mpmath.mpf(2) ** int(exponent)


@pytest.mark.parametrize("statement", STATEMENTS)
def test_precision_is_raised_until_the_ball_is_small_enough(statement):
    extreme = ORDINARY._replace(advantage=np.array([1e6, -1e6, 0.0]), beta=1e-6)  # A/beta = 1e12 costs 40 bits
    assert certify(RESIDUALS[statement], extreme, 100).passed
    assert certify(RESIDUALS[statement], extreme, 100).radius < 1e-100


def test_precision_is_doubled_until_the_ball_decides():
    used = []

    def residuals(_):
        used.append(flint.ctx.prec)
        return [(flint.arb(2).sqrt() ** 2 - 2) * flint.arb(10) ** 100]

    assert certify(residuals, None, 100).passed
    assert used == [461, 922]


BREAKS = {
    "log C dropped": ("T1", "normalize", lambda real: lambda logits: (real(logits)[0], flint.arb(0))),
    "alpha for 1-alpha in the interpolation": ("T1", "mixture", lambda real: lambda p, q, a: real(p, q, 1 - a)),
    "alpha for 1-alpha in the dual KL": ("T1", "dual_kl", lambda real: lambda pi, p, q, a: real(pi, p, q, 1 - a)),
    "KL turned round": ("T1", "kl", lambda real: lambda p, q: real(q, p)),
    "sign of A": ("T2", "optimum", lambda real: lambda adv, *rest: real([-a for a in adv], *rest)),
    "alpha for 1-alpha in pi*": ("T2", "optimum", lambda real: lambda adv, p, q, a, b: real(adv, p, q, 1 - a, b)),
    "sign of the penalty": ("T2", "objective", lambda real: lambda pi, adv, p, q, a, b: real(pi, adv, p, q, a, -b)),
    "sign of A in the weight": ("T3", "log_weights", lambda real: lambda adv, *rest: real([-a for a in adv], *rest)),
    "alpha for 1-alpha in the weight": (
        "T3",
        "log_weights",
        lambda real: lambda adv, p, q, a, b, c: real(adv, p, q, 1 - a, b, c),
    ),
    "clipped where it must not be": (
        "T3",
        "log_weights",
        lambda real: lambda adv, p, q, a, b, _: real(adv, p, q, a, b, flint.arb(1)),
    ),
    "target without the sampler": (
        "T4",
        "regression_target",
        lambda real: lambda log_pi_t, log_v: (policies.normalize(log_v)[0], real(log_pi_t, log_v)[1]),
    ),
    "T4 not clipped": ("T4", "log_weights", lambda real: lambda *args: real(*args[:5], None)),
    "loss without the sampler": (
        "T4",
        "regression_loss",
        lambda real: lambda pi, _, v, m: real(pi, policies.exact_policy(np.zeros(3)), v, m),
    ),
}


@pytest.mark.parametrize("what", BREAKS)
def test_a_broken_formula_is_disproved(what, monkeypatch):
    statement, name, breaks = BREAKS[what]
    monkeypatch.setattr(policies, name, breaks(getattr(policies, name)))
    certificate = certify(RESIDUALS[statement], ORDINARY, 100)
    assert certificate.passed is False
    assert certificate.radius > 1e-3  # disproved by a large residual, and not only undecided


def test_different_supports_are_disproved_and_common_infinities_are_equal(monkeypatch):
    no_mass = ORDINARY._replace(log_pi_0=np.array([-INF, np.log(0.5), np.log(0.5)]))  # both sides of T1 and T2 infinite
    assert all(certify(RESIDUALS[s], no_mass, 50) == (True, pytest.approx(0.0, abs=1e-50)) for s in STATEMENTS)
    monkeypatch.setattr(policies, "mixture", lambda p, _, __: [None, None, *p[2:]])
    assert not certify(RESIDUALS["T1"], ORDINARY, 50).passed
    assert not certify(RESIDUALS["T3"], ORDINARY, 50).passed


def test_values_agree_with_an_independent_computation():
    rng = np.random.default_rng(0)
    for _ in range(30):
        case = draw_case(rng)
        with policies.precision(400):
            x = policies.Exact.of(case)
            bandit = x[1:6]
            pairs = [(policies.kl(x.log_pi_0, x.log_pi_t), reference.kl(case.log_pi_0, case.log_pi_t))]
            exact_j = policies.objective(x.log_pi, *bandit)
            pairs.append((exact_j, reference.objective(*case[:6])))
            best, _ = policies.optimum(*bandit)
            expected = reference.log_normalized(reference.tilted(*case[1:6]))
            pairs += [(b, e) for b, e in zip(best, expected, strict=True) if b is not None]
            log_v = policies.log_weights(*bandit, x.w_clip)
            target, _ = policies.regression_target(x.log_pi_t, log_v)
            expected = reference.log_normalized(reference.weights(*case[1:]))
            pairs += [(t, e) for t, e in zip(target, expected, strict=True) if t is not None]
            for ball, value in pairs:
                if value in (mpmath.inf, -mpmath.inf):
                    assert not ball.is_finite()
                else:
                    assert abs(as_mpf(ball) - value) <= mpmath.mpf(10) ** -30 * (1 + abs(value))


def test_the_global_precision_is_put_back():
    before = flint.ctx.prec
    certify(RESIDUALS["T1"], ORDINARY, 200)
    assert flint.ctx.prec == before
    with pytest.raises(KeyError), policies.precision(999):
        raise KeyError
    assert flint.ctx.prec == before


def test_bad_input_is_refused():
    bits = []
    with pytest.raises(ValueError, match="digits = 0 is below 1"):
        certify(RESIDUALS["T1"], ORDINARY, 0)
    assert certify(RESIDUALS["T1"], ORDINARY, 1).passed
    with pytest.raises(
        ValueError, match=r"undecided at (\d+) bits: a ball around 0 does not shrink below 10\^-100"
    ) as no:
        certify(lambda _: bits.append(flint.ctx.prec) or [flint.arb(0, 1)], ORDINARY)
    assert f"at {bits[-1]} bits" in str(no.value)  # the precision of the last try
    assert bits[-1] <= MAX_BITS < 2 * bits[-1]


NAN, UNKNOWN, ZERO = flint.arb("nan"), flint.arb("0 +/- inf"), flint.arb(0)


@pytest.mark.parametrize(
    "balls",
    [[NAN], [NAN, ZERO], [ZERO, NAN], [ZERO, NAN, ZERO], [UNKNOWN], [ZERO, UNKNOWN], [UNKNOWN, NAN]],
    ids=str,
)
def test_nan_and_an_infinite_radius_are_undecided_wherever_they_stand(balls):
    """Both "contain" 0, and Python's `max` skips a NaN that is not the first."""
    assert all(ball.contains(0) for ball in balls)
    with pytest.raises(ValueError, match="undecided"):
        certify(lambda _: balls, None)


def test_an_empty_list_of_residuals_is_refused():
    with pytest.raises(ValueError, match="the list of residuals is empty and proves nothing; return at least one"):
        certify(lambda _: [], None)


@pytest.mark.parametrize("balls", [[NAN, flint.arb(1)], [flint.arb(1), NAN], [flint.arb("inf")]], ids=str)
def test_a_ball_that_excludes_zero_disproves_whatever_stands_beside_it(balls):
    assert certify(lambda _: balls, None) == (False, INF)


def test_a_nan_that_more_bits_resolve_is_proved():
    """At 461 bits 1 + 2^-1000 is 1 with a radius: less 1 it contains 0, and its logarithm is NaN."""

    def residuals(_):
        tiny = (flint.arb(1) + flint.arb(2) ** -1000) - 1
        return [tiny.log() + 1000 * flint.arb(2).log()]

    with policies.precision(461):
        assert residuals(None)[0].is_nan()
    assert certify(residuals, None, 100).passed


def test_the_bound_is_ten_to_the_digits():
    assert certify(lambda _: [flint.arb(0, 0.0999)], ORDINARY, 1).passed is True
    with pytest.raises(ValueError, match=r"does not shrink below 10\^-1$"):
        certify(lambda _: [flint.arb(0, 0.1001)], ORDINARY, 1)


def test_more_digits_than_can_be_enclosed_are_refused_before_the_work():
    with pytest.raises(ValueError, match="digits = 400000 is above 100000"):
        certify(lambda _: pytest.fail("worked before checking"), None, 400_000)
