"""`dar-ref evaluate generate`: which policies it takes, what it reads of them, and that it goes on where it was."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Qwen2Config

from dar_ref.llm.evaluate import generate, sampling, store
from dar_ref.llm.models.prompts import PromptReader
from dar_ref.llm.models.tokenizers import load_tokenizer
from tests import file_faults
from tests.llm.evaluate.setting import evaluate, moved, rows, run_file
from tests.llm.models.small_lm import HEADS, SIZES, save_small_lm

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def completions(out, name):
    return rows(out / "completions" / f"{name}.jsonl")


def kept_rows(folder, name):
    """Name, id and sample of the rows that are on disk, in a finished file or not."""
    for file in folder.glob(f"{name}.partial.jsonl"):
        for line in file.read_text(encoding="utf-8").splitlines():
            yield from ((name, row["id"], row["sample"]) for row in json.loads(json.loads(line)[1])[1])
    if (folder / f"{name}.json").exists():
        yield from ((name, row["id"], row["sample"]) for row in rows(folder / f"{name}.jsonl"))


@pytest.fixture
def sampled(monkeypatch):
    """Counts the answers that are sampled."""
    asked, real = [], sampling.sample

    def counted(policy, prompts, seeds, **options):
        asked.extend(seeds)
        return real(policy, prompts, seeds, **options)

    monkeypatch.setattr(sampling, "sample", counted)
    return asked


def test_rows_hold_prompt_answer_tokens_and_whether_it_ended(generated, exported):
    tokenizer = load_tokenizer(str(exported / "policy"))
    prompts = [row["prompt"] for row in rows(exported / "prompts" / "test.jsonl")]
    for name in ("pi_0", "other"):
        found = completions(generated, name)
        assert [(row["prompt"], row["sample"]) for row in found] == [(prompt, k) for prompt in prompts for k in (0, 1)]
        for row in found:
            assert row["completion"] == tokenizer.decode(row["ids"], skip_special_tokens=True)
            assert row["finished"] == (row["ids"][-1] == tokenizer.eos_token_id)
            assert len(row["ids"]) <= 5
    assert [r["ids"] for r in completions(generated, "pi_0")] != [r["ids"] for r in completions(generated, "other")]


def test_the_same_command_samples_nothing_again_and_a_new_policy_is_added(
    generated, config, other, exported, sampled, tmp_path
):
    out = shutil.copytree(generated, tmp_path / "out")
    before = {file.name: file.read_bytes() for file in (out / "completions").iterdir()}
    words = ["--config", config, "--policy", f"other={other}", "--samples", 2, "--out", out]
    assert evaluate("generate", *words) == 0
    assert sampled == []
    third = moved(exported, tmp_path / "third", seed=1)
    assert evaluate("generate", *words, "--policy", f"third={third}") == 0
    assert len(sampled) == len(completions(out, "third"))
    assert {name: (out / "completions" / name).read_bytes() for name in before} == before


@pytest.mark.parametrize("batch_size", [1, 5, 16])
def test_the_size_of_a_batch_changes_nothing(generated, config, other, tmp_path, batch_size):
    words = ["--config", config, "--policy", f"other={other}", "--samples", 2, "--out", tmp_path]
    assert evaluate("generate", *words, "--batch-size", batch_size) == 0
    for name in ("pi_0", "other"):
        assert completions(tmp_path, name) == completions(generated, name)


def test_a_run_that_is_killed_goes_on_without_sampling_twice(generated, config, other, sampled, tmp_path):
    words = ["--config", config, "--policy", f"other={other}", "--samples", 2, "--batch-size", 5]
    for at in (4, 7, 10, 13):
        out = tmp_path / str(at)
        with file_faults.stopped_at(at) as happened:
            evaluate("generate", *words, "--out", out)
        assert happened
        kept = {key for name in ("pi_0", "other") for key in kept_rows(out / "completions", name)}
        sampled.clear()
        assert evaluate("generate", *words, "--out", out) == 0
        assert len(sampled) == 2 * len(completions(generated, "pi_0")) - len(kept)
        for name in ("pi_0", "other"):
            assert completions(out, name) == completions(generated, name)


def test_an_adapter_is_sampled_on_its_base(config, exported, tmp_path):
    base = AutoModelForCausalLM.from_pretrained(exported / "policy")
    adapted = get_peft_model(base, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    merged = adapted.merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    load_tokenizer(str(exported / "policy")).save_pretrained(tmp_path / "merged")
    for folder in ("adapter", "merged"):  # under one name, so with one noise
        words = ["--config", config, "--policy", f"p={tmp_path / folder}", "--out", tmp_path / f"out-{folder}"]
        assert evaluate("generate", *words) == 0
    ours, theirs = ([row["ids"] for row in completions(tmp_path / f"out-{f}", "p")] for f in ("adapter", "merged"))
    assert ours == theirs
    assert ours != [row["ids"] for row in completions(tmp_path / "out-adapter", "pi_0")]


def test_prompts_are_read_as_in_training(tmp_path, monkeypatch):
    """A chat model: what is sampled behind are the tokens of `PromptReader`, template variables included."""
    template = TEMPLATE.replace("<assistant>", "<assistant>{% if not think %}<skip>{% endif %}")
    tokenizer = save_small_lm(tmp_path / "policy", template=template)
    data = [{"prompt": [{"role": "user", "content": text}], "id": text} for text in ("hello", "hi")]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data))
    content = {
        "model": {"name": str(tmp_path / "policy"), "dtype": "float32"},
        "data": {"prompts": str(tmp_path / "prompts.jsonl"), "system_prompt": "Be brief."},
        "reward": {"kind": "function", "name": "m:f"},
        "training": {"use_cpu": True, "bf16": False},
        "generation": {"max_completion_length": 3, "chat_template_kwargs": {"think": False}},
    }
    (tmp_path / "run.yaml").write_text(json.dumps(content))
    seen, real = [], sampling.sample
    monkeypatch.setattr(
        sampling, "sample", lambda policy, prompts, *a, **k: seen.extend(prompts) or real(policy, prompts, *a, **k)
    )
    assert evaluate("generate", "--config", tmp_path / "run.yaml", "--out", tmp_path / "out") == 0
    chats = [[{"role": "system", "content": "Be brief."}, *row["prompt"]] for row in data]
    reader = PromptReader(tokenizer, {"think": False})
    assert sorted(seen) == sorted(prompt.ids for prompt in reader.read(chats))
    assert [row["id"] for row in completions(tmp_path / "out", "pi_0")] == ["hello", "hi"]


@pytest.fixture
def with_answers(exported, tmp_path):
    """A configuration whose prompts have ids, one of them twice, and answers of people, one of them missing."""
    prompts = [row["prompt"] for row in rows(exported / "prompts" / "test.jsonl")][:5]
    data = [{"id": i, "prompt": prompt, "human": "a b" if i else None} for i, prompt in enumerate(prompts)]
    data.append({"id": 1, "prompt": prompts[0], "human": "c"})
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data))
    file = run_file(tmp_path, exported)
    return [file, f"data.prompts={tmp_path / 'prompts.jsonl'}"], prompts


def test_answers_of_a_column_and_of_a_file(with_answers, tmp_path, capsys):
    (file, override), prompts = with_answers
    answers = [
        {"id": "0", "completion": "a"},
        {"prompt": prompts[1], "completion": ""},
        {"id": 1, "completion": "again"},
        {"id": "nobody's", "completion": "b"},
        {"id": 2, "completion": None},
        {"id": 3, "completion": [{"role": "assistant", "content": "c d"}]},
    ]
    (tmp_path / "gpt.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    words = ["--policy", "people=column:human", "--policy", f"gpt={tmp_path / 'gpt.jsonl'}", "--out", tmp_path / "out"]
    assert evaluate("generate", "--config", file, *words, override) == 0
    people, gpt = (completions(tmp_path / "out", name) for name in ("people", "gpt"))
    assert [row["id"] for row in people] == ["1", "2", "3", "4"]
    assert {row["completion"] for row in people} == {"a b"}
    assert [(row["id"], row["completion"]) for row in gpt] == [("0", "a"), ("1", ""), ("3", "c d")]
    assert gpt[2]["ids"][-1] == 0  # EOS: it counts as ended
    shown = capsys.readouterr().out
    for remark in ("prompts: 1 left out, their id stands twice", "people: 1 left out, no answer"):
        assert remark in shown
    for reason in ("answers no prompt", "answers a prompt again", "no answer"):
        assert f"gpt: 1 left out, {reason}" in shown
    (line,) = (line for line in shown.splitlines() if line.startswith("gpt  "))
    assert line.split() == ["gpt", "3", "0", "2", "2.0", "0", "1"]  # answers, there before, missing, tokens, cut, empty


REFUSED = {
    "no folder": (["--policy", "p=nowhere"], "'nowhere' is no folder, no .jsonl file and no column:NAME"),
    "no form": (["--policy", "p"], "'p' is not NAME=SOURCE"),
    "a path as a name": (["--policy", "../p=x"], "'../p=x' is not NAME=SOURCE"),
    "pi_0 again": (["--policy", "pi_0=x"], "the name pi_0 is the configuration's model"),
    "twice": (["--policy", "p=x", "--policy", "p=y"], "the name p stands twice"),
    "no column": (["--policy", "p=column:best"], "no row of the prompts has an answer in the column 'best'"),
    "no sample": (["--samples", "0"], "--samples = 0 is below 1"),
    "no batch": (["--batch-size", "0"], "--batch-size = 0 is below 1"),
    "drawn anew": (["model.random_init=true"], "model.random_init = True draws pi_0 anew"),
    "an unknown option": (["generation.temprature=1"], "generation.temprature is not an option"),
    "too many tokens": (["generation.max_completion_length=100000"], "positions"),
    "no template": (
        ["--questions", "tests/llm/evaluate/questions.jsonl"],
        "has no chat template, and two turns are a chat",
    ),
}


@pytest.mark.parametrize(("words", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(config, tmp_path, capsys, words, message):
    assert evaluate("generate", "--config", config, "--out", tmp_path, *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_other_weights_under_the_same_name_are_refused(generated, config, exported, tmp_path, capsys):
    out = shutil.copytree(generated, tmp_path / "out")
    third = moved(exported, tmp_path / "third", seed=1)
    words = ["--config", config, "--policy", f"other={third}", "--samples", 2, "--out", out]
    assert evaluate("generate", *words) == 2
    assert "other was made from something else: policy = " in capsys.readouterr().err
    assert evaluate("generate", "--config", config, "--samples", 2, "--seed", 1, "--out", out) == 2
    assert "seed = 0 there and 1 here" in capsys.readouterr().err


def test_an_adapter_of_another_model_is_refused(config, tmp_path, capsys):
    save_small_lm(tmp_path / "large", Qwen2Config(vocab_size=258, **{**SIZES, "hidden_size": 32}, **HEADS))
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "large", dtype=torch.float32)
    get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)).save_pretrained(
        tmp_path / "a"
    )
    shutil.copytree(tmp_path / "a", tmp_path / "damaged")
    (tmp_path / "damaged" / "adapter_model.safetensors").unlink()
    for name, message in (("a", "does not fit"), ("damaged", "holds no adapter_model.safetensors")):
        assert (
            evaluate("generate", "--config", config, "--policy", f"p={tmp_path / name}", "--out", tmp_path / "o") == 2
        )
        assert message in capsys.readouterr().err


def test_the_store_of_another_process_is_not_written_to(generated, config, tmp_path, capsys):
    out = shutil.copytree(generated, tmp_path / "out")
    with generate.results.locked(out):
        assert evaluate("generate", "--config", config, "--samples", 2, "--out", out) == 2
    assert "writes to" in capsys.readouterr().err
    assert store.names(out / "completions") == ["other", "pi_0"]
