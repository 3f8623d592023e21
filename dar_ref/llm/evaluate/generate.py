"""`dar-ref evaluate generate`: completions of several policies on the same prompts, in `--out`.

    completions/NAME.jsonl   a line for each answer: id, sample, prompt, completion, ids, finished, columns of the data
    dialogues/NAME.jsonl     of --questions: a line for each question with its two answers, see `questions`

Prompts, template and lengths come from the configuration of a training run, by the same code: the prompts of
`data.eval_prompts` or `eval_split`, or else `data.prompts`. An answer is kept as soon as its batch is there (`store`),
so the same command goes on after a stop, and adds policies to a folder without sampling the others again.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dar_ref import results
from dar_ref.evaluation import Table, plain_text
from dar_ref.llm.checkpoint import rows_hash
from dar_ref.llm.data.load import load_eval_prompts, load_prompts
from dar_ref.llm.evaluate import COMPLETIONS, DIALOGUES, questions
from dar_ref.llm.evaluate.policies import PI_0, Given, Model, find_given, find_model, is_given, load_model
from dar_ref.llm.evaluate.sampling import Sampler, Sampling
from dar_ref.llm.evaluate.store import Row, RowFile
from dar_ref.llm.models.policy import model_folder, model_positions, policy_tokenizer
from dar_ref.llm.models.prompts import PromptReader
from dar_ref.llm.models.tokenizers import tokenizer_hash
from dar_ref.llm.options import RunOptions
from dar_ref.progress import reporting


def generate(
    options: RunOptions, policies: Mapping[str, str], drawn: Sampling, out: Path, file: Path | None, command: str
) -> int:
    """Sample from every policy, or read its answers; `pi_0` is always one. Returns 0.

    Args:
        options: of a training run.
        policies: name -> source, see `policies`.
        drawn: how answers are drawn.
        out: folder to write to.
        file: questions of two turns, in place of the prompts.
        command: for run.json.

    Raises:
        ValueError, TypeError, OSError: what does not fit, before anything is sampled; or another process in `out`.
    """
    began = time.time()
    reader = PromptReader(policy_tokenizer(options.model, model_folder(options.model, weights=False)), drawn.template)
    prompts, notes = (
        _prompts(options, reader.tokenizer, drawn) if file is None else questions.load_questions(file, reader)
    )
    sources: dict[str, Model | Given] = {}
    for name, source in {PI_0: None, **policies}.items():
        answered = source is not None and is_given(source)
        if answered and file is not None:
            raise ValueError(f"{name}={source}: questions of two turns are put to models only; pass a checkpoint")
        sources[name] = find_given(source, prompts) if answered and source else find_model(options.model, source)
    kind = COMPLETIONS if file is None else DIALOGUES
    shared = {"prompts": rows_hash(prompts), **drawn.head()}
    shown = []
    with results.locked(out):
        works = {
            name: RowFile(out / kind / name, {**_made_from(options, found, reader), **shared}, ("id", "sample"))
            for name, found in sources.items()
        }
        for name, found in sources.items():
            before, work = len(works[name].rows), works[name]
            if isinstance(found, Given):
                _write_given(work, found, prompts, reader.tokenizer)
                notes += [f"{name}: {count} left out, {reason}" for reason, count in found.left_out.items()]
            else:
                _sample_all(options, name, found, prompts, drawn, work, two_turns=file is not None)
            shown.append(_shown(name, work, before, len(prompts)))
        results.write_json(out / "generate.run.json", results.run_info(command, began))
    header = ("policy", "completions", "there before", "missing", "tokens, mean", "without an end", "empty")
    print(plain_text(Table(header, tuple(shown), tuple(notes))), end="")
    return 0


def _made_from(options: RunOptions, found: Model | Given, reader: PromptReader) -> dict[str, str]:
    """The policy's part of what its rows are made from."""
    own = policy_tokenizer(options.model, found.base) if isinstance(found, Model) else reader.tokenizer
    return {"policy": found.sha256, "tokenizer": tokenizer_hash(own), "dtype": options.model.dtype}


def _prompts(options: RunOptions, tokenizer: Any, drawn: Sampling) -> tuple[list[Row], list[str]]:
    """Rows with `id`, `prompt` and `columns`, and remarks. An id that stands twice keeps its first row."""
    loaded = load_eval_prompts(options.data, tokenizer, drawn.template) or load_prompts(
        options.data, tokenizer, drawn.template
    )
    rows: dict[str, Row] = {}
    for number, row in enumerate(loaded.dataset):
        name = str(number if row.get("id") is None else row["id"])
        columns = {column: value for column, value in row.items() if column != "prompt"}
        rows.setdefault(name, {"id": name, "prompt": row["prompt"], "columns": columns})
    again = len(loaded.dataset) - len(rows)
    notes = [str(loaded.summary)] + ([f"prompts: {again} left out, their id stands twice"] if again else [])
    return list(rows.values()), notes


def _write_given(work: RowFile, source: Given, prompts: Sequence[Row], tokenizer: Any) -> None:
    """Answers that were there already, as rows; they count as ended."""
    if work.finished:
        return
    rows = []
    for row in prompts:
        if row["id"] in source.by_id:
            text = source.by_id[row["id"]]
            ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
            rows.append({**row, "sample": 0, "completion": text, "ids": ids, "finished": True})
    work.add(rows)
    work.finish((row["id"], 0) for row in rows)


def _sample_all(
    options: RunOptions,
    name: str,
    source: Model,
    prompts: Sequence[Row],
    drawn: Sampling,
    work: RowFile,
    two_turns: bool,
) -> None:
    """Sample what `work` lacks, batch by batch."""
    if work.finished:
        return
    policy, tokenizer = load_model(options.model, source)
    device = "cpu" if options.training.get("use_cpu") else torch.accelerator.current_accelerator() or "cpu"
    sampler = Sampler(name, policy.to(device), tokenizer, drawn, model_positions(options.model, source.base))
    if two_turns:
        questions.check_second_turns(sampler, prompts)
    ids = {row["id"]: tokens for row, tokens in zip(prompts, sampler.read(prompts), strict=True)}
    units = [(row, k) for row in sorted(prompts, key=lambda row: -len(ids[row["id"]])) for k in range(drawn.samples)]
    missing = [(row, k) for row, k in units if (row["id"], k) not in work.rows]
    with reporting() as report:
        report(name, len(work.rows), len(units))
        for begin in range(0, len(missing), drawn.batch_size):
            batch = missing[begin : begin + drawn.batch_size]
            rows, samples = [row for row, _ in batch], [k for _, k in batch]
            work.add(questions.answered(sampler, rows, samples) if two_turns else sampler.rows(rows, samples))
            report(name, len(work.rows), len(units))
    work.finish((row["id"], k) for row in prompts for k in range(drawn.samples))


def _shown(name: str, work: RowFile, before: int, wanted: int) -> tuple[str, ...]:
    rows = list(work.rows.values())
    tokens = [len(ids) for row in rows for ids in questions.ids_of(row)]
    texts = [text for row in rows for text in questions.texts_of(row)]
    ended = [end for row in rows for end in questions.ends_of(row)]
    counts = Counter(empty=sum(not text.strip() for text in texts), cut=ended.count(False))
    have = len({row["id"] for row in rows})
    mean = f"{sum(tokens) / len(tokens):.1f}" if tokens else "none"
    return (name, str(len(rows)), str(before), str(wanted - have), mean, str(counts["cut"]), str(counts["empty"]))
