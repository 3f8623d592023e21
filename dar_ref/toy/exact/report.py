"""Table and figures of `study`, drawn from its content alone."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dar_ref.plots.style import BLACK, BLUE, GREEN, GREY, ORANGE, VERMILION, style

Content = Mapping[str, Any]

LINES = {  # label, colour, marker, dashes
    "kl_end_exact": ("KL(pi_inf‖pi_t), T5 exactly", BLACK, "x", "--"),
    "kl_end": ("KL(pi_inf‖pi_theta), network", BLUE, "o", "-"),
    "kl_iterate": ("KL(pi_t of T5‖pi_theta), network", VERMILION, "s", "-"),
}
FLOOR = 1e-6  # nats; smaller values, exact zeros too, are not drawn


def figures(content: Content) -> dict[str, Figure]:
    """`{file name without suffix: figure}`."""
    return {"exact_iterations": iterations_figure(content), "exact_samples": samples_figure(content)}


def iterations_figure(content: Content) -> Figure:
    """Distance to the fixed point, exact and of the network, and between the two, against iteration; one panel per
    alpha."""
    paths = content["iterations"]
    with style():
        figure = Figure(figsize=(4.8 * len(paths), 3.8))
        axes = figure.subplots(1, len(paths), sharey=True, squeeze=False)[0]
        for ax, path in zip(axes, paths, strict=True):
            for key, (label, color, marker, dashes) in LINES.items():
                values = np.array(path[key])
                shown = values > FLOOR
                steps = np.arange(len(values))[shown]
                ax.plot(steps, values[shown], dashes, color=color, marker=marker, label=label)
            ax.set(yscale="log", xlabel="iteration", title=f"alpha = {path['alpha']:g}, beta = {path['beta']:g}")
            ax.set_xticks(range(len(path["kl_end"])))
        axes[0].set_ylabel("nats, mean over prompts")
        axes[0].legend(fontsize="small")
    return figure


def samples_figure(content: Content) -> Figure:
    """Error of one iteration against the number of samples per prompt, beside 1/n and the network's limit."""
    part = content["samples"]
    counts, errors = np.array(part["counts"]), np.array(part["kl"])
    with style():
        figure = Figure(figsize=(6.2, 4.2))
        ax = figure.subplots()
        ax.plot(counts, part["tabular"], "--", color=GREY, label="frequencies without a network, to first order: 1/n")
        ax.plot(counts, errors.mean(axis=1), color=BLUE, marker="o", label="network, mean over repeats")
        ax.plot(np.repeat(counts, errors.shape[1]), errors.ravel(), "_", color=ORANGE, markersize=10, label="repeats")
        drawn = [(n, value) for n, value in zip(counts, part["above_limit"], strict=True) if value is not None]
        ax.plot(*np.array(drawn).reshape(-1, 2).T, "s", color=VERMILION, fillstyle="none", label="mean less the limit")
        ax.axhline(part["kl_enumerated"], color=GREEN, linestyle=":", label="limit: network on the enumerated loss")
        ax.set(
            xscale="log",
            yscale="log",
            xlabel="samples a prompt, n",
            ylabel="KL(pi*‖pi_theta), nats",
            title="error of one iteration, sampled",
        )
        ax.legend(fontsize="small")
    return figure


# --- the table --------------------------------------------------------------------------------------------------------


def table(content: Mapping[str, Any]) -> list[list[str]]:
    """What `run` returned as rows of text, the first the names of the columns: part, setting, metric, value."""
    return [
        ["part", "setting", "metric", "value"],
        *(row for one in content["one_iteration"] for row in _one_iteration_rows(one)),
        *(row for path in content["iterations"] for row in _iteration_rows(path)),
        *_sample_rows(content["samples"]),
        *(_optimizer_row(one) for one in content["optimizers"]),
    ]


def _one_iteration_rows(one: Mapping[str, Any]) -> list[list[str]]:
    of_prompts = ", ".join(f"{value:.2g}" for value in one["kl_of_prompts"])
    masses = ", ".join(f"{value:.1f}" for value in one["log_mass"])
    head = ["one iteration", f"{one['setting']}, alpha {one['alpha']:g}"]
    return [
        [*head, "KL(target‖pi) before", f"{one['kl_before']:.3f}"],
        [*head, f"KL(target‖pi) after {one['steps']} steps", f"{one['kl_after']:.2e}"],
        [*head, "of each prompt", of_prompts],
        [*head, "log E[w] of each prompt", masses],
        [*head, "share at the clip", f"{one['clipped']:.1%}"],
        [*head, "residual of the gap identity", f"{one['gap_residual']:.0e}"],
    ]


def _iteration_rows(path: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for t, values in enumerate(zip(path["kl_iterate"], path["kl_end"], path["kl_end_exact"], strict=True)):
        head = ["iterations", f"alpha {path['alpha']:g}, beta {path['beta']:g}, t = {t}"]
        text = " / ".join(f"{value:.4f}" for value in values)
        rows.append([*head, "KL(T5‖network) / KL(pi_inf‖network) / KL(pi_inf‖T5)", text])
    return rows


def _sample_rows(part: Mapping[str, Any]) -> list[list[str]]:
    head, rows = ["samples", f"alpha {part['alpha']:g}, beta {part['beta']:g}"], []
    for n, errors, tabular in zip(part["counts"], part["kl"], part["tabular"], strict=True):
        spread = f"{np.mean(errors):.4f} ({min(errors):.4f} to {max(errors):.4f}); tabular {tabular:.4f}"
        rows.append([*head, f"KL(pi*‖pi), n = {n}", spread])
    rows.append([*head, "KL(pi*‖pi), enumerated", f"{part['kl_enumerated']:.4f}"])
    slopes = ", ".join(f"{slope:.2f}" for slope in part["slopes"])
    rows.append([*head, "slope of log KL against log n", f"{part['slope']:.2f}; between neighbours {slopes}"])
    above = "none" if part["slope_above_limit"] is None else f"{part['slope_above_limit']:.2f}"
    return [*rows, [*head, "slope of log(KL - enumerated) against log n", above]]


def _optimizer_row(one: Mapping[str, Any]) -> list[str]:
    setting = f"{one['optimizer']} {one['learning_rate']:g}, alpha {one['alpha']:g}, weights x {one['factor']:g}"
    return ["optimizers", setting, f"KL(pi‖pi_0) after {len(one['weight'])} steps", f"{one['kl'][-1]:.4f}"]
