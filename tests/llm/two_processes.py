"""One of the processes of `test_two_processes`: `python -m tests.llm.two_processes EXPORTED OUT STEPS`.

Trains on completions that do not depend on the number of processes, writes the weights of rank 0 to OUT, and saves the
policy as a user would, to OUT.policy. Then it trains again without gathering rewards, to OUT.stubbed: each process
takes its own rewards for those of all.
"""

import os
import random
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from safetensors.torch import save_file
from trl.trainer import grpo_trainer

from tests.llm.training import make_trainer

GLOBAL_BATCH, ACCUMULATION = 32, 2


def trained(exported, out, steps):
    world = int(os.environ.get("WORLD_SIZE", "1"))
    trainer = make_trainer(
        exported,
        out,
        training={
            "max_steps": steps,
            "per_device_train_batch_size": GLOBAL_BATCH // ACCUMULATION // world,
            "gradient_accumulation_steps": ACCUMULATION,
            "optim": "sgd",  # Adam would enlarge the rounding of small gradients to full steps
            "learning_rate": 1e-2,
        },
        generation={"mask_truncated_completions": True},
        beta=0.7,  # at 0.05 nearly every weight is 0 or clipped, which hides the scale of A
    )

    largest = trainer.model.config.vocab_size - 1

    def drawn(prompt_ids, *_):
        first = trainer.accelerator.process_index * len(prompt_ids)
        rows = []
        for i, prompt in enumerate(prompt_ids):
            rng = random.Random(f"{prompt} {(first + i) % 4} {trainer.state.global_step}")
            length = rng.randint(1, 4)
            rows.append([rng.randint(1, largest) for _ in range(length - 1)] + [rng.choice((0, largest))])  # EOS is 0
        return rows, None

    trainer._generate_single_turn = drawn
    trainer.train()
    return trainer


def write(trainer, file):
    if trainer.accelerator.is_main_process:
        model = trainer.accelerator.unwrap_model(trainer.model)
        save_file({name: p.detach().clone() for name, p in model.named_parameters()}, file)


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, file, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    done = trained(folder, Path(file).parent / "run", count)
    write(done, file)
    done.save_model(f"{file}.policy")
    if (processes := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        grpo_trainer.gather = lambda rewards: rewards.repeat(processes, 1)
        write(trained(folder, Path(file).parent / "stubbed", count), f"{file}.stubbed")
    PartialState().wait_for_everyone()
    PartialState().destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # library threads that outlived the interpreter once aborted it
