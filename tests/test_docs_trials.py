"""The tables of what was tried, engines and the wheel, are what the code makes of the committed result files."""

import json

from tests import wheel_drill
from tests.llm.engines import measure


def content(folder, name):
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def test_the_table_of_engines():
    found, run = (content(measure.RESULTS, name) for name in ("results", "run"))
    assert (measure.RESULTS / "table.md").read_text(encoding="utf-8") == measure.table(found, run["seconds_of"])
    assert found["engines"].keys() == measure.ENGINES.keys()
    assert {name: row["launch"] for name, row in found["engines"].items()} == {
        name: engine.shown() for name, engine in measure.ENGINES.items()
    }


def test_the_table_of_the_wheel():
    found = content(wheel_drill.RESULTS, "results")
    assert (wheel_drill.RESULTS / "table.md").read_text(encoding="utf-8") == wheel_drill.table(found)
    steps = [*wheel_drill.ALONE, *wheel_drill.WITHOUT_LLM, *wheel_drill.WITH_LLM]
    assert [(row["command"], row["expected"]) for row in found["commands"]] == [(s.command, s.status) for s in steps]
    assert all(row["as_expected"] for row in found["commands"])


def test_a_slip_of_the_wheel_is_seen(tmp_path):
    (tmp_path / "bin").mkdir()
    said = wheel_drill.run(wheel_drill.Step("sh -c 'echo a; exit 2'", 2, "a"), tmp_path, tmp_path)
    assert said["as_expected"]
    assert not wheel_drill.run(wheel_drill.Step("sh -c 'echo a; exit 2'", 2, "b"), tmp_path, tmp_path)["as_expected"]
    assert not wheel_drill.run(wheel_drill.Step("sh -c 'echo a'", 2, "a"), tmp_path, tmp_path)["as_expected"]
