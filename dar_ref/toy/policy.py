"""The policy: a tiny Hugging Face Qwen2, with a forward pass that shares each prompt among its completions.

The weights are ordinary transformers modules, so every model saves and loads as an ordinary folder. The forward pass
is our own, for speed, and tests compare it with that of transformers. A prompt is read once, and its keys and values
are repeated for its K completions. Sampling runs token by token, scoring in one pass; both skip what comes after EOS.
Differences from transformers: float32 only, full heads (no grouped queries), no dropout, all prompts of a batch have
one length, completions are padded on the right only. So padding needs no attention mask: causality hides it.

Shape letters: `N` prompts of `P` tokens, `K` completions each, `B = N*K`; `T` tokens per completion; `L` tokens of a
block, `H` width, `h` heads of `d` channels; `V` words; `M` tokens of any rows, without padding.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, Qwen2Model
from transformers.utils import logging

from dar_ref.toy.tasks import EOS, Task, Words

EOS_ID = 0
Cache = list[tuple[Tensor, Tensor]]  # per layer: keys and values, (B, h, L, d)


class Completions(NamedTuple):
    """Responses to N prompts, the K of each prompt side by side, without gradient.

    prompt_ids: (N, P); ids: (B, T), with EOS if the response has one, then EOS again as padding; mask: (B, T) bool,
    True up to and including the first EOS, made from lengths; finished: (B,) bool, False if cut off without EOS.
    """

    prompt_ids: Tensor
    ids: Tensor
    mask: Tensor
    finished: Tensor

    @property
    def num_generations(self) -> int:
        """K."""
        return len(self.ids) // len(self.prompt_ids)

    def of_prompts(self, rows: Tensor) -> "Completions":
        """The completions of the prompts `rows`, (M,) indices, in that order; a prompt may be repeated."""
        samples = self.samples(rows)
        return Completions(self.prompt_ids[rows], self.ids[samples], self.mask[samples], self.finished[samples])

    def samples(self, rows: Tensor) -> Tensor:
        """Indices of the completions of the prompts `rows`, (len(rows) * K,)."""
        return (rows[:, None] * self.num_generations + torch.arange(self.num_generations)).view(-1)


# --- words, ids, models -----------------------------------------------------------------------------------------------


def tokenizer(task: Task, extra: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """Tokenizer with one token per word, split at white space. `extra` words come after the task's; the last of them is
    the padding token, or EOS if there are none."""
    words = [*task.vocabulary, *extra]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=EOS))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token=EOS, pad_token=words[-1] if extra else EOS)


def encode_prompts(task: Task, prompts: Sequence[Words]) -> Tensor:
    """Prompts as ids, (N, P)."""
    ids = _ids(task)
    return torch.tensor([[ids[word] for word in prompt] for prompt in prompts])


def encode(task: Task, prompts: Sequence[Words], responses: Sequence[Words], finished: Sequence[bool]) -> Completions:
    """Responses in words as `Completions`; every prompt gets len(responses) / len(prompts) of them.

    Raises:
        ValueError: a response is longer than the task allows.
    """
    ids, longest = _ids(task), task.max_new_tokens
    rows, lengths = [], []
    for response, ended in zip(responses, finished, strict=True):
        row = [ids[word] for word in response] + [EOS_ID] * ended
        if len(row) > longest:
            raise ValueError(f"a response of {len(row)} tokens is too long for {task.name}: shorten it to {longest}")
        rows.append(row + [EOS_ID] * (longest - len(row)))
        lengths.append(len(row))
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    return Completions(encode_prompts(task, prompts), torch.tensor(rows), mask, torch.tensor(list(finished)))


def decode(task: Task, completions: Completions) -> list[list[str]]:
    """The words of each completion, without EOS."""
    lengths = completions.mask.sum(dim=1) - completions.finished.long()
    rows = zip(completions.ids.tolist(), lengths.tolist(), strict=True)
    return [[task.vocabulary[i] for i in row[:length]] for row, length in rows]


def new_policy(task: Task, hidden_size: int, num_layers: int, num_heads: int, seed: int) -> Qwen2ForCausalLM:
    """An untrained policy for the task's vocabulary."""
    torch.manual_seed(seed)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(task.vocabulary),
            hidden_size=hidden_size,
            intermediate_size=2 * hidden_size,
            num_hidden_layers=num_layers,
            num_attention_heads=num_heads,
            num_key_value_heads=num_heads,
            max_position_embeddings=task.prompt_length + task.max_new_tokens + 1,  # DPO ends every response with EOS
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=EOS_ID,
            pad_token_id=EOS_ID,
        )
    ).eval()


def save(model: Any, words: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a model and its tokenizer to a folder, as transformers does."""
    with _no_progress_bars():
        model.save_pretrained(folder)
    words.save_pretrained(folder)


def load(kind: Any, folder: Path) -> Any:
    """The model of class `kind` in a folder, in evaluation mode and without gradients."""
    with _no_progress_bars():
        return kind.from_pretrained(folder).eval().requires_grad_(False)


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Turn off the progress bar of transformers: these models load at once."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _ids(task: Task) -> dict[str, int]:
    return {word: i for i, word in enumerate(task.vocabulary)}


# --- the forward pass -------------------------------------------------------------------------------------------------


def completion_states(trunk: Qwen2Model, completions: Completions, tokens: Tensor | None = None) -> Tensor:
    """Final states at the prompt's last token and at each token of the completion, (B, T+1, H).

    State `t` has seen the prompt and `t` tokens, so it predicts token `t` (counted from 0). State `length` has seen the
    whole completion. Only kept tokens are read, so padding costs nothing; states after the end are 0.

    Args:
        trunk: of a policy, a reward model or a critic.
        completions: K per prompt.
        tokens: (B, T) bool, which tokens to read; by default the kept ones.
    """
    layers, config = pack(trunk), trunk.config
    batch, length = completions.ids.shape
    places = (completions.mask if tokens is None else tokens).flatten().nonzero()[:, 0]  # (M,), indices into B * T
    states, cache = block(trunk, layers, completions.prompt_ids, [])  # (N, P, H)
    last, cache = repeat(states[:, -1], cache, completions.num_generations)  # (B, H)
    start = completions.prompt_ids.shape[1]
    seen = torch.ones(length, start + length, dtype=torch.bool).tril(start)

    def attend(number: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key, value = (
            x.new_zeros(batch * length, config.hidden_size)
            .index_copy_(0, places, x.flatten(1))
            .view(batch, length, *x.shape[1:])
            .transpose(1, 2)
            for x in (query, key, value)
        )  # (B, h, T, d), 0 at tokens that are not read
        key, value = torch.cat([cache[number][0], key], dim=2), torch.cat([cache[number][1], value], dim=2)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        return attended.transpose(1, 2).reshape(batch * length, config.hidden_size).index_select(0, places)

    read_states = read(trunk, layers, completions.ids.flatten()[places], start + places % length, attend)  # (M, H)
    behind = places + places // length + 1  # rows have T + 1 states: state 0 is that of the prompt
    states = last.new_zeros(batch * (length + 1), config.hidden_size).index_copy_(0, behind, read_states)
    return torch.cat([last[:, None], states.view(batch, length + 1, -1)[:, 1:]], dim=1)


def completion_logits(policy: Qwen2ForCausalLM, completions: Completions) -> Tensor:
    """Logits that each token of the completions is sampled from, (B, T, V); those of padding have no meaning."""
    return policy.lm_head(completion_states(policy.model, completions, before_last(completions.mask))[:, :-1])


def before_last(mask: Tensor) -> Tensor:
    """All kept tokens but the last of each completion, (B, T) bool: the logits of kept tokens depend on no others."""
    return torch.cat([mask[:, 1:], torch.zeros_like(mask[:, :1])], dim=1)


def per_token_logps(policy: Qwen2ForCausalLM, completions: Completions) -> Tensor:
    """Log-probs of the tokens at temperature 1, as in sampling, (B, T); 0 at masked tokens."""
    logps = completion_logits(policy, completions).log_softmax(dim=-1)  # (B, T, V)
    return torch.where(completions.mask, logps.gather(-1, completions.ids[..., None])[..., 0], 0.0)


class Layer(NamedTuple):
    """Weights of one layer. Matrices that multiply the same input are joined into one."""

    attention_norm: Tensor
    qkv: Tensor
    qkv_bias: Tensor
    out: Tensor
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor


def pack(trunk: Qwen2Model) -> list[Layer]:
    """The layers' weights as `block` needs them. Gradients flow back to the module's parameters."""
    packed = []
    for layer in trunk.layers:
        attention, mlp = layer.self_attn, layer.mlp
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        packed.append(
            Layer(
                layer.input_layernorm.weight,
                torch.cat([p.weight for p in projections]),
                torch.cat([p.bias for p in projections]),
                attention.o_proj.weight,
                layer.post_attention_layernorm.weight,
                torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]),
                mlp.down_proj.weight,
            )
        )
    return packed


def block(trunk: Qwen2Model, layers: Sequence[Layer], ids: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
    """Read `ids` (B, L) after the tokens in `cache`, which may be empty. Return states (B, L, H) and the new cache."""
    batch, length = ids.shape
    start = cache[0][0].shape[2] if cache else 0
    seen = torch.ones(length, start + length, dtype=torch.bool).tril(start) if length > 1 else None
    longer: Cache = []

    def attend(number: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key, value = (x.view(batch, length, *x.shape[1:]).transpose(1, 2) for x in (query, key, value))
        if cache:
            key, value = torch.cat([cache[number][0], key], dim=2), torch.cat([cache[number][1], value], dim=2)
        longer.append((key, value))
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)  # (B, h, L, d)
        return attended.transpose(1, 2).reshape(batch * length, -1)

    positions = torch.arange(start, start + length).expand(batch, length).reshape(-1)
    return read(trunk, layers, ids.flatten(), positions, attend).view(batch, length, -1), longer


def read(
    trunk: Qwen2Model, layers: Sequence[Layer], ids: Tensor, positions: Tensor, attend: Callable[..., Tensor]
) -> Tensor:
    """The network, with attention given by the caller: states (M, H) of the tokens `ids` (M,) at `positions` (M,).

    `attend(number, query, key, value)` is the attention of layer `number`: it maps three (M, h, d) to (M, H).
    """
    config = trunk.config
    cos, sin = (table[positions] for table in _rotation(config))
    states = trunk.embed_tokens(ids)  # (M, H)
    for number, layer in enumerate(layers):
        mixed = F.linear(_norm(states, layer.attention_norm, config), layer.qkv, layer.qkv_bias)
        heads = mixed.view(len(ids), 3, config.num_attention_heads, cos.shape[-1])
        rotated, value = heads.split_with_sizes([2, 1], dim=1)
        query, key = _rotate(rotated, cos, sin).unbind(dim=1)
        attended = attend(number, query, key, value[:, 0])
        states = states + F.linear(attended, layer.out)
        gate, up = F.linear(_norm(states, layer.mlp_norm, config), layer.gate_up).chunk(2, dim=-1)
        states = states + F.linear(F.silu(gate) * up, layer.down)
    return _norm(states, trunk.norm.weight, config)


def repeat(states: Tensor, cache: Cache, times: int) -> tuple[Tensor, Cache]:
    """Repeat states (N, ...) and cache of N prompts for `times` completions each, side by side: (N * times, ...)."""
    again = [(key.repeat_interleave(times, dim=0), value.repeat_interleave(times, dim=0)) for key, value in cache]
    return states.repeat_interleave(times, dim=0), again


def _norm(states: Tensor, weight: Tensor, config: Qwen2Config) -> Tensor:
    return F.rms_norm(states, (config.hidden_size,), weight, config.rms_norm_eps)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([second, first], dim=-1) * sin


def _rotation(config: Qwen2Config) -> tuple[Tensor, Tensor]:
    channels = config.hidden_size // config.num_attention_heads
    return _rotation_table(config.rope_parameters["rope_theta"], channels, config.max_position_embeddings)


@functools.cache
def _rotation_table(theta: float, channels: int, length: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of rotary position embedding, (length, 1, 1, d) each (Su et al., arXiv 2104.09864). The sines
    have the signs with which the halves of the channels are added to each other."""
    frequency = 1.0 / theta ** (torch.arange(0, channels, 2, dtype=torch.float32) / channels)
    angles = torch.arange(length, dtype=torch.float32)[:, None, None, None] * frequency
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)
