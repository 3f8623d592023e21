"""pi_0 and its tokenizer: find them, hash the weights, and load them without dropout and without remote code."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from huggingface_hub import snapshot_download
from peft import LoraConfig
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedTokenizerBase

from dar_ref.llm.checkpoint import content_hash
from dar_ref.llm.models.kinds import check_weights
from dar_ref.llm.models.tokenizers import load_tokenizer
from dar_ref.llm.models.whole import read_config, read_model
from dar_ref.llm.options import LoraOptions, ModelOptions, no_such_model

FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
DESCRIPTION = ["*.json", "*.model", "*.txt", "*.jinja"]


class InitialPolicy(NamedTuple):
    """pi_0 on disk. folder: config, weights and tokenizer; sha256: hash of config and weights, see `content_hash`."""

    folder: Path
    sha256: str


def model_folder(options: ModelOptions, weights: bool = True) -> Path:
    """The local folder of a model, downloaded from the hub if needed; `weights=False` is for a dry run.

    Raises:
        OSError: it is no folder and the hub does not have it, or cannot be reached.
        ValueError: it is an adapter, or quantised.
    """
    folder = Path(options.name) if Path(options.name).is_dir() else _fetched("model.name", options, weights)
    check_weights("model.name", folder)
    policy_config(options, folder)
    return folder


def sampler_folder(name: str, tokenizer: PreTrainedTokenizerBase, weights: bool = True) -> Path:
    """The local folder of the policy that wrote rated rows, downloaded if needed; `weights` as in `model_folder`.

    Raises:
        OSError, ValueError: as `model_folder`.
        ValueError: its tokens are others than those of `tokenizer`, so it could not score the same rows.
    """
    option = "methods.dar_offline.sampler"
    folder = Path(name) if Path(name).is_dir() else _fetched(option, ModelOptions(name), weights)
    check_weights(option, folder)
    read_config(f"{option} = {name!r}", folder)
    if load_tokenizer(str(folder)).get_vocab() != tokenizer.get_vocab():
        raise ValueError(
            f"{option} = {name!r} has other tokens than the policy, so it cannot score the same rows; give the rows"
            " old_logps, or take the sampler's model"
        )
    return folder


def _fetched(option: str, options: ModelOptions, weights: bool) -> Path:
    patterns = FILES if weights and not options.random_init else DESCRIPTION
    try:
        return Path(snapshot_download(options.name, revision=options.revision, allow_patterns=patterns))
    except (OSError, ValueError) as error:
        raise no_such_model(option, options.name, error) from error


def initial_policy(options: ModelOptions, seed: int, scratch: Path) -> InitialPolicy:
    """Find pi_0 and hash it. With `random_init`, first initialise its weights from `seed` and write them to `scratch`:
    TRL reads pi_0 from its folder a second time when all weights are trained.
    """
    folder = model_folder(options)
    if options.random_init:
        folder = _drawn(options, folder, seed, scratch)
    return InitialPolicy(folder, content_hash(folder))


def load_policy(options: ModelOptions, folder: Path) -> Any:
    """The policy before training, equal to pi_0.

    Raises:
        OSError: the folder has no config or no weights.
        ValueError: its weights are damaged, or not those of its config.
    """
    return read_model(
        f"model.name = {options.name!r}",
        AutoModelForCausalLM,
        folder,
        "they would be random; pass a whole causal language model",
        dtype=getattr(torch, options.dtype),
        attn_implementation=options.attn_implementation,
        trust_remote_code=options.trust_remote_code,
        quantization_config=quantization_config(options),
        **without_dropout(folder),
    )


def quantization_config(options: ModelOptions) -> BitsAndBytesConfig | None:
    """QLoRA's: NF4 with quantised scales, computed with in the dtype of the model; None without quantisation.

    Raises:
        ModuleNotFoundError: bitsandbytes is not installed.
    """
    if options.quantization is None:
        return None
    import_module("bitsandbytes")  # what transformers says if it is missing names no module
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=options.quantization,
        bnb_4bit_compute_dtype=getattr(torch, options.dtype),
        bnb_4bit_use_double_quant=True,
    )


def policy_tokenizer(options: ModelOptions, folder: Path) -> PreTrainedTokenizerBase:
    """The policy's tokenizer, with padding on the left. Without a padding token it pads with EOS, which is safe because
    masks come from lengths.

    Raises:
        OSError: no tokenizer can be read.
        ValueError: it has no EOS token.
    """
    tokenizer = load_tokenizer(str(folder), trust_remote_code=options.trust_remote_code)
    if tokenizer.eos_token_id is None:
        raise ValueError(
            f"the tokenizer of model.name = {options.name!r} has no EOS token, so no completion could end; name one as"
            " eos_token in its tokenizer_config.json"
        )
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def model_positions(options: ModelOptions, folder: Path) -> int | None:
    """How many positions the model of a folder has; None if its config does not say."""
    return getattr(policy_config(options, folder).get_text_config(), "max_position_embeddings", None)


def policy_config(options: ModelOptions, folder: Path) -> Any:
    """The config of a model, see `read_config`."""
    return read_config(f"model.name = {options.name!r}", folder, trust_remote_code=options.trust_remote_code)


def without_dropout(folder: Path) -> dict[str, float]:
    """Every dropout rate in a model's config, set to 0. Setting dropout modules to 0 would miss functional dropout."""
    content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    rates = (name for name, value in content.items() if isinstance(value, int | float) and not isinstance(value, bool))
    return {name: 0.0 for name in rates if "dropout" in name or "pdrop" in name or name == "layerdrop"}


def lora_config(options: LoraOptions | None) -> LoraConfig | None:
    """PEFT's configuration of the adapters; None if all weights are trained."""
    if options is None:
        return None
    modules = options.target_modules
    return LoraConfig(
        r=options.r,
        lora_alpha=options.alpha,
        lora_dropout=0.0,
        target_modules=modules if isinstance(modules, str) else list(modules),
        task_type="CAUSAL_LM",
    )


def _drawn(options: ModelOptions, folder: Path, seed: int, scratch: Path) -> Path:
    if not list(scratch.glob("*.safetensors")):
        config = policy_config(options, folder)
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(
            config, dtype=getattr(torch, options.dtype), trust_remote_code=options.trust_remote_code
        )
        partial = scratch.with_name(scratch.name + ".partial")
        policy_tokenizer(options, folder).save_pretrained(partial)
        model.save_pretrained(partial)
        partial.rename(scratch)  # whole or not at all
    return scratch
