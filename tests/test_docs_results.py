"""The tables of the pages equal what the code makes of the committed result files."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2

from dar_ref import theory
from dar_ref.evaluation import markdown
from dar_ref.llm.real import report
from dar_ref.toy.experiments import tables

DOCS = Path(__file__).parent.parent / "docs"


def script(name):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def content(name):
    return json.loads((DOCS / "results" / name / "results.json").read_text(encoding="utf-8"))


def table(name):
    return (DOCS / "results" / name / "table.md").read_text(encoding="utf-8")


NOT_RUN_YET = {"budgets", "direct", "direct-gold", "quality", "samples"}  # they take hours


def test_an_experiment_has_results_or_is_said_to_have_none():
    assert {name for name in tables.TABLES if not (DOCS / "results" / name).exists()} == NOT_RUN_YET


@pytest.mark.parametrize("name", sorted(set(tables.TABLES) - NOT_RUN_YET))
def test_tables_of_an_experiment_are_those_of_its_results(name):
    written = content(name)
    assert table(name).endswith("\n".join(markdown(made) for made in tables.TABLES[name](written)))
    assert table(name).startswith(f"{written['question']}\n")


def test_the_page_of_the_real_model_is_made_of_its_results():
    assert table("real-model") == report.tables(content("real-model"))
    shown = re.findall(r"\]\((real-model/[\w-]+\.png)\)", table("real-model"))
    assert len(shown) == 2 * len(content("real-model")["pi_0"])
    assert all((DOCS / "results" / picture).is_file() for picture in shown)


def test_the_claims_are_judged_by_the_results():
    assert table("claims") == script("claims").table()


def test_a_verdict_follows_the_numbers(monkeypatch):
    claims = script("claims")
    paper = claims.settings("compare")
    for (_, method), row in paper.items():
        for run in row["runs"]:
            run["final"]["win_rate"] += 0.3 * (method == "dar")
    monkeypatch.setattr(claims, "settings", lambda _name: paper)
    assert claims.lead()[0] == "shows"


def with_course(rows, asked):
    """Runs on every task that reach 0.6 at the asked-for count of rewards, in steps of 100, after 900 labels."""
    for (_, method), row in rows.items():
        for run in row["runs"]:
            counts = range(0, 1100, 100)
            run["evaluations"] = [
                {"annotations": 900 + n * (method != "dpo") if n else 0, "win_rate": 0.6 if n >= asked[method] else 0.5}
                for n in counts
            ]
            run["final"] = run["evaluations"][-1]
    return rows


@pytest.mark.parametrize(
    ("dar", "online_dpo", "verdict"), [(200, 800, "shows"), (800, 800, "does not"), (100, 100, "not testable here")]
)
def test_half_the_annotations_can_come_out_either_way(dar, online_dpo, verdict, monkeypatch):
    """What is asked online decides; with the labels counted too, 200 against 800 would be 1,100 against 1,700."""
    claims = script("claims")
    rows = with_course(claims.settings("efficiency"), {"dar": dar, "online_dpo": online_dpo, "grpo": 100, "dpo": 100})
    monkeypatch.setattr(claims, "settings", lambda _name: rows)
    assert claims.half_the_annotations()[0] == verdict


def test_the_runs_about_a_missing_eos_are_shown_as_they_were():
    assert table("missing-eos") == script("missing_eos").table(content("missing-eos"))


def test_the_caption_of_the_home_picture_names_its_settings():
    figures, home = script("figures"), (DOCS / "index.md").read_text(encoding="utf-8")
    pi_0 = r",\,".join(f"{probability:.2f}" for probability in np.exp(figures.LOG_PI_0))
    reward = r",\,".join(f"{value:g}" for value in figures.REWARD)
    tilts = r",\ ".join(map(str, figures.TILTS))
    assert rf"\(\pi_0=({pi_0})\), \(A=({reward})\)" in home
    assert (
        rf"at \(\tau={tilts}\), both radii {figures.EPS}, \(\alpha={figures.ALPHA:g}\), \(\beta={figures.BETA:g}\)"
        in home
    )


@pytest.mark.parametrize("name", ["t12", "t13", "t14", "t15"])
def test_tables_of_a_statement_are_those_of_its_results(name):
    assert table(name) == script("dials").PARTS[name].table(content(name))


def test_the_exact_tables_of_the_statements_come_out_again():
    for name in ("t13", "t14"):
        part = script("dials").PARTS[name]
        assert part.table(part.measure()) == table(name)


def test_shares_of_tokens_are_those_of_their_counted_sequences():
    for row in content("t13")["rows"]:
        assert row["enumerated"] == pytest.approx(row["share"], rel=1e-9)


def test_the_realised_kl_of_normal_rewards_follows_its_law():
    """K/chi2(K-1) for small budgets: a simulation of 2,000 draws, so the upper five percent are known to about 7 %."""
    rows = [r for r in content("t12")["sampled"] if r["rewards"] == "normal" and r["budget"] == 0.01]
    for row in rows:
        law = row["samples"] / chi2.ppf([0.95, 0.5, 0.05], row["samples"] - 1)
        assert [row["p5"], row["p50"], row["p95"]] == pytest.approx(law, rel=0.1)


def test_the_samples_that_t15_asks_for_are_its_limit():
    dials = script("dials")
    for row in content("t15")["rows"]:
        bandit = (dials.NORMAL_16, dials.EVEN_16, dials.EVEN_16, 0.1, row["beta"], row["clip"])
        assert row["limit"] == pytest.approx(float(theory.fit_error(*bandit)), rel=1e-12)
        assert row["samples"] == pytest.approx(row["limit"] / (2.0 * dials.CLOSE), rel=1e-12)
    for beta, ratios in content("t15")["simulated"].items():
        (limit,) = [r["limit"] for r in content("t15")["rows"] if r["clip"] and str(r["beta"]) == beta]
        assert ratios[-1] == pytest.approx(limit, rel=0.03)
