"""Sphinx extension of the site: writes the generated pages into docs/ before Sphinx looks for sources."""

from pathlib import Path
from typing import Any


def pages() -> dict[str, str]:
    """Markdown of all generated pages, and of parts that pages include, by path in docs/."""
    from handbook import api, coming, gallery

    return api.pages() | coming.tables() | gallery.pages()


def write(folder: Path) -> None:
    """Writes the pages that changed and removes those that no longer exist.

    Args:
      folder: docs/.
    """
    made = pages()
    for name in {path.split("/")[0] for path in made}:
        for path in (folder / name).rglob("*.md"):
            if path.relative_to(folder).as_posix() not in made:
                path.unlink()
    for name, text in made.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def signatures(app: Any, name: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Marks the arguments of a long signature as layout: Sphinx writes them as a list of definitions without terms."""
    start = '\n<dd><em class="sig-param">'
    if "body" in context:
        context["body"] = context["body"].replace(f"<dl>{start}", f'<dl role="presentation">{start}')


def setup(app: Any) -> dict[str, bool]:
    """Registers the extension."""
    from handbook import notebooks, rooms

    app.connect("builder-inited", lambda app: write(Path(app.srcdir)))
    app.connect("source-read", notebooks.linked)
    app.connect("source-read", rooms.drawn)
    app.connect("html-page-context", signatures)
    app.connect("build-finished", notebooks.write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
