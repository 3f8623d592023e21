"""One step of an update, measured in a process of its own: models, rollouts and trainers of `update`, and its head."""

import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

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
TRL = ("TRL GRPO + KL", "TRL GRPO", "TRL RLOO", "TRL SFT")
VARIANTS = (*DAR, *TRL)
REAL_VARIANTS = ("DAR", "DAR without all four", *TRL)
REAL_MODEL, REAL_PROMPTS = Path("out/real-model"), Path("out/real-prompts/sentiment/train.jsonl")
PHASES = ("score", "update", "seconds")
HEAD_SHAPE = (4, 512, HIDDEN, 150_000)  # B, T, H, V
HEADS_OF = ("fused loss", "TRL's kernel", "whole logits")


class Rollout(NamedTuple):
    """What every variant is given: the prompts as data has them, then for each completion the ids of its prompt and its
    own, the log-probs of its tokens, and its reward."""

    data: list[Any]
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


def random_prompts(folder: Path) -> list[Any]:
    """Prompts of random words, of unequal lengths."""
    rng, vocabulary = random.Random(0), json.loads((folder / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    return [" ".join(f"w{rng.randrange(2, vocabulary)}" for _ in range(rng.randint(*PROMPT))) for _ in range(ROWS // K)]


def real_prompts() -> list[Any]:
    """The first prompts of the sentiment task, as messages."""
    with REAL_PROMPTS.open(encoding="utf-8") as lines:
        return [json.loads(next(lines))["prompt"] for _ in range(ROWS // K)]


def roll_out(folder: Path, data: list[Any], cut: bool) -> Rollout:
    """Sample completions; `cut` them to log-normal lengths, as those of answers are, or leave them whole."""
    import torch
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    from dar_ref.llm.sampler import recording

    rng = random.Random(0)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), PreTrainedTokenizerFast.from_pretrained(folder)
    prompts = [
        tokenizer(row)["input_ids"]
        if isinstance(row, str)
        else tokenizer.apply_chat_template(row, add_generation_prompt=True, return_dict=True)["input_ids"]
        for row in data
    ]
    end_token = model.config.eos_token_id
    made, logps = [], []
    torch.manual_seed(0)
    for prompt in prompts:
        with recording(model, 1.0) as recorder:
            ids = model.generate(torch.tensor([prompt] * K), do_sample=True, top_k=0, max_new_tokens=COMPLETION[1])
        for row, drawn in zip(ids[:, len(prompt) :].tolist(), recorder.rows(), strict=True):
            wanted = max(COMPLETION[0], round(rng.lognormvariate(3.1, 0.7))) if cut else COMPLETION[1]
            length = min(wanted, COMPLETION[1], [*row, end_token].index(end_token) + 1)
            made.append(row[:length])
            logps.append(drawn[:length])
    rewards = [rng.gauss(0.0, 1.0) for _ in made]
    return Rollout(data, [prompt for prompt in prompts for _ in range(K)], made, logps, rewards)


# --- trainers ---------------------------------------------------------------------------------------------------------


def make(variant: str, folder: Path, rollout: Rollout, out: Path) -> Any:
    """The trainer of a variant, which takes the rollout for what it sampled."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
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
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    if variant == "TRL SFT":
        rows = [
            {"input_ids": p + c, "completion_mask": [0] * len(p) + [1] * len(c)}
            for p, c in zip(rollout.prompts, rollout.completions, strict=True)
        ]
        arguments = SFTConfig(**common, completion_only_loss=True, max_length=None)
        return SFTTrainer(model, arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    data = Dataset.from_dict({"prompt": rollout.data})
    classes: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "TRL GRPO + KL": (GRPOTrainer, GRPOConfig, {"beta": 0.04, "loss_type": "grpo"}),
        "TRL GRPO": (GRPOTrainer, GRPOConfig, {"beta": 0.0, "loss_type": "grpo"}),
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


def products(variant: str, measured: Measured, layers: int, head: int) -> float:
    """Multiply-adds of the matrix products of a step, from the number of weights of `layers` and `head`: a layer's once
    forward and twice backward; the head's once for scores, three times in the fused loss, four times in TRL's head,
    which makes the logits again."""
    again = 3 if variant == "TRL SFT" or (variant in DAR and "fused_loss" not in DAR[variant]) else 4
    return float(
        sum(
            tokens * layers * (3 if trained else 1) + positions * head * (again if trained else 1)
            for trained, tokens, positions in measured.forwards
        )
    )


def matrices(folder: Path) -> tuple[int, int]:
    """How many weights the matrices of the layers have, and the head."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    count = {name: m.weight.numel() for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    head = count.pop("lm_head")
    return sum(count.values()), head


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
