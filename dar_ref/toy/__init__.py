"""The whole of RLHF on a CPU: SFT, comparisons, reward model, online training by every method, evaluation.

Read `tasks`, then `start`, then `train` and `methods`. `exact` compares training with the theory, `experiments`
compares methods over seeds. `dar-ref toy --help` lists the commands.
"""

from dar_ref.toy.config import RunConfig, StartConfig, start_config
from dar_ref.toy.methods import make_rollout, method_loss
from dar_ref.toy.policy import Completions, decode, encode, encode_prompts, per_token_logps
from dar_ref.toy.sampling import sample
from dar_ref.toy.start import Start, load_start
from dar_ref.toy.tasks import HARMLESS, HELPFUL, TASKS, TINY, TLDR, Task
from dar_ref.toy.train import train

__all__ = [
    "HARMLESS",
    "HELPFUL",
    "TASKS",
    "TINY",
    "TLDR",
    "Completions",
    "RunConfig",
    "Start",
    "StartConfig",
    "Task",
    "decode",
    "encode",
    "encode_prompts",
    "load_start",
    "make_rollout",
    "method_loss",
    "per_token_logps",
    "sample",
    "start_config",
    "train",
]
