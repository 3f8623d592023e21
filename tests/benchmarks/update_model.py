"""Models, prompts and rollouts of `update`: what every variant is given."""

import json
import math
import random
from pathlib import Path
from typing import Any, NamedTuple

from dar_ref import results

HIDDEN, INNER, LAYERS, HEADS = 256, 768, 4, 4
EOS = 1
SHARPNESS = 9.0  # standard deviation of the logits: about as certain of the next token as a trained model
REAL_MODEL, REAL_PROMPTS = Path("out/real-model"), Path("out/real-prompts/sentiment/train.jsonl")


class Setting(NamedTuple):
    """What a step is, and how it is measured; by default as in `make benchmark-update`.

    device: cpu or cuda; dtype: of the weights; narrow: products in bf16; rank: of LoRA on all layers, 0 trains all
    weights; checkpointing: of activations; rows, batch: completions of a step, of a micro-batch; K: of a prompt;
    prompt, completion: shortest and longest, tokens; log_median: of completions; together: prompts that are sampled at
    once; warm_up: steps before the measured one.
    """

    device: str = "cpu"
    dtype: str = "float32"
    narrow: bool = False
    rank: int = 0
    checkpointing: bool = False
    rows: int = 16
    batch: int = 4
    K: int = 4
    prompt: tuple[int, int] = (6, 32)
    completion: tuple[int, int] = (4, 64)
    log_median: float = 3.1
    together: int = 1
    warm_up: int = 0


OURS = Setting()


class Rollout(NamedTuple):
    """What every variant is given: the prompts as data has them, then for each completion the ids of its prompt and its
    own, the log-probs of its tokens, and its reward."""

    data: list[Any]
    prompts: list[list[int]]
    completions: list[list[int]]
    logps: list[list[float]]
    rewards: list[float]


class Weights(NamedTuple):
    """How many weights the matrices of the layers have, the head, and the adapters on the layers."""

    layers: int
    head: int
    adapters: int = 0


def save_model(folder: Path, vocabulary: int) -> None:
    """A random model with certain predictions, and a tokenizer of one token per word."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        pad_token_id=0,
        eos_token_id=EOS,
        bos_token_id=None,
    )
    model = Qwen2ForCausalLM(config)
    torch.nn.init.normal_(model.lm_head.weight, std=SHARPNESS / HIDDEN**0.5)
    model.save_pretrained(folder)
    save_tokenizer(folder, vocabulary)


def save_tokenizer(folder: Path, vocabulary: int) -> None:
    """A tokenizer of one token per word: w2, w3, ..."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<eos>": 1} | {f"w{n}": n for n in range(2, vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>")
    fast.save_pretrained(folder)


def save_architecture(folder: Path, architecture: Path, setting: Setting) -> None:
    """The folder of a model of a `config.json`, with our tokenizer. Without adapters the weights too, since TRL reads
    pi_0 from there; with them they are drawn whenever the model is loaded, which is faster than to read them."""
    content = json.loads(architecture.read_text(encoding="utf-8"))
    content |= {"pad_token_id": 0, "eos_token_id": EOS, "bos_token_id": None}
    save_tokenizer(folder, content["vocab_size"])
    results.write_json(folder / "config.json", content)
    if not setting.rank:
        load(folder, setting).save_pretrained(folder)


def load(folder: Path, setting: Setting = OURS) -> Any:
    """The model of a folder; one without weights is drawn, with logits of a standard deviation of `SHARPNESS`."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    dtype = getattr(torch, setting.dtype)
    if list(folder.glob("*.safetensors")):
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).to(setting.device)
    config = AutoConfig.from_pretrained(folder)
    torch.manual_seed(0)
    with torch.device(setting.device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    # the head may be tied to the embedding, so what it reads is made larger, and not the head
    model.model.norm.weight.data.fill_(SHARPNESS / (config.initializer_range * math.sqrt(config.hidden_size)))
    return model


def random_prompts(folder: Path, setting: Setting = OURS) -> list[Any]:
    """Prompts of random words, of unequal lengths."""
    rng, vocabulary = random.Random(0), json.loads((folder / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    count = setting.rows // setting.K
    return [
        " ".join(f"w{rng.randrange(2, vocabulary)}" for _ in range(rng.randint(*setting.prompt))) for _ in range(count)
    ]


def real_prompts() -> list[Any]:
    """The first prompts of the sentiment task, as messages."""
    with REAL_PROMPTS.open(encoding="utf-8") as lines:
        return [json.loads(next(lines))["prompt"] for _ in range(OURS.rows // OURS.K)]


def roll_out(folder: Path, data: list[Any], cut: bool, setting: Setting = OURS) -> Rollout:
    """Sample completions; `cut` them to log-normal lengths, as those of answers are, or leave them whole."""
    import torch
    from transformers import PreTrainedTokenizerFast

    from dar_ref.llm.sampler import recording

    rng, longest = random.Random(0), setting.completion[1]
    model, tokenizer = load(folder, setting).eval(), PreTrainedTokenizerFast.from_pretrained(folder)
    prompts = [
        tokenizer(row)["input_ids"]
        if isinstance(row, str)
        else tokenizer.apply_chat_template(row, add_generation_prompt=True, return_dict=True)["input_ids"]
        for row in data
    ]
    end_token = model.config.eos_token_id
    made, logps = [], []
    torch.manual_seed(0)
    for first in range(0, len(prompts), setting.together):
        ids, mask = padded([prompt for prompt in prompts[first : first + setting.together] for _ in range(setting.K)])
        named = {"attention_mask": mask.to(model.device), "do_sample": True, "top_k": 0, "max_new_tokens": longest}
        with recording(model, 1.0) as recorder:
            found = model.generate(ids.to(model.device), **named)
        for row, drawn in zip(found[:, ids.shape[1] :].tolist(), recorder.rows(), strict=True):
            wanted = max(setting.completion[0], round(rng.lognormvariate(setting.log_median, 0.7))) if cut else longest
            length = min(wanted, longest, [*row, end_token].index(end_token) + 1)
            made.append(row[:length])
            logps.append(drawn[:length])
    rewards = [rng.gauss(0.0, 1.0) for _ in made]
    return Rollout(data, [prompt for prompt in prompts for _ in range(setting.K)], made, logps, rewards)


def padded(rows: list[list[int]]) -> tuple[Any, Any]:
    """Ids, padded on the left, and their mask."""
    import torch

    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    return ids, torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])


def matrices(folder: Path, rank: int = 0) -> Weights:
    """How many weights the matrices of a model have, and LoRA's adapters of a rank."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    found = {name: m.weight for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    head = found.pop("lm_head").numel()
    adapters = sum(rank * sum(weight.shape) for weight in found.values())
    return Weights(sum(weight.numel() for weight in found.values()), head, adapters)
