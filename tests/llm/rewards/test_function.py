"""A reward is one callable for every method: what a user's function may be and return, and how TRL calls it."""

import sys
import warnings

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import Qwen2ForCausalLM

from dar_ref.llm.models.tokenizers import load_tokenizer
from dar_ref.llm.options import RewardOptions
from dar_ref.llm.rewards.function import check_reward, for_online_dpo, make_reward

EOS = 7
USER = """
import array
import numpy as np
import torch

calls = []
number = 5
def score(prompts, completions, completion_ids, **columns):
    calls.append((prompts, completions, completion_ids, columns))
    return [len(text) for text in completions]
def returns(what):
    return lambda prompts, completions, **columns: what
async def waits(prompts, completions, **columns): return [0.0]
mixed = returns([1, None, True, np.float32(0.5), torch.tensor(2.0)])
array = returns(np.array([0.5, 1.5]))
tensor = returns(torch.tensor([0.5, 1.5]))
short = returns([1.0])
nothing = returns(None)
words = returns("ab")
not_a_number = returns([0.0, float("nan")])
infinite = returns([0.0, float("inf")])
text = returns([0.0, "1"])
nested = returns([0.0, [1.0]])
large = returns([0.0, -1e39])
beyond = returns([0.0, 10**400])
def fails_itself(prompts, completions, **columns):
    return [float("N/A") for _ in completions]
def fails_below(prompts, completions, **columns):
    return helper(columns)
def helper(columns):
    return columns["answer"]
def fails_in_a_library(prompts, completions, **columns):
    return list(np.zeros(2) @ np.zeros(3))
"""


@pytest.fixture
def user(tmp_path, monkeypatch):
    """Writes a module `my_rewards` into the working directory; returns a function that makes rewards from it."""
    (tmp_path / "my_rewards.py").write_text(USER)
    (tmp_path / "broken_rewards.py").write_text("import no_such_package")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("my_rewards", "broken_rewards"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    def make(name, **changed):
        options = RewardOptions(kind="function", name=f"my_rewards:{name}", **changed)
        return make_reward(options, device="cpu", eos_token_ids={EOS})

    return make


def two(reward):
    return reward(["p", "q"], ["a", "bb"], [[1, EOS], [1, 2, EOS]])


def test_a_function_gets_what_trl_passes_and_gives_rewards_in_order(user):
    reward = user("score")
    assert reward.__name__ == "score"
    rewards = reward(prompts=["p", "q"], completions=["a", "bb"], completion_ids=[[1, EOS], [2]], answer=["x", "y"])
    assert rewards == [1.0, 2.0]
    assert all(type(value) is float for value in rewards)
    assert sys.modules["my_rewards"].calls == [(["p", "q"], ["a", "bb"], [[1, EOS], [2]], {"answer": ["x", "y"]})]


@pytest.mark.parametrize("name", ["array", "tensor"])
def test_arrays_and_tensors_are_lists(user, name):
    assert two(user(name)) == [0.5, 1.5]


def test_the_penalty_follows_the_last_id_and_none_stays_none(user):
    ids = [[1, 2], [1, 2], [1, EOS], [EOS, 1], []]
    assert user("mixed", missing_eos_penalty=0.75)(["p"] * 5, ["a"] * 5, ids) == [0.25, None, 1.0, -0.25, 1.25]
    reward = user("mixed")
    assert reward(["p"] * 5, ["a"] * 5, ids) == [1.0, None, 1.0, 0.5, 2.0]
    assert reward.counts == {"completions": 5, "unscored": 1, "missing_eos": 4}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("short", "my_rewards:short returned 1 rewards for 2 completions"),
        ("nothing", "my_rewards:nothing returned a NoneType; return a list of 2 rewards"),
        ("words", "my_rewards:words returned a str; return a list of 2 rewards"),
        ("not_a_number", "reward 1 of not_a_number is nan, for the prompt 'q'"),
        ("infinite", "reward 1 of infinite is inf, for the prompt 'q'"),
        ("text", "returned '1' as reward 1; return a number or None"),
        ("large", "reward 1 of large is -1e\\+39, for the prompt 'q'"),
        ("beyond", "as reward 1; return a number or None"),
        ("nested", r"returned \[1.0\] as reward 1; return a number or None"),
    ],
)
def test_what_is_no_list_of_rewards_is_refused(user, name, message):
    with pytest.raises(ValueError, match=message):
        two(user(name))


@pytest.mark.parametrize(
    ("name", "error", "line"),
    [
        ("fails_itself", "ValueError: could not convert", 'float("N/A")'),
        ("fails_below", "KeyError: 'answer'", 'columns["answer"]'),
        ("fails_in_a_library", "ValueError: matmul", "np.zeros(2) @"),
    ],
)
def test_an_error_inside_a_function_says_where(user, name, error, line):
    number = next(i for i, text in enumerate(USER.splitlines(), start=1) if line in text)
    with pytest.raises(ValueError, match=rf"my_rewards:{name} .*{error}.* \(.*my_rewards.py, line {number}\)"):
        two(user(name))


@pytest.mark.parametrize(("code", "error"), [("x = 1 / 0", "ZeroDivisionError"), ("def f(:", "SyntaxError")])
def test_a_module_that_fails_is_named(user, tmp_path, code, error):  # noqa: ARG001
    (tmp_path / "broken_rewards.py").write_text(code)
    with pytest.raises(ValueError, match=f"broken_rewards:score.*{error}"):
        make_reward(RewardOptions(kind="function", name="broken_rewards:score"), device="cpu", eos_token_ids=[EOS])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_rewards:missing", "no missing in it"),
        ("my_rewards:number", "number is a int"),
        ("my_rewards:waits", "is a coroutine"),
        ("no_such_rewards:score", "No module named 'no_such_rewards'"),
        ("broken_rewards:score", "No module named 'no_such_package'"),
    ],
)
def test_what_is_no_function_is_refused(user, name, message):  # noqa: ARG001
    with pytest.raises(ValueError, match=f"{name}.*{message}"):
        make_reward(RewardOptions(kind="function", name=name), device="cpu", eos_token_ids=[EOS])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"name": "score"}, "does not name a function"),
        ({"missing_eos_penalty": -1.0}, "missing_eos_penalty = -1.0"),
        ({"scores": (3, 3)}, "is not a range"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"timeout": 0.0}, "timeout = 0.0"),
        ({"retries": -1}, "retries = -1"),
        ({"rubric": "file"}, "reward.rubric is for reward.kind = annotator, not function"),
        ({"revision": "main"}, "reward.revision is for reward.kind = model, not function"),
    ],
)
def test_options_that_do_not_fit_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        RewardOptions(**{"kind": "function", "name": "a:b"} | changed)


def test_without_eos_tokens_no_completion_could_end():
    with pytest.raises(ValueError, match="eos_token_ids is empty"):
        make_reward(RewardOptions(kind="function", name="math:sqrt"), device="cpu", eos_token_ids=[])


def test_one_sample_is_judged_and_shown(user):
    reward = user("score", missing_eos_penalty=0.5)
    assert check_reward(reward, "2 + 2 = ", "four", [1], answer="4") == ("2 + 2 = four", 3.5)
    chat = [{"role": "user", "content": "2 + 2 ="}], [{"role": "assistant", "content": "4"}]
    assert check_reward(reward, *chat, [1, EOS]).text == "user: 2 + 2 =\nassistant: 4"
    assert sys.modules["my_rewards"].calls[0][3]["answer"] == ["4"]


def test_online_dpo_padding_is_cut_and_a_missing_score_is_refused(user):
    reward = for_online_dpo(user("score", missing_eos_penalty=0.5), [EOS])
    assert reward.__name__ == "score"
    padded = [[1, EOS, 0, 0], [1, 2, 3, 4], [EOS, EOS, EOS, EOS]]
    assert reward(prompts=["p"] * 3, completions=["a"] * 3, completion_ids=padded, trainer_state=None) == [
        1.0,
        0.5,
        1.0,
    ]
    assert sys.modules["my_rewards"].calls[0][2] == [[1, EOS], [1, 2, 3, 4], [EOS]]
    with pytest.raises(ValueError, match="completion 1 has no score"):
        for_online_dpo(user("mixed"), [EOS])(["p"] * 5, ["a"] * 5, [[EOS]] * 5)


def trained(method, exported, reward, folder):
    """One step of a TRL trainer on the toy prompts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of trl.experimental, that it may change
        from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer
        from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

        config, trainer = {
            "grpo": (GRPOConfig, GRPOTrainer),
            "rloo": (RLOOConfig, RLOOTrainer),
            "online_dpo": (OnlineDPOConfig, OnlineDPOTrainer),
        }[method]
        sizes = {"max_new_tokens": 5} if method == "online_dpo" else {"max_completion_length": 5, "num_generations": 2}
        arguments = config(
            output_dir=str(folder),
            per_device_train_batch_size=4,
            max_steps=1,
            learning_rate=1e-6,
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
            save_strategy="no",
            **sizes,
        )
        policy = Qwen2ForCausalLM.from_pretrained(exported / "policy")
        data = Dataset.from_list([{"prompt": "a b c"}, {"prompt": "d d a"}] * 4)
        tokenizer = load_tokenizer(str(exported / "policy"))
        trainer(
            model=policy, args=arguments, reward_funcs=[reward], train_dataset=data, processing_class=tokenizer
        ).train()


@pytest.mark.parametrize("method", ["grpo", "rloo", "online_dpo"])
def test_trl_calls_the_reward_model_alike_for_every_method(exported, start, tmp_path, method):
    options = RewardOptions(
        kind="model", name=str(exported / "reward_model"), dtype="float32", separator=" ", missing_eos_penalty=0.25
    )
    reward, seen = make_reward(options, device="cpu", eos_token_ids=[0]), []

    def recorded(prompts, completions, completion_ids, **columns):
        rewards = reward(prompts, completions, completion_ids, **columns)
        seen.extend(zip(prompts, completions, completion_ids, rewards, strict=True))
        return rewards

    recorded.__name__ = "recorded"
    trained(method, exported, for_online_dpo(recorded, [0]) if method == "online_dpo" else recorded, tmp_path)
    assert len(seen) == (8 if method == "online_dpo" else 4)
    words = start.task.vocabulary
    for prompt, text, ids, value in seen:
        assert text.split() == [words[i] for i in ids if i != 0]
        whole = [words.index(word) for word in prompt.split()] + list(ids)  # the toy reads ids where TRL passes texts
        with torch.no_grad():
            states = start.reward_model.model(torch.tensor([whole])).last_hidden_state
            expected = start.reward_model.score(states[0, -1]).item() - (0.0 if ids[-1] == 0 else 0.25)
        assert value == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert np.isfinite([value for *_, value in seen]).all()


def test_a_function_gets_what_trl_adds_in_a_dry_run_too(user):
    def with_state(completions, trainer_state, log_extra, log_metric, **_):
        log_extra("text", completions)
        log_metric("mean", 1.0)
        return [float(trainer_state.global_step)] * len(completions)

    user("score")
    sys.modules["my_rewards"].with_state = with_state
    reward = make_reward(
        RewardOptions(kind="function", name="my_rewards:with_state"), device="cpu", eos_token_ids=[EOS]
    )
    assert check_reward(reward, "2 + 2 = ", "four", [1]).reward == 0.0
