"""From an experiment's content to its folder: tables with intervals, figures, and result files.

Intervals are Student's t intervals over seeds at 95 %. A folder holds

    results.json   what the seeds determine: question, tuning, settings, and for every seed the metrics of its run
    run.json       versions, commit, machine, times; seconds of each setting, which no seed determines
    table.md       the tables
    *.png          the figures
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from dar_ref import results
from dar_ref.evaluation import (
    TABLE_1,
    TABLE_1_COLUMNS,
    TABLE_2,
    TABLE_2_COLUMNS,
    Column,
    Interval,
    Table,
    comparison_table,
    markdown,
    plain_text,
    student,
)
from dar_ref.plots.style import save_png
from dar_ref.toy.experiments.figures import FIGURES, Content, ended, of_task, tasks
from dar_ref.toy.experiments.matched import advantages
from dar_ref.toy.tasks import TASKS

PANEL = (
    Column("win_rate", "Win rate", "%", 100.0),
    Column("lc_win_rate", "LC win rate", "%", 100.0),
    Column("gold", "Gold"),
    Column("proxy", "Proxy"),
    Column("length", "Length", "tokens"),
    Column("missing_eos", "Missing EOS", "%", 100.0),
    Column("repetition", "Repeated 4-grams", "%", 100.0),
    Column("kl", "KL to pi_0", "nats"),
)
DIVERGED = Column("diverged", "Diverged", "%", 100.0)
PARTS = (Column("gold_harmless", "Gold, harmless (trained)"), Column("gold_helpful", "Gold, helpful (kept)"))
PAIRED = (("win_rate", "Win rate", "points", 100.0), ("gold", "Gold", "", 1.0))  # name, title, unit, scale
WEIGHTS = (Column("ess", "ESS / B", "%", 100.0), Column("clipped", "At the clip", "%", 100.0))


def write(out: Path, name: str, content: Content, command: str, began: float, seconds: Mapping[str, float]) -> str:
    """Write the folder of an experiment.

    Args:
        out: folder, made if it is missing.
        name: a key of `settings.EXPERIMENTS`.
        content: the result of `conduct.conduct`, with `experiment` and `question`.
        command: the command line that repeats the experiment.
        began: `time.time()` at its start.
        seconds: measured mean seconds per run of each setting; runs from the cache count with their first time.

    Returns:
        The tables as plain text.

    Raises:
        OSError: the folder cannot be written.
    """
    tables = TABLES[name](content)
    head = f"{content['question']}\n\nCommand: `{command}`. Seeds: {', '.join(map(str, content['seeds']))}.\n"
    results.write_text(out / "table.md", "\n".join([head, *(markdown(table) for table in tables)]))
    for file, draw in FIGURES[name].items():
        if file in TASKS and file not in tasks(content):
            continue  # the figure of a task that is left out
        save_png(draw(content), out / f"{file}.png")
    results.write_json(out / "results.json", content)
    info = results.run_info(command, began)
    results.write_json(out / "run.json", {**info, "seconds_per_run": {k: round(v, 2) for k, v in seconds.items()}})
    return "\n".join(plain_text(table) for table in tables)


def interval(values: Sequence[float]) -> Interval | None:
    """Student's interval over seeds; None if fewer than two runs finished."""
    return student(values) if len(values) > 1 else None


def finals(setting: Content, metric: str) -> list[float]:
    """One metric at the end of each seed's run; runs that diverged have none."""
    return [run["final"][metric] for run in ended(setting)]


def by_label(content: Content, task: str) -> dict[str, Content]:
    """The settings on one task, each under its label."""
    return {setting["label"]: setting for setting in of_task(content, task)}


# --- tables -----------------------------------------------------------------------------------------------------------


def panel_table(content: Content, task: str, extra: Sequence[Column] = (), panel: Sequence[Column] = PANEL) -> Table:
    """The final metrics (`panel`) of every setting on a task, pi_0's first; `extra`: of the weights, for DAR."""
    settings = of_task(content, task)
    first = [run["evaluations"][0] for run in settings[0]["runs"]]  # the same for all settings
    rows: dict[str, dict[str, Interval | None]] = {
        "pi_0": {column.key: interval([metrics[column.key] for metrics in first]) for column in panel}
    }
    for setting in settings:
        rows[setting["label"]] = {column.key: interval(finals(setting, column.key)) for column in panel}
        rows[setting["label"]]["diverged"] = _exactly(sum(r["diverged"] is not None for r in setting["runs"]), setting)
        for column in extra:
            weights = [run["weights"].get(column.key) for run in setting["runs"]]
            rows[setting["label"]][column.key] = None if None in weights else interval(weights)
    return comparison_table(rows, (*panel, *extra, DIVERGED), ours=f"toy {task}, {_seeds(content)}")


def table_1(content: Content) -> Table:
    """Win rate against pi_0 of every method on every task, beside the paper's Table 1."""
    rows: dict[str, dict[str, Interval | None]] = {}
    by_task = {task: by_label(content, task) for task in tasks(content)}
    for method in dict.fromkeys(setting["label"] for setting in content["settings"]):
        won = {task: finals(settings[method], "win_rate") for task, settings in by_task.items()}
        rows[method] = {task: interval(values) for task, values in won.items()}
        if [len(values) for values in won.values()] == [len(content["seeds"])] * (len(TABLE_1_COLUMNS) - 1):
            rows[method]["mean"] = interval([sum(seed) / len(won) for seed in zip(*won.values(), strict=True)])
    ours = f"toy, win rate against pi_0 under the gold judge, ties half, {_seeds(content)}"
    return comparison_table(rows, TABLE_1_COLUMNS, ours=ours, paper=TABLE_1)


def tuned_table(content: Content) -> Table:
    """What `tune_cells` chose for every cell, and the share of choices with four neighbours and none better."""
    names = {"learning_rate": "Learning rate", "beta": "beta", "kl_coef": "kl_coef", "dpo_beta": "dpo_beta"}
    columns = (*(Column(key, title) for key, title in names.items()), Column("interior", "Interior", "%", 100.0))
    rows: dict[str, dict[str, Interval | None]] = {}
    for row in content["tuning"]:
        numbers = {**row["chosen"], "interior": float(row["interior"])}
        rows[f"{row['task']}: {row['label']}"] = {key: _number(value) for key, value in numbers.items()}
    rows["all"] = {"interior": _number(fmean(row["interior"] for row in content["tuning"]))}
    tried = len(content["tuning"][0]["tried"])
    note = f"{tried} points of learning rate and regulariser each, a ladder and a walk; interior: all four neighbours"
    return comparison_table(rows, columns, ours=f"{note} of the choice were tried, and are not better")


def paired_table(content: Content, baseline: str = "dar") -> Table:
    """Win rate and gold of every method minus those of `baseline`, seed by seed, on each task and on their mean."""
    places = [*tasks(content), *["mean"] * (len(tasks(content)) > 1)]
    rows: dict[str, dict[str, Interval | None]] = {}
    for label in dict.fromkeys(setting["label"] for setting in content["settings"] if setting["label"] != baseline):
        rows[label] = {}
        for metric, *_ in PAIRED:
            pairs = {task: _pairs(content, task, metric, label, baseline) for task in tasks(content)}
            pairs["mean"] = [fmean(seed) for seed in zip(*pairs.values(), strict=True)]
            rows[label] |= {f"{metric} {place}": interval(pairs[place]) for place in places}
    return comparison_table(rows, _paired_columns(places), ours=f"minus {baseline}, paired, {_seeds(content)}")


def quality_table(content: Content, baseline: str = "dar") -> Table:
    """Win rate and gold of every method minus those of `baseline`, seed by seed, at each quality of the reward."""
    places = [f"quality {quality:g}" for quality in dict.fromkeys(setting["x"] for setting in content["settings"])]
    methods = dict.fromkeys(setting["group"] for setting in content["settings"] if setting["group"] != baseline)
    rows: dict[str, dict[str, Interval | None]] = {
        method: {
            f"{metric} {place}": interval(
                _pairs(content, tasks(content)[0], metric, f"{method}, {place}", f"{baseline}, {place}")
            )
            for metric, *_ in PAIRED
            for place in places
        }
        for method in methods
    }
    return comparison_table(rows, _paired_columns(places), ours=f"minus {baseline}, paired, {_seeds(content)}")


def _paired_columns(places: Sequence[str]) -> list[Column]:
    return [
        Column(f"{metric} {place}", f"{title}, {place}", unit, scale)
        for metric, title, unit, scale in PAIRED
        for place in places
    ]


def _pairs(content: Content, task: str, metric: str, label: str, baseline: str) -> list[float]:
    """Metric of `label` minus that of `baseline`, for each seed; a run that diverged ends with its last evaluation."""
    runs = {s["label"]: [run["final"][metric] for run in s["runs"]] for s in of_task(content, task)}
    return [ours - theirs for ours, theirs in zip(runs[label], runs[baseline], strict=True)]


def matched_table(content: Content) -> Table:
    """Reward of DAR minus that of other methods at equal KL to pi_0, see `matched`."""
    rows: dict[str, dict[str, Interval | None]] = {}
    for task in tasks(content):
        for key in ("proxy", "gold"):
            for other, values in advantages(content, task, key, "dar", ("grpo", "rloo")).items():
                rows.setdefault(f"{task}: dar minus {other}", {})[key] = interval(values)
    columns = (Column("proxy", "Proxy at equal KL"), Column("gold", "Gold at equal KL"))
    return comparison_table(rows, columns, ours=f"mean over the KL that both reach, paired, {_seeds(content)}")


def table_2(content: Content) -> Table:
    """Score, LC win rate and length, beside the paper's Table 2; our score is the gold reward."""
    first = [run["evaluations"][0] for run in content["settings"][0]["runs"]]
    rows: dict[str, dict[str, Interval | None]] = {
        "pi_0": {"score": interval([f["gold"] for f in first]), "length": interval([f["length"] for f in first])}
    }
    for setting in content["settings"]:
        keys = {"score": "gold", "lc_win_rate": "lc_win_rate", "length": "length"}
        rows[setting["label"]] = {key: interval(finals(setting, metric)) for key, metric in keys.items()}
    ours = f"toy helpful, score = gold reward in [0, 1], length in tokens, {_seeds(content)}"
    score = TABLE_2_COLUMNS[0]._replace(unit="")  # ours is not MT-Bench
    return comparison_table(rows, (score, *TABLE_2_COLUMNS[1:]), ours=ours, paper=TABLE_2)


def cost_table(content: Content, task: str) -> Table:
    """Annotations and sampled tokens that a method used, and what it took to reach online DPO's final win rate."""
    settings = by_label(content, task)
    goal = fmean(finals(settings["online_dpo"], "win_rate"))
    rows: dict[str, dict[str, Interval | None]] = {}
    for label, setting in settings.items():
        reached = asked_until(content, task, label, goal)
        rows[label] = {
            "win_rate": interval(finals(setting, "win_rate")),
            "annotations": interval(finals(setting, "annotations")),
            "sampled_tokens": interval(finals(setting, "sampled_tokens")),
            "reached": None if None in reached else interval([float(a) for a in reached if a is not None]),
        }
    columns = (
        Column("win_rate", "Win rate", "%", 100.0),
        Column("annotations", "Annotations"),
        Column("sampled_tokens", "Sampled tokens"),
        Column("reached", "Asked online to online DPO's final win rate"),
    )
    note = f"toy {task}, {_seeds(content)}; the goal is {100 * goal:.1f} %, not measured: not reached by every seed"
    return comparison_table(rows, columns, ours=note)


def asked_online(content: Content, task: str, label: str) -> list[list[float]]:
    """Rewards that each seed's run had asked for at each evaluation but the first, which is pi_0's.

    The labels behind the reward model are the same for all methods and are left out; offline DPO uses nothing else.
    """
    settings = by_label(content, task)
    pairs = zip(settings[label]["runs"], settings["dpo"]["runs"], strict=True)
    return [
        [float(e["annotations"] - dpo["final"]["annotations"]) for e in run["evaluations"][1:]] for run, dpo in pairs
    ]


def asked_until(content: Content, task: str, label: str, goal: float) -> list[float | None]:
    """What each seed's run had asked for online when its win rate first reached `goal`; None where it never did."""
    settings = by_label(content, task)
    pairs = zip(settings[label]["runs"], asked_online(content, task, label), strict=True)
    return [first_at([0.0, *asked], [e["win_rate"] for e in run["evaluations"]], goal) for run, asked in pairs]


def first_at(asked: Sequence[float], win_rates: Sequence[float], goal: float) -> float | None:
    """What was asked for at the first evaluation with at least the win rate `goal`; None if there is none."""
    return next((count for count, won in zip(asked, win_rates, strict=True) if won >= goal), None)


def collapse_table(content: Content) -> Table:
    """Share of collapsed and of diverged runs, mean and worst gold reward over seeds, for every setting."""
    rows: dict[str, dict[str, Interval | None]] = {}
    for setting in content["settings"]:
        gold = finals(setting, "gold")
        rows[setting["label"]] = {
            "collapsed": _exactly(sum(map(collapsed, setting["runs"])), setting),
            "diverged": _exactly(sum(run["diverged"] is not None for run in setting["runs"]), setting),
            "gold": interval(gold),
            "worst": Interval(min(gold), min(gold), min(gold), 0.95) if gold else None,
        }
    columns = (Column("collapsed", "Collapsed", "%", 100.0), DIVERGED, Column("gold", "Gold"), Column("worst", "Worst"))
    meant = "collapsed: less gold than pi_0 at the end, or numbers that are not finite"
    return comparison_table(rows, columns, ours=f"toy tldr, gold reward, {_seeds(content)}; {meant}")


def collapsed(run: Content) -> bool:
    """Whether a run diverged, or ended with a lower gold reward than pi_0.

    Training on the gold reward rules out hacking, so a run that ends below its start has collapsed.
    """
    return run["diverged"] is not None or run["final"]["gold"] < run["evaluations"][0]["gold"]


TABLES: dict[str, Callable[[Content], list[Table]]] = {
    "hacking": lambda content: [panel_table(content, "harmless", WEIGHTS)],
    "compare": lambda content: [table_1(content), *(panel_table(content, task, WEIGHTS) for task in tasks(content))],
    "standard": lambda content: [table_2(content), panel_table(content, "helpful", WEIGHTS)],
    "ablate-alpha": lambda content: [panel_table(content, "tldr", WEIGHTS)],
    "frontier": lambda content: [
        matched_table(content),
        *(panel_table(content, task, WEIGHTS) for task in tasks(content)),
    ],
    "efficiency": lambda content: [cost_table(content, task) for task in tasks(content)],
    "stability": lambda content: [collapse_table(content)],
    "clip": lambda content: [panel_table(content, "tldr", WEIGHTS)],
    "direct": lambda content: _direct_tables(content),
    "direct-gold": lambda content: _direct_tables(content),
    "quality": lambda content: [
        quality_table(content),
        panel_table(content, "tldr", WEIGHTS),
        tuned_table(content),
    ],
    "budgets": lambda content: [panel_table(content, task, WEIGHTS) for task in tasks(content)],
    "null-space": lambda content: [panel_table(content, "mixed", panel=(*PARTS, *PANEL))],
    "samples": lambda content: [panel_table(content, task, WEIGHTS) for task in tasks(content)],
}


def _direct_tables(content: Content) -> list[Table]:
    panels = [panel_table(content, task, WEIGHTS) for task in tasks(content)]
    return [table_1(content), paired_table(content), tuned_table(content), *panels]


def _number(value: float) -> Interval:
    """A number that is exact, as an interval of width 0."""
    return Interval(value, value, value, 0.95)


def _exactly(count: int, setting: Content) -> Interval:
    """Share of the runs: it is counted, not estimated."""
    return _number(count / len(setting["runs"]))


def _seeds(content: Content) -> str:
    return f"{len(content['seeds'])} seeds, Student's interval over seeds"


def elapsed(began: float) -> str:
    """Time since `began` as text, such as "2 min 05 s"."""
    seconds = round(time.time() - began)
    return f"{seconds // 60} min {seconds % 60:02d} s"
