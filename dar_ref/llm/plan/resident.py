"""What one device holds during the whole run: weights, pi_0, gradients, optimizer state, and how they are split.

none    one device
ddp     everything on each device, and buckets of gradients
fsdp    FULL_SHARD: weights, gradients and optimizer state are split; decoder layers are gathered one after the other
zero3   weights, gradients, optimizer state and its float32 copy of the weights are split
"""

from dataclasses import dataclass

from dar_ref.llm.plan import tensors
from dar_ref.llm.plan.architecture import Architecture
from dar_ref.llm.plan.tensors import F32, Lora, Types, count, share

SHARDINGS = ("none", "ddp", "fsdp", "zero3")
GIB = 2**30
ZERO_BUCKET = 500_000_000  # DeepSpeed's reduce_bucket_size and allgather_bucket_size, entries
ZERO3_LIVE = 1_000_000_000  # DeepSpeed's stage3_max_live_parameters, entries
# Stated, not computed: CUDA context and libraries, workspaces of cuBLAS, what the allocator rounds up; then NCCL.
OVERHEAD_CUDA, OVERHEAD_NCCL = GIB, GIB // 2


@dataclass(frozen=True)
class Setup:
    """All that the memory of a run depends on.

    storage: bytes per weight between its uses; FSDP and ZeRO compute with narrower copies, which `types` describes.
    batch: completions of a micro-batch on one device; micro_batches: per optimizer step. generation_rows: completions
    that the model samples at once on one device, 0 if vLLM samples; buffer_rows: completions of a rollout;
    num_generations: per prompt. pairs: DPO, where each row of a micro-batch has two completions. reference: pi_0 is
    needed. old: pi_t is scored by a forward of its own. recorded: its log-probs are read while it samples. vllm_bytes:
    what vLLM takes on the trainer's device. cuda: a GPU, whose optimizer step and head differ from a CPU's. fused: the
    head's gradients are made with its logits.
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
    recorded: bool = False
    temperature: float = 1.0
    num_generations: int = 1
    pairs: bool = False
    reward: Architecture | None = None
    reward_types: Types | None = None
    reward_batch: int = 16
    devices: int = 1
    sharding: str = "none"
    vllm_bytes: int = 0
    cuda: bool = True
    fused: bool = False

    @property
    def parts(self) -> int:
        """Into how many parts weights, gradients and optimizer state are split."""
        return self.devices if self.sharding in ("fsdp", "zero3") else 1

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


def resident(setup: Setup) -> dict[str, int]:
    """Bytes that one device holds from step to step."""
    return {
        "weights": weight_bytes(setup),
        "pi_0": reference_bytes(setup),
        "reward model": setup.reward.count * setup.reward_types.weights if setup.reward and setup.reward_types else 0,
        "optimizer": optimizer_state_bytes(setup),
        "vLLM": setup.vllm_bytes,
        "overhead": setup.cuda * (OVERHEAD_CUDA + OVERHEAD_NCCL * (setup.devices > 1)),
    }


def resting(setup: Setup) -> int:
    """Bytes per trained parameter between its uses, and per entry of its gradient: accelerate makes both float32 under
    FSDP with mixed precision."""
    if setup.sharding == "fsdp" and setup.types.autocast:
        return F32
    return setup.types.trained if setup.lora is not None else setup.storage


def weight_bytes(setup: Setup) -> int:
    """Weights on one device."""
    frozen = 0 if setup.lora is None else setup.model.count * setup.storage
    return share(frozen + setup.trainable * resting(setup), setup.parts)


def reference_bytes(setup: Setup) -> int:
    """pi_0 on one device: a second model in the type of the first; with LoRA it is the model without its adapters."""
    if setup.lora is not None or not setup.reference:
        return 0
    return share(setup.model.count * setup.storage, setup.parts)


def gradient_bytes(setup: Setup) -> int:
    """Gradients on one device once all are there; DDP's buckets are a second copy (gradient_as_bucket_view is off)."""
    return share(setup.trainable * resting(setup), setup.parts)


def bucket_bytes(setup: Setup) -> int:
    """Buffers of the reduction: DDP's buckets hold all gradients, ZeRO's as many entries as DeepSpeed's default."""
    if setup.sharding == "ddp":
        return setup.trainable * resting(setup)
    if setup.sharding == "zero3":
        return min(setup.trainable, ZERO_BUCKET) * setup.types.trained
    return 0


def optimizer_state_bytes(setup: Setup) -> int:
    """The optimizer's state on one device. ZeRO's optimizer works on one flat float32 copy of what is trained, which
    counts here as well; FSDP's works in float32 under mixed precision."""
    if setup.sharding == "zero3":
        flat = [(share(setup.trainable, setup.devices),)]
        return tensors.optimizer_bytes(setup.optim, flat, F32) + F32 * count(flat)
    if setup.sharding == "fsdp":
        return share(tensors.optimizer_bytes(setup.optim, setup.shapes, resting(setup)), setup.devices)
    return tensors.optimizer_bytes(setup.optim, setup.shapes, setup.types.trained)


def gathered_bytes(setup: Setup, *, gradients: bool = False) -> int:
    """Weights that a device has whole for a moment. FSDP: the root (embeddings, last norm, head), the decoder layer at
    work and the next; in the backward also the gradients of the root and of one layer. ZeRO-3: as much as DeepSpeed
    lets live. All in the type of the computation."""
    a, compute = setup.model, setup.types.compute
    if setup.sharding == "fsdp":
        backward = (a.root_count + a.block_count) if gradients and setup.lora is None else 0
        return compute * (a.root_count + min(2, a.layers) * a.block_count + backward)
    return min(a.count, ZERO3_LIVE) * setup.types.weights if setup.sharding == "zero3" else 0


def optimizer_step_bytes(setup: Setup) -> int:
    """What the optimizer's step needs for a moment: ZeRO copies its part of the gradients to float32, the others work
    in the gradients' own type."""
    if setup.sharding == "zero3":
        flat = [(share(setup.trainable, setup.devices),)]
        return tensors.step_bytes(setup.optim, flat, F32, cuda=setup.cuda) + F32 * count(flat)
    return share(tensors.step_bytes(setup.optim, setup.shapes, resting(setup), cuda=setup.cuda), setup.parts)
