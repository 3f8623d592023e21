"""A GGUF file becomes a folder: the weights are those of the model that was written to it, and the folder trains.

The file is written here, by the package `gguf`, in the layout of llama.cpp: its rotary weights are permuted.
"""

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from dar_ref.llm.models import gguf as ours
from dar_ref.llm.models.policy import load_policy, model_folder
from dar_ref.llm.options import ModelOptions

WORDS = ["<unk>", "<s>", "</s>", *map(chr, range(ord("a"), ord("z") + 1)), "Ġ", "th", "the"]
CONFIG = LlamaConfig(
    vocab_size=len(WORDS),
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    tie_word_embeddings=True,
    bos_token_id=1,
    eos_token_id=2,
)
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def permuted(weight, heads):
    """Rows of q and k as llama.cpp wants them: the two halves of each head alternate."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def write(model, file, quantize=None):
    """`model` as a GGUF file; `quantize`: type of the matrices, float32 otherwise."""
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_context_length(CONFIG.max_position_embeddings)
    writer.add_embedding_length(CONFIG.hidden_size)
    writer.add_block_count(CONFIG.num_hidden_layers)
    writer.add_feed_forward_length(CONFIG.intermediate_size)
    writer.add_head_count(CONFIG.num_attention_heads)
    writer.add_head_count_kv(CONFIG.num_key_value_heads)
    writer.add_layer_norm_rms_eps(CONFIG.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(WORDS)
    writer.add_token_types([3, 3, 3] + [1] * (len(WORDS) - 3))
    writer.add_token_merges(["t h", "th e"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    for name, value in model.state_dict().items():
        array = value.numpy().astype(np.float32)
        if name == "lm_head.weight":
            continue  # tied
        if name.startswith("model.layers."):
            _, _, layer, rest = name.split(".", 3)
            part = rest.removesuffix(".weight")
            if part == "self_attn.q_proj":
                array = permuted(array, CONFIG.num_attention_heads)
            if part == "self_attn.k_proj":
                array = permuted(array, CONFIG.num_key_value_heads)
            name = f"blk.{layer}.{NAMES[part]}.weight"
        else:
            name = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}[name]
        if quantize is not None and array.ndim == 2:
            writer.add_tensor(name, gguf.quants.quantize(array, quantize), raw_dtype=quantize)
        else:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return LlamaForCausalLM(CONFIG).eval()


def test_the_weights_are_those_of_the_file_and_the_folder_is_read_like_any_other(model, tmp_path, capsys):
    write(model, tmp_path / "small.gguf")
    assert ours.main([str(tmp_path / "small.gguf"), str(tmp_path / "folder")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "folder")
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "folder")
    assert read.config.get_text_config().tie_word_embeddings
    assert all(torch.equal(value, read.state_dict()[name]) for name, value in model.state_dict().items())
    ids = torch.tensor([[1, 5, 9, 30, 2]])
    assert torch.equal(read(ids).logits, model(ids).logits)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "folder")
    assert tokenizer("the", add_special_tokens=False)["input_ids"] == [WORDS.index("the")]
    policy = load_policy(ModelOptions(str(tmp_path / "folder"), dtype="float32"), tmp_path / "folder")
    assert torch.equal(policy(ids).logits, read(ids).logits)


def test_quantised_weights_are_dequantised_once(model, tmp_path):
    kind = gguf.GGMLQuantizationType.Q8_0
    write(model, tmp_path / "small.gguf", kind)
    ours.write_folder(tmp_path / "small.gguf", tmp_path / "folder")
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "folder")
    assert read.dtype == torch.float32
    matrix = model.model.embed_tokens.weight.detach().numpy()
    expected = gguf.quants.dequantize(gguf.quants.quantize(matrix, kind), kind)
    assert torch.equal(read.model.embed_tokens.weight, torch.from_numpy(expected))
    assert not torch.equal(read.model.embed_tokens.weight, model.model.embed_tokens.weight)


@pytest.mark.parametrize("name", [".", "small.gguf"])
def test_a_gguf_file_as_the_model_of_a_run_names_the_command(name, tmp_path):
    (tmp_path / "small.gguf").write_bytes(b"GGUF")
    with pytest.raises((ValueError, OSError), match=r"python -m dar_ref\.llm\.models\.gguf FILE FOLDER"):
        model_folder(ModelOptions(str(tmp_path / name)))


def test_what_is_refused_leaves_nothing(tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.gguf").write_bytes(b"GGUF no more")
    assert ours.main([str(tmp_path / "no.gguf"), str(tmp_path / "new")]) == 2
    assert "no.gguf is not a file; pass a .gguf file" in capsys.readouterr().err
    assert ours.main([str(tmp_path / "file.gguf"), str(tmp_path / "folder")]) == 2
    assert "folder is there already; remove it" in capsys.readouterr().err
    assert ours.main([str(tmp_path / "file.gguf"), str(tmp_path / "new")]) == 2
    assert capsys.readouterr().err.startswith("dar_ref.llm.models.gguf: ")
    assert not (tmp_path / "new").exists()
