"""The pictures of the home page: one DAR step, and how the two balls of T6 part."""

import numpy as np
from matplotlib.figure import Figure

from dar_ref import plots, theory

# The three stages: arm 3 has the highest reward and is rare at first.
LOG_PI_0 = np.log([0.15, 0.75, 0.10])
REWARD = np.array([0.5, 0.0, 1.0])
TILTS = (1.2, 2.7, 4.2)  # pi_t ∝ pi_0 exp(tilt * reward): three policies, each trained longer on the reward
EPS = 0.2
ALPHA, BETA = 0.5, 1.0

# The loop: five answers to one prompt.
FIVE_0, FIVE_T = np.log([0.35, 0.25, 0.20, 0.15, 0.05]), np.log([0.25, 0.25, 0.20, 0.20, 0.10])
GOOD = np.array([0.1, 0.3, 0.5, 0.7, 1.0])
ALPHA_LOOP, BETA_LOOP = 0.1, 0.3


def stages(rows: int, columns: int) -> Figure:
    """Three stages of a run, where the shared region is wide, tiny, and empty, with DAR's optimum in each."""
    with plots.style():
        figure = Figure(figsize=(2.9 * columns, 2.75 * rows + 0.3))
        for panel, tilt in enumerate(TILTS):
            log_pi_t = theory.optimum(REWARD, LOG_PI_0, LOG_PI_0, 1.0, 1.0 / tilt).log_pi
            ax = plots.simplex_axes(figure, (rows, columns, panel + 1))
            plots.draw_region(ax, LOG_PI_0, log_pi_t, EPS, EPS)
            best = theory.optimum(REWARD, LOG_PI_0, log_pi_t, ALPHA, BETA).log_pi
            for policy, name in ((LOG_PI_0, "pi_0"), (log_pi_t, "pi_t"), (best, "pi_star")):
                plots.draw_policy(ax, policy, name)
            needed = float(theory.chernoff(LOG_PI_0, log_pi_t).information)
            verdict = "both: the hatched region" if needed <= EPS else "nothing satisfies both"
            ax.set_title(f"radius {EPS}, needed {needed:.2f}\n{verdict}", pad=20)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def loop(rows: int, columns: int) -> Figure:
    """One exact DAR step on five answers: what is sampled, its score, its weight, and the policy that is fitted."""
    advantage = GOOD - np.exp(FIVE_T) @ GOOD
    setting = (advantage, FIVE_0, FIVE_T, ALPHA_LOOP, BETA_LOOP)
    weight = np.exp(theory.regression_weights(*setting).log_weight)
    fitted = np.exp(theory.optimum(*setting).log_pi)
    arms = np.arange(len(GOOD))
    with plots.style():
        figure = Figure(figsize=(2.6 * columns, 2.5 * rows))
        panels = list(figure.subplots(rows, columns).flat)
        looks = (
            ("1  sample\nπₜ writes answers", np.exp(FIVE_T), plots.VERMILION),
            ("2  score\nA = reward − mean", advantage, plots.GREY),
            ("3  weight\n" + r"$(\pi_0/\pi_t)^{\alpha}\,e^{A/\beta}$", weight, plots.PURPLE),
            ("4  fit\nπₜ becomes π*", fitted, plots.GREEN),
        )
        for ax, (title, heights, color) in zip(panels, looks, strict=True):
            ax.bar(arms, heights, 0.7, color=color)
            ax.axhline(0.0, color=plots.GREY, linewidth=0.8)
            ax.set_title(title, fontsize=10.5)
            ax.set_xticks(arms, "abcde")
            ax.tick_params(labelsize=8)
            ax.grid(False)
        panels[-1].bar(
            arms, np.exp(FIVE_T), 0.7, fill=False, edgecolor=plots.VERMILION, linestyle="--", label="πₜ before"
        )
        panels[-1].legend(fontsize="small", loc="upper left")
        if rows == 1:
            for ax in panels[:-1]:
                ax.text(1.12, 1.11, "→", fontsize=20, ha="center", va="center", transform=ax.transAxes)
    return figure
