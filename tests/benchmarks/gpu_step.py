"""The full-size script on one GPU: seconds of each phase, peak memory and tokens per second, compared with the plan and
with TRL's GRPO in the same run. `make benchmark-gpu`.

The model is `qwen2-7b-tldr` as configured, with LoRA, but nothing is downloaded: the weights are random, the tokenizer
has as many made-up words, the prompts have full length and the reward is a function. Random weights hardly ever end a
completion, so completions have full length too: the highest cost of a step. Each method runs in its own process; the
first two steps are warm-up and not counted.

    python -m tests.benchmarks.gpu_step --json docs/results/gpu/step/results.json
    python -m tests.benchmarks.gpu_step --config FILE --architecture FILE ...   another size, a CPU included
"""

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dar_ref import results
from dar_ref.llm.options import CONFIGS, RunOptions, load_options, make_options, options_as_json

WARM_UP = 2
PHASES = ("generate", "score", "update")
METHODS = ("dar", "grpo")


def reward(completion_ids: list[list[int]], **_: Any) -> list[float]:
    """Some number that differs between completions."""
    return [float(sum(ids) % 1000) for ids in completion_ids]


def make_inputs(options: RunOptions, architecture: Path, folder: Path, prompts: int) -> RunOptions:
    """Write architecture, tokenizer and prompts into `folder`. Return the options of a run on them."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    size = json.loads(architecture.read_text(encoding="utf-8"))["vocab_size"]
    shutil.copy(architecture, folder / "config.json")
    special = ["<unk>", "<eos>", "<pad>"]
    words = special + [f"w{i}" for i in range(len(special), size)]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>", pad_token="<pad>").save_pretrained(folder)
    rng, length = random.Random(0), options.data.max_prompt_tokens
    rows = (" ".join(words[rng.randrange(len(special), size)] for _ in range(length)) for _ in range(prompts))
    results.write_text(folder / "prompts.jsonl", "".join(json.dumps({"prompt": row}) + "\n" for row in rows))
    content = options_as_json(options)
    content["model"] |= {"name": str(folder), "random_init": True}
    content["data"] |= {"prompts": str(folder / "prompts.jsonl"), "format": "plain", "eval_prompts": None}
    content["reward"] = {"kind": "function", "name": "tests.benchmarks.gpu_step:reward"}
    content["training"] |= {"save_strategy": "no", "logging_steps": 1}
    content["training"].pop("save_steps", None)
    return make_options(content)


def measured(options: RunOptions, out: Path) -> dict[str, Any]:
    """Train in this process. Return the metrics of the steps after the warm-up."""
    import torch

    from dar_ref.llm import build, train

    clock: dict[str, list[float]] = {"step": [], "generate": [], "tokens": []}
    make = build.make_trainer

    def watched(*arguments: Any, **named: Any) -> Any:
        trainer = make(*arguments, **named)
        watch(trainer, clock)
        return trainer

    train.make_trainer = watched
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    done = train.train(options, out)
    rows = [row for row in done.trainer.state.log_history if "loss" in row][WARM_UP:]
    found: dict[str, Any] = {"seconds_per_step": statistics.median(clock["step"][WARM_UP:])}
    found["seconds_generate"] = statistics.median(clock["generate"][WARM_UP:])
    found["tokens_per_second"] = statistics.median(clock["tokens"][WARM_UP:]) / found["seconds_per_step"]
    for phase in PHASES:
        if all(f"seconds/{phase}" in row for row in rows):
            found[f"seconds/{phase}"] = statistics.median(row[f"seconds/{phase}"] for row in rows)
    found["peak_bytes"] = torch.cuda.max_memory_allocated() if cuda else None
    found["device"] = torch.cuda.get_device_name() if cuda else "CPU"
    return found


def watch(trainer: Any, clock: dict[str, list[float]]) -> None:
    """Time whole steps and generation from outside, the same way for every trainer."""
    import torch
    from transformers import TrainerCallback

    generate = trainer._generate

    def now() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    def timed(prompts: list[Any]) -> Any:
        began = now()
        generated = generate(prompts)
        clock["generate"].append(now() - began)
        clock["tokens"].append(float(sum(len(ids) for ids in (*generated[0], *generated[1]))))
        return generated

    class Steps(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = now()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock["step"].append(now() - self.began)

    trainer._generate = timed
    trainer.add_callback(Steps())


def main() -> int:
    """Measure both methods and print them beside the plan. Return 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="qwen2-7b-tldr")
    parser.add_argument("--architecture", type=Path, default=CONFIGS / "architectures" / "Qwen2-7B.json")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, help="only these")
    parser.add_argument(
        "--json", type=Path, help="write the metrics to this file, beside those of other methods of the same command"
    )
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("options", nargs="*", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    if arguments.child:
        content = json.loads((arguments.child / "options.json").read_text(encoding="utf-8"))
        results.write_json(arguments.child / "figures.json", measured(make_options(content), arguments.child / "out"))
        return 0
    began = time.time()
    options = load_options(arguments.config, [*arguments.options, f"training.max_steps={arguments.steps}"])
    with tempfile.TemporaryDirectory() as folder:
        figures = {method: in_a_process(options, method, arguments, Path(folder)) for method in arguments.methods}
        planned = plan_of(options, arguments.architecture, Path(folder))
    table = Table("", *figures, title=f"{arguments.config}, {arguments.steps} steps")
    for name in dict.fromkeys(name for of_method in figures.values() for name in of_method):
        table.add_row(name, *(_text(of_method.get(name)) for of_method in figures.values()))
    Console().print(table)
    print(f"planned peak: {planned['peak_bytes'] / 2**30:.2f} GiB")
    if arguments.json:
        content = {"planned": planned, "config": arguments.config, "steps": arguments.steps}
        content["options"] = list(arguments.options)
        there = json.loads(arguments.json.read_text(encoding="utf-8")) if arguments.json.is_file() else {}
        same = all(there.get(name) == content[name] for name in ("config", "steps", "options"))
        content["measured"] = (there["measured"] if same else {}) | figures
        results.write_json(arguments.json, content)
        command = "python -m tests.benchmarks.gpu_step " + " ".join(sys.argv[1:])
        results.write_json(arguments.json.with_name("run.json"), results.run_info(command, began))
        results.write_text(arguments.json.with_name("table.md"), markdown(content))
    return 0


def markdown(content: dict[str, Any]) -> str:
    """The metrics beside the plan, in Markdown."""
    of_methods = content["measured"]
    lines = ["| | " + " | ".join(of_methods) + " | planned |", "| --- |" + " ---: |" * (len(of_methods) + 1)]
    for name in dict.fromkeys(name for metrics in of_methods.values() for name in metrics):
        planned = _text(content["planned"]["peak_bytes"]) if name == "peak_bytes" else ""
        cells = [_text(metrics.get(name)) for metrics in of_methods.values()]
        lines.append(f"| {name} | " + " | ".join([*cells, planned]) + " |")
    return "\n".join(lines) + "\n"


def in_a_process(options: RunOptions, method: str, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Metrics of one method, measured in a fresh process."""
    here = folder / method
    here.mkdir()
    content = options_as_json(options) | {"method": method}
    batch = options.training["per_device_train_batch_size"] * options.training["gradient_accumulation_steps"]
    prompts = arguments.steps * batch // options.generation["num_generations"]
    made = make_inputs(make_options(content), arguments.architecture, here, prompts)
    results.write_json(here / "options.json", options_as_json(made))
    began = time.time()
    subprocess.run([sys.executable, "-m", "tests.benchmarks.gpu_step", "--child", str(here)], check=True)
    found = json.loads((here / "figures.json").read_text(encoding="utf-8"))
    return found | {"seconds of all": round(time.time() - began, 1)}


def plan_of(options: RunOptions, architecture: Path, folder: Path) -> dict[str, Any]:
    """The plan of `dar-ref plan` for the same run."""
    import torch

    from dar_ref.llm.plan.estimate import plan

    made = plan(make_inputs(options, architecture, folder, 1), cuda=torch.cuda.is_available())
    moments = {f"{m.phase}: {m.name}": m.total for m in made.peaks}
    return {"peak_bytes": made.peak, "moments": moments}


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value / 2**30:.2f} GiB" if isinstance(value, int) else "not measured" if value is None else str(value)


if __name__ == "__main__":
    sys.exit(main())
