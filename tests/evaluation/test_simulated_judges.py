"""Judges whose bias is known: what the raw rate is then, and that the corrected one's interval holds the truth."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tests.evaluation import simulated_judges
from tests.evaluation.simulated_judges import Found, simulate, table

RESULTS = Path(__file__).parents[2] / "docs" / "results" / "simulated-judges"


def check(found):
    for one in found:
        spread = 0.5 / np.sqrt(simulated_judges.PROMPTS * one.simulations)
        assert one.raw == pytest.approx(one.predicted_raw, abs=5 * spread), one
        assert one.corrected == pytest.approx(one.expected, abs=5 * 2 * spread), one
        assert abs(one.predicted_raw - one.expected) > 0.1
        assert one.raw_coverage < 0.2, "a raw rate whose interval holds the truth would need no correction"


def test_a_few_simulations(monkeypatch):
    monkeypatch.setattr(simulated_judges, "RESAMPLES", 400)
    monkeypatch.setattr(simulated_judges, "FITS", 100)
    found = simulate(60, seed=1)
    check(found)
    for one in found:  # few resamples make an interval a little too narrow
        assert stats.binomtest(round(one.simulations * one.coverage), one.simulations, 0.94).pvalue > 1e-3, one


@pytest.mark.slow
def test_the_page_can_be_made_again():
    content = json.loads((RESULTS / "results.json").read_text(encoding="utf-8"))
    for one, shown in zip(simulate(content["simulations"]), content["judges"], strict=True):
        assert one._asdict() == pytest.approx(shown)


def test_the_page_shows_a_thousand_simulations():
    content = json.loads((RESULTS / "results.json").read_text(encoding="utf-8"))
    found = [Found(**judge) for judge in content["judges"]]
    check(found)
    assert min(one.simulations for one in found) >= 1000
    assert all(0.93 <= one.coverage <= 0.97 for one in found)
    assert (RESULTS / "table.md").read_text(encoding="utf-8") == table(found)
