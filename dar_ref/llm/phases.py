"""The moments of a training step in which memory peaks, and what exists in each: generate, score, update.

    generate   all completions of a rollout at once: cache and the logits of one position
    score      pi_0 (and pi_t where it has moved) on one micro-batch without gradients, then the reward model
    update     forward and backward of one micro-batch after the other, then the optimizer's step

A phase's peak is that of its largest moment. What is there all the time: weights, pi_0, the reward model, the
optimizer's state; gradients from the first micro-batch on.

    none    one device                                    ddp     everything on each device, and buckets of gradients
    fsdp    FULL_SHARD: weights, gradients and state are split, decoder layers are gathered one after the other
    zero2   gradients, state and the float32 copy of the weights are split      zero3   the weights as well
"""

from dataclasses import dataclass

from dar_ref.llm import memory
from dar_ref.llm.architecture import Architecture
from dar_ref.llm.memory import F32, Lora, Types, count, share

SHARDINGS = ("none", "ddp", "fsdp", "zero2", "zero3")
GIB = 2**30
ZERO_BUCKET = 500_000_000  # DeepSpeed's reduce_bucket_size and allgather_bucket_size, entries
ZERO3_LIVE = 1_000_000_000  # DeepSpeed's stage3_max_live_parameters, entries
# Not computed but stated: CUDA context and libraries, workspaces of cuBLAS, what the allocator rounds up; then NCCL.
OVERHEAD_CUDA, OVERHEAD_NCCL = GIB, GIB // 2


@dataclass(frozen=True)
class Run:
    """All that the memory of a run depends on.

    storage: bytes of an entry of the weights between their uses; FSDP and ZeRO compute with narrower copies, which
    `types` describes. batch: completions of a micro-batch on one device; micro_batches: of an optimizer step; generation_rows: completions
    sampled at once on one device, 0 if none are; pairs: DPO, whose micro-batch has two completions a row; reference:
    pi_0 is needed; old: pi_t is scored apart; gather_for_generation: ZeRO-3 gathers the whole model to generate;
    vllm_bytes: what a vLLM beside the trainer takes; cuda: a GPU; optimizer steps differ there, and the head.
    """

    model: Architecture
    types: Types
    storage: int
    lora: Lora | None
    batch: int
    micro_batches: int
    generation_rows: int
    buffer_rows: int
    prompt: int
    completion: int
    checkpointing: bool
    optim: str
    reference: bool
    old: bool
    temperature: float = 1.0
    pairs: bool = False
    reward: Architecture | None = None
    reward_types: Types | None = None
    reward_batch: int = 16
    devices: int = 1
    sharding: str = "none"
    gather_for_generation: bool = True
    vllm_bytes: int = 0
    cuda: bool = True

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of what is trained."""
        return list(self.model.parameters.values()) if self.lora is None else self.lora.shapes(self.model)

    @property
    def trainable(self) -> int:
        """Number of trained parameters."""
        return count(self.shapes)

    @property
    def rows(self) -> int:
        """Sequences in the forward of a micro-batch."""
        return self.batch * (2 if self.pairs else 1)

    @property
    def length(self) -> int:
        """Tokens of a sequence."""
        return self.prompt + self.completion


@dataclass(frozen=True)
class Moment:
    """What exists in one moment of a phase: bytes of each term; terms that are 0 are left out."""

    phase: str
    name: str
    terms: dict[str, int]

    @property
    def total(self) -> int:
        """Bytes together."""
        return sum(self.terms.values())


def peaks(run: Run) -> list[Moment]:
    """The largest moment of each phase that the run has, in order."""
    found = moments(run)
    names = dict.fromkeys(moment.phase for moment in found)
    return [max((m for m in found if m.phase == name), key=lambda m: m.total) for name in names]


def moments(run: Run) -> list[Moment]:
    """Every moment that may be the largest of its phase."""
    always = resident(run)
    found = [*_generating(run), *_scoring(run), *_updating(run)]
    return [Moment(m.phase, m.name, {k: v for k, v in (always | m.terms).items() if v}) for m in found]


# --- what is there all the time ---------------------------------------------------------------------------------------


def resident(run: Run) -> dict[str, int]:
    """Bytes that one device holds from step to step."""
    return {
        "weights": weight_bytes(run),
        "pi_0": reference_bytes(run),
        "reward model": run.reward.count * run.reward_types.weights if run.reward and run.reward_types else 0,
        "optimizer": state_bytes(run),
        "vLLM": run.vllm_bytes,
        "overhead": run.cuda * (OVERHEAD_CUDA + OVERHEAD_NCCL * (run.devices > 1)),
    }


def resting(run: Run) -> int:
    """Bytes an entry of what is trained has between its uses, and its gradient: accelerate makes it float32 under FSDP
    with mixed precision."""
    if run.sharding == "fsdp" and run.types.autocast:
        return F32
    return run.types.trained if run.lora is not None else run.storage


def weight_bytes(run: Run) -> int:
    """Weights on one device."""
    frozen = 0 if run.lora is None else run.model.count * run.storage
    trained = resting(run)
    parts = run.devices if run.sharding in ("fsdp", "zero3") else 1
    return share(frozen + run.trainable * trained, parts)


def reference_bytes(run: Run) -> int:
    """pi_0 on one device: a second model in the type of the first; with LoRA it is the model without its adapters."""
    if run.lora is not None or not run.reference:
        return 0
    whole = run.model.count * run.storage
    return share(whole, run.devices if run.sharding in ("fsdp", "zero3") else 1)


def gradient_bytes(run: Run) -> int:
    """Gradients on one device once all are there; DDP's buckets are a second copy (gradient_as_bucket_view is off)."""
    whole = run.trainable * resting(run)
    return share(whole, run.devices if run.sharding in ("fsdp", "zero2", "zero3") else 1)


def bucket_bytes(run: Run) -> int:
    """Buffers of the reduction: DDP's buckets hold all gradients, ZeRO's as many entries as DeepSpeed's default."""
    if run.sharding == "ddp":
        return run.trainable * resting(run)
    if run.sharding in ("zero2", "zero3"):
        return min(run.trainable, ZERO_BUCKET) * run.types.trained
    return 0


def state_bytes(run: Run) -> int:
    """The optimizer's state on one device. ZeRO's optimizer sees one flat float32 copy of what is trained, which counts
    here as well; FSDP's sees float32 under mixed precision."""
    if run.sharding in ("zero2", "zero3"):
        flat = [(share(run.trainable, run.devices),)]
        return memory.optimizer_bytes(run.optim, flat, F32) + F32 * count(flat)
    if run.sharding == "fsdp":
        return share(memory.optimizer_bytes(run.optim, run.shapes, resting(run)), run.devices)
    return memory.optimizer_bytes(run.optim, run.shapes, run.types.trained)


def gathered_bytes(run: Run, *, gradients: bool = False) -> int:
    """Weights that a device has whole for a moment. FSDP: the root (embeddings, last norm, head), the decoder layer at
    work and the next; in the backward also the gradients of the root and of one layer. ZeRO-3: as much as DeepSpeed
    lets live. All in the type of the computation."""
    a, compute = run.model, run.types.compute
    if run.sharding == "fsdp":
        backward = (a.root_count + a.block_count) if gradients and run.lora is None else 0
        return compute * (a.root_count + min(2, a.layers) * a.block_count + backward)
    return min(a.count, ZERO3_LIVE) * run.types.weights if run.sharding == "zero3" else 0


# --- generate ---------------------------------------------------------------------------------------------------------


def _generating(run: Run) -> list[Moment]:
    if not run.generation_rows:
        return []
    a, t, rows = run.model, run.types, run.generation_rows
    gathered = gathered_bytes(run)
    if run.sharding == "zero3" and run.gather_for_generation:
        gathered = a.count * t.weights
    copies = memory.autocast_copies(a, t, run.lora) if run.lora is None and run.sharding != "fsdp" else 0
    common = {"gathered weights": gathered, "autocast copies": copies}
    prefill = {
        "KV cache": memory.cache_bytes(a, rows, run.prompt, t.compute),
        "activations": memory.layer_forward(a, t, run.lora, rows, run.prompt)
        + memory.mask_bytes(rows, run.prompt, t.compute),
    }
    decode = {
        "KV cache": memory.cache_bytes(a, rows, run.length, t.compute),
        "cache growing": memory.cache_growth(a, rows, run.length, t.compute),
        "activations": memory.layer_forward(a, t, run.lora, rows, 1),
    }
    sample = {
        "KV cache": memory.cache_bytes(a, rows, run.length, t.compute),
        "logits": memory.sampling_bytes(a, t, rows, run.temperature),
    }
    return [
        Moment("generate", "reading the prompts", common | prefill),
        Moment("generate", "the last token's layers", common | decode),
        Moment("generate", "the last token's draw", common | sample),
    ]


# --- score ------------------------------------------------------------------------------------------------------------


def _scoring(run: Run) -> list[Moment]:
    a, t, rows = run.model, run.types, run.rows
    common = {"rollout": _rollout(run)}
    found = []
    if run.reference or run.old:
        tokens = memory.head_tokens(rows, run.length, run.completion, cuda=run.cuda)
        hidden = 2 * rows * run.length * a.hidden_size * t.weights
        copies = memory.autocast_copies(a, t, run.lora) if run.sharding != "fsdp" else 0
        common_model = common | {"gathered weights": gathered_bytes(run), "autocast copies": copies}
        adapters = run.lora if run.old else None
        layers = memory.layer_forward(a, t, adapters, rows, run.length)
        masks = memory.mask_bytes(rows, run.length, t.compute)
        head = memory.head_forward(a, t, tokens, cuda=run.cuda)
        found.append(Moment("score", "a decoder layer", common_model | {"activations": layers + masks}))
        found.append(Moment("score", "the head", common_model | {"activations": hidden, "logits": head}))
    if run.reward and run.reward_types:
        size = min(run.reward_batch, run.buffer_rows)
        layers = memory.layer_forward(run.reward, run.reward_types, None, size, run.length)
        masks = memory.mask_bytes(size, run.length, run.reward_types.compute)
        found.append(Moment("score", "the reward model", common | {"activations": layers + masks}))
    return found


def _rollout(run: Run) -> int:
    rows = run.buffer_rows or run.rows
    return memory.rollout_bytes(rows, run.prompt, run.completion, old=run.old, reference=run.reference)


# --- update -----------------------------------------------------------------------------------------------------------


def _updating(run: Run) -> list[Moment]:
    a, t, rows, length = run.model, run.types, run.rows, run.length
    tokens = memory.head_tokens(rows, length, run.completion, cuda=run.cuda)
    trained_head = run.lora is None
    layer = memory.layer_saved(a, t, run.lora, rows, length)
    kept = memory.checkpoint_saved(a, t, rows, length) if run.checkpointing else layer
    # a checkpointed layer is made again for its backward; its input is among what it keeps
    at_work = memory.layer_backward(a, t, run.lora, rows, length) + (layer - kept)
    stream = rows * length * a.hidden_size * t.weights
    layers = a.layers * kept + memory.mask_bytes(rows, length, 0)
    saved = layers + memory.last_norm_saved(a, t, rows, length)

    gradients, head = gradient_bytes(run), a.vocabulary_count * t.weights if trained_head else 0
    whole = run.sharding in ("none", "ddp")
    before = gradients if run.micro_batches > 1 else 0  # gradients of earlier micro-batches
    embedding = head if whole and (a.tied or run.micro_batches > 1) else 0  # summed when the embedding's is there
    common = {
        "rollout": _rollout(run),
        "gradient buckets": bucket_bytes(run),
        "gathered weights": gathered_bytes(run, gradients=True),
    }
    copies = memory.autocast_copies(a, t, run.lora) if run.sharding != "fsdp" else 0
    later = copies // a.layers if run.checkpointing else copies
    hidden = memory.head_saved(a, t, tokens)
    return [
        Moment(
            "update",
            "the head's forward",
            common
            | {"gradients": before, "activations": saved + hidden + stream, "autocast copies": copies}
            | {"logits": memory.head_forward(a, t, tokens, cuda=run.cuda)},
        ),
        Moment(
            "update",
            "the head's backward",
            common
            | {"gradients": before, "activations": saved + hidden, "autocast copies": later}
            | {"logits": memory.head_backward(a, t, tokens, cuda=run.cuda, trained=trained_head)},
        ),
        Moment(
            "update",
            "the last layer's backward",
            common
            | {"gradients": before + (head if a.tied or not before else 0) * whole, "autocast copies": later}
            | {"activations": layers + at_work},
        ),
        Moment(
            "update",
            "the first layer's backward",
            common | {"gradients": gradients + embedding, "activations": kept + at_work},
        ),
        Moment(
            "update",
            "the optimizer's step",
            common | {"gathered weights": 0, "gradients": gradients} | {"optimizer's work": _step(run)},
        ),
    ]


def _step(run: Run) -> int:
    """ZeRO copies its part of the gradients to float32; the others work in the gradients' type."""
    if run.sharding in ("zero2", "zero3"):
        flat = [(share(run.trainable, run.devices),)]
        return memory.step_bytes(run.optim, flat, F32, cuda=run.cuda) + F32 * count(flat)
    parts = run.devices if run.sharding == "fsdp" else 1
    return share(memory.step_bytes(run.optim, run.shapes, resting(run), cuda=run.cuda), parts)
