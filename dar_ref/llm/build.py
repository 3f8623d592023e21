"""From options to a trainer. One table lists the methods; all of them share data and rewards.

    method                      configuration, trainer
    dar, dao                    ours, on TRL's GRPO trainer
    ppo_critic_free, dual_...   ours, on TRL's GRPO trainer
    grpo, rloo, dpo             TRL's; they save tied weights once, as ours do
    online_dpo                  TRL's, experimental there; the same
    dar_offline                 ours, on transformers' trainer

Options of TRL and transformers keep their names. `methods.<name>` overrides generation, which overrides training.
"""

import dataclasses
import difflib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainingArguments

from dar_ref.llm.models.policy import lora_config
from dar_ref.llm.options import ONLINE, SECRET, RunOptions

Classes = tuple[type[Any], type[Any]]


def classes(method: str) -> Classes:
    """Configuration and trainer class of a method; imports TRL."""
    if method == "online_dpo":
        os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # stated above
        from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

        return OnlineDPOConfig, _tied_once(OnlineDPOTrainer)
    import trl

    from dar_ref.llm import config, methods, offline, trainer

    table: dict[str, Classes] = {
        "dar": (config.DARConfig, trainer.DARTrainer),
        "dao": (config.DAOConfig, methods.DAOTrainer),
        "ppo_critic_free": (config.PPOConfig, methods.PPOTrainer),
        "dual_ppo_critic_free": (config.DualPPOConfig, methods.DualPPOTrainer),
        "grpo": (trl.GRPOConfig, _tied_once(trl.GRPOTrainer)),
        "rloo": (trl.RLOOConfig, _tied_once(trl.RLOOTrainer)),
        "dpo": (trl.DPOConfig, _tied_once(trl.DPOTrainer)),
        "dar_offline": (offline.DAROfflineConfig, offline.DAROfflineTrainer),
    }
    return table[method]


def _tied_once(trainer: type[Any]) -> type[Any]:
    from dar_ref.llm.saving import TiedOnce

    return type(trainer.__name__, (TiedOnce, trainer), {})


def make_arguments(options: RunOptions, output_dir: Path) -> TrainingArguments:
    """The configuration of the method.

    Raises:
        ValueError, TypeError: an option that the method does not have, or an invalid value.
    """
    config_class = classes(options.method)[0]
    known = {f.name for f in dataclasses.fields(config_class) if f.init}
    types = get_type_hints(config_class)
    of_all = {"report_to": "none", "disable_dropout": True, "trust_remote_code": False}
    arguments: dict[str, Any] = {name: value for name, value in of_all.items() if name in known}
    sections = ("training", "generation", f"methods.{options.method}")
    for section in sections if options.method in ONLINE else (sections[0], sections[2]):
        for name, value in options.section(section).items():
            if section == "generation" and options.method == "online_dpo":
                name = {"max_completion_length": "max_new_tokens"}.get(name, name)
                if name == "num_generations":  # always pairs
                    continue
            if name not in known:
                close = difflib.get_close_matches(name, known, 3)
                hint = f"; did you mean {', '.join(close)}?" if close else ""
                raise ValueError(f"{section}.{name} is not an option of {config_class.__name__}{hint}")
            _check_type(f"{section}.{name}", value, types[name])
            arguments[name] = value
    if arguments.get("use_liger_kernel") and arguments.get("use_cpu"):
        raise ValueError("training.use_liger_kernel = True: its kernels are Triton's, for GPUs; leave it out on a CPU")
    if arguments.get("push_to_hub"):
        raise ValueError(
            "training.push_to_hub = True would upload checkpoints while the run goes on; leave it out, and upload the"
            " trained policy with its card: hf upload NAME OUT/policy"
        )
    if options.model.trust_remote_code and "trust_remote_code" in known:
        arguments["trust_remote_code"] = True
    return config_class(output_dir=str(output_dir), **arguments)


def _check_type(name: str, value: Any, wanted: Any) -> None:
    """Raise ValueError if an option is not of its type: the configurations of transformers and TRL take what comes."""
    if SECRET.search(name.rpartition(".")[2]) and value is not None:
        raise ValueError(f"{name} would stand in training_args.bin; leave it out, and set HF_TOKEN in the environment")
    strict = ConfigDict(strict=True, arbitrary_types_allowed=True)
    try:
        TypeAdapter(wanted, config=strict).validate_json(json.dumps(value))
    except ValidationError as error:
        raise ValueError(f"{name} = {value!r}: {'; '.join(e['msg'] for e in error.errors())}") from None


def make_trainer(
    options: RunOptions,
    arguments: TrainingArguments,
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    train_dataset: Any,
    eval_dataset: Any,
    reward: Callable[..., Any] | None,
    callbacks: list[TrainerCallback],
) -> Any:
    """The trainer of the method, not yet started."""
    others: dict[str, Any] = {} if options.method == "dar_offline" else {"eval_dataset": eval_dataset}
    if reward is not None and options.method in ONLINE:
        others["reward_funcs"] = [reward]
    trainer = classes(options.method)[1](
        model=model,
        args=arguments,
        train_dataset=train_dataset,
        processing_class=tokenizer,
        peft_config=lora_config(options.lora),
        callbacks=callbacks,
        **others,
    )
    if options.model.quantization:
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:  # TRL rounds adapters on a quantised model to bf16, which loses small steps
                parameter.data = parameter.data.float()
    return trainer
