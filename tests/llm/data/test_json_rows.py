"""What stands in a JSON file reaches the reward as it was written, or the run says which row does not."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dar_ref.llm.data.json_rows import as_dataset, json_rows
from dar_ref.llm.data.load import load_prompts
from dar_ref.llm.options import DataOptions
from tests.llm.data.rows import CHAT, PLAIN, jsonl
from tests.llm.data.rows import _no_shared_cache as _no_shared_cache

COLUMNS = {
    "dates": ["2021-03-01", "2021-04-17"],
    "times": ["2021-03-01T10:00:00Z", "10:30"],
    "text that is JSON": ["4", "null", '{"a": 1}', '"x"'],
    "beyond int64": [18446744073709551617, 1],
    "mappings with other keys": [{"num_words": 3}, {"end_phrase": "done"}, {}],
    "keys in another order": [{"a": 1, "b": 2}, {"b": 2, "a": 1}],
    "mixed": [4, "Paris", None, [1, "x"], {"a": None}],
    "numbers of several kinds": [1, 1.0, True, 0.1 + 0.2, 1e300],
    "lists": [[1, 2.5], [], ["a"]],
    "half a character": ["\ud83d", "whole"],
    "whole numbers": [1, 2],
    "texts": ["a", ""],
    "missing": [None, "a"],
}


def same(found, expected):
    """Equal, and of the same types all the way down."""
    return json.dumps(found) == json.dumps(expected)


@pytest.mark.parametrize("values", COLUMNS.values(), ids=COLUMNS)
def test_values_reach_the_reward_as_they_were_written(tmp_path, values):
    rows = [{"prompt": f"Question {i}", "answer": value} for i, value in enumerate(values)]
    dataset = load_prompts(DataOptions(jsonl(tmp_path / "a.jsonl", rows)), PLAIN).dataset
    assert same(list(dataset), rows)
    assert same([dataset[i] for i in range(len(rows))], rows)
    assert same(list(dataset.select([1])), rows[1:2])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.builds(lambda a, b: {"a": a, "b": b}, JSON, JSON), min_size=1, max_size=4))
def test_any_json_survives_a_dataset(rows):
    assert same(list(as_dataset(rows)), rows)


def test_messages_gain_no_fields(tmp_path):
    first, second = {"role": "user", "content": "a", "name": "Ann"}, {"role": "user", "content": "b"}
    rows = [{"prompt": [first]}, {"prompt": [second]}]
    assert list(load_prompts(DataOptions(jsonl(tmp_path / "a.jsonl", rows)), CHAT).dataset) == rows


def test_a_column_of_some_rows_is_none_in_the_others():
    assert list(as_dataset([{"a": 1}, {"a": 2, "b": "x"}])) == [{"a": 1, "b": None}, {"a": 2, "b": "x"}]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize("text", ['[{"a": 1}, {"a": "x"}]', '{"a": 1}\n\n{"a": "x"}\n', '\ufeff{"a": 1}\n{"a": "x"}'])
def test_rows_are_lines_or_one_list(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert list(json_rows(tmp_path / name)) == [{"a": 1}, {"a": "x"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n{"a": 1, "a": 2}', r"a.jsonl, line 2: the key 'a' stands twice"),
        (b'{"a": {"b": 1, "b": 2}}', r"line 1: the key 'b' stands twice"),
        (b'{"a": 1}\n{"a": ', r"a.jsonl, line 2: Expecting value"),
        (b'{"a": 1}\n5', r"a.jsonl, line 2 is a int"),
        (b'[{"a": 1}, 5]', r"a.jsonl, row 2 is a int"),
        (b'{"a": 1e400}', r"line 1: 1e400 is beyond"),
        (b'{"a": 1}\n{"a": "\xff"}', r"a.jsonl, after line .*utf-8"),
        (b"[" * 100_000, r"a.jsonl: "),
    ],
    ids=str,
)
def test_what_is_no_row_is_named_by_file_and_line(tmp_path, content, message):
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list(json_rows(tmp_path / "a.jsonl"))


def test_a_packed_file_that_was_cut_off_is_named(tmp_path):
    jsonl(tmp_path / "a.jsonl.gz", [{"a": i} for i in range(1000)])
    file = tmp_path / "a.jsonl.gz"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"a.jsonl.gz, after line \d+"):
        list(json_rows(file))


def test_a_dataset_is_made_in_one_pass_for_each_column():
    """Each value is asked for once: 100,000 rows of a column took minutes when a column was made anew for each row."""

    class Counted(dict):
        asked = 0

        def get(self, name):
            Counted.asked += 1
            return super().get(name)

    rows = [Counted(prompt=str(i), n=i) for i in range(200)]
    assert as_dataset(rows)[199] == {"prompt": "199", "n": 199}
    assert Counted.asked == 400
