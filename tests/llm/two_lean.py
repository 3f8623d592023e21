"""One of the processes of `test_two_lean`: `python -m tests.llm.two_lean EXPORTED OUT STEPS`.

The second half of every batch has one good completion of four, far above the others: there three of four weigh next to
nothing. With two processes one keeps all its completions and the other a quarter. Writes the weights of rank 0 to OUT,
and to OUT.RANK.json how many forwards each process ran, with how many rows, and what it logged.
"""

import json
import os
import random
import sys
from pathlib import Path

import torch
from accelerate import PartialState

from tests.llm.training import make_trainer
from tests.llm.two_processes import write

GLOBAL_BATCH, ROWS = 32, 2


def trained(exported, out, steps):
    world = int(os.environ.get("WORLD_SIZE", "1"))
    trainer = make_trainer(
        exported,
        out,
        training={
            "max_steps": steps,
            "per_device_train_batch_size": ROWS,
            "gradient_accumulation_steps": GLOBAL_BATCH // ROWS // world,
            "optim": "sgd",  # Adam would enlarge the rounding of small gradients to full steps
            "learning_rate": 1e-3,
        },
        reward_function=lambda completion_ids, **_: [mark(i) for i in numbers(completion_ids)],
        fused_loss=True,
    )

    def numbers(rows):
        first = trainer.accelerator.process_index * len(rows)
        return range(first, first + len(rows))

    def mark(i):
        return 10.0 * (i % 4 == 0) if i >= GLOBAL_BATCH // 2 else 0.2 * (i % 4)

    largest = trainer.model.config.vocab_size - 1

    def drawn(prompt_ids, *_):
        rows, logps = [], []
        for prompt, i in zip(prompt_ids, numbers(prompt_ids), strict=True):
            rng = random.Random(f"{prompt} {i % 4} {trainer.state.global_step}")
            rows.append([rng.randint(1, largest) for _ in range(rng.randint(1, 4))])
            logps.append([-2.0] * len(rows[-1]))
        trainer._lean.recorded = True
        return rows, logps

    trainer._generate_single_turn = drawn
    trainer._checked = True  # these tokens were not drawn from the policy
    counts, forward = {"score": [], "update": []}, trainer._lean.forward

    def watched(model, batch, weigh):
        counts["score" if weigh is None else "update"].append(len(batch["keep"]))
        return forward(model, batch, weigh)

    trainer._lean.forward = watched
    trainer.train()
    return trainer, counts


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, file, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    done, counted = trained(folder, Path(file).parent / "run", count)
    write(done, file)
    log = [row for row in done.state.log_history if "loss" in row]
    content = json.dumps({**counted, "log": log})
    Path(f"{file}.{done.accelerator.process_index}.json").write_text(content, encoding="utf-8")
    PartialState().wait_for_everyone()
    PartialState().destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # library threads that outlived the interpreter once aborted it
