"""`dar-ref evaluate judge`: verdicts of one judge on the completions in a folder.

    verdicts/JUDGE/POLICY.vs.REFERENCE.jsonl   a line for each pair: P(the policy's answer is better) in both orders
    grades/JUDGE/POLICY.jsonl                  of two-turn answers: a line for each question, its two grades

The judge is the section `reward` of a configuration, see `judges`. A verdict is kept as soon as it is there; the same
command goes on after a stop, and asks again about what had no answer. Pairs that lack one of both answers are counted.
"""

import contextlib
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dar_ref import results
from dar_ref.evaluation import Table, plain_text
from dar_ref.llm.evaluate import COMPLETIONS, DIALOGUES, GRADES, OTHER, TASKS, TURNS, VERDICTS, VERSUS, store
from dar_ref.llm.evaluate.endpoint_judge import EndpointJudge
from dar_ref.llm.evaluate.judges import NO_ANSWER, FunctionJudge, Judge, Pair, RewardJudge, compares
from dar_ref.llm.evaluate.statistics import compared, graded
from dar_ref.llm.evaluate.store import Row, RowFile
from dar_ref.llm.options import RewardOptions, RunOptions, options_as_json
from dar_ref.progress import reporting

CHUNK = 32  # pairs between two savings
GIVE_UP = 64  # pairs without a single verdict
NOT_THE_VERDICT = {"base_url", "cache", "concurrency", "retries", "timeout", "batch_size"}  # options that may change
KEY = ("id", "sample")


def judge(
    options: RunOptions,
    out: Path,
    *,
    name: str | None,
    policies: Sequence[str],
    reference: str,
    task: str | None,
    command: str,
) -> int:
    """Judge every policy in `out` against the reference, and grade two-turn answers.

    Args:
        options: its section `reward` is the judge.
        out: folder that `generate` wrote to.
        name: of the judge, for its folder; None for one from `reward.name`.
        policies: names; empty for all but the reference.
        reference: name of a policy.
        task: tldr, helpful or harmless, the column of the paper's Table 1 and the words to a language model. None for
            that of the prompts' dataset; prompts of your own have no column there.
        command: for run.json.

    Returns:
        0; 1 if there is no verdict at all.

    Raises:
        ValueError, TypeError, OSError, ConnectionError: what does not fit, a judge that refuses or is down, or another
            process in `out`.
    """
    began, options_of = time.time(), options.reward
    if options_of is None:
        raise ValueError(
            "the configuration has no section `reward`, which is the judge; add it, or pass reward.kind=..."
        )
    if task is None:
        task = options.data.prompts if options.data.prompts in TASKS else OTHER
    elif task not in TASKS:
        raise ValueError(f"--task {task!r} is none of {', '.join(TASKS)}; choose one of them")
    if options_of.kind == "annotator" and options_of.cache is None:
        options_of = replace(options_of, cache=str(out / "cache"))
    name = name or re.sub(r"[^\w.-]+", "-", Path(options_of.name).name)
    pairs, answers = store.names(out / COMPLETIONS), store.names(out / DIALOGUES)
    if not pairs and not answers:
        raise ValueError(f"{out} holds no completions; run `dar-ref evaluate generate --out {out}` first")
    with results.locked(out):
        jobs = Jobs(options_of, _device(options), out, name, task)
        shown = jobs.pairs(_chosen(policies, pairs, reference), reference) if pairs else []
        shown += jobs.grades(_chosen(policies, answers, None)) if answers else []
        counts = dict(jobs.counts)
        results.write_json(out / "judge.run.json", results.run_info(command, began) | {"counts": counts})
    header = ("policy", "reference", "win rate or grade", "judged", "not judged", "first place wins", "tokens")
    notes = (f"this time: {', '.join(f'{v} {k}' for k, v in sorted(counts.items()) if v) or 'nothing was asked'}",)
    print(plain_text(Table(header, tuple(row for row, _ in shown), notes)), end="")
    return 0 if any(judged for _, judged in shown) else 1


Shown = tuple[tuple[str, ...], int]  # a row of the table, and how many have a verdict


class Jobs:
    """The work of one judge on one folder."""

    def __init__(self, options: RewardOptions, device: Any, out: Path, name: str, task: str) -> None:
        self.options, self.device, self.out, self.name, self.task = options, device, out, name, task
        self.counts = Counter[str]()

    def head(self, asked: Judge) -> dict[str, Any]:
        """What a verdict depends on, besides the completions."""
        chosen = options_as_json(self.options).items()  # type: ignore[arg-type]
        judge = {option: value for option, value in chosen if option not in NOT_THE_VERDICT}
        return {"judge": judge, "content": asked.content(), "task": self.task}

    def pairs(self, policies: Sequence[str], reference: str) -> list[Shown]:
        """Judge each policy against the reference."""
        theirs = store.read_rows(self.out / COMPLETIONS / reference)
        ours = {policy: store.read_rows(self.out / COMPLETIONS / policy) for policy in policies}
        rows = [row for found in (theirs, *ours.values()) for row in found.rows]
        shown = []
        with contextlib.closing(self._judge(rows)) as asked:
            common = {**self.head(asked), "reference": theirs.sha256}
            for policy, found in ours.items():
                pairs, lacking = paired(found.rows, theirs.rows)
                head = {**common, "policy": found.sha256, "missing": lacking}
                work = RowFile(self.out / VERDICTS / self.name / f"{policy}{VERSUS}{reference}", head, KEY)
                self._do(work, asked, pairs, policy)
                rates = compared(list(work.rows.values()), lacking)
                values = (_percent(rates["win_rate"]), rates, _percent(rates["first_share"]))
                shown.append(self._shown(policy, reference, *values))
            self.counts += asked.counts
        return shown

    def grades(self, policies: Sequence[str]) -> list[Shown]:
        """Grade both turns of each policy's answers.

        Raises:
            ValueError: a judge that gives rewards, not grades; rows of another setting.
        """
        shown = []
        with contextlib.closing(self._judge([])) as asked:
            if isinstance(asked, RewardJudge):
                raise ValueError(f"{self.options.name!r} gives rewards, not grades from 1 to 10; take another judge")
            common = self.head(asked)
            for policy in policies:
                ours = store.read_rows(self.out / DIALOGUES / policy)
                work = RowFile(self.out / GRADES / self.name / policy, {**common, "policy": ours.sha256}, KEY)
                self._do(work, asked, ours.rows, policy)
                found = graded(list(work.rows.values()))
                mean = "none" if found["score"] is None else f"{found['score']:.2f}"
                shown.append(self._shown(policy, "", mean, found, ""))
            self.counts += asked.counts
        return shown

    def _shown(self, policy: str, reference: str, value: str, found: dict[str, Any], first_share: str) -> Shown:
        reasons = ", ".join(f"{count} {reason}" for reason, count in found["not_judged"].items()) or "0"
        tokens = " + ".join(map(str, found["tokens"]))
        return (policy, reference, value, str(found["judged"]), reasons, first_share, tokens), found["judged"]

    def _judge(self, rows: Sequence[Row]) -> Any:
        if self.options.kind == "annotator":
            return EndpointJudge(self.options, self.task)
        function = compares(self.options)
        return FunctionJudge(function, self.options.name) if function else RewardJudge(self.options, self.device, rows)

    def _do(self, work: RowFile, asked: Any, units: Sequence[Any], policy: str) -> None:
        """Ask about what `work` lacks, or has no answer to."""
        keys = [_key(unit) for unit in units]
        again = [key for key, row in work.rows.items() if row["reason"] == NO_ANSWER]
        if work.finished and not again:
            return
        if work.finished or again:
            work.reopen(again)
        missing = [unit for unit, key in zip(units, keys, strict=True) if key not in work.rows]
        with reporting() as report:
            report(policy, len(work.rows), len(units))
            for begin in range(0, len(missing), CHUNK):
                chunk = missing[begin : begin + CHUNK]
                work.add(_rows(asked, chunk))
                report(policy, len(work.rows), len(units))
                _check_useful(work, asked)
        work.finish(keys)


def paired(ours: Sequence[Row], theirs: Sequence[Row]) -> tuple[list[Pair], int]:
    """Pairs of the same prompt and the same sample (one answer of the reference serves all samples), and how many
    answers have no partner."""
    first = {row["id"]: row for row in reversed(theirs)}
    by_key = {(row["id"], row["sample"]): row for row in theirs}
    other = [by_key.get((row["id"], row["sample"]), first.get(row["id"])) for row in ours]
    pairs = [Pair(row, match) for row, match in zip(ours, other, strict=True) if match is not None]
    return pairs, len(ours) - len(pairs) + len(first.keys() - {row["id"] for row in ours})


def _rows(asked: Any, units: Sequence[Any]) -> list[Row]:
    """Verdicts of pairs, or grades of answers, as rows."""
    if isinstance(units[0], Pair):
        verdicts = asked(units)
        return [
            {"id": p.a["id"], "sample": p.a["sample"], "lengths": [len(row["ids"]) for row in p], **v._asdict()}
            for p, v in zip(units, verdicts, strict=True)
        ]
    turns = [asked.grade(units, turn) for turn in range(TURNS)]
    rows = []
    for row, *grades in zip(units, *turns, strict=True):
        reasons = [grade.reason for grade in grades if grade.reason]
        reason = NO_ANSWER if NO_ANSWER in reasons else next(iter(reasons), None)
        tokens = [sum(grade.tokens[i] for grade in grades) for i in range(2)]
        values = {"grades": [grade.value for grade in grades], "reasons": reasons, "reason": reason, "tokens": tokens}
        rows.append({"id": row["id"], "sample": row["sample"], "category": row["columns"]["category"], **values})
    return rows


def _check_useful(work: RowFile, asked: Any) -> None:
    """Raise ValueError if many were asked about and not one has a verdict: nobody wants to pay for the rest."""
    reasons = {row["reason"] for row in work.rows.values()}
    if len(work.rows) >= GIVE_UP and None not in reasons:
        cut = asked.counts["cut"]
        why = f"; {cut} answers ended at reward.max_tokens, raise it" if cut else ""
        raise ValueError(
            f"not one of the first {len(work.rows)} has a verdict ({', '.join(sorted(reasons))}){why}; try the judge on"
            f" one pair by hand, or remove {work.path.name}.* and take another"
        )


def _key(unit: Any) -> tuple[Any, ...]:
    row = unit.a if isinstance(unit, Pair) else unit
    return tuple(row[name] for name in KEY)


def _chosen(wanted: Sequence[str], there: Sequence[str], reference: str | None) -> list[str]:
    for name in [*wanted, *([] if reference is None else [reference])]:
        if name not in there:
            raise ValueError(f"no completions of {name!r}; there are {', '.join(there)}: generate them first")
    return [name for name in wanted or there if name != reference]


def _device(options: RunOptions) -> Any:
    return "cpu" if options.training.get("use_cpu") else torch.accelerator.current_accelerator() or "cpu"


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.1f} %"
