"""`DARTrainer`: TRL's GRPO trainer with DAR's advantages and loss instead of GRPO's.

TRL samples, scores under pi_0 and pi_t, gathers the rewards of all processes, shards, logs and saves. These are all
differences from it:

1. A = (r - mean_K(r)) / std(A). The standard deviation is over all processes and accumulation steps.
2. The loss is `dar_ref.losses.dar_loss`. Log-probs are summed over the completion; all three sums leave out the tokens
   that a tool or an environment wrote.
3. Completions without a reward do not count; nor do truncated ones under `mask_truncated_completions`. They are left
   out of the group's mean, the standard deviation, the loss and its divisor. If a group has only one completion left,
   that one does not count either, since it is its own mean.
4. If vLLM samples, each completion is weighted by pi_t / pi_sampler, as TRL computes it for whole sequences.
5. With float64 weights, the full logits are computed in float64: TRL's fused head sums in float32.
6. Positions are counted from the first token that is not padding, as in sampling. TRL passes no positions when it
   scores. With left padding that is harmless for rotary positions and wrong for absolute ones.

Shapes: `B` completions of `T` tokens on this process, `G` completions of all processes; mask 1 = keep. A "batch" is
all that was sampled at once. If several optimizer steps use it, each divides its loss by the average over these steps.
"""

import time
from typing import Any, NamedTuple

import torch
from torch import Tensor
from trl import GRPOTrainer

from dar_ref.llm import metrics
from dar_ref.llm.config import DARConfig
from dar_ref.llm.scoring import number_positions, whole_logps
from dar_ref.losses import DARWeights, dar_loss, group_advantages, normalize_advantages, sequence_logps

FIRST_STEP_DRIFT = {torch.float64: 1e-8, torch.float32: 1e-3}  # nats per token; other types are coarser
COARSE_DRIFT = 0.1


class Scored(NamedTuple):
    """One micro-batch under the three policies; only `per_token_logps` has a gradient.

    per_token_logps, ref_per_token_logps, old_per_token_logps: (B, T); mask: (B, T) bool, the tokens that count; keep:
    (B,) bool, the completions that count; advantages: (B,); importance: (B,), pi_t / pi_sampler; kept_share: scalar,
    share of the batch that counts; kept_tokens: scalar, mean number of tokens that count per micro-batch.
    """

    per_token_logps: Tensor
    ref_per_token_logps: Tensor
    old_per_token_logps: Tensor
    mask: Tensor
    keep: Tensor
    advantages: Tensor
    importance: Tensor
    kept_share: Tensor
    kept_tokens: Tensor

    def sums(self) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probs of whole completions, (B,) each: pi_theta, pi_0, pi_t."""
        logps, ref_logps, old_logps = (sequence_logps(x, self.mask) for x in self[:3])
        return logps, ref_logps, old_logps

    def counts(self) -> Tensor:
        """Weight of each completion in a mean over the kept ones, (B,); 0 for those that are left out."""
        return self.keep * self.importance / self.kept_share


class DARTrainer(GRPOTrainer):  # type: ignore[misc]
    """Trains a policy by DAR. Arguments and data are those of `trl.GRPOTrainer`; `args` is a `DARConfig`.

    Raises:
        TypeError: `args` is not a `DARConfig`.
        RuntimeError: the policy differs from pi_0 before the first step.

    Source: arXiv 2602.11523.
    """

    _name = "DAR"
    _tag_names = ("trl", "dar")
    config_class: type[DARConfig] = DARConfig

    def __init__(self, model: Any, reward_funcs: Any, args: DARConfig, **of_grpo: Any) -> None:
        if not isinstance(args, self.config_class):
            raise TypeError(f"args is a {type(args).__name__}; pass a {self.config_class.__name__}")
        super().__init__(model=model, reward_funcs=reward_funcs, args=args, **of_grpo)
        for scored_by in (self.model, self.ref_model):
            if scored_by is not None:
                number_positions(scored_by)
        self._gathered_rewards = torch.empty(0)
        self._window: list[metrics.MicroBatch] = []
        self._clock = metrics.Clock()

    # --- the method ---------------------------------------------------------------------------------------------------

    def policy_loss(self, scored: Scored) -> tuple[Tensor, DARWeights | None]:
        """DAR on one micro-batch: the loss, a mean over kept completions, and the weights for the metrics."""
        counts = scored.counts()
        options = {"alpha": self.args.alpha, "beta": self.args.beta, "w_clip": self.args.w_clip}
        loss, weights = dar_loss(*scored.sums(), scored.advantages, **options, sample_weight=counts)
        return loss * counts.mean(), weights  # its part of the mean over the completions of all micro-batches

    def shaped_rewards(self, rewards: Tensor, _batch: dict[str, Any]) -> Tensor:
        """The rewards from which advantages are computed, (G,). DAR takes them as they are."""
        return rewards

    # --- from TRL's batch to advantages -------------------------------------------------------------------------------

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Tensor:
        per_function = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)  # (G, functions)
        if torch.isinf(per_function).any():
            row, column = torch.isinf(per_function).nonzero()[0].tolist()
            raise ValueError(
                f"reward function {self.reward_func_names[column]!r} gave {per_function[row, column].item()} to"
                f" completion {row} of the batch; return a finite number, or None to leave the completion out"
            )
        unscored = torch.isnan(per_function).all(dim=1)
        total = (per_function * self.reward_weights.to(per_function.device)).nansum(dim=1)
        precision = torch.promote_types(self.model.dtype, torch.float32)
        self._gathered_rewards = torch.where(unscored, torch.nan, total).to(precision)
        return per_function

    def _generate(self, prompts: list[Any]) -> Any:
        began = time.perf_counter()
        generated = super()._generate(prompts)
        self._clock.generated(time.perf_counter() - began, sum(len(ids) for ids in (*generated[0], *generated[1])))
        return generated

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        began = time.perf_counter()
        batch = super()._generate_and_score_completions(inputs)
        if self.model.training:
            self._replace_advantages(batch)
            self._clock.scored(time.perf_counter() - began)
        return batch

    def _replace_advantages(self, batch: dict[str, Any]) -> None:
        """Write DAR's advantages, the mask `keep` and the divisors of the loss into TRL's batch."""
        here = self.accelerator.process_index * len(batch["completion_mask"])
        local = slice(here, here + len(batch["completion_mask"]))
        # `mask_truncated_completions` masks every token of a truncated completion
        left = self.accelerator.gather(batch["completion_mask"].sum(dim=1) > 0)  # (B, T) -> (G,)
        rewards = self.shaped_rewards(self._gathered_rewards, batch)  # (G,)
        advantages, keep, std = self.global_advantages(rewards, left)
        batch["advantages"], batch["keep"] = advantages[local], keep[local]  # (B,)
        share = keep.to(advantages.dtype).mean()
        batch["kept_share"] = torch.where(share > 0, share, 1.0)  # nothing kept: loss 0, not 0 / 0
        tokens = (token_mask(batch).sum(dim=1) * batch["keep"]).sum()
        steps = self.args.steps_per_generation * self.accelerator.num_processes
        batch["kept_tokens"] = self.accelerator.reduce(tokens, reduction="sum") / steps
        self._logs["advantages"].clear()
        self._logs["advantages"].extend(advantages.tolist())
        self._log("advantage/std", std.item())
        self._log("completions/excluded", 1.0 - share.item())

    def global_advantages(self, rewards: Tensor, left: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Advantages of the batch of all processes.

        Args:
            rewards: (G,), NaN where there is none; the K completions of a prompt are adjacent.
            left: (G,) bool, False for truncated completions that are masked.

        Returns:
            Advantages (G,), 0 where a completion does not count; (G,) bool, which count; std(A) before normalisation.
        """
        num_generations = self.num_generations
        keep = left & ~torch.isnan(rewards)
        groups = keep.view(-1, num_generations)  # (N, K)
        keep = (groups & (groups.sum(dim=1, keepdim=True) > 1)).view(-1)
        if not keep.any():
            return torch.zeros_like(rewards), keep, torch.zeros((), device=rewards.device)
        known = torch.where(keep, rewards, torch.nan).view(-1, num_generations)  # (N, K)
        means = known.nanmean(dim=1, keepdim=True).nan_to_num(nan=0.0).expand_as(known).reshape(-1)
        advantages = group_advantages(torch.where(keep, rewards, means), num_generations)  # filled in, the mean stays
        counted = advantages[keep]
        advantages = torch.zeros_like(advantages).masked_scatter(keep, normalize_advantages(counted))
        return advantages, keep, counted.std(correction=0)

    # --- the loss of a micro-batch ------------------------------------------------------------------------------------

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        training = self.model.training
        scored, entropies = self._score(model, inputs)
        if training and self.state.global_step == 0 and self._step == 0:
            self._check_start(scored)
        loss, weights = self.policy_loss(scored)
        if not training:
            return loss
        logps, ref, old = (x.detach() for x in scored[:3])
        self._window.append(metrics.micro_batch(logps, ref, old, scored.mask, scored.keep, entropies, weights))
        if self.accelerator.sync_gradients:  # the last micro-batch of an optimizer step
            for name, value in metrics.step_metrics(self._window, self.accelerator.gather).items():
                self._log(name, value)
            self._window.clear()
        return loss / self.current_gradient_accumulation_steps

    def _score(self, model: Any, inputs: dict[str, Any]) -> tuple[Scored, Any]:
        """The micro-batch under pi_theta, with the scores from when it was sampled, and entropies (B, T)."""
        logps, entropies, _ = self._completion_logps(model, inputs, compute_entropy=True)
        old = inputs.get("old_per_token_logps")
        old = logps.detach() if old is None else old  # TRL omits it if pi_theta is still pi_t
        everything = torch.ones_like(inputs["advantages"])
        importance = inputs.get("importance_sampling_ratio")
        scored = Scored(
            per_token_logps=logps,
            ref_per_token_logps=inputs["ref_per_token_logps"],
            old_per_token_logps=old,
            mask=token_mask(inputs),
            keep=inputs.get("keep", everything.bool()),
            advantages=inputs["advantages"],
            importance=everything if importance is None else importance.view(-1),
            kept_share=inputs.get("kept_share", everything[0]),
            kept_tokens=inputs.get("kept_tokens", token_mask(inputs).sum()),
        )
        return scored, entropies

    def _completion_logps(self, model: Any, batch: dict[str, Any], **options: Any) -> tuple[Tensor, Any, Any]:
        """Log-probs (B, T) of a batch's completions, and the rest of what TRL returns."""
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        attention_mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        length = batch["completion_ids"].shape[1]
        return self._get_per_token_logps_and_entropies(model, ids, attention_mask, length, **options)

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        **of_trl: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        if self.model.dtype != torch.float64:
            return super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, batch_size=batch_size, **of_trl
            )
        size = batch_size or len(input_ids)
        rows = zip(torch.split(input_ids, size), torch.split(attention_mask, size), strict=True)
        parts = [whole_logps(model, ids, mask, logits_to_keep, self.temperature) for ids, mask in rows]
        logps, entropies = (torch.cat(part) for part in zip(*parts, strict=True))
        return logps, entropies, None

    def _check_start(self, scored: Scored) -> None:
        """Raise RuntimeError unless pi_theta is pi_0 up to rounding: otherwise every KL would be to another policy."""
        drift = (
            torch.where(scored.mask, (scored.per_token_logps - scored.ref_per_token_logps).detach(), 0.0).abs().max()
        )
        limit = FIRST_STEP_DRIFT.get(self.model.dtype, COARSE_DRIFT)
        if not drift <= limit:
            raise RuntimeError(
                f"before the first step the policy and pi_0 differ by up to {drift.item():.3g} nats per token"
                f" (at most {limit:g} is rounding): dropout is on, or the model in memory is not the one in"
                f" {self.model.config._name_or_path!r}, from which pi_0 is read; save the model and load it from there"
            )

    # --- metrics ------------------------------------------------------------------------------------------------------

    def _log(self, name: str, value: float) -> None:
        self._metrics["train" if self.model.training else "eval"][name].append(value)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """TRL's log, with seconds of each phase and tokens per second since the last log."""
        if self.model.training and self._clock.tokens:
            tokens = self.accelerator.reduce(torch.tensor(self._clock.tokens, device=self.accelerator.device))
            for name, value in self._clock.read(int(tokens)).items():
                self._log(name, value)
        super().log(logs, start_time)


def token_mask(batch: dict[str, Any]) -> Tensor:
    """Tokens that count, (B, T) bool: sampled by the policy, not written by a tool or an environment."""
    mask = batch["completion_mask"].bool()
    return mask & batch["tool_mask"].bool() if "tool_mask" in batch else mask
