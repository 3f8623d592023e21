"""Chat templates that refuse a conversation, or do not open the answer, are found before any weights are read."""

from types import SimpleNamespace

import pytest
from tokenizers import processors
from trl import GRPOTrainer, RLOOTrainer

from dar_ref.llm.data.load import load_preferences, load_prompts, sample_row
from dar_ref.llm.models.prompts import PromptReader
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


def load(tmp_path, template, prompts, bos_token=None, **options):
    path = jsonl(tmp_path / "a.jsonl", [{"prompt": prompt} for prompt in prompts])
    tokenizer = tiny_tokenizer(template)
    tokenizer.bos_token = bos_token
    return load_prompts(DataOptions(path, **options), tokenizer)


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


ONE_ROLE = (
    TURNS + "{% if add_generation_prompt and messages[0]['role'] != 'system' %}<assistant> {% endif %}"
)  # no generation prompt where there is a system message
LAST_DROPPED = (
    "{% for m in messages[:-1] if m['role'] != 'assistant' %}<{{ m['role'] }}> {{ m['content'] }} {% endfor %}"
    "{% if messages[-1]['role'] == 'assistant' %}<assistant> {{ messages[-1]['content'] }}{% endif %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)
NO_SYSTEM_SAID = OPENED.replace("in messages %}", "in messages if m['role'] != 'system' %}")


@pytest.mark.parametrize(
    ("template", "prompts", "message"),
    [
        (ONE_ROLE, [user("a"), [SYSTEM, *user("b")]], "row 2: .* writes no generation prompt"),
        (LAST_DROPPED, [user("a")], "row 1: .* leaves out message 1 of 1, the user's"),
        (NO_SYSTEM_SAID, [user("a"), [SYSTEM, *user("b")]], "row 2: .* leaves out message 1 of 2, the system's"),
        (
            LAST_DROPPED,
            [[*user("a"), {"role": "assistant", "content": "b"}, *user("c")]],
            "leaves out message 2 of 3, the assistant's",
        ),
        ("{{ bos_token }} {{ bos_token }} " + OPENED, [user("a")], "begins with the BOS token twice; remove it from"),
    ],
)
def test_a_template_that_drops_a_turn_or_doubles_bos_is_refused(tmp_path, template, prompts, message):
    with pytest.raises(ValueError, match=message):
        load(tmp_path, template, prompts, bos_token="<eos>")


def test_a_bos_token_in_plain_text_that_the_tokenizer_adds_again_is_refused(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"prompt": "a"}, {"prompt": "<eos> b"}])
    with pytest.raises(ValueError, match="'<eos> b' begins with the BOS token twice; remove it from the data"):
        load_prompts(DataOptions(path), with_bos())


def test_variables_of_a_template_are_counted_and_misspelt_ones_refused(tmp_path):
    think = OPENED + "{% if add_generation_prompt and not enable_thinking %}no thoughts please {% endif %}"
    path = jsonl(tmp_path / "a.jsonl", [{"prompt": user("a")}])
    lengths = {
        on: load_prompts(DataOptions(path), tiny_tokenizer(think), {"enable_thinking": on}).summary.longest
        for on in (True, False)
    }
    assert lengths[False] == lengths[True] + 3
    sample = sample_row(DataOptions(path), tiny_tokenizer(think), template={"enable_thinking": False})
    assert (sample.text.split()[-1], sample.tokens) == ("please", lengths[False])
    for name in ("enable_thinkng", "messages", "eos_token"):
        with pytest.raises(ValueError, match=f"{name} is not a variable of the chat template .* has enable_thinking"):
            load_prompts(DataOptions(path), tiny_tokenizer(think), {name: False})


@pytest.mark.parametrize("kind", ["plain", "chat", "turns"])
@pytest.mark.parametrize("trainer", [GRPOTrainer, RLOOTrainer])
def test_our_reader_reads_what_trl_would(kind, trainer):
    prompts = {
        "plain": ["a b", "c"],
        "chat": [user("a b"), user("c")],
        "turns": [[SYSTEM, *user("a"), {"role": "assistant", "content": "b c"}, *user("d")]],
    }[kind]
    tokenizer, template = with_bos("{{ bos_token }} " + THINKING + "{{ tone }}"), {"tone": "kind"}
    of_trl = SimpleNamespace(
        processing_class=tokenizer,
        chat_template_kwargs=template,
        chat_template=None,
        tools=None,
        environment_factories=None,
        _is_vlm=False,
    )
    expected, _, rest = trainer._tokenize_prompts(of_trl, prompts)
    read = PromptReader(tokenizer, template)
    assert (read.for_trl(prompts), rest) == ((expected, None, {}), {})
    assert [row[:1] for row in expected] == [[tokenizer.bos_token_id]] * len(prompts)


def with_bos(template=None):
    """A tokenizer that writes BOS before plain text."""
    tokenizer = tiny_tokenizer(template)
    tokenizer.bos_token = "<eos>"
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<eos> $A", special_tokens=[("<eos>", 1)]
    )
    return tokenizer


LLAMA = (  # the beginning of Llama 3.2's
    "{% if not date_string is defined %}{% if strftime_now is defined %}"
    "{% set date_string = strftime_now('%d %b %Y') %}"
    "{% else %}{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}Today is {{ date_string }} " + OPENED
)


def test_a_template_that_writes_the_date_is_said(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"prompt": user("a")}])
    for template, variables, said in (
        (LLAMA, {}, True),
        (LLAMA, {"date_string": "26 Jul 2024"}, False),
        (OPENED, {}, False),
    ):
        summary = load_prompts(DataOptions(path), tiny_tokenizer(template), variables).summary
        assert summary.dated is said
        assert ("writes today's date" in str(summary)) is said
