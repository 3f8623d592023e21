"""The start: transformers gives the same rewards, labels have the stated probabilities, and stages are made once."""

import itertools
import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from dar_ref.toy import start as start_module
from dar_ref.toy.cache import HASHES
from dar_ref.toy.policy import completion_states, decode
from dar_ref.toy.reward_model import new_reward_model
from dar_ref.toy.start import Comparisons, load_start, pair_indices, score
from dar_ref.toy.tasks import TINY
from tests.small_start import SMALL
from tests.toy.reference import mixed_completions, perturbed, transformers_logps, whole_ids


def transformers_scores(reward_model, completions):
    """Rewards by transformers' own classifier, which looks for the last token that is not its padding."""
    ids, longest = whole_ids(completions), completions.ids.shape[1]
    ids[:, -longest:][~completions.mask] = reward_model.config.pad_token_id
    return reward_model(input_ids=ids).logits[:, 0]


def test_rewards_are_what_transformers_reads_at_the_last_token(start):
    reward_model = perturbed(start.reward_model, 0.2).eval()
    for completions in (mixed_completions(), start.comparisons.completions):
        expected = transformers_scores(reward_model, completions)
        torch.testing.assert_close(score(reward_model, completions), expected.detach(), rtol=1e-5, atol=1e-5)
        assert expected.std() > 0.1
        torch.testing.assert_close(
            start.proxy(completions), transformers_scores(start.reward_model, completions), rtol=1e-5, atol=1e-5
        )


def test_a_fresh_reward_model_thinks_as_pi_0_and_scores_nothing(start):
    fresh, completions = new_reward_model(SMALL, start.pi_0), mixed_completions()
    assert len(fresh.model.layers) == SMALL.num_layers + SMALL.reward_layers
    with torch.no_grad():
        found, expected = (completion_states(m, completions) for m in (fresh.model, start.pi_0.model))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert score(fresh, completions).tolist() == [0.0] * 12
    assert start.proxy(completions).std() > 0.01
    trained = start.reward_model.model.layers[-1].self_attn.o_proj.weight
    assert trained.norm() > 0.0  # the added layer was trained


def test_pairs_have_the_preferred_completion_first():
    completions = mixed_completions()  # K = 4, M = 6
    preferred = torch.rand(3, 6, generator=torch.Generator().manual_seed(0)) < 0.5
    comparisons = Comparisons(completions, preferred)
    assert comparisons.labels == 18
    assert pair_indices(4).tolist() == [list(pair) for pair in itertools.combinations(range(4), 2)]
    numbers = torch.tensor([17, 0, 5, 6, 6, 11, 3])
    found = comparisons.pairs(numbers)
    assert found.num_generations == 2
    for place, number in enumerate(numbers.tolist()):
        row, column = divmod(number, 6)
        first, second = list(itertools.combinations(range(4), 2))[column]
        order = (first, second) if preferred[row, column] else (second, first)
        assert torch.equal(found.prompt_ids[place], completions.prompt_ids[row])
        for one, other in zip((2 * place, 2 * place + 1), order, strict=True):
            for name in ("ids", "mask", "finished"):
                assert torch.equal(getattr(found, name)[one], getattr(completions, name)[4 * row + other])


def utilities(start):
    """Utility of every completion of the comparisons to the annotators, (N, K)."""
    completions = start.comparisons.completions
    prompts = [prompt for prompt in start.prompts_of(completions) for _ in range(SMALL.group_size)]
    rows = zip(prompts, decode(TINY, completions), completions.finished.tolist(), strict=True)
    return np.array([TINY.annotator(*row) for row in rows]).reshape(-1, SMALL.group_size)


def margins(start):
    seen = utilities(start)
    return np.array([[row[i] - row[j] for i, j in itertools.combinations(range(SMALL.group_size), 2)] for row in seen])


def test_labels_have_the_chance_of_the_utilities_difference(start):
    margin, preferred = margins(start), start.comparisons.preferred.numpy()
    assert preferred.shape == margin.shape == (SMALL.train_prompts * SMALL.groups, 6)
    chance = 1.0 / (1.0 + np.exp(-margin / SMALL.label_temperature))
    for weight in (np.ones_like(margin), margin, np.sign(margin) * (np.abs(margin) < 0.15)):
        excess = (weight * (preferred - chance)).sum()
        assert abs(excess) < 4.0 * math.sqrt((weight**2 * chance * (1.0 - chance)).sum())


def test_without_temperature_the_better_one_is_always_preferred(tmp_path):
    config = replace(SMALL, label_temperature=1e-9, reward_steps=1)
    sharp = load_start(config, tmp_path)
    margin, preferred = margins(sharp), sharp.comparisons.preferred.numpy()
    clear = np.abs(margin) > 1e-6
    assert clear.sum() > 100
    assert (preferred[clear] == (margin[clear] > 0)).all()


def test_metrics_of_the_proxy_by_hand(start, folder):
    content = json.loads(next(folder.glob("preferences/*/comparisons.json")).read_text())["validation"]
    assert len(content) == SMALL.validation_prompts * SMALL.groups
    assert [tuple(row["prompt"]) for row in content[:: SMALL.groups]] == [tuple(p) for p in start.prompts.validation]
    right = {"proxy": [], "gold": []}
    rewards = {"proxy": [], "gold": []}
    for row in content:
        words, finished = zip(*((c["words"], c["finished"]) for c in row["completions"]), strict=True)
        completions = start_module.encode(TINY, [row["prompt"]], words, finished)
        found = {
            "proxy": transformers_scores(start.reward_model, completions).tolist(),
            "gold": [TINY.gold(row["prompt"], w, f) for w, f in zip(words, finished, strict=True)],
        }
        for name, values in found.items():
            rewards[name] += values
            for (i, j), first in zip(itertools.combinations(range(4), 2), row["preferred"], strict=True):
                better, worse = (i, j) if first else (j, i)
                if row["completions"][i] != row["completions"][j] and values[i] != values[j]:
                    right[name].append(values[better] > values[worse])
    pairs = 6 * len(content)
    assert 0.7 * pairs < len(right["proxy"]) < pairs  # some response is there twice
    for name, agree in right.items():
        assert start.metrics[f"{name}_accuracy"] == pytest.approx(np.mean(agree))
        assert start.metrics[f"{name}_ties"] == pytest.approx(1.0 - len(agree) / pairs)
    assert start.metrics["correlation"] == pytest.approx(np.corrcoef(rewards["proxy"], rewards["gold"])[0, 1], rel=1e-4)
    assert np.mean(right["proxy"]) > 0.55  # it has learned something


def test_a_tie_is_neither_right_nor_wrong_whatever_the_reward():
    """By hand: right, wrong, a tie in the reward, and one response twice that rounding tells apart."""
    margin = torch.tensor([[1.0, -1.0, 0.0, -1e-7], [2.0, 3.0, 0.0, 0.0]])
    same = torch.tensor([[False, False, False, True], [False, False, False, True]])
    assert start_module.agreement("proxy", margin, same) == {"proxy_accuracy": 0.75, "proxy_ties": 0.5}
    assert start_module.agreement("gold", 0 * margin, same) == {"gold_accuracy": 0.5, "gold_ties": 1.0}


def test_pi_0_has_learned_the_demonstrations(start):
    prompts = start.prompts.test
    ideal = start_module.encode(TINY, prompts, [TINY.answer(prompt) for prompt in prompts], [True] * len(prompts))
    assert transformers_logps(start.pi_0, ideal).mean() > -6.0  # an untrained policy has 4 log 5 = 6.4
    assert start.gold(ideal).tolist() == [1.0] * len(prompts)


def test_everything_is_made_once_and_the_folders_are_ordinary(start, folder, monkeypatch):
    for name in ("_make_sft", "_make_comparisons", "_make_reward"):
        monkeypatch.setattr(start_module, name, pytest.fail)
    again = load_start(SMALL, folder)
    for model, other in ((start.pi_0, again.pi_0), (start.reward_model, again.reward_model)):
        weights = other.state_dict()
        assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(again.comparisons.preferred, start.comparisons.preferred)
    place = next(folder.glob("reward/*/reward_model"))
    ordinary, tokens = AutoModelForSequenceClassification.from_pretrained(place), AutoTokenizer.from_pretrained(place)
    batch = tokens(["a b c c b a <eos>", "a b c c <eos>"], padding=True, return_tensors="pt")
    assert batch["input_ids"][1].tolist() == [1, 2, 3, 3, 0, 5, 5]
    written = start_module.encode(TINY, [["a", "b", "c"]], [["c", "b", "a"], ["c"]], [True, True])
    torch.testing.assert_close(ordinary(**batch).logits[:, 0], start.proxy(written), rtol=1e-5, atol=1e-5)


def bytes_of(folder):
    files = [*folder.glob("*/*/*/model.safetensors"), *folder.glob("*/*/*.json")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name != HASHES}


@pytest.mark.usefixtures("start")
def test_the_same_seed_makes_the_same_bytes_and_what_is_half_made_is_not_read(folder, tmp_path):
    made = bytes_of(folder)
    assert len(made) == 4
    for name in made:  # a killed process leaves such a folder
        stage, key, *rest = name.split("/")
        half = tmp_path / stage / f".{key}.left" / "/".join(rest)
        half.parent.mkdir(parents=True, exist_ok=True)
        half.write_bytes(b"{")
    load_start(SMALL, tmp_path)
    for place in tmp_path.glob("*/.*"):
        shutil.rmtree(place)
    assert bytes_of(tmp_path) == made
    load_start(replace(SMALL, seed=1), tmp_path)
    assert len(bytes_of(tmp_path)) == 8


@pytest.mark.usefixtures("start")
def test_a_stage_that_fails_leaves_no_folder_and_is_begun_again(folder, tmp_path, monkeypatch):
    def fail(*arguments):
        place = arguments[-1]
        (place / "metrics.json").write_text("{}")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(start_module, "_make_reward", fail)
        with pytest.raises(KeyboardInterrupt):
            load_start(SMALL, tmp_path)
    assert list((tmp_path / "reward").iterdir()) == []
    monkeypatch.setattr(start_module, "_make_sft", pytest.fail)  # it is there
    load_start(SMALL, tmp_path)
    assert bytes_of(tmp_path) == bytes_of(folder)
