"""Which of the paper's claims hold on the toy language model: verdicts and numbers from the committed result files.

    python docs/claims.py

Reads docs/results/*/results.json and writes docs/results/claims/table.md. A verdict is a condition on the numbers, so
it changes when they change. Intervals are Student's at 95 % over seeds, of paired differences.
"""

import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from dar_ref import results
from dar_ref.evaluation import TABLE_1, paired_difference, student
from dar_ref.toy.experiments.tables import asked_online, asked_until, collapsed

HERE = Path(__file__).parent / "results"
SHOWS, PARTLY, NOT, UNDECIDED, NOT_TESTABLE = "shows", "partly", "does not", "undecided", "not testable here"
TASKS = ("tldr", "helpful", "harmless")
OLD, FRESH = "20 updates a rollout", "1 update a rollout"

Claim = tuple[str, str, str]  # verdict, numbers, page


def settings(name: str) -> dict[tuple[str, str], Any]:
    """The settings of an experiment, by task and label."""
    content = json.loads((HERE / name / "results.json").read_text(encoding="utf-8"))
    return {(row["task"], row["label"]): row for row in content["settings"]}


def finals(row: Any, figure: str) -> list[float]:
    """A metric at the end of each seed's run."""
    return [run["final"][figure] for run in row["runs"]]


def shown(interval: Any, digits: int = 2, scale: float = 1.0) -> str:
    """Estimate and interval as text."""
    estimate, low, high = (f"{scale * value:z.{digits}f}" for value in interval[:3])
    return f"{estimate} [{low}, {high}]"


def apart(interval: Any) -> int:
    """1 if the whole interval is above 0, -1 if it is below, 0 if it contains 0."""
    return int(interval.low > 0) - int(interval.high < 0)


def ends_of_alpha() -> Claim:
    """alpha = 0 is hacked, alpha = 1 conservative: from 0 to 1 the proxy falls and the gold reward rises."""
    rows = settings("ablate-alpha")
    change = {
        (figure, beta): paired_difference(
            *(finals(rows["tldr", f"alpha {alpha}, beta {beta}"], figure) for alpha in ("0", "1"))
        )
        for figure in ("proxy", "gold")
        for beta in ("0.05", "0.5")
    }
    beyond = {
        beta: [name for name, sign in (("proxy", 1), ("gold", -1)) if apart(change[name, beta]) == sign]
        for beta in ("0.5", "0.05")
    }
    whole = [beta for beta, names in beyond.items() if len(names) == 2]
    verdict = NOT if not whole else SHOWS if len(whole) == 2 else f"{SHOWS} at \\(\\beta={whole[0]}\\)"
    if len(whole) == 1:
        other = next(beta for beta in beyond if beta not in whole)
        verdict += f", at {other} for {beyond[other][0]} alone" if beyond[other] else f", not at {other}"
    numbers = "\\(\\alpha=0\\) minus \\(\\alpha=1\\) " + "; ".join(
        f"at {where}: proxy {shown(change['proxy', beta])}, gold {shown(change['gold', beta])}"
        for beta, where in (("0.5", "\\(\\beta=0.5\\)"), ("0.05", "the paper's 0.05"))
    )
    return verdict, numbers, "ablate-alpha"


def best_alpha() -> Claim:
    """alpha = 0.1 is best: the gold reward is highest there."""
    rows = settings("ablate-alpha")
    alphas = ("0", "0.03", "0.1", "0.3", "1")
    gold = {alpha: fmean(finals(rows["tldr", f"alpha {alpha}, beta 0.05"], "gold")) for alpha in alphas}
    best = max(gold, key=gold.__getitem__)
    numbers = f"gold {gold['0.1']:.2f} at 0.1, {gold[best]:.2f} at {best}, the best"
    return SHOWS if best == "0.1" else NOT, numbers, "ablate-alpha"


def dao_unstable() -> Claim:
    """DAO is unstable: number of runs that end below pi_0, with old samples and with fresh ones."""
    rows = settings("stability")
    count = {
        (rate, age): sum(collapsed(run) for run in rows["tldr", f"dao, lr {rate}, {age}"]["runs"])
        for rate in ("0.003", "0.001", "0.0003")
        for age in (OLD, FRESH)
    }
    of = len(rows["tldr", f"dao, lr 0.003, {OLD}"]["runs"])
    old, fresh = ({rate: count[rate, age] for rate, of_age in count if of_age == age} for age in (OLD, FRESH))
    verdict = NOT if not any(old.values()) else SHOWS if any(fresh.values()) else f"{SHOWS}, on old samples"
    if any(old.values()) and not all(old.values()):
        verdict += " and not at every learning rate"
    rates = "; ".join(f"{old[rate]} and {fresh[rate]} at {rate}" for rate in old)
    numbers = f"runs of {of} that collapse, on old samples and on fresh ones, by learning rate: {rates}"
    return verdict, numbers, "stability"


def dual_ppo_noisy() -> Claim:
    """Dual PPO has a high variance: standard deviation of the gold reward over seeds, compared with DAR's."""
    rows = settings("stability")
    spread = {
        (method, rate, age): stdev(finals(rows["tldr", f"{method}, lr {rate}, {age}"], "gold"))
        for method in ("dar", "dual_ppo")
        for rate in ("0.001", "0.003")
        for age in (OLD, FRESH)
    }
    wider = [
        spread["dual_ppo", rate, age] > 2 * spread["dar", rate, age]
        for age in (OLD, FRESH)
        for rate in ("0.003", "0.001")
    ]
    old, fresh = (
        f"{spread['dual_ppo', '0.003', age]:.3f} against DAR's {spread['dar', '0.003', age]:.3f}"
        for age in (OLD, FRESH)
    )
    verdict = SHOWS if all(wider) else PARTLY if wider[0] else NOT
    return (
        verdict,
        f"std of gold over seeds, learning rate 0.003: {old} on old samples, {fresh} on fresh ones",
        "stability",
    )


def lead() -> Claim:
    """Table 1: win rate above the baselines."""
    rows = settings("compare")
    mean = {
        method: [fmean(seed) for seed in zip(*(finals(rows[task, method], "win_rate") for task in TASKS), strict=True)]
        for method in ("dar", "grpo")
    }
    ahead = paired_difference(mean["dar"], mean["grpo"])
    paper = {method: TABLE_1.values[method]["mean"] for method in mean}
    numbers = (
        f"DAR minus GRPO, mean of three tasks: {shown(ahead, 1, 100)} points; the paper's:"
        f" {paper['dar'] - paper['grpo']:.1f}"
    )
    return SHOWS if ahead.low > 0 else NOT, numbers, "compare"


def better_and_shorter() -> Claim:
    """Table 2: a better score than GRPO's and RLOO's, and a length nearer to pi_0's."""
    rows = settings("standard")
    score = {
        m: paired_difference(finals(rows["helpful", "dar"], "gold"), finals(rows["helpful", m], "gold"))
        for m in ("grpo", "rloo")
    }
    length = {m: student(finals(rows["helpful", m], "length")).estimate for m in ("dar", "grpo", "rloo")}
    start = fmean(run["evaluations"][0]["length"] for run in rows["helpful", "dar"]["runs"])
    better = all(difference.low > 0 for difference in score.values())
    nearer = abs(length["dar"] - start) < min(abs(length["grpo"] - start), abs(length["rloo"] - start))
    numbers = (
        f"score, DAR minus GRPO: {shown(score['grpo'])}; length {length['dar']:.2f}, GRPO's {length['grpo']:.2f},"
        f" \\(\\pi_0\\)'s {start:.2f}"
    )
    return SHOWS if better and nearer else PARTLY if better or nearer else NOT, numbers, "standard"


def half_the_annotations() -> Claim:
    """Online DPO's win rate with half of what it asks online, where every seed reaches it.

    Where a seed of online DPO is there at its first evaluation, half of it is before any evaluation: not testable.
    """
    rows = settings("efficiency")
    content = {"settings": list(rows.values())}
    verdicts, numbers, short = [], [], []
    for task in TASKS:
        goal = fmean(finals(rows[task, "online_dpo"], "win_rate"))
        asked = [asked_until(content, task, method, goal) for method in ("dar", "online_dpo")]
        dar, dpo = ([count for count in seeds if count is not None] for seeds in asked)
        (first, *_), *_ = asked_online(content, task, "online_dpo")
        if len(dar) + len(dpo) < sum(map(len, asked)):
            short.append(f"`{task}`")
            continue
        over = paired_difference(dar, [0.5 * value for value in dpo])
        early = sum(0.5 * value < first for value in dpo)
        verdicts.append(NOT_TESTABLE if early else {-1: SHOWS, 0: UNDECIDED, 1: NOT}[apart(over)])
        numbers.append(
            f"`{task}`, asked online: {fmean(dar):,.0f}, online DPO {fmean(dpo):,.0f}, with {early} of {len(dpo)} seeds"
            f" there at the first evaluation ({first:,.0f}): half of that is not seen"
            if early
            else f"`{task}`, asked online: DAR minus half of online DPO's {shown(over, 0)}"
        )
    if short:
        numbers.append(f"{' and '.join(short)}: not reached by every seed")
    verdict = verdicts[0] if len(set(verdicts)) == 1 else PARTLY if SHOWS in verdicts else NOT_TESTABLE
    return verdict, "; ".join(numbers), "efficiency"


CLAIMS: dict[str, Callable[[], Claim]] = {
    "\\(\\alpha=0\\) is hacked, \\(\\alpha=1\\) conservative": ends_of_alpha,
    "\\(\\alpha=0.1\\) is best": best_alpha,
    "DAO, the dual KL without the regression, is unstable": dao_unstable,
    "dual PPO has a high variance": dual_ppo_noisy,
    "Table 1: win rates above the baselines'": lead,
    "Table 2: a better score than GRPO's and RLOO's, at the length of \\(\\pi_0\\)": better_and_shorter,
    "online preference methods matched with half the annotations": half_the_annotations,
}
PAGES = {
    "ablate-alpha": "Alpha",
    "stability": "Stability",
    "compare": "Methods compared",
    "standard": "Standard measures",
    "efficiency": "Cost",
}


def table() -> str:
    """All claims, in Markdown."""
    lines = ["| claim of the paper | does it show? | numbers, ours | page |", "| --- | --- | --- | --- |"]
    for claim, judge in CLAIMS.items():
        verdict, numbers, page = judge()
        lines += [f"| {claim} | **{verdict}** | {numbers} | [{PAGES[page]}]({page}.md) |"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    results.write_text(HERE / "claims" / "table.md", table())
