"""A sequence-classification reward model, with its own tokenizer and its own chat template.

The score is the model's only logit, at the last token of the text. The length of the text says which token that is, not
a search for padding: padding may be the same token as EOS. For models with a linear head `score`, this module selects
the hidden state and runs the head in float32. Other classes (encoders, which pool in their own way) give their logit.

Two differences from TRL's handling of a reward model: plain text gets the tokenizer's special tokens (a chat template
writes its own), and a text that is too long stays unscored instead of being cut or overflowing.

Shape letters: `B` texts of a batch, `T` tokens of the longest, `H` width.
"""

import contextlib
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification
from transformers.integrations import deepspeed

from dar_ref.llm.checkpoint import content_hash
from dar_ref.llm.models.kinds import check_weights
from dar_ref.llm.models.tokenizers import by_template, load_tokenizer, tokenizer_hash, unknown_id
from dar_ref.llm.models.whole import read_config, read_model
from dar_ref.llm.options import RewardOptions, no_such_model
from dar_ref.llm.rewards import Text

NO_LIMIT = 10**9  # tokenizers write "no maximum length" as 10**30


class RewardModel:
    """Scores prompts and completions, plain or chat, with the model `options.name`.

    The constructor reads tokenizer and configuration, `load()` the weights. `counts`: too_long, texts left unscored
    because they have more than `max_tokens` tokens; unknown_words, texts with a word that the tokenizer does not know.

    Raises:
        OSError: no model or tokenizer of that name.
        ValueError: not exactly one label, a head without weights (in `load`), or `append_eos` and no EOS token.
    """

    def __init__(self, options: RewardOptions, device: str | torch.device) -> None:
        where: dict[str, Any] = {"revision": options.revision, "trust_remote_code": options.trust_remote_code}
        check_weights("reward.name", options.name)
        try:
            config = read_config(f"reward.name = {options.name!r}", options.name, **where)
        except OSError as error:
            raise no_such_model("reward.name", options.name, error) from error
        if config.num_labels != 1:
            raise ValueError(
                f"reward.name = {options.name!r} has {config.num_labels} labels; a reward model has one: pass a"
                " sequence-classification model trained with num_labels = 1"
            )
        self.options, self.device, self.counts = options, torch.device(device), Counter[str]()
        self._commit = getattr(config, "_commit_hash", None)  # of the hub
        self.tokenizer: Any = load_tokenizer(options.name, **where)
        if options.append_eos and self.tokenizer.eos_token_id is None:
            raise ValueError(
                f"the tokenizer of {options.name!r} has no EOS to end a text with; set reward.append_eos=false"
            )
        limits = (self.tokenizer.model_max_length, getattr(config.get_text_config(), "max_position_embeddings", None))
        self.max_tokens = min((limit for limit in limits if limit is not None and 0 < limit < NO_LIMIT), default=None)
        self._unknown = unknown_id(self.tokenizer)
        self._unknown_word = "" if self._unknown is None else self.tokenizer.convert_ids_to_tokens(self._unknown)
        self._model: Any = None

    def load(self) -> "RewardModel":
        """Read the weights: from safetensors only, complete on every process, in evaluation mode, without gradients.

        Raises:
            ValueError: weights that are missing or damaged, or no padding token where the model needs one.
        """
        options, dtype = self.options, getattr(torch, self.options.dtype)
        with _unsharded():
            model = read_model(
                f"reward.name = {options.name!r}",
                AutoModelForSequenceClassification,
                options.name,
                "scores would be random; pass a trained reward model",
                revision=options.revision,
                trust_remote_code=options.trust_remote_code,
                dtype=dtype,
            )
        self._model = model.to(self.device).eval().requires_grad_(False)
        if isinstance(getattr(model, "score", None), nn.Linear):
            model.score.to(torch.promote_types(dtype, torch.float32))
        elif self.tokenizer.pad_token_id is None:
            raise ValueError(
                f"{type(model).__name__} finds the end of a text by its padding, but the tokenizer of {options.name!r}"
                " has no padding token; add one to the tokenizer"
            )
        return self

    def content(self) -> str:
        """A hash of the weights in a folder, or the commit of the hub, and of the tokenizer."""
        folder = Path(self.options.name)
        weights = content_hash(folder) if folder.is_dir() else str(self._commit)
        return f"{weights} {tokenizer_hash(self.tokenizer)}"

    def render(self, prompt: Text, completion: Text, ended: bool) -> str:
        """The text that is scored; EOS is shown where it is appended."""
        text, is_plain = self._text(prompt, completion), isinstance(prompt, str)
        return text + self.tokenizer.eos_token if is_plain and ended and self.options.append_eos else text

    def score(self, prompts: Sequence[Text], completions: Sequence[Text], ended: Sequence[bool]) -> list[float | None]:
        """The reward of each completion; None where the text is longer than the model reads.

        Raises:
            ValueError: the prompts are chats and the tokenizer has no chat template.
        """
        if self._model is None:
            self.load()
        rows = [self._ids(*row) for row in zip(prompts, completions, ended, strict=True)]
        kept = [i for i, ids in enumerate(rows) if self.max_tokens is None or len(ids) <= self.max_tokens]
        self.counts["too_long"] += len(rows) - len(kept)
        scores: list[float | None] = [None] * len(rows)
        kept.sort(key=lambda i: -len(rows[i]))  # similar lengths together: less padding
        for begin in range(0, len(kept), self.options.batch_size):
            batch = kept[begin : begin + self.options.batch_size]
            for i, value in zip(batch, self._scores([rows[i] for i in batch]).tolist(), strict=True):
                scores[i] = value
        return scores

    def _text(self, prompt: Text, completion: Text) -> str:
        if isinstance(prompt, str) and isinstance(completion, str):
            return prompt + self.options.separator + completion
        if self.tokenizer.chat_template is None:
            raise ValueError(
                f"the tokenizer of {self.options.name!r} has no chat template and the prompts are chats; set"
                " data.format=plain, or pass a reward model for chat"
            )
        return by_template(self.tokenizer, [*prompt, *completion], of=f"reward.name = {self.options.name!r}")

    def _ids(self, prompt: Text, completion: Text, ended: bool) -> list[int]:
        text, is_plain = self._text(prompt, completion), isinstance(prompt, str)
        ids = self.tokenizer(text, add_special_tokens=is_plain, verbose=False)["input_ids"]
        if self._unknown in ids:
            self._count_unknown(text)
        eos = self.tokenizer.eos_token_id
        return [*ids, eos] if is_plain and ended and self.options.append_eos and ids[-1:] != [eos] else ids

    def _count_unknown(self, text: str) -> None:
        """Count texts with unknown words and warn at the first. The id alone is not enough: the unknown token may be
        written in the text, or be the EOS token."""
        ids = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if self._unknown_word in text or self._unknown not in ids:
            return
        if not self.counts["unknown_words"]:
            warnings.warn(
                f"the tokenizer of the reward model {self.options.name!r} does not know every word of {text!r}; if"
                " prompt and completion run together, set reward.separator",
                stacklevel=2,
            )
        self.counts["unknown_words"] += 1

    @torch.no_grad()
    def _scores(self, rows: Sequence[list[int]]) -> Tensor:
        """Scores of the texts, (B,). Padding is on the right, whatever the tokenizer's setting is."""
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0
        lengths = torch.tensor([len(ids) for ids in rows])
        width = int(lengths.max())
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=self.device)  # (B, T)
        mask = (torch.arange(width) < lengths[:, None]).long().to(self.device)
        with torch.autocast(self.device.type, enabled=False):
            if not isinstance(getattr(self._model, "score", None), nn.Linear):
                return self._model(input_ids=ids, attention_mask=mask).logits[:, 0].float()
            states = self._model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
            last = states[torch.arange(len(rows)), lengths - 1]  # (B, H)
            head = self._model.score
            return head(last.to(head.weight.dtype))[:, 0]


@contextlib.contextmanager
def _unsharded() -> Iterator[None]:
    """Load complete weights although the policy is sharded: DeepSpeed ZeRO-3 and FSDP's RAM-efficient loading change
    every `from_pretrained` of the process, and nothing would gather the weights of a reward model."""
    lean, zero3 = os.environ.get("FSDP_CPU_RAM_EFFICIENT_LOADING"), deepspeed._hf_deepspeed_config_weak_ref
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "False"
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = zero3
        if lean is None:
            del os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"]
        else:
            os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = lean
