"""What a model's `config.json` says about its size: parameters, linear layers, cache. No weights are read.

The model is built on torch's meta device, where tensors have shapes and no memory, by the class that would load the
weights: so tied embeddings, biases and norms are counted as they are. The formulas of `dar_ref.llm.plan.tensors` hold
for one family of decoders only: RMSNorm, rotary positions, gated MLP, also of experts. Other policies are refused. Of
a model for images the text part is described. A reward model never runs a backward, so it may have any architecture
that transformers knows; the same formula is used for the activations of its largest layer.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dar_ref import scalars
from dar_ref.llm.models.kinds import check_quantization, check_weights

BUNDLED = Path(__file__).parents[2] / "configs" / "architectures"
# the decoder layers whose saved tensors the tests count
FAMILY = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "olmo2", "phi3", "qwen3_moe")
TEXT_PARTS = {"qwen2_vl_text": "qwen2", "qwen2_5_vl_text": "qwen2"}  # of models for images: the decoder they have
BLOCK = "model.layers."
WIDTHS = ("intermediate_size", "ffn_dim", "n_inner", "d_ff", "ffn_hidden_size")  # of the MLP, in one family or another


@dataclass(frozen=True)
class Architecture:
    """Sizes of a decoder; `parameters` maps every distinct parameter, tied ones once, to its shape.

    linears: (in, out) of every linear layer under its full name, without the head: what LoRA's "all-linear" adapts.
    intermediate_size: of all experts of a token together. norms: over the hidden size, in a layer; wide_norms: they
    multiply with their weight in float32; whole_qk_norm: over all heads at once; capped: attention's scores are
    soft-capped, so they are computed whole; images: the text part of a model that reads images; experts,
    experts_per_token: 0 without experts.
    """

    name: str
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    max_positions: int | None
    tied: bool
    qk_norm: bool
    parameters: dict[str, tuple[int, ...]]
    linears: dict[str, tuple[int, int]]
    norms: int = 2
    wide_norms: bool = False
    whole_qk_norm: bool = False
    capped: bool = False
    images: bool = False
    experts: int = 0
    experts_per_token: int = 0

    @property
    def count(self) -> int:
        """Number of distinct parameters."""
        return sum(map(math.prod, self.parameters.values()))

    @property
    def block_count(self) -> int:
        """Parameters of one decoder layer."""
        return sum(math.prod(shape) for name, shape in self.parameters.items() if name.startswith(f"{BLOCK}0."))

    @property
    def root_count(self) -> int:
        """Parameters outside of the decoder layers: embeddings, last norm, head."""
        return sum(math.prod(shape) for name, shape in self.parameters.items() if not name.startswith(BLOCK))

    @property
    def vocabulary_count(self) -> int:
        """Entries of the head's matrix."""
        return self.vocab_size * self.hidden_size


def read_architecture(
    name: str | Path, *, revision: str | None = None, kind: Literal["causal", "reward"] = "causal"
) -> Architecture:
    """The architecture of a model.

    Args:
        name: a folder with a config.json, such a file, or a hub name: taken from the local hub cache, from the
            descriptions in `dar_ref/configs/architectures`, or from the hub, in this order.
        revision: of the hub.
        kind: causal, a language model; reward, a sequence classifier with one score.

    Raises:
        FileNotFoundError: no config.json can be had.
        ValueError: the file describes no decoder that this package can count, or it is an adapter or quantised.
    """
    from transformers import AutoConfig

    check_weights("model", name)
    path = find_config_json(str(name), revision)
    try:
        config = AutoConfig.from_pretrained(path)
    except Exception as error:  # of many types
        raise ValueError(f"{path} describes no architecture that transformers knows: {_first_line(error)}") from None
    return describe(str(name), config, kind)


def describe(name: str, config: Any, kind: Literal["causal", "reward"] = "causal") -> Architecture:
    """The architecture of a transformers configuration; ValueError if it is not of the family."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    check_quantization(name, getattr(config, "quantization_config", None))
    images = config.get_text_config() is not config
    if kind == "causal":
        config = _text_part(config)
    if kind == "causal" and config.model_type not in FAMILY:
        raise ValueError(
            f"{name}: model_type = {config.model_type!r} is an architecture whose activations are not counted here;"
            f" plan a model of {', '.join(FAMILY)}"
        )
    fields = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    sizes: dict[str, Any] = {field: getattr(config, field, None) for field in fields}
    sizes["intermediate_size"] = next((size for name in WIDTHS if (size := getattr(config, name, None))), None)
    if kind == "reward" and sizes["intermediate_size"] is None and sizes["hidden_size"]:
        sizes["intermediate_size"] = 4 * sizes["hidden_size"]  # in most families without such a field
    for field, size in sizes.items():
        try:
            scalars.integer(field, size, 1)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}: {error}") from None
    if kind == "reward":
        config.num_labels = 1
    auto = AutoModelForCausalLM if kind == "causal" else AutoModelForSequenceClassification
    with torch.device("meta"):
        model = auto.from_config(config)
    model.tie_weights()
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    modules = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    shapes = {n: tuple(p.shape) for n, p in model.named_parameters()}
    q_norm = shapes.get(f"{BLOCK}0.self_attn.q_norm.weight")
    experts_per_token = getattr(config, "num_experts_per_tok", None) or 0
    heads = ("lm_head", "score")
    return Architecture(
        name=name,
        hidden_size=config.hidden_size,
        intermediate_size=experts_per_token * config.moe_intermediate_size
        if experts_per_token
        else sizes["intermediate_size"],
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        kv_heads=getattr(config, "num_key_value_heads", None) or config.num_attention_heads,
        head_dim=head_dim,
        vocab_size=config.vocab_size,
        max_positions=getattr(config, "max_position_embeddings", None),
        tied=kind == "causal" and bool(config.tie_word_embeddings),
        qk_norm=q_norm is not None,
        parameters=shapes,
        linears={n: (m.in_features, m.out_features) for n, m in modules.items() if n.split(".")[-1] not in heads},
        norms=sum(n.startswith(f"{BLOCK}0.") and n.endswith("layernorm.weight") for n in shapes) or 2,
        wide_norms=config.model_type in ("gemma2", "gemma3_text", "olmo2"),
        whole_qk_norm=q_norm is not None and q_norm != (head_dim,),
        capped=getattr(config, "attn_logit_softcapping", None) is not None,
        images=images,
        experts=getattr(config, "num_experts", 0) if experts_per_token else 0,
        experts_per_token=experts_per_token,
    )


def _text_part(config: Any) -> Any:
    """The configuration of the decoder: of the text part, if the model reads images as well."""
    from transformers import AutoConfig

    text = config.get_text_config()
    if text.model_type not in TEXT_PARTS:
        return text
    fields = {n: v for n, v in text.to_dict().items() if n not in ("model_type", "rope_parameters", "layer_types")}
    fields["tie_word_embeddings"] = config.tie_word_embeddings
    return AutoConfig.for_model(TEXT_PARTS[text.model_type], **fields)


def find_config_json(name: str, revision: str | None = None) -> Path:
    """The file that `read_architecture` reads; FileNotFoundError says where it was looked for."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    place = Path(name)
    if place.is_file():
        return place
    if (place / "config.json").is_file():
        return place / "config.json"
    described = BUNDLED / f"{place.name}.json"  # for a hub name, not for a path that was mistyped
    if place.is_dir():
        raise FileNotFoundError(f"{name} is a folder without a config.json; pass the folder of a model")
    try:
        cached = try_to_load_from_cache(name, "config.json", revision=revision)
        if isinstance(cached, str):
            return Path(cached)
        if described.is_file() and name.count("/") <= 1 and not name.startswith((".", "/", "~")):
            return described
        if name.count("/") <= 1:
            return Path(hf_hub_download(name, "config.json", revision=revision))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError):
        pass
    known = ", ".join(sorted(file.stem for file in BUNDLED.glob("*.json")))
    raise FileNotFoundError(
        f"model {name!r}: no such folder, not in the hub cache, and the hub gave no config.json; pass a folder with a"
        f" config.json, or one of {known}"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
