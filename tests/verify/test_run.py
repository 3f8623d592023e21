"""`verify` passes on the theory, and fails if any of its formulas is broken."""

import inspect
import json
import math

import numpy as np
import pytest
from flint import arb

from dar_ref import cli, theory
from dar_ref.verify import run
from dar_ref.verify.random_bandits import Case, draw_case
from dar_ref.verify.statement import LIMIT, Error

HALVES = np.log([0.5, 0.5])


def test_all_statements_pass():
    rows = run.verify(seed=7, cases=60, digits=150)
    assert [row.id for row in rows] == list(run.STATEMENTS)
    for row in rows:
        assert row.passed, row.failure
        assert row.cases == math.ceil(60 / run.STATEMENTS[row.id].every)
        assert 0.0 < row.worst <= LIMIT
        assert 0.0 < row.bound < 1e-150
        assert row.failure is None


def without_log_c(real):
    return lambda *args: theory.Interpolation(real(*args).log_pi_ref, np.zeros(()))


def with_alpha_swapped(real, position):
    def broken(*args):
        args = list(args)
        args[position] = 1.0 - args[position]
        return real(*args)

    return broken


def with_sign_of_advantage_flipped(real, position):
    def broken(*args):
        args = list(args)
        args[position] = -args[position]
        return real(*args)

    return broken


def nan_in_last_arm(log_pi):
    log_pi[..., -1] = np.nan
    return log_pi


BREAKS = {
    "T1 log C dropped": ("T1", "interpolate", without_log_c),
    "T1 alpha swapped": ("T1", "interpolate", lambda real: with_alpha_swapped(real, 2)),
    "T1 alpha swapped in the dual KL": ("T1", "dual_kl", lambda real: with_alpha_swapped(real, 3)),
    "T1 KL turned round": ("T1", "kl", lambda real: lambda p, q: real(q, p)),
    "T2 sign of A": ("T2", "optimum", lambda real: with_sign_of_advantage_flipped(real, 0)),
    "T2 alpha swapped": ("T2", "optimum", lambda real: with_alpha_swapped(real, 3)),
    "T2 sign of A in J": ("T2", "objective", lambda real: with_sign_of_advantage_flipped(real, 1)),
    "T2 gap turned round": ("T2", "kl", lambda real: lambda p, q: real(q, p)),
    "T3 sign of A": ("T3", "regression_target", lambda real: with_sign_of_advantage_flipped(real, 0)),
    "T3 alpha swapped": ("T3", "regression_target", lambda real: with_alpha_swapped(real, 3)),
    "T3 NaN in the last arm": ("T3", "regression_target", lambda real: lambda *args: nan_in_last_arm(real(*args))),
    "T3 clipped": ("T3", "regression_target", lambda real: lambda *args: real(*args[:5], 1.0)),
    "T4 not clipped": ("T4", "regression_target", lambda real: lambda *args: real(*args[:5], None)),
    "T4 mass not clipped": ("T4", "regression_weights", lambda real: lambda *args: real(*args[:5], None)),
    "T4 loss not clipped": ("T4", "regression_loss", lambda real: lambda *args: real(*args[:6], None)),
}


@pytest.mark.parametrize("what", BREAKS)
def test_a_broken_float64_formula_fails_its_row(what, monkeypatch, capsys):
    statement, name, breaks = BREAKS[what]
    monkeypatch.setattr(theory, name, breaks(getattr(theory, name)))
    assert cli.main(["verify", "--cases", "30", "--digits", "20"]) == 1
    printed = capsys.readouterr().out
    assert f"{statement} FAIL: case " in printed


@pytest.mark.parametrize("statement", list(run.STATEMENTS))
def test_a_broken_certificate_fails_its_row(statement, monkeypatch, capsys):
    broken = run.STATEMENTS[statement]._replace(residuals=lambda _: [arb("1e-90")])
    monkeypatch.setitem(run.STATEMENTS, statement, broken)
    assert cli.main(["verify", "--cases", "2"]) == 1
    assert f"{statement} FAIL: case 0 of seed 0: disproved: a residual of 1e-90 excludes 0" in capsys.readouterr().out


def test_nan_and_errors_of_a_formula_fail_and_do_not_stop_the_run(monkeypatch):
    monkeypatch.setattr(theory, "kl", lambda *_: np.float64(np.nan))
    rows = {row.id: row for row in run.verify(cases=3, digits=10)}
    assert not rows["T1"].passed
    assert rows["T1"].worst == np.inf
    assert rows["T4"].passed
    monkeypatch.undo()

    def raises(*args):
        raise ValueError(f"{len(args)} arguments")

    monkeypatch.setattr(theory, "optimum", raises)
    rows = {row.id: row for row in run.verify(cases=3, digits=10)}
    assert rows["T2"].failure == "case 0 of seed 0: ValueError: 5 arguments"
    assert rows["T3"].passed


def test_an_error_at_the_limit_passes_and_one_above_it_fails(monkeypatch):
    for error, passed in ((LIMIT, True), (np.nextafter(LIMIT, 1.0), False)):
        errors = {"errors": lambda _, error=error: [Error(error, 1.0)], "residuals": lambda _: [arb(0)]}
        monkeypatch.setattr(run, "STATEMENTS", {"T1": run.STATEMENTS["T1"]._replace(**errors)})
        assert [(row.passed, row.worst) for row in run.verify(cases=1)] == [(passed, error)]


@pytest.mark.parametrize("furthest", [0, 1, 2])
def test_errors_are_measured_by_the_stated_scales(furthest):
    """By hand: 5 nats in one of the three policies, 1 in the others, |A|/beta = 4, |log w_clip| = 1.5."""
    nats = np.where(np.arange(3) == furthest, -5.0, -1.0)
    log_pi, log_pi_0, log_pi_t = (np.array([x, np.log1p(-np.exp(x))]) for x in nats)
    case = Case(log_pi, np.array([1.0, -2.0]), log_pi_0, log_pi_t, alpha=0.25, beta=0.5, w_clip=float(np.exp(-1.5)))
    own = -nats[0]  # the largest |log pi|
    stated = {"T1": [5.0] * 4, "T2": [9.0] + [4.5] * 4, "T3": [9.0, 9.0, 9.0 * own], "T4": [10.5, 10.5, 10.5 * own]}
    for key, scales in stated.items():
        assert [error.scale for error in run.STATEMENTS[key].errors(case)] == pytest.approx(scales, rel=1e-12)


def test_the_function_and_the_command_have_the_same_defaults():
    defaults = {name: p.default for name, p in inspect.signature(run.verify).parameters.items()}
    assert defaults.pop("progress") is iter
    arguments = vars(cli.build_parser().parse_args(["verify"]))
    assert {name: arguments[name] for name in defaults} == defaults == {"seed": 0, "cases": 1000, "digits": 100}


def test_json_report(tmp_path, capsys):
    path = tmp_path / "new" / "report.json"
    assert cli.main(["verify", "--cases", "5", "--digits", "30", "--seed", "3", "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    assert report["passed"] is True
    assert report["run"]["command"] == "dar-ref verify --seed 3 --cases 5 --digits 30"
    assert report["run"]["packages"]["numpy"] == np.__version__
    assert [s["id"] for s in report["statements"]] == list(run.STATEMENTS)
    for row in report["statements"]:
        assert row["cases"] == math.ceil(5 / run.STATEMENTS[row["id"]].every)
        assert row["worst"] <= LIMIT
        assert row["bound"] < 1e-30
        assert row["passed"] is True
    assert "PASS" in capsys.readouterr().out


def test_json_report_of_a_failure_is_valid_json(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(theory, "kl", lambda *_: np.float64(np.nan))
    path = tmp_path / "report.json"
    assert cli.main(["verify", "--cases", "2", "--digits", "5", "--json", str(path)]) == 1
    report = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert report["passed"] is False
    first = report["statements"][0]
    assert first["worst"] == "inf"
    assert first["failure"].startswith("case 0 of seed 0: float64 error is inf of the scale")
    assert first["claim"] == run.STATEMENTS["T1"].claim
    assert "FAIL" in capsys.readouterr().out


def test_an_error_in_a_formula_is_infinite_in_the_report(monkeypatch):
    def raises(*_):
        raise ValueError("out of its domain")

    monkeypatch.setattr(theory, "interpolate", raises)
    row = run.rows_as_json(run.verify(cases=1, digits=1))["statements"][0]
    assert row["worst"] == row["bound"] == "inf"
    assert row["failure"] == "case 0 of seed 0: ValueError: out of its domain"


def test_same_seed_same_rows_other_seed_other_rows():
    one, again, other = (run.verify(seed=s, cases=5, digits=10) for s in (1, 1, 2))
    assert one == again
    assert one != other


@pytest.mark.parametrize("arguments", [["--cases", "0"], ["--digits", "0"], ["--seed", "-1"]])
def test_bad_arguments_exit_with_two(arguments, capsys):
    assert cli.main(["verify", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("dar-ref verify: ")
    assert f"{arguments[0].removeprefix('--')} = {arguments[1]}" in error


def test_an_unwritable_report_is_refused_before_the_work(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "verify", lambda *args: pytest.fail(f"worked before checking: {args}"))
    assert cli.main(["verify", "--json", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_random_cases_cover_the_domain():
    """The draw covers the domain of the claims: one arm, zero probabilities, alpha 0 and 1, a clip that may bind."""
    cases = [draw_case(np.random.default_rng([0, i])) for i in range(400)]
    assert {len(c.advantage) for c in cases} == set(range(1, 9))
    assert {0.0, 1.0} < {c.alpha for c in cases}
    assert min(c.beta for c in cases) < 1e-5
    assert max(c.beta for c in cases) > 1e5
    assert any((c.log_pi_0 == -np.inf).any() for c in cases)
    assert any((c.log_pi_t == -np.inf).any() for c in cases)
    assert max(-c.log_pi[c.log_pi > -np.inf].min() for c in cases) > 1000.0
    assert any(theory.dual_kl(c.log_pi, c.log_pi_0, c.log_pi_t, c.alpha) == np.inf for c in cases)
    binds = [theory.regression_weights(*c[1:6]).log_weight.max() > np.log(c.w_clip) for c in cases]
    assert 0.2 < np.mean(binds) < 0.8
    assert any((c.advantage == c.advantage[0]).all() and len(c.advantage) > 1 for c in cases)
