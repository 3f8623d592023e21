"""What the tests of `dar-ref evaluate` share: a configuration, a second policy, judges of the toy task, one command."""

import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from dar_ref import cli
from dar_ref.llm.models.tokenizers import load_tokenizer
from dar_ref.llm.options import options_as_json
from dar_ref.toy.tasks import TASKS
from tests.llm.training import options

TINY = TASKS["tiny"]


def gold(prompts, completions, completion_ids, **_):
    """A reward function: the gold reward of the toy task; id 0 is EOS there."""
    rows = zip(prompts, completions, completion_ids, strict=True)
    return [TINY.gold(prompt.split(), text.split(), ids[-1] == 0) for prompt, text, ids in rows]


def longer(_prompt, a, b):
    """A judge that compares: the longer answer wins."""
    return 0.5 if len(a) == len(b) else float(len(a) > len(b))


def first_place(_prompt, _a, _b):
    """A judge that knows only the place."""
    return 1.0


def sometimes(_prompt, a, b):
    """A judge that answers nonsense of three kinds, and otherwise prefers the longer answer."""
    if "a" in a + b:
        return {"c": "A is better", "d": float("nan")}.get((a + b)[-1], 7)
    return longer(_prompt, a, b)


def late(_prompt, a, b):
    """A judge that does not answer about some pairs."""
    if "a" in a + b:
        raise TimeoutError
    return longer(_prompt, a, b)


def broken(_prompt, a, _b):
    """A judge with an error of its own."""
    return 1.0 / (len(a) - len(a))


def grade(turns, answers, turn, reference):
    """Grades of two turns, that depend on what is given."""
    return 1 + (len(turns[turn]) + len(answers[turn]) + (0 if reference is None else len(reference[turn]))) % 10


def run_file(folder, exported, **sections):
    """Write the configuration of a run on the exported toy task; returns its path."""
    chosen = {"generation": {"max_completion_length": TINY.max_new_tokens}, "lora": None} | sections
    content = options_as_json(options(exported, **chosen))
    content["data"]["prompts"] = str(exported / "prompts" / "test.jsonl")
    file = Path(folder) / "run.yaml"
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def moved(exported, folder, size=0.3, seed=0):
    """Another policy: pi_0 with noise on its weights."""
    policy = AutoModelForCausalLM.from_pretrained(exported / "policy")
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(size * parameter.std(correction=0) * torch.randn_like(parameter))
    policy.save_pretrained(folder)
    load_tokenizer(str(exported / "policy")).save_pretrained(folder)
    return folder


def evaluate(job, *words):
    """`dar-ref evaluate JOB WORDS`; returns the exit status."""
    return cli.main(["evaluate", job, *map(str, words)])


def function(name):
    """A judge of this file, as an override."""
    return f"reward={{kind: function, name: tests.llm.evaluate.setting:{name}}}"


def rows(file):
    return [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]
