"""A user's own prompts and preferences, from JSONL and parquet. Dropped rows are counted; no row is lost."""

from dataclasses import replace

import pytest
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, processors
from transformers import PreTrainedTokenizerFast

from dar_ref.llm.data import sources
from dar_ref.llm.data.load import load_eval_prompts, load_preferences, load_prompts, sample_row
from dar_ref.llm.models.prompts import PromptReader
from dar_ref.llm.options import DataOptions
from tests.llm.data.rows import CHAT, PLAIN, jsonl, user
from tests.llm.data.rows import _no_shared_cache as _no_shared_cache

ROWS = [
    {"prompt": "one", "answer": 1, "why": "x"},
    {"prompt": "two three", "answer": 2, "why": None},
    {"prompt": "four", "answer": 3, "why": "y"},
]


@pytest.mark.parametrize("form", ["a.jsonl", "a.jsonl.gz", "a.json", "a.parquet", "folder", "pattern"])
def test_files_folders_and_patterns(tmp_path, form):
    if form == "a.parquet":
        Dataset.from_list(ROWS).to_parquet(tmp_path / form)
        name = tmp_path / form
    elif form in ("folder", "pattern"):
        for file in (1, 2, 0):
            jsonl(tmp_path / f"d/{file}.jsonl", ROWS[file : file + 1])
        (tmp_path / "d/README.md").write_text("no data")
        name = tmp_path / ("d" if form == "folder" else "d/*.jsonl")
    else:
        name = jsonl(tmp_path / form, ROWS)
    loaded = load_prompts(DataOptions(str(name)), PLAIN)
    assert loaded.dataset.to_list() == ROWS
    assert loaded.summary.clashes == ()
    assert sample_row(DataOptions(str(name)), PLAIN).row == ROWS[0]


def test_the_names_that_trl_takes_for_its_own_are_left_out(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"q": "a", "prompt": "b", "completions": 1, "chosen": "c", "other": 2}])
    dataset, summary = load_prompts(DataOptions(path, prompt_column="q"), PLAIN)
    assert dataset.to_list() == [{"prompt": "a", "other": 2}]
    assert summary.clashes == ("prompt", "completions", "chosen")
    assert "prompt, completions, chosen" in str(summary)


def test_messages_lose_their_empty_fields(tmp_path):
    rows = [{"prompt": [{"role": "user", "content": "a", "name": None}]}, {"prompt": user("b")}]
    dataset, _ = load_prompts(DataOptions(jsonl(tmp_path / "a.jsonl", rows)), CHAT)
    assert dataset["prompt"] == [user("a"), user("b")]


def test_system_prompt_comes_first_except_where_one_is(tmp_path):
    own = [{"role": "system", "content": "own"}, *user("b")]
    path = jsonl(tmp_path / "a.jsonl", [{"prompt": user("a")}, {"prompt": own}])
    dataset, summary = load_prompts(DataOptions(path, system_prompt="be brief"), CHAT)
    assert dataset["prompt"] == [[{"role": "system", "content": "be brief"}, *user("a")], own]
    assert summary.own_system == 1
    assert "instead of system_prompt: 1 (50.00%)" in str(summary)
    assert PromptReader(CHAT).write(dataset["prompt"][:1]) == ["system : be brief | user : a | assistant :"]
    assert load_prompts(DataOptions(path), CHAT).summary.own_system == 0


def test_a_conversation_of_one_message_has_a_plain_form(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"prompt": user("a b")}])
    assert load_prompts(DataOptions(path, format="plain"), CHAT).dataset["prompt"] == ["a b"]


def test_tokens_are_counted_after_the_template(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"prompt": "a b c"}, {"prompt": "a"}])
    _, summary = load_prompts(DataOptions(path, format="chat"), CHAT)
    assert summary.longest == 8  # user : a b c | assistant :
    dataset, summary = load_prompts(DataOptions(path, format="chat", max_prompt_tokens=7), CHAT)
    assert dataset["prompt"] == [user("a")]
    assert (summary.too_long, summary.longest, summary.example) == (1, 8, "user : a b c | assistant :")
    assert "longer than 7 tokens: 1 (50.00%); the longest has 8 and begins 'user : a b c" in str(summary)


def test_special_tokens_of_plain_prompts_count(tmp_path):
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(PLAIN.backend_tokenizer.to_str()), unk_token="<unk>", bos_token="<eos>"
    )
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<eos> $A", special_tokens=[("<eos>", 1)]
    )
    path = jsonl(tmp_path / "a.jsonl", [{"prompt": "a b"}])
    assert load_prompts(DataOptions(path), tokenizer).summary.longest == 3


def test_pairs_too_long_are_dropped_not_cut(tmp_path):
    rows = [{"prompt": "a b", "chosen": "c", "rejected": "d e f g"}, {"prompt": "a", "chosen": "c", "rejected": ""}]
    options = DataOptions("-", preferences=jsonl(tmp_path / "a.jsonl", rows))
    dataset, summary = load_preferences(options, PLAIN, max_length=4)
    assert dataset.to_list() == rows[1:]
    assert (summary.pairs_too_long, summary.longest_pair) == (1, 6)  # a bd e f g <eos>
    assert load_preferences(options, PLAIN, max_length=6).summary.pairs_too_long == 0
    assert load_preferences(options, PLAIN).summary.kept == 2
    chat = load_preferences(replace(options, format="chat"), CHAT, max_length=11)
    assert (chat.summary.longest_pair, chat.summary.kept) == (12, 1)  # user : a b | assistant : d e f g |


def test_pairs_may_repeat_prompts_may_not(tmp_path):
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c"}] * 2 + [{"prompt": "a", "chosen": "c", "rejected": "b"}]
    options = DataOptions(jsonl(tmp_path / "a.jsonl", rows), preferences=str(tmp_path / "a.jsonl"))
    assert load_preferences(options, PLAIN).dataset.to_list() == rows
    dataset, summary = load_prompts(options, PLAIN)
    assert (dataset.to_list(), summary.repeated) == ([{"prompt": "a"}], 2)


def test_responses_may_be_one_message(tmp_path):
    row = {"prompt": user("a"), "chosen": [{"role": "assistant", "content": "b"}], "rejected": "c"}
    dataset, _ = load_preferences(DataOptions("-", preferences=jsonl(tmp_path / "a.jsonl", [row])), CHAT)
    assert dataset.to_list() == [{**row, "rejected": [{"role": "assistant", "content": "c"}]}]


def test_another_source_for_evaluation_and_another_column(tmp_path):
    train = jsonl(tmp_path / "a.jsonl", [{"q": "a", "chosen": "b", "rejected": "c"}])
    held_out = jsonl(tmp_path / "b.jsonl", [{"q": "held out"}])
    options = DataOptions(train, eval_prompts=held_out, preferences=train, prompt_column="q")
    loaded = load_eval_prompts(options, PLAIN)
    assert loaded is not None
    assert loaded.dataset["prompt"] == ["held out"]
    assert load_preferences(options, PLAIN).dataset["prompt"] == ["a"]


def test_files_have_no_splits(tmp_path):
    """Before, a split of files was not read: an evaluation was on the prompts that were trained on."""
    train = jsonl(tmp_path / "a.jsonl", [{"prompt": "a"}])
    with pytest.raises(ValueError, match=r"split = 'validation': .*a\.jsonl is files, which have no splits"):
        load_eval_prompts(DataOptions(train, eval_split="validation"), PLAIN)
    for split in ("test", "train[:10]"):
        with pytest.raises(ValueError, match="is files, which have no splits"):
            load_prompts(DataOptions(train, split=split), PLAIN)
    hub = DataOptions("tldr", split="train[:10]", eval_prompts=train)  # the split is of the other source
    assert load_eval_prompts(hub, PLAIN).dataset["prompt"] == ["a"]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (
            [{"text": "a", "n": 1}],
            {},
            r"row 1 has no column 'prompt'; its columns are text, n: rename one, or set data.pro",
        ),
        ([{"prompt": "a"}, {"prompt": " "}], {}, r"row 2, column 'prompt': the prompt is empty; remove the row"),
        ([{"prompt": "a"}, {"prompt": None}], {}, r"row 2, column 'prompt': the prompt is empty"),
        ([{"prompt": user(" ")}], {}, r"a message of 'user' is empty"),
        ([{"prompt": [*user("a"), {"role": "assistant", "content": "b"}]}], {}, r"the last message is the assistant's"),
        ([{"prompt": "a b c"}], {"max_prompt_tokens": 2}, r"(?s)no row is left; .*longer than 2 tokens: 1 \(100.00%\)"),
        ([{"prompt": user("a")}], {}, r"the tokenizer has no chat template; set data.format=plain"),
        ([{"prompt": "a"}], {"system_prompt": "s"}, r"system_prompt = 's' needs conversations"),
        (
            [{"prompt": [*user("a"), *user("b")]}],
            {"format": "plain"},
            r"row 1 has 2 messages and no usual form as plain",
        ),
        ([], {}, r"no row is left(.|\n)*a.jsonl: 0 of 0 rows"),
        ([{"prompt": "a"}, {"prompt": "b\ud83d"}], {}, r"row 2, column 'prompt': character 2 is half of one"),
        ([{"prompt": user("\udc4d b")}], {}, r"row 1, column 'prompt': character 1 is half of one"),
        ([{"prompt": "a"}], {"limit": 0}, r"limit"),
        ([{"prompt": "a"}], {"max_prompt_tokens": 0}, r"max_prompt_tokens"),
    ],
)
def test_values_are_refused_with_reason_and_remedy(tmp_path, rows, options, message):
    with pytest.raises(ValueError, match=message):
        load_prompts(DataOptions(jsonl(tmp_path / "a.jsonl", rows), **options), PLAIN)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (3, r"3 is a int; a prompt is text or a list of messages"),
        ([{"role": "user", "content": 3}], r"is not a message; write \{'role'"),
        (["a"], r"'a' is not a message"),
    ],
)
def test_types_are_refused(tmp_path, prompt, message):
    path = jsonl(tmp_path / "a.jsonl", [{"prompt": prompt}])
    with pytest.raises(TypeError, match=message):
        load_prompts(DataOptions(path), CHAT)
    pair = jsonl(tmp_path / "b.jsonl", [{"prompt": "a", "chosen": 1, "rejected": "b"}])
    with pytest.raises(TypeError, match=r"is a int; a response is text or one message"):
        load_preferences(DataOptions("-", preferences=pair), PLAIN)


def test_text_and_conversations_do_not_mix_unless_a_format_is_named(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"prompt": "a"}, {"prompt": user("b")}])
    with pytest.raises(TypeError, match=r"row 2: text and conversations are mixed; set data.format"):
        load_prompts(DataOptions(path), CHAT)
    assert load_prompts(DataOptions(path, format="chat"), CHAT).dataset["prompt"] == [user("a"), user("b")]
    assert load_prompts(DataOptions(path, format="plain"), CHAT).dataset["prompt"] == ["a", "b"]


def test_nothing_there(tmp_path):
    for name in ("nonsense", str(tmp_path / "no.jsonl"), "a/b/c"):
        with pytest.raises(FileNotFoundError, match=r"is not a file, folder or pattern, and none of tldr, helpful"):
            load_prompts(DataOptions(name), PLAIN)
    for name in (tmp_path, tmp_path / "*.x*"):
        (tmp_path / "a.xml").write_text("")
        with pytest.raises(ValueError, match=r"must name files of one kind that end in \.jsonl.*; there are"):
            load_prompts(DataOptions(str(name)), PLAIN)
    (tmp_path / "a.parquet").write_text("no parquet")
    with pytest.raises(ValueError, match=r"a.parquet cannot be read, ArrowInvalid"):
        load_prompts(DataOptions(str(tmp_path / "a.parquet")), PLAIN)
    with pytest.raises(ValueError, match=r"data.preferences is not set"):
        load_preferences(DataOptions("tldr"), PLAIN)


def test_the_hub_is_out_of_reach(monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(
        ConnectionError, match=r"owner/name, split train: no such file here, and the hub is out of reach"
    ):
        load_prompts(DataOptions("owner/name"), PLAIN)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prompts=st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=6).map(" ".join), min_size=1, max_size=30),
    bound=st.integers(1, 6),
    limit=st.none() | st.integers(1, 10),
)
def test_every_row_is_accounted_for(tmp_path, monkeypatch, prompts, bound, limit):
    monkeypatch.setattr("dar_ref.llm.data.load.BATCH", 4)
    monkeypatch.setattr(sources, "json_rows", lambda _: iter([{"prompt": p} for p in prompts]))
    path = tmp_path / "a.jsonl"
    path.touch()
    options = DataOptions(str(path), max_prompt_tokens=bound, limit=limit)
    expected = [p for p in dict.fromkeys(prompts) if len(p.split()) <= bound][:limit]
    if not expected:
        with pytest.raises(ValueError, match="no row is left"):
            load_prompts(options, PLAIN)
        return
    dataset, summary = load_prompts(options, PLAIN)
    assert dataset["prompt"] == expected  # the order is kept
    assert summary.rows == summary.kept + summary.too_long + summary.repeated
    assert limit is not None or summary.rows == len(prompts)


def test_what_the_toy_engine_exports(exported):
    summary = load_prompts(DataOptions(str(exported / "prompts/train.jsonl")), PLAIN).summary
    assert summary.kept == summary.rows == 24
    assert not summary.chat
    pairs = load_preferences(DataOptions("-", preferences=str(exported / "preferences.jsonl")), PLAIN)
    assert pairs.dataset.column_names == ["prompt", "chosen", "rejected"]
    assert pairs.summary.kept
