"""The hacking panel: each metric against its definition; the KL against exact enumeration."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dar_ref.evaluation import hacking_panel, repetition, reward_gap

completions = st.lists(st.lists(st.integers(0, 3), max_size=12), min_size=1, max_size=8)


def repeated_by_hand(ids, n):
    """Share of the n-grams that occur at an earlier position too."""
    grams = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return sum(gram in grams[:i] for i, gram in enumerate(grams)) / len(grams) if grams else 0.0


@given(completions, st.integers(1, 5))
def test_repetition_counts_what_stood_earlier(token_ids, n):
    expected = [repeated_by_hand(ids, n) for ids in token_ids]
    assert repetition(token_ids, ngram=n).tolist() == pytest.approx(expected, abs=1e-15)
    renamed = [[7 - token for token in ids] for ids in token_ids]
    assert repetition(renamed, ngram=n).tolist() == repetition(token_ids, ngram=n).tolist()


def test_repetition_of_known_texts():
    assert repetition([[1] * 10], ngram=1).tolist() == [0.9]
    assert repetition([[1, 2] * 4], ngram=2).tolist() == pytest.approx([5 / 7])
    assert repetition([list(range(50)), [], [1, 1, 1]]).tolist() == [0.0, 0.0, 0.0]  # default: 4-grams
    assert repetition([np.array([5, 5, 5, 5, 5])]).tolist() == [0.5]


@given(completions, st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_the_panel_by_definition(token_ids, seed, ngram):
    rng, batch = np.random.default_rng(seed), len(token_ids)
    finished, proxy, gold = rng.random(batch) < 0.5, rng.normal(size=batch), rng.normal(size=batch)
    panel = hacking_panel(token_ids, finished, proxy, gold=gold, annotations=7, ngram=ngram)
    assert panel.completions == batch
    assert panel.length == pytest.approx(sum(map(len, token_ids)) / batch)
    assert panel.missing_eos == pytest.approx(sum(not flag for flag in finished) / batch)
    assert panel.repetition == pytest.approx(np.mean([repeated_by_hand(ids, ngram) for ids in token_ids]), abs=1e-15)
    assert (panel.proxy, panel.proxy_std) == pytest.approx((proxy.mean(), proxy.std()))
    assert (panel.gold, panel.gold_std) == pytest.approx((gold.mean(), gold.std()))
    assert (panel.kl, panel.kl_standard_error, panel.annotations) == (None, None, 7)
    order = rng.permutation(batch)
    shuffled = [token_ids[i] for i in order]
    permuted = hacking_panel(shuffled, finished[order], proxy[order], gold=gold[order], annotations=7, ngram=ngram)
    assert permuted[:8] == pytest.approx(panel[:8])


def test_the_kl_estimate_is_unbiased_for_kl_pi_pi_0_and_its_error_bar_too():
    """Every batch of 3 prompts x 2 samples over 3 arms, with its probability: both moments by enumeration."""
    log_pi, log_pi_0 = np.log([0.98, 0.01, 0.01]), np.log([0.3, 0.2, 0.5])
    mean = square = error = 0.0
    for batch in itertools.product(range(3), repeat=6):
        arms = list(batch)
        probability = np.exp(log_pi[arms].sum())
        panel = hacking_panel(
            [[arm] for arm in batch], np.ones(6, dtype=bool), np.zeros(6), annotations=0,
            logps=log_pi[arms], ref_logps=log_pi_0[arms], num_generations=2,
        )  # fmt: skip
        mean += probability * panel.kl
        square += probability * panel.kl**2
        error += probability * panel.kl_standard_error**2
    exact = (np.exp(log_pi) * (log_pi - log_pi_0)).sum()
    assert mean == pytest.approx(exact, rel=1e-12)
    assert abs(exact - (np.exp(log_pi_0) * (log_pi_0 - log_pi)).sum()) > 1.0  # not the other direction
    assert error == pytest.approx(square - mean**2, rel=1e-10)


def test_the_error_bar_is_over_prompts_not_completions():
    """Two prompts with equal completions each: eight samples contain two different numbers."""
    logps, ref_logps = np.full(8, -1.0), np.repeat([-2.0, -4.0], 4)
    arguments = ([[1]] * 8, [True] * 8, [0.0] * 8)
    options = {"annotations": 0, "logps": logps, "ref_logps": ref_logps}
    grouped = hacking_panel(*arguments, num_generations=4, **options)
    single = hacking_panel(*arguments, **options)
    assert (grouped.kl, grouped.kl_standard_error) == pytest.approx((2.0, 1.0))
    assert (single.kl, single.kl_standard_error) == pytest.approx((2.0, np.sqrt(8 / 7 / 8)))
    one_prompt = hacking_panel(*arguments, num_generations=8, **options)
    assert (one_prompt.kl, one_prompt.kl_standard_error) == (2.0, None)


def test_the_gap_knows_no_unit_and_no_zero():
    rng = np.random.default_rng(0)
    proxy, gold = rng.normal(size=(2, 20))
    tokens, done = [[1]] * 20, [True] * 20

    def panel(a, b):
        return hacking_panel(tokens, done, a, gold=b, annotations=0)

    start = panel(proxy, gold)
    assert reward_gap(start, start) == 0.0
    expected = 2.0 / proxy.std() - -1.0 / gold.std()
    assert reward_gap(panel(proxy + 2.0, gold - 1.0), start) == pytest.approx(expected)
    rescaled = panel(10 * (proxy + 2.0) + 3, 0.1 * (gold - 1.0) - 4), panel(10 * proxy + 3, 0.1 * gold - 4)
    assert reward_gap(*rescaled) == pytest.approx(expected)
    assert reward_gap(panel(5.0 * proxy + 2.0 - 4.0 * proxy.mean(), 3.0 * gold - 1.0 - 2.0 * gold.mean()), start) == (
        pytest.approx(expected)  # the scale is the std at the start, not the present one
    )
    assert reward_gap(panel(proxy + proxy.std(), gold + gold.std()), start) == pytest.approx(0.0, abs=1e-12)


def test_log_probs_may_round_above_zero():
    panel = hacking_panel([[1]], [True], [0.0], annotations=0, logps=[5e-4], ref_logps=[-1.0])
    assert panel.kl == pytest.approx(1.0005)


def panel_of_two(**changed):
    arguments = {"token_ids": [[1], [2]], "finished": [True, False], "proxy": [0.0, 1.0], "annotations": 0} | changed
    return hacking_panel(**arguments)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"token_ids": []}, ValueError, "token_ids is empty"),
        ({"token_ids": [[1], 2]}, TypeError, r"token_ids\[1\] is not a flat sequence .* \(shape \(\), dtype int64\)"),
        ({"token_ids": [[1.0], [2]]}, TypeError, r"token_ids\[0\] is not a flat sequence of ints .*dtype float64"),
        ({"token_ids": ["a", "b"]}, TypeError, r"token_ids\[0\] is not a flat sequence"),
        ({"token_ids": [[True], [2]]}, TypeError, "dtype bool"),
        ({"finished": [1, 0]}, TypeError, "finished has dtype int64, not bool; pass True or False"),
        ({"finished": [[True, False]]}, ValueError, r"finished has shape \(1, 2\)"),
        ({"finished": []}, ValueError, r"finished has shape \(0,\)"),
        ({"finished": [True]}, ValueError, "finished has 1 values for 2 completions; pass one per completion"),
        ({"proxy": [0.0]}, ValueError, "proxy has 1 values for 2 completions"),
        ({"proxy": [0.0, np.nan]}, ValueError, r"proxy\[1\] = nan"),
        ({"proxy": [0.0, None]}, TypeError, "proxy has dtype object"),
        ({"gold": [0.0, np.inf]}, ValueError, r"gold\[1\] = inf"),
        ({"gold": [0.0]}, ValueError, "gold has 1 values"),
        ({"logps": [-1.0, -1.0]}, ValueError, "only one of logps and ref_logps is given"),
        ({"ref_logps": [-1.0, -1.0]}, ValueError, "only one of logps and ref_logps is given"),
        ({"logps": [-1.0], "ref_logps": [-1.0]}, ValueError, "logps has 1 values for 2 completions"),
        ({"logps": [-1.0, 0.4], "ref_logps": [-1.0, -1.0]}, ValueError, r"logps\[1\] = 0.4: a log-probability is"),
        ({"logps": [-1.0, -1.0], "ref_logps": [0.5, 0.5]}, ValueError, r"ref_logps\[0\] = 0.5"),
        ({"logps": [-1.0, -1.0], "ref_logps": [-np.inf, -1]}, ValueError, r"ref_logps\[0\] = -inf"),
        ({"num_generations": 3}, ValueError, "num_generations = 3 does not divide the batch of 2"),
        ({"num_generations": 0}, ValueError, "num_generations = 0 is below 1"),
        ({"ngram": 0}, ValueError, "ngram = 0 is below 1"),
        ({"ngram": 2.0}, TypeError, "ngram = 2.0 is a float"),
        ({"annotations": -1}, ValueError, "annotations = -1 is below 0"),
        ({"annotations": None}, TypeError, "annotations = None is a NoneType"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(changed, error, message):
    with pytest.raises(error, match=message):
        panel_of_two(**changed)


def test_equal_rewards_have_no_spread_and_the_panel_counts_four_grams():
    panel = hacking_panel([[1, 1, 1, 1, 1]] * 3, [True] * 3, [0.1] * 3, gold=[0.1] * 3, annotations=0)
    assert (panel.proxy_std, panel.gold_std, panel.repetition) == (0.0, 0.0, 0.5)


def test_a_gap_needs_gold_and_a_scale():
    full, flat, bare = panel_of_two(gold=[0.0, 1.0]), panel_of_two(gold=[1.0, 1.0]), panel_of_two()
    for pair in ((full, bare), (bare, full), (full, full._replace(gold_std=None))):
        with pytest.raises(ValueError, match="gold was not measured for both policies"):
            reward_gap(*pair)
    for start in (flat, panel_of_two(proxy=[0.1, 0.1], gold=[0.0, 1.0])):
        with pytest.raises(ValueError, match="a standard deviation of 0 gives no scale"):
            reward_gap(full, start)
