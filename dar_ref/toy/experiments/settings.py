"""The experiments: the runs of each. `conduct` runs them, `report` writes their tables and figures.

Every experiment answers one question with the same engine, the same number of samples in each run (100 minibatches of
128; `hacking` has 200, those of `LONG` have 300) and several seeds. A seed sets prompts,
demonstrations, labels, reward model, initial weights and sampling. What is tuned is chosen once, on validation prompts
and seeds: the learning rate, or learning rate and regulariser, see `tuning`; then it is frozen.
"""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from dar_ref.toy.config import Baseline, Method, Reward, RunConfig, Weights
from dar_ref.toy.experiments.conduct import INFINITE, Experiment, Setting
from dar_ref.toy.experiments.search import Cell

TASKS = ("tldr", "helpful", "harmless")  # the paper's three
METHODS: tuple[Method, ...] = get_args(Method)


Rates = Mapping[str, Mapping[str, float]]


def _tuned(method: Method, task: str, rates: Rates, **options: Any) -> RunConfig:
    return RunConfig(method=method, learning_rate=rates[task][method], **options)


def _compare(rates: Rates) -> list[Setting]:
    return [Setting(method, task, _tuned(method, task, rates), method) for task in rates for method in METHODS]


def _standard(rates: Rates) -> list[Setting]:
    return [Setting(m, "helpful", _tuned(m, "helpful", rates), m) for m in ("grpo", "rloo", "dar")]


def _efficiency(rates: Rates) -> list[Setting]:
    methods: tuple[Method, ...] = ("dar", "grpo", "online_dpo", "dpo")
    return [Setting(m, task, _tuned(m, task, rates), m) for task in rates for m in methods]


def _ablate_alpha(_rates: Rates) -> list[Setting]:
    """At the paper's beta, and at ten times that, where alpha has more effect."""
    return [
        Setting(f"alpha {alpha:g}, beta {beta:g}", "tldr", RunConfig(alpha=alpha, beta=beta), f"beta {beta:g}", alpha)
        for beta in (0.05, 0.5)
        for alpha in (0.0, 0.03, 0.1, 0.3, 1.0)
    ]


def _frontier(_rates: Rates) -> list[Setting]:
    settings = []
    for task in ("tldr", "tiny"):
        for alpha in (0.1, 1.0):
            for beta in (0.05, 0.2, 1.0):
                config = RunConfig(alpha=alpha, beta=beta)
                settings.append(
                    Setting(f"dar alpha {alpha:g} beta {beta:g}", task, config, f"dar alpha {alpha:g}", beta)
                )
        for method in ("grpo", "rloo"):
            for kl_coef in (0.0, 0.01, 0.04, 0.1, 0.3, 1.0):  # as many as DAR has pairs
                config = RunConfig(method=method, kl_coef=kl_coef)
                settings.append(Setting(f"{method} kl {kl_coef:g}", task, config, method, kl_coef))
    return settings


def _hacking(_rates: Rates) -> list[Setting]:
    """One run at the paper's alpha and beta, and the same run with another reward, anchor or method. They are twice as
    long as in other experiments, so that every seed follows its reward model far enough."""
    changes: dict[str, dict[str, Any]] = {
        "dar": {},
        "dar on gold": {"reward": "gold"},
        "dar alpha 1 beta 0.2": {"alpha": 1.0, "beta": 0.2},
        "grpo": {"method": "grpo"},
    }
    return [
        Setting(label, "harmless", RunConfig(**{"steps": 200, **options}), label) for label, options in changes.items()
    ]


def _stability(_rates: Rates) -> list[Setting]:
    """With the gold reward nothing can be hacked, so a run whose reward falls has collapsed."""
    return [
        Setting(
            f"{method}, lr {rate:g}, {stale} update{'s' * (stale > 1)} a rollout",
            "tldr",
            RunConfig(method=method, learning_rate=rate, updates_per_rollout=stale, reward="gold"),
            method,
            rate,
        )
        for method in ("dar", "dao", "dual_ppo", "grpo")
        for stale in (1, 20)
        for rate in (3e-4, 1e-3, 3e-3)
    ]


def _clip(_rates: Rates) -> list[Setting]:
    """With the reward model, which is hacked, and with the gold reward, where a moved target can cost something."""
    rewards: tuple[tuple[Reward, str], ...] = (("proxy", ""), ("gold", " on gold"))
    return [
        Setting(f"w_clip {clip:g}{which}", "tldr", RunConfig(w_clip=clip, reward=reward), f"dar{which}", clip)
        for reward, which in rewards
        for clip in (1.0, 5.0, 20.0, 100.0, INFINITE)
    ]


LONG: dict[str, Any] = {"steps": 300, "evaluate_every": 100, "evaluation_samples": 8}
DIRECT: dict[str, dict[str, Any]] = {
    "dar": {},
    "dar alpha 1": {"alpha": 1.0},
    "dar zero-sum": {"weights": "zero_sum"},
    **{method: {"method": method} for method in ("dao", "grpo", "rloo", "ppo", "dual_ppo", "online_dpo")},
}


def _direct_cells(reward: Reward) -> tuple[Cell, ...]:
    return tuple(
        Cell(task, label, RunConfig(reward=reward, **LONG, **options))
        for task in TASKS
        for label, options in DIRECT.items()
    )


def _as_tuned(cells: Sequence[Cell]) -> list[Setting]:
    return [Setting(cell.label, cell.task, cell.config, cell.label) for cell in cells]


def _anchor(_rates: Rates) -> list[Setting]:
    """alpha beta, the pull towards pi_0, is the same in all; with a smaller alpha the weights are more alike (T14)."""
    kinds: dict[str, Weights] = {"dar": "dar", "dar zero-sum": "zero_sum"}
    return [
        Setting(
            f"{kind}, alpha {alpha:g}",
            "tldr",
            RunConfig(alpha=alpha, beta=0.2 / alpha, weights=weights, reward="annotator", learning_rate=1e-3, **LONG),
            kind,
            alpha,
        )
        for kind, weights in kinds.items()
        for alpha in (0.03, 0.1, 0.3, 1.0)
    ]


QUALITIES = (0.3, 0.6, 0.9, 1.0)
RIVALS: dict[str, dict[str, Any]] = {
    "dar": {},
    "dar alpha 1 beta 0.2": {"alpha": 1.0, "beta": 0.2},
    **{method: {"method": method} for method in ("dao", "grpo", "rloo", "online_dpo")},
}
QUALITY_CELLS = tuple(
    Cell("tldr", f"{label}, quality {quality:g}", RunConfig(proxy_quality=quality, **LONG, **options))
    for quality in QUALITIES
    for label, options in RIVALS.items()
)


def _quality(cells: Sequence[Cell]) -> list[Setting]:
    return [
        Setting(cell.label, cell.task, cell.config, cell.label.partition(",")[0], cell.config.proxy_quality or 0.0)
        for cell in cells
    ]


def _budgets(_rates: Rates) -> list[Setting]:
    """Budgets in nats beside three pairs of alpha and beta."""
    pairs: dict[str, dict[str, Any]] = {
        **{
            f"eps_0 {e_0:g}, eps_t {e_t:g}": {"eps_0": e_0, "eps_t": e_t}
            for e_0 in (0.1, 0.3, 1.0)
            for e_t in (0.05, 0.2)
        },
        **{f"alpha {a:g}, beta {b:g}": {"alpha": a, "beta": b} for a, b in ((0.1, 0.05), (0.1, 0.5), (1.0, 0.2))},
    }
    return [
        Setting(label, task, RunConfig(**LONG, **options), "budgets" if "eps_0" in options else "alpha and beta")
        for task in ("tldr", "harmless")
        for label, options in pairs.items()
    ]


def _null_space(_rates: Rates) -> list[Setting]:
    """Training on the gold reward of `harmless` prompts; what happens to `helpful` ones is the alignment tax."""
    return [
        Setting(
            "no projection" if share is None else f"{share:g} of the energy kept",
            "mixed",
            RunConfig(reward="gold", train_on="harmless", null_space=share, learning_rate=1e-3, **LONG),
            "dar",
            share or 0.0,
        )
        for share in (None, 0.5, 0.9, 0.99)
    ]


def _samples(_rates: Rates) -> list[Setting]:
    """128 samples per update, in groups of K. A group of one has no mean of its own: its baseline is the batch's."""
    choices: tuple[tuple[Baseline, tuple[int, ...]], ...] = (("group", (2, 4, 8)), ("batch", (1, 2, 4, 8)))
    return [
        Setting(
            f"K {k}, mean of the {baseline}",
            task,
            RunConfig(num_generations=k, batch_prompts=128 // k, baseline=baseline, reward="annotator", **LONG),
            f"mean of the {baseline}",
            k,
        )
        for task in ("tldr", "helpful")
        for baseline, counts in choices
        for k in counts
    ]


EXPERIMENTS = {
    "hacking": Experiment("How does a policy please its judge and get worse, and what stops it?", _hacking, (), ()),
    "compare": Experiment(
        "Which method wins, all tuned alike? The paper's Table 1 in small.", _compare, TASKS, METHODS
    ),
    "standard": Experiment(
        "Score, length-controlled win rate and length: the paper's Table 2 in small.",
        _standard,
        ("helpful",),
        ("grpo", "rloo", "dar"),
    ),
    "ablate-alpha": Experiment("What does alpha do?", _ablate_alpha, (), ()),
    "anchor": Experiment("At one pull towards pi_0, what does a small alpha cost?", _anchor),
    "frontier": Experiment("How much reward for how much KL to pi_0?", _frontier, (), ()),
    "efficiency": Experiment(
        "What does a win rate cost, in annotations, sampled tokens and seconds?",
        _efficiency,
        TASKS,
        ("dar", "grpo", "online_dpo", "dpo"),
    ),
    "stability": Experiment("Who collapses, as steps get longer and samples older?", _stability, (), ()),
    "clip": Experiment("What does the clip of the weights do?", _clip, (), ()),
    "direct": Experiment(
        "Which method wins when the annotator scores online? The paper's Table 1 as it was made, in small.",
        _as_tuned,
        cells=_direct_cells("annotator"),
    ),
    "direct-gold": Experiment(
        "Which method wins when the reward is the true goal, so that nothing can be hacked?",
        _as_tuned,
        cells=_direct_cells("gold"),
        trials=10,
    ),
    "quality": Experiment(
        "Does the order of the methods depend on how good the reward model is?",
        _quality,
        cells=QUALITY_CELLS,
        trials=10,
    ),
    "budgets": Experiment("Do budgets in nats hold, and what do they cost?", _budgets),
    "null-space": Experiment(
        "Does a projection on the null space of other prompts keep what is not trained?", _null_space
    ),
    "samples": Experiment("How many completions per prompt, at equal samples?", _samples),
}
