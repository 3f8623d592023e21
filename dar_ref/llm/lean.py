"""A lean update: no forward or backward is spent on what DAR's loss does not need. DAR only.

DAR's weight is a constant that is known before the update; so these four are possible, each an option of `DARConfig`:

fused_loss      the head's gradients are made with its logits, a few tokens at a time (`dar_ref.losses.linear`)
skip_tolerance  completions whose weights sum to at most this share of all are left out of the update
                (`dar_ref.losses.skipping` says what that certifies). If w <= exp(A / beta - alpha log pi_t) says so
                already, they are left out of pi_0's forward too. A bound needs log pi_t before the update: where
                nobody gives it, nothing is left out.
sort_by_length  the completions of an optimizer step are sorted by length into its micro-batches, and each is cut to its
                longest, prompts moved to the left; for pi_0, for pi_t and for the update
sampler_logps   log pi_t is what the sampler drew with (`dar_ref.llm.sampler`). It is taken for the weights if weights
                and sampler are in float32; in narrower types other shapes give other log-probs, and it only decides
                what is left out.

TRL scores before there are rewards. Here pi_0 and pi_t are scored when advantages are known, one window after the
other: the micro-batches of one optimizer step on this process, or of one generation if several serve a step. All
processes run equally many forwards: those that keep fewer completions spread them out. Micro-batches that are not
needed come first and do nothing; the last is always real, since it synchronises gradients.

Shapes: `B` completions of a window on this process, `G` of all processes, `T` tokens.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import use_adapter

from dar_ref.llm import metrics
from dar_ref.llm.batch import Scored, of_batch, token_mask
from dar_ref.llm.linear_head import IGNORED, Weigh, add_linear_head, why_not
from dar_ref.llm.regroup import Batch, by_length, concatenated, cut, moved_left, parts, rows
from dar_ref.losses import DARWeights, LinearCrossEntropy, dar_weights, negligible, sequence_logps

say = logging.getLogger(__name__)


class LeftOut(NamedTuple):
    """Rows of a window that the update leaves out, (B,) bool, and for which pi_0 was not computed; their share of the
    sum of weights, at most."""

    update: Tensor
    reference: Tensor
    bound: float


class Lean:
    """What `DARTrainer` does before and in an update, in place of TRL."""

    def __init__(self, trainer: Any) -> None:
        self.trainer, self.args = trainer, trainer.args
        reason = why_not(trainer.model)
        self.fused = self.args.fused_loss and reason is None
        order = "it takes images" if reason == "it takes images" else _why_not_windows(self.args)
        self.scores_late = order is None
        self._options = {"alpha": self.args.alpha, "beta": self.args.beta, "w_clip": self.args.w_clip}
        self.holds_back = self.recorded = False
        if trainer.accelerator.is_main_process:
            if self.args.fused_loss and reason:
                say.warning("fused_loss has no effect on this model, TRL's fused head is used instead: %s", reason)
            if order:
                say.warning("skip_tolerance, sort_by_length and sampler_logps have no effect: %s", order)
        if self.fused:
            for model in (trainer.model, trainer.ref_model):
                if model is not None:
                    add_linear_head(model, trainer.temperature, wide_head=self.args.cast_lm_head_to_fp32)

    @property
    def exact_sampler(self) -> bool:
        """Whether the sampler's log-probs are those of a scoring forward up to float32's rounding."""
        single = self.trainer.model.dtype == torch.float32 and self.trainer.accelerator.mixed_precision == "no"
        return single and _whole_products()

    # --- TRL's scoring ------------------------------------------------------------------------------------------------

    @contextmanager
    def later(self) -> Iterator[None]:
        """Inside, TRL samples and rewards but scores neither pi_0 nor pi_t, unless vLLM's correction needs pi_t."""
        self.recorded = False
        if not (self.scores_late and self.trainer.model.training):
            yield
            return
        beta, self.trainer.beta = self.trainer.beta, 0.0
        self.holds_back = not (self.args.use_vllm and self.args.vllm_importance_sampling_correction)
        try:
            yield
        finally:
            self.trainer.beta, self.holds_back = beta, False

    def forward(self, model: Any, batch: Batch, weigh: Weigh | None) -> LinearCrossEntropy:
        """The fused loss of a micro-batch; without `weigh` its log-probs only."""
        if self.args.sort_by_length:
            ids, mask, columns = moved_left(batch)
        else:
            ids, mask = (torch.cat([batch[f"prompt_{x}"], batch[f"completion_{x}"]], dim=1) for x in ("ids", "mask"))
            size, length = batch["completion_ids"].shape
            columns = torch.arange(ids.shape[1] - length, ids.shape[1], device=ids.device).expand(size, -1)
        with self.trainer.accelerator.autocast():
            return model(
                input_ids=ids,
                attention_mask=mask,
                labels=batch["completion_ids"].masked_fill(~token_mask(batch), IGNORED),
                columns=columns,
                fused_lm_head=True,
                weigh=weigh,
            )

    def score(self, model: Any, batch: Batch) -> tuple[Scored, Tensor | None]:
        """A micro-batch with its fused loss, and entropies (B, T)."""
        size = self.args.per_device_train_batch_size  # as if nothing were left out

        def weigh(logps: Tensor | None) -> Tensor | None:
            old = batch.get("old_per_token_logps", logps)
            return None if old is None else of_batch(batch, old).coefficients(**self._options) / size

        found = self.forward(model, batch, weigh)
        return of_batch(batch, found.per_token_logps)._replace(loss=found.loss), found.entropy

    def _logps(self, model: Any, window: Batch, index: Tensor) -> Tensor:
        """Log-probs (B, T) of the rows `index` (n,), 0 elsewhere."""
        size = self.args.per_device_train_batch_size
        found = torch.zeros(window["completion_ids"].shape, device=index.device, dtype=window["advantages"].dtype)
        for part in parts(self._order(window, index), size, self._most(-(-len(index) // size))):
            some = self._cut(rows(window, part if len(part) else index.new_zeros(1)))
            if self.fused:
                logps = self.forward(model, some, None).per_token_logps
            else:
                logps = self.trainer._completion_logps(model, some)[0]
            found[part, : logps.shape[1]] = logps[: len(part)].to(found.dtype)
        return found

    @contextmanager
    def _pi_0(self) -> Iterator[Any]:
        trainer = self.trainer
        if trainer.ref_model is not None:
            yield trainer.ref_model
            return
        model = trainer.accelerator.unwrap_model(trainer.model)
        with use_adapter(model, adapter_name="ref" if "ref" in model.peft_config else None):
            yield trainer.model

    # --- windows ------------------------------------------------------------------------------------------------------

    def regrouped(self, buffer: list[Batch]) -> list[Batch]:
        """TRL's micro-batches of a generation, scored, with what is left out gone and the rest in order of length."""
        size = min(self.args.gradient_accumulation_steps, len(buffer))
        off = disable_gradient_checkpointing(self.trainer.model, self.args.gradient_checkpointing_kwargs)
        with torch.no_grad(), off:
            windows = [concatenated(buffer[first : first + size]) for first in range(0, len(buffer), size)]
            return [batch for window in windows for batch in self._micro_batches(window)]

    def _micro_batches(self, window: Batch) -> list[Batch]:
        old = self._pi_t(window)
        everything = torch.arange(len(window["keep"]), device=window["keep"].device)
        if self.args.skip_tolerance == 0.0 or old is None:
            with self._pi_0() as pi_0:
                window["ref_per_token_logps"] = self._logps(pi_0, window, everything)
            return self._split(window, everything)
        left_out = self._left_out(window, old)
        of_others = self._metrics(window, old, left_out)
        first, *batches = self._split(window, everything[~left_out.update])
        return [first | {"left_out": of_others}, *batches]

    def _pi_t(self, window: Batch) -> Tensor | None:
        """Log-probs (B, T) of pi_t, by which rows are left out; written into the window where they are exact."""
        drawn = window.pop("sampling_per_token_logps", None)
        if "old_per_token_logps" in window:  # vLLM's correction needed them
            return window["old_per_token_logps"]
        drawn = drawn if self.recorded else None
        generated = self.args.steps_per_generation * self.trainer.num_iterations
        if drawn is not None and self.exact_sampler:
            window["old_per_token_logps"] = drawn
        elif self.args.gradient_accumulation_steps % generated:  # pi_theta moves while the samples are used
            everything = torch.arange(len(window["keep"]), device=window["keep"].device)
            window["old_per_token_logps"] = self._logps(self.trainer.model, window, everything)
        return window.get("old_per_token_logps", drawn)

    def _left_out(self, window: Batch, old: Tensor) -> LeftOut:
        """Score pi_0 where it may matter; which rows of all processes' windows are left out."""
        gather, tolerance = self.trainer.accelerator.gather, self.args.skip_tolerance
        first = len(old) * self.trainer.accelerator.process_index
        here = slice(first, first + len(old))
        bound, guess = (self._counted(window, ref, old) for ref in (torch.zeros_like(old), old))
        bounds = gather(bound)
        # before pi_0: the guess of the sum is w without pi_0's part, and is checked when the sum is known
        out = negligible(bounds, tolerance / 2, total=gather(guess).sum().item())
        with self._pi_0() as pi_0:
            ref = self._logps(pi_0, window, (~out[here]).nonzero()[:, 0])
            weight = torch.where(out[here], 0.0, self._counted(window, ref, old))
            still = negligible(torch.where(out, bounds, torch.inf), tolerance / 2, total=gather(weight).sum().item())
            if (out & ~still).any():
                ref += self._logps(pi_0, window, (out & ~still)[here].nonzero()[:, 0])
        window["ref_per_token_logps"] = ref
        # after pi_0: true weights
        values = torch.where(still, bounds, gather(self._counted(window, ref, old)))
        total, spent = values[~still].sum().item(), values[still].sum().item()
        limit = total - spent / tolerance
        skipped = still | negligible(torch.where(still, torch.inf, values), tolerance, total=limit)
        return LeftOut(skipped[here], still[here], values[skipped].sum().item() / total if total else 0.0)

    def _counted(self, window: Batch, ref: Tensor, old: Tensor) -> Tensor:
        """Weight of each row times what it counts for, (B,) float64, from log-probs (B, T)."""
        mask = token_mask(window)
        importance = window.get("importance_sampling_ratio")
        counts = window["keep"].double() * (1.0 if importance is None else importance.view(-1))
        weight = self._weights(window, sequence_logps(ref, mask), sequence_logps(old, mask)).weight
        return torch.where(counts != 0, counts * weight, 0.0)

    def _weights(self, window: Batch, ref: Tensor, old: Tensor) -> DARWeights:
        return dar_weights(ref, old, window["advantages"], **self._options)

    def _metrics(self, window: Batch, old: Tensor, left_out: LeftOut) -> metrics.MicroBatch:
        """What the metrics need of the rows that are left out; log the shares."""
        mask, ref = token_mask(window), window["ref_per_token_logps"]
        ref_sums = torch.where(left_out.reference, 0.0, sequence_logps(ref, mask))
        weights = self._weights(window, ref_sums, sequence_logps(old, mask))
        scored, updated = ~left_out.reference, ~left_out.update
        none = torch.zeros_like(old)
        found = metrics.micro_batch(old, ref, old, mask, window["keep"], none, weights, scored=scored, updated=updated)
        for name, flags in (("update", left_out.update), ("reference", left_out.reference)):
            share = self.trainer.accelerator.gather(flags.float()).mean().item()
            self.trainer._log(f"skipped/{name}", share)
        self.trainer._log("skipped/bound", left_out.bound)
        return found.rows(left_out.update)

    # --- micro-batches ------------------------------------------------------------------------------------------------

    def _split(self, window: Batch, kept: Tensor) -> list[Batch]:
        """As many micro-batches as TRL runs of this window: idle ones, then those with the rows `kept`."""
        size = self.args.per_device_train_batch_size
        count, all_rows = len(window["keep"]) // size, torch.arange(len(window["keep"]), device=kept.device)
        # DeepSpeed counts backwards itself, so there every micro-batch has one
        least = count if self.trainer.is_deepspeed_enabled else self._most(max(1, -(-len(kept) // size)))
        window["carrier"] = torch.zeros_like(window["keep"])
        if len(kept) < least:  # a forward needs a row: it is there, and counts nothing
            rest = by_length(window, all_rows[~torch.isin(all_rows, kept)])[len(kept) - least :]
            window["carrier"][rest], window["keep"] = True, window["keep"].clone()
            window["keep"][rest] = False
            kept = torch.cat([kept, rest])
        chosen = parts(self._order(window, kept), size, least)
        idle = [kept[:0]] * (count - len(chosen))
        return [self._cut(rows(window, part)) for part in (*idle, *chosen)]

    def _order(self, window: Batch, index: Tensor) -> Tensor:
        return by_length(window, index) if self.args.sort_by_length else index

    def _cut(self, batch: Batch) -> Batch:
        return cut(batch, self.args.pad_to_multiple_of) if self.args.sort_by_length else batch

    def _most(self, number: int) -> int:
        """The largest of all processes."""
        device = self.trainer.accelerator.device
        return int(self.trainer.accelerator.gather(torch.tensor([number], device=device)).max())


def _why_not_windows(args: Any) -> str | None:
    """None if optimizer steps and generations contain whole numbers of each other."""
    steps, generated = args.gradient_accumulation_steps, args.steps_per_generation
    if steps % generated == 0 or generated % steps == 0:
        return None
    return f"gradient_accumulation_steps = {steps} and steps_per_generation = {generated} do not divide one another"


def _whole_products() -> bool:
    """Whether products of float32 numbers are not rounded before they are summed. torch has two sets of options for
    that, and refuses to answer by the older one where the newer one was used."""
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:
        return all(of.matmul.fp32_precision in ("none", "ieee") for of in (torch.backends.cuda, torch.backends.mkldnn))
