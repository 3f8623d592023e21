"""Bytes that the tensors of a run take: optimizer state, activations, logits, cache. Pure functions, one formula each.

Each formula counts tensors that exist at once in the code that runs (transformers 5, TRL 1.16, torch 2.13);
`tests/llm/plan/test_tensors.py` compares it with that code. `dar_ref.llm.plan.peaks` adds them up. Not counted: what
the allocator rounds up, workspaces of matrix libraries, the driver. A stated constant stands for those, the overhead.

Letters: `n` tokens of a micro-batch (rows x length), `H` hidden_size, `I` intermediate_size, `h` heads, `d` head_dim,
`V` vocab_size, `r` rank of LoRA. All results are whole bytes.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dar_ref.llm.plan.architecture import Architecture

BYTES = {"bfloat16": 2, "float16": 2, "float32": 4, "float64": 8}
F32, INT64 = 4, 8
TILE_ROWS, TILE_WIDTH = 4096, 32768  # trl.kernels.chunked_logprob.TOKEN_CHUNK_SIZE, trl.trainer.utils's chunk size
RECORDED_PARTS = 8  # dar_ref.llm.sampler.PARTS
BLOCK_8BIT, LEAST_8BIT = 256, 4096  # bitsandbytes: entries per scale; smaller tensors keep a float32 state
OPTIMIZERS = ("adamw_torch", "adamw_torch_fused", "adafactor", "adamw_8bit", "sgd")


@dataclass(frozen=True)
class Types:
    """Bytes per entry of each kind of tensor.

    weights: of the model, and so of the stream between layers; compute: of matrix products, which autocast sets;
    adapters: of LoRA's matrices, None when all weights are trained. PEFT makes adapters float32 whatever the model is
    (`autocast_adapter_dtype`); TRL turns that off under ZeRO-3.
    """

    weights: int
    compute: int
    autocast: bool
    adapters: int | None = None

    @property
    def trained(self) -> int:
        """Bytes per entry of what is trained, and of its gradient."""
        return self.weights if self.adapters is None else self.adapters

    @property
    def adapter_compute(self) -> int:
        """Bytes per entry of what LoRA's matrices compute: set by autocast, otherwise their own type."""
        return self.compute if self.autocast else self.trained


@dataclass(frozen=True)
class Lora:
    """Adapters: rank, and the full names of the linear layers that have one."""

    rank: int
    targets: frozenset[str]

    def shapes(self, architecture: Architecture) -> list[tuple[int, ...]]:
        """Shapes of all adapter matrices: A (r, in) and B (out, r) of each target."""
        sizes = [size for name, size in architecture.linears.items() if name in self.targets]
        return [shape for inputs, outputs in sizes for shape in ((self.rank, inputs), (outputs, self.rank))]

    def kinds(self, architecture: Architecture) -> set[str]:
        """Last parts of the targets' names, for example q_proj; the same in every layer."""
        return {name.split(".")[-1] for name in architecture.linears if name in self.targets}


def count(shapes: Iterable[Sequence[int]]) -> int:
    """Entries of all shapes together."""
    return sum(map(math.prod, shapes))


def share(total: int, devices: int) -> int:
    """What one device holds of `total` when it is split; the last device may hold less."""
    return -(-total // devices)


# --- optimizer --------------------------------------------------------------------------------------------------------


def optimizer_bytes(optim: str, shapes: Sequence[Sequence[int]], trained: int) -> int:
    """State that the optimizer keeps from step to step.

    adamw_torch, adamw_torch_fused: two moments in the parameter's type (torch.optim.AdamW) and a float32 step each.
    adafactor: row and column means of squares in float32, the whole in float32 for vectors (transformers.Adafactor, no
    first moment). adamw_8bit: two moments of one byte, with a float32 scale for 256 entries; small tensors in float32.
    sgd: nothing, since Trainer gives it no momentum.
    """
    if optim in ("adamw_torch", "adamw_torch_fused"):
        return 2 * count(shapes) * trained + F32 * len(shapes)
    if optim == "adafactor":
        return sum(F32 * _factored(shape) for shape in shapes)
    if optim == "adamw_8bit":
        return sum(_moments_8bit(math.prod(shape)) for shape in shapes)
    return 0


def step_bytes(optim: str, shapes: Sequence[Sequence[int]], trained: int, *, cuda: bool) -> int:
    """What an optimizer step needs for a moment beside weights, gradients and optimizer state.

    adamw_torch: sqrt(v) / correction for all parameters at once where torch has foreach kernels (CUDA), and for one
    after the other elsewhere, where the root and the quotient exist together. adafactor: the squared gradient or
    update and its successor, in float32, and float32 copies of gradient and parameter if those are narrower.
    """
    largest = max((math.prod(shape) for shape in shapes), default=0)
    if optim == "adamw_torch":
        return count(shapes) * trained if cuda else 2 * largest * trained
    if optim == "adafactor":
        return largest * F32 * (2 if trained == F32 else 4)
    return 0


def _factored(shape: Sequence[int]) -> int:
    if len(shape) < 2:
        return math.prod(shape)
    return math.prod(shape[:-1]) + math.prod([*shape[:-2], shape[-1]])


def _moments_8bit(entries: int) -> int:
    if entries < LEAST_8BIT:
        return 2 * F32 * entries
    return 2 * (entries + F32 * -(-entries // BLOCK_8BIT))


# --- activations ------------------------------------------------------------------------------------------------------


def layer_saved(a: Architecture, t: Types, lora: Lora | None, rows: int, length: int) -> int:
    """What autograd keeps of one decoder layer from its forward to its backward.

    Prompts are padded, so attention has a mask: transformers repeats k and v for every head, and torch makes a mask of
    numbers for each layer. Without autocast and LoRA, each of the two norms keeps its input, 1/rms, the normalised
    input and the output (which the projections share); attention keeps q, k, v, its output and a float32 log-sum-exp
    per head; the MLP keeps gate, up, silu(gate) and their product. Differences: a frozen weight needs neither the
    normalised input nor the output, but each adapted layer keeps its input and A's output; where types differ, each
    projection keeps a copy of its own. With soft-capped scores, attention is computed whole: it keeps the cap's output
    and the probabilities, in float32 and as they are used. Experts keep each token's input and output once for each of
    its experts.
    """
    n, width = rows * length, a.heads * a.head_dim
    given = F32 if a.wide_norms else t.weights  # what a norm's weight is multiplied with
    norms = a.norms * _norm_saved(n, a.hidden_size, t, given)
    inputs = _inputs_saved(n, a, t, lora, ("q_proj", "k_proj", "v_proj"))
    inputs += _inputs_saved(n, a, t, lora, ("gate_proj", "up_proj"))
    attention = n * t.compute * 4 * width
    attention += scores_bytes(a, rows, length) or n * F32 * a.heads + rows * length * length * t.compute
    if a.qk_norm:
        given = F32 if a.wide_norms else t.compute
        for heads in (a.heads, a.kv_heads):
            each = (n, heads * a.head_dim) if a.whole_qk_norm else (n * heads, a.head_dim)
            attention += _norm_saved(*each, t, given)
    mlp = n * t.compute * (3 * a.intermediate_size + 2 * a.experts_per_token * a.hidden_size)
    mlp += n * (2 * F32 * a.experts + (INT64 + 2 * F32) * a.experts_per_token)  # the router
    if lora is None:
        return norms + inputs + attention + mlp + n * t.compute * a.intermediate_size
    kinds = lora.kinds(a)
    if "o_proj" in kinds and _copies(t, t.compute):
        attention += n * width * t.adapter_compute
    if "down_proj" in kinds:
        mlp += n * a.intermediate_size * (t.adapter_compute if _copies(t, t.compute) else t.compute)
    return norms + inputs + attention + mlp + n * lora.rank * t.adapter_compute * len(kinds)


def scores_bytes(a: Architecture, rows: int, length: int) -> int:
    """What is kept of attention's scores where they are soft-capped: 8 bytes for each head and pair of tokens."""
    return 8 * rows * length * length * a.heads if a.capped else 0


def _norm_saved(n: int, width: int, t: Types, given: int) -> int:
    """RMSNorm over `width`: its input in float32, 1/rms, and what the weight is multiplied with if that is trained."""
    return n * (F32 * width + F32 + (given * width if t.adapters is None else 0))


def _inputs_saved(n: int, a: Architecture, t: Types, lora: Lora | None, kinds: Sequence[str]) -> int:
    """Input of projections that read the same norm: one tensor where no type changes, else one for each."""
    if lora is None:
        return n * a.hidden_size * t.compute * (1 if t.compute == t.weights else len(kinds))
    adapted = len(lora.kinds(a) & set(kinds))
    if not _copies(t, t.weights):
        return n * a.hidden_size * t.weights * min(adapted, 1)
    return n * a.hidden_size * t.adapter_compute * adapted


def _copies(t: Types, given: int) -> bool:
    """Whether LoRA's A reads a copy: PEFT casts its input to A's type, and autocast then to its own."""
    return not given == t.adapters == t.adapter_compute


def autocast_copies(a: Architecture, t: Types, lora: Lora | None) -> int:
    """Copies of the linear layers' weights in autocast's type: made in the forward, kept until autocast ends (trained
    weights) or for the backward (frozen ones). 0 where the weights have that type already."""
    if not t.autocast:
        return 0
    base = 0 if t.compute == t.weights else count(a.linears.values())
    adapters = 0 if lora is None or t.adapters == t.compute else count(lora.shapes(a))
    return t.compute * (base + adapters)


def checkpoint_saved(a: Architecture, t: Types, rows: int, length: int) -> int:
    """What is kept of one decoder layer under gradient checkpointing: its input."""
    return rows * length * a.hidden_size * t.weights


def last_norm_saved(a: Architecture, t: Types, rows: int, length: int) -> int:
    """What autograd keeps of the norm after the last layer."""
    return _norm_saved(rows * length, a.hidden_size, t, t.weights)


def layer_backward(a: Architecture, t: Types, lora: Lora | None, rows: int, length: int) -> int:
    """What the backward of one layer needs for a moment: the stream's gradient twice, and in the MLP the gradients of
    silu(gate), up and gate while the product's is gone and its saved input as well. Where LoRA's A read a copy, the
    gradient of that copy once more in A's type."""
    wide = 2 * t.compute
    if lora is not None and _copies(t, t.compute) and "down_proj" in lora.kinds(a):
        wide = max(wide, t.compute + t.trained)
    wide *= a.intermediate_size
    return rows * length * (2 * a.hidden_size * t.weights + wide) + scores_bytes(a, rows, length)


def layer_forward(a: Architecture, t: Types, lora: Lora | None, rows: int, length: int) -> int:
    """What the forward of one layer needs without gradients: the stream, the normed stream, and in the MLP silu(gate),
    up and their product; with adapters the sum that up is, beside its parts."""
    wide = max((3 if lora is None else 4) * a.intermediate_size, 5 * a.heads * a.head_dim)
    return rows * length * (2 * a.hidden_size * t.weights + wide * t.compute) + scores_bytes(a, rows, length)


def mask_bytes(rows: int, length: int, compute: int) -> int:
    """Attention's mask where prompts are padded: a boolean for every pair, and torch's numbers for one layer."""
    return rows * length * length * (1 + compute)


# --- head -------------------------------------------------------------------------------------------------------------


def head_tokens(rows: int, length: int, completion: int, *, cuda: bool) -> int:
    """Positions that TRL's fused head scores: the completion's with Triton, all but the first token's without."""
    return rows * (completion if cuda else length - 1)


def head_saved(a: Architecture, t: Types, tokens: int) -> int:
    """What the fused head keeps: the hidden states, the targets, log Z and the entropy. No logits."""
    return tokens * (a.hidden_size * t.weights + INT64 + 2 * F32)


def head_forward(a: Architecture, t: Types, tokens: int, *, cuda: bool) -> int:
    """A tile of logits, seven float32 numbers per token, and without Triton z, exp(z - max) and a product of them."""
    beside = 0 if cuda else 3 * _tile(tokens, min(a.vocab_size, TILE_WIDTH)) * F32
    return _tile(tokens, TILE_WIDTH) * t.compute + 7 * F32 * tokens + beside + _head_casts(a, t, tokens)


def head_backward(a: Architecture, t: Types, tokens: int, *, cuda: bool, trained: bool) -> int:
    """A tile of logits and float32 gradients of the hidden states and, if it is `trained`, of the head; then those in
    their own types beside them. Without Triton the tile's gradient is made by torch operations, of which y, z, log p,
    p, the gradient, two products and a boolean exist at once."""
    matrix = a.vocabulary_count if trained else 0
    gradients = F32 * (tokens * a.hidden_size + matrix)
    tile = _tile(tokens, min(a.vocab_size, TILE_WIDTH))
    folding = (0 if cuda else tile * (7 * F32 + 1)) + _head_casts(a, t, tokens)
    casting = t.weights * (tokens * a.hidden_size + matrix) if t.weights != F32 else 0
    return _tile(tokens, TILE_WIDTH) * t.compute + gradients + max(folding, casting)


def _tile(tokens: int, width: int) -> int:
    return min(tokens, TILE_ROWS) * width


def _head_casts(a: Architecture, t: Types, tokens: int) -> int:
    """Copies of the tile's hidden states and head in autocast's type."""
    if t.compute == t.weights:
        return 0
    return t.compute * a.hidden_size * (min(tokens, TILE_ROWS) + min(a.vocab_size, TILE_WIDTH))


# --- generation -------------------------------------------------------------------------------------------------------


def cache_bytes(a: Architecture, rows: int, length: int, compute: int) -> int:
    """Keys and values of `length` tokens in all layers (transformers.DynamicCache)."""
    return 2 * a.layers * rows * length * a.kv_heads * a.head_dim * compute


def cache_growth(a: Architecture, rows: int, length: int, compute: int) -> int:
    """The cache grows by `torch.cat`: the old keys of one layer exist beside the new ones."""
    return cache_bytes(a, rows, length, compute) // (2 * a.layers)


def sampling_bytes(a: Architecture, t: Types, rows: int, temperature: float, *, recorded: bool = False) -> int:
    """Logits of one position of every row, a float32 copy, the same over the temperature, probabilities, and the
    exponential noise of `torch.multinomial`. Accelerate makes a model's output float32 under autocast.

    Where `dar_ref.llm.sampler` records log-probs it may need more, before the draw: the copy, scores and probabilities
    of the last token, and for a part of the rows scores over temperature and their exponentials.
    """
    logits = F32 if t.autocast else t.compute
    drawing, reading = rows * (3 if temperature == 1.0 else 4), 3 * rows + 2 * -(-rows // RECORDED_PARTS)
    return a.vocab_size * (rows * logits + F32 * max(drawing, reading * recorded))


def rollout_bytes(rows: int, prompt: int, completion: int, *, old: bool, reference: bool) -> int:
    """What is kept of a rollout until it is used: ids and masks, log-probs under pi_0 and pi_t, an advantage."""
    return rows * (2 * INT64 * (prompt + completion) + F32 * (completion * (old + reference) + 1))
