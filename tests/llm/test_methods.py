"""The script trains with every method. The loss of our methods equals the function of `dar_ref.losses` on the whole
batch, for every division into micro-batches."""

import json
import math
from typing import NamedTuple

import pytest
import torch
from transformers import Qwen2ForCausalLM

from dar_ref.llm.options import METHODS, ONLINE
from dar_ref.llm.train import train
from dar_ref.losses import (
    dao_loss,
    dar_loss,
    dual_ppo_loss,
    group_advantages,
    normalize_advantages,
    ppo_loss,
    sequence_logps,
)
from tests.llm.training import Recorder, make_trainer, options, score

K = 4
OF_METHOD = {
    "dar": {"alpha": 0.3, "beta": 0.7, "w_clip": 3.0},
    "dao": {"alpha": 0.3, "beta": 0.7},
    "ppo_critic_free": {"beta": 0.4, "epsilon": 0.05},
    "dual_ppo_critic_free": {"alpha": 0.3, "beta": 0.7, "epsilon": 0.05},
}
WHOLE_ROWS = {"dar": {"skip_tolerance": 0.0, "sort_by_length": False}}  # all of them, all of one length


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains(exported, tmp_path, method):
    of_method = {"max_length": 16} if method in ("dpo", "dar_offline") else {}
    done = train(options(exported, method=method, **of_method), tmp_path)
    assert not done.stopped
    content = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert content["steps"] == 3
    assert content["options"]["method"] == method
    losses = [row["loss"] for row in content["log"] if "loss" in row]
    assert len(losses) == 3
    assert all(map(math.isfinite, losses))
    rewarded = [name for row in content["log"] for name in row if name == "reward" or name == "objective/rlhf_reward"]
    assert bool(rewarded) == (method in ONLINE)
    trained, pi_0 = (Qwen2ForCausalLM.from_pretrained(path / "policy").state_dict() for path in (tmp_path, exported))
    moved = [name for name in pi_0 if not torch.equal(trained[name], pi_0[name])]
    assert all(tensor.isfinite().all() for tensor in trained.values())
    assert len(moved) >= len(pi_0) / 2


class Batch(NamedTuple):
    """The micro-batches of an optimizer step, concatenated: log-probs (B, T), mask (B, T), advantages (B,)."""

    logps: torch.Tensor
    ref: torch.Tensor
    old: torch.Tensor
    mask: torch.Tensor
    advantages: torch.Tensor

    def sums(self):
        return [sequence_logps(x, self.mask) for x in self[:3]]


class Losses(Recorder):
    """Also keeps what the last optimizer step scored, and the loss of each micro-batch before the backward."""

    def watch(self, trainer):
        self.seen = []
        inner, loss = trainer._score, trainer._compute_loss

        def watched_score(model, inputs):
            scored, entropies = inner(model, inputs)
            self.seen.append([scored])
            return scored, entropies

        def watched_loss(model, inputs):
            value = loss(model, inputs)
            self.seen[-1].append(value.item())
            return value

        trainer._score, trainer._compute_loss = watched_score, watched_loss
        return super().watch(trainer)

    def on_step_begin(self, *args, **kwargs):
        super().on_step_begin(*args, **kwargs)
        self.seen = []


def advantages_of(method, generated, decode, rows, batch):
    """Computed from the sampled ids alone, with the functions of `dar_ref.losses` on the sampled completions."""
    rewards = torch.tensor([score(decode(prompt), completion) for prompt, completion in generated])
    if method == "ppo_critic_free":
        _, ref, old = batch.sums()
        drift = dict(zip(rows, (old - ref).tolist(), strict=True))
        rewards = rewards - OF_METHOD[method]["beta"] * torch.tensor([drift[row] for row in generated])
    advantages = normalize_advantages(group_advantages(rewards, K)).tolist()
    known = dict(zip(generated, advantages, strict=True))
    return torch.tensor([known[row] for row in rows])


def loss_of(method, batch):
    given = OF_METHOD[method]
    if method == "dar":
        return dar_loss(*batch.sums(), batch.advantages, **given).loss
    if method == "dao":
        return dao_loss(*batch.sums(), batch.advantages, **given)
    if method == "ppo_critic_free":
        return ppo_loss(batch.logps, batch.old, batch.advantages, batch.mask, epsilon=given["epsilon"])
    return dual_ppo_loss(batch.logps, batch.ref, batch.old, batch.advantages, batch.mask, **given)


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("method", OF_METHOD)
def test_loss_is_that_of_the_whole_batch(exported, tmp_path, method, accumulation):
    recorder = Losses()
    size = 32 // accumulation
    trainer = make_trainer(
        exported,
        tmp_path,
        method=method,
        training={"gradient_accumulation_steps": accumulation, "per_device_train_batch_size": size, "max_steps": 4},
        generation={"num_iterations": 2},  # so that pi_theta is not pi_t
        **OF_METHOD[method],
        **WHOLE_ROWS.get(method, {}),
    )
    recorder.watch(trainer).train()
    decode = trainer.processing_class.decode
    scored = [micro_batch for micro_batch, _ in recorder.seen]
    assert len(scored) == accumulation
    leaves = [part.per_token_logps.detach().requires_grad_() for part in scored]
    parts = [
        trainer.policy_loss(part._replace(per_token_logps=leaf))[0] / accumulation
        for part, leaf in zip(scored, leaves, strict=True)
    ]
    assert [part.item() for part in parts] == pytest.approx([loss for _, loss in recorder.seen], rel=1e-6)

    whole = torch.cat(leaves).detach().requires_grad_()
    ref, old, mask = (torch.cat([part[i] for part in scored]) for i in (1, 2, 3))
    batch = Batch(whole, ref, old, mask, torch.empty(0))
    rows, generated = recorder.steps[-1].rows, recorder.generations[-1].rows
    assert sorted(rows) == sorted(generated)
    found = advantages_of(method, generated, lambda ids: decode(ids, skip_special_tokens=True), rows, batch)
    expected = loss_of(method, batch._replace(advantages=found))
    assert (whole - old).abs()[mask].max() > 1e-4
    assert mask.sum(dim=1).unique().numel() > 1  # a mean over tokens is not a mean over completions

    assert sum(parts).item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)
    gradients = torch.cat(torch.autograd.grad(sum(parts), leaves))
    torch.testing.assert_close(gradients, torch.autograd.grad(expected, whole)[0], rtol=1e-4, atol=1e-7)
