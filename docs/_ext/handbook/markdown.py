"""Text of docstrings as Markdown: escaped prose, formulas as blocks, tables."""

import re
from collections.abc import Iterable, Sequence

SPECIAL = re.compile(r"([\\*_\[\]<>|~$&!{}#^@])")


def escaped(text: str) -> str:
    """Text on one line whose only markup is `code` in backticks.

    >>> escaped("x * y of `a|b` [n]")
    'x \\\\* y of `a|b` \\\\[n\\\\]'
    """
    parts = re.split(r"(`[^`\n]+`)", " ".join(text.split()))
    line = "".join(part if part.startswith("`") else SPECIAL.sub(r"\\\1", part.replace("`", "\\`")) for part in parts)
    return re.sub(r"^([-+=]|\d+(?=[.)]))", r"\\\1" if line[:1] in "-+=" else r"\1\\", line)


def paragraph(text: str) -> str:
    """A paragraph of a docstring: prose, or a block of code if all its lines are indented."""
    lines = text.split("\n")
    if all(line.startswith(" ") for line in lines if line):
        indent = min(len(line) - len(line.lstrip()) for line in lines if line)
        return fenced("\n".join(line[indent:] for line in lines), "text")
    if lines[0].startswith("|"):
        rows = [[escaped(cell) for cell in line.strip().strip("|").split("|")] for line in lines]
        return table(rows[0], rows[2:])
    if lines[0].startswith(("- ", "* ")):
        return "\n".join(f"- {escaped(item)}" for item in re.split(r"(?:^|\n)[-*] ", text) if item)
    return escaped(text)


def fenced(code: str, language: str = "python") -> str:
    """A block of code."""
    return f"```{language}\n{code}\n```"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [heads, ["---"] * len(heads), *rows]
    cells = [[re.sub(r"(?<!\\)\|", r"\\|", cell) or " " for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def page(parts: Iterable[str]) -> str:
    """Parts of a page, separated by blank lines."""
    return "\n\n".join(part for part in parts if part) + "\n"
