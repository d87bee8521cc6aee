"""The folder of downloads and compiled programs, by the argument and the environment."""

from pathlib import Path

import pytest

from jaxnn._cache import cache_folder


@pytest.mark.parametrize(
    ("argument", "environment", "expected"),
    [
        ("/given", {"JAXNN_CACHE": "/ours", "XDG_CACHE_HOME": "/xdg"}, "/given"),
        (Path("/given"), {}, "/given"),
        ("~/given", {"HOME": "/me"}, "/me/given"),
        (None, {"JAXNN_CACHE": "/ours", "XDG_CACHE_HOME": "/xdg"}, "/ours"),
        (None, {"JAXNN_CACHE": "~/ours", "HOME": "/me"}, "/me/ours"),
        (None, {"JAXNN_CACHE": "", "XDG_CACHE_HOME": "/xdg"}, "/xdg/jaxnn"),
        (None, {"XDG_CACHE_HOME": "", "HOME": "/me"}, "/me/.cache/jaxnn"),
        (None, {"HOME": "/me"}, "/me/.cache/jaxnn"),
    ],
)
def test_the_cache_folder(argument, environment, expected, monkeypatch):
    for name in ("JAXNN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cache_folder(argument) == Path(expected)
