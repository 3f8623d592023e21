"""One picture for each statement of the theory, drawn from `dar_ref.theory`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from dar_ref import plots, theory

# The example of most pages: two mirrored anchors and an advantage that points to the first arm.
LOG_PI_0, LOG_PI_T = np.log([0.7, 0.2, 0.1]), np.log([0.1, 0.2, 0.7])
ADVANTAGE = np.array([0.0, 1.0, 0.5])
FOUR = np.log(np.full(4, 0.25))
GAINS = np.array([1.5, 0.5, -0.5, -1.5])


def two_kls() -> Figure:
    """T1: on two arms, the dual KL and the KL to the interpolation are one curve, shifted by -log C."""
    log_pi_0, log_pi_t, alpha = np.log([0.9, 0.1]), np.log([0.2, 0.8]), 0.5
    first = np.linspace(0.001, 0.999, 400)
    log_pi = np.log(np.stack([first, 1.0 - first], axis=-1))
    log_pi_ref, log_c = theory.interpolate(log_pi_0, log_pi_t, alpha)
    dual = "0.5 KL(π‖π₀) + 0.5 KL(π‖πₜ)"
    curves = {dual: theory.dual_kl(log_pi, log_pi_0, log_pi_t, alpha), "KL(π‖π_ref)": theory.kl(log_pi, log_pi_ref)}
    marks = {"πₜ": 0.2, "π₀": 0.9}
    figure = _lines(first, curves, "π of the first arm", "nats", ylim=(-0.08, 1.5), marks=marks)
    ax = figure.axes[0]
    at, arrow = float(np.exp(log_pi_ref[0])), {"arrowstyle": "<->"}
    ax.annotate("", (at, 0.0), (at, -float(log_c)), arrowprops=arrow)
    ax.annotate("−log C", (at + 0.02, -0.5 * float(log_c)), va="center")
    return figure


def optimum() -> Figure:
    """T2: from pi_t and pi_0 to pi_ref, and from there along the advantage to pi*."""
    return plots.optimum_figure(ADVANTAGE, LOG_PI_0, LOG_PI_T, [(0.5, 0.4)], arms=_arms(ADVANTAGE))


def weighted_samples() -> Figure:
    """T3: the share that each answer has among the samples, alone and weighted."""
    advantage, log_pi_t = np.array([-1.0, 0.0, 0.5, 1.0]), np.log([0.4, 0.3, 0.2, 0.1])
    setting = (advantage, FOUR, log_pi_t, 0.5, 1.0)
    weighted = log_pi_t + theory.regression_weights(*setting).log_weight
    weighted -= np.logaddexp.reduce(weighted)
    bars = {"samples of πₜ": log_pi_t, "weighted samples": weighted, "π*": theory.optimum(*setting).log_pi}
    return plots.bars_figure(bars, _arms(advantage), "answer")


def clipped_target() -> Figure:
    """T4: the target without a clip and with one."""
    setting = (GAINS, FOUR, FOUR, 0.1, 0.5)
    bars = {
        "πₜ": FOUR,
        "target without a clip": theory.regression_target(*setting),
        "target, w_clip = 2": theory.regression_target(*setting, w_clip=2.0),
    }
    return plots.bars_figure(bars, _arms(GAINS), "answer")


def contraction() -> Figure:
    """T5: the distance to the end of the iteration, step by step."""
    curves = {}
    for alpha in (0.1, 0.5, 0.9):
        path = theory.iterate(ADVANTAGE, LOG_PI_0, alpha, 1.0, 12)
        curves[f"alpha {alpha}"] = np.ptp(path - theory.fixed_point(ADVANTAGE, LOG_PI_0, alpha, 1.0), axis=-1)
    ylabel = "distance of log πₜ from its end, nats"
    return _lines(range(13), curves, "step t", ylabel, yscale="log", ylim=(1e-4, 20.0))


def best_inside() -> Figure:
    """T7: the region, and in it the best policy, which is a DAR policy."""
    best = theory.constrained_optimum(ADVANTAGE, LOG_PI_0, LOG_PI_T, 0.4, 0.45)
    figure = plots.region_figure(LOG_PI_0, LOG_PI_T, ADVANTAGE, 0.4, 0.45, arms=_arms(ADVANTAGE))
    figure.set_size_inches(4.6, 4.4)  # its text can be read on a phone
    figure.axes[0].set_title(f"best allowed = DAR at alpha {best.alpha:.2f}, beta {best.beta:.2f}", pad=18)
    return figure


def noise() -> Figure:
    """T8: noise to signal of one sample's update while pi_theta moves away from the sampler."""
    rng = np.random.default_rng(0)
    log_pi_t, reward = np.log(np.full(8, 1 / 8)), rng.normal(size=8)
    way = rng.normal(size=8)
    sizes = np.linspace(0.0, 3.0, 25)
    drifted = log_pi_t + sizes[:, None] * way
    drifted -= np.logaddexp.reduce(drifted, axis=-1, keepdims=True)
    options = {"alpha": 0.1, "beta": 1.0, "baseline": "none"}
    curves = {
        name.upper(): [
            theory.noise_to_signal(theory.estimator_moments(name, reward, pi, log_pi_t, log_pi_t, 1, **options))
            for pi in drifted
        ]
        for name in ("dar", "dao")
    }
    distance = theory.kl(drifted, log_pi_t)
    return _lines(
        distance, curves, "KL(π_θ‖πₜ), nats", "noise to signal", yscale="log", xlim=(0.0, float(distance[-1]))
    )


def trust_regions() -> Figure:
    """T9: the ball around pi_0 and three regions around pi_t."""
    log_pi_t = np.log([0.2, 0.3, 0.5])
    regions = (("kl", 0.1, "KL(π‖πₜ) ≤ 0.1", "--"), ("forward_kl", 0.1, "KL(πₜ‖π) ≤ 0.1", "-."))
    regions = (*regions, ("ppo_box", 0.2, "PPO's box: within 20 %", ":"))
    with plots.style():
        figure = Figure(figsize=(5.2, 4.6))
        ax = plots.simplex_axes(figure)
        anchored = "KL(π‖π₀) ≤ 0.2"
        plots.draw_set(ax, lambda pi: theory.kl(pi, LOG_PI_0) - 0.2, LOG_PI_0, plots.COLORS["pi_0"], label=anchored)
        colors = (plots.VERMILION, plots.GREEN, plots.PURPLE)
        for (stability, size, label, dashes), color in zip(regions, colors, strict=True):

            def gap(pi: ArrayLike, size: float = size, stability: str = stability) -> ArrayLike:
                return plots.trust_gap(pi, log_pi_t, size, stability)

            plots.draw_set(ax, gap, log_pi_t, color, linestyle=dashes, fill=0.0, label=label)
        plots.draw_policy(ax, LOG_PI_0, "pi_0")
        plots.draw_policy(ax, log_pi_t, "pi_t")
        ax.legend(loc="upper left", bbox_to_anchor=(-0.14, 1.04), fontsize="small")
    return figure


def own_sample() -> Figure:
    """T10: the target that K samples and the group mean aim at, for some K."""
    reward = np.array([0.0, 1.0, 2.0])
    even = np.log(np.full(3, 1 / 3))
    bars = {f"K = {size}": theory.sampled_target(reward, even, even, 0.1, 1.0, size) for size in (2, 4, 16)} | {
        "π* (asked for)": theory.optimum(reward, even, even, 0.1, 1.0).log_pi
    }
    return plots.bars_figure(bars, _arms(reward, "r"), "answer")


def coverage() -> Figure:
    """T11: the distance from where the run ends to the moving reference, and to the fixed one."""
    steps = 12
    moving = theory.coverage(ADVANTAGE, LOG_PI_0, 0.1, 1.0, steps)
    fixed = np.full(steps + 1, theory.kl(theory.fixed_point(ADVANTAGE, LOG_PI_0, 0.1, 1.0), LOG_PI_0))
    curves = {"moving reference π_ref,t": moving, "fixed reference π₀": fixed}
    return _lines(range(steps + 1), curves, "step t", "KL(π∞‖reference), nats", ylim=(0.0, None))


def weights() -> Figure:
    """T14: DAR's weights in units of their mean, and the zero-sum weights, on four answers."""
    weight = np.exp(theory.regression_weights(GAINS, FOUR, FOUR, 0.1, 4.0).log_weight)
    share = weight / weight.mean()
    bars = {"DAR: weight / mean weight": share, "zero-sum: the same, less 1": share - 1.0}
    with plots.style():
        figure = Figure(figsize=(5.5, 3.2))
        ax = figure.add_subplot()
        for index, (label, heights) in enumerate(bars.items()):
            color, _, _, hatch = plots.LOOKS[index]
            places = np.arange(heights.size) + 0.4 * (index - 0.5)
            ax.bar(places, heights, 0.4, label=label, color=color, hatch=hatch, edgecolor="white")
        ax.axhline(0.0, color=plots.BLACK, linewidth=1.0)
        ax.set_xticks(range(GAINS.size), _arms(GAINS))
        ax.set(xlabel="answer", ylabel="how hard it is pushed up")
        ax.grid(False, axis="x")
        figure.legend(loc="outside upper center", ncols=2)
    return figure


def fits() -> Figure:
    """T15: fits of few and of many samples, each a point, around the target that both aim at."""
    log_pi_t = np.log([0.5, 0.2, 0.3])
    rng, setting = np.random.default_rng(0), (ADVANTAGE, log_pi_t, log_pi_t, 0.1, 1.0)
    log_weight = theory.regression_weights(*setting).log_weight
    with plots.style():
        figure = Figure(figsize=(5.2, 4.6))
        ax = plots.simplex_axes(figure, arms=_arms(ADVANTAGE))
        for size, color, marker in ((20, plots.ORANGE, "o"), (500, plots.BLUE, "^")):
            mass = rng.multinomial(size, np.exp(log_pi_t), size=200) * np.exp(log_weight)
            fitted = mass / mass.sum(axis=-1, keepdims=True)
            look = {"color": color, "marker": marker, "markersize": 4, "alpha": 0.6, "linestyle": "none"}
            ax.plot(*fitted.T, label=f"fits of {size} samples", clip_on=False, **look)
        plots.draw_policy(ax, log_pi_t, "pi_t", "πₜ, which draws them")
        plots.draw_policy(ax, theory.regression_target(*setting), "pi_star", "π*, their target")
        ax.legend(loc="upper left", bbox_to_anchor=(-0.14, 1.04), fontsize="small")
    return figure


def _lines(*args: Any, **options: Any) -> Figure:
    """A line figure of a size at which its text can be read on a phone."""
    figure = plots.line_figure(*args, **options)
    figure.set_size_inches(5.2, 3.4)
    return figure


def _arms(values: Sequence[float] | np.ndarray, name: str = "A") -> list[str]:
    return [f"{name} = {value:g}" for value in values]
