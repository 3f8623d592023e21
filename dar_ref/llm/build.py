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
import json
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks

from dar_ref import scalars
from dar_ref.llm.first_checks import check_names, free_options
from dar_ref.llm.models.kinds import check_positions
from dar_ref.llm.models.policy import lora_config, model_positions, policy_config
from dar_ref.llm.models.prompts import PromptReader
from dar_ref.llm.options import ONLINE, RunOptions, without_secrets
from dar_ref.llm.ranges import check_range
from dar_ref.llm.types_in_words import why

HERE = Path(__file__).parents[1]
CAPS = ("logits_soft_cap", "output_logit_soft_cap", "softcap")  # names beside `final_logit_softcapping`, which is known
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
    arguments, config_class = named_options(options), classes(options.method)[0]
    if options.method == "online_dpo":
        _keep_whole(arguments, options.data.max_prompt_tokens, config_class)
    made = _constructed(config_class, output_dir=str(output_dir), **arguments)
    try:
        get_reporting_integration_callbacks(made.report_to)
    except ValueError as error:
        raise ValueError(f"training.report_to = {made.report_to}: {error}") from None
    if made.n_gpu > 1:
        raise ValueError(
            f"{made.n_gpu} GPUs are visible to one process, and a process trains on one; set CUDA_VISIBLE_DEVICES=0, or"
            f" start one process for each: accelerate launch --num_processes {made.n_gpu} -m dar_ref.llm.train ..."
        )
    if made.eval_strategy != "no":
        _check_evaluation(options)
    return made


def named_options(options: RunOptions) -> dict[str, Any]:
    """What `training`, `generation` and `methods.<method>` set, by the names of the method's configuration.

    Raises:
        ValueError: an option that the method does not have, or a value of another type.
    """
    config_class = classes(options.method)[0]
    known = {f.name for f in dataclasses.fields(config_class) if f.init}
    types = get_type_hints(config_class)
    of_all = {"report_to": "none", "disable_dropout": True, "trust_remote_code": False}
    arguments: dict[str, Any] = {name: value for name, value in of_all.items() if name in known}
    check_names(options)
    for key, name, value in free_options(options):
        _check_type(key, value, types[name])
        if name in ("seed", "data_seed") and value is not None:
            scalars.seed(key, value)
        check_range(key, value)
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
    return arguments


def _check_evaluation(options: RunOptions) -> None:
    """Raise ValueError if there is nothing to evaluate on, or nobody who can."""
    if options.method in ("online_dpo", "dpo", "dar_offline"):
        raise ValueError(
            f"training.eval_strategy: method = {options.method} is not evaluated while it is trained; leave it out"
        )
    if options.data.eval_prompts is None and options.data.eval_split is None:
        raise ValueError("training.eval_strategy needs prompts; set data.eval_prompts or eval_split, or leave it out")


def _constructed(config_class: Any, **arguments: Any) -> Any:
    """A configuration of TRL, or ValueError with the library's words: they raise many types."""
    try:
        return config_class(**arguments)
    except Exception as error:
        if traceback.extract_tb(error.__traceback__)[-1].filename.startswith(str(HERE)):
            raise  # our own words
        words = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{config_class.__name__} refuses the options of training, generation or methods: {words}"
        ) from error


def _keep_whole(arguments: dict[str, Any], prompt_tokens: int, config_class: Any) -> None:
    """Set `max_length` so that TRL's online DPO, which scores no more tokens than that, never cuts a prompt."""
    needed = prompt_tokens + arguments.get("max_new_tokens", config_class.max_new_tokens)
    if arguments.setdefault("max_length", needed) < needed:
        raise ValueError(
            f"methods.online_dpo.max_length = {arguments['max_length']} would cut prompts: data.max_prompt_tokens ="
            f" {prompt_tokens} and the new tokens are {needed}; leave it out, or lower one of them"
        )


def template_of(arguments: Any) -> dict[str, Any]:
    """Variables of the chat template that a method's configuration sets."""
    return getattr(arguments, "chat_template_kwargs", None) or {}


def check_model(options: RunOptions, arguments: Any, folder: Path, longest: int, largest_id: int = 0) -> None:
    """Raise ValueError if the longest prompt (of pairs: with its answer) and what is sampled behind it exceed the
    positions of the model, if it has no embedding for a token, or if its own settings change what is sampled, or if it
    bounds its logits in a way that is not known here."""
    from dar_ref.llm.config import refuse_the_model_s

    if options.method in ONLINE:
        refuse_the_model_s(folder)
    config = policy_config(options.model, folder).get_text_config()
    for name in CAPS:
        if getattr(config, name, None):
            raise ValueError(
                f"model.name = {options.model.name!r} bounds its logits by {name} = {getattr(config, name)}, which"
                " neither the head here nor TRL's knows: log-probs would be of another policy; take another model"
            )
    rows = getattr(config, "vocab_size", None)
    if rows is not None and largest_id >= rows:
        raise ValueError(
            f"the tokenizer of model.name = {options.model.name!r} reads the data as ids up to {largest_id}, and the"
            f" model has {rows} embeddings; take the tokenizer that belongs to it, or resize its embeddings first"
        )
    new = getattr(arguments, "max_completion_length", 0) or getattr(arguments, "max_new_tokens", 0)
    check_positions(longest, new, model_positions(options.model, folder), f"model.name = {options.model.name!r}")


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
        raise ValueError(f"{name} = {value!r} {why(error.errors(), value)}") from None


def check_steps(args: TrainingArguments, rows: int | None = None) -> None:
    """Raise ValueError if the run would learn nothing: no time to train, no learning rate, or fewer `rows`, if they are
    counted, than its samplers can use."""
    if args.max_steps != -1 and args.max_steps < 1:
        raise ValueError(f"training.max_steps = {args.max_steps} is no number of steps; set 1 or more, or leave it out")
    if args.learning_rate == 0.0:
        raise ValueError("training.learning_rate = 0 changes no weight; set one above 0")
    if args.warmup_steps and args.lr_scheduler_type == "constant":
        raise ValueError(
            f"training.warmup_steps = {args.warmup_steps} has no effect with lr_scheduler_type = constant; set"
            " constant_with_warmup, or leave it out"
        )
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
    """The trainer of the method, not yet started.

    Raises:
        ValueError: TRL or PEFT refuses the options or the model; a template writes other tokens than TRL would.
    """
    others: dict[str, Any] = {} if options.method == "dar_offline" else {"eval_dataset": eval_dataset}
    if reward is not None and options.method in ONLINE:
        others["reward_funcs"] = [reward]
    try:
        trainer = classes(options.method)[1](
            model=model,
            args=arguments,
            train_dataset=train_dataset,
            processing_class=tokenizer,
            peft_config=lora_config(options.lora),
            callbacks=callbacks,
            **others,
        )
    except ValueError as error:
        if options.lora is None or "arget modules" not in str(error):
            raise
        raise ValueError(f"lora.target_modules = {options.lora.target_modules!r}: {error}") from error  # peft's words
    reader = PromptReader(tokenizer, template_of(arguments))
    if hasattr(trainer, "_tokenize_prompts"):
        trainer._tokenize_prompts = reader.for_trl
    elif options.method == "online_dpo":
        _check_same_tokens(reader, train_dataset[0]["prompt"])
    if options.model.quantization:
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:  # TRL rounds adapters on a quantised model to bf16, which loses small steps
                parameter.data = parameter.data.float()
    return trainer


def _check_same_tokens(reader: PromptReader, prompt: Any) -> None:
    """Raise ValueError unless TRL's online DPO, which adds no special tokens to plain text, reads a prompt as it was
    counted."""
    (read,) = reader.read([prompt])
    if reader.tokenizer(text=read.text, add_special_tokens=False)["input_ids"] != read.ids:
        raise ValueError(
            f"TRL's online DPO leaves out the special tokens that {reader.of} writes before plain text, such as"
            f" {reader.tokenizer.convert_ids_to_tokens(read.ids[0])!r}; set data.format=chat, or take another method"
        )
