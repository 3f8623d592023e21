"""Real training runs for a comparison of their peak memory with `dar-ref plan`: the cases, and how to run one.

A case is one run of TRL's `GRPOTrainer` on a model of random weights, made from a configuration and saved, since TRL
reads pi_0 from the folder. Prompts differ in length, so that attention gets a mask, and none ends early. Two steps: in
the second the optimizer's state is there from the start.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dar_ref.llm.options import RunOptions, make_options

STEPS = 2


@dataclass(frozen=True)
class Case:
    """One run: the model's sizes, the lengths, and options of `training`. Default: float32 without autocast."""

    name: str
    model: dict[str, Any]
    prompt: int
    completion: int
    batch: int
    accumulate: int = 1
    checkpointing: bool = True
    optim: str = "adamw_torch_fused"
    lora: dict[str, Any] | None = None
    training: dict[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    reward_model: dict[str, Any] | None = None


def sizes(
    hidden: int, inner: int, layers: int, heads: int, kv_heads: int, vocabulary: int, tied: bool
) -> dict[str, Any]:
    """Fields of a Qwen2 configuration."""
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
        "max_position_embeddings": 4096,
    }


DEEP = sizes(640, 2560, 12, 10, 2, 32768, False)  # 117 M parameters, 468 MB in float32
WIDE = sizes(512, 1536, 4, 8, 2, 150000, True)  # 89 M, most of them the vocabulary, which is tied
HEADS = sizes(768, 2048, 12, 12, 12, 32768, False)  # 135 M; a key and a value for every head
ALL = {"r": 32, "alpha": 64, "target_modules": "all-linear"}
SOME = {"r": 16, "alpha": 32, "target_modules": ["q_proj", "v_proj"]}

CASES = (
    Case("full, adamw fused, checkpointing, short", DEEP, 24, 40, 8),
    Case("full, adamw fused, no checkpointing, long", DEEP, 64, 192, 4, checkpointing=False),
    Case("full, adafactor, checkpointing, short, accumulated", DEEP, 24, 40, 4, accumulate=2, optim="adafactor"),
    Case("full, sgd, no checkpointing, short", DEEP, 24, 40, 8, optim="sgd", checkpointing=False),
    Case("full, adamw, large tied vocabulary", WIDE, 16, 48, 4, optim="adamw_torch"),
    Case("full, adafactor, a reward model beside it", DEEP, 32, 32, 4, optim="adafactor", reward_model=DEEP),
    Case("LoRA, adamw fused, checkpointing, long", DEEP, 64, 192, 6, lora=ALL),
    Case("LoRA, adamw fused, no checkpointing, long", DEEP, 64, 192, 4, lora=ALL, checkpointing=False),
    Case("LoRA on q and v, sgd, no checkpointing, short", DEEP, 24, 40, 8, lora=SOME, optim="sgd", checkpointing=False),
    Case("LoRA, adafactor, many completions at once", HEADS, 16, 112, 2, accumulate=24, lora=ALL, optim="adafactor"),
)
MIXED = {"bf16": True}
CUDA_CASES = (  # bfloat16: a CPU needs scratch memory to multiply it, which the plan does not count
    Case("full, bfloat16, adamw fused, checkpointing", DEEP, 64, 192, 16, dtype="bfloat16", training=MIXED),
    Case("LoRA, bfloat16, adamw fused, checkpointing", DEEP, 64, 192, 32, dtype="bfloat16", training=MIXED, lora=ALL),
    Case("full, float32 under autocast, no checkpointing", DEEP, 64, 192, 8, training=MIXED, checkpointing=False),
)


def options(case: Case, folder: Path) -> RunOptions:
    """The options of the run, as from a configuration file."""
    return make_options(
        {
            "method": "grpo",
            "model": {"name": str(folder / "model"), "dtype": case.dtype},
            "data": {"prompts": "none.jsonl", "max_prompt_tokens": case.prompt},
            "reward": {"kind": "model", "name": str(folder / "reward"), "dtype": case.dtype, "batch_size": 10**6}
            if case.reward_model  # TRL scores a whole rollout at once
            else {"kind": "function", "name": "tests.benchmarks.plan_cases:reward"},
            "lora": case.lora,
            "training": {
                "per_device_train_batch_size": case.batch,
                "gradient_accumulation_steps": case.accumulate,
                "gradient_checkpointing": case.checkpointing,
                "optim": case.optim,
                "bf16": False,
                "max_steps": STEPS,
                "learning_rate": 1e-6,
                **case.training,
            },
            "generation": {"num_generations": 2, "max_completion_length": case.completion},
            "methods": {"grpo": {"beta": 0.05}},
        }
    )


def save_models(case: Case, folder: Path) -> None:
    """The case's models with random weights, each with a tokenizer of one token per word."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        PreTrainedTokenizerFast,
        Qwen2Config,
    )

    torch.manual_seed(0)
    vocabulary = case.model["vocab_size"]
    words = {"<pad>": 0, "<eos>": 1} | {f"w{n}": n for n in range(2, vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")
    kinds = (
        ("model", case.model, AutoModelForCausalLM),
        ("reward", case.reward_model, AutoModelForSequenceClassification),
    )
    for name, fields, auto in kinds:
        if fields is not None:
            config = Qwen2Config(**fields, pad_token_id=0, eos_token_id=1, bos_token_id=None, num_labels=1)
            auto.from_config(config, dtype=getattr(torch, case.dtype)).save_pretrained(folder / name)
            fast.save_pretrained(folder / name)


def reward(completions: list[str], **_: Any) -> list[float]:
    """Some reward that differs between completions."""
    return [float(len(text)) + n for n, text in enumerate(completions)]


def make_trainer(case: Case, folder: Path) -> Any:
    """The `GRPOTrainer` of the case, ready for `train()`."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedTokenizerFast
    from trl import GRPOConfig, GRPOTrainer

    run = options(case, folder)
    rows = 4 * case.batch * case.accumulate
    prompts = [" ".join(f"w{2 + i}" for i in range(case.prompt - row % 3)) for row in range(rows)]
    lora = run.lora
    adapters = lora and LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, target_modules=lora.target_modules, lora_dropout=0.0, task_type="CAUSAL_LM"
    )
    dtype = getattr(torch, case.dtype)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "model")
    judge = reward
    if case.reward_model:
        judge = AutoModelForSequenceClassification.from_pretrained(folder / "reward", dtype=dtype)
    return GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder / "model", dtype=dtype),
        reward_funcs=judge,
        args=GRPOConfig(
            str(folder / "out"),
            **run.training,
            **run.generation,
            **run.methods["grpo"],
            report_to=[],
            save_strategy="no",
            logging_steps=1,
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            dataloader_pin_memory=False,
        ),
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        processing_class=tokenizer,
        reward_processing_classes=tokenizer if case.reward_model else None,
        peft_config=adapters,
    )


@contextlib.contextmanager
def watch_phases(trainer: Any, enter: Callable[[str], None]) -> Iterator[None]:
    """Call `enter` with generate, score or update whenever that phase begins."""
    generate, prepare = trainer._generate_single_turn, trainer._generate_and_score_completions

    def generating(*arguments: Any, **named: Any) -> Any:
        enter("generate")
        result = generate(*arguments, **named)
        enter("score")
        return result

    def preparing(*arguments: Any, **named: Any) -> Any:
        result = prepare(*arguments, **named)
        enter("update")
        return result

    trainer._generate_single_turn, trainer._generate_and_score_completions = generating, preparing
    try:
        yield
    finally:
        trainer._generate_single_turn, trainer._generate_and_score_completions = generate, prepare


def quiet() -> None:
    """No messages, no telemetry."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
