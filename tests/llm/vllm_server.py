"""A stand-in for TRL's client of a vLLM server: a second copy of the policy, which samples with numbers of its own.

Everything up to the client is TRL's and ours. vLLM itself needs a GPU; this shows that the server gets the weights in
time, and that what it samples is counted as it was sampled.
"""

import torch
from transformers import AutoModelForCausalLM
from trl.generation import vllm_generation


class Server:
    """model: the server's copy; syncs: how often it got weights; sampled: for each generation, its weights then."""

    def __init__(self, folder, rounded=False):
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.rounded, self.syncs, self.cleared, self.sampled = rounded, 0, 0, []
        self.random = torch.Generator().manual_seed(0)

    def client(self, **_address):
        return self

    def init_communicator(self, device):
        assert device.type == "cpu"

    def get_server_info(self):
        return {"model_config": {"logprobs_mode": "processed_logprobs"}}

    def update_named_params(self, metadata, named_params):
        """Copy the weights; `rounded` keeps them to three bits, so that the server is another policy."""
        weights = dict(named_params)
        assert [(name, list(p.shape)) for name, p in weights.items()] == [(n, shape) for n, _, shape in metadata]
        if self.rounded:
            weights = {name: p.to(torch.float8_e4m3fn).float() for name, p in weights.items()}
        missing, unexpected = self.model.load_state_dict(weights, strict=False)
        assert (missing, unexpected) == (["lm_head.weight"], [])  # tied to the embedding
        self.syncs += 1

    def reset_prefix_cache(self):
        self.cleared += 1

    @torch.no_grad()
    def generate(self, prompts, n, temperature, max_tokens, **_sampling):
        """`n` completions of each prompt, token by token, with the log-prob of each token that was drawn."""
        self.sampled.append({name: p.clone() for name, p in self.model.named_parameters()})
        completions, logprobs = [], []
        for prompt in (prompt for prompt in prompts for _ in range(n)):
            ids, drawn = list(prompt), []
            while len(drawn) < max_tokens and (not drawn or ids[-1] != self.model.config.eos_token_id):
                logits = self.model(torch.tensor([ids])).logits[0, -1] / temperature
                logps = logits.log_softmax(dim=-1)
                ids.append(torch.multinomial(logps.exp(), 1, generator=self.random).item())
                drawn.append([logps[ids[-1]].item()])
            completions.append(ids[len(prompt) :])
            logprobs.append(drawn)
        return {"prompt_ids": prompts, "completion_ids": completions, "logprobs": logprobs}


def install(monkeypatch, server):
    """Let TRL find vLLM installed, and `server` behind every address."""
    monkeypatch.setattr(vllm_generation, "is_vllm_available", lambda: True)
    monkeypatch.setattr(vllm_generation, "VLLMClient", server.client)
