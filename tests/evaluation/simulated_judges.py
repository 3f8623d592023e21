"""Judges whose bias is known, a thousand times or more: `make simulated-judges`.

    python -m tests.evaluation.simulated_judges [--simulations 1000] [--out docs/results/simulated-judges]

    place    with probability BIAS the judge takes the answer shown first, otherwise it says which is better; the policy
             is better on a share q of prompts. Asked in one order, the rate is BIAS + (1 - BIAS) q. Asked in both, it
             is BIAS / 2 + (1 - BIAS) q: the favour is gone; what is left is noise, which pulls to one half.
    length   P(win) = sigmoid(c + s x), x = tanh of the scaled difference of lengths, and the policy writes more. The
             raw rate is the mean of P; at equal length it would be sigmoid(c).

Each simulation draws prompts and verdicts, and computes the rates with their bootstrap intervals over prompts. What is
expected is computed from BIAS, q, c and s alone.
"""

import argparse
import shlex
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.progress import track

from dar_ref import results
from dar_ref.evaluation import (
    Interval,
    Table,
    bootstrap,
    both_orders,
    length_controlled_win_rate,
    markdown,
)

PROMPTS, RESAMPLES = 200, 1_000
FITS = 200  # resamples where each is fitted
MORE = 4  # times as many simulations where nothing is fitted: a coverage of 1,000 is known to 1.5 % only
BIAS = 0.3
CONSTANT, SLOPE, LONGER = 0.3, 1.5, 0.8  # LONGER: mean difference of the lengths in standard deviations


class Case(NamedTuple):
    """A judge: the rate that one order, or no control, is predicted to show, and the one expected when corrected."""

    name: str
    predicted_raw: float
    expected: float


class Found(NamedTuple):
    """Of all simulations: mean rates, raw and corrected, what each is expected to be, and how often the interval of
    either held what is expected of the corrected one."""

    name: str
    simulations: int
    predicted_raw: float
    raw: float
    expected: float
    corrected: float
    coverage: float
    raw_coverage: float


def place_case(better):
    """The judge of places, on a policy that is better on this share of prompts."""
    name = f"place, better on {100 * better:g} %"
    return Case(name, BIAS + (1 - BIAS) * better, BIAS / 2 + (1 - BIAS) * better)


def place(rng, better):
    """Outcomes in one order, and in both; each order draws anew whether the judge looks at the place."""
    is_better = rng.random(PROMPTS) < better
    first = np.where(rng.random(PROMPTS) < BIAS, True, is_better).astype(float)
    second = np.where(rng.random(PROMPTS) < BIAS, False, is_better).astype(float)
    orders = both_orders(first, second)
    return interval(first), interval(orders.outcomes)


def length_case():
    """The judge of lengths; the mean of P over the differences is computed on a fine grid of normal quantiles."""
    from scipy.special import expit
    from scipy.stats import norm

    d = norm.ppf((np.arange(200_000) + 0.5) / 200_000) + LONGER
    return Case("length", float(expit(CONSTANT + SLOPE * np.tanh(d)).mean()), float(expit(CONSTANT)))


def length(rng):
    """Outcomes of the judge of lengths."""
    reference = rng.normal(500.0, 60.0, PROMPTS).clip(1.0)
    d = rng.normal(LONGER, 1.0, PROMPTS)
    lengths = reference + 80.0 * d
    p = 1.0 / (1.0 + np.exp(-(CONSTANT + SLOPE * np.tanh((lengths - reference) / np.std(lengths - reference)))))
    outcomes = (rng.random(PROMPTS) < p).astype(float)

    def rate(y, ours, theirs):
        return length_controlled_win_rate(y, ours, theirs).rate

    return interval(outcomes), bootstrap(outcomes, lengths, reference, statistic=rate, resamples=FITS)


def interval(outcomes):
    return bootstrap(outcomes, resamples=RESAMPLES)


def simulate(simulations, seed=0, progress=list):
    """All judges, this many times."""
    found = []
    cases = [
        (place_case(0.5), lambda rng: place(rng, 0.5), MORE),
        (place_case(0.7), lambda rng: place(rng, 0.7), MORE),
        (length_case(), length, 1),
    ]
    for number, (case, draw, more) in enumerate(cases):
        rng = np.random.default_rng([seed, number])
        pairs = [draw(rng) for _ in progress(range(more * simulations))]
        raw, corrected = zip(*pairs, strict=True)
        assert all(isinstance(one, Interval) for pair in pairs for one in pair)
        found.append(
            Found(
                case.name,
                len(pairs),
                case.predicted_raw,
                float(np.mean([one.estimate for one in raw])),
                case.expected,
                float(np.mean([one.estimate for one in corrected])),
                float(np.mean([one.low <= case.expected <= one.high for one in corrected])),
                float(np.mean([one.low <= case.expected <= one.high for one in raw])),
            )
        )
    return found


def table(found):
    """Judge, its raw rate and what was predicted, the corrected rate and what is expected, coverages; in Markdown."""
    header = (
        "judge",
        "simulations",
        "raw rate",
        "predicted",
        "corrected rate",
        "expected",
        "in its interval",
        "in the raw one",
    )
    rows = [
        (
            one.name,
            str(one.simulations),
            *(f"{100 * rate:.2f} %" for rate in (one.raw, one.predicted_raw, one.corrected, one.expected)),
            *(f"{100 * share:.1f} %" for share in (one.coverage, one.raw_coverage)),
        )
        for one in found
    ]
    return markdown(Table(header, tuple(rows), ()))


def main():
    """Simulate, and write the table. Returns 1 if a coverage is outside 93 to 97 %."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("docs/results/simulated-judges"), help="default: %(default)s")
    arguments = parser.parse_args()
    began = time.time()
    found = simulate(arguments.simulations, progress=lambda numbers: track(numbers, description="judges"))
    command = shlex.join(["python", "-m", "tests.evaluation.simulated_judges", *sys.argv[1:]])
    content = {"simulations": arguments.simulations, "prompts": PROMPTS, "judges": [one._asdict() for one in found]}
    results.write_json(arguments.out / "results.json", content)
    results.write_json(arguments.out / "run.json", results.run_info(command, began))
    results.write_text(arguments.out / "table.md", table(found))
    print(table(found))
    return 0 if all(0.93 <= one.coverage <= 0.97 for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
