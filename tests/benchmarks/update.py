"""Seconds and memory of an update: DAR with everything, with each piece off, and TRL's GRPO, RLOO and SFT.
`make benchmark-update`.

All train one step on the same rollouts: the same random model, prompts, completions of unequal lengths and rewards.
Nothing is generated in the measurement; DAR is given the log-probs that the sampler drew with, as in a run. A step is

    score    log-probs under pi_0 (and pi_t, where a method needs them) and everything else before the first loss
    update   forward, backward and optimizer step (SGD, which is small) of all micro-batches

Each measurement is a process of its own, forked from one that has run every variant with a small vocabulary. Rounds
are interleaved: all variants, then all again. Ratios are to TRL's GRPO with KL of the same round. Seconds are processor
time on one thread, so other work on the machine hardly counts. Memory is the largest resident set of the step above
that before it.

Then the head alone, as large as in a run: loss and gradients of 4 x 512 tokens from hidden states and 150,000 words, by
the fused loss, by TRL's kernel, and by log-softmax of the whole logits.

Beside each ratio stands what arithmetic alone would give: multiply-adds of the matrix products that a variant makes,
for the tokens it makes them for, padding included, over those of GRPO. It leaves out softmax, attention's scores and
all that is not a product.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dar_ref import results

VOCABULARIES, WARM_UP = (32_000, 150_000), 500
HIDDEN, INNER, LAYERS, HEADS = 256, 768, 4, 4
ROWS, BATCH, K = 16, 4, 4  # completions of a step, of a micro-batch, of a prompt
PROMPT, COMPLETION = (6, 32), (4, 64)  # shortest and longest, tokens
EOS = 1
SHARPNESS = 9.0  # standard deviation of the logits: about as certain of the next token as a trained model
OFF = {
    "fused_loss": {"fused_loss": False},
    "skip_tolerance": {"skip_tolerance": 0.0},
    "sort_by_length": {"sort_by_length": False},
    "sampler_logps": {"sampler_logps": False},
}
DAR = {"DAR": {}, **{f"DAR without {name}": off for name, off in OFF.items()}}
DAR["DAR without all four"] = {name: value for off in OFF.values() for name, value in off.items()}
TRL = ("TRL GRPO + KL", "TRL RLOO", "TRL SFT")
VARIANTS = (*DAR, *TRL)
PHASES = ("score", "update", "seconds")
HEAD_SHAPE = (4, 512, HIDDEN, 150_000)  # B, T, H, V
HEADS_OF = ("fused loss", "TRL's kernel", "whole logits")


class Rollout(NamedTuple):
    """What every variant is given: ids of prompts and completions, log-probs of the latter's tokens, and rewards."""

    prompts: list[list[int]]
    completions: list[list[int]]
    logps: list[list[float]]
    rewards: list[float]


def save_model(folder: Path, vocabulary: int) -> None:
    """A random model with certain predictions, and a tokenizer of one token per word."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        pad_token_id=0,
        eos_token_id=EOS,
        bos_token_id=None,
    )
    model = Qwen2ForCausalLM(config)
    torch.nn.init.normal_(model.lm_head.weight, std=SHARPNESS / HIDDEN**0.5)
    model.save_pretrained(folder)
    words = {"<pad>": 0, "<eos>": 1} | {f"w{n}": n for n in range(2, vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")
    fast.save_pretrained(folder)


def roll_out(folder: Path) -> Rollout:
    """Sample completions, and cut them to unequal lengths: log-normal, as lengths of answers are."""
    import random

    import torch
    from transformers import Qwen2ForCausalLM

    from dar_ref.llm.sampler import recording

    rng = random.Random(0)
    model = Qwen2ForCausalLM.from_pretrained(folder)
    prompts = [
        [rng.randrange(2, model.config.vocab_size) for _ in range(rng.randint(*PROMPT))] for _ in range(ROWS // K)
    ]
    made, logps = [], []
    torch.manual_seed(0)
    for prompt in prompts:
        with recording(model, 1.0) as recorder:
            ids = model.generate(torch.tensor([prompt] * K), do_sample=True, top_k=0, max_new_tokens=COMPLETION[1])
        for row, drawn in zip(ids[:, len(prompt) :].tolist(), recorder.rows(), strict=True):
            wanted, end = round(rng.lognormvariate(3.1, 0.7)), [*row, EOS].index(EOS) + 1
            length = min(max(COMPLETION[0], wanted), COMPLETION[1], end)
            made.append(row[:length])
            logps.append(drawn[:length])
    rewards = [rng.gauss(0.0, 1.0) for _ in made]
    return Rollout([prompt for prompt in prompts for _ in range(K)], made, logps, rewards)


# --- trainers ---------------------------------------------------------------------------------------------------------


def make(variant: str, folder: Path, rollout: Rollout, out: Path) -> Any:
    """The trainer of a variant, which takes the rollout for what it sampled."""
    import torch
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM
    from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer, SFTConfig, SFTTrainer

    from dar_ref.llm import DARConfig, DARTrainer

    common: dict[str, Any] = {
        "output_dir": str(out),
        "max_steps": 1,
        "per_device_train_batch_size": BATCH,
        "report_to": [],
    }
    common |= {"gradient_accumulation_steps": ROWS // BATCH, "use_cpu": True, "bf16": False, "save_strategy": "no"}
    common |= {"gradient_checkpointing": False, "optim": "sgd", "learning_rate": 1e-6, "disable_tqdm": True}
    common |= {"max_grad_norm": 0.0, "logging_steps": 1}
    sampling = {"num_generations": K, "max_completion_length": COMPLETION[1]}
    model = Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    if variant == "TRL SFT":
        rows = [
            {"input_ids": p + c, "completion_mask": [0] * len(p) + [1] * len(c)}
            for p, c in zip(rollout.prompts, rollout.completions, strict=True)
        ]
        arguments = SFTConfig(**common, completion_only_loss=True, max_length=None)
        return SFTTrainer(model, arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    texts = [" ".join(f"w{i}" for i in rollout.prompts[row]) for row in range(0, ROWS, K)]
    data = Dataset.from_dict({"prompt": texts})
    classes: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "TRL GRPO + KL": (GRPOTrainer, GRPOConfig, {"beta": 0.04, "loss_type": "grpo"}),
        "TRL RLOO": (RLOOTrainer, RLOOConfig, {"beta": 0.05, "normalize_advantages": False}),
    }
    trainer_class, config_class, given = classes.get(variant) or (DARTrainer, DARConfig, DAR[variant])
    arguments = config_class(**common, **sampling, **given, shuffle_dataset=False)
    reward = lambda completions, **_: rollout.rewards[: len(completions)]  # noqa: E731 - it closes over the rollout
    trainer = trainer_class(model, reward, arguments, data, processing_class=tokenizer)
    replay(trainer, rollout)
    return trainer


def replay(trainer: Any, rollout: Rollout) -> None:
    """Let a trainer take the rollout for what it sampled."""
    lean = getattr(trainer, "_lean", None)
    ours = lean is not None and trainer.args.sampler_logps

    def replayed(prompt_ids: list[list[int]], *_: Any, **__: Any) -> Any:
        if prompt_ids != rollout.prompts:
            raise RuntimeError("the prompts are not those of the rollout")
        if ours:
            lean.recorded = True
        logps = rollout.logps if ours else None
        return rollout.completions if type(trainer).__name__ == "RLOOTrainer" else (rollout.completions, logps)

    trainer._generate_single_turn = replayed


# --- one measurement --------------------------------------------------------------------------------------------------


class Measured(NamedTuple):
    """Seconds of the phases and of the step, bytes above those before it, and how many tokens each forward had."""

    score: float
    update: float
    seconds: float
    memory: int
    forwards: list[list[int]]
    skipped: dict[str, float]


def measure(variant: str, folder: Path, rollout: Rollout, out: Path) -> Measured:
    """One step of a variant, in this process."""
    import torch
    from transformers import TrainerCallback

    torch.set_num_threads(1)
    trainer = make(variant, folder, rollout, out)
    before, prepare = {"score": 0.0}, trainer._prepare_inputs
    forwards: list[list[int]] = []

    def timed(*positional: Any, **named: Any) -> Any:
        began = time.process_time()
        found = prepare(*positional, **named)
        before["score"] += time.process_time() - began
        return found

    def watched(_model: Any, _positional: Any, named: dict[str, Any]) -> None:
        forwards.append([int(torch.is_grad_enabled()), named["input_ids"].numel(), scored_positions(named)])

    class Step(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins again
            self.resident, self.began = of_process("VmRSS"), time.process_time()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.seconds = time.process_time() - self.began
            self.memory = of_process("VmHWM") - self.resident

    trainer._prepare_inputs = timed
    for model in (trainer.model, getattr(trainer, "ref_model", None)):
        if model is not None:
            model.register_forward_pre_hook(watched, with_kwargs=True)
    step = Step()
    trainer.add_callback(step)
    trainer.train()
    score = before["score"]
    skipped = {k: v for k, v in trainer.state.log_history[0].items() if k.startswith("skipped/")}
    return Measured(score, step.seconds - score, step.seconds, step.memory, forwards, skipped)


def scored_positions(named: dict[str, Any]) -> int:
    """Positions that the head is computed for: all but the last of TRL's, those of completions in the fused loss."""
    if "weigh" in named:
        return int((named["labels"] != -100).sum())
    return named["input_ids"].shape[0] * (named["input_ids"].shape[1] - 1)


def of_process(name: str) -> int:
    """VmRSS or VmHWM of this process, bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def products(variant: str, measured: Measured, vocabulary: int) -> float:
    """Multiply-adds of the matrix products of a step: a layer's once forward and twice backward; the head's once for
    scores, three times in the fused loss, four times in TRL's head, which makes the logits again."""
    layer = LAYERS * (4 * HIDDEN * HIDDEN + 3 * HIDDEN * INNER)
    head = HIDDEN * vocabulary
    again = 3 if variant in DAR and "fused_loss" not in DAR[variant] else 4
    if variant == "TRL SFT":
        again = 3
    return float(
        sum(
            tokens * layer * (3 if trained else 1) + positions * head * (again if trained else 1)
            for trained, tokens, positions in measured.forwards
        )
    )


def measure_head(kind: str) -> Measured:
    """Loss and gradients of the head alone."""
    import torch
    from trl.kernels import ChunkedLogProbFunction

    from dar_ref.losses import linear_cross_entropy

    torch.set_num_threads(1)
    torch.manual_seed(0)
    b, t, h, v = HEAD_SHAPE
    hidden = torch.randn(b, t, h, requires_grad=True)
    head = (torch.randn(v, h) * 0.05).requires_grad_()
    ids, weights = torch.randint(v, (b, t)), torch.rand(b)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    resident, began = of_process("VmRSS"), time.process_time()
    if kind == "fused loss":
        loss = linear_cross_entropy(hidden, head, ids, torch.ones(b, t), weights).loss
    else:
        if kind == "TRL's kernel":
            flat = (hidden.view(-1, h), head, None, ids.view(-1), 1.0, 32768, None, 1.0, ("entropy",))
            logps = ChunkedLogProbFunction.apply(*flat)[0].view(b, t)  # type: ignore[no-untyped-call]
        else:
            logps = torch.log_softmax(hidden @ head.t(), dim=-1).gather(-1, ids[..., None])[..., 0]
        loss = -(weights * logps.sum(dim=1)).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    seconds = time.process_time() - began
    return Measured(0.0, seconds, seconds, of_process("VmHWM") - resident, [], {})


def in_a_fork(work: Callable[[], Measured]) -> Measured:
    """The result of `work` in a child process."""
    sys.stdout.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            found = work()
            with os.fdopen(writing, "w") as stream:
                json.dump(found._asdict(), stream)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as stream:
        text = stream.read()
    if os.waitpid(child, 0)[1] != 0:
        raise RuntimeError("a measurement failed; its output is above")
    return Measured(**json.loads(text))


# --- the whole --------------------------------------------------------------------------------------------------------


def main() -> int:
    """Measure, and write results.json, run.json and table.md. Return 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--vocabularies", type=int, nargs="+", default=VOCABULARIES)
    parser.add_argument("--parts", nargs="+", choices=("steps", "head"), default=("steps", "head"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/update"))
    arguments = parser.parse_args()
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.set_verbosity_error()
    began, load = time.time(), [os.getloadavg()[0]]
    written = arguments.out / "results.json"
    content = json.loads(written.read_text(encoding="utf-8")) if written.exists() else {}
    if "head" in arguments.parts:
        content["head"] = of_head(arguments.rounds)
    if "steps" in arguments.parts:
        content |= {"sizes": sizes(), "rounds": arguments.rounds}
        content["vocabularies"] = of_steps(arguments.vocabularies, arguments.rounds)
    load.append(os.getloadavg()[0])
    results.write_json(written, content)
    about = results.run_info("make benchmark-update", began) | {"load": [round(x, 1) for x in load]}
    results.write_json(arguments.out / "run.json", about)
    results.write_text(arguments.out / "table.md", table(content))
    results.write_text(arguments.out / "head.md", head_table(content))
    print(table(content), head_table(content), sep="\n")
    return 0


def of_head(rounds: int) -> dict[str, Any]:
    """All rounds of the head alone, by what makes its gradients."""
    rows: dict[str, list[Measured]] = {kind: [] for kind in HEADS_OF}
    for _ in range(rounds):
        for kind in HEADS_OF:
            rows[kind].append(in_a_fork(lambda k=kind: measure_head(k)))  # type: ignore[misc]
    return {
        kind: {"seconds": [round(m.seconds, 3) for m in measured], "memory": [m.memory for m in measured]}
        for kind, measured in rows.items()
    }


def of_steps(vocabularies: Sequence[int], rounds: int) -> dict[str, Any]:
    """All rounds of all variants, by vocabulary and variant."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_model(folder / "warm", WARM_UP)
        rollout = roll_out(folder / "warm")
        for variant in VARIANTS:
            measure(variant, folder / "warm", rollout, folder / "out")
        for vocabulary in vocabularies:
            model = folder / str(vocabulary)
            save_model(model, vocabulary)
            found[str(vocabulary)] = of_vocabulary(model, vocabulary, rounds, folder / "out")
    return found


def of_vocabulary(model: Path, vocabulary: int, rounds: int, out: Path) -> dict[str, Any]:
    """All rounds of all variants, by variant."""
    rollout = roll_out(model)
    rows: dict[str, list[Measured]] = {variant: [] for variant in VARIANTS}
    for number in range(rounds):
        for variant in VARIANTS:
            rows[variant].append(in_a_fork(lambda v=variant: measure(v, model, rollout, out)))  # type: ignore[misc]
            print(f"{vocabulary}, round {number + 1}, {variant}: {rows[variant][-1].seconds:.2f} s", flush=True)
    yardstick = products("TRL GRPO + KL", rows["TRL GRPO + KL"][0], vocabulary)
    return {
        variant: {
            **{phase: [round(getattr(m, phase), 3) for m in measured] for phase in PHASES},
            "memory": [m.memory for m in measured],
            "products": round(products(variant, measured[0], vocabulary) / yardstick, 4),
            "skipped": measured[0].skipped,
        }
        for variant, measured in rows.items()
    } | {"tokens": tokens(rollout)}


def tokens(rollout: Rollout) -> dict[str, Any]:
    """Lengths of the rollout, and how certain the model is."""
    lengths = [len(c) for c in rollout.completions]
    sums = sum(map(sum, rollout.logps))
    return {"prompts": [len(p) for p in rollout.prompts], "completions": lengths, "logp": round(sums / sum(lengths), 3)}


def sizes() -> dict[str, Any]:
    """What the model and the batch are."""
    return {"hidden": HIDDEN, "inner": INNER, "layers": LAYERS, "rows": ROWS, "micro_batch": BATCH, "K": K}


def ratios(of_variants: dict[str, Any], variant: str, of: str = "seconds") -> list[float]:
    """A phase of a variant over that of TRL's GRPO with KL, round by round."""
    pairs = zip(of_variants[variant][of], of_variants["TRL GRPO + KL"][of], strict=True)
    return [ours / theirs for ours, theirs in pairs]


def table(content: dict[str, Any]) -> str:
    """The ratios in Markdown, with the smallest and largest of the rounds."""
    parts = []
    for vocabulary, rows in content["vocabularies"].items():
        lines = [
            f"**Vocabulary {int(vocabulary):,}**\n",
            "| | score, s | update, s | step / GRPO's | spread | products / GRPO's | memory, MB | memory / GRPO's |",
            "| --- |" + " ---: |" * 7,
        ]
        for variant in VARIANTS:
            row, of_step = rows[variant], ratios(rows, variant)
            score, update = (statistics.median(row[phase]) for phase in ("score", "update"))
            memory, share = statistics.median(row["memory"]) / 1e6, statistics.median(ratios(rows, variant, "memory"))
            lines.append(
                f"| {variant} | {score:.2f} | {update:.2f} | {statistics.median(of_step):.2f} |"
                f" {min(of_step):.2f} to {max(of_step):.2f} | {row['products']:.2f} | {memory:.0f} | {share:.2f} |"
            )
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def head_table(content: dict[str, Any]) -> str:
    """The head alone, in Markdown."""
    b, t, h, v = HEAD_SHAPE
    lines = [f"**The head alone**, {b} x {t} tokens, {h} dimensions, {v:,} words, float32\n"]
    lines += ["| | seconds | spread | memory, MB | memory / TRL's |", "| --- |" + " ---: |" * 4]
    theirs = statistics.median(content["head"]["TRL's kernel"]["memory"])
    for kind, row in content["head"].items():
        memory, seconds = statistics.median(row["memory"]), row["seconds"]
        spread = f"{min(seconds):.1f} to {max(seconds):.1f}"
        middle = statistics.median(seconds)
        lines.append(f"| {kind} | {middle:.1f} | {spread} | {memory / 1e6:.0f} | {memory / theirs:.2f} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
