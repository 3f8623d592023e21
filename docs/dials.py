"""The numbers and pictures of the pages T12 to T15: docs/results/t12 to t15, with results.json, run.json and table.md.

    python docs/dials.py            all of them, a few minutes
    python docs/dials.py t13 t15    these

T13 and T14 are exact. T12 simulates the dual of K samples, and T15 the fit of n samples; the seed is fixed.
"""

import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import binom, chi2, norm

from dar_ref import plots, results, theory
from dar_ref.evaluation import Table, markdown
from dar_ref.plots.lines import line_figure

RESULTS = Path(__file__).parent / "results"
SEED = 0
Content = dict[str, Any]
Array = NDArray[np.float64]

# T12: a bandit of three arms, and populations of 1001 even arms whose rewards have a std of 1
LOG_PI_0, REWARD, EPS_0, STEPS = np.log([0.6, 0.3, 0.1]), np.array([0.0, 1.0, 2.0]), 0.5, 12
STEP_BUDGETS = (0.1, 0.03, 0.01)
PLACES = (np.arange(1001) + 0.5) / 1001
POPULATIONS = {"normal": norm.ppf(PLACES), "uniform": np.sqrt(12.0) * (PLACES - 0.5)}
SAMPLES, BUDGETS, DRAWS = (4, 8, 16, 32, 128), (0.01, 0.1), 2000

# T13: tokens with two values; pi_0 is even, pi_t leans to the first
TOKEN_KLS, ALPHAS, LENGTHS, W_CLIP = (0.01, 0.1), (0.1, 0.5, 1.0), (10, 100, 1000), 20.0

# T14: four arms, updates at pi_theta = pi_t
ARMS, GAIN = np.log([0.4, 0.3, 0.2, 0.1]), np.array([-1.0, 0.0, 0.5, 2.0])
BETAS = (0.05, 0.2, 0.5, 1.0, 2.0, 3.2, 5.0, 20.0)  # 3.2: what direct alignment chose at alpha 0.1

# T15: sixteen even arms, A at the quantiles of a standard normal
EVEN_16, NORMAL_16 = np.log(np.full(16, 1 / 16)), norm.ppf((np.arange(16) + 0.5) / 16)
FIT_BETAS, CLIPS, CLOSE, SIZES, FITS = (0.05, 0.2, 0.5, 1.0), (None, W_CLIP), 0.1, 2 ** np.arange(4, 14), 20_000


def budgets() -> Content:
    """T12: paths, and the KL that the population spends at the multiplier of K samples, in units of the budget."""
    paths = {}
    for eps_t in STEP_BUDGETS:
        log_pi = theory.budgeted_path(REWARD, LOG_PI_0, EPS_0, eps_t, STEPS)
        paths[str(eps_t)] = {"kl": theory.kl(log_pi, LOG_PI_0).tolist(), "value": (np.exp(log_pi) @ REWARD).tolist()}
    beta = float(1.0 / np.sqrt(2.0 * STEP_BUDGETS[1]))
    log_pi = theory.iterate(REWARD, LOG_PI_0, 0.1, beta, STEPS, normalize="standardize")
    soft = {"alpha": 0.1, "beta": beta, "kl": theory.kl(log_pi, LOG_PI_0).tolist()}
    rng, rows = np.random.default_rng(SEED), []
    for name, gain in POPULATIONS.items():
        for size in SAMPLES:
            drawn = gain[rng.integers(len(gain), size=(DRAWS, size))]
            for eps_t in BUDGETS:
                spent = np.array([_spent(gain, rewards, eps_t) for rewards in drawn]) / eps_t
                quantiles = {f"p{int(100 * q)}": float(np.quantile(spent, q)) for q in (0.05, 0.5, 0.95)}
                over = float((spent > 2.0).mean())
                rows.append({"rewards": name, "samples": size, "budget": eps_t, **quantiles, "twice": over})
    return {"paths": paths, "normalised": soft, "sampled": rows}


def _spent(gain: Array, rewards: Array, eps_t: float) -> float:
    """KL of the population's step at the beta that gives the samples a KL of `eps_t`."""
    alike = np.log(np.full(len(rewards), 1.0 / len(rewards)))
    beta = theory.constrained_optimum(rewards, alike, alike, np.inf, eps_t).beta
    even = np.log(np.full(len(gain), 1.0 / len(gain)))
    return float(theory.kl(theory.optimum(gain, even, even, 0.0, beta).log_pi, even))


def budgets_table(content: Content) -> str:
    """Realised KL over its budget, by samples."""
    header = ("samples K", "rewards", "budget, nats", "median", "5 % below", "5 % above", "more than twice the budget")
    rows = tuple(
        (
            str(r["samples"]),
            r["rewards"],
            f"{r['budget']:g}",
            *(f"{r[key]:.2f}" for key in ("p50", "p5", "p95")),
            f"{100 * r['twice']:.0f} %",
        )
        for r in content["sampled"]
    )
    return markdown(Table(header, rows, ()))


def budgets_pictures(content: Content) -> dict[str, Figure]:
    """The KL of the paths, and the spread of the realised KL."""
    curves = {f"{EPS_0} in all, {eps_t} per step": path["kl"] for eps_t, path in content["paths"].items()}
    soft = content["normalised"]
    curves[f"A / std, alpha {soft['alpha']}, beta {soft['beta']:.1f}"] = soft["kl"]
    path = line_figure(range(STEPS + 1), curves, "step t", "KL(πₜ‖π₀), nats", ylim=(0.0, 2.5))
    small = [r for r in content["sampled"] if r["budget"] == BUDGETS[0]]
    spread = {
        f"{name} rewards, 5 % {side}": [r[key] for r in small if r["rewards"] == name]
        for name in POPULATIONS
        for key, side in (("p95", "above"), ("p5", "below"))
    }
    spread["K / chi2(K - 1): normal, small budgets"] = [k / chi2.ppf(0.05, k - 1) for k in SAMPLES]
    xlabel = f"samples K, budget {BUDGETS[0]} nats"
    realised = line_figure(SAMPLES, spread, xlabel, "realised KL / budget", xscale="log", yscale="log")
    return {"path": path, "sampled": realised}


def lengths() -> Content:
    """T13: exact shares over sequences of two-valued tokens, without and with the clip, from the binomial counts."""
    rows = []
    for token_kl in TOKEN_KLS:
        log_pi_t = theory.constrained_optimum(
            np.array([1.0, 0.0]), np.log([0.5, 0.5]), np.log([0.5, 0.5]), token_kl, np.inf
        ).log_pi
        for alpha in ALPHAS:
            share = float(theory.weight_ess(np.log([0.5, 0.5]), log_pi_t, alpha))
            for length in LENGTHS:
                row = {"token_kl": token_kl, "alpha": alpha, "tokens": length, "share": share**length}
                rows.append(row | _clipped(log_pi_t, alpha, length))
    return {"w_clip": W_CLIP, "rows": rows}


def _clipped(log_pi_t: Array, alpha: float, length: int) -> dict[str, float]:
    """With the clip: the share, the mean weight that is left, and the share of samples at the clip."""
    first = np.arange(length + 1)  # how many tokens have the first value
    log_p = binom.logpmf(first, length, np.exp(log_pi_t[0]))
    gap = np.log(0.5) - log_pi_t
    log_w = alpha * (first * gap[0] + (length - first) * gap[1])
    log_v = np.minimum(log_w, np.log(W_CLIP))
    mean_w, mean_v, square_w, square_v = (
        np.logaddexp.reduce(log_p + log) for log in (log_w, log_v, 2.0 * log_w, 2.0 * log_v)
    )
    return {
        "enumerated": float(np.exp(2.0 * mean_w - square_w)),
        "clipped_share": float(np.exp(2.0 * mean_v - square_v)),
        "mean_left": float(np.exp(mean_v - mean_w)),
        "at_clip": float(np.exp(log_p) @ (log_w > np.log(W_CLIP))),
    }


def lengths_table(content: Content) -> str:
    """Shares by alpha and length."""
    clip = f"{content['w_clip']:g}"
    header = ("KL of a token", "alpha", "tokens", "share", f"share, clip {clip}", "E[v] / E[w]", "samples at the clip")
    rows = tuple(
        (
            f"{r['token_kl']:g}",
            f"{r['alpha']:g}",
            str(r["tokens"]),
            *(f"{r[key]:.2g}" for key in ("share", "clipped_share", "mean_left", "at_clip")),
        )
        for r in content["rows"]
    )
    return markdown(Table(header, rows, ()))


def lengths_pictures(content: Content) -> dict[str, Figure]:
    """The share against the length, for each alpha at the smaller KL, and with the clip."""
    tokens = np.unique(np.geomspace(1, 1000, 40).astype(int))
    log_pi_t = theory.constrained_optimum(
        np.array([1.0, 0.0]), np.log([0.5, 0.5]), np.log([0.5, 0.5]), TOKEN_KLS[0], np.inf
    ).log_pi
    curves = {
        f"alpha {alpha}": theory.weight_ess(np.log([0.5, 0.5]), log_pi_t, alpha) ** tokens.astype(float)
        for alpha in ALPHAS
    }
    clipped = [_clipped(log_pi_t, ALPHAS[-1], int(length))["clipped_share"] for length in tokens]
    curves[f"alpha {ALPHAS[-1]}, clip {content['w_clip']:g}"] = clipped
    xlabel = f"tokens, {TOKEN_KLS[0]} nats each"
    return {"share": line_figure(tokens, curves, xlabel, "effective share of samples", xscale="log", ylim=(0.0, 1.05))}


def zero_sum() -> Content:
    """T14: noise-to-signal ratios at the sampler, one sample, exact advantage."""
    rows = []
    for beta in BETAS:
        exact = {"alpha": 0.1, "beta": beta, "baseline": "none"}
        policies = (ARMS, ARMS, ARMS)
        centred = GAIN - np.exp(ARMS) @ GAIN
        row = {"beta": beta}
        for name, method, weights in (("dar", "dar", "dar"), ("zero_sum", "dar", "zero_sum"), ("dao", "dao", "dar")):
            moments = theory.estimator_moments(method, centred, *policies, 1, weights=weights, **exact)
            row[name] = theory.noise_to_signal(moments)
        t = np.exp(theory.regression_target(centred, ARMS, ARMS, 0.1, beta))
        row["saved"] = float(1.0 - 4.0 * t @ np.exp(ARMS) + 3.0 * np.exp(ARMS) @ np.exp(ARMS))
        rows.append(row)
    return {"rows": rows}


def zero_sum_table(content: Content) -> str:
    """Ratios by beta."""
    header = ("beta", "DAR", "zero-sum", "DAO", "trace saved")
    keys = ("dar", "zero_sum", "dao", "saved")
    rows = tuple((f"{r['beta']:g}", *(f"{r[key]:.3g}" for key in keys)) for r in content["rows"])
    return markdown(Table(header, rows, ()))


def zero_sum_pictures(content: Content) -> dict[str, Figure]:
    """Noise against beta."""
    names = {"dar": "DAR", "zero_sum": "zero-sum", "dao": "DAO"}
    curves = {title: [r[key] for r in content["rows"]] for key, title in names.items()}
    labels = ("beta, in units of the advantage", "noise / signal of one sample")
    return {"noise": line_figure(BETAS, curves, *labels, xscale="log", yscale="log")}


def fits() -> Content:
    """T15: the limit, the samples that it asks for, and simulated fits."""
    rng, rows, simulated = np.random.default_rng(SEED), [], {}
    for w_clip in CLIPS:
        for beta in FIT_BETAS:
            bandit = (NORMAL_16, EVEN_16, EVEN_16, 0.1, beta, w_clip)
            target, log_weight = theory.regression_target(*bandit), theory.regression_weights(*bandit).log_weight
            limit = float(theory.fit_error(*bandit))
            lost = float(theory.kl(theory.optimum(*bandit[:5]).log_pi, target))
            row = {"beta": beta, "clip": w_clip, "limit": limit, "samples": limit / (2.0 * CLOSE), "moved": lost}
            rows.append(row)
            if w_clip is not None:
                simulated[str(beta)] = [_simulated(rng, target, log_weight, int(n)) for n in SIZES]
    missing = float(np.log(0.05) / np.log1p(-np.exp(EVEN_16[0])))
    return {"rows": rows, "simulated": simulated, "arm_drawn": missing}


def _simulated(rng: np.random.Generator, target: Array, log_weight: Array, n: int) -> float:
    """`2 n` times the mean KL(fit‖target) of simulated fits: this direction is finite without an arm, too."""
    counts = rng.multinomial(n, np.exp(EVEN_16), size=FITS).astype(float)
    log_mass = np.where(counts > 0, np.log(np.maximum(counts, 1.0)) + log_weight, -np.inf)
    log_fit = log_mass - np.logaddexp.reduce(log_mass, axis=-1, keepdims=True)
    return float(2 * n * theory.kl(log_fit, target).mean())


def fits_table(content: Content) -> str:
    """Limits and samples by beta and clip."""
    header = ("beta", "clip", "limit of 2 n E KL", f"samples for {CLOSE} nats", "KL(pi*‖pi')")
    rows = tuple(
        (
            f"{r['beta']:g}",
            "none" if r["clip"] is None else f"{r['clip']:g}",
            f"{r['limit']:.3g}",
            f"{r['samples']:.3g}",
            f"{r['moved']:.2g}",
        )
        for r in content["rows"]
    )
    note = f"After {content['arm_drawn']:.0f} samples a given arm of the sixteen has been drawn with 95 %."
    return markdown(Table(header, rows, (note,)))


def fits_pictures(content: Content) -> dict[str, Figure]:
    """Simulated errors in units of their limit."""
    limits = {str(r["beta"]): r["limit"] for r in content["rows"] if r["clip"] is not None}
    curves = {f"beta {beta}": np.array(values) / limits[beta] for beta, values in content["simulated"].items()}
    ylabel = "2 n E KL(fit‖target) / its limit"
    return {"error": line_figure(SIZES, curves, "samples n", ylabel, xscale="log")}


class Part(NamedTuple):
    """What one page shows: `measure` makes results.json, `table` table.md of it, `pictures` the PNGs."""

    measure: Any
    table: Any
    pictures: Any


PARTS = {
    "t12": Part(budgets, budgets_table, budgets_pictures),
    "t13": Part(lengths, lengths_table, lengths_pictures),
    "t14": Part(zero_sum, zero_sum_table, zero_sum_pictures),
    "t15": Part(fits, fits_table, fits_pictures),
}


def main(names: list[str]) -> None:
    """Measure and write the parts that are named; all without a name."""
    for name in names or PARTS:
        started, folder = time.time(), RESULTS / name
        content = PARTS[name].measure()
        results.write_json(folder / "results.json", content)
        results.write_json(folder / "run.json", results.run_info(f"python docs/dials.py {name}", started))
        results.write_text(folder / "table.md", PARTS[name].table(content))
        for title, figure in PARTS[name].pictures(content).items():
            figure.set_size_inches(5.2, 3.4)  # its text can be read on a phone
            print(plots.save_png(figure, folder / f"{title}.png"))


if __name__ == "__main__":
    main(sys.argv[1:])
