"""Prints the oldest versions of dependencies that pyproject.toml admits: python tools/oldest.py jax jaxlib."""

import re
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def oldest(name: str) -> str:
    """The requirement of `name` with its lower bound as the version."""
    for requirement in tomllib.loads(PROJECT.read_text())["project"]["dependencies"]:
        if bound := re.fullmatch(rf"{re.escape(name)}>=([\d.]+)", requirement):
            version = bound[1] if bound[1].count(".") > 1 else f"{bound[1]}.0"
            return f"{name}=={version}"
    raise ValueError(f"oldest: expected a dependency of pyproject.toml with a lower bound, got {name}.")


if __name__ == "__main__":
    print(*map(oldest, sys.argv[1:]), sep="\n")
