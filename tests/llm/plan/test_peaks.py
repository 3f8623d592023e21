"""Sums over a run: what several devices split, what grows with what, and that terms are parts of a whole."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    Qwen2Config,
)

from dar_ref.llm.plan import peaks, resident, tensors
from dar_ref.llm.plan.architecture import describe
from dar_ref.llm.plan.resident import Setup
from dar_ref.llm.plan.tensors import Lora, Types

# --- a run on several devices -----------------------------------------------------------------------------------------

RANK = 4


def sized(layers):
    config = Qwen2Config(
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=2,
        vocab_size=97,
    )
    return describe("qwen2", config)


SMALL, DEEP = sized(3), sized(24)


def setup(**changes):
    """A run of `SMALL` in bfloat16 under autocast."""
    fields = {"model": SMALL, "types": Types(2, 2, autocast=True), "storage": 2, "lora": None, "batch": 4}
    fields |= {"micro_batches": 2, "generation_rows": 8, "buffer_rows": 8, "prompt": 16, "completion": 16}
    fields |= {"checkpointing": True, "optim": "adamw_torch_fused", "reference": True, "old": False}
    return Setup(**(fields | changes))


@given(total=st.integers(0, 10**12), devices=st.integers(1, 4096))
def test_shares_sum_to_the_whole(total, devices):
    share = tensors.share(total, devices)
    assert share * devices >= total > (share - 1) * devices or share == total == 0


@pytest.mark.parametrize("devices", [2, 3, 8, 64])
def test_split_state_sums_to_the_whole(devices):
    """Over all devices FULL_SHARD and ZeRO-3 hold what one device would hold in the same types, up to rounding."""
    for sharding in ("fsdp", "zero3"):
        whole, split = setup(sharding=sharding), setup(sharding=sharding, devices=devices)
        for part in (
            resident.weight_bytes,
            resident.gradient_bytes,
            resident.reference_bytes,
            resident.optimizer_state_bytes,
        ):
            assert 0 <= devices * part(split) - part(whole) <= 16 * devices


def test_what_each_sharding_splits():
    one = {name: setup(sharding=name) for name in resident.SHARDINGS}
    four = {name: setup(sharding=name, devices=4) for name in resident.SHARDINGS if name != "none"}
    parts = (resident.weight_bytes, resident.gradient_bytes, resident.optimizer_state_bytes, resident.reference_bytes)
    split = {name: [part(four[name]) < part(one[name]) for part in parts] for name in four}
    assert split == {
        "ddp": [False, False, False, False],
        "fsdp": [True, True, True, True],
        "zero3": [True, True, True, True],
    }


def test_zero3_gathers_the_whole_model_to_generate_and_at_most_what_may_live_to_update(monkeypatch):
    monkeypatch.setattr(resident, "ZERO3_LIVE", SMALL.count - 1)
    generate, *_, update = peaks.peaks(setup(sharding="zero3", devices=64))
    assert generate.terms["gathered weights"] == SMALL.count * 2
    assert update.terms["gathered weights"] == (SMALL.count - 1) * 2


def peak(made):
    return max(moment.total for moment in peaks.peaks(made))


SIZES = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 64),
        "prompt": st.integers(1, 2048),
        "completion": st.integers(1, 2048),
        "generation_rows": st.integers(1, 512),
        "micro_batches": st.integers(1, 32),
        "checkpointing": st.booleans(),
        "cuda": st.booleans(),
        "fused": st.booleans(),
        "optim": st.sampled_from(tensors.OPTIMIZERS),
        "sharding": st.sampled_from(resident.SHARDINGS[1:]),
    }
)


@given(
    sizes=SIZES,
    name=st.sampled_from(["batch", "prompt", "completion", "generation_rows"]),
    factor=st.integers(1, 5),
)
def test_more_of_anything_takes_no_less(sizes, name, factor):
    for lora in (None, Lora(RANK, frozenset(SMALL.linears))):
        types = Types(2, 2, autocast=True, adapters=lora and 4)
        small = setup(**sizes, types=types, lora=lora)
        large = setup(**(sizes | {name: sizes[name] * factor}), types=types, lora=lora)
        assert peak(large) >= peak(small)


@given(sizes=SIZES, devices=st.integers(2, 512), factor=st.integers(1, 5))
def test_more_devices_take_no_more_of_each(sizes, devices, factor):
    assert peak(setup(**sizes, devices=devices * factor)) <= peak(setup(**sizes, devices=devices))


@given(sizes=SIZES)
def test_checkpointing_takes_at_most_the_input_of_a_layer_more(sizes):
    """It saves what all layers keep, but where the first layer's backward is the peak, only that layer's is left, and
    checkpointing keeps its input as well."""
    with_it, without = (peak(setup(**(sizes | {"checkpointing": c}), model=DEEP)) for c in (True, False))
    layer_input = sizes["batch"] * (sizes["prompt"] + sizes["completion"]) * DEEP.hidden_size * 2
    assert with_it <= without + layer_input


def test_checkpointing_saves_most_of_what_layers_keep():
    update = [peaks.peaks(setup(checkpointing=c, batch=16, prompt=256, model=DEEP))[-1].terms for c in (True, False)]
    assert update[0]["activations"] < update[1]["activations"] / 4


def test_terms_of_a_moment_sum_to_its_total():
    for moment in peaks.moments(setup(devices=2, sharding="ddp")):
        assert moment.total == math.fsum(moment.terms.values())
        assert all(count > 0 for count in moment.terms.values())
