"""The start of every run: pi_0 from noisy demonstrations, preference pairs from pi_0, a reward model from the pairs.

    demonstrations --SFT--> pi_0 --K samples per prompt--> pairs --Bradley-Terry--> reward model, the proxy

Each of the three stages is a folder in the cache; models are saved as transformers saves them. All methods start from
the same folders.
"""

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid
from transformers import Qwen2ForCausalLM, Qwen2ForSequenceClassification

from dar_ref.losses import sequence_logps
from dar_ref.progress import Report, silent
from dar_ref.toy import cache
from dar_ref.toy.config import StartConfig
from dar_ref.toy.policy import (
    Completions,
    completion_states,
    decode,
    encode,
    encode_prompts,
    load,
    new_policy,
    per_token_logps,
    save,
    tokenizer,
)
from dar_ref.toy.reward_model import agreement, last_scores, new_reward_model, score, within_groups
from dar_ref.toy.sampling import sample
from dar_ref.toy.tasks import TASKS, Prompts, Task, draw_prompts, noisy_answer

PAD = "<pad>"  # the reward model's own: transformers looks for the last token that is not padding, and EOS must count


class Comparisons(NamedTuple):
    """Completions of pi_0, K per prompt, every two of one prompt compared by an annotator; M = K (K-1) / 2.

    completions: of N prompts; preferred: (N, M) bool, whether the first of each pair of `pair_indices` was preferred.
    """

    completions: Completions
    preferred: Tensor

    @property
    def labels(self) -> int:
        """Number of labels, N * M."""
        return self.preferred.numel()

    def pairs(self, numbers: Tensor) -> Completions:
        """The pairs of the labels `numbers`, (M,) indices: two completions per prompt, the preferred one first."""
        num_generations, per_prompt = self.completions.num_generations, self.preferred.shape[1]
        rows, columns = numbers // per_prompt, numbers % per_prompt
        pairs = pair_indices(num_generations)[columns]  # (numbers, 2)
        pairs = torch.where(self.preferred[rows, columns][:, None], pairs, pairs.flip(1))
        samples = (rows[:, None] * num_generations + pairs).view(-1)
        prompt_ids, ids, mask, finished = self.completions
        return Completions(prompt_ids[rows], ids[samples], mask[samples], finished[samples])


def pair_indices(num_generations: int) -> Tensor:
    """All pairs i < j of K completions, (M, 2)."""
    return torch.combinations(torch.arange(num_generations), 2)


@dataclass(frozen=True)
class Start:
    """What a run starts from. The models are in evaluation mode and have no gradient.

    prompts: split; pi_0: the SFT policy; comparisons: labels on the training prompts; reward_model: the proxy; metrics:
    how good labels and proxy are, see `_make_reward`.
    """

    config: StartConfig
    task: Task
    prompts: Prompts
    pi_0: Qwen2ForCausalLM
    comparisons: Comparisons
    reward_model: Qwen2ForSequenceClassification
    metrics: dict[str, float]

    def proxy(self, completions: Completions) -> Tensor:
        """Proxy reward of each completion, (B,)."""
        return score(self.reward_model, completions)

    def gold(self, completions: Completions) -> Tensor:
        """Gold reward of each completion, (B,)."""
        return gold_rewards(self.task, self.prompts_of(completions), completions)

    def annotator(self, completions: Completions) -> Tensor:
        """Utility of each completion to the annotators, (B,): what their labels come from, flaw included."""
        words = decode(self.task, completions)
        return _judge(self.task.annotator, self.prompts_of(completions), words, completions.finished)

    def proxy_of_quality(self, completions: Completions, quality: float) -> Tensor:
        """A reward whose correlation with gold is `quality` on held-out samples of pi_0, within prompts, (B,).

        It is `quality * gold + sqrt(1 - quality^2) * error`, in units of their spread. The error is the proxy's: the
        part of the proxy that is not correlated with gold. At 1 it is gold.
        """
        correlation = self.metrics["within_correlation"]
        gold = self.gold(completions) / self.metrics["gold_spread"]
        error = self.proxy(completions) / self.metrics["proxy_spread"] - correlation * gold
        return quality * gold + math.sqrt((1.0 - quality**2) / (1.0 - correlation**2)) * error

    def prompts_of(self, completions: Completions) -> list[list[str]]:
        """The N prompts of the completions, in words."""
        return [[self.task.vocabulary[i] for i in row] for row in completions.prompt_ids.tolist()]


def load_start(config: StartConfig, folder: Path, report: Report = silent) -> Start:
    """Load a start from the cache `folder`. Stages that are missing are made first, and reported.

    Raises:
        OSError: the cache cannot be written.
        ValueError: the task has fewer prompts than asked for.
    """
    task = TASKS[config.task]
    prompts = draw_prompts(task, config.seed, config.train_prompts, config.validation_prompts, config.test_prompts)
    key = start_key(config)
    sft = cache.made(folder / "sft" / key, partial(_make_sft, report, config, task, prompts))
    pi_0 = cache.read(sft, lambda folder: load(Qwen2ForCausalLM, folder / "policy"))
    preferences = cache.made(
        folder / "preferences" / key, partial(_make_comparisons, report, config, task, prompts, pi_0)
    )
    content = cache.read(preferences, lambda folder: _read_json(folder / "comparisons.json"))
    comparisons = cache.read(preferences, lambda _: _comparisons(task, content["train"]))
    reward = cache.made(folder / "reward" / key, partial(_make_reward, report, config, task, pi_0, content))
    reward_model = cache.read(reward, lambda folder: load(Qwen2ForSequenceClassification, folder / "reward_model"))
    metrics = cache.read(reward, lambda folder: _read_json(folder / "metrics.json"))
    return Start(config, task, prompts, pi_0, comparisons, reward_model, metrics)


def _read_json(file: Path) -> dict[str, Any]:
    content = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise TypeError(f"{file.name} holds a {type(content).__name__}")
    return content


def gold_rewards(task: Task, prompts: Sequence[Sequence[str]], completions: Completions) -> Tensor:
    """Gold reward of each completion, (B,)."""
    return _judge(task.gold, prompts, decode(task, completions), completions.finished)


def _judge(
    judge: Callable[..., float], prompts: Sequence[Sequence[str]], words: Sequence[Sequence[str]], finished: Tensor
) -> Tensor:
    times = len(words) // len(prompts)
    rows = zip(words, finished.tolist(), strict=True)
    return torch.tensor([judge(prompts[i // times], response, ended) for i, (response, ended) in enumerate(rows)])


# --- the stages -------------------------------------------------------------------------------------------------------


def start_key(config: StartConfig) -> str:
    """Name of a start, from its configuration and its task's definition: another flaw gives another name."""
    task = TASKS[config.task]
    definition = [task.name, task.vocabulary, task.prompt_length, task.max_new_tokens, task.flaw]
    return cache.content_key({"start": asdict(config), "task": definition})


def _make_sft(report: Report, config: StartConfig, task: Task, prompts: Prompts, folder: Path) -> None:
    rng = random.Random(f"demonstrations {config.seed}")
    asked = [prompt for prompt in prompts.train for _ in range(config.demonstrations)]
    answers = [noisy_answer(task, prompt, config.noise, rng) for prompt in asked]
    data = encode(task, asked, answers, [True] * len(asked))
    policy = new_policy(task, config.hidden_size, config.num_layers, config.num_heads, config.seed)

    def loss(rows: Tensor) -> Tensor:
        batch = data.of_prompts(rows)
        return -sequence_logps(per_token_logps(policy, batch), batch.mask).sum() / batch.mask.sum()

    generator = torch.Generator().manual_seed(config.seed)
    shown = partial(report, "SFT")
    _fit(policy, loss, len(asked), config.sft_steps, config.sft_batch, config.sft_learning_rate, generator, shown)
    save(policy, tokenizer(task), folder / "policy")


def _make_comparisons(
    report: Report, config: StartConfig, task: Task, prompts: Prompts, pi_0: Qwen2ForCausalLM, folder: Path
) -> None:
    report("comparisons")
    generator = torch.Generator().manual_seed(config.seed + 1)
    content = {}
    for name, asked in (("train", prompts.train), ("validation", prompts.validation)):
        asked = [prompt for prompt in asked for _ in range(config.groups)]
        drawn = sample(pi_0, encode_prompts(task, asked), config.group_size, task.max_new_tokens, generator).completions
        words, finished = decode(task, drawn), drawn.finished.tolist()
        utility = _judge(task.annotator, asked, words, drawn.finished).view(-1, config.group_size)
        pairs = pair_indices(config.group_size)
        margin = utility[:, pairs[:, 0]] - utility[:, pairs[:, 1]]
        preferred = torch.rand(margin.shape, generator=generator) < torch.sigmoid(margin / config.label_temperature)
        completions = [{"words": w, "finished": f} for w, f in zip(words, finished, strict=True)]
        content[name] = [
            {
                "prompt": prompt,
                "completions": completions[i * config.group_size : (i + 1) * config.group_size],
                "preferred": preferred[i].tolist(),
            }
            for i, prompt in enumerate(asked)
        ]
    (folder / "comparisons.json").write_text(json.dumps(content), encoding="utf-8")


def _comparisons(task: Task, rows: Sequence[dict[str, Any]]) -> Comparisons:
    all_of_them = [completion for row in rows for completion in row["completions"]]
    words, finished = [c["words"] for c in all_of_them], [c["finished"] for c in all_of_them]
    completions = encode(task, [row["prompt"] for row in rows], words, finished)
    return Comparisons(completions, torch.tensor([row["preferred"] for row in rows]))


def _make_reward(
    report: Report, config: StartConfig, task: Task, pi_0: Qwen2ForCausalLM, content: dict[str, Any], folder: Path
) -> None:
    """Fit the reward model; beside it `metrics.json`, on validation prompts: the `agreement` of the reward model and of
    the gold reward with the labels, and the correlation of the two rewards."""
    reward_model = new_reward_model(config, pi_0)
    train, held_out = _comparisons(task, content["train"]), _comparisons(task, content["validation"])
    pairs = pair_indices(config.group_size)

    def margins(rewards: Tensor, preferred: Tensor) -> Tensor:
        """Reward of the preferred completion of each pair minus that of the other, (N, M)."""
        first, second = rewards.view(-1, config.group_size)[:, pairs].unbind(dim=-1)
        return torch.where(preferred, 1.0, -1.0) * (first - second)

    def loss(rows: Tensor) -> Tensor:
        batch = train.completions.of_prompts(rows)
        rewards = last_scores(reward_model, completion_states(reward_model.model, batch), batch)
        return -logsigmoid(margins(rewards, train.preferred[rows])).mean()

    generator = torch.Generator().manual_seed(config.seed + 2)
    count, rate = len(train.preferred), config.reward_learning_rate
    shown = partial(report, "reward model")
    _fit(reward_model, loss, count, config.reward_steps, config.reward_batch, rate, generator, shown)
    prompts = [row["prompt"] for row in content["validation"]]
    proxy, gold = score(reward_model, held_out.completions), gold_rewards(task, prompts, held_out.completions)
    same = _identical(content["validation"], pairs)
    metrics = {
        "correlation": torch.corrcoef(torch.stack([proxy, gold]))[0, 1].item(),
        **within_groups(proxy, gold, config.group_size),
    }
    for name, rewards in (("proxy", proxy), ("gold", gold)):
        metrics |= agreement(name, margins(rewards, held_out.preferred), same)
    save(reward_model, tokenizer(task, [PAD]), folder / "reward_model")
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")


def _identical(rows: Sequence[dict[str, Any]], pairs: Tensor) -> Tensor:
    """Whether the two completions of a pair are one response drawn twice, (N, M)."""
    return torch.tensor([[row["completions"][i] == row["completions"][j] for i, j in pairs.tolist()] for row in rows])


def _fit(
    model: nn.Module,
    loss: Callable[[Tensor], Tensor],
    count: int,
    steps: int,
    batch: int,
    learning_rate: float,
    generator: torch.Generator,
    report: Callable[[int, int], None],
) -> None:
    """Minimise `loss` by Adam on random rows out of `count`; the learning rate decays to 0 along a cosine."""
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1.0 + math.cos(math.pi * step / steps)))
    for step in range(steps):
        report(step, steps)
        optimizer.zero_grad()
        torch.autograd.backward(loss(torch.randint(count, (batch,), generator=generator)))
        optimizer.step()
        schedule.step()
