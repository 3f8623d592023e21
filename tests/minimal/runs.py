"""What the tests of `dar_ref.minimal.llm` share: options, a very small model, batches made by hand, and rewards."""

import json

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from dar_ref.minimal import llm


def options(folder, *flags):
    """The options of a command line with these flags."""
    required = ["--model", str(folder / "policy"), "--prompts", "unused", "--reward", "unused"]
    return llm.parse([*required, "--out", str(folder / "new"), *map(str, flags)])


def ready(folder, chosen):
    """Policy and tokenizer of an export, ready to sample."""
    tokenizer, policy = llm.load_tokenizer(folder / "policy"), llm.load_policy(folder / "policy")
    policy.generation_config = llm.plain_sampling(policy, tokenizer, chosen)
    return policy, tokenizer


def ragged(tokenizer, texts):
    return [llm.Prompt({"prompt": text}, llm.encode(text, tokenizer)) for text in texts]


def batch_of(rows, pad=0):
    """A batch of pairs (prompt ids, completion ids), padded on the left and on the right."""
    prompts, completions = ([list(x) for x in part] for part in zip(*rows, strict=True))
    width, length = max(map(len, prompts)), max(map(len, completions))
    ids = [
        [pad] * (width - len(p)) + p + c + [pad] * (length - len(c)) for p, c in zip(prompts, completions, strict=True)
    ]
    drawn = torch.tensor([[t < len(c) for t in range(length)] for c in completions])
    left = torch.tensor([[int(t >= width - len(p)) for t in range(width)] for p in prompts])
    return llm.Batch(torch.tensor(ids), torch.cat([left, drawn.long()], dim=1), drawn)


def gpt2(vocabulary=11, **changes):
    """A drawn GPT-2, which has absolute positions; its probabilities are far from even."""
    torch.manual_seed(0)
    sizes = {"vocab_size": vocabulary, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2}
    special = {"eos_token_id": 0, "bos_token_id": 0, "pad_token_id": 0}
    return GPT2LMHeadModel(GPT2Config(**sizes, **special, initializer_range=0.5, **changes)).eval()


def letters_of_the_prompt(prompts, completions, **_columns):
    """How many different words of the prompt the answer repeats."""
    return [len(set(p.split()) & set(c.split())) for p, c in zip(prompts, completions, strict=True)]


def one_too_few(completions, **_columns):
    return [0.0] * (len(completions) - 1)


def not_a_number(completions, **_columns):
    return [0.0] * (len(completions) - 1) + [float("nan")]


def missing(completions, **_columns):
    return [0.0] * (len(completions) - 1) + [None]


def infinite(completions, **_columns):
    return [0.0] * (len(completions) - 1) + [torch.tensor(float("inf"))]


def write_prompts(file, *prompts):
    file.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts), encoding="utf-8")
    return file
