"""A pytest plugin: TRL's tests run on the trainer that PEER_TRAINER names, and what came of each goes to PEER_RESULTS.

passed    the test passes as it is
refused   this package raised an error of its own, with a reason, where TRL's trainer goes on
skipped   by the test itself: it needs a GPU or a package that is not here
failed    anything else
"""

import importlib
import json
import os
from pathlib import Path

import pytest
from trl import import_utils

import dar_ref

PAIRS = {  # the names that the tests use, and what stands in their place
    "grpo": ("trl:GRPOTrainer", "trl:GRPOConfig"),
    "dar": ("dar_ref.llm:DARTrainer", "dar_ref.llm:DARConfig"),
    "dao": ("dar_ref.llm:DAOTrainer", "dar_ref.llm:DAOConfig"),
}
OURS = Path(dar_ref.__file__).parent
outcomes: dict[str, dict[str, str]] = {}


def unknown_helper(name):
    """Tests of another version of TRL ask whether packages are there that the installed one does not ask for."""
    if name.startswith("is_"):
        return lambda: False
    raise AttributeError(name)


import_utils.__getattr__ = unknown_helper


def load(name):
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def pytest_collection_modifyitems(items):
    trainer, config = map(load, PAIRS[os.environ["PEER_TRAINER"]])
    for module in {item.module for item in items}:
        module.GRPOTrainer, module.GRPOConfig = trainer, config


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_makereport(call):
    raised_by = Path(str(call.excinfo.traceback[-1].path)) if call.excinfo else None
    outcome = yield
    report = outcome.get_result()
    if report.passed and call.when != "call":
        return
    found = {"outcome": report.outcome, "reason": ""}
    if report.skipped:
        found["reason"] = report.wasxfail if hasattr(report, "wasxfail") else str(call.excinfo.value)
    elif report.failed:
        found["reason"] = f"{type(call.excinfo.value).__name__}: {call.excinfo.value}".partition("\n")[0]
        if raised_by is not None and raised_by.is_relative_to(OURS):
            found["outcome"] = "refused"
    outcomes[report.nodeid.partition("::")[2]] = found


def pytest_sessionfinish():
    Path(os.environ["PEER_RESULTS"]).write_text(json.dumps(outcomes, indent=1), encoding="utf-8")
