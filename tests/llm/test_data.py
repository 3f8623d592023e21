"""Prompts and preferences: the paper's four datasets from files written as the hub has them, one's own from JSONL and
parquet; what is dropped is counted, and every row is accounted for."""

import gzip
import json
from dataclasses import replace

import pytest
from datasets import Dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from dar_ref.llm import sources
from dar_ref.llm.data import DATASETS, load_eval_prompts, load_preferences, load_prompts, render, sample_row
from dar_ref.llm.options import DataOptions
from dar_ref.llm.paper_data import helpsteer2_messages, split_transcript, transcript

TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} | {% endfor %}"
    "{% if add_generation_prompt %}assistant :{% endif %}"
)


def tiny_tokenizer(template):
    """Every word and every sign is one token."""
    inner = Tokenizer(models.WordLevel({"<unk>": 0, "<eos>": 1}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", eos_token="<eos>")
    tokenizer.chat_template = template
    return tokenizer


PLAIN, CHAT = tiny_tokenizer(None), tiny_tokenizer(TEMPLATE)


@pytest.fixture(autouse=True)
def _no_shared_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def jsonl(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


def user(content):
    return [{"role": "user", "content": content}]


# --- the paper's datasets, as they lie on the hub ---------------------------------------------------------------------

POST = "SUBREDDIT: r/x\n\nTITLE: t\n\nPOST: p\n\nTL;DR:"
HH = [
    {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello", "rejected": "\n\nHuman: Hi\n\nAssistant: No"},
    {
        "chosen": "\n\nHuman: A\n\nAssistant: B\n\nHuman: C\n\nAssistant: D",
        "rejected": "\n\nHuman: A\n\nAssistant: B\n\nHuman: C\n\nAssistant: E",
    },
    {"chosen": "\n\nHuman: A\n\nAssistant: B", "rejected": "\n\nHuman: Other\n\nAssistant: C"},
    {"chosen": "\n\nHuman: Same\n\nAssistant: B", "rejected": "\n\nHuman: Same\n\nAssistant: B"},
    {"chosen": "\n\nHuman: A\n\nHuman: B\n\nAssistant: C", "rejected": "\n\nHuman: A\n\nAssistant: C"},
    {"chosen": "\n\nHuman: A", "rejected": "\n\nHuman: A\n\nAssistant: C"},
    {"chosen": "\n\nHuman: \n\nAssistant: C", "rejected": "\n\nHuman: \n\nAssistant: D"},
    {"chosen": "Human: A\n\nAssistant: C", "rejected": "Human: A\n\nAssistant: D"},
]
TURNS = "Hi\n<extra_id_1>Assistant\nHello\n<extra_id_1>User\nWho?"
SCORES = {"helpfulness": 3, "correctness": 4, "coherence": 4, "complexity": 2, "verbosity": 1}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub of files, read by `load_dataset` itself: only the name of a repository becomes a folder."""
    root = tmp_path / "hub"
    for split in ("train", "validation", "test"):
        rows = [{"prompt": POST, "completion": " short"}, {"prompt": f"{POST} {split}", "completion": " s"}]
        (root / "trl-lib/tldr/data").mkdir(parents=True, exist_ok=True)
        Dataset.from_list(rows).to_parquet(root / f"trl-lib/tldr/data/{split}-00000-of-00001.parquet")
    for split in ("train", "validation"):
        row = {"prompt": POST, "chosen": f" {split}", "rejected": " r"}
        (root / "trl-lib/tldr-preference/data").mkdir(parents=True, exist_ok=True)
        Dataset.from_list([row]).to_parquet(root / f"trl-lib/tldr-preference/data/{split}-00000-of-00001.parquet")
        rows = [{"prompt": p, "response": r, **SCORES} for p in ("c#", TURNS, f"{split}?") for r in ("one", "two")]
        jsonl(root / f"nvidia/HelpSteer2/{split}.jsonl.gz", rows)
    pair = {"prompt": "c#", "response_1": "one", "response_2": "two", "preference_statement": "s"}
    strengths = [("train", 2), ("train", -1), ("train", 0), ("validation", 1), ("val", -3)]
    rows = [{**pair, "split": split, "preference_strength": strength} for split, strength in strengths]
    jsonl(root / "nvidia/HelpSteer2/preference/preference.jsonl.gz", rows)
    for folder in ("helpful-base", "harmless-base"):
        jsonl(root / f"Anthropic/hh-rlhf/{folder}/train.jsonl.gz", HH)
        last = {side: HH[0][side].replace("Hi", folder) for side in HH[0]}
        jsonl(root / f"Anthropic/hh-rlhf/{folder}/test.jsonl.gz", [last])
    original = sources.load_dataset

    def load(path, **options):
        return original(str(root / path) if "/" in path else path, **options)

    monkeypatch.setattr(sources, "load_dataset", load)


@pytest.mark.usefixtures("hub")
class TestPaper:
    def test_tldr_keeps_the_summary_as_reference(self):
        dataset, report = load_prompts(DataOptions("tldr"), PLAIN)
        assert dataset[:] == {"prompt": [POST, f"{POST} train"], "reference": [" short", " s"]}
        assert (report.rows, report.kept, report.chat) == (2, 2, False)

    def test_tldr_as_chat(self):
        dataset, _ = load_prompts(DataOptions("tldr", format="chat", split="test", limit=1), CHAT)
        assert dataset["prompt"] == [user(POST)]

    def test_tldr_pairs(self):
        dataset, _ = load_preferences(DataOptions("tldr", preferences="tldr", split="validation"), PLAIN)
        assert dataset[:] == {"prompt": [POST], "chosen": [" validation"], "rejected": [" r"]}

    @pytest.mark.parametrize("name", ["helpful", "harmless"])
    def test_hh_prompts_are_conversations(self, name):
        dataset, report = load_prompts(DataOptions(name), CHAT)
        turns = [*user("A"), {"role": "assistant", "content": "B"}, *user("C")]
        assert dataset["prompt"] == [user("Hi"), turns, user("A"), user("Same")]
        assert dataset["reference"] == ["Hello", "D", "B", "B"]
        assert report.left_out == {
            "its turns do not alternate": 1,
            "it does not end with an answer": 1,
            "a turn before the last is empty": 1,
            "it does not begin with a question": 1,
        }
        assert "left out, its turns do not alternate: 1 (12.50%)" in str(report)

    @pytest.mark.parametrize("name", ["helpful", "harmless"])
    def test_hh_reads_its_own_folder(self, name):
        assert load_prompts(DataOptions(name, split="test"), CHAT).dataset["prompt"] == [user(f"{name}-base")]

    def test_hh_plain_is_the_transcript(self):
        dataset, _ = load_prompts(DataOptions("helpful", format="plain"), PLAIN)
        assert [p + " " + r for p, r in zip(dataset["prompt"], dataset["reference"], strict=True)] == [
            row["chosen"] for row in HH[:4]
        ]

    def test_hh_pairs(self):
        dataset, report = load_preferences(DataOptions("helpful", preferences="helpful"), CHAT)
        assert [row[0]["content"] for row in dataset["chosen"]] == ["Hello", "D"]
        assert [row[0]["content"] for row in dataset["rejected"]] == ["No", "E"]
        assert report.left_out["the two answers belong to different conversations"] == 1
        assert report.left_out["both responses are equal"] == 1

    def test_hh_plain_pairs_continue_the_transcript(self):
        dataset, _ = load_preferences(DataOptions("helpful", preferences="helpful", format="plain"), PLAIN)
        assert [p + r for p, r in zip(dataset["prompt"], dataset["rejected"], strict=True)] == [
            row["rejected"] for row in HH[:2]
        ]

    def test_helpsteer2_prompts_stand_once(self):
        dataset, report = load_prompts(DataOptions("helpsteer2", split="validation"), CHAT)
        assert dataset.column_names == ["prompt"]
        assert [row[-1]["content"] for row in dataset["prompt"]] == ["c#", "Who?", "validation?"]
        assert (report.rows, report.kept, report.repeated) == (6, 3, 3)

    def test_helpsteer2_of_several_turns_is_no_plain_text(self):
        with pytest.raises(ValueError, match=r"3 messages and no usual form as plain text; set data.format=chat"):
            load_prompts(DataOptions("helpsteer2", format="plain"), PLAIN)

    @pytest.mark.parametrize(("split", "chosen"), [("train", ["two", "one"]), ("validation", ["two", "one"])])
    def test_helpsteer2_pairs_follow_the_sign(self, split, chosen):
        dataset, report = load_preferences(DataOptions("helpsteer2", preferences="helpsteer2", split=split), CHAT)
        assert [row[0]["content"] for row in dataset["chosen"]] == chosen
        assert report.left_out == ({"annotators prefer neither response": 1} if split == "train" else {})

    def test_a_split_that_is_not_there(self):
        with pytest.raises(ValueError, match=r"split = 'dev': Anthropic/hh-rlhf has train, test; choose one"):
            load_prompts(DataOptions("helpful", split="dev"), CHAT)

    def test_a_part_of_a_split(self):
        assert load_prompts(DataOptions("helpful", split="train[:1]"), CHAT).report.rows == 1
        with pytest.raises(ValueError, match=r"set data.limit to take a part"):
            load_preferences(DataOptions("helpful", preferences="helpsteer2", split="train[:1]"), CHAT)

    def test_a_prompt_column_has_no_meaning(self):
        with pytest.raises(ValueError, match=r"prompt_column = 'post' is for data of one's own"):
            load_prompts(DataOptions("tldr", prompt_column="post"), PLAIN)

    def test_evaluation_has_a_split_of_its_own(self):
        options = DataOptions("tldr", eval_split="validation")
        loaded = load_eval_prompts(options, PLAIN)
        assert loaded is not None
        assert loaded.dataset["prompt"][1].endswith("validation")
        assert load_eval_prompts(replace(options, eval_split=None), PLAIN) is None
        with pytest.raises(ValueError, match=r"eval_split = 'train' is the split that is trained on"):
            load_eval_prompts(replace(options, eval_split="train"), PLAIN)

    @pytest.mark.parametrize("name", DATASETS)
    def test_sample_row(self, name):
        sample = sample_row(DataOptions(name), CHAT)
        assert sample.columns == (
            *DATASETS[name].prompts.columns,
            *([] if name != "helpsteer2" else ["response", *SCORES]),
        )
        assert sample.tokens == len(CHAT(sample.text)["input_ids"])
        pair = sample_row(
            DataOptions(name, preferences=name, split="validation" if name == "tldr" else "train"), CHAT, True
        )
        assert set(pair.row) == {"prompt", "chosen", "rejected"}

    def test_sample_row_reads_a_stream(self, monkeypatch):
        streams = []
        load = sources.load_dataset
        monkeypatch.setattr(
            sources, "load_dataset", lambda path, **o: streams.append(o["streaming"]) or load(path, **o)
        )
        sample_row(DataOptions("tldr", split="train[:1]"), PLAIN)
        load_prompts(DataOptions("tldr"), PLAIN)
        assert streams == [True, False]


def test_every_dataset_says_what_was_chosen():
    assert list(DATASETS) == ["tldr", "helpful", "harmless", "helpsteer2"]
    for hub in (hub for dataset in DATASETS.values() for hub in dataset):
        assert hub.remark.startswith("paper silent: ")
        assert hub.licence


WORDS = st.text(alphabet="ab :\n", min_size=1).map(str.strip).filter(bool)


@given(st.lists(st.tuples(WORDS, WORDS), max_size=3), WORDS, WORDS)
def test_a_transcript_is_split_where_it_was_joined(pairs, question, answer):
    contents = [*(content for pair in pairs for content in pair), question]
    messages = [{"role": ("user", "assistant")[i % 2], "content": c} for i, c in enumerate(contents)]
    assert split_transcript(f"{transcript(messages)} {answer}") == (messages, answer)


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("a\n<extra_id_1>User\nb", "its turns do not alternate"),
        ("a\n<extra_id_1>Assistant\nb", "it does not end with a question"),
        ("a\n<extra_id_1>Assistant\n \n<extra_id_1>User\nb", "a turn is empty"),
        ("  ", "a turn is empty"),
    ],
)
def test_helpsteer2_prompts_without_a_question(prompt, reason):
    assert helpsteer2_messages(prompt) == reason


# --- one's own data ---------------------------------------------------------------------------------------------------

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
    assert loaded.report.clashes == ()
    assert sample_row(DataOptions(str(name)), PLAIN).row == ROWS[0]


def test_the_names_that_trl_takes_for_its_own_are_left_out(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"q": "a", "prompt": "b", "completions": 1, "chosen": "c", "other": 2}])
    dataset, report = load_prompts(DataOptions(path, prompt_column="q"), PLAIN)
    assert dataset.to_list() == [{"prompt": "a", "other": 2}]
    assert report.clashes == ("prompt", "completions", "chosen")
    assert "prompt, completions, chosen" in str(report)


def test_messages_lose_their_empty_fields(tmp_path):
    rows = [{"prompt": [{"role": "user", "content": "a", "name": None}]}, {"prompt": user("b")}]
    dataset, _ = load_prompts(DataOptions(jsonl(tmp_path / "a.jsonl", rows)), CHAT)
    assert dataset["prompt"] == [user("a"), user("b")]


def test_system_prompt_comes_first_except_where_one_is(tmp_path):
    own = [{"role": "system", "content": "own"}, *user("b")]
    path = jsonl(tmp_path / "a.jsonl", [{"prompt": user("a")}, {"prompt": own}])
    dataset, report = load_prompts(DataOptions(path, system_prompt="be brief"), CHAT)
    assert dataset["prompt"] == [[{"role": "system", "content": "be brief"}, *user("a")], own]
    assert report.own_system == 1
    assert "instead of system_prompt: 1 (50.00%)" in str(report)
    assert render(CHAT, dataset["prompt"][:1]) == ["system : be brief | user : a | assistant :"]
    assert load_prompts(DataOptions(path), CHAT).report.own_system == 0


def test_a_conversation_of_one_message_has_a_plain_form(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"prompt": user("a b")}])
    assert load_prompts(DataOptions(path, format="plain"), CHAT).dataset["prompt"] == ["a b"]


def test_tokens_are_counted_after_the_template(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"prompt": "a b c"}, {"prompt": "a"}])
    _, report = load_prompts(DataOptions(path, format="chat"), CHAT)
    assert report.longest == 8  # user : a b c | assistant :
    dataset, report = load_prompts(DataOptions(path, format="chat", max_prompt_tokens=7), CHAT)
    assert dataset["prompt"] == [user("a")]
    assert (report.too_long, report.longest, report.example) == (1, 8, "user : a b c | assistant :")
    assert "longer than 7 tokens: 1 (50.00%); the longest has 8 and begins 'user : a b c" in str(report)


def test_special_tokens_of_plain_prompts_count(tmp_path):
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(PLAIN.backend_tokenizer.to_str()), unk_token="<unk>", bos_token="<eos>"
    )
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<eos> $A", special_tokens=[("<eos>", 1)]
    )
    path = jsonl(tmp_path / "a.jsonl", [{"prompt": "a b"}])
    assert load_prompts(DataOptions(path), tokenizer).report.longest == 3


def test_pairs_too_long_are_dropped_not_cut(tmp_path):
    rows = [{"prompt": "a b", "chosen": "c", "rejected": "d e f g"}, {"prompt": "a", "chosen": "c", "rejected": ""}]
    options = DataOptions("-", preferences=jsonl(tmp_path / "a.jsonl", rows))
    dataset, report = load_preferences(options, PLAIN, max_length=4)
    assert dataset.to_list() == rows[1:]
    assert (report.pairs_too_long, report.longest_pair) == (1, 6)  # a bd e f g <eos>
    assert load_preferences(options, PLAIN, max_length=6).report.pairs_too_long == 0
    assert load_preferences(options, PLAIN).report.kept == 2
    chat = load_preferences(replace(options, format="chat"), CHAT, max_length=11)
    assert (chat.report.longest_pair, chat.report.kept) == (12, 1)  # user : a b | assistant : d e f g |


def test_pairs_may_repeat_prompts_may_not(tmp_path):
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c"}] * 2 + [{"prompt": "a", "chosen": "c", "rejected": "b"}]
    options = DataOptions(jsonl(tmp_path / "a.jsonl", rows), preferences=str(tmp_path / "a.jsonl"))
    assert load_preferences(options, PLAIN).dataset.to_list() == rows
    dataset, report = load_prompts(options, PLAIN)
    assert (dataset.to_list(), report.repeated) == ([{"prompt": "a"}], 2)


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
        ([], {}, r"a.jsonl cannot be read"),
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
        ([{"role": "user", "content": 3}], r"is no message; write \{'role'"),
        (["a"], r"'a' is no message"),
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
        with pytest.raises(FileNotFoundError, match=r"is no file, folder or pattern, and none of tldr, helpful"):
            load_prompts(DataOptions(name), PLAIN)
    for name in (tmp_path, tmp_path / "*.x*"):
        (tmp_path / "a.xml").write_text("")
        with pytest.raises(ValueError, match=r"must stand for files that end in \.jsonl.*; there are"):
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
    monkeypatch.setattr("dar_ref.llm.data.BATCH", 4)
    monkeypatch.setattr(sources, "load_dataset", lambda *_, **__: iter([{"prompt": p} for p in prompts]))
    path = tmp_path / "a.jsonl"
    path.touch()
    options = DataOptions(str(path), max_prompt_tokens=bound, limit=limit)
    expected = [p for p in dict.fromkeys(prompts) if len(p.split()) <= bound][:limit]
    if not expected:
        with pytest.raises(ValueError, match="no row is left"):
            load_prompts(options, PLAIN)
        return
    dataset, report = load_prompts(options, PLAIN)
    assert dataset["prompt"] == expected  # the order is kept
    assert report.rows == report.kept + report.too_long + report.repeated
    assert limit is not None or report.rows == len(prompts)


def test_what_the_toy_engine_exports(exported):
    report = load_prompts(DataOptions(str(exported / "prompts/train.jsonl")), PLAIN).report
    assert report.kept == report.rows == 24
    assert not report.chat
    pairs = load_preferences(DataOptions("-", preferences=str(exported / "preferences.jsonl")), PLAIN)
    assert pairs.dataset.column_names == ["prompt", "chosen", "rejected"]
    assert pairs.report.kept
