"""Run the notebooks from top to bottom in fresh kernels and write their outputs back: `make notebooks`.

    python notebooks/execute.py            all of them
    python notebooks/execute.py 03 07      those whose names begin so
    python notebooks/execute.py 08 SEED=1  with another value for a name that its cell tagged `parameters` sets

Nothing that changes from run to run is kept (no times, no kernel ids), so a notebook whose figures did not change does
not change either. An error in a cell stops the run; the file on disk stays as it was.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).parent
TIMEOUT = 900  # seconds for a cell: thirty times what the longest takes, for a busy machine
WIDGET = "application/vnd.jupyter.widget-view+json"


def find(prefixes: list[str]) -> list[Path]:
    """Notebooks in order, those whose names begin with one of `prefixes`, or all.

    Raises:
        ValueError: a prefix that fits no notebook.
    """
    notebooks = sorted(FOLDER.glob("[0-9]*.ipynb"))
    for prefix in prefixes:
        if not any(path.name.startswith(prefix) for path in notebooks):
            raise ValueError(f"no notebook begins with {prefix!r}; there are {', '.join(p.name for p in notebooks)}")
    return [path for path in notebooks if not prefixes or path.name.startswith(tuple(prefixes))]


def execute(path: Path, parameters: Mapping[str, object] | None = None) -> NotebookNode:
    """Run one notebook in a fresh kernel, errors not allowed, and return it with its outputs.

    Args:
        path: the notebook.
        parameters: values for names that its cell tagged `parameters` sets, in place of its own.

    Raises:
        ValueError: parameters for a notebook without such a cell.
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    if parameters:
        _set_parameters(notebook, parameters)
    client = NotebookClient(
        notebook, timeout=TIMEOUT, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
    )
    client.record_timing = False
    client.coalesce_streams = True  # how prints are cut into pieces changes from run to run
    client.execute()
    _drop_widgets(notebook)
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def _set_parameters(notebook: NotebookNode, parameters: Mapping[str, object]) -> None:
    """Overwrite `parameters` behind the cell that sets them."""
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(f"{len(tagged)} cells are tagged `parameters`, so {dict(parameters)} has no place; tag one")
    tagged[0].source += "".join(f"\n{name} = {value!r}" for name, value in parameters.items())


def _drop_widgets(notebook: NotebookNode) -> None:
    """Take sliders out of the outputs: without a kernel they are an empty box, and their ids change from run to run."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if "outputs" in cell:
            cell["outputs"] = [o for o in cell["outputs"] if WIDGET not in o.get("data", {})]


def main(words: list[str]) -> int:
    """Execute and rewrite; print the seconds of each."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    parameters = {name: json.loads(value) for name, value in (word.split("=") for word in words if "=" in word)}
    for path in find([word for word in words if "=" not in word]):
        started = time.perf_counter()
        print(f"{path.name} ...", end=" ", flush=True)
        nbformat.write(execute(path, parameters), path)
        print(f"{time.perf_counter() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
