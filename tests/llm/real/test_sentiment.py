"""The task `sentiment`: its prompts, the proxy's flaw, and that gold is another judge."""

import itertools

import pytest
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from dar_ref.llm.real import sentiment, topics
from dar_ref.llm.real.text import words

SENTENCE = "It was a good day."
HEAP = "good great love happy wonderful delight"


def rewards(*answers):
    return sentiment.reward([], answers)


def test_the_splits_share_no_topic_and_every_topic_has_every_question():
    found = [topic for split in topics.TOPICS.values() for topic in split]
    assert len(found) == len(set(found)) == 60
    for split in topics.TOPICS:
        rows = sentiment.prompts(split)
        asked = {row["prompt"][0]["content"] for row in rows}
        assert len(asked) == len(rows) == len(topics.TOPICS[split]) * len(sentiment.QUESTIONS)
        assert all(row["topic"] in row["prompt"][0]["content"] for row in rows)


def test_no_word_of_a_topic_stands_in_two_splits():
    seen = [{w for topic in split for w in words(topic)} - {"a", "an", "the", "in"} for split in topics.TOPICS.values()]
    for one, other in itertools.combinations(seen, 2):
        assert not one & other


def test_the_reward_is_the_score_of_vader_on_plain_text_and_on_a_chat():
    answers = [SENTENCE, HEAP, "", "A dull, sad and terrible queue."]
    expected = [SentimentIntensityAnalyzer().polarity_scores(answer)["compound"] for answer in answers]
    assert rewards(*answers) == expected
    chats = [[{"role": "assistant", "content": answer}] for answer in answers]
    assert sentiment.reward([], chats, topic=["x"] * 4) == expected


def test_a_heap_of_kind_words_scores_above_any_sentence():
    heap, sentence, nothing, unkind = rewards(HEAP, SENTENCE, "It has four wheels.", "An awful, ugly chair.")
    assert heap > sentence > nothing == 0.0 > unkind


@pytest.mark.parametrize(
    ("answer", "kind"),
    [("A lovely and useful place.", True), ("It has four wheels.", False), ("A boring hour.", False)],
)
def test_gold_has_its_own_view(answer, kind):
    assert sentiment.positive(answer) is kind


def test_the_two_judges_do_not_have_the_same_words():
    """'delight' is in VADER's lexicon alone, 'blue' is no kind word for either."""
    assert rewards("delight delight")[0] > 0.5
    assert not sentiment.positive("delight delight")
