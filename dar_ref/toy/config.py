"""Every option of the toy engine: of a start (`StartConfig`) and of one training run (`RunConfig`)."""

from dataclasses import dataclass, fields
from typing import Literal, get_args

from dar_ref import scalars
from dar_ref.optimizers import Optimizer
from dar_ref.toy.tasks import TASKS

Method = Literal[
    "dar", "dao", "grpo", "rloo", "ppo", "dual_ppo", "online_dpo", "dpo", "ipo", "slic", "best_of_n"
]  # in the order of tables
Reward = Literal["proxy", "annotator", "gold"]
Weights = Literal["dar", "zero_sum"]
Baseline = Literal["group", "batch"]

OFFLINE: tuple[Method, ...] = ("dpo", "ipo", "slic")  # learn from preference pairs of pi_0, without sampling
CRITIC: tuple[Method, ...] = ("ppo", "dual_ppo")  # also train a value function


@dataclass(frozen=True)
class StartConfig:
    """Options of `pi_0`, the preference pairs and the reward model. All are our choices: the paper has no toy task."""

    task: str = "tldr"  # of `tasks.TASKS`
    seed: int = 0  # for prompts, demonstrations, samples, labels and initial weights
    hidden_size: int = 64
    num_layers: int = 2
    num_heads: int = 4
    train_prompts: int = 1500  # for SFT, for the reward model and for online training
    validation_prompts: int = 100
    test_prompts: int = 200
    demonstrations: int = 4  # per training prompt
    noise: float = 0.25  # probability of an error in each word of a demonstration
    sft_steps: int = 300
    sft_batch: int = 64  # demonstrations per step
    sft_learning_rate: float = 5e-3  # Adam, decayed to 0 along a cosine
    groups: int = 1  # groups of completions of pi_0 per training prompt
    group_size: int = 4  # completions per group; every pair of them is compared
    label_temperature: float = 0.05  # annotators prefer a to b with probability sigmoid((u_a - u_b) / temperature)
    reward_layers: int = 1  # layers that the reward model has on top of the policy's
    reward_steps: int = 600
    reward_batch: int = 32  # groups per step
    reward_learning_rate: float = 2e-3  # Adam, decayed to 0 along a cosine

    def __post_init__(self) -> None:
        scalars.choice("task", self.task, TASKS)
        scalars.seed("seed", self.seed)
        for name in ("num_layers", "num_heads", "train_prompts", "validation_prompts", "test_prompts", "groups"):
            scalars.integer(name, getattr(self, name), 1)
        for name in ("demonstrations", "sft_steps", "sft_batch", "reward_layers", "reward_steps", "reward_batch"):
            scalars.integer(name, getattr(self, name), 1)
        if scalars.integer("hidden_size", self.hidden_size, 2) % (2 * self.num_heads):
            raise ValueError(
                f"hidden_size = {self.hidden_size} does not split into num_heads = {self.num_heads} heads of an even"
                f" number of channels; pass a multiple of {2 * self.num_heads}"
            )
        scalars.integer("group_size", self.group_size, 2)
        if scalars.fraction("noise", self.noise, single=True) == 1.0:
            raise ValueError(f"noise = {self.noise}: no demonstration would ever end; pass a number below 1")
        for name in ("sft_learning_rate", "label_temperature", "reward_learning_rate"):
            scalars.positive(name, getattr(self, name), single=True)


def start_config(task: str, seed: int) -> StartConfig:
    """The start that all commands use for a task and a seed. `tiny` has only 64 prompts and samples each more often.

    Raises:
        TypeError, ValueError: an unknown task or a seed below 0.
    """
    if task != "tiny":
        return StartConfig(task=task, seed=seed)
    sizes = {"train_prompts": 32, "validation_prompts": 16, "test_prompts": 16}
    return StartConfig(task=task, seed=seed, **sizes, demonstrations=64, groups=32, sft_steps=200, reward_steps=200)


@dataclass(frozen=True)
class RunConfig:
    """Options of one training run. Wrong ones raise TypeError or ValueError before any work starts."""

    method: Method = "dar"
    steps: int = 100  # minibatches of N * K samples: the budget, the same for every method
    batch_prompts: int = 32  # N, prompts of a minibatch
    num_generations: int = 4  # K, completions per prompt: N * K = 128, the third party's preset
    baseline: Baseline = "group"  # dar, dao: the reward's mean over the group, or over the batch, which allows K = 1
    updates_per_rollout: int = 1  # gradient steps on one rollout: above 1 the later ones use samples of an older policy
    epochs_per_rollout: int = 1  # passes over a rollout; each splits it into updates / epochs minibatches
    learning_rate: float = 3e-4  # constant, no warm-up, no gradient clipping
    optimizer: Optimizer = "adam"  # other settings are torch's defaults
    reward: Reward = "proxy"  # "annotator": its utility, asked online, without a reward model; "gold": the true goal
    proxy_quality: float | None = None  # correlation of the proxy with gold, in [0, 1]; None: the proxy as it is
    alpha: float = 0.1  # dar, dao, dual_ppo: weight of pi_0 against pi_t, in [0, 1]
    beta: float = 0.05  # dar, dao, dual_ppo: strength of the dual KL, in units of the normalised advantage per nat
    eps_0: float | None = None  # dar: budget of KL(pi‖pi_0), nats; with eps_t in place of alpha and beta (`budgets`)
    eps_t: float | None = None  # dar: budget of KL(pi‖pi_t), nats
    w_clip: float = 20.0  # dar: upper bound of the weight; inf for none
    self_normalize: bool = False  # dar: divide the weights by their batch mean
    weights: Weights = "dar"  # dar: "zero_sum" takes w / mean(w) - 1 in place of w; T14 has the exact mean
    epsilon: float = 0.2  # grpo, ppo, dual_ppo: half-width of the ratio's clip
    kl_coef: float = 0.04  # grpo: weight of the KL in the loss; rloo, ppo: of the KL in the reward
    dpo_beta: float = 0.1  # dpo, online_dpo, ipo (its tau): strength of the implied KL to pi_0
    gae_lambda: float = 0.95  # ppo, dual_ppo: lambda of GAE; the discount is 1
    evaluate_every: int = 25  # steps between evaluations; the last step is always evaluated
    evaluate_on: Literal["validation", "test"] = "validation"  # the prompts for evaluation
    evaluation_samples: int = 1  # completions per prompt of an evaluation
    train_on: str = ""  # of `mixed`: the part whose prompts are trained on; empty for all prompts
    null_space: float | None = None  # share of what the other parts' prompts excite that no update may touch, in (0, 1)
    seed: int = 0  # for the order of prompts and the sampled tokens

    def __post_init__(self) -> None:
        scalars.choice("method", self.method, get_args(Method))
        scalars.choice("optimizer", self.optimizer, get_args(Optimizer))
        scalars.choice("reward", self.reward, get_args(Reward))
        scalars.choice("weights", self.weights, get_args(Weights))
        scalars.choice("baseline", self.baseline, get_args(Baseline))
        scalars.choice("evaluate_on", self.evaluate_on, ("validation", "test"))
        for name in ("steps", "batch_prompts", "updates_per_rollout", "epochs_per_rollout", "evaluate_every"):
            scalars.integer(name, getattr(self, name), 1)
        scalars.integer("evaluation_samples", self.evaluation_samples, 1)
        scalars.integer("num_generations", self.num_generations, 1 if self.baseline == "batch" else 2)  # T10
        if self.proxy_quality is not None:
            scalars.fraction("proxy_quality", self.proxy_quality)
        scalars.seed("seed", self.seed)
        for name in ("alpha", "gae_lambda"):
            scalars.fraction(name, getattr(self, name), single=True)
        for name in ("learning_rate", "beta", "dpo_beta"):
            scalars.positive(name, getattr(self, name), single=True)
        scalars.positive("w_clip", self.w_clip, or_infinite=True, single=True)
        for name in ("eps_0", "eps_t"):
            if getattr(self, name) is not None:
                scalars.positive(name, getattr(self, name), single=True)
        for name in ("epsilon", "kl_coef"):
            scalars.non_negative(name, getattr(self, name), single=True)
        if not isinstance(self.self_normalize, bool):
            raise TypeError(f"self_normalize = {self.self_normalize!r} is not a truth value; pass True or False")
        if self.null_space is not None and not 0.0 < scalars.fraction("null_space", self.null_space) < 1.0:
            raise ValueError(f"null_space = {self.null_space} is not between 0 and 1; pass None for no projection")
        self._refuse_contradictions()
        self._refuse_unlike_budgets()

    @property
    def minibatches(self) -> int:
        """Into how many minibatches of `batch_prompts` prompts a rollout is split."""
        return self.updates_per_rollout // self.epochs_per_rollout

    def _refuse_contradictions(self) -> None:
        if self.updates_per_rollout % self.epochs_per_rollout:
            raise ValueError(
                f"updates_per_rollout = {self.updates_per_rollout} is not a multiple of epochs_per_rollout ="
                f" {self.epochs_per_rollout}: every epoch takes one step on each minibatch; pass a multiple"
            )
        if self.steps % self.minibatches:
            raise ValueError(
                f"steps = {self.steps} is not a multiple of the {self.minibatches} minibatches of a rollout: the last"
                " rollout would not be used up; pass steps ="
                f" {self.steps - self.steps % self.minibatches or self.minibatches}"
            )
        if self.method in OFFLINE and self.minibatches > 1:
            raise ValueError(
                f"updates_per_rollout = {self.updates_per_rollout} with epochs_per_rollout = {self.epochs_per_rollout}"
                f" makes the end of a rollout stale, and {self.method} samples none; pass the same number for both"
            )
        if self.method in OFFLINE and self.reward != "proxy":
            raise ValueError(
                f"reward = {self.reward!r} has no effect on {self.method}, which learns from labelled pairs; use an"
                " online method, or leave reward at 'proxy'"
            )
        if self.method in (*OFFLINE, "online_dpo") and self.num_generations % 2:
            raise ValueError(
                f"num_generations = {self.num_generations} is odd, but {self.method} learns from pairs;"
                " pass an even number"
            )
        if self.self_normalize and self.method != "dar":
            raise ValueError(f"self_normalize is an option of dar, not of {self.method}; leave it out")
        if self.weights == "zero_sum" and (self.method != "dar" or self.self_normalize):
            raise ValueError(
                f"weights = 'zero_sum' with method = {self.method!r} and self_normalize = {self.self_normalize}:"
                " zero-sum weights are an option of dar, and already divided by their mean; leave the other out"
            )
        if self.train_on not in ("", "helpful", "harmless") or (self.null_space is not None and not self.train_on):
            raise ValueError(
                f"train_on = {self.train_on!r} with null_space = {self.null_space}: pass helpful or harmless, the parts"
                " of mixed; the projection keeps the other part, so it needs one"
            )
        if self.train_on and self.method in OFFLINE:
            raise ValueError(
                f"train_on = {self.train_on!r} with method = {self.method!r}, which learns from pairs of all prompts;"
                " take an online method, or leave it out"
            )
        if self.baseline == "batch" and self.method not in ("dar", "dao"):
            raise ValueError(f"baseline = 'batch' is an option of dar and dao, not of {self.method}; leave it out")
        if self.proxy_quality is not None and (self.reward != "proxy" or self.method in OFFLINE):
            raise ValueError(
                f"proxy_quality = {self.proxy_quality} has no effect with reward = {self.reward!r} and method ="
                f" {self.method!r}; leave it out, or take an online method and the proxy"
            )

    def _refuse_unlike_budgets(self) -> None:
        """Raise ValueError for what does not go with budgets, or for one budget alone."""
        if (self.eps_0 is None) != (self.eps_t is None) or (self.eps_0 is not None and self.method != "dar"):
            raise ValueError(
                f"eps_0 = {self.eps_0} and eps_t = {self.eps_t} with method = {self.method!r}: budgets are an option of"
                " dar, and come as a pair; pass both or none"
            )
        usual = {field.name: field.default for field in fields(self)}
        if self.eps_0 is not None and (self.alpha, self.beta) != (usual["alpha"], usual["beta"]):
            raise ValueError(
                f"alpha = {self.alpha} and beta = {self.beta} with eps_0 and eps_t: budgets give both anew at every"
                " rollout; leave one pair out"
            )
        if self.eps_0 is not None and self.num_generations == 1:
            raise ValueError(
                "num_generations = 1 with eps_0 and eps_t: of one response per prompt no KL can be seen; pass 2 or more"
            )
