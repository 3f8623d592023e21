"""From options to a trainer. One table lists the methods; all of them share data and rewards.

    method                      configuration, trainer
    dar, dao                    ours, on TRL's GRPO trainer
    ppo_critic_free, dual_...   ours, on TRL's GRPO trainer
    grpo, rloo, dpo             TRL's
    online_dpo                  TRL's, experimental there

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
from dar_ref.llm.options import ONLINE, RunOptions, without_secrets

Classes = tuple[type[Any], type[Any]]


def classes(method: str) -> Classes:
    """Configuration and trainer class of a method; imports TRL."""
    if method == "online_dpo":
        os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # stated above
        from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

        return OnlineDPOConfig, OnlineDPOTrainer
    import trl

    from dar_ref.llm import config, methods, trainer

    table: dict[str, Classes] = {
        "dar": (config.DARConfig, trainer.DARTrainer),
        "dao": (config.DAOConfig, methods.DAOTrainer),
        "ppo_critic_free": (config.PPOConfig, methods.PPOTrainer),
        "dual_ppo_critic_free": (config.DualPPOConfig, methods.DualPPOTrainer),
        "grpo": (trl.GRPOConfig, trl.GRPOTrainer),
        "rloo": (trl.RLOOConfig, trl.RLOOTrainer),
        "dpo": (trl.DPOConfig, trl.DPOTrainer),
    }
    return table[method]


def make_arguments(options: RunOptions, output_dir: Path) -> TrainingArguments:
    """The configuration of the method.

    Raises:
        ValueError, TypeError: an option that the method does not have, or an invalid value.
    """
    config_class = classes(options.method)[0]
    known = {f.name for f in dataclasses.fields(config_class) if f.init}
    types = get_type_hints(config_class)
    arguments: dict[str, Any] = {"report_to": "none", "disable_dropout": True, "trust_remote_code": False}
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
    if options.model.trust_remote_code:
        arguments["trust_remote_code"] = True
    return config_class(output_dir=str(output_dir), **arguments)


def _check_type(name: str, value: Any, wanted: Any) -> None:
    """Raise ValueError if an option is not of its type: the configurations of transformers and TRL take what comes."""
    option = {name.rpartition(".")[2]: value}
    if without_secrets(option) != option:
        raise ValueError(
            f"{name} holds a key or password and would stand in training_args.bin; leave it out, and set HF_TOKEN in"
            " the environment"
        )
    strict = ConfigDict(strict=True, arbitrary_types_allowed=True)
    try:
        TypeAdapter(wanted, config=strict).validate_json(json.dumps(value))
    except ValidationError as error:
        raise ValueError(f"{name} = {value!r}: {'; '.join(e['msg'] for e in error.errors())}") from None


def check_steps(args: TrainingArguments, rows: int | None = None) -> None:
    """Raise ValueError if the run would learn nothing: no time to train, no learning rate, or fewer `rows`, if they are
    counted, than its samplers can use."""
    if args.max_steps != -1 and args.max_steps < 1:
        raise ValueError(f"training.max_steps = {args.max_steps} is no number of steps; set 1 or more, or leave it out")
    if args.learning_rate == 0.0:
        raise ValueError("training.learning_rate = 0 changes no weight; set one above 0")
    if args.max_steps <= 0 and args.num_train_epochs <= 0:
        raise ValueError(
            f"training.num_train_epochs = {args.num_train_epochs} and max_steps = {args.max_steps} make 0 steps; set"
            " one of them above 0"
        )
    if hasattr(args, "generation_batch_size"):  # TRL's sampler drops what does not fill a generation
        needed = args.generation_batch_size // args.num_generations
        why = f"{args.generation_batch_size} completions are sampled at once, {args.num_generations} for each prompt"
    else:
        needed = args.per_device_train_batch_size * args.world_size if args.dataloader_drop_last else 1
        why = "dataloader_drop_last drops what does not fill a batch"
    if rows is not None and rows < needed:
        raise ValueError(
            f"{rows} rows of the data are kept and one batch needs {needed}: {why}; the run would take 0 steps. Lower"
            " training.per_device_train_batch_size or gradient_accumulation_steps, or bring more rows"
        )


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
    rewards = {} if reward is None or options.method not in ONLINE else {"reward_funcs": [reward]}
    return classes(options.method)[1](
        model=model,
        args=arguments,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        processing_class=tokenizer,
        peft_config=lora_config(options.lora),
        callbacks=callbacks,
        **rewards,
    )
