"""Which of the paper's claims hold here: one verdict per claim, and the numbers behind it, from committed result files.

    python docs/claims.py

Reads docs/results/*/results.json and docs/results/verify.json, and writes docs/results/claims/verdicts.md and table.md.
A claim has one experiment that tests just it. While that has no results here, the verdict is "not testable here", and
no other experiment stands in for it. A judge's docstring is its rule; the page shows it.

Intervals are Student's at 95 % over seeds, of paired differences. Where one of several comparisons is enough for a
verdict, they are judged at the level at which all hold together at 95 % (Bonferroni).
"""

import math
from collections.abc import Callable, Sequence
from statistics import stdev
from typing import NamedTuple

from comparisons import HERE, Comparison, Content, Row, Values, content, ends, mean, minus, runs, shown
from scipy.stats import f

from dar_ref import results
from dar_ref.evaluation import TABLE_1, TABLE_2, Interval, student
from dar_ref.toy.experiments.matched import advantages
from dar_ref.toy.experiments.tables import collapsed

SHOWS, PARTLY, NOT, NOT_TESTABLE = ("shows", "partly", "does not", "not testable here")
MARGIN = 0.02  # of the win rate: methods that differ by less match
AGES = {"fresh samples": "1 update a rollout", "old samples": "20 updates a rollout"}
TASKS = ("tldr", "helpful", "harmless")
PAPER_1, PAPER_2 = TABLE_1.values, TABLE_2.values
Judgement = tuple[str, Sequence[Comparison | Row]]


def ahead_of_all(comparisons: Sequence[Comparison]) -> str:
    """Shows if all are above 0. Partly if some are, judged together, and none is below."""
    if all(one.sign() == 1 for one in comparisons):
        return SHOWS
    signs = {one.sign(of=len(comparisons)) for one in comparisons}
    return PARTLY if 1 in signs and -1 not in signs else NOT


# --- judges -----------------------------------------------------------------------------------------------------------


def ends_of_alpha(of: Content) -> Judgement:
    """At beta 0.05, from alpha 0 to 1 the proxy falls and gold rises. One of the two: partly."""
    said, rows = {"proxy": "above 0", "gold": "below 0"}, []
    for metric, beta in (("proxy", "0.05"), ("gold", "0.05"), ("proxy", "0.5"), ("gold", "0.5")):
        first, last = (ends(of, "tldr", f"alpha {alpha}, beta {beta}", metric) for alpha in (0, 1))
        rows.append(Comparison(f"{metric} at 0 minus at 1, beta {beta}", said[metric], minus(first, last)))
    missing = Comparison("missing EOS at 0, %", "8", ends(of, "tldr", "alpha 0, beta 0.05", "missing_eos"), 0, 100)
    return (NOT, PARTLY, SHOWS)[(rows[0].sign() == 1) + (rows[1].sign() == -1)], [*rows, missing]


def best_alpha(of: Content) -> Judgement:
    """At beta 0.05 gold is higher at 0.1 than at each other alpha. Than at some, and lower than at none: partly."""
    gold = {alpha: ends(of, "tldr", f"alpha {alpha}, beta 0.05", "gold") for alpha in ("0", "0.03", "0.1", "0.3", "1")}
    best = gold.pop("0.1")
    rows = [Comparison(f"gold at 0.1 minus at {alpha}", "above 0", minus(best, other)) for alpha, other in gold.items()]
    return ahead_of_all(rows), rows


def dao_unstable(of: Content) -> Judgement:
    """On the gold reward runs of DAO end below pi_0, and none of DAR; on fresh and on old samples. On one: partly."""
    found, rows = 0, []
    for name, age in AGES.items():
        settings = [row for row in of["settings"] if row["label"].endswith(age)]
        dao, dar = ([collapsed(run) for r in settings if r["group"] == m for run in r["runs"]] for m in ("dao", "dar"))
        found += any(dao) and not any(dar)
        counts = f"{sum(dao)} of {len(dao)}, {len(of['seeds'])} seeds at each rate; of DAR {sum(dar)}"
        rows.append(Row(f"runs that end below \\(\\pi_0\\), {name}", "", counts))
    return (NOT, PARTLY, SHOWS)[found], rows


def dual_ppo_noisy(of: Content) -> Judgement:
    """The std of gold over seeds is above DAR's in all six cells, rates by age of samples (F interval). Partly: above
    in some cell at the level for six comparisons too, and below in none."""
    cells = [(rate, name, age) for name, age in AGES.items() for rate in ("0.0003", "0.001", "0.003")]
    rows, joint = [], []
    for rate, name, age in cells:
        dual, dar = (ends(of, "tldr", f"{method}, lr {rate}, {age}", "gold") for method in ("dual_ppo", "dar"))
        alone, together = ratio(dual, dar, 0.95), ratio(dual, dar, 1.0 - 0.05 / len(cells))
        text = f"{shown(alone, 2)}; at the level for six {shown(together, 2)}"
        rows.append(Row(f"std over DAR's, rate {rate}, {name}", "above 1", text))
        joint.append((alone, together))
    if all(one.low > 1 for one, _ in joint):
        return SHOWS, rows
    return PARTLY if any(one.low > 1 for _, one in joint) and not any(one.high < 1 for _, one in joint) else NOT, rows


def ratio(first: Values, second: Values, level: float) -> Interval:
    """Of standard deviations; the interval is exact for normal values."""
    estimate, factor = stdev(first) / stdev(second), math.sqrt(f.ppf((1 + level) / 2, len(first) - 1, len(second) - 1))
    return Interval(estimate, estimate / factor, estimate * factor, level)


def lead(of: Content) -> Judgement:
    """The win rate, mean of the tasks, is above GRPO's and online DPO's. Above one's, and below none's: partly."""
    won = {method: [ends(of, task, method, "win_rate") for task in TASKS] for method in ("dar", *RIVALS)}
    by_task = {method: [*values, mean(values)] for method, values in won.items()}
    values = [
        minus(ours, theirs) for rival in RIVALS for ours, theirs in zip(by_task["dar"], by_task[rival], strict=True)
    ]
    rows = [Comparison(*row[:2], found, 1, 100) for row, found in zip(TABLE_1_ROWS, values, strict=True)]
    return ahead_of_all(rows[len(TASKS) :: len(TASKS) + 1]), rows


RIVALS = ("grpo", "online_dpo")  # of the paper's Table 1, online
TABLE_1_ROWS = [
    Row(
        f"win rate minus {rival}'s, {task}, points", f"{PAPER_1['dar'][task] - PAPER_1[rival][task]:.1f}", "not run yet"
    )
    for rival in RIVALS
    for task in (*TASKS, "mean")
]


def better_and_shorter(of: Content) -> Judgement:
    """Better: gold and LC win rate above GRPO's and RLOO's. Nearer to pi_0's length than both. One of these: partly."""
    start = [run["evaluations"][0]["length"] for run in runs(of, "helpful", "dar")]
    figures = {
        (m, key): ends(of, "helpful", m, key) for m in ("dar", "grpo", "rloo") for key in ("gold", "lc_win_rate")
    }
    off = {m: [abs(a) for a in minus(ends(of, "helpful", m, "length"), start)] for m in ("dar", "grpo", "rloo")}
    better, nearer = [], []
    for rival in ("grpo", "rloo"):
        gaps = {key: abs(PAPER_2["dar"][key] - PAPER_2[rival][key]) for key in ("score", "lc_win_rate", "length")}
        score, controlled = (minus(figures["dar", key], figures[rival, key]) for key in ("gold", "lc_win_rate"))
        better.append(Comparison(f"score minus {rival}'s (ours: gold)", f"{gaps['score']:.3f}", score, 3))
        better.append(Comparison(f"LC win rate minus {rival}'s", f"{gaps['lc_win_rate']:.1f}", controlled, 1, 100))
        where = f"tokens nearer to \\(\\pi_0\\)'s length than {rival}"
        nearer.append(Comparison(where, f"{gaps['length']:.0f}", minus(off[rival], off["dar"])))
    parts = [all(row.sign() == 1 for row in rows) for rows in (better, nearer)]
    return (NOT, PARTLY, SHOWS)[sum(parts)], [*better, *nearer]


def half_the_annotations(of: Content) -> Judgement:
    """DAR after n rewards is at most 2 points behind online DPO after 2n. Tested only if those more help online DPO."""
    steps = {evaluation["step"] for evaluation in runs(of, TASKS[0], "dar")[0]["evaluations"]}
    half = max(step for step in steps if step and 2 * step in steps)

    def won(method: str, step: int) -> Values:
        of_tasks = [[run["evaluations"] for run in runs(of, task, method)] for task in TASKS]
        return mean([[e["win_rate"] for run in seeds for e in run if e["step"] == step] for seeds in of_tasks])

    where = f"after {half} updates minus online_dpo's after {2 * half}, mean, points"
    rows = [
        Comparison(f"win rate of {m} {where}", said, minus(won(m, half), won("online_dpo", 2 * half)), 1, 100)
        for m, said in (("dar", "about 0"), ("online_dpo", "below 0"))
    ]
    return matched(rows[:1]) if rows[1].sign() == -1 else NOT_TESTABLE, rows


def one_is_enough(of: Content) -> Judgement:
    """K 1 and the mean of the batch is at most 2 points behind K 4 and the mean of the group. On one task: partly."""
    rows = []
    for task in ("tldr", "helpful"):
        one, four = (
            ends(of, task, f"K {k}, mean of the {whose}", "win_rate") for k, whose in ((1, "batch"), (4, "group"))
        )
        rows.append(Comparison(f"win rate of K 1 minus K 4, {task}, points", "about 0", minus(one, four), 1, 100))
    return matched(rows), rows


def matched(rows: Sequence[Comparison]) -> str:
    """Shows if all are above -2 points, does not if all are below 0, partly if each is one of them."""
    intervals = [student(row.values) for row in rows]
    kinds = {SHOWS if one.low > -MARGIN else NOT if one.high < 0 else NOT_TESTABLE for one in intervals}
    return NOT_TESTABLE if NOT_TESTABLE in kinds else PARTLY if len(kinds) > 1 else kinds.pop()


def trade_off(of: Content) -> Judgement:
    """At equal KL, of as many settings, proxy and gold are above GRPO's and RLOO's. Some, and none below: partly."""
    names = [(row["task"], row["group"].partition(" ")[0]) for row in of["settings"]]
    counts = {method: names.count(("tldr", method)) for method in ("dar", "grpo", "rloo")}
    rows = [
        Comparison(f"{key} at equal KL minus {rival}'s, {task}", "above 0", values)
        for task in ("tldr", "tiny")
        for key in ("proxy", "gold")
        for rival, values in advantages(of, task, key, "dar", ("grpo", "rloo")).items()
    ]
    if len(set(counts.values())) == 1:
        return ahead_of_all(rows), rows
    settings = ", ".join(f"{method} {count}" for method, count in counts.items())
    unequal = Row("unequal numbers of settings", "", settings)
    return NOT_TESTABLE, [unequal, *rows]


def conflict(of: Content) -> Judgement:
    """Exact: two balls meet only if T6's condition holds, but they do if every step kept both (T12): partly."""
    rows = [
        _bandits(of, "T6", "two balls meet if and only if the condition of T6 holds"),
        _bandits(of, "T12", "they meet if every step kept both"),
    ]
    return PARTLY if _passed(of, "T6") and _passed(of, "T12") else NOT, rows


def coverage(of: Content) -> Judgement:
    """Exact, with a fixed advantage and no clip: at every step of the iteration pi_ref gets nearer to its end (T11)."""
    where = "with exact steps and a fixed advantage the reference gets nearer to the end"
    return SHOWS if _passed(of, "T11") else NOT, [_bandits(of, "T11", where)]


def _passed(of: Content, name: str) -> bool:
    return any(row["id"] == name and row["passed"] for row in of["statements"])


def _bandits(of: Content, name: str, what: str) -> Row:
    (cases,) = (row["cases"] for row in of["statements"] if row["id"] == name)
    tried = f"{cases:,} random bandits, {'no' if _passed(of, name) else 'a'} counterexample"
    return Row(f"{what} ([{name}](../theory/{name.lower()}.md))", "", tried)


# --- the page ---------------------------------------------------------------------------------------------------------


class Claim(NamedTuple):
    """`text`: of the paper; `experiment`: tests just it; `judge`: of its content; `paper`: rows while there is none;
    `untestable`: why its runs may not tell; `tasks`: all that it is about, some are not enough."""

    text: str
    experiment: str
    judge: Callable[[Content], Judgement]
    paper: Sequence[Row] = (Row("", "", "not run yet"),)
    untestable: str = "the intervals are too wide"
    tasks: Sequence[str] = ()


CLAIMS = (
    Claim("Table 1: win rates above the online baselines'", "direct", lead, TABLE_1_ROWS, tasks=TASKS),
    Claim(
        "online preference methods matched with half the annotations",
        "direct",
        half_the_annotations,
        untestable="the intervals are too wide, or online DPO gains nothing by the second half",
        tasks=TASKS,
    ),
    Claim("Table 2: better than GRPO and RLOO, at the length of \\(\\pi_0\\)", "standard", better_and_shorter),
    Claim(
        "a superior trade-off of reward and KL",
        "frontier",
        trade_off,
        untestable="the methods have unequal settings",
        tasks=("tldr", "tiny"),
    ),
    Claim("\\(\\alpha=0\\) is hacked, \\(\\alpha=1\\) conservative", "ablate-alpha", ends_of_alpha),
    Claim("\\(\\alpha=0.1\\) is best", "ablate-alpha", best_alpha),
    Claim("DAO, the dual KL without the regression, is unstable", "stability", dao_unstable),
    Claim("dual PPO has a high variance", "stability", dual_ppo_noisy),
    Claim("robust at \\(K=1\\) (of the predecessor)", "samples", one_is_enough, tasks=("tldr", "helpful")),
    Claim("the two constraints leave less and less room between them", "verify", conflict),
    Claim("the dynamic reference covers better", "verify", coverage),
)


def judged(claim: Claim) -> Judgement:
    """The verdict on a claim and its rows; "not testable here" while its experiment has no results on all its tasks."""
    return (NOT_TESTABLE, claim.paper) if not_run(claim) else claim.judge(content(claim.experiment))


def not_run(claim: Claim) -> str:
    """What of a claim's experiment has not run, as a reason; empty where all has."""
    of = content(claim.experiment)
    if of is None:
        return "not run yet"
    there = {row["task"] for row in of.get("settings", ())}
    missing = [task for task in claim.tasks if task not in there]
    return f"not run on {' and '.join(missing)} yet" if missing else ""


def verdicts() -> str:
    """All claims with their verdicts, a line each, in Markdown."""
    lines = ["| claim of the paper | verdict | tested by |", "| --- | --- | --- |"]
    for claim in CLAIMS:
        verdict = judged(claim)[0]
        why = f": {not_run(claim) or claim.untestable}" if verdict == NOT_TESTABLE else ""
        lines.append(f"| {claim.text} | **{verdict}**{why} | {_link(claim)} |")
    return "\n".join(lines) + "\n"


def table() -> str:
    """The comparisons behind each verdict, in Markdown, and what makes it."""
    lines = ["| claim of the paper | compared | the paper | ours |", "| --- | --- | --- | --- |"]
    for claim in CLAIMS:
        if not_run(claim):
            continue
        head = f"| **{claim.text}** |"
        for row in judged(claim)[1]:
            lines.append(f"{head} {row.where} | {row.paper} | {row.ours} |")
            head = "| |"
    rules = [f"- **{claim.text}.** {' '.join((claim.judge.__doc__ or '').split())}" for claim in CLAIMS]
    return "\n".join([*lines, "", "What makes each verdict:", "", *rules]) + "\n"


def _link(claim: Claim) -> str:
    command = "`dar-ref verify`" if claim.experiment == "verify" else f"`dar-ref toy {claim.experiment}`"
    page = "../reference/verification.md" if claim.experiment == "verify" else f"{claim.experiment}.md"
    return f"[{command}]({page})" if (HERE / page).exists() else command


if __name__ == "__main__":
    results.write_text(HERE / "claims" / "verdicts.md", verdicts())
    results.write_text(HERE / "claims" / "table.md", table())
