"""The tables of the pages equal what the code makes of the committed result files."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2

from dar_ref import theory
from dar_ref.evaluation import markdown
from dar_ref.llm.options import load_options
from dar_ref.real_model import report
from dar_ref.toy.experiments.report import TABLES
from dar_ref.toy.tasks import TASKS
from tests.benchmarks import skipping_curves, update
from tests.scripts import docs_script

DOCS = Path(__file__).parent.parent / "docs"


def content(name):
    return json.loads((DOCS / "results" / name / "results.json").read_text(encoding="utf-8"))


def table(name):
    return (DOCS / "results" / name / "table.md").read_text(encoding="utf-8")


NOT_RUN_YET: set[str] = set()  # experiments that take hours may wait


def test_an_experiment_has_results_or_is_said_to_have_none():
    assert {name for name in TABLES if not (DOCS / "results" / name).exists()} == NOT_RUN_YET


@pytest.mark.parametrize("name", TABLES)
def test_the_page_of_an_experiment_shows_its_table_or_says_that_there_is_none(name):
    page = (DOCS / "results" / f"{name}.md").read_text(encoding="utf-8")
    shown, none = f'--8<-- "results/{name}/table.md:5"' in page, f"`dar-ref toy {name}` has not run yet" in page
    assert (shown, none) == (name not in NOT_RUN_YET, name in NOT_RUN_YET)


@pytest.mark.parametrize("name", sorted(set(TABLES) - NOT_RUN_YET))
def test_tables_of_an_experiment_are_those_of_its_results(name):
    written = content(name)
    assert table(name).endswith("\n".join(markdown(made) for made in TABLES[name](written)))
    assert table(name).startswith(f"{written['question']}\n")


def test_the_page_of_the_real_model_is_made_of_its_results():
    assert table("real-model") == report.markdown_tables(content("real-model"))
    shown = re.findall(r"\]\((real-model/[\w-]+\.png)\)", table("real-model"))
    assert len(shown) == 2 * len(content("real-model")["pi_0"])
    assert all((DOCS / "results" / picture).is_file() for picture in shown)


def test_the_claims_are_judged_by_the_results():
    claims = docs_script("claims")
    assert table("claims") == claims.table()
    assert (DOCS / "results" / "claims" / "verdicts.md").read_text(encoding="utf-8") == claims.verdicts()


def test_every_claim_has_one_verdict_and_none_from_an_experiment_without_results():
    claims = docs_script("claims")
    for claim in claims.CLAIMS:
        assert claim.judge.__doc__
        verdict, rows = claims.judged(claim)
        assert verdict in ("shows", "partly", "does not", "not testable here")
        assert rows
        if claims.content(claim.experiment) is None:
            assert verdict == "not testable here"
            assert claim.experiment in NOT_RUN_YET


def made(cells, evaluations=()):
    """Content of an experiment with these final metrics, {(task, label): one dict per seed}, and courses by label."""
    courses = dict(evaluations)
    settings = [
        {"task": task, "label": label, "runs": [{"final": f, "evaluations": courses.get(label, [])} for f in finals]}
        for (task, label), finals in cells.items()
    ]
    return {"settings": settings}


def won(*rates):
    return [{"win_rate": rate} for rate in rates]


@pytest.mark.parametrize(
    ("grpo", "online_dpo", "verdict"),
    [
        ((0.5, 0.6, 0.5), (0.4, 0.5, 0.4), "shows"),
        ((0.7, 0.8, 0.7), (0.1, 0.2, 0.1), "partly"),
        ((0.9, 0.98, 0.9), (0.4, 0.5, 0.4), "does not"),
        ((0.7, 0.8, 0.7), (0.2, 0.9, 0.5), "does not"),
    ],
)
def test_table_1_is_judged_by_the_mean_of_the_tasks(grpo, online_dpo, verdict):
    rates = {"dar": (0.7, 0.79, 0.71), "grpo": grpo, "online_dpo": online_dpo}
    claims = docs_script("claims")
    cells = {(task, label): won(*values) for task in claims.TASKS for label, values in rates.items()}
    assert claims.lead(made(cells))[0] == verdict


@pytest.mark.parametrize(
    ("text", "experiment", "run", "reason"),
    [
        ("Table 1", "direct", {"tldr"}, "not run on helpful and harmless yet"),
        ("half the annotations", "direct", {"tldr", "helpful"}, "not run on harmless yet"),
        ("trade-off", "frontier", {"tldr"}, "not run on tiny yet"),
        ("K=1", "samples", {"helpful"}, "not run on tldr yet"),
        ("Table 1", "direct", None, "not run yet"),
    ],
)
def test_a_claim_is_not_judged_by_some_of_its_tasks(monkeypatch, text, experiment, run, reason):
    claims = docs_script("claims")
    (claim,) = [one for one in claims.CLAIMS if text in one.text]
    assert claim.experiment == experiment
    part = None if run is None else {"settings": [{"task": task, "label": "dar", "runs": []} for task in run]}
    monkeypatch.setattr(claims, "content", lambda name: part if name == experiment else content(name))
    monkeypatch.setattr(claims, "CLAIMS", [claim])
    assert claims.judged(claim) == ("not testable here", claim.paper)
    assert f"| {claim.text} | **not testable here**: {reason} |" in claims.verdicts()
    assert claim.text not in claims.table().partition("What makes each verdict")[0]


@pytest.mark.parametrize(
    ("dar", "online_dpo", "verdict"),
    [
        ((0.70, 0.70), (0.60, 0.70), "shows"),
        ((0.60, 0.70), (0.60, 0.70), "does not"),
        ((0.70, 0.70), (0.70, 0.70), "not testable here"),  # online DPO needs no more than half either
    ],
)
def test_half_the_annotations_can_come_out_either_way(dar, online_dpo, verdict):
    claims = docs_script("claims")

    def course(rates):
        return [
            {"step": step, "win_rate": rate} for step, rate in zip((0, 100, 200, 300), (0.5, *rates, 0.8), strict=True)
        ]

    cells = {(task, label): won(0.8, 0.8) for task in claims.TASKS for label in ("dar", "online_dpo")}
    content = made(cells, {"dar": course(dar), "online_dpo": course(online_dpo)})
    assert claims.half_the_annotations(content)[0] == verdict


@pytest.mark.parametrize(
    ("tldr", "helpful", "verdict"),
    [
        ((0.61, 0.61), (0.60, 0.60), "shows"),
        ((0.61, 0.61), (0.40, 0.40), "partly"),
        ((0.40, 0.40), (0.40, 0.40), "does not"),
        ((0.61, 0.61), (0.80, 0.40), "not testable here"),  # the seeds disagree
    ],
)
def test_one_completion_is_enough_where_it_is_within_two_points(tldr, helpful, verdict):
    cells = {(task, "K 4, mean of the group"): won(0.6, 0.6) for task in ("tldr", "helpful")}
    cells |= {("tldr", "K 1, mean of the batch"): won(*tldr), ("helpful", "K 1, mean of the batch"): won(*helpful)}
    assert docs_script("claims").one_is_enough(made(cells))[0] == verdict


def test_the_verdicts_of_committed_results_follow_their_numbers():
    claims = docs_script("claims")
    alpha = content("ablate-alpha")
    for row in alpha["settings"]:
        for run in row["runs"]:
            run["final"]["gold"] += (row["x"] == 0.1) - (row["x"] == 0.0)
    assert claims.best_alpha(alpha)[0] == "shows"
    assert claims.ends_of_alpha(alpha)[0] == "shows"
    stability = content("stability")
    assert claims.dao_unstable(stability)[0] == "partly"
    for row in stability["settings"]:
        for seed, run in enumerate(row["runs"]):
            run["final"]["gold"] += (-1) ** seed * 9.0 * (row["group"] == "dual_ppo") - 2.0 * (row["group"] == "dao")
    assert claims.dao_unstable(stability)[0] == "shows"
    assert claims.dual_ppo_noisy(stability)[0] == "shows"
    standard = content("standard")
    for row in standard["settings"]:
        for run in row["runs"]:
            run["final"]["length"] = run["evaluations"][0]["length"] + 3.0 * (row["label"] != "dar")
    assert claims.better_and_shorter(standard)[0] == "partly"


def test_a_trade_off_needs_as_many_settings_for_each_method():
    claims, frontier = docs_script("claims"), content("frontier")
    fewer = [row for row in frontier["settings"] if row["label"] not in ("grpo kl 0.01", "grpo kl 1")]
    assert claims.trade_off({"settings": fewer})[0] == "not testable here"
    rivals = [row for row in frontier["settings"] if row["group"].startswith("dar")]
    named = {method: [{**row, "group": method} for row in rivals] for method in ("grpo", "rloo")}
    ahead = [{**row, "runs": [raised(run) for run in row["runs"]]} for row in rivals]
    assert claims.trade_off({"settings": [*ahead, *named["grpo"], *named["rloo"]]})[0] == "shows"
    assert claims.trade_off({"settings": [*rivals, *named["grpo"], *named["rloo"]]})[0] == "does not"


def raised(run):
    """The same run with more reward after its start."""
    first, *later = run["evaluations"]
    return {**run, "evaluations": [first, *map(more, later)], "final": more(run["final"])}


def more(metrics):
    return {**metrics, "proxy": metrics["proxy"] + 9.0, "gold": metrics["gold"] + 9.0}


def test_a_statement_that_fails_takes_its_verdict_along():
    claims = docs_script("claims")
    found = claims.content("verify")
    assert found["passed"]
    for row in found["statements"]:
        row["passed"] = row["id"] != "T11"
    assert claims.coverage(found)[0] == "does not"


def test_the_runs_about_a_missing_eos_are_shown_as_they_were():
    assert table("missing-eos") == docs_script("missing_eos").table(content("missing-eos"))


def test_the_runs_about_a_missing_eos_are_all_of_the_exported_task():
    command = docs_script("missing_eos").command(Path("export"), Path("out"), "penalty", 0)
    chosen = load_options("toy_cpu", [word for word in command if "=" in word])
    assert chosen.data.max_prompt_tokens == TASKS["harmless"].prompt_length
    paths = chosen.model.name, chosen.reward.name, chosen.data.prompts, chosen.data.eval_prompts
    assert all(path.startswith("export/") for path in paths)


def test_the_caption_of_the_picture_of_t6_names_its_settings():
    figures, page = docs_script("figures").home, (DOCS / "theory" / "t6.md").read_text(encoding="utf-8")
    pi_0 = r",\,".join(f"{probability:.2f}" for probability in np.exp(figures.LOG_PI_0))
    reward = r",\,".join(f"{value:g}" for value in figures.REWARD)
    tilts = r",\ ".join(map(str, figures.TILTS))
    assert rf"\(\pi_0=({pi_0})\), \(A=({reward})\)" in page
    assert (
        rf"at \(\tau={tilts}\), both radii {figures.EPS}, \(\alpha={figures.ALPHA:g}\), \(\beta={figures.BETA:g}\)"
        in page
    )


@pytest.mark.parametrize("name", ["t12", "t13", "t14", "t15"])
def test_tables_of_a_statement_are_those_of_its_results(name):
    assert table(name) == docs_script("dials").PARTS[name].table(content(name))


def test_the_tables_of_the_lean_update_are_those_of_their_results():
    assert table("update") == update.table(content("update"))
    assert (DOCS / "results/update/head.md").read_text(encoding="utf-8") == update.head_table(content("update"))
    assert table("skipping") == skipping_curves.table(content("skipping")["runs"])


def test_the_exact_tables_of_the_statements_come_out_again():
    for name in ("t13", "t14"):
        part = docs_script("dials").PARTS[name]
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
    dials = docs_script("dials")
    for row in content("t15")["rows"]:
        bandit = (dials.NORMAL_16, dials.EVEN_16, dials.EVEN_16, 0.1, row["beta"], row["clip"])
        assert row["limit"] == pytest.approx(float(theory.fit_error(*bandit)), rel=1e-12)
        assert row["samples"] == pytest.approx(row["limit"] / (2.0 * dials.CLOSE), rel=1e-12)
    for beta, ratios in content("t15")["simulated"].items():
        (limit,) = [r["limit"] for r in content("t15")["rows"] if r["clip"] and str(r["beta"]) == beta]
        assert ratios[-1] == pytest.approx(limit, rel=0.03)
