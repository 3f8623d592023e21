"""One picture for each finding, drawn from `dar_ref.theory`."""

import numpy as np
from matplotlib.figure import Figure

from dar_ref import plots, theory


def normalised() -> Figure:
    """Two even arms: what the std of log(pi/pi_0) can be, and what a fixed point at alpha beta needs."""
    odds = np.linspace(0.0, 8.0, 200)
    offered = theory.log_ratio_std(np.array([1.0, 0.0]), np.log([0.5, 0.5]), odds)
    needed = {f"needed at alpha beta {product:g}": np.full(200, 1.0 / product) for product in (3.0, 1.509, 0.5)}
    curves = {"what a policy can offer": offered, **needed}
    ylabel = "std of log(π/π₀) under π, nats"
    return plots.line_figure(odds, curves, "log odds gained over π₀, nats", ylabel, ylim=(0.0, 2.2))


def switch() -> Figure:
    """The weight at the paper's setting, and the shares of normal advantages at the clip and near 0."""
    return plots.weight_figure(beta=0.05, w_clip=20.0)


def certificate() -> Figure:
    """f(alpha) of T6 at three radii: its minimum decides."""
    log_pi_0, log_pi_t = np.log([0.7, 0.2, 0.1]), np.log([0.1, 0.2, 0.7])
    alphas = np.linspace(0.0, 1.0, 101)
    log_c = np.array([theory.interpolate(log_pi_0, log_pi_t, float(alpha)).log_c for alpha in alphas])
    touching = float(theory.chernoff(log_pi_0, log_pi_t).information)
    kinds = ((0.45, "there is room"), (touching, "they touch"), (0.2, "no policy in both"))
    curves = {f"radius {radius:.2f}: {said}": radius + log_c for radius, said in kinds}
    figure = plots.line_figure(alphas, curves, "alpha", "f(alpha), nats")
    figure.axes[0].axhline(0.0, color=plots.BLACK, linewidth=1.0)
    return figure
