"""Every formula of the plan against the tensors that it counts: real models, real optimizers, autograd's own saving."""

import inspect
import itertools
import time
from contextlib import nullcontext

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.profiler import ProfilerActivity, profile
from transformers import (
    Adafactor,
    AutoModelForCausalLM,
    DynamicCache,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    Phi3Config,
    Qwen2Config,
    Qwen2VLConfig,
    Qwen3Config,
    Qwen3MoeConfig,
)
from trl.kernels import ChunkedLogProbFunction

from dar_ref.llm import sampler
from dar_ref.llm.plan import fused, peaks, resident, tensors
from dar_ref.llm.plan.architecture import describe, read_architecture
from dar_ref.llm.plan.tensors import Lora, Types
from dar_ref.llm.sampler import recording
from dar_ref.losses import linear_cross_entropy

CLASSES = {"qwen2": Qwen2Config, "qwen3": Qwen3Config, "llama": LlamaConfig, "mistral": MistralConfig}
CLASSES |= {"gemma2": Gemma2Config, "gemma3_text": Gemma3TextConfig, "olmo2": Olmo2Config, "phi3": Phi3Config}
CLASSES |= {"qwen3_moe": Qwen3MoeConfig}
OF_KIND = {
    "gemma2": {"query_pre_attn_scalar": 8},
    "gemma3_text": {"query_pre_attn_scalar": 8},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 80, "decoder_sparse_step": 1},
}
NEARLY = {"gemma2": 0.01, "gemma3_text": 0.01, "phi3": 0.05, "qwen3_moe": 0.01}  # not counted to the byte
TARGETS = {"full": None, "all-linear": "all-linear", "q and v": ["q_proj", "v_proj"]}
RANK, B, T = 4, 3, 11


def config(kind, layers=2, **changes):
    sizes = {"hidden_size": 64, "intermediate_size": 160, "num_attention_heads": 8, "num_key_value_heads": 2}
    sizes |= {"num_hidden_layers": layers, "vocab_size": 97, "max_position_embeddings": 64, "head_dim": 8}
    sizes |= {"pad_token_id": 0, **OF_KIND.get(kind, {})}
    return CLASSES[kind](**(sizes | changes))


def build(kind="qwen2", dtype=torch.float32, targets=None, **changes):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config(kind, **changes), dtype=dtype)
    if targets is not None:
        model = get_peft_model(model, LoraConfig(r=RANK, target_modules=targets))
        model.enable_input_require_grads()
    return model.train()


def adapters(architecture, targets):
    if targets is None:
        return None
    names = architecture.linears
    return Lora(RANK, frozenset(n for n in names if targets == "all-linear" or n.split(".")[-1] in targets))


# --- parameters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", CLASSES)
def test_parameters_are_those_of_the_model(kind, tied):
    model = build(kind, tie_word_embeddings=tied)
    described = describe(kind, config(kind, tie_word_embeddings=tied))
    assert described.count == sum(p.numel() for p in model.parameters())
    blocks = sum(p.numel() for p in model.model.layers[0].parameters())
    assert described.block_count == blocks
    assert described.root_count == described.count - 2 * blocks
    assert described.tied == tied


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"], ["down_proj"]])
def test_adapters_are_those_of_peft(targets):
    model = build(targets=targets)
    described = describe("qwen2", config("qwen2"))
    shapes = adapters(described, targets).shapes(described)
    trained = [tuple(p.shape) for p in model.parameters() if p.requires_grad]
    assert sorted(shapes) == sorted(trained)


def test_adapters_of_a_bfloat16_model_are_float32():
    assert {p.dtype for p in build(dtype=torch.bfloat16, targets="all-linear").parameters() if p.requires_grad} == {
        torch.float32
    }


@pytest.mark.parametrize(
    ("name", "kind", "count"),
    [
        ("Qwen/Qwen2-7B", "causal", 7_615_616_512),
        ("Qwen/Qwen2-0.5B", "causal", 494_032_768),
        # published with a language model's head of 50304 x 2560, here with one score
        ("trl-lib/pythia-2.8b-deduped-tldr-rm", "reward", 2_775_208_960 - 50304 * 2560 + 2560),
        ("trl-lib/pythia-1b-deduped-tldr-rm", "reward", 1_011_781_632 - 50304 * 2048 + 2048),
        ("Skywork/Skywork-Reward-V2-Qwen3-4B", "reward", 4_022_468_096 + 2560),
    ],
)
def test_the_descriptions_that_come_along_have_the_published_sizes(name, kind, count):
    assert read_architecture(name, kind=kind).count == count


PUBLISHED = {  # name: sizes of the public config.json, and the published number of parameters
    "gemma-2-2b": ("gemma2", (2304, 9216, 26, 8, 4, 256, 256_000), {}, 2_614_341_888),
    "gemma-3-1b-pt": ("gemma3_text", (1152, 6912, 26, 4, 1, 256, 262_144), {}, 999_885_952),
    "Phi-3-mini-4k-instruct": ("phi3", (3072, 8192, 32, 32, 32, 96, 32_064), {}, 3_821_079_552),
    "OLMo-2-1124-7B": ("olmo2", (4096, 11_008, 32, 32, 32, 128, 100_352), {}, 7_298_617_344),
    "Qwen3-8B": ("qwen3", (4096, 12_288, 36, 32, 8, 128, 151_936), {}, 8_190_735_360),
    "Qwen3-30B-A3B": (
        "qwen3_moe",
        (2048, 6144, 48, 32, 4, 128, 151_936),
        {"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768},
        30_532_122_624,
    ),
    "Meta-Llama-3-8B": ("llama", (4096, 14_336, 32, 32, 8, 128, 128_256), {}, 8_030_261_248),
    "Mistral-7B-v0.1": ("mistral", (4096, 14_336, 32, 32, 8, 128, 32_000), {}, 7_241_732_096),
}
FIELDS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
FIELDS += ("head_dim", "vocab_size")


@pytest.mark.parametrize("name", PUBLISHED)
def test_public_models_have_the_published_sizes(name):
    kind, sizes, others, published = PUBLISHED[name]
    public = CLASSES[kind](**dict(zip(FIELDS, sizes, strict=True)), **others, pad_token_id=0)
    found = describe(name, public)
    assert found.count == published
    assert found.block_count * sizes[2] + found.root_count == published


def test_the_text_part_of_a_model_for_images_is_its_decoder():
    """Qwen2-VL-2B's is Qwen2-1.5B."""
    text = {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12}
    text |= {"num_key_value_heads": 2, "vocab_size": 151_936}
    described = describe("Qwen2-VL-2B", Qwen2VLConfig(text_config=text, tie_word_embeddings=True))
    assert described.count == 1_543_714_304
    assert described.tied


# --- activations ------------------------------------------------------------------------------------------------------


def saved_by_autograd(kind, layers, dtype, autocast, targets):
    """Bytes of all storages that the decoder's forward saves, parameters and their copies left out."""
    model = build(kind, dtype, targets, layers=layers)
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}
    shapes = {tuple(s) for p in model.parameters() for s in (p.shape, p.shape[::-1])}
    ids, mask = torch.randint(0, 97, (B, T)), torch.ones(B, T, dtype=torch.long)  # (B, T)
    mask[0, :4] = 0
    seen, alive = {}, []

    def pack(tensor):
        alive.append(tensor)  # so that no address is used twice
        storage = tensor.untyped_storage()
        copy = autocast and tuple(tensor.shape) in shapes
        if storage.data_ptr() not in parameters and not copy:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    decoder = (model.get_base_model() if targets else model).model
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast),
    ):
        decoder(input_ids=ids, attention_mask=mask, use_cache=False)
    return sum(seen.values())


ACTIVATIONS = [
    *itertools.product(["qwen2"], ["float32", "bfloat16"], [False, True], TARGETS),
    *itertools.product(["qwen3"], ["float32", "bfloat16"], [True], ["full", "all-linear"]),
    *itertools.product(["llama", "mistral"], ["float32"], [False], ["full", "all-linear"]),
    *itertools.product(["gemma2", "gemma3_text", "olmo2", "phi3", "qwen3_moe"], ["float32"], [False], ["full"]),
    *itertools.product(["gemma2", "gemma3_text", "olmo2", "phi3", "qwen3_moe"], ["bfloat16"], [True], ["full"]),
]


@pytest.mark.parametrize(("kind", "dtype", "autocast", "targets"), ACTIVATIONS)
def test_a_layer_saves_what_autograd_saves(kind, dtype, autocast, targets):
    arguments = (getattr(torch, dtype), autocast, TARGETS[targets])
    one_more = saved_by_autograd(kind, 3, *arguments) - saved_by_autograd(kind, 2, *arguments)
    architecture, size = describe(kind, config(kind)), tensors.BYTES[dtype]
    types = Types(size, 2 if autocast else size, autocast, None if TARGETS[targets] is None else 4)
    lora = adapters(architecture, TARGETS[targets])
    assert tensors.layer_saved(architecture, types, lora, B, T) == pytest.approx(one_more, rel=NEARLY.get(kind, 0.0))


def peak_of(work):
    """Most bytes of tensors that `work` has at once, beside what it was given."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        start = time.time_ns()
        work()
    events = profiler.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]" and e.start_ns() >= start)
    return max(itertools.accumulate(change for _, change in changes))


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("targets", ["full", "all-linear"])
@pytest.mark.parametrize(("dtype", "autocast"), [("float32", False), ("bfloat16", True), ("float32", True)])
def test_the_backward_of_the_layers_takes_what_it_takes(dtype, autocast, targets, checkpointing):
    """Two moments are counted, the backward of the last layer and that of the first, when all gradients are there."""
    rows, length, shape = 8, 160, {"hidden_size": 128, "intermediate_size": 512, "head_dim": 16, "layers": 4}
    model = build(dtype=getattr(torch, dtype), targets=TARGETS[targets], **shape, max_position_embeddings=512)
    if checkpointing:
        model.gradient_checkpointing_enable()
    ids, mask = torch.randint(0, 97, (rows, length)), torch.ones(rows, length, dtype=torch.long)  # (B, T)
    mask[0, :9] = 0
    decoder = (model.get_base_model() if TARGETS[targets] else model).model

    def work():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            last = decoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        last.backward(torch.ones_like(last))

    a = describe("qwen2", config("qwen2", **shape))
    size = tensors.BYTES[dtype]
    types = Types(size, 2 if autocast else size, autocast, None if TARGETS[targets] is None else 4)
    fields = {"model": a, "types": types, "storage": size, "lora": adapters(a, TARGETS[targets]), "batch": rows}
    fields |= {"micro_batches": 1, "generation_rows": 0, "buffer_rows": rows, "prompt": 80, "completion": 80}
    fields |= {"checkpointing": checkpointing, "optim": "sgd", "reference": False, "old": False, "cuda": False}
    moments = peaks.moments(resident.Setup(**fields))
    layers = [m for m in moments if m.name in ("the last layer's backward", "the first layer's backward")]
    planned = max(m.total - m.terms["weights"] - m.terms["rollout"] for m in layers)
    if targets == "full":  # without the head's gradient and, in what `last` is made of, the head
        planned -= a.vocabulary_count * size
    output = 2 * rows * length * a.hidden_size * size  # `last` and its gradient, which the head would hold
    assert planned + output == pytest.approx(peak_of(work), rel=0.1)


@pytest.mark.parametrize("vocabulary", [40_000, 5_000])
@pytest.mark.parametrize("trained", [True, False])
def test_the_head_takes_what_trls_kernel_takes(vocabulary, trained):
    architecture = describe("qwen2", config("qwen2", vocab_size=vocabulary))
    types, tokens = Types(4, 4, autocast=False), 48
    hidden = torch.randn(tokens, 64, requires_grad=True)
    weight = torch.randn(vocabulary, 64, requires_grad=trained)
    targets = torch.randint(0, vocabulary, (tokens,))
    made = []

    def forward():
        made.append(ChunkedLogProbFunction.apply(hidden, weight, None, targets, 1.0, 32768, None, 1.0, ("entropy",)))

    assert peak_of(forward) == pytest.approx(tensors.head_forward(architecture, types, tokens, cuda=False), rel=0.01)
    planned = tensors.head_backward(architecture, types, tokens, cuda=False, trained=trained)
    assert peak_of(lambda: made[0][0].sum().backward()) == pytest.approx(planned, rel=0.01)


@pytest.mark.parametrize("tokens", [48, 600])
@pytest.mark.parametrize("trained", [True, False])
def test_the_fused_loss_takes_what_it_takes(tokens, trained):
    architecture = describe("qwen2", config("qwen2", vocab_size=20_000))
    types = Types(4, 4, autocast=False)
    hidden = torch.randn(1, tokens, 64, requires_grad=True)
    weight = torch.randn(20_000, 64, requires_grad=trained)
    others = (torch.randint(0, 20_000, (1, tokens)), torch.ones(1, tokens), torch.ones(1))
    made = []

    def forward():
        made.append(linear_cross_entropy(hidden, weight, *others))

    planned = fused.head(architecture, types, tokens, trained=trained)
    assert peak_of(forward) == pytest.approx(planned, rel=0.02)
    planned = fused.saved(architecture, types, tokens, trained=trained)
    assert peak_of(lambda: made[0].loss.backward()) <= 2 * planned
    planned = fused.head(architecture, types, tokens, trained=None)
    assert peak_of(lambda: linear_cross_entropy(hidden, weight, *others[:2])) == pytest.approx(planned, rel=0.02)
    assert inspect.signature(linear_cross_entropy).parameters["chunk_size"].default == fused.CHUNK


@pytest.mark.parametrize("rows", [5, 32])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("recorded", [True, False])
def test_sampling_takes_what_it_takes(rows, temperature, recorded):
    model = build(vocab_size=20_000, layers=1).requires_grad_(False)
    options = {"do_sample": True, "temperature": temperature, "top_k": 0, "max_new_tokens": 4, "eos_token_id": None}
    prompts = torch.ones(rows, 3, dtype=torch.long)

    def work():
        with recording(model, temperature) if recorded else nullcontext():
            model.generate(prompts, attention_mask=torch.ones_like(prompts), pad_token_id=0, **options)

    architecture = describe("qwen2", config("qwen2", vocab_size=20_000))
    types = Types(4, 4, autocast=False)
    planned = tensors.sampling_bytes(architecture, types, rows, temperature, recorded=recorded)
    assert peak_of(work) == pytest.approx(planned, rel=0.02)
    assert tensors.RECORDED_PARTS == sampler.PARTS


# --- cache, optimizer, rollout ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_cache_is_a_dynamic_cache(dtype):
    cache = DynamicCache()
    build(dtype=dtype)(input_ids=torch.zeros(B, T, dtype=torch.long), past_key_values=cache, use_cache=True)
    actual = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    architecture = describe("qwen2", config("qwen2"))
    assert tensors.cache_bytes(architecture, B, T, dtype.itemsize) == actual
    assert tensors.cache_growth(architecture, B, T, dtype.itemsize) == cache.layers[0].keys.nbytes


def optimizer(name, parameters):
    if name == "adafactor":
        return Adafactor(parameters, lr=1e-3, scale_parameter=False, relative_step=False)
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=1e-3)
    return torch.optim.AdamW(parameters, lr=1e-3, fused=name.endswith("fused"))


@pytest.mark.parametrize("targets", [None, "all-linear"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["adamw_torch", "adamw_torch_fused", "adafactor", "sgd"])
def test_the_optimizers_state_is_what_a_step_leaves(name, dtype, targets):
    model = build(dtype=dtype, targets=targets)
    trained = [p for p in model.parameters() if p.requires_grad]
    stepping = optimizer(name, trained)
    model(input_ids=torch.zeros(B, T, dtype=torch.long)).logits.float().sum().backward()
    stepping.step()
    values = (value for kept in stepping.state.values() for value in kept.values())
    actual = sum(value.nbytes for value in values if isinstance(value, torch.Tensor) and value.numel() > 1)
    steps = 4 * len(trained) * name.startswith("adamw")  # float32 counters, one a tensor
    shapes = [tuple(p.shape) for p in trained]
    assert tensors.optimizer_bytes(name, shapes, trained[0].dtype.itemsize) == actual + steps
    assert sum(p.grad.nbytes for p in trained) == tensors.count(shapes) * trained[0].dtype.itemsize


@pytest.mark.parametrize("name", ["adamw_torch", "adafactor"])
def test_an_optimizer_step_takes_what_it_takes(name):
    parameters = [torch.nn.Parameter(torch.randn(300, 400)), torch.nn.Parameter(torch.randn(500))]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    stepping = optimizer(name, parameters)
    stepping.step()  # the state is there from now on
    planned = tensors.step_bytes(name, [(300, 400), (500,)], 4, cuda=False)
    assert peak_of(stepping.step) == pytest.approx(planned, rel=0.02)


def test_eight_bit_moments_are_a_byte_and_a_scale_for_256_entries():
    assert tensors.optimizer_bytes("adamw_8bit", [(256, 256)], 4) == 2 * (65536 + 4 * 256)
    assert tensors.optimizer_bytes("adamw_8bit", [(63,)], 4) == 2 * 4 * 63
