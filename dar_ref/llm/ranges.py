"""Which values the options of transformers and TRL can have. Their configurations take any number of the right type: a
learning rate of -1 or NaN, a batch of 0 rows and a temperature of -1 end in errors of other names, or in a policy of
NaN."""

from typing import Any

from dar_ref import scalars

COUNTS = (  # whole numbers of at least 1
    *("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"),
    *("max_completion_length", "max_new_tokens", "max_length", "steps_per_generation", "num_iterations"),
    *("save_total_limit", "ddp_timeout", "dataloader_prefetch_factor", "num_generations", "num_generations_eval"),
)
POSITIVE = ("temperature", "logging_steps", "save_steps", "eval_steps")
NON_NEGATIVE = (
    *("learning_rate", "weight_decay", "max_grad_norm", "adam_epsilon", "num_train_epochs", "dataloader_num_workers"),
    *("epsilon", "epsilon_high", "delta"),
)
BETA_OF_A_KL_TERM = ("methods.grpo.beta", "methods.rloo.beta")  # 0 leaves the term out; other methods need one above 0
FRACTIONS = ("adam_beta1", "adam_beta2")
ELSEWHERE = {
    "output_dir": "pass --out",
    "resume_from_checkpoint": "pass --resume",
    "ignore_data_skip": "a run that goes on would begin its prompts anew",
}


def check_range(name: str, value: Any) -> None:
    """Raise ValueError if `value`, which is of the right type, cannot be that of the option `name`, SECTION.OPTION."""
    option = name.rpartition(".")[2]
    if value is None or value is False:
        return
    if option in ELSEWHERE:
        raise ValueError(f"{name} = {value!r}: {ELSEWHERE[option]}; leave it out")
    if option == "reward_weights" and len(value) != 1:
        raise ValueError(f"{name} = {value!r}: there is one reward; pass one weight, or leave it out")
    for number in value if isinstance(value, list) else [value]:
        if option in COUNTS:
            scalars.integer(name, number, 1)
        elif name in BETA_OF_A_KL_TERM or option in NON_NEGATIVE:
            scalars.non_negative(name, number, single=True)
        elif option == "beta" or option in POSITIVE:
            scalars.positive(name, number, single=True)
        elif option in FRACTIONS:
            scalars.fraction(name, number, single=True)
        elif option == "reward_weights":
            scalars.finite(name, number)
