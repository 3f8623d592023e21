"""What the projection keeps is kept, exactly where the inputs span no more than it takes out."""

from dataclasses import replace

import pytest
import torch

from dar_ref.toy.config import RunConfig, StartConfig
from dar_ref.toy.measure import Evaluator
from dar_ref.toy.null_space import NullSpace, _projection
from dar_ref.toy.start import load_start
from dar_ref.toy.tasks import MIXED
from dar_ref.toy.train import train

SMALL = {"hidden_size": 32, "num_heads": 2, "train_prompts": 60, "validation_prompts": 20, "test_prompts": 20}
FAST = {"sft_steps": 60, "reward_steps": 5}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    return load_start(StartConfig(task="mixed", **SMALL, **FAST), tmp_path_factory.mktemp("mixed"))


def test_the_projection_takes_out_the_leading_directions_and_nothing_else():
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64))[0]
    energy = basis @ torch.diag(torch.tensor([5.0, 4.0, 0.9, 0.1, 0.0, 0.0], dtype=torch.float64)) @ basis.T
    projection = _projection(energy, 0.89).double()  # 9 of 10 are in the first two
    expected = torch.eye(6, dtype=torch.float64) - basis[:, :2] @ basis[:, :2].T
    assert torch.allclose(projection, expected, atol=1e-6)


def test_a_projected_change_leaves_the_kept_prompts_alone_where_the_rest_has_no_energy(mixed):
    guard = NullSpace(mixed, "harmless", 1.0 - 1e-12)
    policy = type(mixed.pi_0)(mixed.pi_0.config)
    policy.load_state_dict(mixed.pi_0.state_dict())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in policy.parameters():
            value += 0.05 * torch.randn(value.shape, generator=generator)
    kept = torch.tensor([[MIXED.vocabulary.index(w) for w in p] for p in mixed.prompts.train if p[-1] == "ANSWER"])
    before, moved = mixed.pi_0(kept).logits, policy(kept).logits
    guard.project(policy)
    after = policy(kept).logits
    assert (moved - before).abs().max() > 0.1
    words = ~guard.free_words
    assert (after - before)[..., words].abs().max() < 1e-2 * (moved - before)[..., words].abs().max()


def test_training_on_one_part_draws_only_its_prompts_and_measures_both(mixed):
    seen = set()

    def reward(prompts, responses, _finished):
        seen.update(prompt[-1] for prompt in prompts)
        return [float(len(response)) for response in responses]

    config = RunConfig(steps=2, batch_prompts=8, train_on="harmless", null_space=0.9)
    run = train(mixed, config, reward=reward)
    assert seen == {"REPLY"}
    metrics = Evaluator(mixed, mixed.prompts.validation).evaluate(mixed.pi_0, 0)
    gold = mixed.gold(Evaluator(mixed, mixed.prompts.validation).reference)
    for word, part in MIXED.parts.items():
        rows = [prompt[-1] == word for prompt in mixed.prompts.validation]
        assert metrics[f"gold_{part.name}"] == pytest.approx(gold[rows].mean().item(), rel=1e-6)
        assert f"gold_{part.name}" in run.evaluations[-1]
    free = train(mixed, replace(config, null_space=None), reward=reward).policy.state_dict()
    moved = {name for name, value in run.policy.state_dict().items() if not value.equal(mixed.pi_0.state_dict()[name])}
    assert moved  # it learns, and not as without the projection, which moves the norms as well
    assert not any("norm" in name or name.endswith("bias") for name in moved)
    assert any("norm" in n for n, value in free.items() if not value.equal(mixed.pi_0.state_dict()[n]))


@pytest.mark.parametrize("options", [{"train_on": "tiny"}, {"null_space": 0.9}])
def test_a_projection_needs_a_part_to_keep(options):
    with pytest.raises(ValueError, match="the parts of mixed; the projection keeps the other part"):
        RunConfig(**options)


def test_a_task_without_parts_refuses_one(start):
    with pytest.raises(ValueError, match="tiny has no such part"):
        train(start, RunConfig(train_on="harmless", steps=1, batch_prompts=4))
