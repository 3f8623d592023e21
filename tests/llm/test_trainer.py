"""Rules of `DARTrainer` that the gradient tests do not cover: which completions count, what is refused and logged."""

import json
import math
import shutil
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import set_seed

from dar_ref.llm import metrics
from dar_ref.llm.batch import Scored, global_advantages
from dar_ref.llm.trainer import DARTrainer
from dar_ref.losses import dar_loss, dar_weights
from tests.llm.training import Recorder, make_trainer, options, reward

REWARDS = st.one_of(st.just(math.nan), st.integers(-5, 5).map(float))


@given(st.lists(REWARDS, min_size=4, max_size=24), st.integers(2, 4), st.data())
def test_who_does_not_count_leaves_mean_and_deviation(rewards, num_generations, data):
    rewards = rewards[: len(rewards) // num_generations * num_generations]
    left = data.draw(st.lists(st.booleans(), min_size=len(rewards), max_size=len(rewards)))
    inputs = torch.tensor(rewards, dtype=torch.float64), torch.tensor(left)
    advantages, keep, std = global_advantages(*inputs, num_generations)

    expected, counted = [0.0] * len(rewards), [False] * len(rewards)
    for first in range(0, len(rewards), num_generations):
        members = [i for i in range(first, first + num_generations) if left[i] and not math.isnan(rewards[i])]
        if len(members) > 1:  # one alone is its own mean
            for i in members:
                expected[i], counted[i] = rewards[i] - math.fsum(rewards[j] for j in members) / len(members), True
    assert keep.tolist() == counted
    spread = np.std([a for a, c in zip(expected, counted, strict=True) if c]) if any(counted) else 0.0
    assert std.item() == pytest.approx(spread, abs=1e-12)
    wanted = [a / spread if spread > 1e-8 else 0.0 for a in expected]
    assert advantages.tolist() == pytest.approx(wanted, abs=1e-9)


def scored(**changes):
    """A random micro-batch of four completions of three tokens."""
    random = torch.Generator().manual_seed(0)
    logps = [-torch.rand(4, 3, generator=random, dtype=torch.float64) for _ in range(3)]
    fields = {
        "per_token_logps": logps[0].requires_grad_(),
        "ref_per_token_logps": logps[1],
        "old_per_token_logps": logps[2],
        "mask": torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1]]).bool(),
        "keep": torch.ones(4).bool(),
        "advantages": torch.tensor([1.0, -1.0, 0.5, -0.5], dtype=torch.float64),
        "importance": torch.ones(4, dtype=torch.float64),
        "kept_share": torch.tensor(1.0, dtype=torch.float64),
        "kept_tokens": torch.tensor(9.0),
    }
    return Scored(**{**fields, **changes})


OPTIONS = {"alpha": 0.3, "beta": 0.7, "w_clip": 3.0}


def policy_loss(batch):
    trainer = SimpleNamespace(args=SimpleNamespace(**OPTIONS))
    return DARTrainer.policy_loss(trainer, batch)[0]


def test_a_completion_left_out_is_a_completion_that_is_not_there():
    keep = torch.tensor([True, False, True, True])
    loss = policy_loss(scored(keep=keep, kept_share=keep.double().mean()))
    rows = [x[keep] for x in scored()[:4]]
    logps, ref, old = ((x * rows[3]).sum(dim=1) for x in rows[:3])
    assert loss.item() == pytest.approx(dar_loss(logps, ref, old, scored().advantages[keep], **OPTIONS).loss.item())


def test_samples_of_another_sampler_are_weighted_by_pi_t_over_it():
    importance = torch.tensor([1.0, 0.5, 2.0, 0.0], dtype=torch.float64)
    batch = scored(importance=importance)
    logps, ref, old = batch.sums()
    weight = dar_weights(ref, old, batch.advantages, **OPTIONS).weight
    assert policy_loss(batch).item() == pytest.approx((-(importance * weight * logps).sum() / 4).item(), rel=1e-12)


def test_tokens_of_tools_are_in_none_of_the_three_sums():
    batch = scored()
    tool = torch.tensor([[1, 0, 1], [1, 1, 1], [1, 1, 1], [0, 1, 1]]).bool()
    loss = policy_loss(batch._replace(mask=batch.mask & tool))
    changed = [torch.where(tool, x, 1e6) for x in batch[:3]]
    assert policy_loss(Scored(*changed, batch.mask & tool, *batch[4:])).item() == loss.item()


def test_weights_are_constants_of_the_gradient():
    batch = scored()
    (gradient,) = torch.autograd.grad(policy_loss(batch), batch.per_token_logps)
    _, ref, old = batch.sums()
    weight = dar_weights(ref, old, batch.advantages, **OPTIONS).weight
    assert torch.allclose(gradient, -(weight / 4)[:, None] * batch.mask)


def test_figures_against_numpy():
    generator = np.random.default_rng(0)
    batches = []
    for _ in range(3):
        batch = scored(keep=torch.from_numpy(generator.random(4) < 0.8))
        shift = torch.from_numpy(generator.random((4, 3)))
        batches.append(batch._replace(old_per_token_logps=batch.old_per_token_logps - shift))
    entropies = torch.from_numpy(generator.random((4, 3)))
    window = []
    for batch in batches:
        weights = DARTrainer.policy_loss(SimpleNamespace(args=SimpleNamespace(**OPTIONS)), batch)[1]
        logps = (x.detach() for x in batch[:3])
        window.append(metrics.micro_batch(*logps, batch.mask, batch.keep, entropies, weights))
    found = metrics.step_metrics(window, lambda x: x)

    logps, ref, old, mask = (
        np.concatenate([getattr(b, name).detach().numpy()[b.keep] for b in batches])
        for name in ("per_token_logps", "ref_per_token_logps", "old_per_token_logps", "mask")
    )
    advantages = np.concatenate([b.advantages.numpy()[b.keep] for b in batches])
    log_reg = OPTIONS["alpha"] * ((ref - old) * mask).sum(axis=1)
    weight = np.minimum(np.exp(log_reg + advantages / OPTIONS["beta"]), OPTIONS["w_clip"])
    k3 = np.exp(ref - old) - 1 - (ref - old)
    expected = {
        "kl/pi_0_k1": ((old - ref) * mask).sum(axis=1).mean(),
        "kl/pi_t_k1": ((old - logps) * mask).sum(axis=1).mean(),
        "kl/pi_0_k3": k3[mask].mean(),
        "entropy": np.concatenate([entropies.numpy()[b.keep] for b in batches])[mask].mean(),
        "weight/mean": weight.mean(),
        "weight/max": weight.max(),
        "weight/ess": weight.sum() ** 2 / (len(weight) * (weight**2).sum()),
        "weight/clipped": (weight == OPTIONS["w_clip"]).mean(),
        "weight/log_reg_mean": log_reg.mean(),
        "weight/log_reg_std": log_reg.std(),
        "weight/log_adv_mean": advantages.mean() / OPTIONS["beta"],
        "weight/log_adv_std": advantages.std() / OPTIONS["beta"],
    }
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_nothing_is_logged_and_nothing_moves_where_nothing_counts(exported, tmp_path):
    def unscored(prompts, **_):
        return [None] * len(prompts)

    trainer = make_trainer(exported, tmp_path, training={"max_steps": 1}, reward_function=unscored)
    recorder = Recorder().watch(trainer)
    trainer.train()
    (step,) = recorder.callback_handler.callbacks[-1].steps
    assert all((gradient == 0).all() for gradient in step.gradients.values())
    assert trainer.state.log_history[0]["completions/excluded"] == 1.0
    assert "weight/mean" not in trainer.state.log_history[0]


def test_an_unscored_completion_trains_nothing(exported, tmp_path):
    """TRL gives it A = 0. In DAR that would be weight 1: fine-tuning on a completion without a score."""
    left_out = []

    def sometimes(prompts, completion_ids, **_):
        values = reward(prompts, completion_ids)
        left_out.extend(completion_ids[::4])
        return [None if i % 4 == 0 else value for i, value in enumerate(values)]

    trainer = make_trainer(
        exported, tmp_path, training={"max_steps": 1}, reward_function=sometimes, beta=1.0, skip_tolerance=0.0
    )
    seen, score = [], trainer._score

    def watched(model, inputs):
        batch, entropies = score(model, inputs)
        ids = [row[:n] for row, n in zip(inputs["completion_ids"].tolist(), batch.mask.sum(dim=1), strict=True)]
        seen.extend(zip(map(tuple, ids), batch.keep.tolist(), batch.counts().tolist(), strict=True))
        return batch, entropies

    trainer._score = watched
    trainer.train()
    dropped = Counter(ids for ids, keep, _ in seen if not keep)
    assert dropped == Counter(map(tuple, left_out))
    assert {count for _, keep, count in seen if not keep} == {0.0}
    assert sum(count for *_, count in seen) == pytest.approx(len(seen))  # a mean over those that are kept


def test_an_infinite_reward_is_refused(exported, tmp_path):
    def infinite(prompts, **_):
        return [math.inf] * len(prompts)

    trainer = make_trainer(exported, tmp_path, training={"max_steps": 1}, reward_function=infinite)
    with pytest.raises(ValueError, match="gave inf to completion 0"):
        trainer.train()


def test_a_model_edited_in_memory_is_refused(exported, tmp_path):
    trainer = make_trainer(exported, tmp_path, training={"max_steps": 1})
    with torch.no_grad():
        next(trainer.model.parameters()).mul_(1.05)
    with pytest.raises(RuntimeError, match="before the first step the policy and pi_0 differ"):
        trainer.train()


def test_dropout_is_off_everywhere(exported, tmp_path):
    """Also if a model applies functional dropout from its config. The run then starts at KL 0 up to rounding."""
    copy = tmp_path / "exported"
    shutil.copytree(exported, copy)
    config = json.loads((copy / "policy" / "config.json").read_text())
    (copy / "policy" / "config.json").write_text(json.dumps({**config, "attention_dropout": 0.5}))
    trainer = make_trainer(copy, tmp_path / "out", training={"max_steps": 1}, lora={"r": 2, "alpha": 4})
    trainer.train()
    assert abs(trainer.state.log_history[0]["kl/pi_0_k3"]) < 1e-9
    assert trainer.model.config.attention_dropout == 0.0


def test_ratio_1_and_kl_0_before_the_first_step(exported, tmp_path):
    trainer = make_trainer(exported, tmp_path, training={"max_steps": 1, "gradient_accumulation_steps": 2})
    trainer.train()
    log = trainer.state.log_history[0]
    assert max(abs(log[name]) for name in ("kl/pi_0_k1", "kl/pi_0_k3", "kl/pi_t_k1", "weight/log_reg_mean")) < 1e-6


def test_the_log_has_what_the_pages_explain(exported, tmp_path):
    trainer = make_trainer(exported, tmp_path, training={"max_steps": 2, "gradient_accumulation_steps": 2})
    trainer.train()
    log = trainer.state.log_history[1]
    assert log["seconds/generate"] > 0
    assert log["seconds/score"] > 0
    assert log["seconds/update"] > 0
    assert log["tokens_per_second"] > 0
    assert 0 < log["weight/ess"] <= 1
    assert log["completions/excluded"] == 0
    assert log["advantage/std"] > 0


def evaluated(folder, out, scale, eval_prompts=4):
    """The metrics of an evaluation whose rewards are scaled, with the completions it drew and what it scored."""

    def scaled(prompts, completion_ids, **_):
        rewards = [scale * value for value in reward(prompts, completion_ids)]
        return [None, *rewards[1:]]  # the first one has no score

    chosen = options(folder, training={"per_device_eval_batch_size": 16}, generation={"temperature": 2.0}, beta=1.0)
    trainer = make_trainer(folder, out, chosen, reward_function=scaled)
    with torch.no_grad():  # pi_theta is no longer pi_0
        next(trainer.model.parameters()).mul_(1.2)
    seen, score = [], trainer._score
    trainer._score = lambda *given: seen.append(score(*given)) or seen[-1]
    set_seed(1)
    return trainer.evaluate(trainer.train_dataset.select(range(eval_prompts))), [scored for scored, _ in seen]


def test_eval_loss_is_the_training_quantity_and_not_in_units_of_the_reward(exported, tmp_path):
    found = {scale: evaluated(exported, tmp_path, scale) for scale in (0.01, 0.1, 1.0, 10.0)}
    metrics_of_1, (scored,) = found[1.0]
    for metrics_found, _ in found.values():
        assert metrics_found["eval_loss"] == pytest.approx(metrics_of_1["eval_loss"], rel=1e-5)
    assert found[10.0][0]["eval_reward"] == pytest.approx(1000 * found[0.01][0]["eval_reward"], rel=1e-5)

    # by hand, in float64: the one without a score is in none of the means
    assert scored.keep.tolist() == [False] + [True] * 15
    logps, ref, old = (x.double().numpy() for x in scored.sums())
    assert np.abs(old - ref).max() > 0.1
    weights = np.minimum(np.exp(0.1 * (ref - old) + scored.advantages.double().numpy()), 20.0)[1:]
    assert scored.advantages[1:].double().std(correction=0).item() == pytest.approx(1.0, rel=1e-6)
    assert metrics_of_1["eval_loss"] == pytest.approx(-(weights * logps[1:]).mean(), rel=1e-5)
    expected = {
        "eval_kl/pi_0_k1": (old - ref)[1:].mean(),
        "eval_weight/mean": weights.mean(),
        "eval_weight/ess": weights.sum() ** 2 / (15 * (weights**2).sum()),
        "eval_completions/excluded": 1 / 16,
    }
    assert {name: metrics_of_1[name] for name in expected} == pytest.approx(expected, rel=1e-4)
    assert {"eval_advantage/std", "eval_entropy", "eval_kl/pi_0_k3", "eval_weight/clipped"} <= set(metrics_of_1)


def test_an_evaluation_between_two_steps_leaves_no_trace_in_their_metrics(exported, tmp_path):
    logs = []
    for strategy in ("no", "steps"):
        training = {"max_steps": 2, "gradient_accumulation_steps": 2, "per_device_eval_batch_size": 4}
        trainer = make_trainer(exported, tmp_path / strategy, options(exported, training=training))
        trainer.args.eval_strategy, trainer.args.eval_steps = strategy, 1
        trainer.eval_dataset = trainer.train_dataset.select(range(2))
        evaluate, state = trainer.evaluate, torch.get_rng_state

        def between(*given, evaluate=evaluate, state=state, **named):
            before = state()
            found = evaluate(*given, **named)
            torch.set_rng_state(before)
            return found

        trainer.evaluate = between
        trainer.train()
        assert any("eval_loss" in row for row in trainer.state.log_history) == (strategy == "steps")
        logs.append([row for row in trainer.state.log_history if "loss" in row])
    for without, with_it in zip(*logs, strict=True):
        named = [name for name in without if not name.startswith(("seconds", "tokens_per", "step_time"))]
        assert {name: with_it[name] for name in named} == {name: without[name] for name in named}


def test_one_completion_a_prompt_has_rewards_to_evaluate_and_no_advantage(exported, tmp_path):
    chosen = options(exported, generation={"num_generations_eval": 1}, training={"per_device_eval_batch_size": 4})
    trainer = make_trainer(exported, tmp_path, chosen)
    found = trainer.evaluate(trainer.train_dataset.select(range(4)))
    assert math.isfinite(found["eval_reward"])
    assert found["eval_completions/excluded"] == 1.0
    assert math.isnan(found["eval_loss"])


@pytest.mark.parametrize("reward", [0.1, 1.2, 1.7, 2.9])
def test_equal_rewards_give_no_advantage_beside_one_that_is_missing(reward):
    """The mean of some equal floats differs from them by an ulp, which std(A) would make 2."""
    for count in range(3, 9):
        rewards = torch.tensor([reward] * (count - 1) + [math.nan] + [1.0] * count)
        advantages, keep, std = global_advantages(rewards, torch.ones(len(rewards), dtype=torch.bool), count)
        assert keep.sum() == 2 * count - 1
        assert std == 0.0
        assert not advantages.any()
