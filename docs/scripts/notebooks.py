"""The notebooks of docs/tutorials, run where they lie, their outputs kept in them.

    python docs/scripts/notebooks.py

needs nbclient and ipykernel (the extra `dev`).
"""

import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "tutorials"


def executed(path: Path) -> nbformat.NotebookNode:
    """Run a notebook in an empty working folder; returns it with its outputs and no trace of the run."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=600, resources=resources).execute()
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}
    for cell in notebook.cells:
        cell.metadata = {}
    return notebook


if __name__ == "__main__":
    for path in sorted(FOLDER.glob("*.ipynb")):
        nbformat.write(executed(path), path)
