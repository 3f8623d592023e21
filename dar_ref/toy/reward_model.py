"""The reward model, the proxy: how it is made from pi_0, how it scores, and how good its scores are."""

import torch
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2ForSequenceClassification

from dar_ref.toy.config import StartConfig
from dar_ref.toy.policy import Completions, completion_states


def new_reward_model(config: StartConfig, pi_0: Qwen2ForCausalLM) -> Qwen2ForSequenceClassification:
    """A reward model with pi_0's weights, one more word for padding, `reward_layers` more layers that start as the
    identity, and a head of zeros. To compare a response with what pi_0 would have said takes a layer after its last."""
    torch.manual_seed(config.seed)
    changed = {
        "vocab_size": pi_0.config.vocab_size + 1,
        "pad_token_id": pi_0.config.vocab_size,
        "num_hidden_layers": config.num_layers + config.reward_layers,
        "layer_types": None,  # one entry per layer: made anew
        "id2label": {0: "reward"},
        "label2id": {"reward": 0},
    }
    reward_model = Qwen2ForSequenceClassification(Qwen2Config.from_dict(pi_0.config.to_dict() | changed)).eval()
    weights = pi_0.model.state_dict()
    embedding = reward_model.model.embed_tokens.weight
    with torch.no_grad():
        embedding[:-1] = weights.pop("embed_tokens.weight")
        embedding[-1] = 0.0
        reward_model.score.weight.zero_()
        for layer in reward_model.model.layers[config.num_layers :]:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    reward_model.model.load_state_dict(weights, strict=False)
    return reward_model


@torch.no_grad()
def score(reward_model: Qwen2ForSequenceClassification, completions: Completions) -> Tensor:
    """Reward read at the last kept token of each completion, EOS included, (B,)."""
    states = completion_states(reward_model.model, completions)
    return last_scores(reward_model, states, completions)


def last_scores(reward_model: Qwen2ForSequenceClassification, states: Tensor, completions: Completions) -> Tensor:
    """Apply the score head to the state of the last kept token: states (B, T+1, H) to rewards (B,)."""
    last = states[torch.arange(len(states)), completions.mask.sum(dim=1)]
    return reward_model.score(last)[:, 0]


def agreement(name: str, margin: Tensor, identical: Tensor) -> dict[str, float]:
    """How well a reward agrees with the labels, by one rule for every reward: a tie is neither right nor wrong.

    Args:
        name: of the reward.
        margin: reward of the preferred completion minus that of the other, (N, M).
        identical: pairs of one response drawn twice, (N, M) bool. They are ties even where rounding tells them apart.

    Returns:
        `{name}_accuracy`: share of the labels that agree, of the pairs that the reward tells apart (0.5 if there are
        none); `{name}_ties`: share of the pairs that it does not.
    """
    told_apart = margin[(margin != 0) & ~identical]
    accuracy = (told_apart > 0).double().mean().item() if len(told_apart) else 0.5
    return {f"{name}_accuracy": accuracy, f"{name}_ties": 1.0 - len(told_apart) / margin.numel()}


def within_groups(proxy: Tensor, gold: Tensor, group_size: int) -> dict[str, float]:
    """Correlation of two rewards (B,) and their standard deviations, all about the mean of each group."""
    centred = torch.stack([proxy, gold]).double().view(2, -1, group_size)
    centred = (centred - centred.mean(dim=2, keepdim=True)).view(2, -1)  # (2, B)
    spread = centred.square().mean(dim=1).sqrt()
    correlation = (centred[0] * centred[1]).mean() / (spread[0] * spread[1])
    return {
        "within_correlation": correlation.item(),
        "proxy_spread": spread[0].item(),
        "gold_spread": spread[1].item(),
    }
