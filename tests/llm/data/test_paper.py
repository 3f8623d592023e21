"""Prompts and preferences of the paper's four datasets, from files in the format of the hub."""

from dataclasses import replace

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from dar_ref.llm.data import sources
from dar_ref.llm.data.load import DATASETS, load_eval_prompts, load_preferences, load_prompts, sample_row
from dar_ref.llm.data.paper import helpsteer2_messages, split_transcript, transcript
from dar_ref.llm.options import DataOptions
from tests.llm.data.rows import CHAT, PLAIN, jsonl, user
from tests.llm.data.rows import _no_shared_cache as _no_shared_cache

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
    """A hub made of local files. `load_dataset` itself reads them; only repository names are replaced by folders."""
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
        dataset, summary = load_prompts(DataOptions("tldr"), PLAIN)
        assert dataset[:] == {"prompt": [POST, f"{POST} train"], "reference": [" short", " s"]}
        assert (summary.rows, summary.kept, summary.chat) == (2, 2, False)

    def test_tldr_as_chat(self):
        dataset, _ = load_prompts(DataOptions("tldr", format="chat", split="test", limit=1), CHAT)
        assert dataset["prompt"] == [user(POST)]

    def test_tldr_pairs(self):
        dataset, _ = load_preferences(DataOptions("tldr", preferences="tldr", split="validation"), PLAIN)
        assert dataset[:] == {"prompt": [POST], "chosen": [" validation"], "rejected": [" r"]}

    @pytest.mark.parametrize("name", ["helpful", "harmless"])
    def test_hh_prompts_are_conversations(self, name):
        dataset, summary = load_prompts(DataOptions(name), CHAT)
        turns = [*user("A"), {"role": "assistant", "content": "B"}, *user("C")]
        assert dataset["prompt"] == [user("Hi"), turns, user("A"), user("Same")]
        assert dataset["reference"] == ["Hello", "D", "B", "B"]
        assert summary.left_out == {
            "its turns do not alternate": 1,
            "it does not end with an answer": 1,
            "a turn before the last is empty": 1,
            "it does not begin with a question": 1,
        }
        assert "left out, its turns do not alternate: 1 (12.50%)" in str(summary)

    @pytest.mark.parametrize("name", ["helpful", "harmless"])
    def test_hh_reads_its_own_folder(self, name):
        assert load_prompts(DataOptions(name, split="test"), CHAT).dataset["prompt"] == [user(f"{name}-base")]

    def test_hh_plain_is_the_transcript(self):
        dataset, _ = load_prompts(DataOptions("helpful", format="plain"), PLAIN)
        assert [p + " " + r for p, r in zip(dataset["prompt"], dataset["reference"], strict=True)] == [
            row["chosen"] for row in HH[:4]
        ]

    def test_hh_pairs(self):
        dataset, summary = load_preferences(DataOptions("helpful", preferences="helpful"), CHAT)
        assert [row[0]["content"] for row in dataset["chosen"]] == ["Hello", "D"]
        assert [row[0]["content"] for row in dataset["rejected"]] == ["No", "E"]
        assert summary.left_out["the two answers belong to different conversations"] == 1
        assert summary.left_out["both responses are equal"] == 1

    def test_hh_plain_pairs_continue_the_transcript(self):
        dataset, _ = load_preferences(DataOptions("helpful", preferences="helpful", format="plain"), PLAIN)
        assert [p + r for p, r in zip(dataset["prompt"], dataset["rejected"], strict=True)] == [
            row["rejected"] for row in HH[:2]
        ]

    def test_helpsteer2_prompts_stand_once(self):
        dataset, summary = load_prompts(DataOptions("helpsteer2", split="validation"), CHAT)
        assert dataset.column_names == ["prompt"]
        assert [row[-1]["content"] for row in dataset["prompt"]] == ["c#", "Who?", "validation?"]
        assert (summary.rows, summary.kept, summary.repeated) == (6, 3, 3)

    def test_helpsteer2_of_several_turns_is_no_plain_text(self):
        with pytest.raises(ValueError, match=r"3 messages and no usual form as plain text; set data.format=chat"):
            load_prompts(DataOptions("helpsteer2", format="plain"), PLAIN)

    @pytest.mark.parametrize(("split", "chosen"), [("train", ["two", "one"]), ("validation", ["two", "one"])])
    def test_helpsteer2_pairs_follow_the_sign(self, split, chosen):
        dataset, summary = load_preferences(DataOptions("helpsteer2", preferences="helpsteer2", split=split), CHAT)
        assert [row[0]["content"] for row in dataset["chosen"]] == chosen
        assert summary.left_out == ({"annotators prefer neither response": 1} if split == "train" else {})

    def test_a_split_that_is_not_there(self):
        with pytest.raises(ValueError, match=r"split = 'dev': Anthropic/hh-rlhf has train, test; choose one"):
            load_prompts(DataOptions("helpful", split="dev"), CHAT)

    def test_a_part_of_a_split(self):
        assert load_prompts(DataOptions("helpful", split="train[:1]"), CHAT).summary.rows == 1
        with pytest.raises(ValueError, match=r"set data.limit to take a part"):
            load_preferences(DataOptions("helpful", preferences="helpsteer2", split="train[:1]"), CHAT)

    def test_a_prompt_column_has_no_meaning(self):
        with pytest.raises(ValueError, match=r"prompt_column = 'post' is for your own data"):
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
