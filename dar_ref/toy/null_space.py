"""Training on one kind of prompt without touching another: updates projected on a null space (NSPO, arXiv 2512.11391).

A linear layer maps inputs x to W x. If a change D of W has D x = 0 for every input x that general prompts excite, the
policy's answers to them stay as they were. So the directions that carry most of the energy of those inputs are left out
of every change. The paper of DAR names this as future work.

Differences from NSPO's paper:

1. The change since pi_0 is projected after each step, not the gradient before it: Adam would turn a projected gradient
   out of the null space again.
2. Norms and biases do not change. The embedding, which is also the last layer, does not change for words that general
   prompts or their answers contain.
"""

import torch
from torch import Tensor, nn
from transformers import Qwen2ForCausalLM

from dar_ref.toy.policy import encode_prompts
from dar_ref.toy.sampling import sample
from dar_ref.toy.start import Start


class NullSpace:
    """What may change: `pi_0 + change`, each change projected.

    Args:
        start: of a task with parts.
        trained: name of the part that is trained on; pi_0's answers to the other parts' training prompts are kept.
        share: of the energy (sum of squares) of a layer's inputs on those; the fewest directions that carry it are left
            out, in (0, 1).
    """

    def __init__(self, start: Start, trained: str, share: float) -> None:
        kept = [p for p in start.prompts.train if start.task.parts[p[-1]].name != trained]
        generator = torch.Generator().manual_seed(start.config.seed)
        prompt_ids = encode_prompts(start.task, kept)
        completions = sample(start.pi_0, prompt_ids, 1, start.task.max_new_tokens, generator).completions
        ids, mask = (
            torch.cat([prompt_ids, completions.ids], dim=1),
            torch.cat([torch.ones_like(prompt_ids, dtype=torch.bool), completions.mask], dim=1),
        )
        self.origin = {name: value.detach().clone() for name, value in start.pi_0.named_parameters()}
        self.projections = {
            f"{name}.weight": _projection(energy, share)
            for name, energy in _input_energies(start.pi_0, ids, mask).items()
        }
        self.free_words = torch.ones(len(start.task.vocabulary), dtype=torch.bool)
        self.free_words[ids[mask]] = False

    @torch.no_grad()
    def project(self, policy: Qwen2ForCausalLM) -> None:
        """Take out of the policy's change since pi_0 what the kept prompts would see."""
        for name, value in policy.named_parameters():
            change = value - self.origin[name]
            if name == "model.embed_tokens.weight":  # (V, H), also the last layer: its inputs are the final states
                change = self.free_words[:, None] * (change @ self.projections["lm_head.weight"])
            else:
                projection = self.projections.get(name)
                change = torch.zeros_like(change) if projection is None else change @ projection
            value.copy_(self.origin[name] + change)


@torch.no_grad()
def _input_energies(policy: Qwen2ForCausalLM, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """`sum x x^T` over the inputs of every linear layer, (in, in), in float64; ids and mask: (B, L), True to keep."""
    energies: dict[str, Tensor] = {}

    def seen(name: str, x: Tensor) -> None:
        rows = x[mask].double()  # (M, in)
        energies[name] = rows.T @ rows

    handles = [
        module.register_forward_pre_hook(lambda _module, inputs, name=name: seen(name, inputs[0]))
        for name, module in policy.named_modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        policy(input_ids=ids)
    finally:
        for handle in handles:
            handle.remove()
    return energies


def _projection(energy: Tensor, share: float) -> Tensor:
    """Projection on what is left of the space without its leading directions, (in, in) float32."""
    values, vectors = torch.linalg.eigh(energy)  # ascending
    values, vectors = values.flip(0).clamp(min=0.0), vectors.flip(1)
    taken = int((values.cumsum(0) < share * values.sum()).sum()) + 1
    leading = vectors[:, :taken]
    return (torch.eye(len(energy), dtype=torch.float64) - leading @ leading.T).float()
