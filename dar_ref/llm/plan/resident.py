"""What one device holds of a run all the time: weights, pi_0, gradients, the optimizer's state, and how they are split.

none    one device                                    ddp     everything on each device, and buckets of gradients
fsdp    FULL_SHARD: weights, gradients and state are split, decoder layers are gathered one after the other
zero2   gradients, state and the float32 copy of the weights are split      zero3   the weights as well
"""

from dataclasses import dataclass

from dar_ref.llm.plan import tensors
from dar_ref.llm.plan.architecture import Architecture
from dar_ref.llm.plan.tensors import F32, Lora, Types, count, share

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
    `types` describes. batch: completions of a micro-batch on one device; micro_batches: of an optimizer step.
    generation_rows: completions sampled at once by the model on one device, 0 if none are; buffer_rows: completions of
    a rollout; num_generations: of a prompt. pairs: DPO, whose micro-batch has two completions a row; reference: pi_0 is
    needed; old: pi_t is scored apart; gather_for_generation: ZeRO-3 gathers the whole model to generate; vllm_bytes:
    what a vLLM beside the trainer takes; cuda: a GPU, whose optimizer step and head differ from a CPU's.
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
    num_generations: int = 1
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
        return tensors.optimizer_bytes(run.optim, flat, F32) + F32 * count(flat)
    if run.sharding == "fsdp":
        return share(tensors.optimizer_bytes(run.optim, run.shapes, resting(run)), run.devices)
    return tensors.optimizer_bytes(run.optim, run.shapes, run.types.trained)


def gathered_bytes(run: Run, *, gradients: bool = False) -> int:
    """Weights that a device has whole for a moment. FSDP: the root (embeddings, last norm, head), the decoder layer at
    work and the next; in the backward also the gradients of the root and of one layer. ZeRO-3: as much as DeepSpeed
    lets live. All in the type of the computation."""
    a, compute = run.model, run.types.compute
    if run.sharding == "fsdp":
        backward = (a.root_count + a.block_count) if gradients and run.lora is None else 0
        return compute * (a.root_count + min(2, a.layers) * a.block_count + backward)
    return min(a.count, ZERO3_LIVE) * run.types.weights if run.sharding == "zero3" else 0


def step_bytes(run: Run) -> int:
    """What the optimizer's step needs for a moment: ZeRO copies its part of the gradients to float32, the others work
    in the gradients' own type."""
    if run.sharding in ("zero2", "zero3"):
        flat = [(share(run.trainable, run.devices),)]
        return tensors.step_bytes(run.optim, flat, F32, cuda=run.cuda) + F32 * count(flat)
    parts = run.devices if run.sharding == "fsdp" else 1
    return share(tensors.step_bytes(run.optim, run.shapes, resting(run), cuda=run.cuda), parts)
