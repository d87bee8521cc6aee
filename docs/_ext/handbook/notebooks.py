"""Pages of the tour as notebooks: text and code in cells, without the outputs, which running them makes."""

import re
from pathlib import Path
from typing import Any

from tools.notebook import written

ROOM = "start"
FENCE = re.compile(r"^```(\w*|\{.*?\})\n(.*?)^```\n?", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[([^\]]+)\]\([^)\s]+\.md(?:#[\w-]*)?\)")


def cells(page: str) -> list[tuple[str, str]]:
    """Pairs of kind and source of the cells of a Markdown page; blocks of text are outputs, and left out."""
    found, end = [], 0

    def prose(text: str) -> None:
        if text.strip():
            found.append(("markdown", LINK.sub(r"\1", text.strip())))

    for block in FENCE.finditer(page):
        prose(page[end : block.start()])
        end = block.end()
        if block[1] == "python":
            found.append(("code", block[2].rstrip("\n")))
    prose(page[end:])
    return found


def notebook(page: str) -> str:
    """A Markdown page as the text of a notebook."""
    return written(cells(page))


def linked(app: Any, name: str, source: list[str]) -> None:
    """Puts the link to its notebook below the title of a page of the tour that has code."""
    if name.startswith(f"{ROOM}/") and "```python" in source[0]:
        title, rest = source[0].split("\n", 1)
        link = f'<p><a href="{name.removeprefix(f"{ROOM}/")}.ipynb" download>This page as a notebook</a></p>'
        source[0] = f"{title}\n\n{link}\n{rest}"


def write(app: Any, error: Exception | None) -> None:
    """Writes the notebooks next to the pages of the built site."""
    if error is None and app.builder.format == "html":
        for path in sorted(Path(app.srcdir, ROOM).glob("*.md")):
            if "```python" in (page := path.read_text()):
                Path(app.outdir, ROOM, f"{path.stem}.ipynb").write_text(notebook(page))
