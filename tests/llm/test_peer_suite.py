"""What `make peer-suite` makes of the outcomes of TRL's tests; the tests themselves are not part of this project."""

import pytest

from tests.peer_suite.__main__ import summary, table


def outcome(name, reason=""):
    return {"outcome": name, "reason": reason}


OUTCOMES = {
    "dar": {
        "a": outcome("passed"),
        "b": outcome("refused", "delta = 2 | has no meaning"),
        "c": outcome("failed", "OSError: no such model"),
        "d": outcome("failed", "AssertionError: <x>"),
        "e": outcome("skipped", "needs a GPU"),
    },
    "dao": {name: outcome("passed") for name in "abcde"},
    "grpo": {"c": outcome("failed", "OSError: no such model"), "d": outcome("passed")},
}


def test_only_a_test_that_passes_there_fails_here():
    found = summary(OUTCOMES)
    assert found["dar"]["counts"] == {"passed": 1, "refused": 1, "not run": 1, "failed": 1, "skipped": 1}
    assert found["dar"]["reasons"]["failed"] == {"AssertionError: <x>": ["d"]}
    assert found["dar"]["reasons"]["not run"] == {"OSError: no such model": ["c"]}
    assert found["dao"] == {"counts": {"passed": 5}, "reasons": {}}


@pytest.mark.parametrize(
    "line",
    [
        "| trainer | pass | refused, with a reason | fail | skip themselves | fail on TRL's trainer too |",
        "| `dar` | 1 | 1 | 1 | 1 | 1 |",
        "| `dao` | 5 | 0 | 0 | 0 | 0 |",
        "| 1 | 0 | delta = 2   has no meaning |",
        "| 1 | 0 | AssertionError: &lt;x> |",
    ],
)
def test_the_table_says_so(line):
    assert line in table(summary(OUTCOMES)).splitlines()
