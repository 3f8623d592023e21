"""Run the notebooks in fresh kernels and write their outputs back: `make notebooks`.

    python notebooks/execute.py            all of them
    python notebooks/execute.py 03 07      those whose names begin with 03 or 07
    python notebooks/execute.py 08 SEED=1  another value in the cell tagged `parameters`

Times and kernel ids are not kept: they change from run to run. So a notebook with the
same outputs is the same file. An error in a cell stops the run, and the file on disk
does not change.
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
TIMEOUT = 900  # seconds per cell, far more than the longest takes on a busy machine
WIDGET = "application/vnd.jupyter.widget-view+json"


def find(prefixes: list[str]) -> list[Path]:
    """The notebooks whose names begin with one of `prefixes`; all without any.

    Raises:
        ValueError: no notebook begins with a prefix.
    """
    notebooks = sorted(FOLDER.glob("[0-9]*.ipynb"))
    for prefix in prefixes:
        if not any(path.name.startswith(prefix) for path in notebooks):
            names = ", ".join(path.name for path in notebooks)
            raise ValueError(f"no notebook begins with {prefix!r}; there are {names}")
    return [
        path
        for path in notebooks
        if not prefixes or path.name.startswith(tuple(prefixes))
    ]


def execute(path: Path, parameters: Mapping[str, object] | None = None) -> NotebookNode:
    """Run one notebook in a fresh kernel, return it with its outputs. No cell may fail.

    Args:
        path: the notebook.
        parameters: new values for names from the cell tagged `parameters`.

    Raises:
        ValueError: there are parameters, but the notebook has no such cell.
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    if parameters:
        _set_parameters(notebook, parameters)
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(FOLDER)}},
    )
    client.record_timing = False
    client.coalesce_streams = True  # the split of printed text changes from run to run
    client.execute()
    _drop_widgets(notebook)
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def _set_parameters(notebook: NotebookNode, parameters: Mapping[str, object]) -> None:
    """Set `parameters` at the end of the cell that is tagged for them."""
    tagged = [
        cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])
    ]
    if len(tagged) != 1:
        raise ValueError(
            f"{len(tagged)} cells are tagged `parameters`, but {dict(parameters)} needs"
            " one; tag one cell"
        )
    tagged[0].source += "".join(
        f"\n{name} = {value!r}" for name, value in parameters.items()
    )


def _drop_widgets(notebook: NotebookNode) -> None:
    """Remove sliders from the outputs: without a kernel they are an empty box."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if "outputs" in cell:
            cell["outputs"] = [
                o for o in cell["outputs"] if WIDGET not in o.get("data", {})
            ]


def main(words: list[str]) -> int:
    """Run the notebooks, write their outputs back, and print the seconds of each."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    parameters = {
        name: json.loads(value)
        for name, value in (word.split("=") for word in words if "=" in word)
    }
    for path in find([word for word in words if "=" not in word]):
        started = time.perf_counter()
        print(f"{path.name} ...", end=" ", flush=True)
        nbformat.write(execute(path, parameters), path)
        print(f"{time.perf_counter() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
