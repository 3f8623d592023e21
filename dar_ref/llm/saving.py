"""What a trained policy's folder says of itself: a model card of ours, and tied weights once.

TRL's card credits the paper of GRPO to every trainer that is derived from its own. Under FSDP2 and ZeRO-2 the weights
are gathered one by one, so a head that is tied to the embeddings becomes a second tensor, and transformers saves both.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard, ModelCardData
from torch import Tensor
from transformers import Trainer

DAR_PAPER = {
    "title": "Unifying Stable Optimization and Reference Regularization in RLHF",
    "id": "2602.11523",
    "citation": """@inproceedings{he2026unifying,
  title     = {Unifying Stable Optimization and Reference Regularization in {RLHF}},
  author    = {He, Li and Qu, Qiang and Zhao, He and Wan, Stephen and Wang, Dadong and Yao, Lina and Liu, Tongliang},
  booktitle = {International Conference on Learning Representations},
  year      = {2026},
  note      = {arXiv:2602.11523}
}""",
}
PPO_PAPER = {
    "title": "Proximal Policy Optimization Algorithms",
    "id": "1707.06347",
    "citation": """@article{schulman2017proximal,
  title   = {Proximal Policy Optimization Algorithms},
  author  = {Schulman, John and Wolski, Filip and Dhariwal, Prafulla and Radford, Alec and Klimov, Oleg},
  journal = {arXiv:1707.06347},
  year    = {2017}
}""",
}
OPTIONS = ("alpha", "beta", "w_clip", "epsilon", "num_generations", "temperature", "learning_rate", "max_steps")
PACKAGES = ("dar-ref", "trl", "transformers", "torch", "datasets", "tokenizers")


class TiedOnce(Trainer):  # type: ignore[misc]
    """For trainers: saves a weight that is tied to another one once; an evaluation changes no random number of the
    training, so a run with other evaluations, or none, is the same run."""

    def evaluate(self, *args: Any, **named: Any) -> dict[str, float]:
        """As in transformers."""
        device = self.args.device
        with torch.random.fork_rng([] if device.type == "cpu" else [device]):
            return super().evaluate(*args, **named)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        if state_dict:
            state_dict = without_copies(state_dict, getattr(self.model, "all_tied_weights_keys", {}))
        super()._save(output_dir, state_dict)


def without_copies(state_dict: dict[str, Tensor], tied: dict[str, str]) -> dict[str, Tensor]:
    """`state_dict` without each tensor that equals the one it is tied to, by `tied` = {name: name of that one}."""
    copies = {
        name
        for name, source in tied.items()
        if name in state_dict and source in state_dict and torch.equal(state_dict[name], state_dict[source])
    }
    return {name: tensor for name, tensor in state_dict.items() if name not in copies}


class OurCard(TiedOnce):
    """For trainers: a model card that names the method, its paper, its options and this package."""

    _paper: dict[str, str] = DAR_PAPER
    _note = ""

    def create_model_card(
        self, model_name: str | None = None, dataset_name: str | None = None, tags: str | list[str] | None = None
    ) -> None:
        """Write README.md into the output folder; arguments as in TRL."""
        if not self.is_world_process_zero():
            return
        folder, origin = Path(self.args.output_dir), self.model.config._name_or_path
        base = origin if origin and not Path(origin).is_dir() else None
        name = model_name or folder.name
        more = [tags] if isinstance(tags, str) else tags or []
        data = ModelCardData(
            base_model=base,
            datasets=dataset_name,
            library_name="transformers",
            model_name=name,
            tags=sorted({"generated_from_trainer", *self._tag_names, *more}),
        )
        text = self._card_text(name, base, Path(origin).name, dataset_name)
        ModelCard(f"---\n{data.to_yaml()}\n---\n{text}").save(folder / "README.md")

    def _card_text(self, name: str, base: str | None, folder: str, dataset: str | None) -> str:
        args = self.args
        start = f"[{base}](https://huggingface.co/{base})" if base else f"`{folder}`"
        data = f" on [{dataset}](https://huggingface.co/datasets/{dataset})" if dataset else ""
        unused = {"epsilon"} - getattr(args, "meaningful", set())
        used = {key: getattr(args, key) for key in OPTIONS if hasattr(args, key) and key not in unused}
        if used.get("alpha", 0) is None:
            used["alpha"] = getattr(self, "alpha_in_words", None)  # of offline DAR, where the data decide
        used["max_steps"] = self.state.max_steps or args.max_steps
        options = "\n".join(f"- {key}: {value}" for key, value in used.items())
        packages = "\n".join(f"- {package}: {version(package)}" for package in PACKAGES)
        return f"""
# {name}

A policy trained from {start}{data} with {self._name}, by dar-ref {version("dar-ref")}. {self._note}

Paper: [{self._paper["title"]}](https://arxiv.org/abs/{self._paper["id"]}), arXiv {self._paper["id"]}.

## Options

{options}

## Versions

{packages}

## Citation

```bibtex
{self._paper["citation"]}
```
"""
