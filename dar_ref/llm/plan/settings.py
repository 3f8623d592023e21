"""The options that memory and time depend on, checked, with TRL's defaults where they are not set.

The defaults are written down here, so that a plan does not import TRL; a test compares them with TRL's classes.
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
    "bf16": None,  # on
    "optim": "adamw_torch_fused",
    "num_train_epochs": 3.0,
    "max_steps": -1,
}
GENERATION: dict[str, Any] = {
    "num_generations": 8,
    "max_completion_length": 512,
    "steps_per_generation": None,  # as many as gradients are accumulated
    "num_iterations": 1,
    "temperature": 1.0,
    "use_vllm": False,
    "vllm_mode": "colocate",
    "vllm_gpu_memory_utilization": 0.3,
}
NOT_PLANNED: dict[str, tuple[Any, str]] = {  # the one value that is planned, and what to do instead
    "fp16": (False, "set bf16"),
    "generation_batch_size": (None, "set steps_per_generation"),
    "ds3_gather_for_generation": (True, "leave it out"),
    "use_transformers_continuous_batching": (False, "leave it out: its cache takes what is free"),
}
OF_METHOD: dict[str, dict[str, Any]] = {
    "dar": {"fused_loss": True, "sampler_logps": True},
    "grpo": {"beta": 0.0},
    "rloo": {"num_generations": 2, "beta": 0.05},
    "dpo": {"max_length": 1024},
    "dar_offline": {"max_length": 1024},
}


def resolve(options: RunOptions) -> dict[str, Any]:
    """The options that memory and time depend on, with TRL's defaults; `methods.<method>` comes last and wins.

    Raises:
        ValueError, TypeError: a value out of range, or an option that is not planned.
    """
    if options.model.quantization:
        raise ValueError(f"model.quantization = {options.model.quantization} is not planned; plan without it")
    if options.method == "online_dpo":
        raise ValueError("method = online_dpo is not planned: it forms whole logits; plan another method")
    given = options.training | (options.generation if options.method in ONLINE else {})
    settings = (
        TRAINING | GENERATION | OF_METHOD.get(options.method, {}) | given | options.section(f"methods.{options.method}")
    )
    for name, (planned, remedy) in NOT_PLANNED.items():
        if settings.get(name, planned) != planned:
            raise ValueError(f"{name} = {settings[name]!r} is not planned; {remedy}")
    for name in ("per_device_train_batch_size", "gradient_accumulation_steps", "max_completion_length"):
        scalars.integer(name, settings[name], 1)
    for name in ("num_generations", "num_iterations"):
        scalars.integer(name, settings[name], 1)
    if settings["steps_per_generation"] is not None:
        scalars.integer("steps_per_generation", settings["steps_per_generation"], 1)
    scalars.positive("temperature", settings["temperature"])
    scalars.choice("training.optim", settings["optim"], OPTIMIZERS)
    if settings["max_steps"] != -1:
        scalars.integer("training.max_steps", settings["max_steps"], 1)
    scalars.positive("training.num_train_epochs", settings["num_train_epochs"])
    if settings["bf16"] is None:
        settings["bf16"] = True
    if options.model.dtype == "float64":
        raise ValueError("model.dtype = float64 is for tests and not planned; set float32 or bfloat16")
    return settings


def steps_per_generation(settings: Mapping[str, Any], devices: int) -> int:
    """Micro-batches that are sampled at once, by the rules of `GRPOConfig`.

    Raises:
        ValueError: they would hold part of a group of completions.
    """
    steps: int = settings["steps_per_generation"] or settings["gradient_accumulation_steps"]
    together = settings["per_device_train_batch_size"] * devices
    if together * steps % settings["num_generations"]:
        raise ValueError(
            f"num_generations = {settings['num_generations']} does not divide the {together * steps} completions that"
            " are sampled at once; change it, or per_device_train_batch_size or gradient_accumulation_steps"
        )
    return steps
