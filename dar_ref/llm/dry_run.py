"""`dar-ref train --dry-run`: every check that does not read weights.

It checks the configuration, one row of the data, the tokenizer and its template, the reward on one sample, and the
memory plan. An error that would stop a run after an hour of loading is found here.
"""

from dataclasses import replace
from pathlib import Path

import torch
import yaml
from rich.console import Console

from dar_ref.llm.build import check_model, check_steps, make_arguments, template_of
from dar_ref.llm.checkpoint import check_save_steps, steps_per_buffer
from dar_ref.llm.data.load import sample_row
from dar_ref.llm.folder import check_folder
from dar_ref.llm.models.policy import model_folder, policy_tokenizer, sampler_folder
from dar_ref.llm.options import ONLINE, RunOptions, options_as_json
from dar_ref.llm.plan.estimate import plan
from dar_ref.llm.plan.report import show
from dar_ref.llm.rewards.function import check_reward, make_reward

ANSWER = "This is a sample."
KINDS = {"dpo": "preferences", "dar_offline": "rated"}  # of rows, where a method does not sample


def dry_run(options: RunOptions, out: Path, resume: bool = False) -> int:
    """Check a run, print what it would do, and return 0.

    Raises:
        ValueError, TypeError, OSError: as the run would.
    """
    console = Console(highlight=False, soft_wrap=True, markup=False)
    check_folder(out, resume)
    on_cpu = bool(options.training.get("use_cpu"))
    here = options
    if not on_cpu and not torch.accelerator.is_available():  # transformers refuses bf16 without a GPU
        for_gpus = {name: value for name, value in options.training.items() if name != "use_liger_kernel"}
        here = replace(options, training={**for_gpus, "use_cpu": True})
        console.print("no accelerator here: the options are checked for a CPU, the plan is for a GPU")
    arguments = make_arguments(here, out / "checkpoints")
    check_save_steps(arguments)
    check_steps(arguments)
    console.print(
        f"method {options.method}, {type(arguments).__name__}: {arguments.per_device_train_batch_size} sequences per"
        f" device, {arguments.gradient_accumulation_steps} accumulated; optimizer steps per generation:"
        f" {steps_per_buffer(arguments)}"
    )
    folder = model_folder(options.model, weights=False)
    tokenizer = policy_tokenizer(options.model, folder)
    online = options.method in ONLINE
    sample = sample_row(options.data, tokenizer, KINDS.get(options.method, "prompts"), template_of(arguments))
    check_model(here, arguments, folder, sample.longest)
    if sampler := getattr(arguments, "sampler", None):
        sampler_folder(sampler, tokenizer, weights=False)
    if online and (options.data.eval_prompts or options.data.eval_split):
        held_out = sample_row(options.data, tokenizer, "evaluation", template_of(arguments))
        console.print(f"data to evaluate on: columns {', '.join(held_out.columns)}")
    console.print(f"data: columns {', '.join(sample.columns)}; first prompt, {sample.tokens} tokens:")
    console.print(sample.text, style="cyan")
    if online and options.reward is not None:
        reward = make_reward(
            options.reward, device="cpu", eos_token_ids=[tokenizer.eos_token_id], weights=options.reward.kind != "model"
        )
        prompt, chat = sample.row["prompt"], not isinstance(sample.row["prompt"], str)
        answer = [{"role": "assistant", "content": ANSWER}] if chat else ANSWER
        console.print(f"reward {reward.__name__} for a sample answer:")
        if options.reward.kind == "model":
            console.print(reward.render(prompt, answer), style="cyan")
            console.print("not scored: scoring would read the reward model's weights")
        else:
            ids = [*tokenizer(ANSWER, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
            rest = {name: value for name, value in sample.row.items() if name != "prompt"}
            judged = check_reward(reward, prompt, answer, ids, **rest)
            console.print(judged.text, style="cyan")
            console.print(f"reward = {judged.reward}")
    try:
        show(plan(options, cuda=not on_cpu), console)
    except ValueError as error:
        console.print(f"plan: {error}")
    console.print("options:\n" + yaml.safe_dump(options_as_json(options), sort_keys=False), style="dim")
    console.print(f"nothing was trained; without --dry-run the run writes to {out}")
    return 0
