"""A tokenizer does what its own file says, whatever class transformers picks for the model in the folder."""

import json

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerFast, Qwen2Config

from dar_ref.llm.models.tokenizers import _agrees, load_tokenizer, tokenizer_hash, unknown_id

TEXTS = ["It's 20 apples, naïve (x_1)", "  two  spaces\n", "1234567 東京"]


def saved(folder, core, **special):
    PreTrainedTokenizerFast(tokenizer_object=core, **special).save_pretrained(folder)
    Qwen2Config().save_pretrained(folder)
    return folder


def byte_level(*steps):
    """A tokenizer trained on `TEXTS`: BPE on bytes, behind the pre-tokenizers `steps`."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(TEXTS, trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False, vocab_size=300))
    return core


def ids_of(tokenizer):
    return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]


def test_the_toy_tokenizers_are_word_level_and_keep_their_own_padding(exported, start):
    words = start.task.vocabulary
    for folder, pad in (("policy", "<eos>"), ("reward_model", "<pad>")):
        tokenizer = load_tokenizer(str(exported / folder))
        assert tokenizer("d a  c<eos>b")["input_ids"] == [words.index(w) for w in ("d", "a", "c", "<eos>", "b")]
        assert tokenizer.pad_token == pad
        assert len(tokenizer) == len(words) + (pad == "<pad>")
        assert unknown_id(tokenizer) == words.index("<eos>")
    assert len(AutoTokenizer.from_pretrained(exported / "policy")) > len(words)  # this is why the helper is needed


def test_words_that_auto_tokenizer_tears_apart_stay_whole(tmp_path):
    core = Tokenizer(models.WordLevel({"<unk>": 0, "fire": 1, "storm": 2}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    folder = saved(tmp_path, core, unk_token="<unk>")
    tokenizer = load_tokenizer(str(folder))
    assert tokenizer("storm fire flood")["input_ids"] == [2, 1, 0]
    assert unknown_id(tokenizer) == 0


def test_another_splitting_of_bytes_is_kept(tmp_path):
    core = byte_level(pre_tokenizers.Punctuation(), pre_tokenizers.Digits(individual_digits=False))
    folder = saved(tmp_path, core, eos_token="<|endoftext|>")
    tokenizer = load_tokenizer(str(folder))
    assert ids_of(tokenizer) == [core.encode(text, add_special_tokens=False).ids for text in TEXTS]
    assert ids_of(AutoTokenizer.from_pretrained(folder)) != ids_of(tokenizer)


def test_padding_kept_in_the_file_is_no_deviation(tmp_path):
    folder = saved(tmp_path, byte_level(), eos_token="<|endoftext|>")
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["padding"] = {"strategy": {"Fixed": 512}, "direction": "Right", "pad_to_multiple_of": None}
    content["padding"] |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "!"}
    content["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "config.json").unlink()
    assert _agrees(AutoTokenizer.from_pretrained(folder), folder / "tokenizer.json")
    assert len(load_tokenizer(str(folder))("It's")["input_ids"]) < 5


def test_tokenizers_that_know_every_text_have_no_unknown_id():
    core = byte_level()
    assert unknown_id(PreTrainedTokenizerFast(tokenizer_object=core)) is None


def test_a_folder_without_a_tokenizer_is_an_error(tmp_path):
    with pytest.raises(OSError, match="no tokenizer can be read"):
        load_tokenizer(str(tmp_path))


def test_the_hash_of_a_tokenizer_is_that_of_its_content(exported):
    words = load_tokenizer(str(exported / "policy"))
    before = tokenizer_hash(words)
    words.pad_token = words.eos_token
    padded = tokenizer_hash(words)
    words(["a b", "a"], padding=True, truncation=True, max_length=1)  # which it remembers
    assert tokenizer_hash(words) == padded
    words.chat_template = "{{ messages }}"
    with_template = tokenizer_hash(words)
    words.add_tokens(["new"])
    assert len({before, padded, with_template, tokenizer_hash(words)}) == 3 + (before != padded)
    assert (
        tokenizer_hash(ByT5Tokenizer()) == tokenizer_hash(ByT5Tokenizer()) != tokenizer_hash(ByT5Tokenizer(extra_ids=3))
    )
