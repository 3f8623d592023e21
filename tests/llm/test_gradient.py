"""The gradient of a training step equals an independent computation in float64 that shares only the sampled ids: one
completion at a time without padding, with its own softmax, advantages, weights and adapters, in loops."""

import json
import math
import shutil
from collections import defaultdict

import pytest
import torch
from torch.func import functional_call
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from tests.llm.training import Recorder, make_trainer, prompts_of_many_lengths, score

BETA, ALPHA, W_CLIP = 0.7, 0.3, 3.0
LORA = {"r": 3, "alpha": 6}
STEP = 2  # of 3: pi_theta has left pi_0


class Enumerated:
    """The policy in float64 as a function of a trainer's parameters, with the adapters merged into the weights."""

    def __init__(self, folder, decode):
        self.model, self.decode = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval(), decode
        self.pi_0 = {name: p.detach() for name, p in self.model.named_parameters()}

    def weights(self, parameters):
        if not any("lora_" in name for name in parameters):
            return parameters
        found = dict(self.pi_0)
        for name, first in parameters.items():
            if "lora_A" in name:
                second = parameters[name.replace("lora_A", "lora_B")]
                base = name.removeprefix("base_model.model.").replace(".lora_A.default", "")
                found[base] = found[base] + LORA["alpha"] / LORA["r"] * second @ first
        return found

    def logp(self, weights, prompt, completion, temperature):
        ids = torch.tensor([[*prompt, *completion]])
        logits = functional_call(self.model, weights, kwargs={"input_ids": ids}).logits[0] / temperature
        chosen = zip(range(len(prompt) - 1, ids.shape[1] - 1), completion, strict=True)
        return sum(logits[place, token] - torch.logsumexp(logits[place], dim=0) for place, token in chosen)


def advantages(rows, decode, num_generations, drop):
    """(r - mean of the group) / std over the batch, without the rows in `drop`; keys are (prompt, completion)."""
    groups = defaultdict(list)
    for number, row in enumerate(rows):
        groups[number // num_generations].append((row, score(decode(row[0]), row[1])))
    found = {}
    for group in groups.values():
        kept = [(row, r) for row, r in group if not drop(row)]
        if len(kept) > 1:
            mean = math.fsum(r for _, r in kept) / len(kept)
            found.update({row: (r - mean, sum(row == other for other, _ in kept)) for row, r in kept})
    counted = [a for a, times in found.values() for _ in range(times)]
    std = math.sqrt(math.fsum(a * a for a in counted) / len(counted))
    return {row: a / std for row, (a, _) in found.items()}, len(counted) / len(rows)


def independent_gradient(policy, step, generation, *, temperature, drop):
    """-mean over kept rows of min(exp(alpha (logp_0 - logp_t) + A / beta), w_clip) grad logp_theta."""
    known, share = advantages(generation.rows, policy.decode, 4, drop)
    theta = {n: p.double().clone().requires_grad_(n in step.gradients) for n, p in step.parameters.items()}
    pi_theta, pi_t = policy.weights(theta), policy.weights({n: p.double() for n, p in generation.parameters.items()})
    loss = 0.0
    for row in step.rows:
        if row not in known:
            continue
        with torch.no_grad():
            ref, old = (policy.logp(w, *row, temperature) for w in (policy.pi_0, pi_t))
        weight = min(math.exp(ALPHA * (ref - old) + known[row] / BETA), W_CLIP)
        loss = loss - weight * policy.logp(pi_theta, *row, temperature) / (len(step.rows) * share)
    wanted = [theta[n] for n in step.gradients]
    return dict(zip(step.gradients, torch.autograd.grad(loss, wanted), strict=True))


def relative_error(found, expected):
    difference = math.fsum(((found[n].double() - expected[n]) ** 2).sum().item() for n in expected)
    return math.sqrt(difference / math.fsum((expected[n] ** 2).sum().item() for n in expected))


def error_of(
    exported, tmp_path, *, dtype, lora=None, accumulation=1, temperature=1.0, drop=None, prompts=None, **training
):
    generation = {"temperature": temperature}
    if drop:
        generation["mask_truncated_completions"] = True
    recorder = Recorder()
    trainer = make_trainer(
        exported,
        tmp_path / "out",
        model={"dtype": dtype},
        lora=lora,
        prompts=prompts,
        training={"gradient_accumulation_steps": accumulation, "per_device_train_batch_size": 16, **training},
        generation={**generation, "max_completion_length": 3 if drop else 4},
        alpha=ALPHA,
        beta=BETA,
        w_clip=W_CLIP,
        skip_tolerance=0.0,
    )
    if lora and dtype == "float64":
        trainer.model.double()  # PEFT makes adapters float32
    recorder.watch(trainer).train()
    decode = trainer.processing_class.decode
    policy = Enumerated(exported / "policy", lambda ids: decode(ids, skip_special_tokens=True))
    step = recorder.steps[STEP]
    generated = recorder.generations[STEP * len(recorder.generations) // len(recorder.steps)]
    expected = independent_gradient(policy, step, generated, temperature=temperature, drop=drop or (lambda _row: False))
    assert any((p != policy.pi_0.get(n, 0.0)).any() for n, p in step.parameters.items())
    return relative_error(step.gradients, expected)


LIMIT = {"float64": 1e-10, "float32": 5e-6}


@pytest.mark.parametrize("dtype", LIMIT)
@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointing"])
def test_gradient(exported, tmp_path, dtype, accumulation, lora, checkpointing):
    error = error_of(
        exported, tmp_path, dtype=dtype, lora=lora, accumulation=accumulation, gradient_checkpointing=checkpointing
    )
    assert error <= LIMIT[dtype]


@pytest.mark.parametrize("dtype", LIMIT)
def test_gradient_at_another_temperature(exported, tmp_path, dtype):
    assert error_of(exported, tmp_path, dtype=dtype, temperature=0.7) <= LIMIT[dtype]


@pytest.mark.parametrize("dtype", LIMIT)
@pytest.mark.parametrize("accumulation", [1, 4])
def test_gradient_with_truncated_completions_left_out(exported, tmp_path, dtype, accumulation):
    def cut_off(row):
        return 0 not in row[1]

    error = error_of(exported, tmp_path, dtype=dtype, accumulation=accumulation, drop=cut_off)
    assert error <= LIMIT[dtype]


@pytest.mark.parametrize("dtype", LIMIT)
@pytest.mark.parametrize("reuse", [{"steps_per_generation": 3}, {"num_iterations": 3}], ids=str)
def test_gradient_on_samples_of_an_older_policy(exported, tmp_path, dtype, reuse):
    assert error_of(exported, tmp_path, dtype=dtype, **reuse) <= LIMIT[dtype]


def gpt2_in_place_of_qwen2(exported, folder):
    """The export with a random GPT-2, whose positions are absolute: padding must not shift them."""
    shutil.copytree(exported, folder)
    size = json.loads((folder / "policy" / "config.json").read_text())["vocab_size"]
    torch.manual_seed(0)
    sizes = {"vocab_size": size, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2}
    config = GPT2Config(**sizes, eos_token_id=0, bos_token_id=0, pad_token_id=0, initializer_range=0.5)
    GPT2LMHeadModel(config).save_pretrained(folder / "policy")
    return folder


@pytest.mark.parametrize("dtype", LIMIT)
@pytest.mark.parametrize(
    ("lora", "positions"),
    [(None, "rotary"), (LORA, "rotary"), (None, "absolute")],  # `Enumerated` does not multiply out GPT-2's layers
    ids=["full-rotary", "lora-rotary", "full-absolute"],
)
def test_gradient_with_padded_prompts(exported, tmp_path, dtype, lora, positions):
    if positions == "absolute":
        exported = gpt2_in_place_of_qwen2(exported, tmp_path / "exported")
    prompts = prompts_of_many_lengths(exported, tmp_path / "prompts.jsonl")
    assert error_of(exported, tmp_path, dtype=dtype, lora=lora, prompts=prompts) <= LIMIT[dtype]
