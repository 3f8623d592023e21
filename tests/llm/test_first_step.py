"""Before the first step the policy is pi_0, up to the rounding of its type."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from dar_ref.llm.batch import Scored, check_start
from tests.llm.training import make_trainer


@pytest.mark.parametrize("training", [{}, {"bf16": True}])
def test_a_model_that_is_another_is_refused_in_any_precision(training, exported, tmp_path):
    trainer = make_trainer(exported, tmp_path, training={"max_steps": 1, **training})
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    with pytest.raises(RuntimeError, match="before the first step the policy and pi_0 differ"):
        trainer.train()


@pytest.mark.parametrize(
    ("dtype", "mixed_precision", "one", "all_of_them"),
    [
        (torch.float32, "no", True, True),
        (torch.float32, "bf16", False, True),
        (torch.bfloat16, "no", False, True),
        (torch.bfloat16, "bf16", False, True),
    ],
)
def test_in_narrow_types_one_token_may_round_far_and_all_may_not(dtype, mixed_precision, one, all_of_them):
    """What is left out gives the update other shapes than the scores, and these round another way: by 0.17 nats for
    one of 97 tokens of a peaked model in bf16, measured on a CPU."""
    model = SimpleNamespace(dtype=dtype, config=SimpleNamespace(_name_or_path="there"))
    zeros, ones = torch.zeros(2, 50), torch.ones(2)
    for off_by, refused in (
        (0.17 * (torch.arange(100).view(2, 50) == 7), one),
        (torch.full((2, 50), 0.17), all_of_them),
    ):
        scored = Scored(zeros + off_by, zeros, zeros, zeros == 0, ones > 0, ones, ones, ones[0], ones[0])
        with pytest.raises(RuntimeError, match="policy and pi_0 differ by") if refused else nullcontext():
            check_start(model, scored, mixed_precision)
