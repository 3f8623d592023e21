"""The pieces of `gpu` with tiny sizes, for a CPU: the same code but CUDA's."""

import json
import os
from pathlib import Path
from typing import Any

from dar_ref import results
from dar_ref.llm.options import CONFIGS
from dar_ref.llm.real import sentiment
from dar_ref.real_model.runs import RUNS
from tests.benchmarks.gpu_pieces import Real, Step
from tests.benchmarks.gpu_update import Case, Update
from tests.benchmarks.update_model import REAL_MODEL, REAL_PROMPTS, Setting
from tests.llm.models.small_lm import HEADS, SIZES, save_small_lm

ROOT = Path(__file__).parents[2]
SHRUNK = SIZES | HEADS | {"vocab_size": 300, "max_position_embeddings": 1024}
NO_ENDS = {"bos_token_id": None, "eos_token_id": None}
CHATML = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
UPDATE = Setting(
    rank=2, checkpointing=True, rows=8, prompt=(2, 6), completion=(2, 8), log_median=1.4, together=2, warm_up=1
)
STEP = (
    *("--steps", "3", "model.dtype=float32", "lora.r=2", "data.max_prompt_tokens=8"),
    *("generation.max_completion_length=4", "generation.num_generations=2"),
    *("training.use_cpu=true", "training.bf16=false", "training.gradient_checkpointing=false"),
    *("training.per_device_train_batch_size=2", "training.gradient_accumulation_steps=2"),
)
REAL = (
    *("generation.max_completion_length=4", "data.max_prompt_tokens=1000", "training.save_steps=1"),
    *("training.per_device_train_batch_size=8", "reward.name=tests.llm.training:reward"),  # bytes are no words
)


def pieces(out: Path, command: str) -> list[Any]:
    """All three; what they need is made in OUT/work."""
    work = out / "work"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])  # another folder is used
    architecture = work / "architecture.json"
    content = json.loads((CONFIGS / "architectures" / "Qwen2-0.5B.json").read_text(encoding="utf-8"))
    results.write_json(architecture, content | SHRUNK | NO_ENDS)
    cases = {
        "tiny, LoRA": Case(architecture, UPDATE, 5.0),
        "tiny, all weights": Case(architecture, UPDATE._replace(rank=0), 5.0),
    }
    if not (work / REAL_PROMPTS).is_file():
        _write_real(work)
    runs = [run._replace(seeds=1) for run in RUNS if (run.task, run.name) == ("sentiment", "dar")]
    return [
        Update(cases, 1, out, work, apart=False, command=command),
        Step(["--architecture", str(architecture), *STEP], 30.0, out),
        Real(work, runs, (1, 2), REAL, (10.0, 5.0), out, work),
    ]


def _write_real(place: Path) -> None:
    """A tiny model and a few prompts, where `make real-model` would write them."""
    from transformers import Qwen2Config

    save_small_lm(place / REAL_MODEL, Qwen2Config(**SHRUNK | {"vocab_size": 258}), template=CHATML)
    for split in ("test", "validation", "train"):
        rows = sentiment.prompts(split)[: 64 if split == "train" else 12]
        results.write_text(
            place / REAL_PROMPTS.with_name(f"{split}.jsonl"), "".join(json.dumps(r) + "\n" for r in rows)
        )
