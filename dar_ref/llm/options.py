"""What a run is: one YAML file and `key=value` overrides from the command line, all checked before any work.

    method: dar
    model:      what pi_0 is                         lora:        adapters, or null to train all weights
    data:       prompts and preferences              reward:      where the reward comes from
    training:   for every method, names of TrainingArguments
    generation: for methods that sample, names of GRPOConfig
    methods:    for one method, names of its config class: {dar: {alpha: 0.1, beta: 0.05, w_clip: 20}, ...}

`method` selects its entry of `methods`. Everything else is shared, so methods are compared on the same data, rewards
and schedule. This module imports neither torch nor TRL, so `dar-ref plan` starts fast.
"""

import copy
import dataclasses
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from dar_ref import scalars
from dar_ref.errors import HIDDEN, without_passwords
from dar_ref.llm.keys import SECTIONS, hint, section_keys
from dar_ref.llm.models.kinds import FROM_GGUF
from dar_ref.llm.types_in_words import why
from dar_ref.llm.yaml_file import read_one_value, read_value, read_yaml

Method = Literal[
    "dar", "dao", "ppo_critic_free", "dual_ppo_critic_free", "grpo", "rloo", "online_dpo", "dpo", "dar_offline"
]
METHODS: tuple[str, ...] = get_args(Method)
ONLINE = METHODS[:-2]  # those that sample completions
Dtype = Literal["bfloat16", "float16", "float32", "float64"]
CONFIGS = Path(__file__).parents[1] / "configs"
REAL_MODEL = "out/real-model"  # where `make real-model` writes

_STRICT = ConfigDict(extra="forbid", strict=True)  # strict: true is no number, 1 no truth value, "5" no 5


@dataclass(frozen=True, config=_STRICT)
class ModelOptions:
    """pi_0, from which the policy starts.

    name: folder or hub name; revision: on the hub; dtype: of the weights; random_init: read only the architecture of
    `name`, and initialise the weights from `training.seed`; trust_remote_code: run Python code of the model's folder;
    quantization: nf4 loads the frozen weights in 4 bits and trains adapters on them (QLoRA), with bitsandbytes. pi_0 is
    then the quantised model.
    """

    name: str
    revision: str | None = None
    dtype: Dtype = "bfloat16"
    attn_implementation: str | None = None
    random_init: bool = False
    trust_remote_code: bool = False
    quantization: Literal["nf4"] | None = None


@dataclass(frozen=True, config=_STRICT)
class LoraOptions:
    """Low-rank adapters. They have no dropout: with it, pi_theta would not be the policy that sampled.

    r: rank; alpha: the adapter is scaled by alpha / r; target_modules: names of linear layers, or "all-linear".
    """

    r: int = 64
    alpha: int = 128
    target_modules: str | tuple[str, ...] = "all-linear"

    def __post_init__(self) -> None:
        scalars.integer("lora.r", self.r, 1)
        scalars.integer("lora.alpha", self.alpha, 1)


@dataclass(frozen=True, config=_STRICT)
class DataOptions:
    """Where prompts and preferences come from, see `dar_ref.llm.data.load`.

    prompts, preferences, rated: a name in `data.DATASETS`, a hub name, or .jsonl / .parquet files (one, a folder, a
    pattern). Methods that sample need prompts. Only dpo reads preferences; dar_offline reads rated, or preferences
    where that is not set. split, eval_split: of a hub dataset; eval_prompts: another source for evaluation. format:
    chat renders with the tokenizer's template, plain does not, auto follows the data. max_prompt_tokens: longer prompts
    are dropped and counted. limit: use only this many rows, after filtering.
    """

    prompts: str | None = None
    preferences: str | None = None
    rated: str | None = None
    split: str = "train"
    eval_prompts: str | None = None
    eval_split: str | None = None
    prompt_column: str = "prompt"
    format: Literal["auto", "plain", "chat"] = "auto"
    system_prompt: str | None = None
    max_prompt_tokens: int = 512
    limit: int | None = None

    def __post_init__(self) -> None:
        scalars.integer("data.max_prompt_tokens", self.max_prompt_tokens, 1)
        if self.limit is not None:
            scalars.integer("data.limit", self.limit, 1)


@dataclass(frozen=True, config=_STRICT)
class RewardOptions:
    """Where the reward of a completion comes from, see `dar_ref.llm.rewards.function`.

    kind: function, a Python function `name` = "module:function" or "file.py:function"; model, a classifier, `name` its
    folder or hub name; annotator, a language model `name` behind an OpenAI-compatible endpoint `base_url`.
    missing_eos_penalty: subtracted from the reward of a truncated completion, the same for every method.

    For model: revision, dtype, batch_size, separator (between a plain prompt and its completion, " " for toy tasks),
    append_eos (append the tokenizer's EOS to a plain text if the completion ended; a chat template does so itself).
    For annotator: base_url, rubric (a file with the instruction), scores (lowest and highest, whole numbers from 0),
    logprobs (ask for the probabilities of the scores), max_tokens (of an answer, thoughts included; raise it for a
    judge that thinks), max_tokens_name (some endpoints want max_completion_tokens), temperature (null leaves it to the
    endpoint), timeout in seconds, retries, concurrency, cache (folder). The key is read from the environment variable
    OPENAI_API_KEY.
    """

    kind: Literal["function", "model", "annotator"]
    name: str
    missing_eos_penalty: float = 0.0
    revision: str | None = None
    dtype: Dtype = "bfloat16"
    batch_size: int = 16
    separator: str = ""
    append_eos: bool = True
    trust_remote_code: bool = False
    base_url: str | None = None
    rubric: str | None = None
    scores: tuple[int, int] = (1, 10)
    logprobs: bool = True
    max_tokens: int = 16  # enough for a number and the words that some models put around it
    max_tokens_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    temperature: float | None = 0.0
    timeout: float = 60.0
    retries: int = 5
    concurrency: int = 16
    cache: str | None = None

    def __post_init__(self) -> None:
        scalars.non_negative("reward.missing_eos_penalty", self.missing_eos_penalty, single=True)
        scalars.positive("reward.timeout", self.timeout, single=True)
        if self.temperature is not None:
            scalars.non_negative("reward.temperature", self.temperature, single=True)
        for name, least in (("batch_size", 1), ("retries", 0), ("concurrency", 1), ("max_tokens", 1)):
            scalars.integer(f"reward.{name}", getattr(self, name), least)
        lowest, highest = self.scores
        if not 0 <= lowest < highest:
            raise ValueError(f"reward.scores = {[lowest, highest]} is not a range; pass lowest and highest, 0 or above")
        if self.kind == "function" and not all(self.name.partition(":")):
            raise ValueError(f"reward.name = {self.name!r} does not name a function; write module:function")
        for name, kind in {"revision": "model", **dict.fromkeys(("base_url", "rubric", "cache"), "annotator")}.items():
            if getattr(self, name) is not None and self.kind != kind:
                raise ValueError(f"reward.{name} is for reward.kind = {kind}, not {self.kind}; remove it")


@dataclass(frozen=True, config=_STRICT)
class RunOptions:
    """All options of a run; see the top of this module."""

    model: ModelOptions
    data: DataOptions
    method: Method = "dar"
    reward: RewardOptions | None = None
    lora: LoraOptions | None = None
    training: dict[str, Any] = field(default_factory=dict)
    generation: dict[str, Any] = field(default_factory=dict)
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.method in ONLINE and self.reward is None:
            raise ValueError(f"method = {self.method} samples completions and needs a reward; add the section `reward`")
        if self.method in ONLINE and self.data.prompts is None:
            raise ValueError(f"method = {self.method} samples completions of prompts; set data.prompts")
        if self.method == "dpo" and self.data.preferences is None:
            raise ValueError("method = dpo learns from preference pairs; set data.preferences")
        if self.model.quantization and self.lora is None:
            raise ValueError(
                f"model.quantization = {self.model.quantization}: weights of 4 bits cannot be trained, adapters on them"
                " can; add the section `lora`, or remove it"
            )
        if self.method == "dar_offline" and self.data.rated is None and self.data.preferences is None:
            raise ValueError("method = dar_offline learns from rated completions; set data.rated, or data.preferences")
        if unknown := sorted(set(self.methods) - set(METHODS)):
            close = scalars.did_you_mean(scalars.close(unknown[0], METHODS))
            raise ValueError(f"methods.{unknown[0]} is not a method; choose from {', '.join(METHODS)}{close}")
        for section in ("training", "generation", f"methods.{self.method}"):
            for name in _ELSEWHERE & set(self.section(section)):
                raise ValueError(f"{section}.{name} belongs to the section `model`; set model.{name} instead")

    def section(self, name: str) -> dict[str, Any]:
        """Content of a free section: training, generation or methods.<method>."""
        return self.methods.get(name.removeprefix("methods."), {}) if "." in name else getattr(self, name)


SECRET = re.compile(
    r"(^|[_-])((api|access|private|secret)[_-]?key|passw(or)?d|secret|credentials?|authorization)$"
    r"|^token$|(hub|hf|api|auth|access|bearer)[_-]token$",
    re.I,
)
_ELSEWHERE = {"trust_remote_code", "dtype", "attn_implementation", "revision"}


def load_options(path: str | Path, overrides: Sequence[str] = ()) -> RunOptions:
    """Read a configuration file and apply `key=value` overrides.

    Args:
        path: a YAML file, or the name of one in `dar_ref/configs`, without ".yaml".
        overrides: for example "training.learning_rate=1e-6", "lora=null"; the value is YAML, dots separate nested keys.

    Returns:
        `RunOptions`.

    Raises:
        FileNotFoundError: no such file, and no such name.
        ValueError: no YAML mapping, a key that is unknown or stands twice, a value of the wrong type, or options that
            do not fit.
    """
    return make_options(read_yaml(find_config(path)), overrides)


def make_options(content: Mapping[str, Any], overrides: Sequence[str] = ()) -> RunOptions:
    """Options from a mapping such as a YAML file gives, with `key=value` pairs on top; ValueError names every key that
    is unknown or wrong."""
    changed = copy.deepcopy(dict(content))  # what was passed stays as it is
    seen: list[list[str]] = []
    for override in overrides:
        key, equals, value = override.partition("=")
        keys = key.split(".")
        if not equals or not all(keys):
            raise ValueError(
                f"{shown(override)!r} is not an override; write key=value, for example training.max_steps=10"
            )
        for other in seen:
            if keys[: len(other)] == other or other[: len(keys)] == keys:
                raise ValueError(f"{shown(override)!r} and {'.'.join(other)}=... both set {key}; leave one of them out")
        seen.append(keys)
        try:
            _put(changed, keys, read_one_value(value))
        except ValueError as error:
            raise ValueError(f"{shown(override)!r}: {error}") from None
    try:
        text = json.dumps(_at_home(changed))
    except TypeError as error:
        raise ValueError(f"{error}; options are text, numbers, true, false, null, lists and mappings") from None
    try:
        return TypeAdapter(RunOptions).validate_json(text)  # from JSON, a list may be a tuple and a mapping a section
    except ValidationError as error:
        method = changed.get("method", "dar")
        raise ValueError("; ".join(_explain(e, method) for e in error.errors())) from None


def _at_home(content: Any) -> Any:
    """`content` with the home folder in the place of a leading `~` of every text."""
    if isinstance(content, dict):
        return {key: _at_home(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_at_home(value) for value in content]
    return os.path.expanduser(content) if isinstance(content, str) and content.startswith("~/") else content


def options_as_json(options: RunOptions) -> dict[str, Any]:
    """The options as JSON can hold them: mappings, lists, numbers, text. An infinite bound is the text "inf", a
    password or key `HIDDEN`."""
    content = json.loads(json.dumps(dataclasses.asdict(options)), parse_constant=lambda name: str(float(name)))
    return without_secrets(content)


plain = options_as_json  # old name, kept for programs that import it


def without_secrets(content: Any) -> Any:
    """`content` with `HIDDEN` in the place of every value whose name says that it is a password or key, and of user and
    password in an address."""
    if isinstance(content, dict):
        return {
            k: HIDDEN if v is not None and SECRET.search(str(k)) else without_secrets(v) for k, v in content.items()
        }
    if isinstance(content, str):
        return without_passwords(content)
    return [without_secrets(value) for value in content] if isinstance(content, list | tuple) else content


def shown(override: str) -> str:
    """An override as messages and `run.json` show it: without secrets.

    >>> shown("training.hub_token=hf_x"), shown("training.seed=1"), shown("methods.grpo={hub_token: hf_x}")
    ('training.hub_token=***', 'training.seed=1', 'methods.grpo={"hub_token": "***"}')
    """
    key, equals, text = override.partition("=")
    if SECRET.search(key.rpartition(".")[2]):
        return f"{key}={HIDDEN}" if equals else key
    try:
        value = read_value(text)
    except ValueError:
        return without_passwords(override)
    cleaned = without_secrets(value)
    return override if cleaned == value else f"{key}={json.dumps(cleaned)}"


def find_config(path: str | Path) -> Path:
    """The file `path`, or what `dar_ref/configs` has under that name; FileNotFoundError lists what is there.

    Only a bare name is looked up there: a path that was mistyped is no wish for another file.
    """
    bare = Path(path).name == str(path)
    for candidate in (Path(path), *([CONFIGS / f"{path}.yaml", CONFIGS / path] if bare else [])):
        if candidate.is_file():
            return candidate
    names = sorted(file.stem for file in CONFIGS.glob("*.yaml"))
    close = scalars.did_you_mean(scalars.close(str(path), names))
    raise FileNotFoundError(
        f"configuration {str(path)!r} is not a file; pass a YAML file or one of {', '.join(names)}{close}"
    )


def no_such_model(option: str, name: str, error: Exception) -> OSError:
    """The error for a model that is neither a folder here nor on the hub."""
    remedy = "check it, or download it where there is a network and pass its folder"
    if name == REAL_MODEL or "SmolLM2-135M-Instruct" in name:
        remedy = f"`make real-model` writes SmolLM2-135M-Instruct without a hub: pass model.name={REAL_MODEL} then"
    if name.endswith(".gguf"):
        remedy = FROM_GGUF
    return OSError(f"{option} = {name!r} is not a folder here, and the hub gives none of that name ({error}); {remedy}")


def _put(content: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    *sections, last = keys
    for section in sections:
        inner = content.setdefault(section, {})
        if inner is None:
            inner = content[section] = {}
        if not isinstance(inner, dict):
            raise ValueError(f"{'.'.join(keys)}: {section} = {inner!r} has no keys of its own")
        content = inner
    content[last] = value


def _explain(error: Mapping[str, Any], method: Any) -> str:
    place = ".".join(str(part) for part in error["loc"])
    given = without_secrets({place.rpartition(".")[2]: error["input"]})
    value = next(iter(given.values()))
    if error["type"] == "unexpected_keyword_argument":
        return (
            f"{place} = {value!r} is an unknown key{hint(place, method)}; see `dar-ref train --help` for the sections"
        )
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    if error["type"] == "missing":
        return f"{place} is missing; add it"
    if error["type"] == "dataclass_type" and place in SECTIONS:
        null = ", or null for none" if place in ("lora", "reward") else ""
        return f"{place} = {value!r} is not a section; write its keys ({', '.join(section_keys(place))}) below it{null}"
    return f"{place} = {value!r} {why([error], value)}"
