"""vLLM's server mode up to TRL's client, behind which a second copy of the policy samples: see `vllm_server`."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.llm.training import make_trainer, parameters
from tests.llm.vllm_server import Server, install

ALPHA, BETA, W_CLIP = 0.3, 0.7, 20.0
OPTIONS = {"alpha": ALPHA, "beta": BETA, "w_clip": W_CLIP, "skip_tolerance": 0.0}
SMALLEST, LARGEST = 0.98, 1.02  # bounds of the ratio


class Seen:
    """Every loss of a run: the batch, the policy's weights then, and the loss."""

    def __init__(self, trainer):
        self.losses, compute = [], trainer._compute_loss

        def watched(model, batch):
            loss = compute(model, batch)
            self.losses.append((batch, parameters(trainer.model), loss.item()))
            return loss

        trainer._compute_loss = watched


def run(exported, tmp_path, monkeypatch, rounded=False, **generation):
    server = Server(exported / "policy", rounded)
    install(monkeypatch, server)
    served = {"use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": "http://127.0.0.1:9", **generation}
    trainer = make_trainer(exported, tmp_path, generation=served, **OPTIONS)
    seen = Seen(trainer)
    trainer.train()
    return server, trainer, seen.losses


def logp(model, prompt, completion):
    """Log-prob of a whole completion, without padding, in float32 as the model has it."""
    logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(dim=-1)[range(len(completion)), completion].sum().item()


def rows(batch):
    for prompt, prompt_mask, completion, mask in zip(
        *(batch[f"{part}_{what}"] for part in ("prompt", "completion") for what in ("ids", "mask")), strict=True
    ):
        yield prompt[prompt_mask.bool()].tolist(), completion[mask.bool()].tolist()


def ratios(batch, policy, sampler):
    """pi_t / pi_sampler of each completion, from the two models."""
    pairs = list(rows(batch))
    return torch.tensor([logp(policy, *pair) - logp(sampler, *pair) for pair in pairs]).exp()


def test_the_server_has_the_weights_of_every_step_before_it_samples(exported, tmp_path, monkeypatch):
    server, trainer, losses = run(exported, tmp_path, monkeypatch)
    assert server.syncs == server.cleared == len(server.sampled) == len(losses) == trainer.state.global_step == 3
    for weights, (batch, policy, _) in zip(server.sampled, losses, strict=True):
        assert all(torch.equal(p, weights[name]) for name, p in policy.items())
        assert batch["importance_sampling_ratio"].flatten().tolist() == pytest.approx([1.0] * 8, abs=1e-4)
    first, last = server.sampled[0], server.sampled[-1]
    assert not all(torch.equal(first[name], last[name]) for name in first)
    logged = trainer.state.log_history[-2]
    assert logged["sampling/sampling_logp_difference/max"] < 1e-4


@pytest.mark.parametrize("mode", ["sequence_mask", "sequence_truncate"])
def test_completions_of_another_sampler_count_by_their_ratio(exported, tmp_path, monkeypatch, mode):
    bounds = {"vllm_importance_sampling_clip_max": LARGEST, "vllm_importance_sampling_clip_min": SMALLEST}
    server, _, losses = run(exported, tmp_path, monkeypatch, rounded=True, vllm_importance_sampling_mode=mode, **bounds)
    pi_0, policy, sampler = (AutoModelForCausalLM.from_pretrained(exported / "policy") for _ in range(3))
    outside = 0
    for weights, (batch, of_policy, loss) in zip(server.sampled, losses, strict=True):
        sampler.load_state_dict(weights, strict=False)
        policy.load_state_dict(of_policy, strict=False)
        ratio = ratios(batch, policy, sampler)
        inside = (ratio >= SMALLEST) & (ratio <= LARGEST)
        outside += (~inside).sum().item()
        counted = torch.where(inside, ratio, 0.0) if mode == "sequence_mask" else ratio.clamp(SMALLEST, LARGEST)
        assert batch["importance_sampling_ratio"].flatten().tolist() == pytest.approx(counted.tolist(), abs=1e-5)
        assert loss == pytest.approx(expected_loss(batch, policy, pi_0, counted), rel=1e-4, abs=1e-4)
    assert 0 < outside < 24  # some are, so the bounds were tried


def expected_loss(batch, policy, pi_0, counted):
    """-sum of ratio, weight and log-prob over the 8 completions, divided by 8."""
    pairs = list(rows(batch))
    advantages = batch["advantages"].tolist()
    total = 0.0
    for pair, advantage, count in zip(pairs, advantages, counted.tolist(), strict=True):
        now = logp(policy, *pair)
        weight = min(torch.tensor(ALPHA * (logp(pi_0, *pair) - now) + advantage / BETA).exp().item(), W_CLIP)
        total += count * weight * now
    return -total / len(pairs)
