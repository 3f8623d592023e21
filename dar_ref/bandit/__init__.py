"""Contextual bandits with few arms: trained by the losses of `dar_ref.losses`, judged exactly by `dar_ref.theory`.

    bandit = digits_bandit(seed=0)
    run = train(bandit, digits_config("dar"))
    run.records[-1].proxy, run.records[-1].gold

`train.py` has the whole training loop. `compare` runs several settings over several seeds.
"""

from dar_ref.bandit.comparison import compare
from dar_ref.bandit.config import TrainConfig
from dar_ref.bandit.digits import digits_bandit, digits_config
from dar_ref.bandit.measure import Evaluation, Record, evaluate
from dar_ref.bandit.problem import Bandit, Contexts, log_probs
from dar_ref.bandit.tabular import TabularPolicy, random_tabular_bandit, tabular_bandit
from dar_ref.bandit.train import TrainResult, train

__all__ = [
    "Bandit",
    "Contexts",
    "Evaluation",
    "Record",
    "TabularPolicy",
    "TrainConfig",
    "TrainResult",
    "compare",
    "digits_bandit",
    "digits_config",
    "evaluate",
    "log_probs",
    "random_tabular_bandit",
    "tabular_bandit",
    "train",
]
