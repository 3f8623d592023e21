"""The page of `dar-ref demo`: its words, tables and figures, all from the content of `results.json`."""

from pathlib import Path
from statistics import mean
from typing import Any

from dar_ref import plots, results
from dar_ref.bandit import figures
from dar_ref.demo import html

INTRODUCTION = (
    "DAR maximises `E[A] - beta (alpha KL(pi‖pi_0) + (1-alpha) KL(pi‖pi_t))`. Its optimum is known in closed form and"
    " is reached by weighted supervised fine-tuning on samples of the current policy. This page first checks the theory"
    " on random bandits, then uses the same loss on real data."
)
HOW_TO_READ_THE_TABLE = (
    "Each row is a statement, checked on random bandits. Error: the largest float64 error of the package, relative to"
    " the size of the result (one rounding is 1.1e-16). Certified: an upper bound, from ball arithmetic, of the"
    " difference between the two sides of the identity."
)
THE_BANDIT = (
    "A context is an image of a handwritten digit, an arm one of ten answers. The policy starts as a network that saw"
    " 80 labels. It is trained on a proxy reward, the probability that a model fitted on 80 other labels gives the"
    " answer, and judged by the true labels. Three methods, one start, the same samples to spend; three seeds, each"
    " with its own data. Numbers are means over seeds, with the smallest and the largest, on held-out images."
)
PROVENANCE = (
    "`dar-ref demo` makes every number and picture here from `results.json`; versions and times are in `run.json`."
)
# Name of a figure: its alternative text, and its caption.
FIGURES = {
    "rewards": (
        "Three panels against iteration: proxy reward, gold reward and KL to the initial policy, for three methods",
        "Left: the reward that is trained on. Middle: the reward that is meant. Right: how far each method moved from"
        " pi_0. If the middle falls while the left still rises, the proxy is being hacked. Thick lines: mean over"
        " seeds, smoothed; thin lines: single seeds.",
    ),
    "frontier": (
        "Proxy and gold reward against KL to the initial policy, one curve per method",
        "The same runs as a frontier: reward bought against distance from pi_0. A curve further up and to the left pays"
        " less KL for its reward. The marker is the end of the run.",
    ),
    "conflict": (
        "Chernoff information of the initial and the current policy against iteration, one curve per method",
        "The conflict that DAR is about, measured. Ask for KL(pi‖pi_0) <= e and KL(pi‖pi_t) <= e at once: below this"
        " radius e no policy does both (T6), and it grows as pi_t leaves pi_0. Mean over the images of a batch.",
    ),
    "step": (
        "Left: KL from the exact optimum before and after each iteration of DAR. Right: its objective, and the best",
        "The ten arms can be enumerated, so every iteration has an exact optimum pi* (Theorem 4.2). Left: distance of"
        " the policy from pi* before and after the iteration, and from the target that is left by the clip (T4). Right:"
        " the gap between the two curves is exactly beta KL(pi‖pi*). All images share the network, so a few gradient"
        " steps cover only a small part of the distance; the next iteration has a new optimum.",
    ),
    "weights": (
        "Effective sample share and share of samples at the clip, against iteration, for DAR",
        "Left: the effective sample size as a share of the batch, (sum w)^2 / (B sum w^2). Right: the share of samples"
        " at w_clip. A spike to 1 on the left is a batch in which one bad sample makes up almost the whole standard"
        " deviation: after the division all other advantages are almost equal, and so are the weights.",
    ),
}


def write_report(out: Path, content: dict[str, Any]) -> None:
    """Write the figures and `report.html` into `out` from the content of `results.json`."""
    comparison = content["digits"]
    drawn = {
        "rewards": figures.reward_figure(comparison),
        "frontier": figures.frontier_figure(comparison),
        "conflict": figures.conflict_figure(comparison),
        "step": figures.step_figure(comparison),
        "weights": figures.weight_figure(comparison),
    }
    paths = {name: plots.save_png(figure, out / f"{name}.png") for name, figure in drawn.items()}
    header, *rows = table_rows(comparison)
    body = [
        html.paragraph(INTRODUCTION),
        html.heading("The theory holds"),
        html.paragraph(HOW_TO_READ_THE_TABLE),
        html.table(
            ("", "claim", "bandits", "float64 error", "certified below", ""), _verify_rows(content["verify"]), 2
        ),
        html.heading("The same loss on real data"),
        html.paragraph(THE_BANDIT),
        html.table(header, rows),
        html.paragraph(_what_happened(comparison)),
        *(html.figure(paths[name], *FIGURES[name]) for name in drawn),
        html.paragraph(PROVENANCE),
    ]
    results.write_text(out / "report.html", html.page("DAR: the theory, and the same loss on real data", body))


def _verify_rows(verified: dict[str, Any]) -> list[list[str]]:
    return [
        [
            s["id"],
            s["claim"],
            str(s["cases"]),
            f"{float(s['worst']):.1e}",
            f"{float(s['bound']):.1e}",
            "PASS" if s["passed"] else "FAIL",
        ]
        for s in verified["statements"]
    ]


def table_rows(comparison: dict[str, Any]) -> list[list[str]]:
    """Header, then the start and the end of each method: mean, smallest and largest value over seeds."""
    keys = ("proxy", "gold", "kl_to_pi_0")
    start = [_spread([values[key] for values in comparison["start"].values()]) for key in keys]
    ends = [
        [name.upper(), *(_spread([run[key][-1] for run in comparison["runs"][name].values()]) for key in keys)]
        for name in figures.settings(comparison)
    ]
    return [["", "proxy reward", "gold reward", "KL to pi_0"], ["start", *start], *ends]


def _what_happened(comparison: dict[str, Any]) -> str:
    """Whether the gold reward fell while the proxy rose, in words with the numbers of this run."""
    said = []
    for name in figures.settings(comparison):
        gold = figures.curves(comparison, name, "gold").mean(axis=0)
        best = int(gold.argmax())
        said.append(f"{name.upper()} from {gold[0]:.3f} to {gold[-1]:.3f} (highest {gold[best]:.3f}, iteration {best})")
    return "Gold reward, mean over seeds: " + "; ".join(said) + "."


def _spread(values: list[float]) -> str:
    return f"{mean(values):.3f} [{min(values):.2f}, {max(values):.2f}]"
