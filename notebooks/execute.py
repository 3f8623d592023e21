"""Run the notebooks from top to bottom in fresh kernels and write their outputs back: `make notebooks`.

    python notebooks/execute.py            all of them
    python notebooks/execute.py 03 07      those whose names begin so

Nothing that changes from run to run is kept (no times, no kernel ids), so a notebook whose figures did not change does
not change either. An error in a cell stops the run; the file on disk stays as it was.
"""

import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).parent
TIMEOUT = 180  # seconds a cell
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


def execute(path: Path) -> NotebookNode:
    """Run one notebook in a fresh kernel, errors not allowed, and return it with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=TIMEOUT, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
    )
    client.record_timing = False
    client.coalesce_streams = True  # how prints are cut into pieces changes from run to run
    client.execute()
    _drop_widgets(notebook)
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def _drop_widgets(notebook: NotebookNode) -> None:
    """Take sliders out of the outputs: without a kernel they are an empty box, and their ids change from run to run."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if "outputs" in cell:
            cell["outputs"] = [o for o in cell["outputs"] if WIDGET not in o.get("data", {})]


def main(prefixes: list[str]) -> int:
    """Execute and rewrite; print the seconds of each."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for path in find(prefixes):
        started = time.perf_counter()
        print(f"{path.name} ...", end=" ", flush=True)
        nbformat.write(execute(path), path)
        print(f"{time.perf_counter() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
