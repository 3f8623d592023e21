"""Experiments on made-up runs: what is tuned, which jobs are run, what the tables say; all expected values by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

from dar_ref.cli import toy
from dar_ref.evaluation import markdown
from dar_ref.toy import tasks
from dar_ref.toy.config import RunConfig
from dar_ref.toy.experiments import paired, report, tables
from dar_ref.toy.experiments.conduct import conduct, on_tasks
from dar_ref.toy.experiments.figures import FIGURES
from dar_ref.toy.experiments.runner import Job
from dar_ref.toy.experiments.settings import EXPERIMENTS, METHODS, TASKS
from dar_ref.toy.experiments.tuning import LEARNING_RATES, VALIDATION_SEEDS, tune

SEEDS = (0, 1, 2)
BEST = {"dar": 3e-4, "grpo": 1e-3}  # in other cases all rates are equally good


def evaluation(step, gold, win_rate, **other):
    row = dict.fromkeys(
        ("proxy", "lc_win_rate", "length", "missing_eos", "repetition", "kl", "gold_helpful", "gold_harmless"), 0.1
    )
    return row | {"step": step, "gold": gold, "win_rate": win_rate, "annotations": 10 * step} | other


def made_up(jobs):
    """A run of every job: gold is 0.01 times the seed, the win rate is highest at the method's best rate."""
    rows = []
    for task, config in jobs:
        won = 0.9 if BEST.get(config.method) == config.learning_rate else 0.6
        gold = 0.5 + 0.01 * config.seed
        row = {
            "task": task,
            "config": {"method": config.method, "seed": config.seed}
            | {"updates_per_rollout": config.updates_per_rollout, "eps_0": config.eps_0, "eps_t": config.eps_t},
            "start": {"correlation": 0.5},
            "rollouts": [{"ess": 0.2, "clipped": 0.5, "weight": 1.0}, {"ess": 0.4, "clipped": 0.1, "weight": 2.0}],
            "evaluations": [
                evaluation(0, 0.505, 0.5, sampled_tokens=0),
                evaluation(50, 0.5, 0.55, sampled_tokens=70),
                evaluation(100, gold, won, sampled_tokens=140),
            ],
            "diverged": None,
        }
        if task == "tiny":
            line = {"kl": [0.0, 0.1], "reward": [0.0, 1.0]}
            row["exact"] = {"metrics": {"kl": 0.25}, "frontier": {"proxy": line, "gold": line}}
        rows.append(row)
    return rows


def content(name):
    return {"experiment": name, "question": "why?", **conduct(EXPERIMENTS[name], made_up, SEEDS)}


def test_the_command_line_names_what_there_is():
    assert list(toy.EXPERIMENTS) == list(EXPERIMENTS) == list(report.TABLES) == list(FIGURES)
    assert tuple(tasks.TASKS) == toy.TASKS


def test_tuning_takes_the_highest_win_rate_on_validation_seeds_and_of_equal_ones_the_smaller_rate():
    asked = []
    chosen = tune(lambda jobs: asked.extend(jobs) or made_up(jobs), ["tldr"], ["dar", "grpo", "rloo"])
    assert {method: row["learning_rate"] for method, row in chosen["tldr"].items()} == {
        "dar": 3e-4,
        "grpo": 1e-3,
        "rloo": LEARNING_RATES[0],
    }
    assert chosen["tldr"]["dar"]["tried"] == {"3e-05": 0.6, "0.0001": 0.6, "0.0003": 0.9, "0.001": 0.6}
    assert len(asked) == 3 * len(LEARNING_RATES) * len(VALIDATION_SEEDS)
    assert {job.config.seed for job in asked} == set(VALIDATION_SEEDS)
    assert {job.config.evaluate_on for job in asked} == {"validation"}


def test_cells_are_tuned_on_validation_prompts_and_seeds_and_reported_as_chosen():
    asked = []
    found = conduct(EXPERIMENTS["direct"], lambda jobs: asked.extend(jobs) or made_up(jobs), SEEDS)
    tuned = [job for job in asked if job.config.evaluate_on == "validation"]
    reported = [job for job in asked if job.config.evaluate_on == "test"]
    assert len(tuned) == len(found["tuning"]) * EXPERIMENTS["direct"].trials * len(VALIDATION_SEEDS)
    assert len(tuned) + len(reported) == len(asked)
    assert {job.config.seed for job in tuned} == set(VALIDATION_SEEDS)
    assert {job.config.seed for job in reported} == set(SEEDS)
    for row, first in zip(found["tuning"], reported[:: len(SEEDS)], strict=True):
        assert row["task"] == first.task
        assert {name: getattr(first.config, name) for name in row["chosen"]} == row["chosen"]


def test_every_method_gets_the_same_grid_and_the_same_samples():
    asked = []
    conduct(EXPERIMENTS["compare"], lambda jobs: asked.extend(jobs) or made_up(jobs), SEEDS)
    tuned, reported = (
        [job for job in asked if (job.config.seed in VALIDATION_SEEDS) == kind] for kind in (True, False)
    )
    for method in METHODS:
        own = [job for job in tuned if job.config.method == method]
        assert len(own) == len(TASKS) * len(LEARNING_RATES) * len(VALIDATION_SEEDS)
        assert len([job for job in reported if job.config.method == method]) == len(TASKS) * len(SEEDS)
    budget = {(c.steps, c.batch_prompts, c.num_generations) for _, c in asked}
    assert len(budget) == 1
    assert {job.config.evaluate_on for job in reported} == {"test"}
    frozen = {job.config.learning_rate for job in reported if job.config.method == "grpo"}
    assert frozen == {BEST["grpo"]}


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("compare", "helpful"),
        ("efficiency", "harmless"),
        ("frontier", "tldr"),
        ("direct", "tldr"),
        ("budgets", "harmless"),
        ("samples", "helpful"),
    ],
)
def test_the_part_on_one_task_has_the_runs_of_the_whole_on_it_and_makes_its_tables_and_figures(name, task, tmp_path):
    asked = {"whole": [], "part": []}
    for key, experiment in (("whole", EXPERIMENTS[name]), ("part", on_tasks(EXPERIMENTS[name], [task]))):
        found = conduct(experiment, lambda jobs, of=asked[key]: of.extend(jobs) or made_up(jobs), SEEDS)
    assert asked["part"] == [job for job in asked["whole"] if job.task == task] != asked["whole"]
    text = report.write(tmp_path, name, {"experiment": name, "question": "why?", **found}, "x", 0.0, {})
    assert task in text
    others = set(tasks.TASKS) - {task}  # whose figures cannot be drawn
    assert {path.stem for path in tmp_path.glob("*.png")} == set(FIGURES[name]) - others


def test_a_task_that_an_experiment_does_not_have_is_refused():
    with pytest.raises(
        ValueError, match="--tasks tiny: the experiment has tldr, helpful, harmless; pass some of these"
    ):
        on_tasks(EXPERIMENTS["direct"], ["tldr", "tiny"])
    with pytest.raises(ValueError, match="--tasks helpful: the experiment has tldr; pass some of these"):
        on_tasks(EXPERIMENTS["clip"], ["helpful"])


@pytest.mark.parametrize("name", ["ablate-alpha", "frontier", "stability", "clip"])
def test_settings_of_a_sweep_differ_and_have_one_budget(name):
    settings = EXPERIMENTS[name].settings({})
    assert len({(s.task, s.config) for s in settings}) == len(settings) == len({(s.task, s.label) for s in settings})
    assert {s.config.steps * s.config.batch_prompts * s.config.num_generations for s in settings} == {100 * 32 * 4}


@pytest.mark.parametrize("seeds", [(0,), (0, 0), (0, VALIDATION_SEEDS[0])])
def test_seeds_that_make_no_interval_are_refused(seeds):
    with pytest.raises(ValueError, match=r"an interval needs at least two different seeds, and \[1000, 1001\]"):
        conduct(EXPERIMENTS["clip"], made_up, seeds)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_content_is_json_and_every_table_and_figure_is_made(name, tmp_path):
    text = json.dumps(content(name), allow_nan=False)
    read = json.loads(text)
    assert all(isinstance(draw(read), Figure) for draw in FIGURES[name].values())
    out = report.write(tmp_path, name, read, f"dar-ref toy {name}", 0.0, {"tldr dar": 1.234})
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8")) == read
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["seconds_per_run"] == {"tldr dar": 1.23}
    assert all((tmp_path / f"{file}.png").stat().st_size > 5_000 for file in FIGURES[name])
    written = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert written.startswith(f"why?\n\nCommand: `dar-ref toy {name}`. Seeds: 0, 1, 2.\n")
    assert written.count("| --- |") == out.count("ours:") == len(report.TABLES[name](read))


def test_intervals_are_students_over_seeds():
    table = tables.panel_table(content("clip"), "tldr", tables.WEIGHTS)
    gold = [0.5, 0.51, 0.52]
    half = stats.t.ppf(0.975, 2) * np.std(gold, ddof=1) / np.sqrt(3)
    low, high = 0.51 - half, 0.51 + half
    column = table.header.index("Gold")
    assert table.rows[1][column] == f"{0.51:.3f} [{low:.3f}, {high:.3f}]"
    assert table.rows[0][column].startswith("0.505")  # pi_0
    ess = table.header.index("ESS / B, %")
    assert table.rows[1][ess].startswith("30")  # the mean of 20 % and 40 %
    assert table.rows[0][ess] == "not measured"


def test_table_1_stands_beside_the_papers_and_has_the_mean_of_the_tasks():
    table = tables.table_1(content("compare"))
    rows = {row[0]: row[1:] for row in table.rows}
    assert list(rows) == list(METHODS)
    assert rows["dar"][1::2] == ("98.27", "93.16", "85.84", "92.42")
    assert rows["rloo"][1::2] == ("not reported",) * 4
    assert all(cell.startswith("90") for cell in rows["dar"][::2])
    assert all(cell.startswith("60") for cell in rows["rloo"][::2])
    assert "Student" in table.notes[0]


def shifted(name, label, by):
    """Made-up content where every run of a setting ends with more win rate, by one number a seed."""
    read = content(name)
    for row in read["settings"]:
        if row["label"] == label:
            for run, more in zip(row["runs"], by, strict=True):
                run["final"]["win_rate"] += more
    return read


def test_paired_differences_have_a_mean_only_of_several_tasks():
    read = shifted("direct", "dar zero-sum", (0.03, 0.06, 0.09))  # on all three tasks
    (row,) = [row for row in paired.by_task(read).rows if row[0] == "dar zero-sum"]
    assert row[1:5] == ("6 [-1, 13]",) * 4  # 4.303 * 3 / sqrt(3) = 7.45
    part = {**read, "settings": [setting for setting in read["settings"] if setting["task"] == "tldr"]}
    assert paired.by_task(part).header == ("method", "Win rate, tldr, points", "Gold, tldr")


def test_a_method_is_compared_with_dar_at_each_quality():
    read = shifted("quality", "rloo, quality 0.6", (0.03, 0.06, 0.09))
    table = paired.by_quality(read)
    names = [f"{what}, quality {q}" for what in ("Win rate", "Gold") for q in ("0.3", "0.6", "0.9", "1")]
    assert [name.removesuffix(", points") for name in table.header[1:]] == names
    rows = {row[0]: row[1:] for row in table.rows}
    assert set(rows) == {"dar alpha 1 beta 0.2", "dao", "grpo", "rloo", "online_dpo"}
    assert rows["rloo"][:4] == ("-30", "-24 [-31, -17]", "-30", "-30")  # rloo 60 %, dar 90 %, see `BEST`


def test_table_2_has_the_gold_reward_as_score():
    rows = {row[0]: row[1:] for row in tables.table_2(content("standard")).rows}
    assert rows["dar"][0].startswith("0.51")
    assert rows["dar"][1] == "8.538"
    assert rows["pi_0"][2] == "not measured"  # pi_0 has no win rate against itself


def test_cost_is_what_was_asked_online_until_online_dpos_end_is_reached():
    written = content("efficiency")
    for row in tables.of_task(written, "tldr"):  # by hand: 300 labels for all, DPO asks for nothing more
        for run in row["runs"]:
            for figures_of in run["evaluations"][1:]:
                figures_of["annotations"] = 300 + (row["label"] != "dpo") * figures_of["annotations"]
            run["final"]["annotations"] = run["evaluations"][-1]["annotations"]
    rows = {row[0]: row[1:] for row in tables.cost_table(written, "tldr").rows}
    assert rows["online_dpo"][3].startswith("1000")  # 0.6 at the end only
    assert rows["online_dpo"][1].startswith("1300")  # labels included
    assert rows["dar"][3].startswith("1000")
    assert tables.first_at([0.0, 250.0, 500.0], [0.5, 0.7, 0.6], 0.65) == 250.0
    assert tables.first_at([0.0, 250.0, 500.0], [0.5, 0.7, 0.6], 0.75) is None


def test_who_ends_below_pi_0_or_without_numbers_has_collapsed():
    run = made_up([Job("tldr", RunConfig(seed=1))])[0]
    healthy = {**run, "final": run["evaluations"][-1]}
    assert not tables.collapsed(healthy)  # 0.51 against 0.505
    assert tables.collapsed({**healthy, "final": {"gold": 0.504}})
    assert tables.collapsed({**healthy, "diverged": 17})
    rows = {row[0]: row[1:] for row in tables.collapse_table(content("stability")).rows}
    assert all(row[0].startswith("33.3") for row in rows.values())  # seed 0 ends with 0.5


def test_runs_that_diverged_have_no_metrics_and_are_counted(tmp_path):
    def half_broken(jobs):
        rows = made_up(jobs)
        for (_, config), row in zip(jobs, rows, strict=True):
            broken = config.w_clip == float("inf") or (config.w_clip == 100.0 and config.seed == 0)
            row["diverged"] = 3 if broken else None
        return rows

    read = {"question": "why?", **conduct(EXPERIMENTS["clip"], half_broken, SEEDS)}
    rows = {row[0]: row[1:] for row in tables.panel_table(read, "tldr", tables.WEIGHTS).rows}
    assert set(rows["w_clip inf"][:8]) == {"not measured"}
    assert [rows[f"w_clip {clip}"][-1] for clip in ("20", "100", "inf")] == [
        "0",
        "33.33",
        "100",
    ]
    assert rows["w_clip 100"][2].startswith("0.52 ")  # of seeds 1 and 2
    report.write(tmp_path, "clip", read, "dar-ref toy clip", 0.0, {})
    assert tables.collapsed(read["settings"][-1]["runs"][0])


def test_on_tiny_the_exact_metrics_take_the_place_of_estimates():
    settings = [s for s in content("frontier")["settings"] if s["task"] == "tiny"]
    assert {run["final"]["kl"] for s in settings for run in s["runs"]} == {0.25}
    assert {run["evaluations"][-1]["kl"] for s in settings for run in s["runs"]} == {0.1}


def test_a_job_is_named_by_all_that_determines_it(monkeypatch):
    job = Job("tldr", RunConfig())
    others = [Job("helpful", RunConfig()), Job("tldr", RunConfig(alpha=0.2)), Job("tldr", RunConfig(seed=1))]
    assert len({job.key, *(other.key for other in others)}) == 4
    assert job.key == Job("tldr", replace(RunConfig())).key
    assert Job("tldr", RunConfig(w_clip=float("inf"))).key != job.key
    before = job.key
    monkeypatch.setitem(tasks.TASKS, "tldr", tasks.TLDR._replace(flaw="another"))
    assert job.key != before


def test_a_table_in_markdown_keeps_its_columns():
    lines = markdown(tables.table_1(content("compare"))).splitlines()
    assert {line.count("|") for line in lines if line.startswith("|")} == {10}


def test_a_line_stands_at_its_own_numbers_when_another_line_has_more():
    figure = FIGURES["samples"]["tldr"](content("samples"))
    ax = figure.axes[0]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "2", "4", "8"]
    lines = {line.get_label(): line.get_xdata().tolist() for line in ax.lines if line.get_label().startswith("mean")}
    assert lines == {"mean of the group": [1, 2, 3], "mean of the batch": [0, 1, 2, 3]}


def test_budgets_of_one_colour_differ_by_their_dashes():
    lines = {line.get_label(): line for line in FIGURES["budgets"]["kl"](content("budgets")).axes[0].lines}
    dashed = {label for label, line in lines.items() if line.get_linestyle() == "--"}
    assert dashed == {f"eps_0 {eps_0}, eps_t 0.2" for eps_0 in ("0.1", "0.3", "1")}
    assert lines["eps_0 0.3, eps_t 0.05"].get_color() == lines["eps_0 0.3, eps_t 0.2"].get_color()


def test_a_method_with_one_run_left_is_drawn_without_an_interval_and_its_numbers_are_kept(tmp_path):
    read = content("direct")
    for run in next(row for row in read["settings"] if row["label"] == "ppo")["runs"][1:]:
        run["diverged"] = 7
    written = report.write(tmp_path, "direct", read, "dar-ref toy direct", 0.0, {})
    assert "not measured" in next(line for line in written.splitlines() if line.startswith("ppo"))
    assert json.loads((tmp_path / "results.json").read_text()) == read
    assert (tmp_path / "win_rate.png").stat().st_size > 10_000


def test_tuning_counts_a_run_that_diverged_as_lost():
    def run(jobs):
        lost = [job.config.learning_rate > 3e-4 for job in jobs]
        return [
            {"diverged": 9 if one else None, "evaluations": [evaluation(9, 0.5, 0.9 if one else 0.6)]} for one in lost
        ]

    assert tune(run, ["tldr"], ["dar"])["tldr"]["dar"]["learning_rate"] == 3e-5
