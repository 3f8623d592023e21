"""Measure a checkpoint of a real task: sample answers to the test prompts, score them under the policy and pi_0, judge.

Everything is drawn at temperature 1 from the policy that was trained, so log-probs are those of the sampler. `N` test
prompts with one answer each, `T` tokens.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from transformers import GenerationConfig

from dar_ref.evaluation import repetition
from dar_ref.llm.real.prompts import TASKS
from dar_ref.llm.scoring import positions
from dar_ref.losses import sequence_logps

ROWS_AT_ONCE = 24


class Answer(NamedTuple):
    """One completion. ids: with EOS if it ended; logp, ref_logp: log-probs under the policy and pi_0, summed, nats."""

    text: str
    ids: list[int]
    ended: bool
    logp: float
    ref_logp: float

    @property
    def fluency(self) -> float:
        """Mean log-prob of a token under pi_0, nats."""
        return self.ref_logp / max(len(self.ids), 1)


def with_adapter(base: Any, checkpoint: Path | None) -> Any:
    """`base` with the adapter of a checkpoint; None leaves it as it is, pi_0."""
    return base if checkpoint is None else PeftModel.from_pretrained(base, str(checkpoint)).eval()


def complete(model: Any, tokenizer: Any, prompts: Sequence[str], tokens: int, seed: int | None) -> list[Answer]:
    """Answers to prompts that are written in the chat template: sampled with a seed, or greedy with None.

    Args:
        model: pi_0, or an adapter on it.
        tokenizer: padding on the left.
        prompts: texts as the model reads them.
        tokens: the most that are sampled.
        seed: of torch's generator.
    """
    config = GenerationConfig(
        max_new_tokens=tokens,
        do_sample=seed is not None,
        **({} if seed is None else {"temperature": 1.0, "top_k": 0, "top_p": 1.0}),
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    if seed is not None:
        torch.manual_seed(seed)
    found: list[Answer] = []
    for start in range(0, len(prompts), ROWS_AT_ONCE):
        texts = list(prompts[start : start + ROWS_AT_ONCE])
        encoded = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(model.device)
        with torch.inference_mode():
            ids = model.generate(**encoded, generation_config=config)
            found += _scored(model, tokenizer, ids, encoded["attention_mask"])
    return found


def _scored(model: Any, tokenizer: Any, ids: torch.Tensor, prompt_mask: torch.Tensor) -> list[Answer]:
    """The answers in `ids` (N, prompt + T), up to their first EOS."""
    completion = ids[:, prompt_mask.shape[1] :]
    is_eos = completion == tokenizer.eos_token_id
    mask = is_eos.cumsum(dim=1) - is_eos.long() == 0  # (N, T): up to and including the first EOS
    attention_mask = torch.cat([prompt_mask, mask.long()], dim=1)
    logp = _logps(model, ids, attention_mask, mask)
    if isinstance(model, PeftModel):
        with model.disable_adapter():
            ref_logp = _logps(model, ids, attention_mask, mask)
    else:
        ref_logp = logp
    kept = [row[keep].tolist() for row, keep in zip(completion, mask, strict=True)]
    texts = tokenizer.batch_decode(kept, skip_special_tokens=True)
    ended = is_eos.any(dim=1).tolist()
    return [Answer(*row) for row in zip(texts, kept, ended, logp.tolist(), ref_logp.tolist(), strict=True)]


def _logps(model: Any, ids: torch.Tensor, attention_mask: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Log-prob of each completion (N,), summed over the tokens that `mask` (N, T) keeps."""
    length = mask.shape[1]
    logits = model(
        input_ids=ids, attention_mask=attention_mask, position_ids=positions(attention_mask), logits_to_keep=length + 1
    ).logits[:, :-1]
    per_token = logits.log_softmax(dim=-1).gather(-1, ids[:, -length:, None])[..., 0]
    return sequence_logps(per_token, mask)


def of_tokens(found: Sequence[Answer]) -> list[dict[str, Any]]:
    """Text and token measures of each answer, as `measured.json` keeps them: what no judge has a say in."""
    repeated = repetition([answer.ids for answer in found], ngram=2)  # an answer is short
    return [
        {
            "text": answer.text,
            "fluency": answer.fluency,
            "kl": answer.logp - answer.ref_logp,
            "length": len(answer.ids),
            "missing_eos": float(not answer.ended),
            "repetition": float(share),
        }
        for answer, share in zip(found, repeated, strict=True)
    ]


def judged(task: str, rows: Sequence[dict[str, Any]], kept: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """Proxy and gold of each answer, and what gold is made of.

    Args:
        task: one of `TASKS`.
        rows: of the test split, in the order of the answers.
        kept: the answers, see `of_tokens`.
    """
    judge = TASKS[task].judge
    return [judge(row, answer["text"]) for row, answer in zip(rows, kept, strict=True)]
