"""The language model in one file: padding, ends, sampling, tokenizers, conversations, rewards, and what is refused."""

import copy
import itertools
import json
import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedTokenizerFast, Qwen2Config

from dar_ref.minimal import llm
from tests.minimal import runs
from tests.minimal.runs import batch_of, gpt2, options, ragged, ready, write_prompts

# --- ends and padding -------------------------------------------------------------------------------------------------


@given(
    st.lists(st.lists(st.integers(0, 5), min_size=6, max_size=6), min_size=1), st.sets(st.integers(0, 5), min_size=1)
)
def test_a_completion_ends_with_its_first_eos(rows, eos_ids):
    for row, drawn in zip(rows, llm.up_to_first_eos(torch.tensor(rows), sorted(eos_ids)).tolist(), strict=True):
        length = next((t + 1 for t, token in enumerate(row) if token in eos_ids), len(row))
        assert drawn == [t < length for t in range(len(row))]


ROWS = [
    ((3, 4), (5, 6, 0)),
    ((7,), (0,)),
    ((8, 9, 10, 1, 2), (0, 3)),
    ((0, 0, 4), (4, 4, 4, 4)),
]  # 0 is EOS and padding


@pytest.mark.parametrize("micro_batch", [1, 3, 4])
@pytest.mark.parametrize("pad", [0, 7])
def test_log_probs_are_those_of_each_completion_alone(exported, micro_batch, pad):
    """Absolute positions, so that a position moved by padding would show."""
    model = gpt2().double()
    chosen = options(exported, "--temperature", 0.7, "--micro-batch", micro_batch)
    found = llm.score(model, batch_of(ROWS, pad), chosen)
    for logp, (prompt, completion) in zip(found.tolist(), ROWS, strict=True):
        ids = [*prompt, *completion]
        logits = model(torch.tensor([ids])).logits[0] / 0.7
        places = range(len(prompt) - 1, len(ids) - 1)
        alone = math.fsum((logits[t, ids[t + 1]] - logits[t].logsumexp(0)).item() for t in places)
        assert logp == pytest.approx(alone, abs=1e-9)


def test_sampled_batches_have_prompts_on_the_left_and_stop_at_any_eos(exported):
    chosen = options(exported, "--num-generations", 50, "--max-new-tokens", 6)
    policy, tokenizer = ready(exported, chosen)
    policy.generation_config.eos_token_id = [0, 2]
    prompts = ragged(tokenizer, ["a b c d", "d", "<eos> b"])  # EOS inside a prompt ends nothing
    torch.manual_seed(0)
    batch = llm.sample(policy, prompts)
    completions = batch.completions()
    width = batch.input_ids.shape[1] - batch.completion_mask.shape[1]
    for i, ids in enumerate(completions):
        prompt = prompts[i // 50].ids
        assert batch.input_ids[i, :width][batch.attention_mask[i, :width].bool()].tolist() == prompt
        assert batch.attention_mask[i, width - len(prompt) : width].all()
        assert batch.attention_mask[i, width:].tolist() == batch.completion_mask[i].tolist()
        assert not {0, 2} & set(ids[:-1])
        assert ids[-1] in (0, 2) or len(ids) == 6
    assert {ids[-1] for ids in completions} >= {0, 2}


def test_the_parts_of_a_batch_are_the_batch():
    batch = batch_of(ROWS)
    for size in (1, 3, 4, 9):
        parts = batch.parts(size)
        assert [len(part.input_ids) for part in parts[:-1]] == [size] * (len(parts) - 1)
        for i, tensor in enumerate(batch):
            assert torch.equal(torch.cat([part[i] for part in parts]), tensor)
    assert batch.completions() == [list(completion) for _, completion in ROWS]


# --- the policy that samples is the policy that is scored -------------------------------------------------------------


@pytest.mark.parametrize(("vocabulary", "length", "temperature"), [(6, 2, 1.3), (80, 1, 3.0)])
def test_the_samples_are_those_of_the_scored_distribution(exported, tmp_path, vocabulary, length, temperature):
    """In spite of a folder that asks for something else, and of a default that would keep the 50 best tokens alone. By
    enumeration, at 5 standard errors."""
    model, count = gpt2(vocabulary), 20_000
    chosen = options(exported, "--num-generations", count, "--max-new-tokens", length, "--temperature", temperature)
    settings = {"top_k": 2, "top_p": 0.5, "min_p": 0.2, "repetition_penalty": 3.0, "temperature": 0.1}
    model.generation_config = GenerationConfig(do_sample=True, **settings, eos_token_id=[0, 5], min_new_tokens=2)
    model.save_pretrained(tmp_path)
    model = llm.load_policy(tmp_path).cpu()
    model.generation_config = llm.plain_sampling(model, llm.load_tokenizer(exported / "policy"), chosen)
    torch.manual_seed(0)
    drawn = Counter(map(tuple, llm.sample(model, [llm.Prompt({"prompt": ""}, [3, 1])]).completions()))
    every = itertools.product(range(vocabulary), repeat=length)
    possible = sorted({ids[:1] if ids[0] in (0, 5) else ids for ids in every})
    probabilities = llm.score(model, batch_of([((3, 1), ids) for ids in possible]), chosen).exp().tolist()
    assert math.fsum(probabilities) == pytest.approx(1.0, abs=1e-5)
    for ids, p in zip(possible, probabilities, strict=True):
        assert abs(drawn[ids] / count - p) < 5 * math.sqrt(p * (1 - p) / count) + 1e-9


def test_dropout_is_off_while_the_policy_is_fitted(exported):
    chosen = options(exported)
    model = gpt2(resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5)
    batch, optimizer = batch_of(ROWS), torch.optim.SGD(model.parameters(), lr=0.0)
    expected = -llm.score(model, batch, chosen).mean().item()
    assert [llm.fit(model, optimizer, batch, torch.ones(4), chosen) for _ in range(2)] == pytest.approx([expected] * 2)


def test_a_policy_is_loaded_without_dropout(exported, tmp_path):
    gpt2(resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5).train().save_pretrained(tmp_path)
    model, chosen = llm.load_policy(tmp_path).cpu(), options(exported)
    assert torch.equal(*(llm.score(model, batch_of(ROWS), chosen) for _ in range(2)))
    assert model.dtype == torch.float32


def test_layers_in_bf16_and_sums_in_float32(exported, monkeypatch):
    """What a GPU does, on a CPU: autocast to bf16."""
    chosen = options(exported, "--micro-batch", 3)
    model, batch = gpt2(), batch_of(ROWS)
    exact = llm.score(model, batch, chosen)
    monkeypatch.setattr(llm, "bf16_on_gpu", lambda _model: torch.autocast("cpu", dtype=torch.bfloat16))
    pi_0 = copy.deepcopy(model)
    found = llm.score(model, batch, chosen)
    assert found.dtype == torch.float32
    assert torch.equal(found, llm.score(pi_0, batch, chosen))  # KL is 0 at the start, not about 0
    assert 1e-4 < (found - exact).abs().max() < 0.5  # in another precision, and the same model
    llm.update(
        model, pi_0, torch.optim.Adam(model.parameters(), lr=1e-6), batch, torch.tensor([[0.0, 1.0]] * 2), chosen
    )
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    moved = [(p - q).abs().max().item() for p, q in zip(model.parameters(), pi_0.parameters(), strict=True)]
    assert max(moved) == pytest.approx(1e-6, rel=0.1)  # a step that bf16 weights would lose


def test_a_policy_that_has_diverged_stops_the_run(exported):
    model = gpt2()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(FloatingPointError, match="lower --learning-rate"):
        llm.fit(model, optimizer, batch_of(ROWS), torch.full((4,), math.nan), options(exported))
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


@pytest.mark.parametrize(
    ("of_model", "of_tokenizer", "expected"),
    [(7, 7, [7]), ([7, 3], 7, [3, 7]), (7, 5, [5, 7]), (None, 5, [5]), (7, None, [7])],
)
def test_every_end_that_model_or_tokenizer_name_counts(exported, of_model, of_tokenizer, expected):
    class Named:
        generation_config = GenerationConfig(eos_token_id=of_model)
        eos_token_id = of_tokenizer

    assert llm.plain_sampling(Named, Named, options(exported)).eos_token_id == expected
    Named.generation_config.eos_token_id = Named.eos_token_id = None
    with pytest.raises(ValueError, match="no completion could end"):
        llm.plain_sampling(Named, Named, options(exported))


# --- tokenizers, prompts, conversations -------------------------------------------------------------------------------


def test_a_word_level_tokenizer_beside_a_qwen2_model_stays_one(exported, start):
    tokenizer, words = llm.load_tokenizer(exported / "policy"), start.task.vocabulary
    assert tokenizer("d a  c<eos>b")["input_ids"] == [words.index(w) for w in ("d", "a", "c", "<eos>", "b")]
    assert len(AutoTokenizer.from_pretrained(exported / "policy")) > len(tokenizer) == len(words)


def test_another_splitting_of_bytes_is_kept(tmp_path):
    """Digits together, where Qwen2's tokenizer takes them one by one."""
    texts = ["It's 20 apples, naïve (x_1)", "  two  spaces\n", "1234567 東京"]
    core = Tokenizer(models.BPE())
    steps = [pre_tokenizers.Digits(individual_digits=False), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    core.pre_tokenizer = pre_tokenizers.Sequence(steps)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(texts, trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False, vocab_size=300))
    PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|endoftext|>").save_pretrained(tmp_path)
    Qwen2Config().save_pretrained(tmp_path)
    expected = [core.encode(text, add_special_tokens=False).ids for text in texts]
    found, automatic = (
        [loaded(text, add_special_tokens=False)["input_ids"] for text in texts]
        for loaded in (llm.load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path))
    )
    assert found == expected
    assert automatic != expected


TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}{% if add_generation_prompt %}a{% endif %}"
)


def test_a_conversation_goes_through_the_template_and_a_text_does_not(exported, tmp_path):
    tokenizer = llm.load_tokenizer(exported / "policy")
    messages = [{"role": "b", "content": "c d"}, {"role": "d", "content": "a"}]
    file = write_prompts(tmp_path / "prompts.jsonl", messages, "c d")
    with pytest.raises(ValueError, match=r"line 1: .*no chat template"):
        llm.read_prompts(file, tokenizer)
    tokenizer.chat_template = TEMPLATE
    chat, text = llm.read_prompts(file, tokenizer)
    assert tokenizer.decode(chat.ids) == "b c d d a a"
    assert tokenizer.decode(text.ids) == "c d"

    def answers(prompts, completions, **_):
        assert prompts == [messages, messages, "c d", "c d"]
        assert completions[1:3] == [[{"role": "assistant", "content": "b"}], "c"]
        return range(4)

    a, b, c, d = ([tokenizer.convert_tokens_to_ids(letter), 0] for letter in "abcd")
    assert llm.rewards_of([a, b, c, d], [chat, text], answers, tokenizer).tolist() == [[0, 1], [2, 3]]


def test_a_reward_gets_ids_and_the_other_fields_of_the_file(exported, tmp_path):
    tokenizer = llm.load_tokenizer(exported / "policy")
    rows = [{"prompt": "a", "wanted": 1, "only_here": 5}, {"prompt": "b", "wanted": 2}]
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    seen = {}

    def reward(**columns):
        seen.update(columns)
        return [0.5, 1, True, torch.tensor(2.0)]

    prompts = llm.read_prompts(file, tokenizer)
    rewards = llm.rewards_of([[1, 0], [2], [3, 3], [0]], prompts, reward, tokenizer)
    assert rewards.tolist() == [[0.5, 1.0], [1.0, 2.0]]
    assert seen == {
        "prompts": ["a", "a", "b", "b"],
        "completions": ["a", "b", "c c", ""],
        "completion_ids": [[1, 0], [2], [3, 3], [0]],
        "wanted": [1, 1, 2, 2],
        "only_here": [5, 5, None, None],
    }


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (runs.one_too_few, "gave 3 rewards for 4 completions"),
        (runs.not_a_number, "is nan for the completion 'd'"),
        (runs.missing, "is None for the completion 'd'"),
        (runs.infinite, "is inf for the completion 'd'"),
    ],
)
def test_rewards_that_are_refused(exported, reward, message):
    tokenizer = llm.load_tokenizer(exported / "policy")
    with pytest.raises(ValueError, match=message):
        llm.rewards_of([[1], [2], [3], [4]], ragged(tokenizer, ["a", "b"]), reward, tokenizer)


def test_each_prompt_comes_once_before_any_comes_again():
    prompts = [llm.Prompt({"prompt": str(i)}, [i]) for i in range(5)]
    stream = llm.shuffled(prompts, seed=0)
    rounds = [[next(stream).ids[0] for _ in range(5)] for _ in range(4)]
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in rounds)
    assert len({tuple(order) for order in rounds}) > 1


# --- the command line -------------------------------------------------------------------------------------------------


def command(folder, tmp_path, *flags):
    """Flags of a run on an export; later ones win."""
    fixed = {
        "--model": folder / "policy",
        "--prompts": write_prompts(tmp_path / "prompts.jsonl", "a b c", "d", "b a", "c c d", "d a b", "a"),
        "--reward": "tests.minimal.runs:letters_of_the_prompt",
        "--out": tmp_path / "out",
        "--max-new-tokens": 5,
    }
    return [str(x) for pair in fixed.items() for x in pair] + [str(x) for x in flags]


def test_the_reward_rises_over_seeds(exported, tmp_path, capsys):
    """First and last five of 30 updates. Over 12 seeds the gain was 0.43, with a standard deviation of 0.08. The bound
    for the mean of three lies four of its standard errors below."""
    gains = []
    for seed in range(3):
        flags = ["--updates", 30, "--batch-prompts", 8, "--num-generations", 8, "--learning-rate", 3e-3]
        flags += ["--micro-batch", 64, "--seed", seed, "--out", tmp_path / f"out{seed}"]
        assert llm.main(command(exported, tmp_path, *flags)) == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        rows = [line for line in lines[2:] if line[0].isdecimal()]  # behind the prompts and the names of the figures
        rewards = [float(row[1]) for row in rows]
        assert len(rewards) == 30
        assert float(rows[0][2]) == 0.0  # KL to pi_0 before the first update
        assert float(rows[-1][2]) > 0.1  # pi_0 stays where it was
        gains.append(sum(rewards[-5:]) / 5 - sum(rewards[:5]) / 5)
    assert sum(gains) / 3 > 0.2, gains


def test_what_is_saved_is_the_trained_policy_and_loads(exported, tmp_path, capsys):
    flags = ["--updates", 2, "--updates-per-rollout", 2, "--learning-rate", 1e-2]
    assert llm.main(command(exported, tmp_path, *flags)) == 0
    printed = capsys.readouterr().out
    assert "6 prompts; the first, as the model reads it: 'a b c'; on " in printed
    before, after = (AutoModelForCausalLM.from_pretrained(x) for x in (exported / "policy", tmp_path / "out"))
    moved = max((p - q).abs().max().item() for p, q in zip(before.parameters(), after.parameters(), strict=True))
    assert 2.5e-2 < moved < 5e-2  # four steps of Adam at 1e-2
    for setting in ("do_sample", "max_new_tokens", "top_k", "num_return_sequences", "eos_token_id"):
        assert getattr(after.generation_config, setting) == getattr(before.generation_config, setting)
    assert llm.load_tokenizer(tmp_path / "out")("d a")["input_ids"] == [4, 1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "no/such/folder"], "model = no/such/folder is no folder with a config.json"),
        (["--prompts", "no.jsonl"], "No such file or directory: 'no.jsonl'"),
        (["--num-generations", 1], "one completion is its own mean"),
        (["--num-generations", 0], "num_generations = 0 must be above 0"),
        (["--updates", 0], "updates = 0 must be above 0"),
        (["--beta", "nan"], "beta = nan must be above 0"),
        (["--w-clip", -1], "w_clip = -1.0 must be above 0"),
        (["--temperature", 0], "temperature = 0.0 must be above 0"),
        (["--alpha", 1.5], "alpha = 1.5 must lie between 0 and 1"),
        (["--alpha", "nan"], "alpha = nan must lie between 0 and 1"),
        (["--out", "."], "out = . exists already"),
        (["--reward", "no_such_module:f"], "reward = no_such_module:f: No module named 'no_such_module'"),
        (["--reward", "tests.minimal.runs:nothing"], "has no attribute 'nothing'; pass module:function"),
        (["--reward", "tests.minimal.runs"], "pass module:function"),
        (["--reward", ""], "reward = : Empty module name"),
        (["--max-new-tokens", 7], "can have 10 tokens, and the model reads at most 9; lower --max-new-tokens"),
    ],
)
def test_options_that_are_refused(exported, tmp_path, capsys, flags, message):
    assert llm.main(command(exported, tmp_path, *flags)) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.out == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty; write one JSON object per line"),
        ('{"prompt": "a"}\nnot JSON\n', "line 2: JSONDecodeError"),
        ('{"text": "a"}\n', "line 1: KeyError('prompt')"),
        ('["a"]\n', "line 1: TypeError"),
        ('{"prompt": ""}\n', "the prompt is empty"),
        ('{"prompt": [{"role": "user", "content": "a"}]}\n', "the tokenizer has no chat template"),
    ],
)
def test_prompts_that_are_refused(exported, tmp_path, capsys, content, message):
    flags = command(exported, tmp_path)
    (tmp_path / "prompts.jsonl").write_text(content, encoding="utf-8")
    assert llm.main(flags) == 2
    assert message in capsys.readouterr().err


def test_columns_are_those_of_all_prompts_whatever_comes_first():
    prompts = [llm.Prompt({"prompt": "a"}, [1]), llm.Prompt({"prompt": "b", "reference": "c"}, [1])]
    seen = []
    for order in (prompts, prompts[::-1]):
        llm.rewards_of([[1], [1]], order, lambda reference, **_: seen.append(reference) or [0.0, 1.0], Plain())
    assert seen == [[None, "c"], ["c", None]]


class Plain:
    def batch_decode(self, ids, **_):
        return ["text"] * len(ids)
