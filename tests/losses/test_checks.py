"""The DAR loss refuses wrong input before any work starts: value, reason, remedy."""

import math

import pytest
import torch

from dar_ref.losses import dar_loss, dar_weights

GOOD = [torch.zeros(4) for _ in range(4)]
NAMES = ["logps", "ref_logps", "old_logps", "advantages"]


@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (torch.zeros(3), ValueError, "pass equal shapes"),
        (torch.zeros(1), ValueError, "pass equal shapes"),  # nothing is broadcast
        (torch.zeros(4, 1), ValueError, r"has shape \(4, 1\); pass a non-empty tensor \(B,\)"),
        (torch.zeros(0), ValueError, r"has shape \(0,\)"),
        (torch.zeros(()), ValueError, r"has shape \(\)"),
        (torch.zeros(4, dtype=torch.int64), TypeError, r"is a tensor of torch\.int64"),
        (torch.zeros(4, dtype=torch.complex64), TypeError, r"is a tensor of torch\.complex64"),
        ([0.0, 0.0, None, 0.0], TypeError, "is a list with None at index 2"),
        ((0.0, 0.0, 0.0, 0.0), TypeError, "is a tuple; pass a floating-point tensor"),
        (None, TypeError, "is a NoneType"),
    ],
)
def test_tensors(position, bad, error, message):
    arguments = list(GOOD)
    arguments[position] = bad
    with pytest.raises(error, match=message) as caught:
        dar_loss(*arguments)
    assert any(name in str(caught.value) for name in NAMES)


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("alpha", -0.1, ValueError),
        ("alpha", 1.1, ValueError),
        ("alpha", math.nan, ValueError),
        ("alpha", "0.1", TypeError),
        ("alpha", True, TypeError),
        ("alpha", torch.tensor(0.1), TypeError),
        ("beta", 0.0, ValueError),
        ("beta", -1.0, ValueError),
        ("beta", math.inf, ValueError),
        ("beta", math.nan, ValueError),
        ("beta", None, TypeError),
        ("w_clip", 0.0, ValueError),
        ("w_clip", -1.0, ValueError),
        ("w_clip", math.nan, ValueError),
        ("w_clip", None, TypeError),
    ],
)
def test_options(option, value, error):
    with pytest.raises(error, match=f"{option} = .*; pass "):
        dar_loss(*GOOD, **{option: value})
    with pytest.raises(error, match=f"{option} = .*; pass "):
        dar_weights(*GOOD[1:], **{option: value})


def test_the_weights_alone_check_every_tensor():
    for position in range(3):
        arguments = list(GOOD[1:])
        arguments[position] = torch.zeros(1)
        with pytest.raises(ValueError, match="pass equal shapes"):
            dar_weights(*arguments)


def test_a_weight_exactly_at_the_clip_is_not_clipped():
    zero = torch.zeros(1)
    assert dar_weights(zero, zero, zero, w_clip=1.0).clipped.tolist() == [False]
    assert dar_weights(zero, zero, zero + 1e-6, w_clip=1.0).clipped.tolist() == [True]
