"""Log-probs of the sampled tokens, read off the sampler while it samples: no forward is spent on them.

transformers draws a token from logits that it has anyway. A logits processor keeps these logits until the token that
was drawn from them is known, one step later. It changes nothing. transformers holds these logits as long itself; the
sum over the vocabulary is taken for a part of the rows at a time, so it needs little memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

PARTS = 8  # of the rows, summed one after the other


class Recorder(LogitsProcessor):  # type: ignore[misc]
    """Keeps the log-prob of each token that is drawn at `temperature`; `logps` holds one tensor (rows,) per token."""

    def __init__(self, temperature: float) -> None:
        self.temperature, self.logps = temperature, list[Tensor]()
        self._logits: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Read the last token's log-prob, and keep the logits of the next."""
        self.read(input_ids)
        self._logits = scores
        sums = [torch.logsumexp(part / self.temperature, dim=-1) for part in scores.chunk(PARTS)]
        self._norm = torch.cat(sums)
        return scores

    def read(self, ids: Tensor) -> None:
        """Log-prob of the last of the ids (rows, length), drawn from the logits that were kept."""
        if self._logits is not None:
            drawn = self._logits.gather(1, ids[:, -1:].to(self._logits.device))[:, 0]
            self.logps.append(drawn / self.temperature - self._norm)
            self._logits = None

    def rows(self) -> list[list[float]]:
        """Log-probs of each row's tokens; behind its end those of padding."""
        return torch.stack(self.logps, dim=1).tolist() if self.logps else []


@contextmanager
def recording(model: Any, temperature: float) -> Iterator[Recorder]:
    """Record what `model.generate` draws inside this block."""
    recorder, generate = Recorder(temperature), model.generate
    patched = "generate" in vars(model)

    def recorded(*positional: Any, **named: Any) -> Any:
        ids = generate(*positional, **named, logits_processor=LogitsProcessorList([recorder]))
        recorder.read(ids)
        return ids

    model.generate = recorded
    try:
        yield recorder
    finally:
        if patched:
            model.generate = generate
        else:
            del model.generate
