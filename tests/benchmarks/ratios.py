"""Speed as ratios, both sides timed in one run: `make benchmark`, or `python -m tests.benchmarks.ratios`.

Each line is a claim of the project with its limit. Both sides run in turn on one thread; the fastest of many rounds
counts. This is not a test, since a busy machine must not make CI fail. Exit status 1 if a ratio is above its limit.
"""

import argparse
import subprocess
import sys
import timeit
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import log_softmax

from dar_ref import results
from dar_ref.losses import dar_loss
from dar_ref.theory import chernoff, feasible, optimum


class Comparison(NamedTuple):
    """A claim: `ours` takes at most `limit` times as long as `yardstick`."""

    name: str
    ours: Callable[[], object]
    yardstick: Callable[[], object]
    limit: float
    rounds: int
    calls: int


def theory_optimum() -> Comparison:
    """`optimum` on 10^6 bandits of 4 arms, validation included, against one `log_softmax` over the same array."""
    rng = np.random.default_rng(0)
    log_pi_0, log_pi_t = (log_softmax(rng.normal(size=(10**6, 4)), axis=-1) for _ in range(2))
    advantage = rng.normal(size=(10**6, 4))
    return Comparison(
        "theory.optimum, 10^6 bandits of 4 arms / scipy log_softmax",
        lambda: optimum(advantage, log_pi_0, log_pi_t, 0.1, 0.05),
        lambda: log_softmax(advantage, axis=-1),
        limit=4.0,
        rounds=15,
        calls=1,
    )


def theory_region(name: str, shape: tuple[int, ...]) -> Comparison:
    """`chernoff` or `feasible`, validation included, against one `log_softmax` over an array of the same shape."""
    rng = np.random.default_rng(0)
    log_pi_0, log_pi_t = (log_softmax(rng.normal(size=shape), axis=-1) for _ in range(2))
    ours = {
        "chernoff": lambda: chernoff(log_pi_0, log_pi_t),
        "feasible": lambda: feasible(log_pi_0, log_pi_t, 0.3, 0.2),
    }
    return Comparison(
        f"theory.{name}, {'10^6 bandits of 4 arms' if len(shape) > 1 else 'one of 10^6 arms'} / scipy log_softmax",
        ours[name],
        lambda: log_softmax(log_pi_0, axis=-1),
        limit=5.0,
        rounds=15,
        calls=1,
    )


def losses_dar() -> Comparison:
    """`dar_loss` forward and backward on (4096,) log-probs against `-(w * logps).mean()`."""
    ref, old, adv, weight = (torch.randn(4096) for _ in range(4))
    logps = torch.randn(4096, requires_grad=True)
    return Comparison(
        "losses.dar_loss, (4096,), forward and backward / -(w * logps).mean()",
        lambda: dar_loss(logps, ref, old, adv).loss.backward(),
        lambda: (-(weight * logps).mean()).backward(),
        limit=3.0,
        rounds=200,
        calls=50,
    )


def import_time() -> Comparison:
    """`import dar_ref` in a new interpreter against `import numpy, scipy.special`."""

    def run(statement: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", statement], check=True)

    return Comparison(
        "import dar_ref / import numpy, scipy.special",
        run("import dar_ref, dar_ref.theory"),
        run("import numpy, scipy.special"),
        limit=1.3,
        rounds=15,
        calls=1,
    )


def ratio(comparison: Comparison) -> tuple[float, float, float]:
    """Seconds per call of ours and of the yardstick, and their ratio."""
    ours, yardstick = [], []
    for _ in range(comparison.rounds):
        ours.append(timeit.timeit(comparison.ours, number=comparison.calls))
        yardstick.append(timeit.timeit(comparison.yardstick, number=comparison.calls))
    best, best_yardstick = min(ours) / comparison.calls, min(yardstick) / comparison.calls
    return best, best_yardstick, best / best_yardstick


BUILDERS: tuple[Callable[[], Comparison], ...] = (
    theory_optimum,
    *(partial(theory_region, name, shape) for name in ("chernoff", "feasible") for shape in ((10**6, 4), (10**6,))),
    losses_dar,
    import_time,
)


def main() -> int:
    """Print the table of ratios, write it as JSON if asked to; return 1 if a ratio is above its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the ratios to FILE")
    file = parser.parse_args().json
    torch.set_num_threads(1)
    worst, rows = 0.0, {}
    print(f"{'ratio':>6} {'limit':>6} {'ours, ms':>10} {'yardstick':>10}")
    for build in BUILDERS:
        comparison = build()
        best, best_yardstick, value = ratio(comparison)
        worst = max(worst, value / comparison.limit)
        rows[comparison.name] = {"ratio": round(value, 2), "limit": comparison.limit}
        print(
            f"{value:6.2f} {comparison.limit:6.2f} {1e3 * best:10.4f} {1e3 * best_yardstick:10.4f}  {comparison.name}",
            flush=True,
        )
    if file:
        results.write_json(file, {"ratios": rows})
    return int(worst > 1.0)


if __name__ == "__main__":
    sys.exit(main())
