"""Tables of the pages are what the committed result files say, by the code that writes them."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from dar_ref.evaluation import markdown
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


@pytest.mark.parametrize("name", list(tables.TABLES))
def test_tables_of_an_experiment_are_those_of_its_results(name):
    written = content(name)
    assert table(name).endswith("\n".join(markdown(made) for made in tables.TABLES[name](written)))
    assert table(name).startswith(f"{written['question']}\n")


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
