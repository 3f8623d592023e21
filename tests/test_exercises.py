"""The checkers accept the right answer, refuse wrong ones with a hint that gives no value away, and survive junk."""

from functools import partial

import numpy as np
import pytest
from scipy.optimize import brentq

from dar_ref import exercises, theory
from dar_ref.toy.tasks import agreement

EVEN = np.log([0.5, 0.5])


# checker, right answer by another method, wrong answers
def spread_at_rest(alpha, beta):
    """Standard deviation of log(pi/pi_0) at the fixed point of two arms whose advantage has std 1 there."""

    def rest(size):
        log_pi = theory.fixed_point(np.array([size, -size]), EVEN, alpha, beta)
        return log_pi, 2 * size * np.sqrt(np.exp(log_pi).prod())  # std of the advantage under log_pi

    log_pi, _ = rest(brentq(lambda size: rest(size)[1] - 1.0, 0.1, 1.5 * alpha * beta))
    log_ratio = log_pi - EVEN
    return float(np.sqrt(np.exp(log_pi) @ log_ratio**2 - (np.exp(log_pi) @ log_ratio) ** 2))


CASES = {
    "smallest_dual_kl": (
        partial(exercises.smallest_dual_kl, log_pi_0=np.log([0.8, 0.2]), log_pi_t=np.log([0.2, 0.8]), alpha=0.5),
        np.log(1.25),  # C = 2 sqrt(0.8 * 0.2), by hand
        [0.0, 0.8, -0.2231436],
    ),
    "beta_for_odds": (
        partial(
            exercises.beta_for_odds,
            odds=9.0,
            advantage=np.array([1.0, 0.0]),
            log_pi_0=np.log([0.8, 0.2]),
            log_pi_t=np.log([0.2, 0.8]),
            alpha=0.75,
        ),
        1 / (np.log(9.0) - 0.5 * np.log(4.0)),  # the odds of pi_ref are 4^(0.75 - 0.25)
        [1 / np.log(9.0), 1 / (np.log(9.0) + 0.5 * np.log(4.0)), 0.9],
    ),
    "beta_for_clipped_share": (
        partial(exercises.beta_for_clipped_share, share=0.1, w_clip=20.0),
        1.2815515655446004 / np.log(20.0),  # the upper decile of N(0, 1), from a table
        [0.05, 1.2815515655446004, 1 / np.log(20.0)],
    ),
    "radius_where_the_balls_touch": (
        partial(
            exercises.radius_where_the_balls_touch, log_pi_0=np.log([0.7, 0.2, 0.1]), log_pi_t=np.log([0.1, 0.2, 0.7])
        ),
        -np.log(0.2 + 2 * 0.07**0.5),  # by symmetry at alpha = 1/2
        [0.3, 0.4, 0.0],
    ),
    "smallest_budget_of_pi_0": (
        partial(
            exercises.smallest_budget_of_pi_0,
            log_pi_0=EVEN,
            log_pi_t=np.log([0.1, 0.9]),
            eps_t=0.2 * np.log(2.0) + 0.8 * np.log(8 / 9),  # the ball of pi_t ends at (0.2, 0.8)
        ),
        0.2 * np.log(0.4) + 0.8 * np.log(1.6),
        [0.5 * np.log(0.25 / 0.09), 0.044, 0.5],
    ),
    "beta_to_pass": (partial(exercises.beta_to_pass, beta=0.3, num_generations=4), 0.225, [0.3, 0.4, -1.0, 0.0]),
    "share_where_noises_cross": (
        exercises.share_where_noises_cross,
        (1 - (1 - 4 / 6) ** 0.5) / 2,  # 12 u^2 - 8 u + 1 = 0 in u = q(1-q), by hand
        [0.25, 0.2, 0.5],
    ),
    "smallest_beta_with_a_fixed_point": (
        partial(exercises.smallest_beta_with_a_fixed_point, log_pi_0=EVEN, alpha=0.5),
        2 * 1.508879561538,  # 2 / Laplace limit
        [1.508879561538, 0.75, 3.1],
    ),
    "beta_where_both_matter": (
        partial(exercises.beta_where_both_matter, log_pi_0=np.log([0.1, 0.9]), log_pi_t=np.log([0.8, 0.2]), alpha=0.1),
        1 / (0.1 * np.log(8.0)),
        [0.05, 1 / np.log(8.0), -4.8],
    ),
    "bonus_where_padding_pays": (
        partial(exercises.bonus_where_padding_pays, answer_words=3, response_words=12),
        (1.0 - agreement(["yes"] * 3 + ["no"] * 9, ["yes"] * 3)) / 9,  # by the longest common subsequence
        [0.08, 1 / 12, 0.6, -1 / 15],
    ),
    "weight_at_twice_the_beta": (
        partial(exercises.weight_at_twice_the_beta, weight=0.25, log_reg=-0.8),
        (0.25 * np.exp(-0.8)) ** 0.5,  # w = w_reg w_adv, so the new weight is sqrt(w w_reg)
        [0.5, 0.125, 0.25, 0.0625],
    ),
    "accumulation_steps": (
        partial(exercises.accumulation_steps, samples=96, micro_batch=4, devices=3),
        8,
        [96, 32, 24, 7.9],
    ),
    "budget_of_a_beta": (
        partial(exercises.budget_of_a_beta, beta=50.0),
        float(theory.kl(*(theory.optimum(np.array([1.0, -1.0]), EVEN, EVEN, 0.0, b).log_pi for b in (50.0, 1e9)))),
        [0.01, 0.02, 0.0004],
    ),
    "alpha_that_keeps_a_share": (
        partial(
            exercises.alpha_that_keeps_a_share,
            log_pi_0=EVEN,
            log_pi_t=np.log([0.2, 0.8]),
            tokens=1,
            share=0.9,
        ),
        0.5,  # C(1) = 1 and C(1/2)^2 = (1/2)(1 + 2 sqrt(0.2 * 0.8)) = 0.9, by hand
        [0.1, 0.9, 1.0],
    ),
    "alpha_that_holds_a_spread": (
        partial(exercises.alpha_that_holds_a_spread, spread=spread_at_rest(alpha=0.5, beta=4.0), beta=4.0),
        0.5,
        [0.1, 2.0, 0.125],
    ),
}
EXACT = {"beta_to_pass", "accumulation_steps"}


@pytest.mark.parametrize("name", CASES)
def test_right_answer_is_accepted(name, capsys):
    checker, right, _ = CASES[name]
    assert checker(right) is True
    assert capsys.readouterr().out == "right\n"


@pytest.mark.parametrize("name", sorted(CASES.keys() - EXACT))
@pytest.mark.parametrize("scale", [0.994, 0.996, 1.004, 1.006])
def test_three_digits_are_enough_and_needed(name, scale):
    checker, right, _ = CASES[name]
    assert checker(float(f"{right:.3g}")) is True
    assert checker(right * scale) is (0.995 < scale < 1.005)


@pytest.mark.parametrize("name", CASES)
def test_wrong_answers_are_refused_with_a_side_and_a_hint(name, capsys):
    checker, right, wrong = CASES[name]
    for answer in wrong:
        assert checker(answer) is False
        said = capsys.readouterr().out
        assert said.startswith(f"wrong (too {'large' if answer > right else 'small'}): ")
        assert f"{right:.3g}" not in said


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("junk", [None, "0.3", True, np.array([1.0, 2.0]), 1j, float("nan")])
def test_junk_is_no_right_answer(name, junk, capsys):
    checker, _, _ = CASES[name]
    assert checker(junk) is False
    said = capsys.readouterr().out
    assert said
    assert ("place of None" in said) is (junk is None)


def test_the_beta_to_pass_gives_the_target_asked_for():
    log_pi_0, log_pi_t = np.log([0.2, 0.3, 0.5]), np.log([0.4, 0.4, 0.2])
    reward = np.array([1.0, 0.2, -0.5])
    sampled = theory.sampled_target(reward, log_pi_0, log_pi_t, 0.1, 0.225, 4)
    np.testing.assert_allclose(sampled, theory.optimum(reward, log_pi_0, log_pi_t, 0.1, 0.3).log_pi, rtol=1e-12)
