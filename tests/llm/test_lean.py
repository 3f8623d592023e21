"""A lean update is the plain one: the same weights after some steps on every path; and what it leaves out."""

import json
import math
from collections import Counter
from itertools import chain

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import Gemma2Config, GPT2Config, GraniteConfig, Qwen2Config

from dar_ref.llm.linear_head import why_not
from dar_ref.llm.regroup import by_length, concatenated, cut, moved_left, parts, rows
from tests.llm.models.small_lm import HEADS, SIZES, save_small_lm
from tests.llm.training import Recorder, make_trainer, options, parameters, prompts_of_many_lengths, score

PLAIN = {"fused_loss": False, "skip_tolerance": 0.0, "sort_by_length": False, "sampler_logps": False}
LEAN = {"fused_loss": True, "skip_tolerance": 0.0, "sort_by_length": True, "sampler_logps": True}
SGD = {"optim": "sgd", "learning_rate": 1e-2}  # Adam would enlarge the rounding of small gradients to full steps
LORA = {"r": 4, "alpha": 8}


def by_number(completion_ids, **_):
    """A reward of the ids alone, for any tokenizer."""
    return [score("", ids) for ids in completion_ids]


def distance(one, other):
    return max((one[name] - other[name]).abs().max().item() for name in other)


def trained(exported, out, training=(), **of_options):
    """Weights before and after three steps, and the trainer."""
    training = {**SGD, "gradient_accumulation_steps": 2, **dict(training)}
    trainer = make_trainer(exported, out, training=training, reward_function=by_number, **of_options)
    before = parameters(trainer.model)
    trainer.train()
    return before, parameters(trainer.model), trainer


def assert_same_weights(exported, tmp_path, limit, changed=LEAN, **of_options):
    before, expected, _ = trained(exported, tmp_path / "plain", **of_options, **PLAIN)
    _, found, trainer = trained(exported, tmp_path / "lean", **of_options, **{**PLAIN, **changed})
    gone = distance(expected, before)
    assert 0 < distance(found, expected) <= limit * gone or gone > 0 == distance(found, expected)
    return trainer


SINGLE = [{name: value} for name, value in LEAN.items() if value != PLAIN[name]]
PATHS = {
    "accumulation": {},
    "lora": {"lora": LORA},
    "temperature": {"generation": {"temperature": 0.7}},
    "older samples": {"generation": {"num_iterations": 2, "steps_per_generation": 4}},
    "truncated left out": {"generation": {"mask_truncated_completions": True}},
    "checkpointing": {"training": {"gradient_checkpointing": True}},
    "generations in a step": {"generation": {"steps_per_generation": 1}},
}


@pytest.mark.parametrize("changed", SINGLE, ids=lambda changed: next(iter(changed)))
def test_each_piece_alone_trains_the_plain_weights(exported, tmp_path, changed):
    assert_same_weights(exported, tmp_path, 1e-5, changed, beta=0.7)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_pieces_train_the_plain_weights(exported, tmp_path, path, dtype):
    prompts = prompts_of_many_lengths(exported, tmp_path / "prompts.jsonl")
    limit = {"float32": 1e-4, "float64": 1e-10}[dtype]
    trainer = assert_same_weights(
        exported, tmp_path, limit, prompts=prompts, model={"dtype": dtype}, beta=0.7, **PATHS[path]
    )
    assert trainer._lean.fused


CONFIGS = {
    "tied": Qwen2Config(**SIZES, **HEADS, tie_word_embeddings=True),
    "untied": Qwen2Config(**SIZES, **HEADS, tie_word_embeddings=False),
    "soft-capped": Gemma2Config(**SIZES, **HEADS, head_dim=8, final_logit_softcapping=0.5, initializer_range=0.5),
    "absolute positions": GPT2Config(n_positions=512, n_embd=16, n_layer=2, n_head=2),
    "scaled logits": GraniteConfig(**SIZES, **HEADS, logits_scaling=8.0),
}


def saved(folder, config):
    """A random model of `config` with the tokenizer of single bytes, and prompts for it."""
    config.vocab_size = 258
    save_small_lm(folder / "policy", config)
    (folder / "prompts").mkdir()
    texts = ["a", "bc", "def ghi", "j", "kl mno", "p q r s", "tu", "vw xyz"]
    lines = "".join(json.dumps({"prompt": text}) + "\n" for text in texts)
    (folder / "prompts" / "train.jsonl").write_text(lines)
    return folder


@pytest.mark.parametrize("name", CONFIGS)
def test_every_architecture_trains_the_plain_weights(tmp_path, name):
    folder = saved(tmp_path / "model", CONFIGS[name])
    trainer = assert_same_weights(folder, tmp_path, 1e-4, beta=0.7, training={"max_grad_norm": 0.1})
    assert trainer._lean.fused == (name != "scaled logits")


def test_steps_and_generations_that_do_not_fit_train_the_plain_weights(exported, tmp_path, caplog):
    generation = {"steps_per_generation": 3}
    trainer = assert_same_weights(exported, tmp_path, 1e-4, generation=generation, beta=0.7)
    assert "gradient_accumulation_steps = 2 and steps_per_generation = 3 do not divide one another" in caplog.text
    assert trainer._lean.fused


def test_models_that_do_not_fit_are_named(tmp_path, caplog):
    trainer = make_trainer(saved(tmp_path / "model", CONFIGS["scaled logits"]), tmp_path / "out")
    assert "it multiplies its logits (logits_scaling = 8.0)" in caplog.text
    model = trainer.model
    model.config.logits_scaling = 1.0
    assert why_not(model) is None
    model.lm_head = torch.nn.Sequential(model.lm_head)
    assert why_not(model) == "its output embedding is a Sequential and not a plain nn.Linear"


# --- leaving out ------------------------------------------------------------------------------------------------------


def steps_of(exported, out, tolerance, **of_options):
    """Gradients of the first step, its log, and how often each model was called with how many rows."""
    calls = Counter()
    training = {**SGD, "max_steps": 1, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 8}
    trainer = make_trainer(exported, out, training=training, skip_tolerance=tolerance, **of_options)
    forward = trainer._lean.forward

    def watched(model, batch, weigh):
        calls["score" if weigh is None else "update"] += len(batch["keep"])
        return forward(model, batch, weigh)

    trainer._lean.forward = watched
    recorder = Recorder().watch(trainer)
    trainer.train()
    return recorder.callback_handler.callbacks[-1].steps[0].gradients, trainer.state.log_history[0], calls


def test_what_is_left_out_is_in_neither_forward_and_the_log_says_how_much(exported, tmp_path):
    whole, log_of_whole, calls_of_whole = steps_of(exported, tmp_path / "whole", 0.0)
    found, log, calls = steps_of(exported, tmp_path / "lean", 1e-3)
    assert "skipped/update" not in log_of_whole
    assert calls_of_whole == {"score": 32, "update": 32}
    assert calls["update"] == round(32 * (1 - log["skipped/update"])) < 24
    assert calls["score"] == round(32 * (1 - log["skipped/reference"])) < 32
    assert 0 < log["skipped/bound"] <= 1e-3
    error = math.sqrt(sum(((found[n] - whole[n]) ** 2).sum().item() for n in whole))
    size = math.sqrt(sum((whole[n] ** 2).sum().item() for n in whole))
    assert 0 < error <= 0.02 * size  # no bound, see `dar_ref.losses.skipping`, but here no more
    same = ("weight/mean", "weight/max", "weight/ess", "weight/clipped", "weight/log_adv_std", "advantage/std", "loss")
    assert {name: log[name] for name in same} == pytest.approx({name: log_of_whole[name] for name in same}, rel=2e-3)


def test_metrics_are_of_all_rows_that_they_are_known_for(exported, tmp_path):
    """In the first step every policy is pi_0, so a KL over the wrong rows or with a 0 in it would not be 0."""
    _, log, _ = steps_of(exported, tmp_path, 1e-3)
    _, whole, _ = steps_of(exported, tmp_path, 0.0)
    for name in ("kl/pi_0_k1", "kl/pi_0_k3", "kl/pi_t_k1", "weight/log_reg_mean"):
        assert abs(log[name]) < 1e-6
    assert log["entropy"] == pytest.approx(whole["entropy"], rel=0.3)


def test_a_batch_whose_weights_are_equal_leaves_out_nothing_that_counts(exported, tmp_path):
    _, log, calls = steps_of(exported, tmp_path, 1e-3, beta=1e6)
    assert calls["update"] == 32
    assert log["skipped/update"] == log["skipped/bound"] == 0.0


def test_where_nobody_knows_pi_t_nothing_is_left_out(exported, tmp_path):
    _, log, calls = steps_of(exported, tmp_path, 1e-3, sampler_logps=False)
    assert "skipped/update" not in log
    assert calls["update"] == 32


# --- log-probs of the sampler -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_the_sampler_knows_what_scoring_would_find(exported, tmp_path, temperature):
    prompts = prompts_of_many_lengths(exported, tmp_path / "prompts.jsonl")
    generation = {"temperature": temperature}
    trainer = make_trainer(exported, tmp_path / "out", generation=generation, prompts=prompts)
    seen, score_batch = [], trainer._score

    def watched(model, inputs):
        scored, entropies = score_batch(model, inputs)
        seen.append((inputs["old_per_token_logps"], scored))
        return scored, entropies

    trainer._score = watched
    trainer.train()
    for old, scored in seen:
        assert (torch.where(scored.mask, old - scored.per_token_logps.detach(), 0.0)).abs().max() < 1e-5
    assert trainer.state.log_history[0]["kl/pi_t_k1"] == pytest.approx(0.0, abs=1e-5)
    assert "generate" not in vars(trainer.model)


def test_in_bfloat16_the_sampler_decides_what_is_left_out_and_weighs_nothing(exported, tmp_path):
    _, log, calls = steps_of(exported, tmp_path, 1e-3, model={"dtype": "bfloat16"})
    assert calls["update"] == round(32 * (1 - log["skipped/update"])) < 24
    assert log["kl/pi_t_k1"] == 0.0  # pi_t is pi_theta's own forward; the sampler's log-probs would be off by rounding
    assert 0 < log["skipped/bound"] <= 1e-3


def test_a_sampler_that_draws_from_something_else_is_refused(exported, tmp_path):
    trainer = make_trainer(exported, tmp_path / "out", training={"max_steps": 1})
    generate = trainer.model.generate

    def shifted(*positional, logits_processor, **named):
        (recorder,) = logits_processor
        recorder.temperature = 3.0
        return generate(*positional, logits_processor=logits_processor, **named)

    trainer.model.generate = shifted
    with pytest.raises(RuntimeError, match="before the first step the policy and pi_0 differ"):
        trainer.train()


# --- micro-batches ----------------------------------------------------------------------------------------------------


@st.composite
def batches(draw):
    count, prompt, completion = draw(st.integers(1, 8)), draw(st.integers(1, 5)), draw(st.integers(1, 6))
    lengths = st.lists(st.integers(0, completion), min_size=count, max_size=count)
    left = st.lists(st.integers(1, prompt), min_size=count, max_size=count)
    prompts = torch.tensor([[j >= prompt - n for j in range(prompt)] for n in draw(left)]).long()
    masks = torch.tensor([[j < n for j in range(completion)] for n in draw(lengths)]).long()
    ids = torch.arange(count * (prompt + completion)).view(count, -1) + 1
    return {
        "prompt_ids": ids[:, :prompt] * prompts,
        "prompt_mask": prompts,
        "completion_ids": ids[:, prompt:] * masks,
        "completion_mask": masks,
        "old_per_token_logps": None,
        "advantages": torch.arange(count),
        "kept_share": torch.tensor(1.0),
    }


@given(batches(), st.integers(1, 4), st.integers(0, 5), st.sampled_from([None, 2, 4]))
def test_sorting_and_cutting_loses_no_token(batch, size, least, multiple):
    everything = by_length(batch, torch.arange(len(batch["advantages"])))
    made = [cut(rows(batch, part), multiple) for part in parts(everything, size, least)]
    assert len(made) == max(least, math.ceil(len(everything) / size))
    assert max(len(some["advantages"]) for some in made) <= size
    lengths = [(some["prompt_mask"].sum(1) + some["completion_mask"].sum(1)).tolist() for some in made]
    in_order = list(chain(*lengths))
    assert in_order == sorted(in_order, reverse=True)
    for some in made:
        for row, number in enumerate(some["advantages"].tolist()):
            for name in ("prompt", "completion"):
                kept = some[f"{name}_ids"][row][some[f"{name}_mask"][row].bool()]
                assert torch.equal(kept, batch[f"{name}_ids"][number][batch[f"{name}_mask"][number].bool()])
        if multiple is None and len(some["advantages"]):
            assert some["prompt_mask"].any(dim=0)[0]
    assert sorted(n for some in made for n in some["advantages"].tolist()) == list(range(len(everything)))


@given(batches())
def test_moving_left_keeps_every_row(batch):
    ids, mask, columns = moved_left(batch)
    whole = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    kept = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1).bool()
    assert mask.shape[1] == max(1, int(kept.sum(dim=1).max()))
    for row in range(len(ids)):
        assert torch.equal(ids[row][mask[row].bool()], whole[row][kept[row]])
        assert mask[row].tolist() == sorted(mask[row].tolist(), reverse=True)
        completion = batch["completion_mask"][row].bool()
        assert torch.equal(ids[row][columns[row]][completion], batch["completion_ids"][row][completion])


@given(batches())
def test_batches_are_concatenated_row_by_row(one):
    joined = concatenated([rows(one, torch.tensor([i])) for i in range(len(one["advantages"]))])
    assert all(torch.equal(joined[name], x) for name, x in one.items() if x is not None)


def test_padding_is_not_paid_for(exported, tmp_path):
    """Columns of the forwards that score and train, with and without."""
    prompts = prompts_of_many_lengths(exported, tmp_path / "prompts.jsonl")
    columns = {}
    for sort in (False, True):
        trainer = make_trainer(
            exported,
            tmp_path / str(sort),
            prompts=prompts,
            training={"max_steps": 2, "gradient_accumulation_steps": 4},
            sort_by_length=sort,
            skip_tolerance=0.0,
        )
        counted = Counter()

        def watched(_model, _positional, named, counted=counted):
            if "weigh" in named:
                counted["all"] += named["attention_mask"].numel()
                counted["kept"] += int(named["attention_mask"].sum())

        for model in (trainer.model, trainer.ref_model):
            model.register_forward_pre_hook(watched, with_kwargs=True)
        trainer.train()
        columns[sort] = counted
    assert columns[True]["kept"] == columns[False]["kept"]
    assert columns[True]["all"] - columns[True]["kept"] < (columns[False]["all"] - columns[False]["kept"]) / 2


def test_options_out_of_range_are_refused(exported, tmp_path):
    for value, message in ((1.0, "would leave out every completion"), (-0.1, "skip_tolerance")):
        with pytest.raises(ValueError, match=message):
            make_trainer(exported, tmp_path, options(exported, skip_tolerance=value))
