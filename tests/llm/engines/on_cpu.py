"""The training script on an engine that accelerate keeps for GPUs: `accelerate launch ... -m tests.llm.engines.on_cpu
ARGUMENTS`, with the arguments of `dar_ref.llm.train`.

accelerate 1.15 shards on GPUs only: asked to on a CPU, it runs plain DDP and does not say so. Two changes of words in
its `AcceleratorState` let it shard on a CPU; nothing else of it is touched. DeepSpeed would compile a library for
processes on one CPU that share memory; without it, its collectives go through gloo as everywhere else.
"""

import inspect
import os
import random
import sys
import textwrap

from accelerate import state

CHANGES = {
    "DistributedType.MULTI_GPU,\n": "DistributedType.MULTI_GPU, DistributedType.MULTI_CPU,\n",  # may be FSDP
    '== "true" and not cpu:': '== "true":',  # may be DeepSpeed
}


def shard_on_a_cpu() -> None:
    source = textwrap.dedent(inspect.getsource(state.AcceleratorState.__init__))
    for old, new in CHANGES.items():
        if old not in source:
            raise RuntimeError(f"AcceleratorState has no {old!r}; this is written for accelerate 1.15")
        source = source.replace(old, new, 1)
    exec(source, vars(state))
    state.AcceleratorState.__init__ = vars(state).pop("__init__")


def compile_nothing() -> None:
    try:
        from deepspeed.comm import torch as of_deepspeed
    except ImportError:
        return
    of_deepspeed.build_shm_op = lambda: None


def draw(trainer, prompt_ids, *_):
    """Completions by prompt, place and step alone: engines that round otherwise would sample others."""
    first, largest = trainer.accelerator.process_index * len(prompt_ids), trainer.processing_class.vocab_size - 1
    rows = []
    for i, prompt in enumerate(prompt_ids):
        rng = random.Random(f"{prompt} {first + i} {trainer.state.global_step}")
        rows.append(
            [rng.randint(1, largest) for _ in range(rng.randint(0, 3))] + [rng.choice((0, largest))]
        )  # EOS is 0
    return rows, None


if __name__ == "__main__":
    shard_on_a_cpu()
    compile_nothing()
    if os.environ.get("DAR_TEST_DRAW"):
        from trl import GRPOTrainer

        GRPOTrainer._generate_single_turn = draw
    from dar_ref.llm.train import main

    sys.exit(main())
