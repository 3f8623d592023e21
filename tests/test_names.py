"""One word, one thing: names that are defined once, and words that gave way to others."""

import ast
import re
from pathlib import Path

import pytest

import dar_ref

ROOT = Path(dar_ref.__file__).parent
SOURCES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in ROOT.rglob("*.py")}
ONCE = ("Rollout", "Tables", "Samples", "follow", "exact_advantage", "crossing", "make_optimizer")
GONE = {  # in these folders: the word that is used instead
    "clip_eps": (("theory", "losses", "bandit", "toy"), "epsilon"),
    "batch_size": (("bandit", "toy"), "batch_prompts"),
    "inner_epochs": (("toy",), "epochs_per_rollout"),
    "kl_optimum": (("bandit", "toy"), "kl_optimum_to_pi"),
    "figures.json": (("toy",), "metrics.json"),
    "result.json": (("bandit", "toy", "demo"), "results.json"),
    "course": (("theory", "losses", "bandit", "toy", "plots", "demo"), "path, run or curve"),
    "border": (("theory", "plots"), "boundary"),
}


def defined(name):
    """Files of the package with a class or function of that name at the top level; `verify.arb` has its own numbers."""
    return [
        file
        for file, text in SOURCES.items()
        if not file.startswith(("verify/arb/", "minimal/"))
        and any(getattr(node, "name", None) == name for node in ast.parse(text).body)
    ]


@pytest.mark.parametrize("name", ONCE)
def test_a_name_stands_for_one_thing(name):
    assert len(defined(name)) == 1, defined(name)


@pytest.mark.parametrize("word", GONE)
def test_a_word_that_gave_way_does_not_come_back(word):
    folders, instead = GONE[word]
    found = [f for f, text in SOURCES.items() if f.startswith(folders) and re.search(rf"\b{re.escape(word)}\b", text)]
    assert not found, f"{word} in {found}: write {instead}"
