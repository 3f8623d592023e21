"""The bandit in one file against enumeration, and against the theory and the losses of the package."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dar_ref import theory
from dar_ref.losses import dar_weights, group_advantages, normalize_advantages
from dar_ref.minimal import bandit

LOG_PROBS = st.floats(-300.0, 0.0)


def tables(seed, *shape):
    """A reward and two policies, drawn at random."""
    random = torch.Generator().manual_seed(seed)
    reward, first, second = (torch.randn(shape, generator=random, dtype=torch.float64) for _ in range(3))
    return reward, first.log_softmax(dim=1), second.log_softmax(dim=1)


@pytest.mark.parametrize("seed", range(5))
def test_the_optimum_is_that_of_the_theory(seed):
    reward, log_pi_0, log_pi_t = tables(seed, 6, 5)
    pi_t = log_pi_t.exp()
    exact = torch.stack([reward[n] - sum(pi_t[n, a] * reward[n, a] for a in range(5)) for n in range(6)])
    variance = sum(pi_t[n, a] * exact[n, a] ** 2 for n in range(6) for a in range(5)) / 6
    arrays = ((exact / variance.sqrt()).numpy(), log_pi_0.numpy(), log_pi_t.numpy())
    best = theory.optimum(*arrays, bandit.ALPHA, bandit.BETA).log_pi
    found = bandit.optimum(log_pi_0, log_pi_t, reward)
    assert found.numpy() == pytest.approx(best, abs=1e-12)
    assert bandit.kl(found, log_pi_0) == pytest.approx(theory.kl(best, log_pi_0.numpy()).mean(), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_fit_to_all_answers_is_the_optimum(seed):
    """Each answer once in place of samples, times its probability under pi_t: no noise, so the fit must reach pi*."""
    reward, log_pi_0, log_pi_t = tables(seed, 16, 8)
    every_answer = torch.arange(8).expand(16, 8)
    exact = reward - bandit.expected(log_pi_t, reward)[:, None]
    exact = exact / bandit.expected(log_pi_t, exact**2).mean().sqrt()
    weights = bandit.weight(log_pi_0, log_pi_t, exact, alpha=bandit.ALPHA, beta=bandit.BETA, w_clip=math.inf)
    best = bandit.optimum(log_pi_0, log_pi_t, reward)
    assert bandit.kl(best, log_pi_t) > 0.2
    assert bandit.kl(best, bandit.fit(log_pi_t, every_answer, log_pi_t.exp() * weights)) < 3e-4


def test_the_fit_to_samples_is_their_weighted_frequency():
    reward, log_pi_0, log_pi_t = tables(1, 16, 8)
    torch.manual_seed(0)
    actions = bandit.sample(log_pi_t, 2000)
    weights = bandit.weight(
        log_pi_0.gather(1, actions),
        log_pi_t.gather(1, actions),
        bandit.advantage(reward.gather(1, actions)),
        alpha=bandit.ALPHA,
        beta=bandit.BETA,
        w_clip=bandit.W_CLIP,
    )
    totals = torch.zeros(16, 8, dtype=torch.float64).scatter_add(1, actions, weights)
    frequency = (totals / totals.sum(dim=1, keepdim=True)).log()
    assert bandit.kl(frequency, log_pi_t) > 0.2
    assert bandit.kl(frequency, bandit.fit(log_pi_t, actions, weights)) < 1e-3


def test_samples_come_from_the_policy():
    _, log_pi, _ = tables(2, 3, 4)
    torch.manual_seed(0)
    drawn = bandit.sample(log_pi, 40_000)
    for n in range(3):
        probability = log_pi[n].exp()
        error = (probability * (1 - probability) / 40_000).sqrt()
        assert ((drawn[n].bincount(minlength=4) / 40_000 - probability).abs() < 5 * error).all()


@given(st.integers(2, 4), st.data())
def test_advantages_are_those_of_the_losses(num_generations, data):
    count = num_generations * data.draw(st.integers(1, 6))
    eighths = data.draw(st.lists(st.integers(-800, 800), min_size=count, max_size=count))
    rewards = torch.tensor(eighths, dtype=torch.float64) / 8
    expected = normalize_advantages(group_advantages(rewards, num_generations))
    found = bandit.advantage(rewards.view(-1, num_generations)).flatten()
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-9, abs=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, -777.7])
def test_equal_rewards_have_no_advantage(value):
    assert bandit.advantage(torch.full((5, 3), value, dtype=torch.float64)).abs().max() < 1e-4


@given(
    st.lists(st.tuples(LOG_PROBS, LOG_PROBS, st.floats(-40.0, 40.0)), min_size=1, max_size=8),
    st.sampled_from([0.0, 1e-30, 1.0]) | st.floats(0.001, 1.0),
    st.floats(0.01, 10.0),
    st.floats(0.01, 100.0),
)
def test_weights_are_those_of_the_losses(rows, alpha, beta, w_clip):
    ref, old, advantages = torch.tensor(rows, dtype=torch.float64).unbind(dim=1)
    options = {"alpha": alpha, "beta": beta, "w_clip": w_clip}
    expected = dar_weights(ref, old, advantages, **options).weight
    assert bandit.weight(ref, old, advantages, **options).tolist() == pytest.approx(expected.tolist(), rel=1e-10)


def printed(capsys):
    """What `main` prints: update, E[reward], KL(pi‖pi_0), KL(pi*‖pi) before and after the fit."""
    bandit.main()
    return [[float(x) for x in line.split()] for line in capsys.readouterr().out.splitlines()[1:]]


def test_each_update_comes_close_to_its_optimum(capsys):
    rows = printed(capsys)
    assert [row[0] for row in rows] == list(range(1, bandit.UPDATES + 1))
    assert all(after < before / 5 for *_, before, after in rows)
    rewards = [row[1] for row in rows]
    assert rewards == sorted(rewards)


def test_a_fit_to_four_answers_ends_farther_away(capsys, monkeypatch):
    monkeypatch.setattr(bandit, "NUM_GENERATIONS", 4)
    assert all(after > before for *_, before, after in printed(capsys))


def test_at_the_beta_of_the_paper_the_clip_keeps_the_fit_away(capsys, monkeypatch):
    monkeypatch.setattr(bandit, "BETA", 0.05)
    assert all(after > before / 5 for *_, before, after in printed(capsys)[:2])
