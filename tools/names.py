"""Writes docs/names.md, the names of other libraries and what they are called here."""

from pathlib import Path

import jaxnn  # noqa: F401  (its public names)
from jaxnn._elsewhere import page

if __name__ == "__main__":
    Path(__file__).parents[1].joinpath("docs", "names.md").write_text(page())
