"""The reward model equals the toy engine's for every batch, padding and form of the text."""

import json
import os
import shutil

import pytest
import torch
from tokenizers import processors
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    PreTrainedTokenizerFast,
)
from transformers.integrations import deepspeed

from dar_ref.llm.options import RewardOptions
from dar_ref.llm.rewards import model as reward_model
from dar_ref.llm.rewards.function import check_reward, make_reward
from dar_ref.llm.rewards.model import RewardModel
from dar_ref.toy.policy import decode, encode_prompts
from dar_ref.toy.sampling import sample

EOS = 0
TEMPLATE = "{% for m in messages %}{{ 'a ' if m['role'] == 'user' else 'b ' }}{{ m['content'] }} {% endfor %}"


def options(folder, **changed):
    defaults = {"kind": "model", "name": str(folder), "dtype": "float32", "separator": " "}
    return RewardOptions(**defaults | changed)


@pytest.fixture(scope="module")
def sampled(start):
    """Completions of pi_0 in the toy engine, and the same completions as TRL passes them: texts and ids."""
    prompts = start.prompts.train[:16]
    generator = torch.Generator().manual_seed(3)
    drawn = sample(start.pi_0, encode_prompts(start.task, prompts), 4, start.task.max_new_tokens, generator).completions
    ids = [row[mask].tolist() for row, mask in zip(drawn.ids, drawn.mask, strict=True)]
    texts = [" ".join(words) for words in decode(start.task, drawn)]
    assert not all(drawn.finished)
    assert any(drawn.finished)
    assert "" in texts
    return drawn, [" ".join(prompt) for prompt in prompts for _ in range(4)], texts, ids


@pytest.fixture
def folder(exported, tmp_path):
    """A copy of the exported reward model that a test may change."""
    return shutil.copytree(exported / "reward_model", tmp_path / "reward_model")


def change(file, **changed):
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(content | changed), encoding="utf-8")


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_the_exported_model_scores_as_in_the_toy_engine(exported, start, sampled, batch_size):
    drawn, prompts, texts, ids = sampled
    reward = make_reward(options(exported / "reward_model", batch_size=batch_size), device="cpu", eos_token_ids=[EOS])
    rewards = reward(prompts=prompts, completions=texts, completion_ids=ids, answer=["x"] * len(ids))
    assert rewards == pytest.approx(start.proxy(drawn).tolist(), rel=1e-5, abs=1e-5)
    assert reward.__name__ == "reward_model"
    assert reward.counts == {"completions": 64, "missing_eos": sum(not f for f in drawn.finished.tolist())}


def test_the_penalty_is_taken_from_those_without_eos_alone(exported, sampled):
    drawn, prompts, texts, ids = sampled
    plain, with_penalty = (
        make_reward(options(exported / "reward_model", missing_eos_penalty=p), device="cpu", eos_token_ids=[EOS, 7])
        for p in (0.0, 1.5)
    )
    taken = [a - b for a, b in zip(plain(prompts, texts, ids), with_penalty(prompts, texts, ids), strict=True)]
    assert taken == pytest.approx([0.0 if ended else 1.5 for ended in drawn.finished.tolist()])


@pytest.mark.parametrize("pad", ["<eos>", "a", None])
@pytest.mark.parametrize("side", ["left", "right"])
def test_neither_the_padding_token_nor_its_side_matters(folder, sampled, pad, side):
    _, prompts, texts, ids = sampled
    expected = make_reward(options(folder, batch_size=1), device="cpu", eos_token_ids=[EOS])(prompts, texts, ids)
    change(folder / "tokenizer_config.json", pad_token=pad, padding_side=side)
    change(folder / "config.json", pad_token_id=EOS)
    again = make_reward(options(folder, batch_size=7), device="cpu", eos_token_ids=[EOS])(prompts, texts, ids)
    assert again == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_models_with_absolute_positions_are_invariant_to_the_batch(exported, folder, sampled):
    _, prompts, texts, ids = sampled
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=6, n_positions=8, n_embd=16, n_layer=1, n_head=2, num_labels=1, resid_pdrop=0.5)
    shutil.rmtree(folder)
    GPT2ForSequenceClassification(config).save_pretrained(folder)
    PreTrainedTokenizerFast.from_pretrained(exported / "reward_model").save_pretrained(folder)
    one, many = (RewardModel(options(folder, batch_size=b), "cpu") for b in (1, 16))
    ended = [row[-1] == EOS for row in ids]
    assert many.score(prompts, texts, ended) == pytest.approx(one.score(prompts, texts, ended), rel=1e-5, abs=1e-6)


def test_a_model_that_pools_in_its_own_way_gives_its_logit(exported, tmp_path, sampled):
    _, prompts, texts, ids = sampled
    torch.manual_seed(0)
    config = BertConfig(vocab_size=6, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    config.num_labels = 1
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(exported / "reward_model")
    tokenizer.save_pretrained(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    scorer = RewardModel(options(tmp_path, append_eos=False, batch_size=16), "cpu")
    scores = scorer.score(prompts, texts, [True] * len(ids))
    with torch.no_grad():
        rows = [tokenizer(f"{p} {t}", return_tensors="pt")["input_ids"] for p, t in zip(prompts, texts, strict=True)]
        alone = [model(input_ids=row).logits.item() for row in rows]
    assert scores == pytest.approx(alone, rel=1e-5, abs=1e-6)
    change(tmp_path / "tokenizer_config.json", pad_token=None)
    with pytest.raises(ValueError, match="has no padding token"):
        RewardModel(options(tmp_path, append_eos=False), "cpu").load()


def test_eos_is_appended_where_asked_and_only_once(folder):
    def score(**changed):
        return RewardModel(options(folder, **changed), "cpu").score(["a b c"] * 2, ["d"] * 2, [True, False])

    ended, open_end = score()
    assert score(append_eos=False) == [pytest.approx(open_end)] * 2
    assert ended != pytest.approx(open_end)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    ends_itself = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", EOS)])
    tokenizer.backend_tokenizer.post_processor = ends_itself
    tokenizer.save_pretrained(folder)
    assert score() == [pytest.approx(ended)] * 2


def test_what_is_judged_is_shown(exported):
    reward = make_reward(options(exported / "reward_model"), device="cpu", eos_token_ids=[EOS])
    checked = check_reward(reward, "a b c", "d", [4, EOS], answer="x")
    assert checked.text == "a b c d<eos>"
    assert checked.reward == reward(["a b c"], ["d"], [[4, EOS]])[0]
    assert check_reward(reward, "a b c", "d", [4]).text == "a b c d"


def test_chat_is_rendered_by_the_models_own_template(folder):
    change(folder / "tokenizer_config.json", chat_template=TEMPLATE, model_max_length=8)
    model = RewardModel(options(folder), "cpu")
    prompt, answer = [{"role": "user", "content": "c"}], [{"role": "assistant", "content": "d"}]
    assert model.render(prompt, answer, True) == "a c b d "
    plain = RewardModel(options(folder, separator=" ", append_eos=False), "cpu")
    assert model.score([prompt], [answer], [True]) == pytest.approx(plain.score(["a c"], ["b d"], [True]))


def test_a_template_writes_its_own_special_tokens(folder):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    begins = processors.TemplateProcessing(single="c $A", special_tokens=[("c", 3)])
    tokenizer.backend_tokenizer.post_processor = begins
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    model = RewardModel(options(folder, append_eos=False), "cpu")
    assert model._ids([{"role": "user", "content": "d"}], [], True) == [1, 4]
    assert model._ids("a", "d", True) == [3, 1, 4]


def test_chat_without_a_template_is_refused(exported):
    model = RewardModel(options(exported / "reward_model"), "cpu")
    with pytest.raises(ValueError, match="has no chat template"):
        model.score([[{"role": "user", "content": "c"}]], [[{"role": "assistant", "content": "d"}]], [True])


@pytest.mark.parametrize("limit", ["config.json", "tokenizer_config.json"])
def test_texts_that_are_too_long_are_unscored_and_counted(folder, limit):
    name = "max_position_embeddings" if limit == "config.json" else "model_max_length"
    change(folder / limit, **{name: 5})
    reward = make_reward(options(folder), device="cpu", eos_token_ids=[EOS])
    scores = reward(["a b c"] * 3, ["d", "d d", "d d"], [[4, EOS], [4, 4], [4, 4, EOS]])
    assert [score is None for score in scores] == [False, False, True]
    assert (reward.counts["too_long"], reward.counts["unscored"]) == (1, 1)


def test_words_that_run_together_are_noticed(exported):
    model = RewardModel(options(exported / "reward_model", separator=""), "cpu")
    with pytest.warns(UserWarning, match=r"does not know every word of 'a b cd d'.*reward.separator"):
        model.score(["a b c"] * 2, ["d d"] * 2, [True, True])
    assert model.counts["unknown_words"] == 2


@pytest.mark.parametrize(
    ("labels", "message"), [({"0": "a", "1": "b"}, "has 2 labels; a reward model has one"), ({"0": "a"}, None)]
)
def test_a_classifier_is_no_reward_model(folder, labels, message):
    change(folder / "config.json", id2label=labels, label2id={v: int(k) for k, v in labels.items()})
    if message is None:
        RewardModel(options(folder), "cpu")
    else:
        with pytest.raises(ValueError, match=message):
            RewardModel(options(folder), "cpu")


def test_a_policy_has_no_head_and_is_refused(exported, tmp_path):
    shutil.copytree(exported / "policy", tmp_path, dirs_exist_ok=True)
    change(tmp_path / "config.json", id2label={"0": "reward"}, label2id={"reward": 0})
    with pytest.raises(
        ValueError, match=r"lacks weights, of the right shape, for score.weight: scores would be random"
    ):
        make_reward(options(tmp_path), device="cpu", eos_token_ids=[EOS])
    make_reward(options(tmp_path), device="cpu", eos_token_ids=[EOS], weights=False)  # a dry run reads no weights


@pytest.mark.parametrize("damage", [lambda _: b"", lambda content: content[:100], lambda content: content[:-7]])
def test_damaged_weights_are_refused_in_our_words(folder, damage):
    file = folder / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(
        ValueError, match=r"reward\.name = .*: its weights cannot be read \(.*\); fetch the model again"
    ):
        RewardModel(options(folder), "cpu").load()


@pytest.mark.parametrize("changed", [{"model_type": "nosuch"}, {"num_hidden_layers": "two"}])
def test_a_config_that_nobody_knows_is_refused_in_our_words(folder, changed):
    change(folder / "config.json", **changed)
    with pytest.raises(ValueError, match=r"reward\.name = .*: its config\.json cannot be read: "):
        RewardModel(options(folder), "cpu")


def test_pickled_weights_are_not_read(folder):
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(OSError, match="safetensors"):
        RewardModel(options(folder), "cpu").load()


def test_a_tokenizer_without_eos_cannot_end_a_text(folder):
    change(folder / "tokenizer_config.json", eos_token=None)
    with pytest.raises(ValueError, match=r"no EOS to end a text with; set reward.append_eos=false"):
        RewardModel(options(folder), "cpu")
    RewardModel(options(folder, append_eos=False), "cpu")


def test_the_head_is_float32_and_nothing_has_a_gradient_or_dropout(folder):
    change(folder / "config.json", attention_dropout=0.5)
    reward = RewardModel(options(folder, dtype="bfloat16"), "cpu").load()
    model = reward._model
    assert (model.score.weight.dtype, model.model.norm.weight.dtype) == (torch.float32, torch.bfloat16)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = [reward.score(["a b c"], ["d"], [True])[0] for _ in range(2)]
    states = model.model(torch.tensor([[1, 2, 3, 4, EOS]])).last_hidden_state[0, -1].float()
    assert scores == [(states @ model.score.weight[0]).item()] * 2


def test_weights_are_whole_where_the_policys_are_sharded(exported, monkeypatch):
    class ZeRO3:
        def is_zero3(self):
            return True

    sharded = ZeRO3()
    monkeypatch.setattr(deepspeed, "_hf_deepspeed_config_weak_ref", None)
    deepspeed.set_hf_deepspeed_config(sharded)
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "true")
    with reward_model._unsharded():
        assert not deepspeed.is_deepspeed_zero3_enabled()
        assert os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] == "False"
    assert deepspeed.is_deepspeed_zero3_enabled()
    assert os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] == "true"
    model = RewardModel(options(exported / "reward_model"), "cpu").load()._model
    assert all(p.numel() for p in model.parameters())
