"""The moments of a training step in which memory peaks, and what exists in each: generate, score, update.

    generate   all completions of a rollout at once: cache and the logits of one position
    score      pi_0 (and pi_t where it has moved) on one micro-batch without gradients, then the reward model
    update     forward and backward of one micro-batch after the other, then the optimizer's step

A phase's peak is that of its largest moment. What is there all the time: weights, pi_0, the reward model, the
optimizer's state; gradients from the first micro-batch on.
"""

from dataclasses import dataclass

from dar_ref.llm.plan import resident, tensors
from dar_ref.llm.plan.resident import Run


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
    always = resident.resident(run)
    found = [*_generating(run), *_scoring(run), *_updating(run)]
    return [Moment(m.phase, m.name, {k: v for k, v in (always | m.terms).items() if v}) for m in found]


# --- generate ---------------------------------------------------------------------------------------------------------


def _generating(run: Run) -> list[Moment]:
    if not run.generation_rows:
        return []
    a, t, rows = run.model, run.types, run.generation_rows
    gathered = resident.gathered_bytes(run)
    if run.sharding == "zero3" and run.gather_for_generation:
        gathered = a.count * t.weights
    copies = tensors.autocast_copies(a, t, run.lora) if run.lora is None and run.sharding != "fsdp" else 0
    common = {"gathered weights": gathered, "autocast copies": copies}
    prefill = {
        "KV cache": tensors.cache_bytes(a, rows, run.prompt, t.compute),
        "activations": tensors.layer_forward(a, t, run.lora, rows, run.prompt)
        + tensors.mask_bytes(rows, run.prompt, t.compute),
    }
    decode = {
        "KV cache": tensors.cache_bytes(a, rows, run.length, t.compute),
        "cache growing": tensors.cache_growth(a, rows, run.length, t.compute),
        "activations": tensors.layer_forward(a, t, run.lora, rows, 1),
    }
    sample = {
        "KV cache": tensors.cache_bytes(a, rows, run.length, t.compute),
        "logits": tensors.sampling_bytes(a, t, rows, run.temperature),
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
    if run.pairs:  # DPO scores pi_0 while the policy's forward waits for its backward
        common |= {"policy's activations": _waiting(run), "gradients": _earlier_gradients(run)}
    found = []
    if run.reference or run.old:
        tokens = tensors.head_tokens(rows, run.length, run.completion, cuda=run.cuda)
        hidden = 2 * rows * run.length * a.hidden_size * t.weights
        copies = tensors.autocast_copies(a, t, run.lora) if run.sharding != "fsdp" else 0
        common_model = common | {"gathered weights": resident.gathered_bytes(run), "autocast copies": copies}
        adapters = run.lora if run.old else None
        layers = tensors.layer_forward(a, t, adapters, rows, run.length)
        masks = tensors.mask_bytes(rows, run.length, t.compute)
        head = tensors.head_forward(a, t, tokens, cuda=run.cuda)
        found.append(Moment("score", "a decoder layer", common_model | {"activations": layers + masks}))
        found.append(Moment("score", "the head", common_model | {"activations": hidden, "logits": head}))
    if run.reward and run.reward_types:
        size = min(run.reward_batch, run.buffer_rows)
        layers = tensors.layer_forward(run.reward, run.reward_types, None, size, run.length)
        masks = tensors.mask_bytes(size, run.length, run.reward_types.compute)
        found.append(Moment("score", "the reward model", common | {"activations": layers + masks}))
    return found


def _kept(run: Run) -> int:
    """What is kept of a decoder layer for its backward."""
    if run.checkpointing:
        return tensors.checkpoint_saved(run.model, run.types, run.rows, run.length)
    return tensors.layer_saved(run.model, run.types, run.lora, run.rows, run.length)


def _made_again(run: Run) -> int:
    """What a checkpointed layer saves when its forward runs again: in float32 its input is there already, otherwise the
    norm saves a float32 copy of it."""
    if not run.checkpointing:
        return 0
    layer = tensors.layer_saved(run.model, run.types, run.lora, run.rows, run.length)
    return layer - (_kept(run) if run.types.weights == tensors.F32 else 0)


def _waiting(run: Run) -> int:
    """What the policy's forward keeps for its backward."""
    a, t, rows = run.model, run.types, run.rows
    layer = _kept(run)
    tokens = tensors.head_tokens(rows, run.length, run.completion, cuda=run.cuda)
    last = tensors.last_norm_saved(a, t, rows, run.length) + tensors.head_saved(a, t, tokens)
    return a.layers * layer + tensors.mask_bytes(rows, run.length, 0) + last


def _earlier_gradients(run: Run) -> int:
    """Gradients of the micro-batches before this one."""
    return resident.gradient_bytes(run) if run.micro_batches > 1 else 0


def _rollout(run: Run) -> int:
    rows = run.buffer_rows or run.rows
    return tensors.rollout_bytes(rows, run.prompt, run.completion, old=run.old, reference=run.reference)


# --- update -----------------------------------------------------------------------------------------------------------


def _updating(run: Run) -> list[Moment]:
    a, t, rows, length = run.model, run.types, run.rows, run.length
    tokens = tensors.head_tokens(rows, length, run.completion, cuda=run.cuda)
    trained_head = run.lora is None
    kept = _kept(run)
    at_work = tensors.layer_backward(a, t, run.lora, rows, length) + _made_again(run)
    stream = rows * length * a.hidden_size * t.weights
    layers = a.layers * kept + tensors.mask_bytes(rows, length, 0)
    saved = layers + tensors.last_norm_saved(a, t, rows, length)
    hidden = tensors.head_saved(a, t, tokens)
    gradients, head = resident.gradient_bytes(run), a.vocabulary_count * t.weights if trained_head else 0
    whole = run.sharding in ("none", "ddp")
    before = _earlier_gradients(run)
    # the embedding's gradient is whole before it is added to the head's, if tied, and to that of earlier micro-batches
    embedding = head * whole * (a.tied + (run.micro_batches > 1))
    common = {
        "rollout": _rollout(run),
        "gradient buckets": resident.bucket_bytes(run),
        "gathered weights": resident.gathered_bytes(run, gradients=True),
    }
    copies = tensors.autocast_copies(a, t, run.lora) if run.sharding != "fsdp" else 0
    later = copies // a.layers if run.checkpointing else copies
    return [
        Moment(
            "update",
            "the head's forward",
            common
            | {"gradients": before, "activations": saved + hidden + stream, "autocast copies": copies}
            | {"logits": tensors.head_forward(a, t, tokens, cuda=run.cuda)},
        ),
        Moment(
            "update",
            "the head's backward",
            common
            | {"gradients": before, "activations": saved + hidden, "autocast copies": later}
            | {"logits": tensors.head_backward(a, t, tokens, cuda=run.cuda, trained=trained_head)},
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
            common | {"gathered weights": 0, "gradients": gradients} | {"optimizer's work": resident.step_bytes(run)},
        ),
    ]
