import pytest


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder that the parcel of tests is to be cached in."""
    monkeypatch.setenv("JAXNN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "parcel-of-tests-1.0"
