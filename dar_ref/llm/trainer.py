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
7. A completion ends where a stop string is complete. TRL passes transformers no tokenizer to look for one, and would
   count the padding behind it.
8. DAR's own update leaves out what its loss does not need, see `dar_ref.llm.lean`: logits, completions of negligible
   weight, padding, and forwards for what the sampler knows.

In evaluation the same is computed from one evaluation batch of all processes: compare `eval_loss` with `loss` only
where that is as large as a training batch.

Shapes: `B` completions of `T` tokens on this process, `G` completions of all processes; mask 1 = keep. A "batch" is
all that was sampled at once. If several optimizer steps use it, each divides its loss by the average over these steps.
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from trl import GRPOTrainer

from dar_ref.llm import metrics
from dar_ref.llm.batch import Scored, check_start, global_advantages, of_batch, token_mask
from dar_ref.llm.config import DARConfig, DualKLConfig
from dar_ref.llm.lean import Lean
from dar_ref.llm.models.start import check_path
from dar_ref.llm.sampler import recording
from dar_ref.llm.saving import DAR_PAPER, OurCard
from dar_ref.llm.scoring import IMAGES, in_float64, number_positions, until_stop
from dar_ref.losses import DARWeights, dar_loss

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset
    from peft import PeftConfig, PeftModel
    from transformers import (
        BitsAndBytesConfig,
        PreTrainedModel,
        PreTrainedTokenizerBase,
        ProcessorMixin,
        TrainerCallback,
    )
    from trl.trainer.grpo_trainer import RewardFunc


class DARTrainer(OurCard, GRPOTrainer):  # type: ignore[misc]
    """Trains a policy by DAR, in place of `trl.GRPOTrainer`: the same arguments in the same order, the same data.

    Args:
        model: pi_0, by its folder or hub name, or loaded from there.
        reward_funcs: functions of prompts and completions, reward models, or None where an environment gives rewards.
        args: a `DARConfig`; None for its defaults. What follows is as in TRL.

    Raises:
        TypeError: `args` is not a `DARConfig`.
        ValueError: a model that was made in memory, without adapters: pi_0 is read from where the model was loaded.
        RuntimeError: the policy differs from pi_0 before the first step.

    Source: arXiv 2602.11523.
    """

    _name = "DAR"
    _tag_names = ("trl", "dar")
    _paper = DAR_PAPER
    config_class: type[DualKLConfig] = DARConfig
    _buffered_inputs: Any

    def __init__(
        self,
        model: "str | PreTrainedModel | PeftModel",
        reward_funcs: "RewardFunc | list[RewardFunc] | None" = None,
        args: DualKLConfig | None = None,
        train_dataset: "Dataset | IterableDataset | None" = None,
        eval_dataset: "Dataset | IterableDataset | dict[str, Dataset | IterableDataset] | None" = None,
        processing_class: "PreTrainedTokenizerBase | ProcessorMixin | None" = None,
        reward_processing_classes: "PreTrainedTokenizerBase | list[PreTrainedTokenizerBase] | None" = None,
        callbacks: "list[TrainerCallback] | None" = None,
        optimizers: tuple[Any, Any] = (None, None),
        quantization_config: "BitsAndBytesConfig | None" = None,
        peft_config: "PeftConfig | None" = None,
        tools: list[Callable[..., Any]] | None = None,
        rollout_func: Callable[..., Any] | None = None,
        environment_factory: Any = None,
    ) -> None:
        name = check_path(model, peft_config)
        if args is None:
            args = self.config_class(f"{name}-{self._tag_names[-1].upper()}")
        if not isinstance(args, self.config_class):
            wanted = self.config_class.__name__
            raise TypeError(
                f"{type(self).__name__} takes a {wanted} and args is a {type(args).__name__}; pass a {wanted}"
            )
        super().__init__(
            model=model,
            reward_funcs=reward_funcs,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            reward_processing_classes=reward_processing_classes,
            callbacks=callbacks,
            optimizers=optimizers,
            quantization_config=quantization_config,
            peft_config=peft_config,
            tools=tools,
            rollout_func=rollout_func,
            environment_factory=environment_factory,
        )
        for scored_by in (self.model, self.ref_model):
            if scored_by is not None:
                number_positions(scored_by)
        self._stops = [] if args.use_vllm else (args.generation_kwargs or {}).get("stop_strings") or []
        if self._stops:
            self.model.generate = partial(self.model.generate, tokenizer=self._tokenizer)
        ours = (
            type(self).policy_loss is DARTrainer.policy_loss and type(self).shaped_rewards is DARTrainer.shaped_rewards
        )
        self._lean = Lean(self) if isinstance(args, DARConfig) and ours else None
        self._gathered_rewards = torch.empty(0)
        self._window: list[metrics.MicroBatch] = []
        self._clock = metrics.Clock()
        self._checked = False

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
        if self.model.training:
            self._clock.generated(time.perf_counter() - began, sum(map(len, (*generated[0], *generated[1]))))
        return generated

    def _generate_single_turn(self, *of_trl: Any, **named: Any) -> tuple[list[list[int]], Any]:
        lean = self._lean if self.model.training and not self.args.use_vllm else None
        records = lean is not None and self.args.sampler_logps
        with recording(self.model, self.temperature) if records else nullcontext() as recorder:
            completion_ids, logps = super()._generate_single_turn(*of_trl, **named)
        if self._stops:
            completion_ids = [until_stop(ids, self._stops, self._tokenizer) for ids in completion_ids]
        if lean is not None and recorder is not None and recorder.logps:
            lean.recorded = True
            logps = [drawn[: len(ids)] for drawn, ids in zip(recorder.rows(), completion_ids, strict=True)]
        return completion_ids, logps

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        began = time.perf_counter()
        with nullcontext() if self._lean is None else self._lean.later():
            batch = super()._generate_and_score_completions(inputs)
        self._replace_advantages(batch)
        if self.model.training:
            self._clock.scored(time.perf_counter() - began)
        return batch

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        period = self.args.steps_per_generation * self.num_iterations
        fresh = self._buffered_inputs is None or self._step % period == 0
        inputs = super()._prepare_inputs(generation_batch)
        if not (fresh and self.model.training and self._lean is not None and self._lean.scores_late):
            return inputs
        began = time.perf_counter()
        self._buffered_inputs = self._lean.regrouped(self._buffered_inputs)
        self._clock.scored(time.perf_counter() - began)
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    def _replace_advantages(self, batch: dict[str, Any]) -> None:
        """Write DAR's advantages, the mask `keep` and the divisors of the loss into TRL's batch."""
        training = self.model.training
        here = self.accelerator.process_index * len(batch["completion_mask"])
        local = slice(here, here + len(batch["completion_mask"]))
        # `mask_truncated_completions` masks every token of a truncated completion
        left = self.accelerator.gather(batch["completion_mask"].sum(dim=1) > 0)  # (B, T) -> (G,)
        rewards = self.shaped_rewards(self._gathered_rewards, batch)  # (G,)
        size = self.num_generations if training else self.num_generations_eval
        advantages, keep, std = global_advantages(rewards, left, size)
        batch["advantages"], batch["keep"] = advantages[local], keep[local]  # (B,)
        share = keep.to(advantages.dtype).mean()
        if_none = 1.0 if training else torch.nan  # nothing kept: a step of loss 0, but no number for an evaluation
        batch["kept_share"] = torch.where(share > 0, share, if_none)
        tokens = (token_mask(batch).sum(dim=1) * batch["keep"]).sum()
        micro_batches = self.accelerator.num_processes * (self.args.steps_per_generation if training else 1)
        tokens = self.accelerator.reduce(tokens, reduction="sum") / micro_batches
        batch["kept_tokens"] = torch.where(share > 0, tokens, if_none)
        logged = self._logs["advantages"]
        for _ in range(min(len(advantages), len(logged))):  # TRL's, of these completions
            logged.pop()
        logged.extend(advantages.tolist())
        self._log("advantage/std", std.item())
        self._log("completions/excluded", 1.0 - share.item())

    # --- the loss of a micro-batch ------------------------------------------------------------------------------------

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        training = self.model.training
        if "left_out" in inputs:
            self._window.append(inputs["left_out"])
        if not len(inputs["keep"]):  # an idle micro-batch
            return torch.zeros((), device=inputs["keep"].device, requires_grad=True)
        scored, entropies = self._score(model, inputs)
        if training and self.state.global_step == 0 and not self._checked:
            check_start(self.model, scored, self.accelerator.mixed_precision)
            self._checked = True
        loss, weights = self.policy_loss(scored)
        if scored.loss is not None:
            loss = scored.loss
        elif training:
            loss = loss * (len(scored.keep) / self.args.per_device_train_batch_size)
        logps, ref, old = (x.detach() for x in scored[:3])
        found = metrics.micro_batch(logps, ref, old, scored.mask, scored.keep, entropies, weights)
        if "carrier" in inputs:
            found = found.rows(~inputs["carrier"])
        if not training:
            self._log_metrics([found])
            return loss
        self._window.append(found)
        if self.accelerator.sync_gradients:  # the last micro-batch of an optimizer step
            self._log_metrics(self._window)
            self._window.clear()
        return loss / self.current_gradient_accumulation_steps

    def _score(self, model: Any, inputs: dict[str, Any]) -> tuple[Scored, Any]:
        """The micro-batch under pi_theta, with the scores from when it was sampled, and entropies (B, T)."""
        if self._lean is not None and self._lean.fused and self.model.training:
            return self._lean.score(model, inputs)
        logps, entropies, _ = self._completion_logps(model, inputs, compute_entropy=True)
        return of_batch(inputs, logps), entropies

    def _completion_logps(self, model: Any, batch: dict[str, Any], **options: Any) -> tuple[Tensor, Any, Any]:
        """Log-probs (B, T) of a batch's completions, and the rest of what TRL returns."""
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        attention_mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        length = batch["completion_ids"].shape[1]
        images = {name: batch[name] for name in IMAGES if name in batch}
        return self._get_per_token_logps_and_entropies(model, ids, attention_mask, length, **images, **options)

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, logits_to_keep: int, **of_trl: Any
    ) -> tuple[Any, Tensor | None, Tensor | None]:
        if self._lean is not None and self._lean.holds_back:
            return None, None, None
        if self.model.dtype == torch.float64:
            model = partial(in_float64, model, self.temperature, logits_to_keep)
        return super()._get_per_token_logps_and_entropies(model, input_ids, attention_mask, logits_to_keep, **of_trl)

    # --- metrics ------------------------------------------------------------------------------------------------------

    def _log_metrics(self, window: list[metrics.MicroBatch]) -> None:
        for name, value in metrics.step_metrics(window, self.accelerator.gather).items():
            self._log(name, value)

    def _log(self, name: str, value: float) -> None:
        self._metrics["train" if self.model.training else "eval"][name].append(value)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """TRL's log, with seconds of each phase and tokens per second since the last log."""
        if self.model.training and self._clock.tokens:
            tokens = self.accelerator.reduce(torch.tensor(self._clock.tokens, device=self.accelerator.device))
            for name, value in self._clock.read(int(tokens)).items():
                self._log(name, value)
        super().log(logs, start_time)
