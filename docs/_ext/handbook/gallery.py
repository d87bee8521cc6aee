"""Pages of the examples and of the benchmarks: tables from their README, code and results as they stand."""

import ast
import re
from pathlib import Path

from handbook import api, markdown

ROOT = Path(__file__).parents[3]


def pages() -> dict[str, str]:
    """A page with the table of examples/README.md, a page for each example, and the results of the benchmarks."""
    examples = sorted(path.stem for path in (ROOT / "examples").glob("[a-z]*.py"))
    return {
        "gallery/index.md": index(examples),
        **{f"gallery/{name}.md": example_page(name) for name in examples},
        "_made/results.md": results(),
    }


def index(examples: list[str]) -> str:
    """examples/README.md, with links to the pages of the examples."""
    text = (ROOT / "examples" / "README.md").read_text()
    text = re.sub(r"\]\((\w+)\.py\)", r"](\1.md)", text)
    return markdown.page([text.rstrip(), api.toctree(examples)])


def example_page(name: str) -> str:
    """The docstring of an example as text, then its code."""
    path = ROOT / "examples" / f"{name}.py"
    tree = ast.parse(path.read_text())
    first, _, rest = (ast.get_docstring(tree) or "").partition("\n\n")
    below = f":lines: {(tree.body[0].end_lineno or 0) + 2}-"  # the docstring is above
    code = f"```{{literalinclude}} ../../examples/{name}.py\n:language: python\n{below}\n```"
    return markdown.page(
        [
            "---\nnosearch: true\n---",
            f"# {name}",
            markdown.escaped(first),
            *(markdown.paragraph(part) for part in rest.split("\n\n") if part.strip()),
            "## Code",
            code,
        ]
    )


def results() -> str:
    """The stored tables of the benchmarks, one section each."""
    parts = []
    for path in sorted((ROOT / "benchmarks").glob("*.txt")):
        if "requirements" not in path.name:
            script = ROOT / "benchmarks" / f"{path.stem}.py"
            doc = ast.get_docstring(ast.parse(script.read_text())) or "" if script.exists() else ""
            parts += [
                f"### {path.stem}.py",
                markdown.escaped(doc.split("\n\n")[0]),
                markdown.fenced(path.read_text().rstrip(), "text"),
            ]
    return markdown.page(parts)
