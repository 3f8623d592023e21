"""One step of an update, measured in a process of its own: the trainers of `update`, which replay a rollout."""

from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks.meters import METERS
from tests.benchmarks.update_model import OURS, Rollout, Setting, Weights, load

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
PHASES = ("score", "update", "seconds")


def make(variant: str, folder: Path, rollout: Rollout, out: Path, setting: Setting = OURS) -> Any:
    """The trainer of a variant, which takes the rollout for what it sampled."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import PreTrainedTokenizerFast
    from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer, SFTConfig, SFTTrainer

    from dar_ref.llm import DARConfig, DARTrainer

    common: dict[str, Any] = {
        "output_dir": str(out),
        "max_steps": 1 + setting.warm_up,
        "per_device_train_batch_size": setting.batch,
        "report_to": [],
    }
    common |= {"gradient_accumulation_steps": setting.rows // setting.batch, "save_strategy": "no"}
    common |= {"use_cpu": setting.device == "cpu", "bf16": setting.narrow}
    common |= {"gradient_checkpointing": setting.checkpointing, "optim": "sgd", "learning_rate": 1e-6}
    common |= {"disable_tqdm": True, "max_grad_norm": 0.0, "logging_steps": 1}
    sampling = {"num_generations": setting.K, "max_completion_length": setting.completion[1]}
    model, tokenizer = load(folder, setting), PreTrainedTokenizerFast.from_pretrained(folder)
    others: dict[str, Any] = {"processing_class": tokenizer}
    if setting.rank:
        on = {"target_modules": "all-linear", "task_type": "CAUSAL_LM"}
        others["peft_config"] = LoraConfig(r=setting.rank, lora_alpha=2 * setting.rank, **on)
    if variant == "TRL SFT":
        rows = [
            {"input_ids": p + c, "completion_mask": [0] * len(p) + [1] * len(c)}
            for p, c in zip(rollout.prompts, rollout.completions, strict=True)
        ]
        arguments = SFTConfig(**common, completion_only_loss=True, max_length=None)
        return SFTTrainer(model, arguments, train_dataset=Dataset.from_list(rows), **others)
    data = Dataset.from_dict({"prompt": rollout.data})
    classes: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "TRL GRPO + KL": (GRPOTrainer, GRPOConfig, {"beta": 0.04, "loss_type": "grpo"}),
        "TRL GRPO": (GRPOTrainer, GRPOConfig, {"beta": 0.0, "loss_type": "grpo"}),
        "TRL RLOO": (RLOOTrainer, RLOOConfig, {"beta": 0.05, "normalize_advantages": False}),
    }
    trainer_class, config_class, given = classes.get(variant) or (DARTrainer, DARConfig, DAR[variant])
    arguments = config_class(**common, **sampling, **given, shuffle_dataset=False)
    reward = lambda completions, **_: rollout.rewards[: len(completions)]  # noqa: E731 - it closes over the rollout
    trainer = trainer_class(model, reward, arguments, data, **others)
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
    """Seconds of the phases and of the step, bytes before it and above those, and how many tokens each forward had."""

    score: float
    update: float
    seconds: float
    before: int
    memory: int
    forwards: list[list[int]]
    skipped: dict[str, float]


def measure(variant: str, folder: Path, rollout: Rollout, out: Path, setting: Setting = OURS) -> Measured:
    """One step of a variant, in this process: the last, if others warm up."""
    import torch
    from transformers import PrinterCallback, TrainerCallback

    if setting.device == "cpu":
        torch.set_num_threads(1)
    trainer, meter = make(variant, folder, rollout, out, setting), METERS[setting.device]()
    before, prepare = {"score": 0.0}, trainer._prepare_inputs
    forwards: list[list[int]] = []

    def timed(*positional: Any, **named: Any) -> Any:
        began = meter.now()
        found = prepare(*positional, **named)
        before["score"] += meter.now() - began
        return found

    def watched(_model: Any, _positional: Any, named: dict[str, Any]) -> None:
        forwards.append([int(torch.is_grad_enabled()), named["input_ids"].numel(), scored_positions(named)])

    class Step(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            before["score"] = 0.0
            forwards.clear()
            meter.restart()
            self.began = meter.now()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.seconds = meter.now() - self.began
            self.memory = meter.peak() - meter.before

    trainer._prepare_inputs = timed
    for model in (trainer.model, getattr(trainer, "ref_model", None)):
        if model is not None:
            model.register_forward_pre_hook(watched, with_kwargs=True)
    if setting.narrow and hasattr(trainer, "_checked"):
        trainer._checked = True  # a random model as certain as this one rounds in bf16 more than a trained one
    step = Step()
    trainer.add_callback(step)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    score = before["score"]
    skipped = {k: v for k, v in trainer.state.log_history[setting.warm_up].items() if k.startswith("skipped/")}
    return Measured(score, step.seconds - score, step.seconds, meter.before, step.memory, forwards, skipped)


def scored_positions(named: dict[str, Any]) -> int:
    """Positions that the head is computed for: all but the last of TRL's, those of completions in the fused loss."""
    if "weigh" in named:
        return int((named["labels"] != -100).sum())
    return named["input_ids"].shape[0] * (named["input_ids"].shape[1] - 1)


def products(variant: str, measured: Measured, weights: Weights, checkpointing: bool = False) -> float:
    """Multiply-adds of the matrix products of a step. A layer: once forward, in training once for the gradient of its
    input, once for that of its weights unless they are frozen under adapters, and once more forward where activations
    are made again. The head: the same, and once more where TRL's kernel makes the logits again. Adapters: not in
    scores, which are mostly those of pi_0."""
    layers, head, adapters = weights
    again = not (variant == "TRL SFT" or (variant in DAR and "fused_loss" not in DAR[variant]))
    back = 1 if adapters else 2  # gradients
    of_layers = (1 + back + checkpointing) * layers + (3 + checkpointing) * adapters
    return float(
        sum(
            tokens * (of_layers if trained else layers) + positions * head * ((1 + back + again) if trained else 1)
            for trained, tokens, positions in measured.forwards
        )
    )


def matrix_rate(device: str) -> float:
    """Multiply-adds per second of a large square product, in bf16 on a GPU: what the device can do. A process that has
    answered this has all imports."""
    import torch
    import trl  # noqa: F401

    import dar_ref.llm.trainer  # noqa: F401

    meter, size, dtype = (METERS[device](), *((8192, torch.bfloat16) if device == "cuda" else (512, torch.float32)))
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    times = []
    for _ in range(20):
        began = meter.now()
        left @ right
        times.append(meter.now() - began)
    return size**3 / sorted(times)[len(times) // 2]
