"""The options that memory and time depend on, with TRL's defaults where they are not set, checked.

The defaults are written down here, so that a plan imports nothing of TRL; a test compares them with TRL's classes.
"""

from collections.abc import Mapping
from typing import Any

from dar_ref import scalars
from dar_ref.llm.options import ONLINE, RunOptions
from dar_ref.llm.plan.tensors import OPTIMIZERS

TRAINING: dict[str, Any] = {
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "gradient_checkpointing": True,
    "bf16": None,  # on unless fp16 is
    "fp16": False,
    "optim": "adamw_torch_fused",
    "num_train_epochs": 3.0,
    "max_steps": -1,
}
GENERATION: dict[str, Any] = {
    "num_generations": 8,
    "max_completion_length": 512,
    "steps_per_generation": None,  # as many as gradients are accumulated
    "generation_batch_size": None,
    "num_iterations": 1,
    "temperature": 1.0,
    "use_vllm": False,
    "vllm_mode": "colocate",
    "vllm_gpu_memory_utilization": 0.3,
    "use_transformers_continuous_batching": False,
    "ds3_gather_for_generation": True,
}
OF_METHOD: dict[str, dict[str, Any]] = {
    "grpo": {"beta": 0.0},
    "rloo": {"num_generations": 2, "beta": 0.05},
    "dpo": {"max_length": 1024},
}


def resolve(options: RunOptions) -> dict[str, Any]:
    """The options that count here, with TRL's defaults; `methods.<method>` has the last word.

    Raises:
        ValueError, TypeError: a value out of range, or a way to sample or an optimizer that is not planned.
    """
    if options.method == "online_dpo":
        raise ValueError("method = online_dpo is not planned: it forms whole logits; plan another method")
    given = options.training | (options.generation if options.method in ONLINE else {})
    settings = (
        TRAINING | GENERATION | OF_METHOD.get(options.method, {}) | given | options.section(f"methods.{options.method}")
    )
    for name in ("per_device_train_batch_size", "gradient_accumulation_steps", "max_completion_length"):
        scalars.integer(name, settings[name], 1)
    for name in ("num_generations", "num_iterations"):
        scalars.integer(name, settings[name], 1)
    for name in ("steps_per_generation", "generation_batch_size"):
        if settings[name] is not None:
            scalars.integer(name, settings[name], 1)
    scalars.integer("data.max_prompt_tokens", options.data.max_prompt_tokens, 1)
    scalars.positive("temperature", settings["temperature"])
    scalars.choice("training.optim", settings["optim"], OPTIMIZERS)
    if settings["max_steps"] != -1:
        scalars.integer("training.max_steps", settings["max_steps"], 1)
    scalars.positive("training.num_train_epochs", settings["num_train_epochs"])
    if settings["bf16"] is None:
        settings["bf16"] = not settings["fp16"]
    if settings["bf16"] and settings["fp16"]:
        raise ValueError("training.bf16 and training.fp16 are both on; leave one of them out")
    if settings["use_transformers_continuous_batching"]:
        raise ValueError("use_transformers_continuous_batching = True is not planned; its cache takes what is free")
    if options.model.dtype == "float64":
        raise ValueError("model.dtype = float64 is for tests and not planned; set float32 or bfloat16")
    return settings


def steps_per_generation(settings: Mapping[str, Any], devices: int) -> int:
    """Micro-batches that are sampled at once, by the rules of `GRPOConfig`."""
    batch, whole = settings["per_device_train_batch_size"], settings["generation_batch_size"]
    steps, together = settings["steps_per_generation"], batch * devices
    if whole is not None and steps is not None:
        raise ValueError("generation_batch_size and steps_per_generation are both set; leave one of them out")
    if whole is not None and whole % together:
        raise ValueError(
            f"generation_batch_size = {whole} is no multiple of {together}, the completions of a micro-batch on"
            f" {devices} device(s); raise it, or use fewer devices or a smaller per_device_train_batch_size"
        )
    steps = whole // together if whole is not None else steps or settings["gradient_accumulation_steps"]
    if together * steps % settings["num_generations"]:
        raise ValueError(
            f"num_generations = {settings['num_generations']} does not divide the {together * steps} completions that"
            " are sampled at once; change it, or per_device_train_batch_size or gradient_accumulation_steps"
        )
    return int(steps)
