"""Prompts with images: every policy is scored with the image that its prompt has, and where the model puts it."""

import pytest
import torch
from datasets import Dataset
from transformers import Qwen2VLForConditionalGeneration

from dar_ref.llm import DARConfig, DARTrainer, PPOConfig, PPOTrainer
from tests.llm.models.small_vlm import prompts_with_images, save_small_vlm
from tests.llm.training import CPU

PATCHES = 16  # of an image


def reward(completion_ids, **_):
    return [float(sum(ids) % 7) for ids in completion_ids]


def one_step(folder, out, dtype, kind=(DARTrainer, DARConfig)):
    """Train one step; returns the micro-batch that was scored, its log-probs, and the log."""
    processor = save_small_vlm(folder)
    args = kind[1](str(out), **{**CPU, "max_steps": 1}, num_generations=4, max_completion_length=4, report_to="none")
    model = Qwen2VLForConditionalGeneration.from_pretrained(folder, dtype=dtype)
    rows = Dataset.from_list(prompts_with_images())
    trainer = kind[0](model, reward, args, rows, processing_class=processor)
    seen, score = [], trainer._score

    def watched(model, inputs):
        scored, entropies = score(model, inputs)
        seen.append((inputs, scored))
        return scored, entropies

    trainer._score = watched
    trainer.train()
    return *seen[0], trainer.state.log_history[0]


def logps_of_row(model, inputs, row, image):
    """Log-probs of one completion: no padding, full logits, with one image."""
    ids = torch.cat([inputs["prompt_ids"][row], inputs["completion_ids"][row]])
    kept = torch.cat([inputs["prompt_mask"][row], inputs["completion_mask"][row]]).bool()
    length = int(inputs["completion_mask"][row].sum())
    logits = model(
        input_ids=ids[kept][None],
        mm_token_type_ids=inputs["mm_token_type_ids"][row][kept][None],
        pixel_values=inputs["pixel_values"][image * PATCHES : (image + 1) * PATCHES],
        image_grid_thw=inputs["image_grid_thw"][image][None],
    ).logits
    logps = logits[0, -length - 1 : -1].log_softmax(dim=-1)
    return logps.gather(-1, ids[kept][-length:, None])[:, 0]


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-4), (torch.float64, 1e-7)])  # pixels are float32
def test_completions_are_scored_with_their_image(tmp_path, dtype, error):
    inputs, scored, log = one_step(tmp_path / "policy", tmp_path / "out", dtype)
    assert log["kl/pi_0_k1"] == 0.0
    pi_0 = Qwen2VLForConditionalGeneration.from_pretrained(tmp_path / "policy", dtype=torch.float64)
    colours = inputs["pixel_values"].view(len(scored.mask), -1).mean(dim=1)  # rows are shuffled
    with torch.no_grad():
        for row in range(len(scored.mask)):
            expected = logps_of_row(pi_0, inputs, row, row)
            for found in (scored.per_token_logps, scored.ref_per_token_logps):
                assert (found[row][scored.mask[row]].double() - expected).abs().max() < error
            other = logps_of_row(pi_0, inputs, row, int((colours != colours[row]).nonzero()[0]))
            assert (other - expected).abs().max() > 1e-2
    assert inputs["prompt_mask"].min() == 0  # there is left padding


def test_what_ppo_scores_again_has_the_image_too(tmp_path):
    """It scores pi_t once more, before the advantages."""
    *_, log = one_step(tmp_path / "policy", tmp_path / "out", torch.float32, (PPOTrainer, PPOConfig))
    assert log["kl/pi_0_k1"] == pytest.approx(0.0, abs=1e-5)
