"""Execute a notebook in a kernel of this Python. As a program, it puts the outputs into the file:

python tests/examples/execute_notebook.py examples/one_wrong_answer.ipynb
"""

import os
import sys
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONWARNINGS": "ignore:IProgress not found",  # of progress bars, which the notebook has switched off
}


def execute(path: Path, *checks: str) -> Any:
    """The notebook with new outputs, without times. `checks` is code that runs after its last cell, in its variables.

    Raises `CellExecutionError` where a cell or a check fails.
    """
    notebook = nbformat.read(path, as_version=4)
    count = len(notebook.cells)
    notebook.cells += [nbformat.v4.new_code_cell(code) for code in checks]
    this_python = AsyncKernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))  # whatever is installed
    client = NotebookClient(
        notebook,
        km=this_python,
        timeout=300,
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    client.execute(env=os.environ | ENVIRONMENT)
    notebook.cells = notebook.cells[:count]
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}  # without the version
    return notebook


if __name__ == "__main__":
    nbformat.write(execute(Path(sys.argv[1])), sys.argv[1])
