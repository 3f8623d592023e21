"""One call that trains the exported toy policy, with a reward that needs no model; it also records every step."""

import copy
import dataclasses
import json
import os
import time
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import TrainerCallback

from dar_ref.llm import build
from dar_ref.llm.data.load import load_prompts
from dar_ref.llm.models import policy
from dar_ref.llm.options import make_options

CPU = {
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "save_strategy": "no",
    "logging_steps": 1,
    "disable_tqdm": True,
    "max_grad_norm": 0.0,  # no clipping: the tests check the scale
    "lr_scheduler_type": "constant",
    "learning_rate": 1e-3,
    "max_steps": 3,
    "per_device_train_batch_size": 8,
}


def score(prompt: str, completion_ids) -> float:
    """A reward that depends on every token and on the order: exact in float32."""
    return float(sum((i + 1) * token for i, token in enumerate(completion_ids)) % 7 + len(prompt) % 3)


def reward(prompts, completion_ids, **_):
    time.sleep(float(os.environ.get("DAR_TEST_SLOW", "0")))  # for a run that a test stops
    return [score(prompt, ids) for prompt, ids in zip(prompts, completion_ids, strict=True)]


def constant(completion_ids, **_):
    return [1.0] * len(completion_ids)


def no_reward(completion_ids, **_):
    return [None] * len(completion_ids)


def prompts_of_many_lengths(folder: Path, file: Path) -> Path:
    """The exported prompts; some lose their first words, so that a batch has padding."""
    rows = [
        json.loads(line)["prompt"].split() for line in (folder / "prompts" / "train.jsonl").read_text().splitlines()
    ]
    texts = sorted({" ".join(words[i % len(words) :]) for i, words in enumerate(rows)})
    file.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    return file


def options(folder: Path, method="dar", model=(), training=(), generation=(), lora=None, prompts=None, **of_method):
    """Options of a run from the folder that `dar-ref toy export` wrote."""
    return make_options(
        {
            "method": method,
            "model": {"name": str(folder / "policy"), "dtype": "float32", **dict(model)},
            "data": {
                "prompts": str(prompts or folder / "prompts" / "train.jsonl"),
                "preferences": str(folder / "preferences.jsonl"),
            },
            "reward": {"kind": "function", "name": "tests.llm.training:reward"},
            "lora": lora,
            "training": {**CPU, **dict(training)},
            "generation": {"num_generations": 4, "max_completion_length": 4, **dict(generation)},
            "methods": {method: of_method},
        }
    )


def make_trainer(folder: Path, out: Path, chosen=None, callbacks=(), reward_function=reward, **of_options):
    """The trainer of `options(folder, **of_options)`, or of `chosen` options, not yet started."""
    chosen = chosen or options(folder, **of_options)
    arguments = build.make_arguments(chosen, out)
    pi_0 = Path(chosen.model.name)
    model, tokenizer = policy.load_policy(chosen.model, pi_0), policy.policy_tokenizer(chosen.model, pi_0)
    prompts = load_prompts(chosen.data, tokenizer).dataset
    return build.make_trainer(chosen, arguments, model, tokenizer, prompts, None, reward_function, list(callbacks))


class Step(NamedTuple):
    """What one optimizer step saw and did: rows (prompt ids, completion ids) it used; parameters before, by name;
    gradients, by name."""

    rows: list[tuple[tuple[int, ...], tuple[int, ...]]]
    parameters: dict[str, torch.Tensor]
    gradients: dict[str, torch.Tensor]


class Generation(NamedTuple):
    """The samples of one generation, in order, and the parameters that sampled them."""

    rows: list[tuple[tuple[int, ...], tuple[int, ...]]]
    parameters: dict[str, torch.Tensor]


@dataclasses.dataclass
class Recorder(TrainerCallback):
    """Records the `Step`s and `Generation`s of a trainer, after a call of `watch`."""

    def __post_init__(self):
        self.steps, self.generations, self._rows, self._before = [], [], [], {}

    def watch(self, trainer):
        generate, loss, model = trainer._generate, trainer._compute_loss, trainer.model

        def watched_generate(prompts):
            generated = generate(prompts)
            rows = [(tuple(p), tuple(c)) for p, c in zip(generated[0], generated[1], strict=True)]
            self.generations.append(Generation(rows, parameters(model)))
            return generated

        def watched_loss(model, inputs):
            length = inputs["completion_mask"].sum(dim=1).tolist()
            for prompt, mask, ids, n in zip(
                inputs["prompt_ids"], inputs["prompt_mask"], inputs["completion_ids"], length, strict=True
            ):
                self._rows.append((tuple(prompt[mask.bool()].tolist()), tuple(ids[:n].tolist())))
            return loss(model, inputs)

        trainer._generate, trainer._compute_loss = watched_generate, watched_loss
        trainer.add_callback(self)
        return trainer

    def on_step_begin(self, _args, _state, _control, model=None, **_):
        self._before = parameters(model)

    def on_pre_optimizer_step(self, _args, _state, _control, model=None, **_):
        gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        self.steps.append(Step(self._rows, self._before, gradients))
        self._rows = []


def parameters(model):
    return copy.deepcopy({name: p.detach() for name, p in model.named_parameters()})
