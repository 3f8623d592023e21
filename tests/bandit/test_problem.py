"""The problem and its tables: what they refuse, how contexts are drawn, how a tabular policy starts."""

import numpy as np
import pytest
import torch

from dar_ref.bandit import Bandit, Contexts, TabularPolicy, figures, log_probs, random_tabular_bandit, tabular_bandit

TABLE = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]], dtype=torch.float64)


def test_a_draw_takes_different_rows_and_keeps_them_together():
    contexts = Contexts(torch.arange(3), TABLE, TABLE + 10)
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(50):
        drawn = contexts.draw(2, generator)
        rows = drawn.features.tolist()
        assert len(set(rows)) == len(drawn) == 2
        assert torch.equal(drawn.proxy, TABLE[rows])
        assert torch.equal(drawn.gold, TABLE[rows] + 10)
        seen.update(rows)
    assert seen == {0, 1, 2}
    assert sorted(contexts.draw(3, generator).features.tolist()) == [0, 1, 2]


@pytest.mark.parametrize(
    ("features", "proxy", "gold", "error", "message"),
    [
        (torch.arange(3), TABLE.float(), TABLE, TypeError, "proxy is a tensor of torch.float32"),
        (torch.arange(3), TABLE, TABLE.tolist(), TypeError, "gold is a list"),
        (torch.arange(3), TABLE[0], TABLE[0], ValueError, r"proxy has shape \(2,\)"),
        (torch.arange(0), TABLE[:0], TABLE[:0], ValueError, "non-empty"),
        (torch.arange(3), TABLE, TABLE[:, :1], ValueError, r"proxy has shape \(3, 2\), gold \(3, 1\)"),
        (torch.arange(2), TABLE, TABLE, ValueError, r"features is \(2,\), the rewards have 3 rows"),
        ([0, 1, 2], TABLE, TABLE, ValueError, "features is list"),
        (torch.arange(3), TABLE / 0, TABLE, ValueError, r"proxy\[0, 0\] = nan"),
        (torch.arange(3), TABLE, TABLE * float("inf"), ValueError, r"gold\[0, 0\] = nan"),
    ],
)
def test_contexts_refuse_what_does_not_fit(features, proxy, gold, error, message):
    with pytest.raises(error, match=message):
        Contexts(features, proxy, gold)


def test_a_bandit_refuses_a_policy_that_does_not_fit():
    contexts = Contexts(torch.arange(3), TABLE, TABLE)
    with pytest.raises(TypeError, match=r"float32.*pi_0\.double\(\)"):
        Bandit(contexts, contexts, TabularPolicy(torch.zeros(3, 2)))
    with pytest.raises(ValueError, match=r"logits of shape \(3, 4\) on the train contexts.*\(3, 2\)"):
        Bandit(contexts, contexts, TabularPolicy(torch.zeros(3, 4, dtype=torch.float64)))


def test_a_tabular_policy_starts_from_the_given_policy():
    log_pi_0 = np.log([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]])
    bandit = tabular_bandit([[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]], log_pi_0=log_pi_0)
    start = log_probs(bandit.pi_0, bandit.train.features).detach().numpy()
    np.testing.assert_allclose(start, log_pi_0, rtol=1e-15)
    assert torch.equal(bandit.train.gold, bandit.train.proxy)
    rows = torch.tensor([1, 0, 1])
    assert torch.equal(bandit.pi_0(rows), bandit.pi_0.logits[rows])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"proxy": [[0, 1]]}, TypeError, "proxy has dtype int"),
        ({"proxy": [[0.0, None]]}, TypeError, "proxy has dtype object"),
        ({"proxy": [[0.0, np.nan]]}, ValueError, r"proxy\[0, 1\] = nan"),
        ({"proxy": [0.0, 1.0]}, ValueError, r"proxy has shape \(2,\)"),
        ({"proxy": [[0.0, 1.0]], "gold": [[0.0]]}, ValueError, r"gold \(1, 1\)"),
        ({"proxy": [[0.0, 1.0]], "log_pi_0": [[0.5, 0.5]]}, ValueError, "holds probabilities"),
        ({"proxy": [[0.0, 1.0]], "log_pi_0": [[0.0, -np.inf]]}, ValueError, "smallest entry -inf"),
        ({"proxy": [[0.0, 1.0]], "log_pi_0": np.log([0.5, 0.5])}, ValueError, r"log_pi_0 of shape \(2,\)"),
    ],
)
def test_tabular_bandit_refuses_bad_tables(arguments, error, message):
    with pytest.raises(error, match=message):
        tabular_bandit(**arguments)


def test_random_tabular_bandit_is_its_seed():
    one, same, other = (random_tabular_bandit(4, 3, seed) for seed in (0, 0, 1))
    assert torch.equal(one.train.proxy, same.train.proxy)
    assert torch.equal(one.pi_0.logits, same.pi_0.logits)
    assert not torch.equal(one.train.proxy, other.train.proxy)
    exact = random_tabular_bandit(4, 3, 0, proxy_noise=0.0)
    assert torch.equal(exact.train.proxy, exact.train.gold)
    large = random_tabular_bandit(2000, 5, 2, proxy_noise=0.5)
    error = large.train.proxy - large.train.gold
    assert error.std().item() == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(2 * 10_000))  # five standard errors


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 3, 0), ValueError, "num_contexts = 0 is below 1"),
        ((3, 2.0, 0), TypeError, "num_arms = 2.0 is a float"),
        ((3, 2, -1), ValueError, "seed = -1 is below 0"),
        ((3, 2, True), TypeError, "seed = True is a bool"),
        ((3, 2, 0, -1.0), ValueError, "proxy_noise = -1.0"),
    ],
)
def test_random_tabular_bandit_refuses_bad_options(arguments, error, message):
    with pytest.raises(error, match=message):
        random_tabular_bandit(*arguments)


def test_a_seed_that_no_generator_takes_is_refused():
    with pytest.raises(ValueError, match="seed = 18446744073709551616 is above"):
        random_tabular_bandit(1, 1, 2**64)


def test_figures_refuse_a_setting_without_a_colour():
    with pytest.raises(ValueError, match="setting = 'my run' is unknown; choose one of pi_0"):
        figures.settings({"runs": {"my run": {}}})
