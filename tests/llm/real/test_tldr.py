"""The task `tldr`: which docstrings are used, what the two halves of the words measure, and copying."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dar_ref.llm.real import prompts, tldr
from dar_ref.llm.real.text import words

BODY = (
    "The values are compared pairwise and moved until every value stands before the larger ones. Equal values keep"
    " their order, so a second pass by another key leaves groups together. The input is changed."
)
FILE = f'''
def usable():
    """Sort numbers in ascending order quickly.

    {BODY}

    Parameters
    ----------
    x : array
        Not part of the description.
    """

def long_first_line():
    """{"word " * 20}.

    {BODY}
    """

def no_full_stop():
    """Sort numbers in ascending order

    {BODY}
    """

def short_body():
    """Sort numbers in ascending order.

    Fast.
    """

def with_markup():
    """Sort `numbers` in ascending order.

    {BODY}
    """

class Usable:
    """Keeps the largest numbers of a stream.

    {BODY.replace("values", "entries")}

    Args:
        x: not part of it.
    """
'''


@pytest.fixture(scope="module")
def posts():
    return tldr.posts()


def test_which_docstrings_of_a_file_are_used_and_where_their_description_ends(tmp_path):
    (tmp_path / "module.py").write_text(FILE)
    found = list(tldr.of_file(tmp_path / "module.py", "package/module.py"))
    assert {post.place for post in found} == {"package/module.py:usable", "package/module.py:Usable"}
    by_name = {post.place.rpartition(":")[2]: post for post in found}
    assert by_name["usable"].reference == "Sort numbers in ascending order quickly."
    assert by_name["usable"].text == BODY
    assert by_name["Usable"].text == BODY.replace("values", "entries")


def test_the_posts_of_the_installed_packages(posts):
    assert {post.place.partition("/")[0] for post in posts} == set(tldr.PACKAGES)
    assert max(Counter(post.reference for post in posts).values()) == 1
    assert max(Counter(post.text for post in posts).values()) == 1
    for post in posts:
        assert tldr.POST_WORDS[0] <= len(post.text.split()) <= tldr.POST_WORDS[1]
        assert tldr.recall(post.reference, post.reference, held_out=False) == 1.0
        assert tldr.recall(post.reference, post.reference, held_out=True) == 1.0


def test_the_splits_have_different_files_and_all_rows(posts):
    files = {split: {row["place"].partition(":")[0] for row in tldr.prompts(split)} for split in tldr.SHARES}
    assert sum(map(len, files.values())) == len(set().union(*files.values()))
    assert sum(len(tldr.prompts(split)) for split in tldr.SHARES) == len(posts)
    sizes = Counter(tldr.split_of(post.place) for post in posts)
    assert sizes["train"] > sizes["test"] > sizes["validation"] > 20


SOME_WORDS = st.lists(
    st.sampled_from(["array", "matrix", "value", "sort", "return", "compute", "filter", "index", "token", "graph"]),
    max_size=8,
)


@given(summary=SOME_WORDS, reference=SOME_WORDS, more=SOME_WORDS)
def test_more_words_never_cost_anything_which_is_the_flaw(summary, reference, more):
    for held_out in (False, True):
        before = tldr.recall(" ".join(summary), " ".join(reference), held_out=held_out)
        assert before <= tldr.recall(" ".join(summary + more), " ".join(reference), held_out=held_out) <= 1.0


@given(summary=SOME_WORDS, reference=SOME_WORDS)
def test_the_two_halves_are_all_the_words_of_the_reference(summary, reference):
    """Counted by hand: the words found in both halves together are those that summary and reference share."""
    text, wanted = " ".join(summary), " ".join(reference)
    sizes = {h: sum(tldr.recall(word, word, held_out=h) for word in set(reference)) for h in (False, True)}
    assert sum(sizes.values()) == len(set(reference))
    found = sum(size * tldr.recall(text, wanted, held_out=h) for h, size in sizes.items())
    assert found == pytest.approx(len(set(summary) & set(reference)))


def test_forms_of_a_word_and_words_without_content():
    reference = "Sorts the arrays."
    both = [tldr.recall("An array to sort.", reference, held_out=h) for h in (False, True)]
    assert max(both) == 1.0
    assert [tldr.recall("the of an", reference, held_out=h) for h in (False, True)] == [0.0, 0.0]


@given(summary=st.lists(st.sampled_from("abcd"), max_size=12), post=st.lists(st.sampled_from("abcd"), max_size=12))
def test_copying_counted_by_hand(summary, post):
    grams = [summary[i : i + 4] for i in range(len(summary) - 3)]
    inside = [any(post[j : j + 4] == gram for j in range(len(post) - 3)) for gram in grams]
    assert tldr.copied(" ".join(summary), " ".join(post)) == pytest.approx(sum(inside) / len(grams) if grams else 0.0)


def test_the_reward_reads_the_column_of_its_row():
    rewards = tldr.reward([], [[{"role": "assistant", "content": "sorts"}], "sorts"], ["Sort.", "Filter."])
    half = [tldr.recall("sort", "Sort.", held_out=False), 0.0]
    assert rewards == half


def test_the_prompts_are_written_and_the_same_every_time(tmp_path):
    files = prompts.write_prompts(tmp_path / "a")
    assert [file.relative_to(tmp_path / "a").as_posix() for file in files] == [
        f"{task}/{split}.jsonl"
        for task in ("sentiment", "harmless", "tldr")
        for split in ("train", "validation", "test")
    ]
    for one, other in zip(files, prompts.write_prompts(tmp_path / "b"), strict=True):
        assert one.read_bytes() == other.read_bytes()
    for file in files:
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        assert all(row["prompt"][0]["role"] == "user" and words(row["prompt"][0]["content"]) for row in rows)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert prompts.main([str(tmp_path / "file")]) == 2
    assert "file" in capsys.readouterr().err
