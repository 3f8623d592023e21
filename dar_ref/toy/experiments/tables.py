"""Tables of the experiments, from their content alone: one setting a row, with Student's 95 % intervals over seeds."""

from collections.abc import Sequence
from statistics import fmean

from dar_ref.evaluation import (
    TABLE_1,
    TABLE_1_COLUMNS,
    TABLE_2,
    TABLE_2_COLUMNS,
    Column,
    Interval,
    Table,
    comparison_table,
    student,
)
from dar_ref.toy.experiments.figures import Content, ended, of_task, tasks

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
WEIGHTS = (Column("ess", "ESS / B", "%", 100.0), Column("clipped", "At the clip", "%", 100.0))


def interval(values: Sequence[float]) -> Interval | None:
    """Student's interval over seeds; None if fewer than two runs finished."""
    return student(values) if len(values) > 1 else None


def finals(setting: Content, metric: str) -> list[float]:
    """One metric at the end of each seed's run; runs that diverged have none."""
    return [run["final"][metric] for run in ended(setting)]


def by_label(content: Content, task: str) -> dict[str, Content]:
    """The settings on one task, each under its label."""
    return {setting["label"]: setting for setting in of_task(content, task)}


def panel_table(content: Content, task: str, extra: Sequence[Column] = (), panel: Sequence[Column] = PANEL) -> Table:
    """The final metrics (`panel`) of every setting on a task, pi_0's first; `extra`: of the weights, for DAR."""
    settings = of_task(content, task)
    if not any(_trained_on_proxy(setting["config"]) for setting in settings):
        panel = [c._replace(title="Proxy (not trained on)") if c.key == "proxy" else c for c in panel]
    first = [_of_pi_0(run) for run in settings[0]["runs"]]  # the same for all settings
    rows: dict[str, dict[str, Interval | None]] = {
        "pi_0": {column.key: interval([metrics[column.key] for metrics in first]) for column in panel}
    }
    for setting in settings:
        rows[setting["label"]] = {column.key: interval(finals(setting, column.key)) for column in panel}
        rows[setting["label"]]["diverged"] = _exactly(sum(r["diverged"] is not None for r in setting["runs"]), setting)
        for column in extra:
            weights = [run["weights"].get(column.key) for run in setting["runs"]]
            rows[setting["label"]][column.key] = None if None in weights else interval(weights)
    return comparison_table(rows, (*panel, *extra, DIVERGED), ours=f"toy {task}, {seeds(content)}")


def _trained_on_proxy(config: Content) -> bool:
    """Whether a run was trained on the reward model alone, which is what is measured as the proxy."""
    return config.get("reward", "proxy") == "proxy" and config.get("proxy_quality") is None


def _of_pi_0(run: Content) -> dict[str, float]:
    """Metrics of pi_0; on `tiny` both rewards are exact, as at the end: the first point of the frontier."""
    frontiers = run["exact"]["frontier"] if "exact" in run else {}
    return {**run["evaluations"][0], **{reward: points["reward"][0] for reward, points in frontiers.items()}}


def table_1(content: Content) -> Table:
    """Win rate against pi_0 of every method on every task, beside the paper's Table 1."""
    rows: dict[str, dict[str, Interval | None]] = {}
    by_task = {task: by_label(content, task) for task in tasks(content)}
    for method in dict.fromkeys(setting["label"] for setting in content["settings"]):
        won = {task: finals(settings[method], "win_rate") for task, settings in by_task.items()}
        rows[method] = {task: interval(values) for task, values in won.items()}
        if [len(values) for values in won.values()] == [len(content["seeds"])] * (len(TABLE_1_COLUMNS) - 1):
            rows[method]["mean"] = interval([sum(seed) / len(won) for seed in zip(*won.values(), strict=True)])
    ours = f"toy, win rate against pi_0 under the gold judge, ties half, {seeds(content)}"
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


def table_2(content: Content) -> Table:
    """Score, LC win rate and length, beside the paper's Table 2; our score is the gold reward."""
    first = [run["evaluations"][0] for run in content["settings"][0]["runs"]]
    rows: dict[str, dict[str, Interval | None]] = {
        "pi_0": {"score": interval([f["gold"] for f in first]), "length": interval([f["length"] for f in first])}
    }
    for setting in content["settings"]:
        keys = {"score": "gold", "lc_win_rate": "lc_win_rate", "length": "length"}
        rows[setting["label"]] = {key: interval(finals(setting, metric)) for key, metric in keys.items()}
    ours = f"toy helpful, score = gold reward in [0, 1], length in tokens, {seeds(content)}"
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
    note = f"toy {task}, {seeds(content)}; the goal is {100 * goal:.1f} %, not measured: not reached by every seed"
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
    return comparison_table(rows, columns, ours=f"toy tldr, gold reward, {seeds(content)}; {meant}")


def collapsed(run: Content) -> bool:
    """Whether a run diverged, or ended with a lower gold reward than pi_0.

    Training on the gold reward rules out hacking, so a run that ends below its start has collapsed.
    """
    return run["diverged"] is not None or run["final"]["gold"] < run["evaluations"][0]["gold"]


def _number(value: float) -> Interval:
    """A number that is exact, as an interval of width 0."""
    return Interval(value, value, value, 0.95)


def _exactly(count: int, setting: Content) -> Interval:
    """Share of the runs: it is counted, not estimated."""
    return _number(count / len(setting["runs"]))


def seeds(content: Content) -> str:
    return f"{len(content['seeds'])} seeds, Student's interval over seeds"
