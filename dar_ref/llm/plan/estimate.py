"""From a run's options and a `config.json` to memory per device, tokens and hours: `dar-ref plan`. No weights, no GPU.

Lengths are the longest that the options allow: what must fit is the largest batch.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dar_ref import scalars
from dar_ref.llm.models.kinds import check_positions
from dar_ref.llm.options import ONLINE, LoraOptions, RunOptions
from dar_ref.llm.plan import peaks
from dar_ref.llm.plan.architecture import Architecture, read_architecture
from dar_ref.llm.plan.peaks import Moment
from dar_ref.llm.plan.resident import GIB, SHARDINGS, Setup
from dar_ref.llm.plan.settings import resolve, steps_per_generation
from dar_ref.llm.plan.tensors import BYTES, Lora, Types
from dar_ref.llm.plan.what_would_fit import what_would_fit

DEVICES = {  # GiB
    "T4-16GB": 16,
    "RTX3090-24GB": 24,
    "RTX4090-24GB": 24,
    "A10-24GB": 24,
    "L4-24GB": 24,
    "RTX5090-32GB": 32,
    "V100-32GB": 32,
    "A100-40GB": 40,
    "L40S-48GB": 48,
    "A100-80GB": 80,
    "H100-80GB": 80,
    "H200-141GB": 140,
}


@dataclass(frozen=True)
class Work:
    """How much a run does, over all devices; None where the options do not say.

    Per optimizer step, samples: completions trained on; prompt_tokens, sampled_tokens: read and newly sampled, at most.
    In the run, steps: optimizer steps; tokens: prompt and sampled tokens; hours: at the given throughput.
    """

    samples: int
    prompt_tokens: int
    sampled_tokens: int
    steps: int | None
    tokens: int | None
    hours: float | None

    @property
    def total_samples(self) -> int | None:
        """Completions trained on in the run."""
        return None if self.steps is None else self.steps * self.samples


@dataclass(frozen=True)
class Plan:
    """What `plan` finds. device_memory: bytes, None if not given; what_would_fit: changes that make it fit."""

    options: RunOptions
    setup: Setup
    peaks: list[Moment]
    work: Work
    device_memory: int | None
    what_would_fit: list[str]

    @property
    def peak(self) -> int:
        """Bytes that one device needs."""
        return max(moment.total for moment in self.peaks)

    @property
    def fits(self) -> bool | None:
        """Whether that is at most the device's memory; None if that is not known."""
        return None if self.device_memory is None else self.peak <= self.device_memory


def plan(
    options: RunOptions,
    *,
    devices: int = 1,
    sharding: str = "none",
    device_memory: int | None = None,
    tokens_per_second: float | None = None,
    cuda: bool = True,
) -> Plan:
    """Memory of one device in each phase, tokens and hours.

    Args:
        options: the run; `options.model.name` and, of kind model, `options.reward.name` are read for their config.json.
        devices: how many train together; sharding: one of `resident.SHARDINGS`.
        device_memory: bytes of one device.
        tokens_per_second: prompt and sampled tokens that all devices together get through a whole step.
        cuda: False for a CPU, whose optimizer step and head differ.

    Raises:
        ValueError, TypeError: options that no run could have, or that are not planned.
        FileNotFoundError: no config.json.
    """
    settings = resolve(options)
    setup = make_setup(options, settings, devices, sharding, device_memory, cuda=cuda)
    work = make_work(options, settings, setup, tokens_per_second)
    too_much = device_memory is not None and peaks.peak_bytes(setup) > device_memory
    changes = [_as_set(options, change) for change in what_would_fit(setup, device_memory or 0)] if too_much else []
    return Plan(options, setup, peaks.peaks(setup), work, device_memory, changes)


def _as_set(options: RunOptions, change: str) -> str:
    """A change of options by the keys that have the last word: those of `methods.<method>`, where they are set."""
    own = options.section(f"methods.{options.method}")
    words = []
    for word in change.split():
        section, _, rest = word.partition(".")
        of_method = section in ("training", "generation") and rest.partition("=")[0] in own
        words.append(f"methods.{options.method}.{rest}" if of_method else word)
    return " ".join(words)


def make_setup(
    options: RunOptions,
    settings: Mapping[str, Any],
    devices: int,
    sharding: str,
    device_memory: int | None = None,
    *,
    cuda: bool = True,
) -> Setup:
    """What the memory depends on, from options, resolved settings and the models' config.json; raises as `plan`."""
    check_devices(devices, sharding)
    model = read_architecture(options.model.name, revision=options.model.revision)
    lora = None if options.lora is None else make_lora(options.lora, model)
    batch, micro = settings["per_device_train_batch_size"], settings["gradient_accumulation_steps"]
    online = options.method in ONLINE
    prompt, completion = options.data.max_prompt_tokens, settings["max_completion_length"]
    if not online:
        limit = scalars.integer(f"methods.{options.method}.max_length", settings["max_length"], 2)
        prompt = min(prompt, limit - 1)
        completion = limit - prompt
    check_positions(prompt, completion, model.max_positions, model.name)
    steps = steps_per_generation(settings, devices) if online else 0
    reward, reward_types = _reward(options)
    types, storage = make_types(options, settings, sharding)
    return Setup(
        model=model,
        types=types,
        storage=storage,
        lora=lora,
        batch=batch,
        micro_batches=micro,
        generation_rows=0 if settings["use_vllm"] else batch * steps,
        buffer_rows=batch * steps,
        prompt=prompt,
        completion=completion,
        checkpointing=bool(settings["gradient_checkpointing"]),
        optim=settings["optim"],
        reference=_has_reference(options.method, settings),
        old=online and _scores_pi_t(options, settings, micro % (steps * settings["num_iterations"]) == 0),
        recorded=bool(settings.get("sampler_logps")) and not model.images,
        temperature=float(settings["temperature"]),
        num_generations=settings["num_generations"] if online else 1,
        pairs=options.method == "dpo",
        reward=reward,
        reward_types=reward_types,
        reward_batch=options.reward.batch_size if options.reward else 1,
        devices=devices,
        sharding=sharding,
        vllm_bytes=_vllm(settings, device_memory) if online else 0,
        cuda=cuda,
        fused=bool(settings.get("fused_loss")) and not model.images,
    )


def make_types(options: RunOptions, settings: Mapping[str, Any], sharding: str) -> tuple[Types, int]:
    """Types in the computation, and bytes per weight between its uses.

    Trainer's bf16 is autocast over weights of `model.dtype`. Under FSDP and ZeRO the layers themselves are in bf16;
    FSDP keeps `model.dtype`, ZeRO keeps bf16 beside the float32 copy that it splits.
    """
    storage, autocast = BYTES[options.model.dtype], bool(settings["bf16"])
    compute = 2 if autocast else storage
    weights = compute if sharding in ("fsdp", "zero3") else storage
    adapters = None if options.lora is None else weights if sharding == "zero3" else 4
    return Types(weights, compute, autocast, adapters), weights if sharding == "zero3" else storage


def make_lora(options: LoraOptions, model: Architecture) -> Lora:
    """The adapters; targets are chosen as PEFT does: all linear layers but the head, or those whose names end so.

    Raises:
        ValueError: a rank above the hidden size, targets that the model lacks, or a regular expression.
    """
    if options.r > model.hidden_size:
        raise ValueError(
            f"lora.r = {options.r} is above the hidden size {model.hidden_size} of {model.name}, where it saves"
            " nothing; lower it, or set lora=null to train all weights"
        )
    wanted = options.target_modules
    if wanted == "all-linear":
        return Lora(options.r, frozenset(model.linears))
    if isinstance(wanted, str):
        raise ValueError(f"lora.target_modules = {wanted!r}: regular expressions are not planned; list the layers")
    targets: set[str] = set()
    for name in wanted:
        found = {full for full in model.linears if full == name or full.endswith(f".{name}")}
        if not found:
            kinds = sorted({full.split(".")[-1] for full in model.linears})
            raise ValueError(f"lora.target_modules = {name!r} is not a linear layer; choose from {', '.join(kinds)}")
        targets |= found
    return Lora(options.r, frozenset(targets))


def make_work(options: RunOptions, settings: Mapping[str, Any], setup: Setup, tokens_per_second: float | None) -> Work:
    """Tokens per step and in the run; the run's length is `max_steps`, or follows from `data.limit` and epochs: each
    epoch leaves out prompts that do not fill a rollout, and its last step may have fewer micro-batches."""
    if tokens_per_second is not None:
        scalars.positive("--tokens-per-second", tokens_per_second)
    samples = setup.batch * setup.micro_batches * setup.devices
    reuse = settings["num_iterations"] if options.method in ONLINE else 1
    prompt_tokens = samples * setup.prompt // reuse
    sampled_tokens = samples * setup.completion * (2 if setup.pairs else 1) // reuse
    steps: int | None = None
    if settings["max_steps"] > 0:
        steps = settings["max_steps"]
    elif options.data.limit is not None:
        if options.method in ONLINE:
            rollouts = options.data.limit * setup.num_generations // (setup.buffer_rows * setup.devices)
            micro_batches = rollouts * setup.buffer_rows // setup.batch * reuse
        else:
            pairs = options.method == "dar_offline" and options.data.rated is None  # a pair is two rows
            micro_batches = -(-options.data.limit * (1 + pairs) // (setup.batch * setup.devices))
        steps = max(1, math.ceil(settings["num_train_epochs"] * -(-micro_batches // setup.micro_batches)))
    tokens = None if steps is None else steps * (prompt_tokens + sampled_tokens)
    hours = None if tokens is None or tokens_per_second is None else tokens / tokens_per_second / 3600
    return Work(samples, prompt_tokens, sampled_tokens, steps, tokens, hours)


def device_bytes(text: str) -> int:
    """Bytes of a device given as GiB or by a name of `DEVICES`; ValueError if it is neither."""
    names = {name.lower(): gib for name, gib in DEVICES.items()}
    if text.lower() in names:
        return names[text.lower()] * GIB
    try:
        gib = scalars.read_number(text)
    except ValueError:
        raise ValueError(f"--device-memory = {text!r}; pass GiB, or one of {', '.join(DEVICES)}") from None
    return int(scalars.positive("--device-memory", gib, single=True) * GIB)


def _scores_pi_t(options: RunOptions, settings: Mapping[str, Any], aligned: bool) -> bool:
    """Whether pi_t is scored by a forward of its own. Not where one optimizer step uses up each rollout (`aligned`),
    unless vLLM sampled it. RLOO always scores it, since its reward contains log-probs."""
    return options.method == "rloo" or bool(settings["use_vllm"]) or not aligned


def _has_reference(method: str, settings: Mapping[str, Any]) -> bool:
    """Whether pi_0 is held beside the policy. Offline DAR scores it before the first step, by the policy itself."""
    return method != "dar_offline" and (method not in ("grpo", "rloo") or settings["beta"] != 0.0)


def check_devices(devices: int, sharding: str) -> None:
    scalars.integer("--devices", devices, 1)
    scalars.choice("--sharding", sharding, SHARDINGS)
    if sharding == "none" and devices > 1:
        raise ValueError(f"--sharding none uses one device, not {devices}; choose ddp, fsdp or zero3")


def _reward(options: RunOptions) -> tuple[Architecture | None, Types | None]:
    reward = options.reward
    if reward is None or reward.kind != "model" or options.method not in ONLINE:
        return None, None
    size = BYTES[reward.dtype]
    return read_architecture(reward.name, revision=reward.revision, kind="reward"), Types(size, size, autocast=False)


def _vllm(settings: Mapping[str, Any], device_memory: int | None) -> int:
    if not settings["use_vllm"] or settings["vllm_mode"] != "colocate":
        return 0
    if device_memory is None:
        raise ValueError("vllm_mode = colocate takes a share of the device; pass --device-memory to `dar-ref plan`")
    return int(scalars.fraction("vllm_gpu_memory_utilization", settings["vllm_gpu_memory_utilization"]) * device_memory)
