"""Every notebook runs from top to bottom in a fresh kernel, is committed with its outputs, and ends in assertions."""

import importlib.util
import warnings
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellTimeoutError

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("[0-9]*.ipynb"))


def runner():
    spec = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
    assert max(len(cell.source.splitlines()) for cell in code) <= 25
    assert path.stat().st_size < 3_000_000
    outputs = [output for cell in code for output in cell.outputs]
    assert not any(runner().WIDGET in output.get("data", {}) for output in outputs), "a slider has no static form"


def test_unknown_notebook_is_refused():
    with pytest.raises(ValueError, match="no notebook begins with '99'"):
        runner().find(["99"])
