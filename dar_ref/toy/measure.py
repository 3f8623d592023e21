"""What training did: metrics of each update's samples, and of the policy on prompts it was not trained on."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Qwen2ForCausalLM

from dar_ref.evaluation import hacking_panel, length_controlled_win_rate, score_outcomes, win_rate
from dar_ref.losses import dar_weights, sequence_logps
from dar_ref.toy.config import RunConfig
from dar_ref.toy.methods import Rollout
from dar_ref.toy.policy import Completions, completion_logits, encode_prompts
from dar_ref.toy.sampling import sample
from dar_ref.toy.start import Start

EVALUATION_SEED = 12345  # every policy, pi_0 too, is evaluated with the same random numbers


class Evaluator:
    """Evaluates policies on one set of prompts: some completions per prompt, each compared with one of pi_0."""

    def __init__(self, start: Start, prompts: list[list[str]], samples: int = 1) -> None:
        self.start, self.samples = start, samples
        self.prompt_ids = encode_prompts(start.task, prompts)
        self.reference = self._sample(start.pi_0)
        self.reference_gold = start.gold(self.reference).numpy()

    @torch.no_grad()
    def evaluate(self, policy: Qwen2ForCausalLM, annotations: int) -> dict[str, Any]:
        """Metrics of a policy.

        Args:
            policy: the policy to evaluate.
            annotations: number of labels that its training has used so far.

        Returns:
            The fields of `dar_ref.evaluation.HackingPanel`; its `kl` is `per_completion_kl` to pi_0, mean over samples,
            nats (unbiased, and less noisy than k1). `win_rate`: against pi_0 under the gold judge, a tie counts one
            half. `lc_win_rate`: the same with length controlled. Both in [0, 1]. `gold_NAME`: gold reward on the
            prompts of each part of the task.
        """
        drawn = self._sample(policy)
        gold, lengths = self.start.gold(drawn).numpy(), drawn.mask.sum(dim=1)
        panel = hacking_panel(
            [row[:length] for row, length in zip(drawn.ids.tolist(), lengths.tolist(), strict=True)],
            drawn.finished.numpy(),
            self.start.proxy(drawn).numpy(),
            annotations=annotations,
            gold=gold,
        )
        kl = per_completion_kl(policy, self.start.pi_0, drawn).double().view(-1, self.samples).mean(dim=1)  # per prompt
        standard_error = (kl.std() / len(kl) ** 0.5).item() if len(kl) > 1 else None
        outcomes = score_outcomes(gold, self.reference_gold)
        controlled = length_controlled_win_rate(outcomes, lengths.numpy(), self.reference.mask.sum(dim=1).numpy())
        return {
            **panel._replace(kl=kl.mean().item(), kl_standard_error=standard_error)._asdict(),
            "win_rate": win_rate(outcomes).rate,
            "lc_win_rate": controlled.rate,
            **self._parts(gold),
        }

    def _parts(self, gold: "np.ndarray[Any, Any]") -> dict[str, float]:
        """Mean gold reward on the prompts of each part of the task, as `gold_helpful` and so on."""
        last = [self.start.task.vocabulary[i] for i in self.prompt_ids[:, -1].tolist() for _ in range(self.samples)]
        return {
            f"gold_{part.name}": float(gold[[word == marker for word in last]].mean())
            for marker, part in self.start.task.parts.items()
        }

    def _sample(self, policy: Qwen2ForCausalLM) -> Completions:
        generator = torch.Generator().manual_seed(EVALUATION_SEED)
        return sample(policy, self.prompt_ids, self.samples, self.start.task.max_new_tokens, generator).completions


@torch.no_grad()
def per_completion_kl(policy: Qwen2ForCausalLM, other: Qwen2ForCausalLM, completions: Completions) -> Tensor:
    """`sum_t KL(pi(.|y_<t) ‖ q(.|y_<t))` along each completion, (B,). Over samples of pi its mean is KL(pi‖q)."""
    log_p = completion_logits(policy, completions).log_softmax(dim=-1)  # (B, T, V)
    log_q = completion_logits(other, completions).log_softmax(dim=-1)
    return sequence_logps((log_p.exp() * (log_p - log_q)).sum(dim=-1), completions.mask)


def rollout_metrics(config: RunConfig, rollout: Rollout) -> dict[str, float]:
    """Metrics of one rollout: what was sampled and, for DAR, what the weights do with it.

    reward, length (tokens), missing_eos: means over completions; kl: k1 estimate of KL(pi_t‖pi_0), nats, 0 if pi_0 drew
    the samples; ess: effective sample share (sum w)^2 / (B sum w^2), in (0, 1]; clipped: share of samples above w_clip;
    weight: mean weight.
    """
    mask = rollout.completions.mask
    old, ref = sequence_logps(rollout.old_per_token_logps, mask), sequence_logps(rollout.ref_per_token_logps, mask)
    metrics = {
        "reward": rollout.rewards.mean().item(),
        "length": mask.sum(dim=1).double().mean().item(),
        "missing_eos": 1.0 - rollout.completions.finished.double().mean().item(),
        "kl": (old - ref).mean().item(),
    }
    if config.method == "dar":
        options = {"alpha": config.alpha, "beta": config.beta, "w_clip": config.w_clip}
        weights = dar_weights(ref, old, rollout.advantages, **options)
        metrics["ess"] = weights.ess().item()
        metrics["clipped"] = weights.clipped.double().mean().item()
        metrics["weight"] = weights.weight.double().mean().item()
    return metrics
