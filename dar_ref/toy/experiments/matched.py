"""Reward at equal KL to pi_0: the area between two methods' frontiers.

A method's frontier, for one seed, is the best reward that any of its runs reached, at any evaluation, with at most that
KL to pi_0: a staircase that begins at pi_0. Two methods are compared where both have points. On `tiny`, where KL and
reward are exact at pi_0 and at the end of a run, the staircase is made of these.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from dar_ref.toy.experiments.figures import Content, of_task


def mean_height(kl: ArrayLike, reward: ArrayLike, upto: float) -> float:
    """Mean over KL in [0, upto] of the best reward at no more than that KL.

    Args:
        kl: (n,) of the points, the first of pi_0; estimates below 0 count as 0.
        reward: (n,) of the points.
        upto: end of the range, nats, > 0.

    >>> mean_height([0.0, 1.0, 2.0], [0.0, 4.0, 1.0], upto=4.0)
    3.0
    """
    places, heights = np.maximum(np.asarray(kl, dtype=float), 0.0), np.asarray(reward, dtype=float)
    order = np.lexsort((-heights, places))
    places, heights = places[order], np.maximum.accumulate(heights[order])
    widths = np.diff(np.minimum(np.append(places, upto), upto))
    return float((widths * heights).sum() / upto)


def advantages(content: Content, task: str, key: str, method: str, others: Sequence[str]) -> dict[str, list[float]]:
    """For each other method: reward of `method` minus its reward at equal KL, mean over the KL that both reach; one
    number per seed.

    Args:
        content: of an experiment whose settings' `group` begins with the method's name.
        task: of the runs.
        key: "proxy" or "gold".
        method: compared with each of `others`.
        others: names of methods.
    """
    points = {name: _points(content, task, key, name) for name in (method, *others)}
    found: dict[str, list[float]] = {}
    for other in others:
        found[other] = []
        for ours, theirs in zip(points[method], points[other], strict=True):
            upto = min(max(ours[0]), max(theirs[0]))
            found[other].append(mean_height(*ours, upto) - mean_height(*theirs, upto))
    return found


def _points(content: Content, task: str, key: str, method: str) -> list[tuple[list[float], list[float]]]:
    """KL and reward of every evaluation of every run of a method, for each seed. On `tiny`, where those of pi_0 and of
    the end are exact, of these alone."""
    settings = [setting for setting in of_task(content, task) if setting["group"].partition(" ")[0] == method]
    seeds = zip(*(setting["runs"] for setting in settings), strict=True)
    rows = [[point for run in runs for point in _along(run, key)] for runs in seeds]
    return [([kl for kl, _ in one], [reward for _, reward in one]) for one in rows]


def _along(run: Content, key: str) -> list[tuple[float, float]]:
    if "exact" in run:
        of_pi_0 = run["exact"]["frontier"][key]["reward"][0]
        return [(0.0, of_pi_0), (run["final"]["kl"], run["final"][key])]
    return [(evaluation["kl"], evaluation[key]) for evaluation in run["evaluations"]]
