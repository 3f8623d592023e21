"""Sampling for an evaluation: each answer has random numbers of its own, so it does not depend on its batch.

    token = arg max (logits / temperature + Gumbel noise)

is a sample of the softmax (Gumbel's trick), and the noise of a row comes from a generator with a seed of its own: the
hash of the seed, the policy's name, the prompt's id and the number of the answer. So a prompt gets the same answer
beside others, alone, after a stop, and on another device, up to rounding: a batch of another shape adds in another
order, and where two tokens are as good as equal the other one may win. Two policies get different noise: a win rate is
one of independent answers, and with the same noise close policies would mostly tie. No top-k and no top-p, whatever a
model's generation_config says: the policy is what was trained.
"""

import dataclasses
import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from dar_ref import scalars
from dar_ref.llm.evaluate.store import Row
from dar_ref.llm.models.kinds import check_positions
from dar_ref.llm.models.prompts import PromptReader
from dar_ref.llm.options import RunOptions
from dar_ref.llm.plan.settings import GENERATION

NAMES = ("max_completion_length", "max_new_tokens", "temperature")  # the second is online DPO's
SMALLEST = torch.finfo(torch.float64).tiny


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How answers are drawn. samples: of each prompt; batch_size: answers at once; the others as in a configuration."""

    max_new_tokens: int
    temperature: float
    template: Mapping[str, Any]
    samples: int = 1
    seed: int = 0
    batch_size: int = 16

    def head(self) -> dict[str, Any]:
        """What an answer depends on; the size of a batch is not among it."""
        return {k: v for k, v in dataclasses.asdict(self).items() if k != "batch_size"}


def sampling_of(options: RunOptions, samples: int, seed: int, batch_size: int) -> Sampling:
    """The sampling of a run's configuration.

    Raises:
        ValueError, TypeError: an option that does not fit.
    """
    from dar_ref.llm.build import classes, named_options  # loads TRL

    config_class = classes(options.method)[0]
    defaults = {name: getattr(config_class, name) for name in NAMES if hasattr(config_class, name)}
    given = {**GENERATION, **defaults, **options.generation, **named_options(options)}  # the last refuses other names
    longest = given["max_new_tokens" if "max_new_tokens" in given else "max_completion_length"]
    return Sampling(
        scalars.integer("generation.max_completion_length", longest, 1),
        scalars.non_negative("generation.temperature", given["temperature"], single=True),
        given.get("chat_template_kwargs") or {},
        scalars.integer("--samples", samples, 1),
        scalars.integer("--seed", seed, 0),
        scalars.integer("--batch-size", batch_size, 1),
    )


class Sampler:
    """One policy with its tokenizer: texts in, rows out."""

    def __init__(self, name: str, policy: Any, tokenizer: Any, drawn: Sampling, positions: int | None) -> None:
        from dar_ref.llm.train import eos_token_ids  # loads TRL

        self.name, self.policy, self.tokenizer, self.drawn, self.positions = name, policy, tokenizer, drawn, positions
        self.reader, self.eos = PromptReader(tokenizer, drawn.template), eos_token_ids(policy, tokenizer)

    def read(self, rows: Sequence[Row]) -> list[list[int]]:
        """Tokens of the prompts; ValueError if one and its answer exceed the model's positions."""
        ids = [prompt.ids for prompt in self.reader.read([row["prompt"] for row in rows])]
        check_positions(max(map(len, ids)), self.drawn.max_new_tokens, self.positions, self.reader.of)
        return ids

    def rows(self, rows: Sequence[Row], samples: Sequence[int]) -> list[Row]:
        """A completion of each row's prompt: the row with `sample`, `completion`, `ids` and `finished`."""
        drawn = self.drawn
        answers = sample(
            self.policy,
            self.read(rows),
            [row_seed(drawn.seed, self.name, row["id"], k) for row, k in zip(rows, samples, strict=True)],
            pad=self.tokenizer.pad_token_id,
            eos=self.eos,
            max_new_tokens=drawn.max_new_tokens,
            temperature=drawn.temperature,
        )
        texts = self.tokenizer.batch_decode(answers, skip_special_tokens=True)
        return [
            {**row, "sample": k, "completion": text, "ids": ids, "finished": ids[-1] in self.eos}
            for row, k, text, ids in zip(rows, samples, texts, answers, strict=True)
        ]


class RowNoise(LogitsProcessor):  # type: ignore[misc]
    """Adds Gumbel noise to the logits / temperature of each row, (B, V), from the row's own generator."""

    def __init__(self, seeds: Sequence[int], temperature: float) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]  # on the CPU: alike on all devices
        self.temperature = temperature

    def __call__(self, _ids: Tensor, scores: Tensor) -> Tensor:
        width = scores.shape[-1]
        uniform = torch.stack([torch.rand(width, generator=g, dtype=torch.float64) for g in self.generators])
        noise = -uniform.clamp_(min=SMALLEST).log_().neg_().log_()
        return scores.float() / self.temperature + noise.float().to(scores.device)


def row_seed(seed: int, policy: str, prompt: str, sample: int) -> int:
    """The seed of one answer."""
    digest = hashlib.sha256(f"{seed} {sample} {policy} {prompt}".encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:7], "big")


@torch.no_grad()
def sample(
    policy: Any,
    prompts: Sequence[list[int]],
    seeds: Sequence[int],
    *,
    pad: int,
    eos: Collection[int],
    max_new_tokens: int,
    temperature: float,
) -> list[list[int]]:
    """The tokens of one answer to each prompt, EOS included where it ended.

    Args:
        policy: in evaluation mode.
        prompts: B token lists.
        seeds: B, from `row_seed`.
        pad: id of the padding token, at least 0.
        eos: ids that end an answer.
        max_new_tokens: of an answer, EOS included.
        temperature: above 0; 0 takes the likeliest token.
    """
    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in prompts], device=policy.device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts], device=policy.device)
    config = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=pad, eos_token_id=sorted(eos), use_cache=True
    )
    noise = LogitsProcessorList([RowNoise(seeds, temperature)] if temperature > 0 else [])
    policy.generation_config = config  # its own top-k and so on would be merged in
    out = policy.generate(input_ids=ids, attention_mask=mask, generation_config=config, logits_processor=noise)
    return [until_eos(row, eos) for row in out[:, width:].tolist()]


def until_eos(ids: list[int], eos: Collection[int]) -> list[int]:
    """The tokens up to the first EOS, which is kept."""
    end = next((i for i, token in enumerate(ids) if token in eos), len(ids))
    return ids[: end + 1]
