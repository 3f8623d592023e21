"""The moments of a training step in which memory peaks, and what exists in each: generate, score, update.

    generate   all completions of a rollout at once: cache and the logits of one position
    score      pi_0 (and pi_t where it has moved) on one micro-batch without gradients, then the reward model
    update     forward and backward of one micro-batch after the other, then the optimizer's step

The peak of a phase is its largest moment. Weights, pi_0, the reward model and the optimizer's state are there all the
time; gradients from the first micro-batch on.
"""

from dataclasses import dataclass

from dar_ref.llm.plan import fused, resident, tensors
from dar_ref.llm.plan.resident import Setup


@dataclass(frozen=True)
class Moment:
    """What exists in one moment of a phase: bytes per term, without terms that are 0."""

    phase: str
    name: str
    terms: dict[str, int]

    @property
    def total(self) -> int:
        """Sum of the terms, bytes."""
        return sum(self.terms.values())


def peaks(setup: Setup) -> list[Moment]:
    """The largest moment of each phase that the run has, in order."""
    found = moments(setup)
    names = dict.fromkeys(moment.phase for moment in found)
    return [max((m for m in found if m.phase == name), key=lambda m: m.total) for name in names]


def peak_bytes(setup: Setup) -> int:
    """Bytes that one device needs: of the largest moment of all."""
    return max(moment.total for moment in peaks(setup))


def moments(setup: Setup) -> list[Moment]:
    """Every moment that may be the largest of its phase."""
    always = resident.resident(setup)
    found = [*_generating(setup), *_scoring(setup), *_updating(setup)]
    return [Moment(m.phase, m.name, {k: v for k, v in (always | m.terms).items() if v}) for m in found]


# --- generate ---------------------------------------------------------------------------------------------------------


def _generating(setup: Setup) -> list[Moment]:
    if not setup.generation_rows:
        return []
    a, t, rows = setup.model, setup.types, setup.generation_rows
    # to generate, ZeRO-3 gathers the whole model (`ds3_gather_for_generation`)
    gathered = a.count * t.weights if setup.sharding == "zero3" else resident.gathered_bytes(setup)
    copies = _autocast_copies(setup) if setup.lora is None else 0
    common = {"gathered weights": gathered, "autocast copies": copies}
    prefill = {
        "KV cache": tensors.cache_bytes(a, rows, setup.prompt, t.compute),
        "activations": tensors.layer_forward(a, t, setup.lora, rows, setup.prompt)
        + tensors.mask_bytes(rows, setup.prompt, t.compute),
    }
    decode = {
        "KV cache": tensors.cache_bytes(a, rows, setup.length, t.compute),
        "cache growing": tensors.cache_growth(a, rows, setup.length, t.compute),
        "activations": tensors.layer_forward(a, t, setup.lora, rows, 1),
    }
    sample = {
        "KV cache": tensors.cache_bytes(a, rows, setup.length, t.compute),
        "logits": tensors.sampling_bytes(a, t, rows, setup.temperature, recorded=setup.recorded),
    }
    return [
        Moment("generate", "reading the prompts", common | prefill),
        Moment("generate", "the last token's layers", common | decode),
        Moment("generate", "the last token's draw", common | sample),
    ]


# --- score ------------------------------------------------------------------------------------------------------------


def _scoring(setup: Setup) -> list[Moment]:
    a, t, rows = setup.model, setup.types, setup.rows
    common = {"rollout": _rollout(setup)}
    if setup.pairs:  # DPO scores pi_0 while the policy's forward waits for its backward
        common |= {"policy's activations": _waiting(setup), "gradients": _earlier_gradients(setup)}
    found = []
    if setup.reference or setup.old:
        hidden = 2 * rows * setup.length * a.hidden_size * t.weights
        gathered = {"gathered weights": resident.gathered_bytes(setup), "autocast copies": _autocast_copies(setup)}
        adapters = setup.lora if setup.old else None
        layers = tensors.layer_forward(a, t, adapters, rows, setup.length)
        masks = tensors.mask_bytes(rows, setup.length, t.compute)
        head = _head_forward(setup, None)
        found.append(Moment("score", "a decoder layer", common | gathered | {"activations": layers + masks}))
        found.append(Moment("score", "the head", common | gathered | {"activations": hidden, "logits": head}))
    if setup.reward and setup.reward_types:
        size = min(setup.reward_batch, setup.buffer_rows)
        layers = tensors.layer_forward(setup.reward, setup.reward_types, None, size, setup.length)
        masks = tensors.mask_bytes(size, setup.length, setup.reward_types.compute)
        found.append(Moment("score", "the reward model", common | {"activations": layers + masks}))
    return found


def _head_forward(setup: Setup, trained: bool | None) -> int:
    if setup.fused:
        return fused.head(setup.model, setup.types, _head_tokens(setup), trained=trained)
    return tensors.head_forward(setup.model, setup.types, _head_tokens(setup), cuda=setup.cuda)


def _head_saved(setup: Setup) -> int:
    if setup.fused:
        trained = setup.lora is None
        return fused.saved(setup.model, setup.types, _head_tokens(setup), trained=trained)
    return tensors.head_saved(setup.model, setup.types, _head_tokens(setup))


def _head_tokens(setup: Setup) -> int:
    """Positions that the head scores in a micro-batch."""
    if setup.fused:
        return setup.rows * setup.completion
    return tensors.head_tokens(setup.rows, setup.length, setup.completion, cuda=setup.cuda)


def _autocast_copies(setup: Setup) -> int:
    """Copies of the weights in autocast's type; FSDP's layers have that type already."""
    return 0 if setup.sharding == "fsdp" else tensors.autocast_copies(setup.model, setup.types, setup.lora)


def _kept(setup: Setup) -> int:
    """What is kept of a decoder layer for its backward."""
    if setup.checkpointing:
        return tensors.checkpoint_saved(setup.model, setup.types, setup.rows, setup.length)
    return tensors.layer_saved(setup.model, setup.types, setup.lora, setup.rows, setup.length)


def _made_again(setup: Setup) -> int:
    """What a checkpointed layer saves when its forward runs again. In float32 its input is there already; otherwise the
    norm saves a float32 copy of it."""
    if not setup.checkpointing:
        return 0
    layer = tensors.layer_saved(setup.model, setup.types, setup.lora, setup.rows, setup.length)
    return layer - (_kept(setup) if setup.types.weights == tensors.F32 else 0)


def _layers_waiting(setup: Setup) -> int:
    """What the decoder layers keep for their backward, with the mask."""
    return setup.model.layers * _kept(setup) + tensors.mask_bytes(setup.rows, setup.length, 0)


def _waiting(setup: Setup) -> int:
    """What the policy's forward keeps for its backward."""
    last = tensors.last_norm_saved(setup.model, setup.types, setup.rows, setup.length)
    return _layers_waiting(setup) + last + _head_saved(setup)


def _head_backward(setup: Setup) -> int:
    """The fused loss has its gradients and multiplies them by the loss's; TRL's head makes the logits again."""
    if setup.fused:
        return _head_saved(setup)
    tokens, trained = _head_tokens(setup), setup.lora is None
    return tensors.head_backward(setup.model, setup.types, tokens, cuda=setup.cuda, trained=trained)


def _earlier_gradients(setup: Setup) -> int:
    """Gradients of the micro-batches before this one."""
    return resident.gradient_bytes(setup) if setup.micro_batches > 1 else 0


def _rollout(setup: Setup) -> int:
    rows = setup.buffer_rows or setup.rows
    return tensors.rollout_bytes(rows, setup.prompt, setup.completion, old=setup.old, reference=setup.reference)


# --- update -----------------------------------------------------------------------------------------------------------


def _updating(setup: Setup) -> list[Moment]:
    a, t, rows, length = setup.model, setup.types, setup.rows, setup.length
    waiting, trained_head = _waiting(setup), setup.lora is None
    at_work = tensors.layer_backward(a, t, setup.lora, rows, length) + _made_again(setup)
    stream = rows * length * a.hidden_size * t.weights
    gradients, head = resident.gradient_bytes(setup), a.vocabulary_count * t.weights if trained_head else 0
    whole = setup.sharding in ("none", "ddp")
    before = _earlier_gradients(setup)
    # the embedding's gradient is whole before it is added to the head's, if tied, and to that of earlier micro-batches
    embedding = head * whole * (a.tied + (setup.micro_batches > 1))
    common = {
        "rollout": _rollout(setup),
        "gradient buckets": resident.bucket_bytes(setup),
        "gathered weights": resident.gathered_bytes(setup, gradients=True),
    }
    copies = _autocast_copies(setup)
    later = copies // a.layers if setup.checkpointing else copies
    return [
        Moment(
            "update",
            "the head's forward",
            common
            | {"gradients": before, "activations": waiting + stream - setup.fused * _head_saved(setup)}
            | {"autocast copies": copies}
            | {"logits": _head_forward(setup, trained_head)},
        ),
        Moment(
            "update",
            "the head's backward",
            common
            | {"gradients": before, "activations": waiting, "autocast copies": later}
            | {"logits": _head_backward(setup)},
        ),
        Moment(
            "update",
            "the last layer's backward",
            common
            | {"gradients": before + (head if a.tied or not before else 0) * whole, "autocast copies": later}
            | {"activations": _layers_waiting(setup) + at_work},
        ),
        Moment(
            "update",
            "the first layer's backward",
            common | {"gradients": gradients + embedding, "activations": _kept(setup) + at_work},
        ),
        Moment(
            "update",
            "the optimizer's step",
            common
            | {"gathered weights": 0, "gradients": gradients}
            | {"optimizer's work": resident.optimizer_step_bytes(setup)},
        ),
    ]
