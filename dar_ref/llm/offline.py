"""Offline DAR, `method: dar_offline`: DAR's regression on completions that someone else wrote and rated.

    rows (prompt, completion, reward[, old_logps])  ->  A, log pi_0, log pi_t once  ->  the loss of `dar_loss`, epochs

1. pi_t is the policy that wrote the completions: `old_logps` of the rows (its log-prob of the whole completion, EOS
   included), or a model, `sampler`, by which they are computed. The minimiser is then T3's,
   pi* ∝ pi_0^alpha pi_t^(1-alpha) exp(A / beta), on what pi_t wrote: what it never wrote is not learned, whatever pi_0
   and the reward say, and at alpha = 1 that is pi* restricted to the data.
2. Without either, pi_t is taken for pi_0. Then w = exp(A / beta), and the minimiser is mu exp(A / beta) for the mu
   that wrote the data: alpha has no effect, and nothing but the start and a short run holds the policy to pi_0.
3. A = r - mean, over the completions of a prompt (`baseline: prompt`; one alone is its own mean and is left out) or
   over all rows (`baseline: all`), divided by the standard deviation over all rows.
4. A preference pair is two rows with the rewards 1 and 0.
5. pi_0 is the model as it is handed over, adapters included. No second copy is held: log-probs are computed before the
   first step, by one process or several with whole copies of the weights.

Shapes: `n` rows; `B` of a micro-batch, `T` tokens of prompt and completion, padded on the right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from peft import PeftConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, TrainingArguments
from trl.trainer.utils import add_fused_lm_head, disable_dropout_in_model

from dar_ref import scalars
from dar_ref.llm.data.rated import FIXED, IGNORED, check_rows, collate, encode_row, offline_advantages
from dar_ref.llm.metrics import weight_metrics
from dar_ref.llm.models.whole import read_model
from dar_ref.llm.saving import DAR_PAPER, OurCard
from dar_ref.llm.scoring import in_float64, number_positions
from dar_ref.losses import dar_loss, dar_weights, sequence_logps

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

ALPHA = 0.1  # where pi_t is known


@dataclass
class DAROfflineConfig(TrainingArguments):  # type: ignore[misc]
    """Options of `DAROfflineTrainer`: DAR's, what pi_t and the baseline are, and those of transformers."""

    alpha: float | None = field(
        default=None, metadata={"help": "Weight of pi_0 against pi_t; 0.1 where pi_t is known."}
    )
    beta: float = field(default=0.05, metadata={"help": "Strength of the regulariser, > 0."})
    w_clip: float = field(default=20.0, metadata={"help": "Upper bound of the weight, > 0; inf for none."})
    baseline: str = field(default="prompt", metadata={"help": "Whose mean is subtracted: prompt or all."})
    sampler: str | None = field(
        default=None, metadata={"help": "Folder or hub name of the policy that wrote the rows."}
    )
    max_length: int = field(default=1024, metadata={"help": "Longer rows are left out by the script."})
    learning_rate: float = field(default=1e-6, metadata={"help": "Initial learning rate."})
    max_grad_norm: float = field(default=0.0, metadata={"help": "Largest norm of the gradient; 0 clips nothing."})
    gradient_checkpointing: bool = field(default=True, metadata={"help": "Save memory, about a fifth slower."})
    logging_steps: float = field(default=10, metadata={"help": "Steps between two logs."})
    remove_unused_columns: bool = field(default=False, metadata={"help": "Always off."})

    def __post_init__(self) -> None:
        if self.alpha is not None:
            scalars.fraction("alpha", self.alpha)
        scalars.positive("beta", self.beta)
        scalars.positive("w_clip", self.w_clip, or_infinite=True)
        scalars.choice("baseline", self.baseline, ("prompt", "all"))
        if self.remove_unused_columns:
            raise ValueError("remove_unused_columns = True would remove what the weights are made of; leave it out")
        super().__post_init__()


class DAROfflineTrainer(OurCard):
    """Trains a policy by DAR on rows that are there.

    Args:
        model: pi_0, by its folder or hub name (then in float32), or loaded.
        args: a `DAROfflineConfig`; None for its defaults.
        train_dataset: rows with `prompt`, `completion` (both text, or both messages) and `reward`; `old_logps` in all
            rows or none.
        processing_class: the tokenizer.
        callbacks: as in TRL.
        optimizers: as in TRL.
        peft_config: as in TRL.

    Raises:
        TypeError: `args` is not a `DAROfflineConfig`.
        ValueError: rows that cannot be learned from, an alpha that would have no effect, or sharded weights.
    """

    _name = "offline DAR"
    _tag_names = ("dar", "dar-offline")
    _paper = DAR_PAPER
    _note = "The paper's regression, on completions that were there before."
    loss_is_scaled_for_ga = False  # transformers divides by the accumulation steps

    def __init__(
        self,
        model: "str | PreTrainedModel",
        args: DAROfflineConfig | None = None,
        train_dataset: Dataset | None = None,
        processing_class: "PreTrainedTokenizerBase | None" = None,
        callbacks: "list[TrainerCallback] | None" = None,
        optimizers: tuple[Any, Any] = (None, None),
        peft_config: PeftConfig | None = None,
    ) -> None:
        args = DAROfflineConfig("DAR-offline") if args is None else args
        if not isinstance(args, DAROfflineConfig):
            raise TypeError(f"args is a {type(args).__name__}; pass a DAROfflineConfig")
        if train_dataset is None or processing_class is None:
            raise ValueError("train_dataset and processing_class are needed: the rows, and the tokenizer of the model")
        rows = check_rows(train_dataset, args.alpha, args.sampler)
        advantages, keep = offline_advantages(rows, args.baseline)
        if isinstance(model, str):
            model = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        if peft_config is not None:
            model = get_peft_model(model, peft_config)
            if args.gradient_checkpointing:
                model.enable_input_require_grads()
        rows = [row for row, kept in zip(rows, keep.tolist(), strict=True) if kept]
        pad = processing_class.pad_token_id  # what is padded has no label, so EOS serves as well
        super().__init__(
            model=model,
            args=args,
            data_collator=partial(collate, processing_class.eos_token_id if pad is None else pad),
            processing_class=processing_class,
            callbacks=callbacks,
            optimizers=optimizers,
        )
        self.model_accepts_loss_kwargs = False
        if self.is_fsdp_enabled or (args.deepspeed_plugin and args.deepspeed_plugin.zero_stage == 3):
            raise ValueError(
                "dar_offline scores pi_0 by whole copies of the weights: use DDP, or ZeRO-2, or one process"
            )
        prepare(self.model)
        self.train_dataset = self._scored(rows, advantages[keep])
        self._of_data["rows/excluded"] = 1.0 - keep.float().mean().item()

    # --- once ---------------------------------------------------------------------------------------------------------

    def _scored(self, rows: list[dict[str, Any]], advantages: Tensor) -> Dataset:
        """The rows with what their weights are made of: log-probs (n,) under pi_0 and pi_t, and advantages (n,)."""
        encoded = [encode_row(self.processing_class, row) for row in rows]
        ref = self._logps_of_all(self.model, encoded)
        if "old_logps" in rows[0]:
            old = [row["old_logps"] for row in rows]
        elif self.args.sampler:
            what, remedy = (
                f"sampler = {self.args.sampler!r}",
                "they would be random; pass a whole causal language model",
            )
            sampler = read_model(what, AutoModelForCausalLM, self.args.sampler, remedy, dtype=self.model.dtype)
            prepare(sampler)
            old = self._logps_of_all(sampler.to(self.args.device).eval(), encoded)
        else:
            old = ref
        self.alpha = ALPHA if self.args.alpha is None else self.args.alpha
        self.alpha_in_words = "no effect, pi_t is not known" if old is ref else str(self.alpha)
        ref_logps, old_logps = (torch.tensor(values, dtype=torch.float64) for values in (ref, old))
        weights = dar_weights(ref_logps, old_logps, advantages, **self._options())
        self._of_data = {name: float(value) for name, value in weight_metrics(weights).items()}
        ids = {name: [row[name] for row in encoded] for name in ("input_ids", "prompt_length")}
        return Dataset.from_dict({**ids, "ref_logps": ref, "old_logps": old, "advantages": advantages.tolist()})

    @torch.no_grad()
    def _logps_of_all(self, model: Any, encoded: Sequence[Mapping[str, Any]]) -> list[float]:
        """Log-probs of the completions under a model; each process computes a part of them."""
        world, size = self.args.world_size, self.args.per_device_train_batch_size
        share = -(-len(encoded) // world)
        here = encoded[self.args.process_index * share :][:share]
        training = model.training
        model.eval()
        found: list[float] = []
        for first in range(0, len(here), size):
            batch = self._prepare_inputs(self.data_collator([*here[first : first + size]]))
            with self.compute_loss_context_manager():
                found += self._logps(model, batch).tolist()
        model.train(training)
        return gather_object(found)

    # --- every step ---------------------------------------------------------------------------------------------------

    def _logps(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """Log-probs of the completions of a micro-batch, (B,)."""
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
        if self.model.dtype == torch.float64:
            model = partial(in_float64, model, 1.0, inputs["input_ids"].shape[1] - 1)
        scored = model(**inputs, fused_lm_head=True)
        return sequence_logps(scored.log_probs, inputs["labels"][:, 1:] != IGNORED)

    def _options(self) -> dict[str, Any]:
        return {"alpha": self.alpha, "beta": self.args.beta, "w_clip": self.args.w_clip}

    def compute_loss(self, model: Any, inputs: dict[str, Any], *_of_transformers: Any, **_: Any) -> Tensor:
        """DAR on one micro-batch: its completions' part of the mean over those of the update."""
        ref, old, advantages = (inputs[name] for name in FIXED)
        loss = dar_loss(self._logps(model, inputs), ref, old, advantages, **self._options()).loss
        return loss * (len(ref) * self._scale)

    def get_batch_samples(self, *of_transformers: Any) -> Any:
        """The micro-batches of an update. The last of an epoch may be short, and there may be fewer of them."""
        batches, items = super().get_batch_samples(*of_transformers)
        rows = sum(gather_object([sum(len(batch["labels"]) for batch in batches)]))
        self._scale = len(batches) * self.args.world_size / max(rows, 1)  # they and the processes are averaged
        return batches, items

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Transformers' log, with the spread of the weights over all rows, which never changes."""
        super().log(logs | self._of_data if "loss" in logs else logs, start_time)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.create_model_card()
        super()._save_checkpoint(model, trial)


def prepare(model: Any) -> None:
    """Switch dropout off, and let `model(..., labels=, fused_lm_head=True)` give log-probs without the whole logits."""
    disable_dropout_in_model(model)
    add_fused_lm_head(model.get_base_model() if hasattr(model, "get_base_model") else model)
    number_positions(model)
