"""Every notebook runs from top to bottom in a fresh kernel, is committed with its outputs, and ends in assertions."""

import re
import warnings
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellTimeoutError

from tests.scripts import load_script

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("[0-9]*.ipynb"))
LINE = 88  # characters that a page of the site shows without scrolling; notebooks/ruff.toml


def is_checks(cell):
    return "checks" in cell.metadata.get("tags", [])


def runner():
    return load_script(FOLDER / "execute.py")


def execute(path):
    """Run a notebook; once more if no answer comes from its kernel: jupyter chooses ports before it binds them, and
    another process may have one by then. A notebook that is too slow is so twice."""
    try:
        return runner().execute(path)
    except CellTimeoutError:
        return runner().execute(path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_runs_without_errors(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from the kernel's client in this process; cells run in another one
        executed = execute(path)
    for cell in executed.cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error"
            assert output.get("name") != "stderr", f"a cell of {path.name} printed to stderr: {output.get('text')}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_is_committed_as_a_reader_should_find_it(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "not run top to bottom"
    assert "assert " in code[-1].source
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.startswith("# ")
    assert "you will" in notebook.cells[0].source.lower()
    lessons = [cell for cell in code if not is_checks(cell)]
    assert max(len(cell.source.splitlines()) for cell in lessons) <= 25
    assert all("assert " not in cell.source for cell in lessons), "tests belong in cells tagged `checks`"
    assert max(len(line) for cell in code for line in cell.source.splitlines()) <= LINE, (
        "its page would scroll sideways"
    )
    assert path.stat().st_size < 3_000_000
    outputs = [output for cell in code for output in cell.outputs]
    assert not any(runner().WIDGET in output.get("data", {}) for output in outputs), "a slider has no static form"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_figures_say_what_is_seen_and_a_page_can_show_them(path):
    cells = nbformat.read(path, as_version=4).cells
    for cell in cells:
        for output in cell.get("outputs", []):
            kinds = output.get("data", {}).keys()
            if "image/png" in kinds:
                assert len(cell.metadata.get("alt", "")) >= 40, f"{cell.id}: no `alt` in the metadata of the cell"
            bare = "IPython.core.display" in output.get("data", {}).get("text/plain", "")
            assert not bare or "text/html" in kinds, f"{cell.id}: a page shows this as its type"
            drawn = re.findall(r"<img[^>]*>", output.get("data", {}).get("text/html", ""))
            assert all(re.search(r"alt=\"[^\"]{40}", image) for image in drawn), f"{cell.id}: an image without a text"


def test_unknown_notebook_is_refused():
    with pytest.raises(ValueError, match="no notebook begins with '99'"):
        runner().find(["99"])
