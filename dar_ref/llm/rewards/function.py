"""The reward of a completion: one callable for every method.

`make_reward` gives a function with TRL's signature, `(prompts, completions, completion_ids, **columns)`. It calls a
Python function, a reward model (`model`) or an annotator behind an endpoint (`annotator`). Rules for all of them:

1. A completion has ended if its last token is an EOS token of the policy. Otherwise `missing_eos_penalty` is subtracted
   from its reward, for every method alike. The option of that name in TRL's configurations stays off.
2. A reward of None means that there is no score. It is counted and stays None, so the trainer leaves the completion
   out. NaN and infinities are errors, and so is a list whose length is not the number of completions.
3. Ids are TRL's. GRPO and RLOO pass each completion up to and including EOS. Online DPO passes rows padded to one
   length and counts a missing reward as 0; `for_online_dpo` removes the padding and refuses a missing reward.
"""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from transformers import TrainerState

from dar_ref.llm.options import RewardOptions
from dar_ref.llm.rewards import Text, flat_text
from dar_ref.llm.rewards.annotator import Annotator
from dar_ref.llm.rewards.imported import described, imported, module_name
from dar_ref.llm.rewards.model import RewardModel
from dar_ref.llm.rewards.module_hash import module_hash
from dar_ref.llm.rewards.reads import watched

LARGEST = 1e18  # of a reward's size


class Scorer(Protocol):
    """Anything that gives scores; `counts` says how often each unusual event happened."""

    @property
    def counts(self) -> Counter[str]: ...

    def score(
        self, prompts: Sequence[Text], completions: Sequence[Text], ended: Sequence[bool]
    ) -> list[float | None]: ...

    def render(self, prompt: Text, completion: Text, ended: bool) -> str: ...

    def content(self) -> str: ...


class RewardCheck(NamedTuple):
    """One sample: the text that was judged, and its reward or None."""

    text: str
    reward: float | None


class RewardFunction:
    """A reward that TRL can call; its rules are at the top of this module.

    `__name__`: the name in TRL's log. `counts`: completions, unscored and missing_eos since the start, and the counts
    of the scorer. If TRL passes `log_metric`, the share of unscored completions in the batch is logged.
    """

    def __init__(
        self, name: str, scorer: "Scorer | FunctionReward", missing_eos_penalty: float, eos_token_ids: Collection[int]
    ) -> None:
        self.__name__ = name
        self._scorer, self._penalty, self._eos = scorer, missing_eos_penalty, frozenset(eos_token_ids)
        self._counts = Counter[str]()

    def __call__(
        self,
        prompts: Sequence[Text],
        completions: Sequence[Text],
        completion_ids: Sequence[Sequence[int]],
        **columns: Any,
    ) -> list[float | None]:
        """Rewards of the completions, in their order.

        Args:
            prompts: one per completion, plain texts or lists of messages.
            completions: plain texts or lists of messages.
            completion_ids: token ids from the policy's tokenizer, EOS included if there is one.
            columns: columns of the data, and what TRL adds; only a Python function reads them.

        Raises:
            ValueError: a score is NaN or infinite, or the number of scores is wrong.
            ConnectionError: the annotator's endpoint does not answer.
        """
        ended = [self.has_ended(ids) for ids in completion_ids]
        if isinstance(self._scorer, FunctionReward):
            scores = self._scorer.score(prompts, completions, completion_ids, columns)
        else:
            scores = self._scorer.score(prompts, completions, ended)
        rewards = [self._reward(*row) for row in zip(scores, ended, prompts, range(len(ended)), strict=True)]
        unscored, missing = rewards.count(None), ended.count(False)
        self._counts.update(completions=len(rewards), unscored=unscored, missing_eos=missing)
        if callable(log := columns.get("log_metric")) and rewards:
            log("reward/unscored", unscored / len(rewards))
        return rewards

    def has_ended(self, ids: Sequence[int]) -> bool:
        """Whether the last id of a completion is an EOS token of the policy."""
        return len(ids) > 0 and ids[-1] in self._eos

    @property
    def counts(self) -> Counter[str]:
        """How often each of these events happened since the start."""
        return self._counts + self._scorer.counts

    def render(self, prompt: Text, completion: Text, ended: bool = True) -> str:
        """The text that is judged, for a human reader."""
        return self._scorer.render(prompt, completion, ended)

    def content(self) -> str:
        """A hash of what gives the scores: the function's file, the model's weights, or the annotator's rubric."""
        return self._scorer.content()

    def _reward(self, score: float | None, ended: bool, prompt: Text, index: int) -> float | None:
        if score is None:
            return None
        if not abs(score) <= LARGEST:
            raise ValueError(
                f"reward {index} of {self.__name__} is {score}, for the prompt {_shortened(flat_text(prompt))!r}: a"
                f" reward is a number up to {LARGEST:g}, beyond which its square is infinite in float32, or None where"
                " there is none"
            )
        return score if ended else score - self._penalty


class FunctionReward:
    """A user's function: called as TRL would call it, with a check of what it returns."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self.function, self.name, self.counts = function, name, Counter[str]()

    def score(
        self,
        prompts: Sequence[Text],
        completions: Sequence[Text],
        completion_ids: Sequence[Sequence[int]],
        columns: Mapping[str, Any],
    ) -> list[float | None]:
        """What the function returns, as floats; ValueError if that is no list of one number or None a completion."""
        try:
            with watched():
                returned = self.function(
                    prompts=prompts, completions=completions, completion_ids=completion_ids, **columns
                )
        except (Exception, SystemExit) as error:  # whatever a user's code raises
            raise ValueError(f"reward function {self.name} failed with {described(error)}") from error
        if not isinstance(returned, Iterable) or isinstance(returned, str | Mapping):
            raise ValueError(
                f"{self.name} returned a {type(returned).__name__}; return a list of {len(completions)} rewards, one"
                " per completion"
            )
        values = list(returned)
        if len(values) != len(completions):
            raise ValueError(
                f"{self.name} returned {len(values)} rewards for {len(completions)} completions; return one for each,"
                " in their order, or None for a completion without a reward"
            )
        return [self._number(i, value) for i, value in enumerate(values)]

    def render(self, prompt: Text, completion: Text, ended: bool) -> str:  # noqa: ARG002
        """Prompt and completion; what the function makes of them is its own."""
        return flat_text(prompt) + ("" if isinstance(prompt, str) else "\n") + flat_text(completion)

    def content(self) -> str:
        """A hash of the function's module and of the own modules that it imports, see `module_hash`."""
        return module_hash(module_name(self.name))

    def _number(self, index: int, value: Any) -> float | None:
        if value is None:
            return None
        try:
            if isinstance(value, str):
                raise TypeError
            return float(value)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"{self.name} returned {value!r} as reward {index}; return a number or None") from None


def make_reward(
    options: RewardOptions, *, device: str | torch.device, eos_token_ids: Collection[int], weights: bool = True
) -> RewardFunction:
    """The reward that `options` describe.

    Args:
        options: section `reward` of a run.
        device: device of a reward model.
        eos_token_ids: ids that end a completion of the policy, at least one.
        weights: read a reward model's weights now; if False, at the first call.

    Returns:
        A function with TRL's signature; `render` gives the text that it judges.

    Raises:
        ValueError: no such function, a model that is not a reward model, an endpoint without a key, or a rubric that
            lacks a place for prompt or response.
        OSError: a file or a model that is not there.
    """
    if not eos_token_ids:
        raise ValueError("eos_token_ids is empty: no completion could end; pass the policy's EOS tokens")
    scorer: Scorer | FunctionReward
    if options.kind == "function":
        scorer = FunctionReward(imported(options.name), options.name)
        name = options.name.rpartition(":")[2]
    elif options.kind == "model":
        scorer = RewardModel(options, device)
        name = os.path.basename(os.path.normpath(options.name))
        if weights:
            scorer.load()
    else:
        scorer, name = Annotator(options), os.path.basename(options.name)
    return RewardFunction(name, scorer, options.missing_eos_penalty, eos_token_ids)


def check_reward(
    reward: RewardFunction, prompt: Text, completion: Text, completion_ids: Sequence[int], **columns: Any
) -> RewardCheck:
    """Judge one sample, for a dry run: the text that the judge sees, and the reward.

    Args:
        reward: from `make_reward`.
        prompt: a plain text or a list of messages.
        completion: the same.
        completion_ids: tokens of the completion, EOS included if it ended.
        columns: the other columns of the row.

    Raises:
        ValueError, ConnectionError: as the reward.
    """
    rows = {name: [value] for name, value in columns.items()} | stand_ins()
    value = reward(prompts=[prompt], completions=[completion], completion_ids=[completion_ids], **rows)[0]
    return RewardCheck(reward.render(prompt, completion, reward.has_ended(completion_ids)), value)


def stand_ins() -> dict[str, Any]:
    """What TRL passes to a reward function beside the columns, for calls outside a run: a state at its beginning, and
    two ways to log that log nothing."""
    return {"trainer_state": TrainerState(), "log_extra": _nothing, "log_metric": _nothing}


def _nothing(*_: Any) -> None:
    pass


def for_online_dpo(reward: RewardFunction, eos_token_ids: Collection[int]) -> Callable[..., list[float | None]]:
    """`reward` for TRL's `OnlineDPOTrainer`: the ids lose the padding after the first EOS, and a completion without a
    score raises ValueError. That trainer would count it as 0, and prefer or reject the completion because of that."""
    eos = frozenset(eos_token_ids)

    def online_dpo_reward(
        prompts: Sequence[Text], completions: Sequence[Text], completion_ids: Sequence[Sequence[int]], **columns: Any
    ) -> list[float | None]:
        rewards = reward(prompts, completions, [_cut(ids, eos) for ids in completion_ids], **columns)
        if None in rewards:
            raise ValueError(
                f"completion {rewards.index(None)} has no score, and TRL's online DPO would count it as 0; use a reward"
                " that scores every completion, or another method"
            )
        return rewards

    online_dpo_reward.__name__ = reward.__name__
    return online_dpo_reward


def _cut(ids: Sequence[int], eos: Collection[int]) -> list[int]:
    first = next((i for i, token in enumerate(ids) if token in eos), len(ids))
    return list(ids[: first + 1])


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else text[:200] + " ..."
