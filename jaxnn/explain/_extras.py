"""Packages that are imported where they are used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from jaxnn._errors import invalid


def imported(where: str, module: str, package: str) -> Any:
    """A module of an optional package; raises ValueError that names the package if it is not installed."""
    try:
        return import_module(module)
    except ImportError as error:
        fix = 'Run `pip install "jaxnn[explain]"`.'
        raise invalid(where, f"{package} to be installed", told="no such package", fix=fix) from error
