"""DAR on a language model, the whole method in one file.

    python -m dar_ref.minimal.llm --model FOLDER --prompts FILE.jsonl --reward my_rewards:score

PyTorch and transformers, no trainer, one GPU or a CPU. One update has N prompts and K completions of each, B = N*K:

    sample      completions y_i from the current policy, pi_t
    reward      r_i, from a Python function of yours
    advantage   A_i = r_i - mean of its prompt's K rewards, divided by the std over the whole batch
    score       log pi_0(y_i) and log pi_t(y_i), summed over the tokens of the completion
    weight      w_i = min((pi_0 / pi_t)^alpha exp(A_i / beta), w_clip)
    fit         minimise -mean_i w_i log pi(y_i): supervised learning on the samples, with weights
    health      is the run all right? one line of figures

pi_0 is the model in FOLDER and never moves. `bandit.py`, the file beside this one, has the same steps on a table, where
it can be seen how close an update comes to its aim.

How this differs from the paper (arXiv 2602.11523), and what is left out. `dar_ref.llm` has most of it:

1. All weights are trained, in float32, by Adam. The policy, its gradient, Adam's two moments and pi_0 take 20 bytes per
   parameter. On a GPU the layers compute in bf16. No LoRA, no second GPU, no vLLM, no checkpoints.
2. The learning rate is constant, and gradients are not clipped: a clipped gradient hides the scale of the weights.
   The defaults of alpha, beta and w_clip are the paper's. Those of K, N*K and the learning rate come from a third
   party and were not checked against the paper.
3. Every completion needs a reward and counts, also one that was cut off at --max-new-tokens. If that should cost
   something, the reward function must say so: it is given the token ids, and then the last one is not an EOS.
4. A prompt that is a text is read as it is; one that is a list of messages goes through the chat template. The data
   decides, not the tokenizer: base models have a chat template too.

Shape letters: N prompts, K completions of each, B = N*K, P tokens of the longest prompt, T of the longest completion.
"""

import argparse
import copy
import importlib
import itertools
import json
import math
import random
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedTokenizerFast

# --- the method -------------------------------------------------------------------------------------------------------


class Prompt(NamedTuple):
    """A line of the prompts file: all its fields, and the tokens of the prompt as the model reads them."""

    fields: dict[str, Any]
    ids: list[int]


class Batch(NamedTuple):
    """B completions with their prompts, the K completions of one prompt side by side."""

    input_ids: Tensor  # (B, P+T), prompts with padding on the left, completions with padding on the right
    attention_mask: Tensor  # (B, P+T), 1 = a token, 0 = padding
    completion_mask: Tensor  # (B, T) bool, True = a token that the policy drew

    def completions(self) -> list[list[int]]:
        """The tokens that the policy drew, EOS included where there is one."""
        ids = self.input_ids[:, -self.completion_mask.shape[1] :]
        return [row[drawn].tolist() for row, drawn in zip(ids, self.completion_mask, strict=True)]

    def parts(self, size: int) -> "list[Batch]":
        """The same batch in parts of `size` completions: what fits into memory at a time."""
        return [Batch(*part) for part in zip(*(torch.split(tensor, size) for tensor in self), strict=True)]


def plain_sampling(policy: Any, tokenizer: Any, options: Namespace) -> GenerationConfig:
    """Sample from the policy itself. The settings in the model's folder are not used: with top-k, top-p or penalties,
    the policy that samples would not be the policy that is scored."""
    named = policy.generation_config.eos_token_id  # the model may name several, and others than the tokenizer
    eos_ids = {*(named if isinstance(named, list) else [named]), tokenizer.eos_token_id} - {None}
    if not eos_ids:
        raise ValueError("neither the model nor its tokenizer names an EOS token, so no completion could end")
    return GenerationConfig(
        do_sample=True,
        temperature=options.temperature,
        top_k=0,
        top_p=1.0,
        max_new_tokens=options.max_new_tokens,
        num_return_sequences=options.num_generations,
        eos_token_id=sorted(eos_ids),
        pad_token_id=min(eos_ids),  # any token would do: masks are made from lengths, not by a search for it
    )


@torch.no_grad()
def sample(policy: Any, prompts: Sequence[Prompt]) -> Batch:
    """Draw K completions of each prompt; `policy.generation_config` is that of `plain_sampling`."""
    longest, pad = max(len(prompt.ids) for prompt in prompts), policy.generation_config.pad_token_id
    ids = torch.tensor([[pad] * (longest - len(p.ids)) + p.ids for p in prompts]).to(policy.device)  # (N, P)
    mask = torch.tensor([[0] * (longest - len(p.ids)) + [1] * len(p.ids) for p in prompts]).to(policy.device)  # (N, P)
    with bf16_on_gpu(policy):
        ids = policy.generate(ids, attention_mask=mask)  # (B, P+T)
    drawn = up_to_first_eos(ids[:, longest:], policy.generation_config.eos_token_id)  # (B, T)
    mask = mask.repeat_interleave(len(ids) // len(mask), dim=0)  # (B, P)
    return Batch(ids, torch.cat([mask, drawn.long()], dim=1), drawn)


def up_to_first_eos(completion_ids: Tensor, eos_ids: list[int]) -> Tensor:
    """The tokens that were drawn, (B, T) bool: up to the first EOS, which is one of them. The rest is padding."""
    is_eos = torch.isin(completion_ids, torch.tensor(eos_ids, device=completion_ids.device)).long()
    eos_before = is_eos.cumsum(dim=1) - is_eos  # how many EOS stand to the left of each token
    return eos_before == 0


def rewards_of(
    completions: list[list[int]], prompts: Sequence[Prompt], reward: Callable[..., Any], tokenizer: Any
) -> Tensor:
    """Rewards of the completions, (N, K). The function is called as TRL calls it, with B values under each name."""
    num_generations = len(completions) // len(prompts)
    fields = [prompt.fields for prompt in prompts for _ in range(num_generations)]
    names = dict.fromkeys(name for row in fields for name in row if name != "prompt")
    columns = {name: [row.get(name) for row in fields] for name in names}
    texts = tokenizer.batch_decode(completions, skip_special_tokens=True)
    answers = [  # the answer to a conversation is a message
        text if isinstance(row["prompt"], str) else [{"role": "assistant", "content": text}]
        for row, text in zip(fields, texts, strict=True)
    ]
    prompt_of_each = [row["prompt"] for row in fields]
    values = list(reward(prompts=prompt_of_each, completions=answers, completion_ids=completions, **columns))
    if len(values) != len(completions):
        raise ValueError(
            f"the reward function gave {len(values)} rewards for {len(completions)} completions; give as many"
        )
    for value, text in zip(values, texts, strict=True):
        if value is None or not math.isfinite(value):  # it would spoil the advantages of the whole batch
            raise ValueError(f"the reward is {value} for the completion {text!r}; return a finite number")
    return torch.tensor([float(value) for value in values], dtype=torch.float64).view(-1, num_generations)


def advantage(rewards: Tensor) -> Tensor:
    """Each reward minus the mean of its prompt, divided by the std of the whole batch: (N, K) -> (N, K)."""
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    return centred / centred.std(correction=0).clamp(min=1e-8)  # equal rewards: 0, not 0 / 0


def sequence_logps(model: Any, batch: Batch, options: Namespace) -> Tensor:
    """log pi(y_i) at the temperature of the sampling, summed over the tokens of each completion: (B,)."""
    length = batch.completion_mask.shape[1]  # T
    with bf16_on_gpu(model):
        output = model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=(batch.attention_mask.cumsum(dim=1) - 1).clamp(min=0),  # padding must not move a token
            logits_to_keep=length + 1,
            use_cache=False,
        )
    logits = output.logits[:, :-1]  # (B, T, vocabulary): each token is drawn from the logits before it
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) / options.temperature  # bf16 drifts in sums
    logps = logits.log_softmax(dim=-1).gather(-1, batch.input_ids[:, -length:, None])[..., 0]  # (B, T)
    return logps.masked_fill(~batch.completion_mask, 0.0).sum(dim=1)


@torch.no_grad()
def score(model: Any, batch: Batch, options: Namespace) -> Tensor:
    """`sequence_logps` without a gradient, (B,). In the parts of `fit`: other shapes would be rounded in other ways."""
    return torch.cat([sequence_logps(model, part, options) for part in batch.parts(options.micro_batch)])


def weight(
    ref_logps: Tensor, old_logps: Tensor, advantages: Tensor, *, alpha: float, beta: float, w_clip: float
) -> Tensor:
    """How much each sample counts. ref_logps: log pi_0(y_i); old_logps: log pi_t(y_i). All of one shape."""
    return (alpha * (ref_logps - old_logps) + advantages / beta).exp().clamp(max=w_clip)


def fit(policy: Any, optimizer: torch.optim.Optimizer, batch: Batch, weights: Tensor, options: Namespace) -> float:
    """One step of the optimizer on the loss -mean_i w_i log pi(y_i). Returns the loss before the step."""
    optimizer.zero_grad()
    total = 0.0
    for part, w in zip(batch.parts(options.micro_batch), torch.split(weights, options.micro_batch), strict=True):
        loss = -(w * sequence_logps(policy, part, options)).sum() / len(weights)  # the parts sum up to the mean
        torch.autograd.backward(loss)  # and so do their gradients
        total += loss.item()
    if not math.isfinite(total):
        raise FloatingPointError(f"the loss is {total}: the policy has diverged; lower --learning-rate")
    optimizer.step()
    return total


def update(
    policy: Any, pi_0: Any, optimizer: torch.optim.Optimizer, batch: Batch, rewards: Tensor, options: Namespace
) -> dict[str, float]:
    """Everything that follows the rewards (N, K). Changes the policy, and returns the health of the batch."""
    ref_logps, old_logps = score(pi_0, batch, options), score(policy, batch, options)  # the policy still is pi_t
    advantages = advantage(rewards).flatten().to(old_logps)  # (B,)
    weights = weight(ref_logps, old_logps, advantages, alpha=options.alpha, beta=options.beta, w_clip=options.w_clip)
    for _ in range(options.updates_per_rollout):
        fit(policy, optimizer, batch, weights, options)
    health = {
        "reward": rewards.mean(),  # should rise
        "KL to pi_0": (old_logps - ref_logps).mean(),  # KL(pi_t‖pi_0) in nats: how far the policy went for the reward
        "ESS": weights.sum() ** 2 / (weights**2).sum() / len(weights),  # share of the batch that the fit rests on
        "clipped": (weights >= options.w_clip).double().mean(),  # near 1, all weights are equal and teach nothing
        "tokens": batch.completion_mask.sum(dim=1).double().mean(),
    }
    return {name: float(value) for name, value in health.items()}


def train(
    policy: Any, tokenizer: Any, prompts: list[Prompt], reward: Callable[..., Any], options: Namespace
) -> list[dict[str, float]]:
    """Train the policy in place. Prints the health of each update as it goes, and returns it."""
    torch.manual_seed(options.seed)
    pi_0 = copy.deepcopy(policy).requires_grad_(False)
    optimizer = torch.optim.Adam(policy.parameters(), lr=options.learning_rate)
    eos_ids, stream, log = policy.generation_config.eos_token_id, shuffled(prompts, options.seed), []
    for number in range(1, options.updates + 1):
        began = time.time()
        chosen = list(itertools.islice(stream, options.batch_prompts))  # N
        batch = sample(policy, chosen)
        completions = batch.completions()
        rewards = rewards_of(completions, chosen, reward, tokenizer)  # (N, K)
        health = update(policy, pi_0, optimizer, batch, rewards, options)
        health["no EOS"] = sum(ids[-1] not in eos_ids for ids in completions) / len(completions)  # share cut off
        log.append(health | {"seconds": time.time() - began})
        if number == 1:
            print("update" + "".join(f"{name:>12}" for name in log[0]))
        print(f"{number:6}" + "".join(f"{value:12.3f}" for value in log[-1].values()), flush=True)
    return log


# --- prompts, reward, model -------------------------------------------------------------------------------------------


def read_prompts(path: Path, tokenizer: Any) -> list[Prompt]:
    """JSON lines. The field "prompt" is a text or a list of messages; other fields go to the reward function."""
    prompts = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                fields = json.loads(line)
                prompts.append(Prompt(fields, encode(fields["prompt"], tokenizer)))
            except Exception as error:  # a chat template can raise anything
                raise ValueError(
                    f"{path}, line {number}: {error!r}; write a JSON object with a field 'prompt', a text or a list of"
                    " messages"
                ) from error
    if not prompts:
        raise ValueError(f"{path} is empty; write one JSON object per line, with a field 'prompt'")
    return prompts


def encode(prompt: Any, tokenizer: Any) -> list[int]:
    """The tokens of a prompt as the model reads it."""
    if isinstance(prompt, str):
        ids = tokenizer(prompt)["input_ids"]
    elif tokenizer.chat_template is None:
        raise ValueError("the prompt is a list of messages, and the tokenizer has no chat template")
    else:
        ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"]
    if not ids:
        raise ValueError("the prompt is empty")
    return list(ids)


def shuffled(prompts: list[Prompt], seed: int) -> Iterator[Prompt]:
    """All prompts in a random order, then again in another one, without end."""
    order = random.Random(seed)
    while True:
        yield from order.sample(prompts, len(prompts))


def load_reward(name: str) -> Callable[..., Any]:
    """The function that "module:function" names; the module may lie in the working directory."""
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"reward = {name}: {error}; pass module:function") from error


PROBE = "The 1st line, it's 20.5 % – naïve (x_1 != y)\n\n  indented\tby tabs: 東京 👍 "  # where tokenizers differ


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer that the folder's tokenizer.json describes.

    AutoTokenizer chooses a class by the type of the model. Beside a Qwen2 model it reads any file as if it were Qwen2's
    own, and does not warn. So hold it against the file, and where they differ believe the file.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    file = folder / "tokenizer.json"
    if not file.is_file():
        return tokenizer
    wanted = Tokenizer.from_file(str(file))
    wanted.no_padding()
    wanted.no_truncation()
    same_words = wanted.get_vocab().items() <= tokenizer.get_vocab().items()
    same_ids = wanted.encode(PROBE, add_special_tokens=False).ids == tokenizer.encode(PROBE, add_special_tokens=False)
    return tokenizer if same_words and same_ids else PreTrainedTokenizerFast.from_pretrained(folder)


def load_policy(folder: Path) -> Any:
    """The model in float32, since a small learning rate is lost in bf16 weights. `eval` switches dropout off for good:
    pi_0, pi_t and the policy that is fitted must differ in their weights alone."""
    policy = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return policy.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def bf16_on_gpu(model: Any) -> torch.autocast:
    """On a GPU, compute in bf16 with copies of the float32 weights."""
    return torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=model.device.type == "cuda")


# --- the command line -------------------------------------------------------------------------------------------------


def parse(argv: Sequence[str] | None) -> Namespace:
    """The options of the command line, checked."""
    parser = argparse.ArgumentParser(
        prog="python -m dar_ref.minimal.llm", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--model", type=Path, required=True, help="folder of pi_0, in Hugging Face format")
    add("--prompts", type=Path, required=True, help='JSON lines with a field "prompt"')
    add("--reward", required=True, help="module:function, called as TRL calls reward functions")
    add("--out", type=Path, default=Path("out/minimal"), help="new folder for the trained policy")
    add("--alpha", type=float, default=0.1, help="weight of pi_0 against pi_t, from 0 to 1")
    add("--beta", type=float, default=0.05, help="strength of the regulariser")
    add("--w-clip", type=float, default=20.0, help="upper bound of the weights")
    add("--updates", type=int, default=100, help="batches that are sampled")
    add("--updates-per-rollout", type=int, default=1, help="optimizer steps on each batch")
    add("--batch-prompts", type=int, default=32, help="N, prompts of a batch")
    add("--num-generations", type=int, default=4, help="K, completions of each prompt")
    add("--max-new-tokens", type=int, default=256, help="where a completion is cut off")
    add("--temperature", type=float, default=1.0, help="of sampling and scoring")
    add("--learning-rate", type=float, default=1e-6, help="of Adam")
    add("--micro-batch", type=int, default=16, help="completions in memory at a time, when scoring and fitting")
    add("--seed", type=int, default=0, help="of the order of the prompts and of sampling")
    options = parser.parse_args(argv)
    for name, value in vars(options).items():
        if isinstance(value, int | float) and name not in ("alpha", "seed") and not value > 0:
            raise ValueError(f"{name} = {value} must be above 0")
    if not 0 <= options.alpha <= 1:
        raise ValueError(f"alpha = {options.alpha} must lie between 0 and 1")
    if options.num_generations == 1:
        raise ValueError("num_generations = 1: one completion is its own mean and its advantage is 0; pass 2 or more")
    if options.out.exists():
        raise ValueError(f"out = {options.out} exists already; pass a new folder")
    if not (options.model / "config.json").is_file():
        raise ValueError(
            f"model = {options.model} is no folder with a config.json; `hf download NAME --local-dir FOLDER` makes one"
        )
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Train and save; returns the exit status."""
    try:  # what is wrong with the input is found before the first update
        options = parse(argv)
        reward, tokenizer = load_reward(options.reward), load_tokenizer(options.model)
        prompts, policy = read_prompts(options.prompts, tokenizer), load_policy(options.model)
        longest = max(len(prompt.ids) for prompt in prompts) + options.max_new_tokens
        limit = getattr(policy.config, "max_position_embeddings", None) or math.inf
        if longest > limit:
            raise ValueError(
                f"a prompt and its completion can have {longest} tokens, and the model reads at most {limit}; lower"
                " --max-new-tokens, or leave long prompts out"
            )
        settings_of_model = policy.generation_config
        policy.generation_config = plain_sampling(policy, tokenizer, options)
        options.out.mkdir(parents=True)
    except (OSError, ValueError) as error:
        print(f"dar_ref.minimal.llm: {error}", file=sys.stderr)
        return 2
    first = tokenizer.decode(prompts[0].ids)
    print(f"{len(prompts)} prompts; the first, as the model reads it: {first!r}; on {policy.device}", flush=True)
    train(policy, tokenizer, prompts, reward, options)
    policy.generation_config = settings_of_model
    policy.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    print(f"the trained policy is in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
