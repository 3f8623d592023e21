"""alpaca_eval's minimal form: against an optimiser that knows no derivative but a sign, and against its parts.

The same function was compared with alpaca_eval 0.6.6 itself, `get_length_controlled_winrate(rows,
glm_name="length_controlled_minimal")` on the rows of `alpaca_eval_rows`, for 24 random sets of 20 to 600 rows, hard and
soft: with its solver at a tolerance of 1e-10 the largest difference was 8e-11, at its own tolerance of 1e-4 it was
1e-4, which is its distance from its own optimum. The package needs data of its hub to be imported, so that comparison
is not repeated here.
"""

import numpy as np
import pytest

from dar_ref.evaluation import alpaca_eval_rows, alpaca_eval_win_rate
from dar_ref.evaluation.alpaca_eval import STRENGTHS, _fit


def logistic(z):
    return 1.0 / (1.0 + np.exp(-z))


def root(derivative, reach=60.0):
    """Where an increasing function crosses 0, by bisection; 0 if its jump there does."""
    if derivative(-1e-300) <= 0.0 <= derivative(1e-300):
        return 0.0
    low, high = -reach, reach
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if derivative(middle) < 0.0 else (low, middle)
    return (low + high) / 2.0


def bisected(y, x, strength):
    """The minimiser of |c| + |s| + C loss: for each slope the best constant, and the slope whose derivative is 0."""

    def constant_of(slope):
        return root(lambda c: np.sign(c) + strength * (logistic(c + slope * x) - y).sum())

    def derivative(slope):
        return np.sign(slope) + strength * ((logistic(constant_of(slope) + slope * x) - y) @ x)

    slope = root(derivative)
    return np.array([constant_of(slope), slope])


def rows(seed, n=40, soft=False):
    rng = np.random.default_rng(seed)
    lengths, reference = rng.integers(5, 400, n), rng.integers(5, 300, n)
    p = logistic(rng.normal() + rng.normal() * np.tanh((lengths - reference) / 100.0))
    return (np.clip(p + rng.normal(0, 0.2, n), 0, 1) if soft else rng.choice([0.0, 0.5, 1.0], n)), lengths, reference


@pytest.mark.parametrize("seed", range(3))
def test_the_fit_is_the_optimum_that_bisection_finds(seed):
    y, lengths, reference = rows(seed, soft=seed % 2 == 1)
    d = lengths - reference
    x = np.tanh(d / np.sqrt(((d - d.mean()) ** 2).sum() / (len(d) - 1)))
    for strength in (STRENGTHS[3], STRENGTHS[5], STRENGTHS[-1]):
        np.testing.assert_allclose(_fit(y, x, strength), bisected(y, x, strength), atol=1e-8)


@pytest.mark.parametrize("seed", [1, 4])
def test_the_rate_by_bisection_and_folds_dealt_out_one_by_one(seed):
    """Everything again, with other means: sample std, deal the rows out backwards to five hands, the least loss."""
    y, lengths, reference = rows(seed, n=23, soft=True)
    d = (lengths - reference).astype(float)
    x = np.tanh(d / np.sqrt(((d - d.mean()) ** 2).sum() / (len(d) - 1)))
    hands = [list(range(len(y)))[::-1][k::5] for k in range(5)]
    losses = []
    for strength in STRENGTHS:
        loss = []
        for hand in hands:
            rest = [i for i in range(len(y)) if i not in hand]
            c, s = bisected(y[rest], x[rest], strength)
            p = logistic(c + s * x[hand])
            loss.append(-(y[hand] * np.log(p) + (1 - y[hand]) * np.log(1 - p)).mean())
        losses.append(np.mean(loss))
    expected = logistic(bisected(y, x, STRENGTHS[int(np.argmin(losses))])[0])
    assert alpaca_eval_win_rate(y, lengths, reference) == pytest.approx(expected, abs=1e-6)


def test_separable_and_equal_outcomes_have_a_rate():
    lengths, reference = np.arange(10) + 1, np.full(10, 5)
    assert 0.0 < alpaca_eval_win_rate((lengths > reference).astype(float), lengths, reference) < 1.0
    assert alpaca_eval_win_rate(np.ones(10), lengths, reference) > 0.99
    assert alpaca_eval_win_rate(np.full(10, 0.5), lengths, reference) == 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0] * 4, [1, 2, 3, 4], [2] * 4), "4 rows are too few for 5 folds"),
        (([1.0] * 6, [3] * 6, [2] * 6), "all lengths differ by 1"),
        (([2.0] * 6, [1, 2, 3, 4, 5, 6], [2] * 6), r"outcomes\[0\] = 2.0"),
    ],
)
def test_what_has_no_rate_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        alpaca_eval_win_rate(*arguments)


def test_rows_have_alpaca_evals_names_and_its_preference():
    row = {"prompt": "q", "completion": "ours", "reference_completion": "theirs", "outcome": 1.0}
    (export,) = alpaca_eval_rows([row], policy="dar", reference="pi_0", annotator="judge")
    assert export == {
        "index": 0,
        "instruction": "q",
        "output_1": "theirs",
        "generator_1": "pi_0",
        "output_2": "ours",
        "generator_2": "dar",
        "annotator": "judge",
        "preference": 2.0,
    }


def test_negative_lengths_and_outcomes_that_are_none_are_refused():
    with pytest.raises(ValueError, match="a length is at least 0"):
        alpaca_eval_win_rate([1, 0, 1, 1, 0], [-5, 6, 7, 8, 9], [5, 5, 1, 2, 3])
    row = {"prompt": "a", "reference_completion": "b", "completion": "c", "outcome": 2}
    with pytest.raises(ValueError, match=r"outcome\[0\] = 2.0: an outcome lies in"):
        alpaca_eval_rows([row], policy="dar", reference="pi_0", annotator="rm")
    assert alpaca_eval_rows([], policy="dar", reference="pi_0", annotator="rm") == []
