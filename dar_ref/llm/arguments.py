"""The arguments of the training script, for `dar-ref train` and `python -m dar_ref.llm.train`. Nothing heavy is
imported, so `--help` is fast."""

import argparse
from pathlib import Path

from dar_ref.errors import path
from dar_ref.parser import Parser

SECTIONS = """sections of a configuration; KEY is SECTION.NAME (docs: Full-size training)
  method         dar, dao, ppo_critic_free, dual_ppo_critic_free, grpo, rloo, online_dpo, dpo,
                 dar_offline
  model          name, revision, dtype, attn_implementation, random_init, trust_remote_code,
                 quantization
  lora           r, alpha, target_modules; null trains all weights
  data           prompts, preferences, rated, split, prompt_column, format, max_prompt_tokens, limit, eval_...
  reward         kind (function, model, annotator), name, missing_eos_penalty, ...
  training       names of transformers' TrainingArguments: learning_rate, max_steps, save_steps, seed, ...
  generation     names of TRL's GRPOConfig: num_generations, max_completion_length, temperature, use_vllm, ...
  methods.NAME   options of one method: methods.dar.alpha, methods.grpo.beta, ...

several processes: accelerate launch -m dar_ref.llm.train --config ... (`dar-ref configs PATH` has files for it)
"""

DESCRIPTION = (
    "Train a language model as one YAML file says. KEY=VALUE pairs change single options, for example"
    " training.learning_rate=1e-6 methods.dar.alpha=0.3 lora=null."
)


def add_arguments(parser: Parser) -> None:
    """Give `parser` the script's arguments, description and sections."""
    parser.pair = meant_pair
    parser.description, parser.epilog = DESCRIPTION, SECTIONS
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--config", required=True, metavar="FILE", help="YAML file, or the name of one in this package")
    parser.add_argument("--method", help="in place of the configuration's")
    parser.add_argument("--out", type=path, default=Path("out/train"), help="folder to write to (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint in --out")
    parser.add_argument("--dry-run", action="store_true", help="check everything, load no weights, train nothing")
    parser.add_argument("--random-init", action="store_true", help="start from random weights, for benchmarks")
    parser.add_argument("options", nargs="*", metavar="KEY=VALUE", help="change single options, see below")


def meant_pair(name: str, arguments: argparse.Namespace) -> str | None:
    """The key that an unknown option stands for: `--alpha` is methods.dar.alpha."""
    from dar_ref.llm.keys import meant

    keys = meant(name, arguments.method or "dar")
    return keys[0] if keys else None
