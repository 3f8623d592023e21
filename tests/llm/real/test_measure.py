"""Answers and their log-probs against a computation row by row, without padding and without a cache."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig

from dar_ref.llm.models.policy import policy_tokenizer
from dar_ref.llm.options import ModelOptions
from dar_ref.llm.real.measure import Answer, complete, judged, of_tokens, with_adapter
from tests.llm.models.small_lm import HEADS, SIZES, save_small_lm

PROMPTS = ["a", "a longer prompt", "mid"] * 9  # more than are sampled at once
TOKENS = 12


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """pi_0, a Llama, and an adapter on it that changes what it says."""
    folder = tmp_path_factory.mktemp("model")
    save_small_lm(folder / "pi_0", LlamaConfig(vocab_size=258, initializer_range=0.3, **SIZES, **HEADS))
    base = AutoModelForCausalLM.from_pretrained(folder / "pi_0")
    torch.manual_seed(1)
    adapted = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    adapted.save_pretrained(folder / "checkpoint")
    return folder


@pytest.fixture
def loaded(place):
    tokenizer = policy_tokenizer(ModelOptions(str(place / "pi_0")), place / "pi_0")
    return AutoModelForCausalLM.from_pretrained(place / "pi_0").eval(), tokenizer


@torch.no_grad()
def logp(model, tokenizer, prompt, ids):
    """log-prob of a completion, in float64, one row alone."""
    before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    logits = model(torch.tensor([before + ids])).logits[0].double()
    of_each = logits.log_softmax(-1)[len(before) - 1 : -1]
    return sum(row[token].item() for row, token in zip(of_each, ids, strict=True))


@pytest.mark.parametrize("seed", [None, 3])
def test_log_probs_are_those_of_each_row_alone_under_the_policy_and_under_pi_0(place, loaded, seed):
    base, tokenizer = loaded
    model = with_adapter(base, place / "checkpoint")
    found = complete(model, tokenizer, PROMPTS, TOKENS, seed)
    pi_0 = AutoModelForCausalLM.from_pretrained(place / "pi_0").eval()
    assert len(found) == len(PROMPTS)
    for prompt, answer in zip(PROMPTS, found, strict=True):
        assert answer.logp == pytest.approx(logp(model, tokenizer, prompt, answer.ids), abs=1e-3)
        assert answer.ref_logp == pytest.approx(logp(pi_0, tokenizer, prompt, answer.ids), abs=1e-3)
        assert answer.fluency == answer.ref_logp / len(answer.ids)
        assert answer.ended == (answer.ids[-1] == tokenizer.eos_token_id)
        assert tokenizer.eos_token_id not in answer.ids[:-1]
        assert len(answer.ids) == TOKENS or answer.ended
    assert max(abs(answer.logp - answer.ref_logp) for answer in found) > 1.0


def test_an_answer_ends_at_its_eos(loaded):
    base, tokenizer = loaded
    found = complete(base, tokenizer, PROMPTS * 8, 60, 0)
    ended = [answer for answer in found if answer.ended]
    assert ended
    assert not all(answer.ended for answer in found)
    assert all("<eos>" not in answer.text for answer in found)


def test_greedy_answers_are_the_most_likely_tokens_and_a_seed_repeats(loaded):
    base, tokenizer = loaded
    (greedy,) = complete(base, tokenizer, ["a"], 3, None)
    ids = tokenizer("a", add_special_tokens=False)["input_ids"]
    for token in greedy.ids:
        with torch.no_grad():
            assert base(torch.tensor([ids])).logits[0, -1].argmax() == token
        ids.append(token)
    assert complete(base, tokenizer, PROMPTS, TOKENS, 1) == complete(base, tokenizer, PROMPTS, TOKENS, 1)
    assert complete(base, tokenizer, PROMPTS, TOKENS, 1) != complete(base, tokenizer, PROMPTS, TOKENS, 2)


def test_pi_0_has_no_distance_to_itself(loaded):
    found = complete(*loaded, PROMPTS, TOKENS, 0)
    assert all(answer.logp == answer.ref_logp for answer in found)


def answer(text, fluency, ids=(5, 6, 7, 8)):
    return Answer(text, list(ids), False, -3.0, fluency * len(ids))


def test_what_is_kept_of_an_answer():
    assert of_tokens([answer("A lovely day.", -2.0, ids=[5, 6, 5, 6])]) == [
        {"text": "A lovely day.", "fluency": -2.0, "kl": 5.0, "length": 4, "missing_eos": 1.0, "repetition": 1 - 2 / 3}
    ]


def test_a_heap_of_praise_is_positive_and_not_gold():
    texts = ["A lovely chess game.", "lovely great happy wonderful", "A dull game.", "The train was late."]
    kept = of_tokens([answer(text, -2.0) for text in texts])
    each = judged("sentiment", [{"topic": "a chess game"}] * 4, kept)
    assert [row["positive"] for row in each] == [1.0, 1.0, 0.0, 0.0]
    assert [row["on_topic"] for row in each] == [1.0, 0.0, 1.0, 0.0]
    assert [row["gold"] for row in each] == [1.0, 0.0, 0.0, 0.0]
    assert each[1]["proxy"] > each[0]["proxy"] > each[2]["proxy"]


def test_a_summary_is_judged_by_the_words_that_no_reward_has_seen():
    post = "Equal values keep their order."
    row = {"reference": "Sort numbers in ascending order quickly.", "prompt": [{"content": post}]}
    each = judged("tldr", [row] * 2, of_tokens([answer(post, -2.0), answer(row["reference"], -2.0)]))
    assert [one["copied"] for one in each] == [1.0, 0.0]
    assert each[1]["proxy"] == each[1]["gold"] == 1.0
    assert each[0]["proxy"] + each[0]["gold"] < 1.0
