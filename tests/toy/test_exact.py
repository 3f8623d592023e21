"""`tiny` by enumeration, against forward passes of single responses, hand-made policies and sums written out here."""

import functools
import itertools
import json
import math

import numpy as np
import pytest
import torch

from dar_ref.losses import sequence_logps
from dar_ref.theory import exact_advantage, kl, optimum
from dar_ref.toy.config import RunConfig
from dar_ref.toy.exact import study
from dar_ref.toy.exact.enumerate import (
    all_completions,
    exact_metrics,
    exact_observer,
    log_probs,
    response_logps,
    responses,
    rewards,
    tables,
)
from dar_ref.toy.exact.fit import fit, loss_weights
from dar_ref.toy.exact.frontier import frontier
from dar_ref.toy.exact.report import figures, table
from dar_ref.toy.policy import encode, encode_prompts, new_policy, per_token_logps
from dar_ref.toy.sampling import sample
from dar_ref.toy.tasks import TASKS, TINY
from dar_ref.toy.train import train


@pytest.fixture(scope="module")
def enumerated(start):
    return tables(start, start.prompts.validation[:3])


@pytest.fixture(scope="module")
def other():
    """An untrained policy with probabilities far from uniform."""
    policy = new_policy(TINY, 16, 1, 2, 3)
    with torch.no_grad():
        policy.model.embed_tokens.weight.mul_(30.0)
    return policy.requires_grad_(False)


def test_the_responses_are_all_of_them():
    words, finished = responses(TINY)
    expected = {(row, True) for n in range(5) for row in itertools.product("abcd", repeat=n)}
    expected |= {(row, False) for row in itertools.product("abcd", repeat=5)}
    found = [(tuple(row), ended) for row, ended in zip(words, finished, strict=True)]
    assert len(found) == len(set(found)) == 1365
    assert set(found) == expected


def test_a_task_with_too_many_responses_is_refused():
    with pytest.raises(ValueError, match=r"tldr has \d+ responses.*use 'tiny'"):
        responses(TASKS["tldr"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_probabilities_sum_to_one(other, dtype):
    prompt_ids = encode_prompts(TINY, [["a", "b", "c"], ["d", "d", "a"]])
    log_pi = log_probs(other.to(dtype), prompt_ids)
    other.to(torch.float32)
    assert log_pi.dtype == np.float64
    assert log_pi.shape == (2, 1365)
    np.testing.assert_allclose(np.exp(log_pi).sum(axis=1), 1.0, rtol=0, atol=1e-12)
    assert log_pi.max() - log_pi.min() > 5.0


def test_every_response_has_the_log_prob_of_its_own_forward(start, enumerated):
    prompts = start.prompts.validation[:3]
    completions = all_completions(TINY, prompts)
    expected = sequence_logps(per_token_logps(start.pi_0, completions), completions.mask).view(3, -1)
    np.testing.assert_allclose(enumerated.log_pi_0, expected.numpy(), rtol=0, atol=2e-5)


def test_single_responses_through_transformers(start, enumerated):
    words, finished = responses(TINY)
    prompt = start.prompts.validation[1]
    for number in (0, 3, 77, 340, 341, 1364):
        one = encode(TINY, [prompt], [words[number]], [finished[number]])
        ids = torch.cat([one.prompt_ids, one.ids[:, : one.mask.sum()]], dim=1)
        with torch.no_grad():
            logps = start.pi_0(ids).logits.log_softmax(dim=-1)[0]
        expected = sum(logps[place - 1, ids[0, place]].item() for place in range(3, ids.shape[1]))
        assert enumerated.log_pi_0[1, number] == pytest.approx(expected, abs=2e-5)


def test_samples_come_with_the_enumerated_frequencies(start, enumerated):
    drawn = sample(start.pi_0, enumerated.prompt_ids[:1], 4_000, 5, torch.Generator().manual_seed(0)).completions
    pi = np.exp(enumerated.log_pi_0[0])
    for value, expected in (
        (drawn.finished.double(), pi @ enumerated.finished),
        (drawn.mask.sum(dim=1).double(), pi @ enumerated.length),
        (start.gold(drawn).double(), pi @ enumerated.gold[0]),
        (start.proxy(drawn).double(), pi @ enumerated.proxy[0]),
    ):
        assert value.mean().item() == pytest.approx(expected, abs=5 * (value.std().item() / math.sqrt(4_000)))


def test_rewards_are_those_of_single_responses(start, enumerated):
    words, finished = responses(TINY)
    prompts = start.prompts.validation[:3]
    assert np.array_equal(rewards(start, prompts, "gold"), enumerated.gold)
    for row, number in ((0, 5), (2, 200), (1, 1000)):
        one = encode(TINY, [prompts[row]], [words[number]], [finished[number]])
        assert enumerated.proxy[row, number] == pytest.approx(start.proxy(one).item(), abs=1e-5)
        gold = TINY.gold(prompts[row], words[number], finished[number])
        assert enumerated.gold[row, number] == pytest.approx(gold, abs=1e-7)
        assert enumerated.length[number] == one.mask.sum()


def test_the_gradient_is_that_of_single_forwards(start, enumerated):
    policy = new_policy(TINY, 16, 1, 2, 5)
    weights = torch.linspace(0.0, 1.0, 1365, dtype=torch.float64)
    (response_logps(policy, enumerated.prompt_ids[:1])[0] * weights).sum().backward()
    found = [parameter.grad.clone() for parameter in policy.parameters()]
    policy.zero_grad()
    completions = all_completions(TINY, start.prompts.validation[:1])
    (sequence_logps(per_token_logps(policy, completions), completions.mask).double() * weights).sum().backward()
    for gradient, parameter in zip(found, policy.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-3, atol=1e-3)


def test_exact_metrics_are_the_sums_they_are_called(enumerated, other):
    config = RunConfig(alpha=0.3, beta=0.5, w_clip=2.0)
    log_pi_0, log_pi_t = enumerated.log_pi_0, log_probs(other, enumerated.prompt_ids)
    log_pi = np.log(0.5 * np.exp(log_pi_0) + 0.5 * np.exp(log_pi_t))
    found = exact_metrics(enumerated, log_pi, log_pi_t, config)
    expected = np.zeros(10)
    advantage = exact_advantage(enumerated.proxy, log_pi_t).advantage
    for x in range(3):
        pi, pi_0, pi_t, a = (np.exp(log_pi[x]), np.exp(log_pi_0[x]), np.exp(log_pi_t[x]), advantage[x])
        weight = (pi_0 / pi_t) ** 0.3 * np.exp(a / 0.5)
        best, target = pi_t * weight, pi_t * np.minimum(weight, 2.0)
        best, target = best / best.sum(), target / target.sum()
        to_0, to_t = pi @ np.log(pi / pi_0), pi @ np.log(pi / pi_t)
        best_0, best_t = best @ np.log(best / pi_0), best @ np.log(best / pi_t)
        expected += [
            pi @ enumerated.proxy[x],
            pi @ enumerated.gold[x],
            to_0,
            to_t,
            pi @ a - 0.5 * (0.3 * to_0 + 0.7 * to_t),
            best @ a - 0.5 * (0.3 * best_0 + 0.7 * best_t),
            best @ np.log(best / pi),
            target @ np.log(target / pi),
            pi[-1024:].sum(),
            sum(pi[i] * length for i, length in enumerate(enumerated.length)),
        ]
    np.testing.assert_allclose(list(found), expected / 3, rtol=1e-9)
    assert found.kl_optimum_to_pi != pytest.approx(found.kl_target_to_pi, rel=0.01)
    gold = exact_metrics(enumerated, log_pi, log_pi_t, RunConfig(alpha=0.3, beta=0.5, w_clip=2.0, reward="gold"))
    assert gold.objective != pytest.approx(found.objective, rel=0.01)


@pytest.mark.parametrize("minibatches", [1, 2])
def test_the_observer_measures_the_updates_of_the_run_it_watches(start, minibatches):
    options = {"batch_prompts": 8, "evaluate_every": 4, "learning_rate": 1e-2, "updates_per_rollout": minibatches}
    config, before_last = RunConfig(steps=6, **options), RunConfig(steps=6 - minibatches, **options)
    run = train(start, config, observer=exact_observer(start, config, start.prompts.train[:2]))
    rows = run.observations
    assert [row["step"] for row in rows] == [row["step"] for row in run.evaluations] == [0, 4, 6]
    prompt_ids = encode_prompts(TINY, start.prompts.train[:2])
    pi_t = log_probs(train(start, before_last).policy, prompt_ids)
    pi, pi_0 = log_probs(run.policy, prompt_ids), log_probs(start.pi_0, prompt_ids)
    assert rows[-1]["kl_to_pi_0"] == kl(pi, pi_0).mean() > 0.01
    assert rows[-1]["kl_to_pi_t"] == kl(pi, pi_t).mean() > 0.0
    assert rows[0]["kl_to_pi_0"] == rows[0]["kl_to_pi_t"] == 0.0
    alone = train(start, config)
    assert run[1:-1] == alone[1:-1]  # watching changes nothing
    assert alone.observations == []


def test_nothing_is_observed_after_a_run_diverges(start):
    config = RunConfig(steps=40, evaluate_every=10, batch_prompts=8, learning_rate=1e30, optimizer="sgd")
    rows = train(start, config, observer=exact_observer(start, config)).observations
    assert [row["step"] for row in rows] == [0]
    prompt_ids = encode_prompts(TINY, start.prompts.validation)  # those of `evaluate_on`
    expected = sum(
        (np.exp(log_probs(start.pi_0, prompt_ids)) * rewards(start, start.prompts.validation, "gold")).sum(1)
    )
    assert rows[0]["gold"] == pytest.approx(expected / len(prompt_ids))


def test_with_the_mean_of_the_batch_the_advantage_is_that_of_all_prompts_together(enumerated):
    """J of pi_0 itself is its mean advantage: 0 in sum over the prompts, and not on each."""
    config = RunConfig(baseline="batch", alpha=0.3, beta=2.0)
    found = exact_metrics(enumerated, enumerated.log_pi_0, enumerated.log_pi_0, config)
    pi_0, reward = np.exp(enumerated.log_pi_0), enumerated.proxy
    mean = (pi_0 * reward).sum(axis=1).mean()
    std = ((pi_0 * (reward - mean) ** 2).sum(axis=1).mean()) ** 0.5
    best = optimum((reward - mean) / std, enumerated.log_pi_0, enumerated.log_pi_0, 0.3, 2.0)
    assert found.objective == pytest.approx(0.0, abs=1e-12)
    assert found.objective_optimum == pytest.approx(best.value.mean(), rel=1e-12)
    assert (
        found.objective_optimum
        != exact_metrics(
            enumerated, enumerated.log_pi_0, enumerated.log_pi_0, RunConfig(alpha=0.3, beta=2.0)
        ).objective_optimum
    )


def test_the_frontier_begins_at_pi_0_and_rises(enumerated):
    found = frontier(enumerated, enumerated.proxy)
    expected = (np.exp(enumerated.log_pi_0) * enumerated.proxy).sum(axis=1).mean()
    assert (found["kl"][0], found["reward"][0]) == (0.0, pytest.approx(expected, rel=1e-12))
    assert (np.diff(found["kl"]) > 0.0).all()
    assert (np.diff(found["reward"]) > 0.0).all()


@pytest.mark.parametrize("w_clip", [1.5, math.inf])
def test_the_enumerated_loss_leads_to_the_target(enumerated, w_clip):
    """One iteration from an untrained policy, with another pi_0: KL(target‖pi) falls below 1e-3."""
    one = enumerated._replace(**{name: getattr(enumerated, name)[:1] for name in ("prompt_ids", "proxy", "log_pi_0")})
    pi_t = new_policy(TINY, 32, 2, 4, 0)
    log_pi_t = log_probs(pi_t, one.prompt_ids)
    advantage = exact_advantage(one.proxy, log_pi_t).advantage
    weight = np.minimum(np.exp(0.1 * (one.log_pi_0 - log_pi_t) + advantage / 2.0), w_clip)
    target = np.exp(log_pi_t) * weight
    target /= target.sum()
    weights = loss_weights(one, advantage, log_pi_t, 0.1, 2.0, w_clip)
    np.testing.assert_allclose(weights, np.exp(log_pi_t) * weight, rtol=1e-12)
    log_pi = log_probs(fit(pi_t, one, weights, 200), one.prompt_ids)
    before, after = ((target * (np.log(target) - x)).sum() for x in (log_pi_t, log_pi))
    assert after < 1e-3 < 0.05 < before
    loss, least = (-(weights * x).sum() for x in (log_pi, np.log(target)))
    assert loss - least == pytest.approx(weights.sum() * after, abs=1e-12)
    assert (weight == w_clip).any() == (w_clip < math.inf)


def test_the_experiment_in_small(start, monkeypatch):
    """A short study: the same content twice; it can be written as JSON, drawn and tabulated; its steps are counted."""
    small = {"MOVED": 1, "FIT_STEPS": 2, "ITERATION_STEPS": 1, "ALPHAS": {0.3: 2}, "SAMPLE_STEPS": 1, "REPEATS": 1}
    small |= {"OPTIMIZER_STEPS": 2, "PROMPTS": 2, "COUNTS": (10, 1000)}
    for name, value in small.items():
        monkeypatch.setattr(study, name, value)
    monkeypatch.setattr(study, "RunConfig", functools.partial(RunConfig, batch_prompts=8))
    done = []
    content = study.run(start, 1, done.append)
    assert done == list(range(1, study.total_steps() + 1))
    text = json.dumps(content, allow_nan=False)
    assert text == json.dumps(study.run(start, 1), allow_nan=False)
    other_seed = study.run(start, 2)
    assert other_seed["samples"]["kl"] != content["samples"]["kl"]
    assert other_seed["iterations"] == content["iterations"]
    for one in content["one_iteration"]:
        assert one["gap_residual"] < 1e-12
    assert [row["factor"] for row in content["optimizers"]] == [1.0, 1.0, 0.1, 0.1] * 2
    as_they_are, tenth = content["optimizers"][0], content["optimizers"][2]
    assert tenth["kl"][-1] == pytest.approx(as_they_are["kl"][-1], rel=1e-2)  # Adam
    as_they_are, tenth = content["optimizers"][4], content["optimizers"][6]
    assert tenth["kl"][1] == pytest.approx(as_they_are["kl"][1] / 100, rel=0.2)  # SGD: KL is quadratic in a small step
    rows = table(json.loads(text))
    assert {len(row) for row in rows} == {4}
    assert next(row[3] for row in rows if row[0] == "optimizers") == f"{content['optimizers'][0]['kl'][-1]:.4f}"
    drawn = figures(json.loads(text))
    assert {name: len(figure.axes) for name, figure in drawn.items()} == {"exact_iterations": 1, "exact_samples": 1}


def test_the_tabular_line_is_the_error_of_frequencies():
    """First order in 1/n, against 4000 draws of weighted frequencies on four responses."""
    pi_t, weight, n = np.array([0.1, 0.2, 0.3, 0.4]), np.array([3.0, 1.0, 0.5, 2.0]), 2000
    target = pi_t * weight / (pi_t @ weight)
    counts = np.random.default_rng(0).multinomial(n, pi_t, size=4000)
    fitted = counts * weight / (counts @ weight)[:, None]
    errors = (target * np.log(target / fitted)).sum(axis=1)
    expected = study.frequency_error(np.log(target)[None], pi_t[None], n)
    assert errors.mean() == pytest.approx(expected, abs=5 * errors.std() / math.sqrt(4000))


@pytest.mark.parametrize("options", [{"reward": "annotator"}, {"proxy_quality": 1.0}, {"reward": "gold"}])
def test_the_observer_takes_the_advantage_of_the_reward_that_trains(start, options):
    """A proxy of quality 1 is the gold reward in other units."""
    prompts, config = start.prompts.train[:2], RunConfig(beta=0.5, **options)
    observed = exact_observer(start, config, prompts)(start.pi_0, start.pi_0, config)
    completions = all_completions(TINY, prompts)
    reward = (start.annotator if options.get("reward") == "annotator" else start.gold)(completions)
    log_pi_0 = log_probs(start.pi_0, encode_prompts(TINY, prompts))
    advantage = exact_advantage(reward.double().view(2, -1).numpy(), log_pi_0).advantage
    best = optimum(advantage, log_pi_0, log_pi_0, config.alpha, config.beta)
    assert observed["kl_optimum_to_pi"] == pytest.approx(kl(best.log_pi, log_pi_0).mean(), rel=1e-5)


def test_with_budgets_the_observer_uses_the_alpha_and_beta_of_the_update(start):
    config = RunConfig(steps=2, batch_prompts=8, evaluate_every=1, eps_0=0.1, eps_t=0.05)
    seen = []
    train(start, config, observer=lambda _pi_t, _pi, used: seen.append((used.alpha, used.beta)) or {})
    run = train(start, config)
    assert seen[1:] == [(rollout["alpha"], rollout["beta"]) for rollout in run.rollouts]
    assert seen[1] != seen[2]
