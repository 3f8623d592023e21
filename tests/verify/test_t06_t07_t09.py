"""T6, T7 and T9 in `verify`: they pass, and each fails if one formula is broken, in float64 and in the proofs."""

import numpy as np
import pytest
from flint import arb

from dar_ref import cli, theory
from dar_ref.theory.dual_kl import log_mixture, log_normalize
from dar_ref.verify import run, t06_region, t07_best_policy, t09_trust_regions
from dar_ref.verify.arb import policies, region
from dar_ref.verify.certify import certify
from dar_ref.verify.random_bandits import Case
from dar_ref.verify.statement import LIMIT, relative
from dar_ref.verify.t06_region import Balls, draw_balls
from dar_ref.verify.t07_best_policy import draw_best
from dar_ref.verify.t09_trust_regions import Trust, draw_trust
from tests.verify import test_certify as proofs
from tests.verify import test_run as closed_form
from tests.verify import test_t05_t08_t10_t11 as paths
from tests.verify import test_t12_t15 as budgets
from tests.verify.test_t05_t08_t10_t11 import argument, flipped, swapped

INF = np.inf
STATEMENTS = (*t06_region.STATEMENTS, *t07_best_policy.STATEMENTS, *t09_trust_regions.STATEMENTS)
OURS = {s.id: s for s in STATEMENTS}
LEFT, RIGHT, OTHER = np.log([0.7, 0.2, 0.1]), np.log([0.1, 0.2, 0.7]), np.log([0.3, 0.3, 0.4])
BALLS = Balls(OTHER, LEFT, RIGHT, 0.25, 0.4)
BANDIT = Case(OTHER, np.array([1.0, -0.5, 0.25]), LEFT, RIGHT, alpha=0.25, beta=0.5, w_clip=1.5)
HALVES = (np.log([0.5, 0.5]), np.log([0.3, 0.7]))
BOX = Trust(BANDIT, "ppo_box", 0.3, HALVES, (0.2, 0.3))
FORWARD = Trust(BANDIT, "forward_kl", 0.4, HALVES, (0.2, 0.3))
WITNESS = {"T6": BALLS, "T7": BANDIT, "T9": BOX, "T9 forward": FORWARD}


def test_every_statement_stands_in_verify():
    assert all(run.STATEMENTS[key] == statement for key, statement in OURS.items())


def test_each_statement_is_shown_able_to_fail_in_float64_and_in_the_proofs():
    broken = closed_form.BREAKS | paths.BREAKS | budgets.BREAKS | BREAKS
    assert {key for key, *_ in broken.values()} == set(run.STATEMENTS)
    disproved = proofs.BREAKS | paths.CERTIFICATES | budgets.PROOFS | CERTIFICATES
    assert {key.split()[0] for key, *_ in disproved.values()} == set(run.STATEMENTS)


def shifted(field, by):
    """Break a result by adding to one of its fields."""

    def breaks(real):
        def broken(*args, **kwargs):
            result = real(*args, **kwargs)
            return result._replace(**{field: getattr(result, field) + by})

        return broken

    return breaks


def half_way(field):
    """Break a result by moving its alpha half way to 1/2."""
    return lambda real: lambda *args: (lambda r: r._replace(**{field: 0.5 * getattr(r, field) + 0.25}))(real(*args))


def exchanged(one, other):
    """Break a function by exchanging two of its positional arguments."""

    def breaks(real):
        def broken(*args, **kwargs):
            args = list(args)
            args[one], args[other] = args[other], args[one]
            return real(*args, **kwargs)

        return broken

    return breaks


def always_nonempty(real):
    return lambda *args: real(*args)._replace(nonempty=np.array(True))


def other_form(real):
    forms = {"ppo_box": "forward_kl", "forward_kl": "ppo_box"}
    return lambda *args, stability: real(*args, stability=forms[stability])


ALMOST = 1.0 + 1e-13  # a relative error too small to see


def touching(advantage, log_pi_0, log_pi_t, eps_0, eps_t):
    """A solver that never looks at A: the answer for balls that touch, at the alpha of the certificate."""
    alpha = float(theory.feasible(log_pi_0, log_pi_t, eps_0, eps_t).alpha)
    kept, log_pi = (log_pi_0 > -INF) & (log_pi_t > -INF), np.full(len(advantage), -INF)
    log_pi[kept] = log_normalize(log_mixture(log_pi_0[kept], log_pi_t[kept], alpha))[0]
    return theory.ConstrainedOptimum(log_pi, alpha, INF, float(np.exp(log_pi) @ advantage))


BREAKS = {
    "T6 radii exchanged": ("T6", "feasible", exchanged(2, 3)),
    "T6 anchors exchanged": ("T6", "feasible", exchanged(0, 1)),
    "T6 margin off by 1e-11": ("T6", "feasible", shifted("margin", 1e-11)),
    "T6 never empty": ("T6", "feasible", always_nonempty),
    "T6 alpha not lowest": ("T6", "feasible", half_way("alpha")),
    "T6 radius squared": ("T6", "feasible", argument(2, lambda eps: eps * eps)),
    "T6 Chernoff off by 1e-11": ("T6", "chernoff", shifted("information", 1e-11)),
    "T6 alpha of Chernoff": ("T6", "chernoff", half_way("alpha")),
    "T7 sign of A": ("T7", "constrained_optimum", argument(0, flipped)),
    "T7 radii exchanged": ("T7", "constrained_optimum", exchanged(3, 4)),
    "T7 anchors exchanged": ("T7", "constrained_optimum", exchanged(1, 2)),
    "T7 radius larger": ("T7", "constrained_optimum", argument(3, lambda eps: eps * 1.01)),
    "T7 radius off by 1e-13": ("T7", "constrained_optimum", argument(4, lambda eps: eps * ALMOST)),
    "T7 alpha swapped": (
        "T7",
        "constrained_optimum",
        lambda real: lambda *args: (lambda r: r._replace(alpha=1.0 - r.alpha))(real(*args)),
    ),
    "T7 tau in the place of beta": (
        "T7",
        "constrained_optimum",
        lambda real: lambda *args: (lambda r: r._replace(beta=1.0 / r.beta if r.beta else r.beta))(real(*args)),
    ),
    "T7 always the policy where the balls would touch": ("T7", "constrained_optimum", lambda _: touching),
    "T7 value off by 1e-8": ("T7", "constrained_optimum", shifted("value", 1e-8)),
    "T9 anchors exchanged": ("T9", "closest", exchanged(0, 1)),
    "T9 other region": ("T9", "closest", other_form),
    "T9 divergence off by 1e-11": ("T9", "closest", shifted("divergence", 1e-11)),
    "T9 wider": ("T9", "closest", argument(2, lambda eps: eps * 1.01)),
    "T9 sign of A": ("T9", "best_reward", argument(0, flipped)),
    "T9 anchor's radius": ("T9", "best_reward", argument(3, lambda eps: eps * 1.01)),
    "T9 region's radius": ("T9", "best_reward", argument(4, lambda eps: eps * 1.01)),
    "T9 never empty": (
        "T9",
        "best_reward",
        lambda real: lambda *a, **k: (lambda r: r._replace(value=np.nan_to_num(r.value)))(real(*a, **k)),
    ),
    "T9 nothing left": (
        "T9",
        "best_reward",
        lambda _: lambda *args, **_: theory.BestReward(np.full(len(args[0]), np.nan), np.nan),
    ),
    "T9 length off by 1e-14": ("T9", "region_volume", shifted("fraction", 1e-14)),
    "T9 length of another region": ("T9", "region_volume", other_form),
}


def draw_box(rng):
    case = draw_trust(rng)
    return case if case.stability == "ppo_box" else BOX


@pytest.mark.parametrize("what", BREAKS)
def test_a_broken_float64_formula_fails_its_row(what, monkeypatch, capsys):
    key, name, breaks = BREAKS[what]
    monkeypatch.setattr(run, "STATEMENTS", {key: OURS[key]._replace(every=1, residuals=lambda _: [])})
    if key == "T9":  # the forward ball takes 50 ms per case and has its own test
        monkeypatch.setitem(run.STATEMENTS, key, run.STATEMENTS[key]._replace(draw=draw_box))
    monkeypatch.setattr(theory, name, breaks(getattr(theory, name)))
    assert cli.main(["verify", "--cases", "25", "--digits", "20"]) == 1
    assert f"{key} FAIL: case " in capsys.readouterr().out


def test_the_forward_ball_alone_can_fail(monkeypatch):
    monkeypatch.setattr(theory, "closest", argument(2, lambda eps: eps * (1.0 + 1e-12))(theory.closest))
    monkeypatch.setattr(theory, "best_reward", argument(4, lambda eps: eps * (1.0 + 1e-12))(theory.best_reward))
    errors = OURS["T9"].errors(FORWARD)
    assert [relative(error) > LIMIT for error in errors] == [False, True, True, True, True, True, False]


def test_the_ball_of_pi_0_beside_a_forward_ball_can_fail(monkeypatch):
    monkeypatch.setattr(theory, "best_reward", argument(3, lambda eps: eps * (1.0 + 1e-12))(theory.best_reward))
    assert relative(OURS["T9"].errors(FORWARD)[-1]) > LIMIT


def sliding(real):
    """Break the lowest alpha, its value and its policy."""

    def broken(x):
        alpha = real(x).alpha / 2
        log_ref, margin = region.ball(x, alpha)
        return region.Meeting(alpha, margin, log_ref)

    return broken


def without_log_c(real):
    def broken(x, alpha):
        log_ref, _ = real(x, alpha)
        return log_ref, alpha * x.eps_0 + (1 - alpha) * x.eps_t

    return broken


def twice_the_slope(real):
    def broken(*args):
        nearest = real(*args)
        if isinstance(nearest, region.Nearest):
            return nearest._replace(slope=[2 * s for s in nearest.slope])
        return nearest[0]._replace(slope=[2 * s for s in nearest[0].slope]), nearest[1]

    return broken


def not_normalised(real):
    def broken(log_base, log_q, eps):
        return real(log_base, log_q, eps)._replace(log_pi=[q + b / 10 for q, b in zip(log_q, log_base, strict=True)])

    return broken


def at_the_base(_):
    return lambda _, x: [x.log_base[arm] for arm in x.arms]


CERTIFICATES = {
    "T6 not the lowest alpha": ("T6", region, "meeting", sliding),
    "T6 log C dropped": ("T6", region, "ball", without_log_c),
    "T6 KL turned round": ("T6", policies, "kl", lambda real: lambda p, q: real(q, p)),
    "T6 alpha swapped": ("T6", policies, "mixture", argument(2, swapped)),
    "T7 log C dropped": ("T7", region, "ball", without_log_c),
    "T7 KL turned round": ("T7", policies, "kl", lambda real: lambda p, q: real(q, p)),
    "T7 alpha swapped": ("T7", policies, "optimum", argument(3, swapped)),
    "T7 sign of A": ("T7", policies, "optimum", argument(0, lambda adv: [-a for a in adv])),
    "T7 beta doubled": ("T7", policies, "optimum", argument(4, lambda beta: 2 * beta)),
    "T7 dual too low": ("T7", t07_best_policy, "_dual", lambda real: lambda *args: real(*args) - arb(1) / 1000),
    "T9 KL turned round": ("T9", policies, "kl", lambda real: lambda p, q: real(q, p)),
    "T9 slope": ("T9", region, "into_box", twice_the_slope),
    "T9 not nearest": ("T9", region, "into_box", not_normalised),
    "T9 sign of A": ("T9", t09_trust_regions, "expected_advantage", argument(1, lambda adv: [-a for a in adv])),
    "T9 competitor outside": ("T9", t09_trust_regions, "_competitor", at_the_base),
    "T9 forward KL turned round": ("T9 forward", policies, "kl", lambda real: lambda p, q: real(q, p)),
    "T9 forward slope": ("T9 forward", region, "from_forward_ball", twice_the_slope),
    "T9 forward competitor outside": ("T9 forward", t09_trust_regions, "_competitor", at_the_base),
}


@pytest.mark.parametrize("what", CERTIFICATES)
def test_a_broken_formula_is_disproved(what, monkeypatch):
    key, module, name, breaks = CERTIFICATES[what]
    monkeypatch.setattr(module, name, breaks(getattr(module, name)))
    certificate = certify(OURS[key[:2]].residuals, WITNESS[key], 50)
    assert not certificate.passed
    assert certificate.radius > 1e-4  # disproved by a large residual, and not only undecided


EDGE = np.array([-INF, np.log(0.5), np.log(0.5)])
BORDER = np.array([0.0, -INF, -INF])
SPECIAL = {
    "apart": Balls(OTHER, BORDER, EDGE, 1.0, 2.0),
    "apart, equal radii": Balls(OTHER, BORDER, EDGE, 1.0, 1.0),
    "identical": Balls(OTHER, LEFT, LEFT, 0.5, 0.5),
    "identical, one radius 0": Balls(OTHER, LEFT, LEFT, 0.0, 0.5),
    "points": Balls(OTHER, LEFT, RIGHT, 0.0, 0.0),
    "at the end of alpha 1": Balls(OTHER, LEFT, RIGHT, 0.01, 5.0),
    "at the end of alpha 0": Balls(OTHER, LEFT, RIGHT, 5.0, 0.01),
    "unequal supports": Balls(BORDER, EDGE, LEFT, 0.1, 0.3),
    "one arm": Balls(np.zeros(1), np.zeros(1), np.zeros(1), 0.0, 0.3),
    "log C of -280 at alpha 0.27": Balls(
        np.full(7, -np.log(7.0)),
        np.array([-1378.44474082, 0.0, -111.7396663, -1262.45350081, -1448.98473701, -1619.65966369, -1115.14690313]),
        np.array([-185.32464631, -387.41216963, -381.36528509, -326.25281216, -147.10217084, -234.99123875, 0.0]),
        0.0,
        387.4121695035079,
    ),
    "flat as far as exp(-551)": Balls(
        np.log([0.5, 0.5]), np.array([-550.8698565, 0.0]), np.array([0.0, -162.71359974]), 0.0, 162.71359974
    ),
}


@pytest.mark.parametrize("what", SPECIAL)
def test_special_cases_of_t6(what):
    statement = OURS["T6"]
    assert certify(statement.residuals, SPECIAL[what], 100).passed
    assert max(relative(error) for error in statement.errors(SPECIAL[what])) <= LIMIT


def test_no_common_arm_answered_otherwise_fails(monkeypatch):
    monkeypatch.setattr(theory, "feasible", shifted("alpha", 0.25)(theory.feasible))
    assert max(relative(error) for error in OURS["T6"].errors(SPECIAL["apart"])) == INF


@pytest.mark.parametrize(
    "change",
    [
        {"alpha": 0.0},
        {"alpha": 1.0},
        {"beta": 1e-6},  # the best arm lies in the region
        {"beta": 1e6, "advantage": np.array([1e-6, 0.0, -1e-6])},  # the balls touch
        {"advantage": np.ones(3)},
        {"log_pi_0": EDGE, "log_pi": BORDER},
        # only the ball around pi_0 binds, the other almost does: rounding decides
        {
            "advantage": np.array([-4.32252446e-04, -1.67319388e-04, 0.0]),
            "log_pi_0": np.log([0.13, 0.13, 0.74]),
            "log_pi_t": np.array([0.0, -599.83442202, -INF]),
            "alpha": 1.0,
            "beta": 0.1,
            "w_clip": 1e-6,
        },
    ],
)
def test_special_cases_of_t7(change):
    case = BANDIT._replace(**change)
    assert certify(OURS["T7"].residuals, case, 100).passed
    assert max(relative(error) for error in OURS["T7"].errors(case)) <= LIMIT


def test_mass_outside_the_common_support_fails(monkeypatch):
    real = theory.constrained_optimum
    monkeypatch.setattr(theory, "constrained_optimum", lambda *args: real(*args)._replace(log_pi=OTHER))
    errors = OURS["T7"].errors(BANDIT._replace(log_pi_0=EDGE))
    assert relative(errors[0]) == INF


@pytest.mark.parametrize(
    "case",
    [
        BOX._replace(bandit=BANDIT._replace(log_pi_0=EDGE)),  # the box keeps mass on an arm that pi_0 lacks: none
        BOX._replace(bandit=BANDIT._replace(log_pi_0=EDGE), size=1.5),
        BOX._replace(bandit=BANDIT._replace(log_pi_0=EDGE, log_pi_t=np.log([0.9, 0.05, 0.05])), size=1.5),  # none
        BOX._replace(bandit=BANDIT._replace(log_pi=BORDER, log_pi_0=EDGE, log_pi_t=EDGE)),
        BOX._replace(bandit=BANDIT._replace(log_pi=BORDER)),
        FORWARD._replace(bandit=BANDIT._replace(log_pi_t=EDGE)),
        FORWARD._replace(size=0.0),
        # the forward ball of radius 2e-7 and the ball around pi_0 end at one policy: an ulp moves KL(pi‖pi_0) by 1e-13
        Trust(
            BANDIT._replace(
                log_pi=HALVES[0],
                advantage=np.array([3.46e-5, -1.95e-3]),
                log_pi_0=np.array([-0.6927705704855309, -0.6935239325229463]),
                log_pi_t=np.array([-0.6933775538203575, -0.6929168603591489]),
                beta=6.35e-4,
            ),
            "forward_kl",
            0.00214,
            HALVES,
            (0.2, 0.3),
        ),
        # the ball around pi_0 = (exp(-89), 1) touches a forward ball of radius 4e-7: an ulp moves KL(pi‖pi_0) by 2e-13
        Trust(
            BANDIT._replace(
                log_pi=np.array([-605.7330455054731, 0.0]),
                advantage=np.array([1501.3403484673834, -3927.3115068426473]),
                log_pi_0=np.array([-0.6926395115227928, -0.6936551074558616]),
                log_pi_t=np.array([-0.6917527827813567, -0.6945435253989914]),
                beta=60.92242990034806,
            ),
            "forward_kl",
            0.0014981886608297877,
            HALVES,
            (0.2, 0.3),
        ),
        # every tilt up to the largest has the same best policy: KL(pi‖pi_0) has the error of the largest tilt
        Trust(
            BANDIT._replace(
                log_pi=np.array([0.0, -INF]),
                advantage=np.array([-6.1099964211526898e-05, 2.2673141300285184e-05]),
                log_pi_0=np.array([-2.0611536900435727e-09, -20.000000002061153]),
                log_pi_t=np.array([0.0, -INF]),
                beta=175549.98226988735,
            ),
            "forward_kl",
            1.6114107692769524,
            HALVES,
            (0.2, 0.3),
        ),
    ],
)
def test_special_cases_of_t9(case):
    assert certify(OURS["T9"].residuals, case, 100).passed
    assert max(relative(error) for error in OURS["T9"].errors(case)) <= LIMIT


NOT_EMPTY = [
    BOX,
    BOX._replace(size=1.5),
    BOX._replace(bandit=BANDIT._replace(log_pi_0=EDGE), size=1.5),
]


@pytest.mark.parametrize("case", NOT_EMPTY)
def test_a_box_called_empty_that_is_not_is_disproved(case, monkeypatch):
    """The competitor is `pi_t` given supp pi_0: inside in the first two, and in the third off by less than 1.5."""
    inside = np.where(case.bandit.log_pi_0 > -INF, case.bandit.log_pi_t, -INF)
    case = case._replace(bandit=case.bandit._replace(log_pi=inside))
    monkeypatch.setattr(t09_trust_regions, "_inside", lambda _: None)
    certificate = certify(OURS["T9"].residuals, case, 50)
    assert not certificate.passed
    assert certificate.radius > 1e-4


def test_no_drawn_case_of_any_statement_is_without_a_residual():
    for statement in STATEMENTS:
        for number in range(60):
            with policies.precision(461):
                assert statement.residuals(statement.draw(np.random.default_rng([2, number])))


def test_a_zero_is_enclosed():
    """cosh-like slopes, and a slope so flat that only a wide interval has provable signs."""
    with policies.precision(200):
        root = region.enclosed_root(lambda y: (y * y - 2, 2 * y), arb(0), arb(4))
        assert (root - arb(2).sqrt()).contains(0)
        assert root.rad() < 1e-50
        flat = region.enclosed_root(lambda y: ((y - 1) ** 3 + arb(0, 1e-55), 3 * (y - 1) ** 2), arb(0), arb(3))
        assert flat.contains(1)
        assert 1e-20 < flat.rad() < 1e-10
        nowhere = region.enclosed_root(lambda _: (arb(0, 1), arb(1)), arb(0), arb(3))
        assert nowhere.contains(0)
        assert nowhere.contains(3)


def test_intervals_by_hand():
    """Forward ball of two equal arms: -log(2 sqrt(x(1-x))) = e; KL((x, 1-x)‖1/2) <= log 2 holds for every policy."""
    half = [arb("-0.693147180559945309417232121458")] * 2
    low, high = region.first_arm_bounds(half, arb(0.3), "forward_kl")
    reach = 0.5 * np.sqrt(1.0 - np.exp(-0.6))
    assert (float(low), float(high)) == pytest.approx((0.5 - reach, 0.5 + reach), abs=1e-15)
    assert region.first_arm_bounds(half, arb(0.7), "kl") == (0, 1)
    low, high = region.first_arm_bounds([arb(0.2).log(), arb(0.8).log()], arb(0.5), "ppo_box")
    assert (float(low), float(high)) == pytest.approx((0.1, 0.3), abs=1e-15)


def test_draws_cover_the_domain():
    rngs = [np.random.default_rng([1, i]) for i in range(300)]
    balls = [draw_balls(rng) for rng in rngs]
    margins = [float(theory.feasible(*case[1:]).margin) for case in balls]
    assert 0.1 < np.mean([margin < 0.0 for margin in margins]) < 0.9
    assert sum(abs(margin) < 1e-9 for margin in margins) > 20
    assert -INF in margins
    alphas = [float(theory.feasible(*case[1:]).alpha) for case in balls]
    assert {0.0, 1.0} < set(alphas)
    assert np.mean([0.0 < alpha < 1.0 for alpha in alphas]) > 0.2
    assert sum(case.eps_0 == case.eps_t for case in balls) > 50
    best = [draw_best(rng) for rng in rngs]
    assert {0.0, 1.0} < {case.alpha for case in best}
    trusts = [draw_trust(rng) for rng in rngs]
    assert 0.3 < np.mean([case.stability == "ppo_box" for case in trusts]) < 0.7
    assert 0.0 in {case.size for case in trusts if case.stability == "forward_kl"}
