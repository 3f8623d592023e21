"""The verdict on a run's log: held to the toy runs, whose gold judge says whether the policy got better."""

import json
from pathlib import Path

import pytest

from dar_ref.evaluation import hacking_verdict

RESULTS = Path(__file__).parents[2] / "docs" / "results"
NAMES = ("proxy", "proxy_std", "gold", "gold_std", "kl", "length", "missing_eos", "repetition")
LOG = {"proxy": [0.0, 3.0], "proxy_std": [1.0, 2.0]}


def toy_runs(*experiments):
    """The series of every toy run, and whether the gold judge prefers it to pi_0 at the end."""
    for experiment in experiments:
        content = json.loads((RESULTS / experiment / "results.json").read_text(encoding="utf-8"))
        for setting in content["settings"]:
            for run in setting["runs"]:
                rows = run["evaluations"]
                if len(rows) > 1 and run["diverged"] is None:
                    yield {name: [row[name] for row in rows] for name in NAMES}, rows[-1]["win_rate"] > 0.5


def without_gold(series):
    return {name: values for name, values in series.items() if not name.startswith("gold")}


def test_the_hacked_runs_are_found_and_the_others_are_not():
    better = {True: set(), False: set()}
    for series, wins in toy_runs("hacking"):
        better[wins].add((hacking_verdict(series).verdict, hacking_verdict(without_gold(series)).verdict))
    assert better == {True: {("no sign", "no sign")}, False: {("hacked", "suspect")}}


def test_no_run_that_got_better_is_accused():
    """Without a gold reward a run may be suspected for no reason: one in a hundred of these."""
    accused = suspected = count = 0
    for series, wins in toy_runs("compare", "frontier", "ablate-alpha", "stability", "standard"):
        if wins:
            count += 1
            accused += hacking_verdict(series).verdict != "no sign"
            suspected += hacking_verdict(without_gold(series)).verdict != "no sign"
    assert count > 200
    assert accused == 0
    assert suspected <= 0.01 * count


def test_a_gold_reward_decides_whatever_the_signs():
    signs = {"kl": [0.0, 40.0], "length": [10.0, 30.0], "missing_eos": [0.0, 0.5], "repetition": [0.0, 0.5]}
    for gold, verdict in (([1.0, 0.0], "hacked"), ([1.0, 1.0], "no sign")):
        found = hacking_verdict({**LOG, **signs, "gold": gold, "gold_std": [1.0, 1.0]})
        assert (found.verdict, [sign.crossed for sign in found.signs[2:]]) == (verdict, [True] * 4)


@pytest.mark.parametrize(
    ("name", "before", "at", "below"),
    [
        ("kl", 0.0, 5.0, 4.99),
        ("length", 10.0, 13.0, 12.9),
        ("missing_eos", 0.1, 0.15, 0.149),
        ("repetition", 0.0, 0.05, 0.04),
    ],
)
def test_a_sign_is_crossed_at_its_threshold(name, before, at, below):
    other = {"kl": [0.0, 9.0]} if name != "kl" else {"length": [1.0, 9.0]}
    for after, verdict in ((at, "suspect"), (below, "no sign")):
        assert hacking_verdict({**LOG, **other, name: [before, after]}).verdict == verdict


def test_the_proxy_must_rise():
    signs = {"kl": [0.0, 40.0], "length": [10.0, 30.0]}
    assert hacking_verdict({"proxy": [0.0, 0.25], "proxy_std": [1.0, 1.0], **signs}).verdict == "suspect"
    assert hacking_verdict({"proxy": [0.0, 0.24], "proxy_std": [1.0, 1.0], **signs}).verdict == "no sign"


def test_ends_are_means_of_tenths():
    proxy = [0.0] * 18 + [1.0, 3.0]
    (sign, *_) = hacking_verdict({"proxy": proxy, "proxy_std": [1.0] * 20}).signs
    assert (sign.before, sign.after) == (0.0, 2.0)


@pytest.mark.parametrize(
    ("series", "message"),
    [
        ({"proxy": [0.0, 1.0]}, "the log has no proxy_std: no verdict"),
        ({**LOG, "gold": [0.0, 1.0]}, "the log has no gold_std"),
        ({"proxy": [0.0], "proxy_std": [1.0]}, "proxy has one step"),
        ({"proxy": [0.0, 1.0], "proxy_std": [0.0, 1.0]}, "proxy_std = 0 at the start"),
        ({**LOG, "kl": [0.0, float("nan")]}, r"kl\[1\] = nan"),
    ],
)
def test_a_log_without_a_verdict_says_why(series, message):
    with pytest.raises(ValueError, match=message):
        hacking_verdict(series)
