"""Our forward pass equals that of transformers, with its gradients. Padding, other rows and saving change nothing."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2ForCausalLM
from transformers.utils import logging

from dar_ref.toy.policy import (
    EOS_ID,
    Completions,
    completion_logits,
    completion_states,
    decode,
    encode,
    encode_prompts,
    load,
    new_policy,
    per_token_logps,
    save,
    tokenizer,
)
from dar_ref.toy.tasks import EOS, TASKS, TINY
from tests.toy.reference import lively_policy, mixed_completions, transformers_logits, whole_ids


@pytest.mark.parametrize("seed", range(3))
def test_logits_are_those_of_transformers(seed):
    policy, completions = lively_policy(seed=seed), mixed_completions()
    kept = completions.mask  # padding is not read
    ours, theirs = completion_logits(policy, completions)[kept], transformers_logits(policy, completions)[kept]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert theirs.std() > 0.5  # the two differ


def test_gradients_of_all_parameters_are_those_of_transformers():
    policy, completions = lively_policy(), mixed_completions()
    pull = torch.randn(12, 5, 5, generator=torch.Generator().manual_seed(1)) * completions.mask[..., None]
    parameters = dict(policy.named_parameters())
    ours, theirs = (
        torch.autograd.grad((forward(policy, completions) * pull).sum(), list(parameters.values()))
        for forward in (completion_logits, transformers_logits)
    )
    for name, own, other in zip(parameters, ours, theirs, strict=True):
        assert other.norm() > 0.0, name
        assert (own - other).norm() <= 1e-5 * other.norm(), name


def test_the_last_state_has_seen_the_whole_completion():
    policy, completions = lively_policy(), mixed_completions()
    states = completion_states(policy.model, completions)
    expected = policy.model(input_ids=whole_ids(completions)).last_hidden_state[:, TINY.prompt_length - 1 :]
    read = torch.cat([torch.ones(12, 1, dtype=torch.bool), completions.mask], dim=1)
    torch.testing.assert_close(states[read], expected[read], rtol=1e-5, atol=1e-5)
    assert not states[~read].any()


def test_log_probs_are_those_of_the_tokens_and_are_normalised():
    policy, completions = lively_policy(), mixed_completions()
    log_p = transformers_logits(policy, completions).double().log_softmax(dim=-1)
    found = per_token_logps(policy, completions)
    for i, row in enumerate(completions.ids.tolist()):
        for t, token in enumerate(row):
            expected = log_p[i, t, token].item() if completions.mask[i, t] else 0.0
            assert found[i, t].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("tail", [1, 4])
def test_what_stands_behind_the_end_changes_nothing(tail):
    policy, clean, dirty = lively_policy(), mixed_completions(), mixed_completions(tail=tail)
    assert not torch.equal(clean.ids, dirty.ids)
    found, expected = per_token_logps(policy, dirty), per_token_logps(policy, clean)
    assert torch.equal(found, expected)


def test_longer_padding_changes_nothing():
    policy, completions = lively_policy(), mixed_completions()
    short = Completions(completions.prompt_ids[:1], completions.ids[:2, :2], completions.mask[:2, :2], torch.ones(2))
    torch.testing.assert_close(
        per_token_logps(policy, short)[short.mask],
        per_token_logps(policy, completions)[:2, :2][short.mask],
        rtol=1e-6,
        atol=1e-6,
    )


def test_a_shared_prompt_is_the_same_as_each_prompt_read_for_itself():
    policy, completions = lively_policy(), mixed_completions()
    together = per_token_logps(policy, completions)
    prompts = completions.prompt_ids.repeat_interleave(4, dim=0)
    alone = per_token_logps(policy, completions._replace(prompt_ids=prompts))
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-6)
    for i in range(12):
        one = Completions(prompts[i : i + 1], *(x[i : i + 1] for x in completions[1:]))
        torch.testing.assert_close(per_token_logps(policy, one), together[i : i + 1], rtol=1e-6, atol=1e-6)


def test_completions_of_prompts():
    policy, completions = lively_policy(), mixed_completions()._replace(finished=torch.arange(12) % 5 > 0)
    assert completions.num_generations == 4
    rows = torch.tensor([2, 0, 2])
    part = completions.of_prompts(rows)
    assert part.num_generations == 4
    numbers = [8, 9, 10, 11, 0, 1, 2, 3, 8, 9, 10, 11]
    assert completions.samples(rows).tolist() == numbers
    for field in ("ids", "mask", "finished"):
        assert getattr(part, field).tolist() == [getattr(completions, field).tolist()[i] for i in numbers]
    torch.testing.assert_close(
        per_token_logps(policy, part), per_token_logps(policy, completions)[numbers], rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_words_to_ids_and_back(task):
    generator = torch.Generator().manual_seed(0)
    words, ended = [], []
    for i in range(40):
        finished = i % 3 > 0
        length = int(torch.randint(task.max_new_tokens, (), generator=generator)) if finished else task.max_new_tokens
        ids = torch.randint(1, len(task.vocabulary), (length,), generator=generator).tolist()
        words.append([task.vocabulary[number] for number in ids])
        ended.append(finished)
    prompt = list(task.vocabulary[1 : task.prompt_length + 1])[: task.prompt_length]
    prompt += [task.vocabulary[1]] * (task.prompt_length - len(prompt))
    completions = encode(task, [prompt] * 10, words, ended)
    assert decode(task, completions) == words
    assert completions.finished.tolist() == ended
    assert completions.mask.sum(dim=1).tolist() == [len(w) + e for w, e in zip(words, ended, strict=True)]
    assert (completions.ids[~completions.mask] == EOS_ID).all()
    for row, length, finished in zip(completions.ids, completions.mask.sum(dim=1), ended, strict=True):
        assert (row[length - 1] == EOS_ID) == finished
    assert [[task.vocabulary[i] for i in row] for row in completions.prompt_ids.tolist()] == [prompt] * 10


def test_a_response_that_is_too_long_is_refused():
    fitting = encode(TINY, [["a", "b", "c"]], [["a"] * 4], [True])
    assert fitting.mask.all()
    with pytest.raises(ValueError, match="a response of 6 tokens is too long for tiny: shorten it to 5"):
        encode(TINY, [["a", "b", "c"]], [["a"] * 5], [True])


def test_a_saved_folder_is_an_ordinary_one(tmp_path):
    policy, completions = lively_policy(), mixed_completions()
    policy.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert torch.equal(transformers_logits(loaded, completions), transformers_logits(policy, completions))
    assert torch.equal(completion_logits(loaded, completions), completion_logits(policy, completions))


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@pytest.mark.parametrize("extra", [[], ["<pad>"]])
def test_a_saved_tokenizer_reads_words_as_the_task_does(tmp_path, task, extra):
    tokenizer(task, extra).save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    words = [*task.vocabulary, *extra]
    assert loaded(" ".join(words))["input_ids"] == list(range(len(words)))
    assert loaded.decode(range(len(words))) == " ".join(words)
    assert (loaded.eos_token, loaded.eos_token_id) == (EOS, EOS_ID)
    assert loaded.pad_token_id == (len(words) - 1 if extra else EOS_ID)
    prompt = list(task.vocabulary[-task.prompt_length :])
    assert loaded(" ".join(prompt))["input_ids"] == encode_prompts(task, [prompt])[0].tolist()


def test_a_new_policy_depends_on_its_seed_alone():
    first, again, other = (new_policy(TINY, 16, 2, 2, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


@pytest.mark.parametrize("shown", [True, False])
def test_saving_and_loading_draw_no_bars_and_leave_those_of_others(shown, tmp_path, capfd):
    before = logging.is_progress_bar_enabled()
    (logging.enable_progress_bar if shown else logging.disable_progress_bar)()
    policy = lively_policy()
    try:
        save(policy, tokenizer(TINY), tmp_path)
        loaded = load(Qwen2ForCausalLM, tmp_path)
        assert logging.is_progress_bar_enabled() == shown
    finally:
        (logging.enable_progress_bar if before else logging.disable_progress_bar)()
    assert capfd.readouterr().err == ""
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), loaded.parameters(), strict=True))
