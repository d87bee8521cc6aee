"""The folder of the user in which downloads and compiled programs are kept."""

import os
from pathlib import Path


def cache_folder(chosen: str | os.PathLike[str] | None = None) -> Path:
    """`chosen`, $JAXNN_CACHE, $XDG_CACHE_HOME/jaxnn or ~/.cache/jaxnn, the first that is given."""
    if folder := chosen or os.environ.get("JAXNN_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "jaxnn"
