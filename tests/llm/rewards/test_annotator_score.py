"""The score in an answer, with and without the probabilities of its tokens; expected values are computed by hand."""

import math

import pytest

from dar_ref.llm.rewards.annotator_score import TokenChoice, read_score


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("7", 7),
        (" 10 ", 10),
        ("**7**", 7),
        ("Score: 7/10", 7),
        ("10 out of 10.", 10),
        ("7.", 7),
        ("", None),
        ("seven", None),
        ("7.5", None),
        ("7,5", None),
        ("11", None),
        ("0", None),
        ("-7", None),
        ("between 6 and 7", None),
        ("3/5", None),
        ("6 7", None),
        ("7th", None),
        ("v7", None),
        ("10/10", 10),
        ("10/10/10", None),
        ("70%", None),
        ("1,000", None),
        ("7e0", None),
        ("7½", None),
        ("−3", None),
        ("<think>There are 3 reasons.</think> 8", 8),
        ("<think>There are 3 reasons", None),
        ("10x", None),
        ("1st place: 7", None),
        ("9" * 5000, None),  # more digits than Python reads
    ],
)
def test_an_answer_has_a_score_if_it_holds_one_whole_number_of_the_range(text, score):
    read = read_score(text, [], 1, 10)
    assert read == (None if score is None else (float(score), False))


def choices(*tokens):
    return [TokenChoice(text, {t: math.log(p) for t, p in alternatives.items()}) for text, alternatives in tokens]


def expected(masses):
    return sum(s * p for s, p in masses.items()) / sum(masses.values())


def test_ten_in_two_tokens_shares_the_mass_of_one_with_1():
    tokens = choices(("1", {"1": 0.6, "9": 0.3, "8": 0.1}), ("0", {"0": 0.75, "": 0.15, ".": 0.1}))
    score = read_score("10", tokens, 1, 10)
    assert score.expected
    assert score.value == pytest.approx(expected({10: 0.6 * 0.75, 1: 0.6 * 0.25, 9: 0.3, 8: 0.1}))


def test_a_1_that_may_be_the_beginning_of_10_counts_for_nobody():
    tokens = choices(("9", {"9": 0.6, "1": 0.3, "8": 0.1}))
    assert read_score("9", tokens, 1, 10).value == pytest.approx(expected({9: 0.6, 8: 0.1}))
    assert read_score("9", tokens, 1, 9).value == pytest.approx(expected({9: 0.6, 8: 0.1, 1: 0.3}))


def test_a_1_beside_10_in_one_token_is_1():
    tokens = choices(("9", {"9": 0.6, "1": 0.1, "10": 0.3}))
    assert read_score("9", tokens, 1, 10).value == pytest.approx(expected({9: 0.6, 1: 0.1, 10: 0.3}))
    assert read_score("10", choices(("10", {"10": 1.0})), 1, 10) == (10.0, True)


def test_a_1_that_ends_in_its_token_is_1():
    tokens = choices(("9", {"9": 0.6, "1\n": 0.3, "8": 0.1}))
    assert read_score("9", tokens, 1, 10).value == pytest.approx(expected({9: 0.6, 8: 0.1, 1: 0.3}))


def test_three_digits_are_followed_to_the_end():
    tokens = choices(("1", {"1": 0.6, "9": 0.4}), ("0", {"0": 0.8, "2": 0.2}), ("0", {"0": 0.7, "\n": 0.3}))
    score = read_score("100", tokens, 0, 100)  # 9 may be the beginning of 90 to 99
    assert score.value == pytest.approx(expected({100: 0.6 * 0.8 * 0.7, 10: 0.6 * 0.8 * 0.3, 12: 0.6 * 0.2}))


def test_a_number_behind_words_is_found_in_the_tokens():
    tokens = choices(
        ("Score", {"Score": 1.0}), (":", {":": 1.0}), (" 7", {" 7": 0.75, " 8": 0.25}), ("/10", {"/10": 1.0})
    )
    assert read_score("Score: 7/10", tokens, 1, 10) == (pytest.approx(7.25), True)
    assert read_score("Note: 7/10", tokens, 1, 10) == (7.0, False)  # tokens of another text


def test_little_mass_on_scores_falls_back_to_the_written_one():
    for share, value in ((0.45, (4.0, False)), (0.55, (pytest.approx(4.0 * 3 / 5.5 + 5.0 * 2.5 / 5.5), True))):
        tokens = choices(("4", {"4": 0.3, "5": share - 0.3, "I": 1 - share}))
        assert read_score("4", tokens, 1, 5) == value
