"""The training script: `dar-ref train`, `python -m dar_ref.llm.train`, `accelerate launch -m dar_ref.llm.train`.

    options -> data, reward -> pi_0 -> trainer of the method -> checkpoints -> policy

Options and data are checked before the weights are loaded. A run writes to the folder `--out`:

    checkpoints/checkpoint-N/   policy or adapter, optimizer, schedule, random states, and pi_0.json (the hash of pi_0)
    policy/                     the trained policy or adapter (safetensors) and its tokenizer
    results.json                the options and every logged metric that the seed determines
    run.json                    versions, commit, times

The same command with `--resume` continues from the last checkpoint; on a CPU the result is the same bit for bit.
"""

import argparse
import errno
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from accelerate import PartialState
from accelerate.utils import gather_object

from dar_ref import results
from dar_ref.errors import exit_status
from dar_ref.llm.arguments import add_arguments
from dar_ref.llm.build import check_model, check_steps, make_arguments, make_trainer, template_of
from dar_ref.llm.checkpoint import (
    STOPPED,
    check_save_steps,
    content_hash,
    last_checkpoint,
    make_mark,
    rows_hash,
    steps_per_buffer,
)
from dar_ref.llm.data.load import load_eval_prompts, load_preferences, load_prompts, load_rated
from dar_ref.llm.first_checks import checked_options, overrides
from dar_ref.llm.folder import check_folder, first_process, held, save_policy
from dar_ref.llm.keeper import Keeper, NothingLeftError
from dar_ref.llm.logs import nothing_learned, show_short_lines, split_log
from dar_ref.llm.models.policy import initial_policy, load_policy, model_folder, policy_tokenizer, sampler_folder
from dar_ref.llm.models.tokenizers import tokenizer_hash
from dar_ref.llm.options import ONLINE, RunOptions, options_as_json, shown
from dar_ref.llm.rewards.function import for_online_dpo, make_reward
from dar_ref.llm.rewards.reads import READ
from dar_ref.parser import Parser

ANSWER = "This is a sample."
LOST = re.compile(r"closed by peer|reset by peer|timed out|timeout", re.I)
"""What gloo and NCCL say of another process that ended or hangs."""
NOT_WRITTEN = re.compile(r"\(os error \d+\)|file write failed|failed writing file")
"""What safetensors and torch say of a full disk."""


class Trained(NamedTuple):
    """A run that ended. trainer: the method's trainer; stopped: whether SIGTERM ended it; unchanged: whether no weight
    was changed."""

    trainer: Any
    stopped: bool
    unchanged: bool


def train(options: RunOptions, out: Path, resume: bool = False, command: str = "dar-ref train") -> Trained:
    """Train a policy.

    Args:
        out: folder to write to.
        resume: continue from the last complete checkpoint in `out`; start from the beginning if there is none.
        command: the command line, as run.json records it.

    Raises:
        ValueError, TypeError, OSError: options, data or models that do not fit; raised before any training.
        ValueError, ConnectionError: during training, a reward that is not finite, or an endpoint that does not answer.
        RuntimeError: the policy differs from pi_0 before the first step.
    """
    began = time.time()
    check_folder(out, resume)
    READ.clear()
    _join(options)
    arguments = make_arguments(options, out / "checkpoints")
    check_save_steps(arguments)
    folder = model_folder(options.model, weights=False)
    tokenizer = policy_tokenizer(options.model, folder)
    data = _data(options, arguments, tokenizer)
    _say(str(data.summary))
    check_model(options, arguments, folder, data.longest, max(data.largest_id, tokenizer.pad_token_id))
    check_steps(arguments, len(data.train))
    content = {
        "rows": rows_hash(data.train),
        "processes": PartialState().num_processes,
        "tokenizer": tokenizer_hash(tokenizer),
    }
    if sampler := getattr(arguments, "sampler", None):
        content["sampler"] = content_hash(sampler_folder(sampler, tokenizer))
    if options.method in ONLINE:
        content["reward"] = _tried_reward(options, tokenizer, data.train)
    with held(out, resume):
        drawn = options.model.random_init  # to `out`, which all machines share; a hub's files go to a machine's cache
        first = PartialState().main_process_first if drawn else PartialState().local_main_process_first
        with first():  # one process downloads or draws the weights
            pi_0 = initial_policy(options.model, arguments.seed, out / "pi_0")
        _check_same({"pi_0": pi_0.sha256, **content})
        mark = make_mark(pi_0.sha256, options, content)
        last = None
        if resume:
            last, where = first_process(lambda: last_checkpoint(out / "checkpoints", mark))
            _say(where)
        keeper = Keeper(mark, steps_per_buffer(arguments), arguments.save_total_limit)
        arguments.save_total_limit = None  # transformers would remove the old checkpoint before the new one is whole
        trainer = _ready(options, arguments, tokenizer, data, pi_0.folder, keeper)
        try:
            trainer.train(resume_from_checkpoint=None if last is None else str(last))
        except NothingLeftError:
            _say(f"{last} is the last step of the run: nothing is left to train")
            if arguments.load_best_model_at_end and trainer.state.best_model_checkpoint:
                trainer._load_best_model()  # as transformers does after the last step
        _write(trainer, options, out, data.summary, keeper, (command, began))
    return Trained(trainer, keeper.stopped, keeper.unchanged)


class _Data(NamedTuple):
    """train, evaluation: rows; summary: of those to train on; longest, largest_id: of both, in tokens."""

    train: Any
    evaluation: Any
    summary: Any
    longest: int
    largest_id: int


def _check_same(content: dict[str, Any]) -> None:
    """Raise ValueError if the processes, maybe on several machines, have read different things."""
    of_all = gather_object([content])
    for name in content:
        if len({str(of_one[name]) for of_one in of_all}) > 1:
            raise ValueError(f"the processes have different {name}: bring the same files to all machines")


def _join(options: RunOptions) -> None:
    """Begin the group of processes on a CPU: transformers passes `ddp_timeout` on for a GPU only."""
    seconds = options.training.get("ddp_timeout")
    if options.training.get("use_cpu") and isinstance(seconds, int) and seconds > 0:
        PartialState(cpu=True, timeout=timedelta(seconds=seconds))


def _ready(options: RunOptions, arguments: Any, tokenizer: Any, data: _Data, pi_0: Path, keeper: Keeper) -> Any:
    """The trainer with its model and reward."""
    model = load_policy(options.model, pi_0)
    reward: Callable[..., Any] | None = None
    if options.method in ONLINE:
        assert options.reward is not None  # checked by `RunOptions`
        ends = eos_token_ids(model, tokenizer)
        reward = make_reward(options.reward, device=arguments.device, eos_token_ids=ends)
        if options.method == "online_dpo":
            reward = for_online_dpo(reward, ends)
    trainer = make_trainer(options, arguments, model, tokenizer, data.train, data.evaluation, reward, [keeper])
    show_short_lines(trainer)
    return trainer


def _write(
    trainer: Any, options: RunOptions, out: Path, summary: Any, keeper: Keeper, of_run: tuple[str, float]
) -> None:
    """Write policy and results. Those of a finished run stay until its longer one has finished too."""
    if keeper.stopped and (out / "policy").exists():
        _say(f"{out} keeps the policy and the results of the shorter run that finished there")
        return
    first_process(lambda: results.begin(out, of_run[0]))
    if not keeper.stopped:
        save_policy(trainer, out / "policy")
    if trainer.is_world_process_zero():
        log, times = split_log(trainer.state.log_history)
        found = {
            "options": options_as_json(options),
            "pi_0": keeper.mark["sha256"],
            "data": {**vars(summary), "left_out": dict(summary.left_out)},
            "steps": trainer.state.global_step,
            "log": log,
        }
        results.write_json(out / "results.json", found)
        results.write_json(out / "run.json", results.run_info(*of_run) | times)


def eos_token_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Ids of all tokens that end a completion; the model may have more of them than the tokenizer."""
    of_model = model.generation_config.eos_token_id
    ids = of_model if isinstance(of_model, list) else [] if of_model is None else [of_model]
    return frozenset([*ids, tokenizer.eos_token_id])


def _say(text: str) -> None:
    if PartialState().is_main_process:
        print(text, file=sys.stderr)


def _tried_reward(options: RunOptions, tokenizer: Any, rows: Any) -> str:
    """Make the reward without its weights, let it write one prompt of each order of roles, and return its hash."""
    assert options.reward is not None  # `RunOptions` sees to it
    ids = [tokenizer.eos_token_id]
    reward = make_reward(options.reward, device="cpu", eos_token_ids=ids, weights=False)
    tried: set[tuple[str, ...]] = set()
    for prompt in rows["prompt"]:
        roles = () if isinstance(prompt, str) else tuple(message["role"] for message in prompt)
        if roles not in tried:
            tried.add(roles)
            reward.render(prompt, ANSWER if isinstance(prompt, str) else [{"role": "assistant", "content": ANSWER}])
    return reward.content()


def _data(options: RunOptions, arguments: Any, tokenizer: Any) -> _Data:
    if options.method not in ONLINE:
        load = load_rated if options.method == "dar_offline" else load_preferences
        rows = load(options.data, tokenizer, arguments.max_length)
        summary = rows.summary
        return _Data(rows.dataset, None, summary, summary.longest_pair_kept, summary.largest_id)
    template = template_of(arguments)
    prompts = load_prompts(options.data, tokenizer, template)
    held_out = load_eval_prompts(options.data, tokenizer, template)
    both = [prompts.summary, *([] if held_out is None else [held_out.summary])]
    longest, largest_id = max(s.longest_kept for s in both), max(s.largest_id for s in both)
    return _Data(prompts.dataset, None if held_out is None else held_out.dataset, both[0], longest, largest_id)


def run(arguments: argparse.Namespace, options: RunOptions | None = None) -> int:
    """Run `dar-ref train` with parsed arguments, see `dar_ref.llm.arguments`; returns the exit status.

    Args:
        options: `checked_options(arguments)`, where the caller has them.

    Raises:
        OSError, ValueError: bad input, or a failure of training with its reason and remedy.
    """
    options = options or checked_options(arguments)
    warnings.filterwarnings("ignore", r".*gradient_checkpointing.* is deprecated", FutureWarning)  # raised inside TRL
    if arguments.dry_run:
        from dar_ref.llm.dry_run import dry_run

        return dry_run(options, arguments.out, arguments.resume)
    command = f"dar-ref train --config {arguments.config} " + " ".join(map(shown, overrides(arguments)))
    try:
        done = train(options, arguments.out, arguments.resume, command.strip())
    except Exception as error:
        if (explained := _explained(error, options, arguments.out)) is None:
            raise
        raise explained from error
    PartialState().wait_for_everyone()
    PartialState().destroy_process_group()  # a thread of the group that outlives the process would abort it
    if done.stopped:
        print(f"stopped by SIGTERM; `--resume` continues from step {done.trainer.state.global_step}", file=sys.stderr)
        return STOPPED
    reason = nothing_learned(split_log(done.trainer.state.log_history)[0])
    if reason := reason or ("no weight was changed" if done.unchanged else None):
        _say(f"nothing was learned: {reason}; the policy in {arguments.out / 'policy'} is no better than pi_0")
        return 1
    if done.trainer.is_world_process_zero():
        print(f"{options.method}: {done.trainer.state.global_step} steps; policy in {arguments.out / 'policy'}")
    return 0


def _explained(error: Exception, options: RunOptions, out: Path) -> Exception | None:
    """What a library's error means where it has a known cause: a policy of NaN, another process, the disk."""
    first = next(iter(str(error).splitlines()), "")[:200]
    if isinstance(error, RuntimeError) and PartialState().num_processes > 1 and LOST.search(str(error)):
        return ConnectionError(
            "another process of this run ended, which says why itself, or did not answer within training.ddp_timeout ="
            f" {options.training.get('ddp_timeout', 1800)} s ({first})"
        )
    if isinstance(error, RuntimeError) and first.startswith("probability tensor contains"):
        return ValueError(
            f"the probabilities of the next token are not finite any more ({first}): the policy diverged; lower"
            " training.learning_rate, raise beta, or set w_clip"
        )
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or NOT_WRITTEN.search(first):
        return OSError(
            f"a checkpoint or the policy cannot be written to {out} ({first}); make room, and --resume goes on from the"
            " last whole checkpoint"
        )
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m dar_ref.llm.train`: the same as `dar-ref train`, for `accelerate launch -m` and `torchrun -m`."""
    parser = Parser(prog="python -m dar_ref.llm.train")
    parser.add_argument("--debug", action="store_true", help="show the traceback of what stops it")
    add_arguments(parser)
    arguments = parser.parse_args(argv)
    name, count = "dar_ref.llm.train", int(os.environ.get("WORLD_SIZE", "1"))
    if count > 1:
        name += f", process {os.environ.get('RANK')} of {count}"
    return exit_status(name, lambda: run(arguments), arguments.debug)


if __name__ == "__main__":
    status = main()
    if status and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        os._exit(status)  # at once: what is left to do at an exit would keep the other processes waiting
    sys.exit(status)
