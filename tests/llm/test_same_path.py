"""With the samples of the toy engine, the script takes the same steps as the toy engine.

Otherwise the two sample different prompts and tokens, so their results are comparable only in distribution
(`make benchmark-llm`). Here the script reads the prompts in the toy engine's order, and each generation is replaced by
the samples of the toy engine at that step. This compares scoring, rewards, advantages, loss, gradient and Adam.
"""

import importlib
import math

import pytest
from datasets import Dataset

from dar_ref.llm.options import RewardOptions
from dar_ref.llm.rewards.function import make_reward
from dar_ref.toy.config import RunConfig
from dar_ref.toy.policy import EOS_ID
from tests.llm.training import make_trainer, options, parameters

toy = importlib.import_module("dar_ref.toy.train")  # the package's `train` is its function
K, PROMPTS, STEPS = 4, 8, 6
RATE = 1e-3

# TRL divides by each group's std with K - 1 under the root, plus 1e-4; the toy engine has K under the root. Adam
# removes a common scale, so the only difference that remains is the relative weight of the KL.
GRPO_KL = 1.0 * math.sqrt(K / (K - 1))  # large, so that the estimator of the KL shows

DAR = {"alpha": 0.3, "beta": 0.7, "w_clip": 3.0}
CASES = {
    "dar": ({**DAR, "skip_tolerance": 0.0}, DAR),
    "dao": ({"alpha": 0.3, "beta": 0.7}, {"alpha": 0.3, "beta": 0.7}),
    "rloo": ({"beta": 0.05, "normalize_advantages": False}, {"kl_coef": 0.05}),
    "grpo": (
        {"beta": 1.0, "loss_type": "grpo", "scale_rewards": "group", "use_bias_correction_kl": False},
        {"kl_coef": GRPO_KL},
    ),
}
ROUNDING = {"dar": 1e-4, "dao": 1e-4, "rloo": 1e-4, "grpo": 1e-2}  # as a share of the distance moved; grpo: TRL's 1e-4


def of_toy_engine(start, config, monkeypatch):
    """The final policy of the toy engine, and what it sampled at each step."""
    drawn, sample = [], toy.sample

    def watched(*args):
        sampled = sample(*args)
        drawn.append(sampled.completions)
        return sampled

    monkeypatch.setattr(toy, "sample", watched)
    return parameters(toy.train(start, config).policy), drawn


def of_script(exported, out, method, of_method, drawn, task):
    """The final policy of the script, trained on the prompts and completions in `drawn`."""
    chosen = options(
        exported,
        method=method,
        training={"max_steps": STEPS, "learning_rate": RATE, "per_device_train_batch_size": K * PROMPTS},
        generation={"shuffle_dataset": False, "max_completion_length": task.max_new_tokens},
        **of_method,
    )
    judge = RewardOptions("model", str(exported / "reward_model"), dtype="float32", separator=" ")
    reward = make_reward(judge, device="cpu", eos_token_ids={EOS_ID})
    trainer = make_trainer(exported, out, chosen, reward_function=reward)
    prompts = [" ".join(task.vocabulary[i] for i in row) for step in drawn for row in step.prompt_ids.tolist()]
    trainer.train_dataset = Dataset.from_dict({"prompt": prompts})  # set here, since loading drops repeated prompts
    steps = iter(drawn)

    def replayed(prompt_ids, *_):
        step = next(steps)
        assert prompt_ids == step.prompt_ids.repeat_interleave(K, dim=0).tolist()
        ids = [row[keep].tolist() for row, keep in zip(step.ids, step.mask, strict=True)]
        return ids if method == "rloo" else (ids, None)

    trainer._generate_single_turn = replayed
    trainer.train()
    assert next(steps, None) is None
    return parameters(trainer.model)


def distance(first, second):
    return math.sqrt(math.fsum(((first[name] - second[name]).double() ** 2).sum().item() for name in second))


@pytest.mark.parametrize("method", CASES)
def test_same_samples_same_path(start, exported, tmp_path, monkeypatch, method):
    of_method, of_toy = CASES[method]
    config = RunConfig(
        method=method, steps=STEPS, batch_prompts=PROMPTS, num_generations=K, learning_rate=RATE, **of_toy
    )
    expected, drawn = of_toy_engine(start, config, monkeypatch)
    found = of_script(exported, tmp_path / "script", method, of_method, drawn, start.task)
    gone = distance(expected, parameters(start.pi_0))
    assert distance(found, expected) <= ROUNDING[method] * gone
