"""The reward of a completion, one callable for every method.

`make_reward` gives a function of TRL's signature, `(prompts, completions, completion_ids, **columns)`, from a Python
function, a reward model (`reward_model`) or an annotator behind an endpoint (`annotator`). Rules that hold for all:

1. A completion has ended if its last token is one of the policy's EOS tokens. One that has not loses
   `missing_eos_penalty`, the same amount for every method; the option of that name in TRL's configurations stays off.
2. None is a completion without a score. It stays None, for the trainer to leave out, and is counted. NaN and infinities
   are errors, and so is a list of another length than the completions.
3. Ids are TRL's: GRPO and RLOO pass a completion up to and with EOS. Online DPO passes rows padded to one length and
   counts a missing reward as 0; `for_online_dpo` cuts the padding and refuses a missing reward.
"""

import hashlib
import importlib
import inspect
import os
import sys
import sysconfig
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from dar_ref.llm.options import RewardOptions
from dar_ref.llm.rewards.annotator import Annotator, Text, plain_text
from dar_ref.llm.rewards.model import RewardModel

LARGEST = 1e18  # of a reward's size
_STANDARD = sysconfig.get_path("stdlib")


class Scorer(Protocol):
    """What gives scores; `counts` says how often something was out of the ordinary."""

    counts: Counter[str]

    def score(
        self, prompts: Sequence[Text], completions: Sequence[Text], ended: Sequence[bool]
    ) -> list[float | None]: ...

    def render(self, prompt: Text, completion: Text, ended: bool) -> str: ...

    def content(self) -> str: ...


class RewardCheck(NamedTuple):
    """One sample: the text that was judged and its reward, None if it has none."""

    text: str
    reward: float | None


class RewardFunction:
    """A reward as TRL calls it; see the rules in the module's first lines.

    `__name__`: under which TRL logs it. `counts`: completions, unscored and missing_eos since the start, beside what
    the scorer counts. Where TRL passes `log_metric`, the share of unscored completions of a batch goes there.
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
            prompts: one for each completion, plain texts or lists of messages.
            completions: alike.
            completion_ids: tokens of the policy's tokenizer, EOS included where there is one.
            columns: of the data, and what TRL adds; only a Python function reads them.

        Raises:
            ValueError: a NaN or infinite score, or not one score for each completion.
            ConnectionError: an annotator's endpoint that does not answer.
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
        """Whether the last of a completion's ids is an EOS token of the policy."""
        return len(ids) > 0 and ids[-1] in self._eos

    @property
    def counts(self) -> Counter[str]:
        """How often what happened, since the start."""
        return self._counts + self._scorer.counts

    def render(self, prompt: Text, completion: Text, ended: bool = True) -> str:
        """The text that is judged, for a reader."""
        return self._scorer.render(prompt, completion, ended)

    def content(self) -> str:
        """A hash of what gives the scores: the function's file, the model's weights, or the annotator's rubric."""
        return self._scorer.content()

    def _reward(self, score: float | None, ended: bool, prompt: Text, index: int) -> float | None:
        if score is None:
            return None
        if not abs(score) <= LARGEST:
            raise ValueError(
                f"reward {index} of {self.__name__} is {score}, for the prompt {_shortened(plain_text(prompt))!r}: a"
                f" reward is a number up to {LARGEST:g}, beyond which its square is infinite in float32, or None where"
                " there is none"
            )
        return score if ended else score - self._penalty


class FunctionReward:
    """A user's function, called as TRL calls it, and what it returns checked."""

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
            returned = self.function(prompts=prompts, completions=completions, completion_ids=completion_ids, **columns)
        except Exception as error:  # whatever a user's code raises
            raise ValueError(f"reward function {self.name} failed with {_described(error)}") from error
        if not isinstance(returned, Iterable) or isinstance(returned, str | Mapping):
            raise ValueError(
                f"{self.name} returned a {type(returned).__name__}; return a list of {len(completions)} rewards, one a"
                " completion"
            )
        values = list(returned)
        if len(values) != len(completions):
            raise ValueError(
                f"{self.name} returned {len(values)} rewards for {len(completions)} completions; return one for each,"
                " in their order, None for one that has none"
            )
        return [self._number(i, value) for i, value in enumerate(values)]

    def render(self, prompt: Text, completion: Text, ended: bool) -> str:  # noqa: ARG002
        """Prompt and completion; what the function makes of them is its own."""
        return plain_text(prompt) + ("" if isinstance(prompt, str) else "\n") + plain_text(completion)

    def content(self) -> str:
        """A hash of the file that the function's module is; what it imports is not looked at."""
        file = getattr(sys.modules[self.name.partition(":")[0]], "__file__", None)
        return hashlib.sha256(Path(file).read_bytes() if file else self.name.encode()).hexdigest()

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
        device: where a reward model computes.
        eos_token_ids: tokens that end a completion of the policy, at least one.
        weights: read a reward model's weights now; without, they are read when first needed.

    Returns:
        A function of TRL's signature; `render` gives the text that it judges.

    Raises:
        ValueError: no such function, a model that is no reward model, an endpoint without a key, or a rubric that lacks
            a place for prompt or response.
        OSError: a file or a model that is not there.
    """
    if not eos_token_ids:
        raise ValueError("eos_token_ids is empty: no completion could end; pass the policy's EOS tokens")
    scorer: Scorer | FunctionReward
    if options.kind == "function":
        scorer = FunctionReward(_imported(options.name), options.name)
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
    """Judge one sample, as a dry run does: its text as the judge sees it, and its reward.

    Args:
        reward: of `make_reward`.
        prompt, completion: plain texts or lists of messages.
        completion_ids: tokens of the completion, EOS included where it ended.
        columns: the other columns of the row.

    Raises:
        ValueError, ConnectionError: what the reward raises.
    """
    rows = {name: [value] for name, value in columns.items()}
    value = reward(prompts=[prompt], completions=[completion], completion_ids=[completion_ids], **rows)[0]
    return RewardCheck(reward.render(prompt, completion, reward.has_ended(completion_ids)), value)


def for_online_dpo(reward: RewardFunction, eos_token_ids: Collection[int]) -> Callable[..., list[float | None]]:
    """`reward` as TRL's `OnlineDPOTrainer` needs it: padding behind the first EOS is cut from the ids, and a completion
    without a score raises ValueError, since that trainer would count it as 0 and prefer or reject it for that."""
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


def _imported(name: str) -> Callable[..., Any]:
    """The function "module:function"; modules in the working directory are found as well."""
    module_name, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # ImportError, or whatever the module's own code raises
        raise ValueError(
            f"reward.name = {name!r} cannot be imported, {_described(error)}; pass a module that is installed or in the"
            " working directory"
        ) from error
    function = getattr(module, attribute, None)
    if not callable(function):
        what = f"{attribute} is a {type(function).__name__}" if hasattr(module, attribute) else f"no {attribute} in it"
        raise ValueError(f"reward.name = {name!r}: {what}; pass a function (prompts, completions, **columns)")
    if inspect.iscoroutinefunction(function):
        raise ValueError(f"reward.name = {name!r} is a coroutine; pass a plain function")
    return function


def _described(error: BaseException) -> str:
    """An error of a user's code: its type, its words, and the last line of theirs that it came through."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<")][1:]
    own = [f for f in frames if "site-packages" not in f.filename and not f.filename.startswith(_STANDARD)]
    place = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {error}{place}"


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else text[:200] + " ..."
