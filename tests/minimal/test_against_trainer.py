"""The two proofs of `dar_ref.minimal.llm`: its loss is `dar_loss`, and its steps are those of `DARTrainer`."""

import copy
import math

import pytest
import torch

from dar_ref.losses import dar_loss, group_advantages, normalize_advantages
from dar_ref.minimal import llm
from tests.llm.training import Recorder, make_trainer, parameters, prompts_of_many_lengths, reward
from tests.minimal.runs import batch_of, letters_of_the_prompt, options, ragged, ready

OPTIONS = {"alpha": 0.3, "beta": 0.7, "w_clip": 3.0}
FLAGS = ["--alpha", 0.3, "--beta", 0.7, "--w-clip", 3.0, "--num-generations", 4, "--max-new-tokens", 4]


def relative_error(found, expected):
    """Of all tensors of a mapping together."""
    difference = math.fsum(((found[name] - expected[name]) ** 2).sum().item() for name in expected)
    return math.sqrt(difference / math.fsum((x**2).sum().item() for x in expected.values()))


def test_weights_loss_and_gradient_are_those_of_dar_loss(exported):
    chosen = options(exported, *FLAGS, "--micro-batch", 5, "--temperature", 0.8)
    policy, tokenizer = ready(exported, chosen)
    pi_0, optimizer = copy.deepcopy(policy), torch.optim.SGD(policy.parameters(), lr=0.1)
    torch.manual_seed(0)
    with torch.no_grad():  # pi_t is another policy than pi_0
        for parameter in policy.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    prompts = ragged(tokenizer, ["a b c", "d", "b a", "c c c d"])
    batch = llm.sample(policy, prompts)
    rewards = llm.rewards_of(batch.completions(), prompts, letters_of_the_prompt, tokenizer)

    ref, old = (llm.sequence_logps(model, batch, chosen).detach() for model in (pi_0, policy))
    logps = llm.sequence_logps(policy, batch, chosen)
    advantages = normalize_advantages(group_advantages(rewards.flatten(), 4)).float()
    expected = dar_loss(logps, ref, old, advantages, **OPTIONS)
    gradient = torch.autograd.grad(expected.loss, list(policy.parameters()))
    assert (ref - old).abs().max() > 0.1
    assert 0 < expected.weights.clipped.sum() < 16

    weights = llm.weight(ref, old, llm.advantage(rewards).flatten().float(), **OPTIONS)
    assert weights.tolist() == pytest.approx(expected.weights.weight.tolist(), rel=1e-5)
    loss = llm.fit(policy, optimizer, batch, weights, chosen)
    assert loss == pytest.approx(expected.loss.item(), rel=1e-5)
    found = {name: p.grad for name, p in policy.named_parameters()}
    assert relative_error(found, dict(zip(found, gradient, strict=True))) < 1e-5


def test_steps_are_those_of_the_trainer(exported, tmp_path):
    """Three steps in float64 on the ids that the trainer sampled: gradients of each, and the policy at the end."""
    recorder = Recorder()
    trainer = make_trainer(
        exported,
        tmp_path / "out",
        model={"dtype": "float64"},
        prompts=prompts_of_many_lengths(exported, tmp_path / "prompts.jsonl"),
        training={"per_device_train_batch_size": 16},
        **OPTIONS,
    )
    recorder.watch(trainer).train()
    chosen = options(exported, *FLAGS, "--micro-batch", 5, "--learning-rate", trainer.args.learning_rate)
    policy, tokenizer = ready(exported, chosen)
    policy.double()
    pi_0, start = copy.deepcopy(policy), parameters(policy)
    optimizer = torch.optim.Adam(policy.parameters(), lr=chosen.learning_rate)
    for generation, step in zip(recorder.generations, recorder.steps, strict=True):
        batch = batch_of(generation.rows)
        prompts = ragged(tokenizer, [tokenizer.decode(ids) for ids, _ in generation.rows[::4]])
        assert [p.ids for p in prompts for _ in range(4)] == [list(ids) for ids, _ in generation.rows]
        rewards = llm.rewards_of(batch.completions(), prompts, reward, tokenizer)
        llm.update(policy, pi_0, optimizer, batch, rewards, chosen)
        assert relative_error({name: p.grad for name, p in policy.named_parameters()}, step.gradients) < 1e-13
    assert len(recorder.steps) == 3
    moved, expected = parameters(policy), parameters(trainer.model)
    assert max((moved[name] - start[name]).abs().max() for name in start) > 2e-3  # three steps of Adam at 1e-3
    assert max((moved[name] - expected[name]).abs().max() for name in start) < 1e-12
