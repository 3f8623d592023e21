"""The fused head of architectures that nobody here wrote, with random weights, against their own logits."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from dar_ref.llm.linear_head import add_linear_head, why_not
from dar_ref.llm.regroup import moved_left

LLAMA = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
LLAMA |= {"num_key_value_heads": 1, "vocab_size": 61, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GPT = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 61, "bos_token_id": 1, "eos_token_id": 2}
ALIBI = {"hidden_size": 16, "n_layer": 2, "n_head": 2, "vocab_size": 61}
KINDS = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "olmo2", "stablelm", "gpt_neox", "phi", "phi3"), LLAMA),
    **dict.fromkeys(("gemma2", "gemma3_text"), LLAMA | {"head_dim": 8, "final_logit_softcapping": 0.5}),
    "gemma": LLAMA | {"head_dim": 8},
    "mixtral": LLAMA | {"num_local_experts": 4, "_experts_implementation": "eager"},
    "gpt2": GPT,
    "gptj": GPT | {"rotary_dim": 4},
    "gpt_bigcode": GPT,
    "bloom": ALIBI,
    "opt": LLAMA | {"ffn_dim": 32, "word_embed_proj_dim": 8, "max_position_embeddings": 64},
    "falcon": LLAMA | {"num_kv_heads": 2, "new_decoder_architecture": False},
}
REFUSED = {"cohere": "logit_scale", "granite": "logits_scaling"}


def build(kind, **changes):
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**KINDS.get(kind, LLAMA), **changes})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float64).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_log_probs_are_those_of_the_models_own_logits(kind):
    model = build(kind)
    assert why_not(model) is None
    add_linear_head(model, temperature=0.7)
    batch = {
        "prompt_ids": torch.tensor([[0, 5, 6], [7, 8, 9]]),
        "prompt_mask": torch.tensor([[0, 1, 1], [1, 1, 1]]),
        "completion_ids": torch.tensor([[10, 11, 12, 2], [13, 2, 0, 0]]),
        "completion_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]),
    }
    ids, mask, columns = moved_left(batch)
    kept = batch["completion_mask"].bool()
    labels = batch["completion_ids"].masked_fill(~kept, -100)
    named = {"labels": labels, "columns": columns, "fused_lm_head": True, "weigh": None}
    found = model(input_ids=ids, attention_mask=mask, **named).per_token_logps
    for row in range(2):
        prompt = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()]
        completion = batch["completion_ids"][row][kept[row]]
        logits = model(input_ids=torch.cat([prompt, completion])[None]).logits[0, len(prompt) - 1 : -1]
        expected = (logits / 0.7).log_softmax(-1).gather(-1, completion[:, None])[:, 0]
        torch.testing.assert_close(found[row][kept[row]], expected, rtol=1e-9, atol=1e-9)
    assert not found[~kept].any()


@pytest.mark.parametrize("kind", REFUSED)
def test_models_with_a_factor_on_their_logits_are_refused(kind):
    assert REFUSED[kind] in why_not(build(kind, **{REFUSED[kind]: 0.25}))
