"""Writes examples/colab.ipynb from examples/colab.py: a cell for each part between lines "# %%".

    python tools/notebook.py

The docstring of the script is the first cell. The test tests/examples/test_colab.py compares both files.
"""

import ast
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "examples"


def written(cells: Iterable[tuple[str, str]]) -> str:
    """A notebook as JSON, from the kind, "markdown" or "code", and the text of each cell."""
    made: list[dict[str, Any]] = []
    for number, (kind, text) in enumerate(cells):
        lines = text.strip("\n").splitlines(keepends=True)
        cell: dict[str, Any] = {"cell_type": kind, "id": f"cell{number}", "metadata": {}, "source": lines}
        made.append(cell | ({"execution_count": None, "outputs": []} if kind == "code" else {}))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    whole = {
        "cells": made,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def uncommented(text: str) -> str:
    """Markdown without the marks of comments."""
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in text.splitlines() if line)


def notebook(script: str) -> str:
    """The notebook of a script, as JSON."""
    module = ast.parse(script)
    lines = script.splitlines(keepends=True)
    body = "".join(lines[module.body[0].end_lineno :])
    title, _, rest = (ast.get_docstring(module) or "").partition("\n")
    cells = [("markdown", f"# {title}\n{rest}")]
    for part in body.split("\n# %%")[1:]:
        head, _, text = part.partition("\n")
        cells.append(("markdown", uncommented(text)) if head.strip() == "[markdown]" else ("code", text))
    return written(cells)


if __name__ == "__main__":
    (FOLDER / "colab.ipynb").write_text(notebook((FOLDER / "colab.py").read_text()))
