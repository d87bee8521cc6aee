"""Tables of the pages "Coming from": names of a library and the names here, from `jaxnn._elsewhere`."""

import json
from pathlib import Path

from handbook import api, markdown
from jaxnn._elsewhere import TABLE

LIBRARIES = Path(__file__).with_name("libraries.json")  # made by tools/libraries.py


def tables() -> dict[str, str]:
    """A part of a page for each library, by file name: what the pages in docs/coming/ include."""
    return {
        f"_made/names_{library}.md": names_table(library, set(entry["names"]), entry["version"])
        for library, entry in json.loads(LIBRARIES.read_text()).items()
    }


def names_table(library: str, have: set[str], version: str) -> str:
    """Table of the names of a library that the table has a row for, by section."""
    entries = {entry.shown: entry.target for room in api.rooms() for entry in room.entries}
    package = "flax" if library in ("linen", "nnx") else library
    parts = [f"Names of {package} {version}. A name that is not here raises an error: `nn.Linear is nn.dense here`."]
    for title, rows in TABLE.items():
        listed = [
            (
                ", ".join(f"`{name}`" for name in row.names.split() if name in have),
                f"{{py:obj}}`nn.{row.target} <{entries[f'nn.{row.target}']}>`",
                markdown.escaped(row.remark),
            )
            for row in rows
            if have & set(row.names.split())
        ]
        parts += [f"### {title}", markdown.table(("there", "here", ""), listed)] if listed else []
    return markdown.page(parts)
