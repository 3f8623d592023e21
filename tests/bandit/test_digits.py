"""The digits bandit: which labels pi_0 and the proxy saw, what the two rewards are, and that the seed sets it all."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from dar_ref.bandit import TrainConfig, digits, digits_bandit, digits_config, log_probs, train


def parts(seed):
    return digits.digits_splits(1797, torch.Generator().manual_seed(seed))


def test_splits_are_disjoint_and_cover_every_image():
    splits = parts(0)
    assert [len(part) for part in splits] == [80, 80, 1000, 637]
    assert torch.equal(torch.cat(splits).sort().values, torch.arange(1797))


def test_contexts_are_the_images_of_their_split():
    images, labels = load_digits(return_X_y=True)
    bandit, splits = digits_bandit(3), parts(3)
    for contexts, rows in ((bandit.train, splits.train), (bandit.held_out, splits.held_out)):
        np.testing.assert_array_equal(contexts.features.numpy() * 16.0, images[rows])
        np.testing.assert_array_equal(contexts.gold.numpy().argmax(axis=1), labels[rows])
        np.testing.assert_array_equal(contexts.gold.numpy().sum(axis=1), 1.0)
        np.testing.assert_allclose(contexts.proxy.numpy().sum(axis=1), 1.0, rtol=1e-12)


@pytest.mark.parametrize("part", ["initial", "proxy", "train", "held_out"])
def test_each_label_reaches_only_its_own_model(monkeypatch, part):
    before = digits_bandit(0)
    images, labels = load_digits(return_X_y=True)
    changed = labels.copy()
    rows = getattr(parts(0), part).numpy()
    changed[rows] = (changed[rows] + 1) % 10
    monkeypatch.setattr(digits, "load_digits", lambda **_: (images, changed))
    after = digits_bandit(0)
    features = before.held_out.features
    assert torch.equal(before.pi_0(features), after.pi_0(features)) == (part != "initial")
    for name in ("train", "held_out"):
        old, new = getattr(before, name), getattr(after, name)
        assert torch.equal(old.proxy, new.proxy) == (part != "proxy")
        assert torch.equal(old.gold, new.gold) == (part != name)


def test_the_seed_decides_and_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    one = digits_bandit(0)
    train(one, TrainConfig(steps=2))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    same, other = digits_bandit(0), digits_bandit(1)
    features = one.held_out.features
    assert torch.equal(one.held_out.proxy, same.held_out.proxy)
    assert torch.equal(one.pi_0(features), same.pi_0(features))
    assert not torch.equal(one.pi_0(features), other.pi_0(features))


def test_pi_0_is_unsure_and_the_proxy_imperfect():
    bandit = digits_bandit(0)
    contexts = bandit.held_out
    pi_0 = log_probs(bandit.pi_0, contexts.features).detach().exp()
    label = contexts.gold.argmax(dim=1)
    assert 0.5 < (pi_0 * contexts.gold).sum(dim=1).mean() < 0.85
    assert 0.75 < (contexts.proxy.argmax(dim=1) == label).double().mean() < 0.95


@pytest.mark.parametrize("method", ["dar", "grpo", "dao", "rloo"])
def test_training_improves_the_proxy_on_images_it_has_not_seen(method):
    config = digits_config(method)
    assert config.learning_rate == digits.LEARNING_RATES[method]
    run = train(digits_bandit(7), TrainConfig(method=method, steps=60, learning_rate=config.learning_rate, seed=7))
    assert run.records[-1].proxy > run.start.proxy + 0.05
    assert run.records[-1].gold > run.start.gold + 0.05
    assert run.records[-1].kl_to_pi_0 > run.start.kl_to_pi_0 == 0.0


def test_bad_seed_and_unknown_method_are_refused():
    with pytest.raises(TypeError, match=r"seed = 0\.5 is a float"):
        digits_bandit(0.5)
    with pytest.raises(ValueError, match="method = 'ppo' is unknown; choose one of dar, grpo, dao, rloo"):
        digits_config("ppo")
