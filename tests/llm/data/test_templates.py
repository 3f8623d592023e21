"""Chat templates that refuse a conversation, or do not open the answer, are found before any weights are read."""

import pytest

from dar_ref.llm.data.load import load_preferences, load_prompts, sample_row
from dar_ref.llm.options import DataOptions
from tests.llm.data.rows import TEMPLATE, jsonl, tiny_tokenizer, user
from tests.llm.data.rows import _no_shared_cache as _no_shared_cache

TURNS = "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }} <end> {% endfor %}"
CLOSED = TURNS  # an answer begins with <assistant>, and nothing writes it
OPENED = TURNS + "{% if add_generation_prompt %}<assistant> {% endif %}"
INSTRUCT = (
    "{% for m in messages %}{% if m['role'] == 'user' %}[I] {{ m['content'] }} [/I]"
    "{% else %} {{ m['content'] }} <eos>{% endif %}{% endfor %}"
)
THINKING = (
    "{% for m in messages %}<{{ m['role'] }}> {% if m['role'] == 'assistant' %}<think></think> {% endif %}"
    "{{ m['content'] }} <end> {% endfor %}{% if add_generation_prompt %}<assistant> {% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
ALTERNATE = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}"
)
SYSTEM = {"role": "system", "content": "Be brief."}


def load(tmp_path, template, prompts, **options):
    path = jsonl(tmp_path / "a.jsonl", [{"prompt": prompt} for prompt in prompts])
    return load_prompts(DataOptions(path, **options), tiny_tokenizer(template))


def test_a_template_without_a_generation_prompt_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"writes no generation prompt: .* answers begin with '<assistant>'"):
        load(tmp_path, CLOSED, [user("a")])
    path = jsonl(tmp_path / "a.jsonl", [{"prompt": user("a")}])
    with pytest.raises(ValueError, match="writes no generation prompt"):
        sample_row(DataOptions(path), tiny_tokenizer(CLOSED))


@pytest.mark.parametrize("template", [OPENED, INSTRUCT, THINKING, TEMPLATE])
def test_templates_that_open_the_answer_pass(tmp_path, template):
    assert len(load(tmp_path, template, [user("a")]).dataset) == 1


def test_nothing_is_sampled_behind_pairs(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"prompt": user("a"), "chosen": "b", "rejected": "c"}])
    assert len(load_preferences(DataOptions(path, path), tiny_tokenizer(CLOSED)).dataset) == 1


@pytest.mark.parametrize(
    ("template", "prompts", "options", "message"),
    [
        (NO_SYSTEM, [user("a"), [SYSTEM, *user("b")]], {}, "row 2: .* refuses system user: System role not supported"),
        (NO_SYSTEM, [user("a")], {"system_prompt": "s"}, "row 1: .* refuses system user: System role not supported"),
        (ALTERNATE, [user("a"), user("a"), [*user("a"), *user("b")]], {}, "row 3: .* user user: roles must alternate"),
    ],
)
def test_a_template_that_refuses_a_conversation_names_the_row_and_its_words(
    tmp_path, template, prompts, options, message
):
    with pytest.raises(ValueError, match=message) as refused:
        load(tmp_path, template + OPENED, prompts, **options)
    assert "the chat template of model.name = " in str(refused.value)
